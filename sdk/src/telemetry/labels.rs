//! Under what requests and connections are counted: who called, what was called, who answered.
//!
//! How that is written is in [`sets`](super::sets).

use std::sync::Arc;

use super::metric::Text;

/// What a label without a value says.
pub(super) const UNKNOWN: &str = "unknown";
/// The `destination_service` of requests that came after the limit of series was reached.
pub(super) const OVERFLOW: &str = "_overflow";

/// Which end of a call reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The caller.
    Source,
    /// The callee.
    Destination,
    /// A waypoint, in process or standing alone.
    Waypoint,
}

/// The protocol of the calls in one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP of any version, gRPC apart.
    #[default]
    Http,
    /// gRPC.
    Grpc,
    /// Opaque bytes.
    Tcp,
}

/// How the calls of one series were secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// Both ends proved their identity.
    MutualTls,
    /// They did not.
    None,
    /// The reporter cannot know, as only a caller may say.
    #[default]
    Unknown,
}

/// One end of a call: a workload. Empty values are reported as missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PartyLabels {
    /// The owner's name (Deployment and so on).
    pub workload: Arc<str>,
    /// The workload's namespace.
    pub namespace: Arc<str>,
    /// The full `spiffe://…` identity.
    pub principal: Arc<str>,
    /// The `app` label.
    pub app: Arc<str>,
    /// The `version` label.
    pub version: Arc<str>,
    /// The canonical service.
    pub canonical_service: Arc<str>,
    /// The canonical revision.
    pub canonical_revision: Arc<str>,
    /// The cluster's id.
    pub cluster: Arc<str>,
    /// The region; only in `istio_tcp_*`, and only where known.
    pub region: Arc<str>,
    /// The zone; only in `istio_tcp_*`, and only where known.
    pub zone: Arc<str>,
}

/// The service that was called. Empty values are reported as missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceLabels {
    /// The fully qualified host.
    pub host: Arc<str>,
    /// The short name; empty means the host's first DNS label.
    pub name: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
}

/// What all calls of one series have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    /// Which end reports.
    pub reporter: Reporter,
    /// The caller.
    pub source: PartyLabels,
    /// The workload that was called; all empty where the mesh answered itself.
    pub destination: PartyLabels,
    /// The service that was called.
    pub service: ServiceLabels,
    /// The protocol.
    pub protocol: Protocol,
    /// The security of the connection.
    pub security: Security,
}

/// The part of the labels that only a finished request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outcome {
    pub(super) code: u16,
    pub(super) flags: &'static str,
    pub(super) grpc: Option<u16>,
}

/// What became of requests, in three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fine,
    Failed,
    Denied,
}

impl Outcome {
    /// What it means to whoever called.
    pub(super) fn kind(self) -> Kind {
        match (self.code, self.grpc) {
            (0 | 500.., _) => Kind::Failed,
            (401 | 403 | 429, _) => Kind::Denied,
            (_, Some(7 | 16)) => Kind::Denied,
            (_, Some(2 | 4 | 8 | 13..=15)) => Kind::Failed,
            _ => Kind::Fine,
        }
    }

    /// The same outcome told more coarsely: at most eleven of them exist.
    pub(super) fn coarse(self) -> Self {
        Self {
            code: (self.code / 100).min(10) * 100,
            flags: "-",
            grpc: None,
        }
    }
}

// ===== impl Reporter, Protocol, Security =====

impl Reporter {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Waypoint => "waypoint",
        }
    }
}

impl Protocol {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

impl Security {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::None => "none",
            Self::Unknown => UNKNOWN,
        }
    }
}

// ===== impl RequestLabels =====

impl RequestLabels {
    /// Labels of which only the reporter is known.
    pub fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            source: PartyLabels::default(),
            destination: PartyLabels::default(),
            service: ServiceLabels::default(),
            protocol: Protocol::default(),
            security: Security::default(),
        }
    }

    /// The service's short name; the first label of its host if it has none.
    pub(super) fn service_name(&self) -> Text {
        let service = &self.service;
        match service.host.split('.').next() {
            Some(first) if service.name.is_empty() => first.to_owned().into(),
            _ => Text::from(&service.name),
        }
    }
}
