//! Istio's standard labels, in Istio's order and with Istio's words for what is missing.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

/// What a label without a value says.
const UNKNOWN: &str = "unknown";
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

/// The labels of `istio_requests_total` and the histograms beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HttpSet {
    pub(super) labels: Arc<RequestLabels>,
    pub(super) outcome: Outcome,
}

/// The labels of the `istio_tcp_*` counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TcpSet {
    pub(super) labels: Arc<RequestLabels>,
    pub(super) flags: &'static str,
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

    /// What stands in for label sets beyond the limit.
    pub(super) fn overflow(&self) -> Self {
        let mut labels = Self::new(self.reporter);
        labels.protocol = self.protocol;
        labels.security = self.security;
        labels.service.host = OVERFLOW.into();
        labels
    }

    fn service_name(&self) -> &str {
        let service = &self.service;
        if service.name.is_empty() {
            service.host.split('.').next().unwrap_or_default()
        } else {
            &service.name
        }
    }
}

fn or<'a>(value: &'a str, missing: &'a str) -> &'a str {
    if value.is_empty() { missing } else { value }
}

fn put(encoder: &mut LabelSetEncoder<'_>, key: &str, value: &str) -> fmt::Result {
    use prometheus_client::encoding::EncodeLabel;
    (key, or(value, UNKNOWN)).encode(encoder.encode_label())
}

impl EncodeLabelSet for HttpSet {
    fn encode(&self, out: &mut LabelSetEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeLabel;
        envoy_common(&self.labels, out)?;
        put(out, "request_protocol", self.labels.protocol.as_str())?;
        ("response_code", u32::from(self.outcome.code)).encode(out.encode_label())?;
        match self.outcome.grpc {
            Some(status) => {
                ("grpc_response_status", u32::from(status)).encode(out.encode_label())?;
            }
            None => ("grpc_response_status", "").encode(out.encode_label())?,
        }
        put(out, "response_flags", self.outcome.flags)?;
        put(out, "connection_security_policy", self.labels.security.as_str())
    }
}

impl EncodeLabelSet for TcpSet {
    fn encode(&self, out: &mut LabelSetEncoder<'_>) -> fmt::Result {
        // A waypoint speaks as Envoy does; at the ends we stand where ztunnel does and use its order.
        let ends = self.labels.reporter != Reporter::Waypoint;
        if ends {
            ztunnel_common(&self.labels, out)?;
        } else {
            envoy_common(&self.labels, out)?;
        }
        put(out, "request_protocol", Protocol::Tcp.as_str())?;
        put(out, "response_flags", self.flags)?;
        let security = match self.labels.security {
            Security::None if ends => Security::Unknown,
            other => other,
        };
        put(out, "connection_security_policy", security.as_str())?;
        if ends {
            locality(&self.labels, out)?;
        }
        Ok(())
    }
}

/// Labels 1 to 20 in the order of Istio's stats filter.
fn envoy_common(labels: &RequestLabels, out: &mut LabelSetEncoder<'_>) -> fmt::Result {
    let (from, to, service) = (&labels.source, &labels.destination, &labels.service);
    put(out, "reporter", labels.reporter.as_str())?;
    put(out, "source_workload", &from.workload)?;
    put(out, "source_canonical_service", &from.canonical_service)?;
    let revision = or(&from.canonical_revision, "latest");
    put(out, "source_canonical_revision", revision)?;
    put(out, "source_workload_namespace", &from.namespace)?;
    put(out, "source_principal", &from.principal)?;
    put(out, "source_app", &from.app)?;
    put(out, "source_version", &from.version)?;
    put(out, "source_cluster", &from.cluster)?;
    put(out, "destination_workload", &to.workload)?;
    put(out, "destination_workload_namespace", &to.namespace)?;
    put(out, "destination_principal", &to.principal)?;
    put(out, "destination_app", &to.app)?;
    put(out, "destination_version", &to.version)?;
    put(out, "destination_service", &service.host)?;
    put(out, "destination_canonical_service", &to.canonical_service)?;
    put(out, "destination_canonical_revision", &to.canonical_revision)?;
    put(out, "destination_service_name", labels.service_name())?;
    put(out, "destination_service_namespace", &service.namespace)?;
    put(out, "destination_cluster", &to.cluster)
}

/// The same twenty in the order of ztunnel, which knows no `latest`.
fn ztunnel_common(labels: &RequestLabels, out: &mut LabelSetEncoder<'_>) -> fmt::Result {
    let (from, to, service) = (&labels.source, &labels.destination, &labels.service);
    put(out, "reporter", labels.reporter.as_str())?;
    put(out, "source_workload", &from.workload)?;
    put(out, "source_canonical_service", &from.canonical_service)?;
    put(out, "source_canonical_revision", &from.canonical_revision)?;
    put(out, "source_workload_namespace", &from.namespace)?;
    put(out, "source_principal", &from.principal)?;
    put(out, "source_app", &from.app)?;
    put(out, "source_version", &from.version)?;
    put(out, "source_cluster", &from.cluster)?;
    put(out, "destination_service", &service.host)?;
    put(out, "destination_service_namespace", &service.namespace)?;
    put(out, "destination_service_name", labels.service_name())?;
    put(out, "destination_workload", &to.workload)?;
    put(out, "destination_canonical_service", &to.canonical_service)?;
    put(out, "destination_canonical_revision", &to.canonical_revision)?;
    put(out, "destination_workload_namespace", &to.namespace)?;
    put(out, "destination_principal", &to.principal)?;
    put(out, "destination_app", &to.app)?;
    put(out, "destination_version", &to.version)?;
    put(out, "destination_cluster", &to.cluster)
}

fn locality(labels: &RequestLabels, out: &mut LabelSetEncoder<'_>) -> fmt::Result {
    let known = [
        ("source_region", &labels.source.region),
        ("source_zone", &labels.source.zone),
        ("destination_region", &labels.destination.region),
        ("destination_zone", &labels.destination.zone),
    ];
    for (key, value) in known.into_iter().filter(|(_, value)| !value.is_empty()) {
        put(out, key, value)?;
    }
    Ok(())
}
