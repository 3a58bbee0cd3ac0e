//! What is known of a request when its line is written.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::Fields;
use crate::telemetry::RequestLabels;
use crate::telemetry::digits::push_number;

/// What is known of a request when its line is written; what is not is absent from the line.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When its head had come.
    pub start: SystemTime,
    /// How long it took, to the last byte of the answer.
    pub duration: Duration,
    /// How long the answer's head took.
    pub answered: Option<Duration>,
    /// The method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The authority.
    pub authority: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// `HTTP/1.1`, `HTTP/2`.
    pub protocol: Option<&'static str>,
    /// Of its header fields those that [`Wanted`](super::Wanted) names.
    pub request: &'a Fields,
    /// Likewise of the answer.
    pub response: &'a Fields,
    /// The answer's trailers.
    pub trailers: &'a HeaderMap,
    /// The status; 0 if no answer was sent.
    pub code: u16,
    /// Envoy's flags, separated by commas; `-` if there are none.
    pub flags: &'a str,
    /// Envoy's response code details.
    pub details: Option<&'a str>,
    /// The gRPC status.
    pub grpc_status: Option<u16>,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// The endpoint that answered.
    pub upstream: Option<SocketAddr>,
    /// Its cluster, as Istio names it.
    pub cluster: Option<Name<'a>>,
    /// How often it was asked.
    pub attempts: u32,
    /// Why it could not be reached.
    pub failure: Option<&'a str>,
    /// Where the request came in.
    pub local: Option<SocketAddr>,
    /// Who sent it, after `x-forwarded-for` handling.
    pub remote: Option<SocketAddr>,
    /// The other end of the connection.
    pub direct: Option<SocketAddr>,
    /// The identity that the other end proved.
    pub peer: Option<&'a str>,
    /// The server name of its TLS connection.
    pub sni: Option<&'a str>,
    /// The route.
    pub route: Option<Name<'a>>,
    /// The trace that it belongs to.
    pub trace: Option<&'a str>,
    /// The name of this machine.
    pub hostname: Option<&'a str>,
    /// The workloads at both ends, and the service.
    pub labels: Option<&'a RequestLabels>,
}

/// A name as Istio makes them, put together only where somebody writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// One that is what it is.
    Said(&'a str),
    /// A cluster's: `inbound-vip|9080|http/v1|reviews.default.svc.cluster.local`.
    Cluster {
        /// `inbound`, `outbound`, `inbound-vip`.
        kind: &'static str,
        /// The service's port.
        port: u16,
        /// What is spoken, where the kind says that.
        protocol: &'static str,
        /// The subset.
        subset: Option<&'a str>,
        /// The service's host.
        host: &'a str,
    },
    /// A rule's, of its label `namespace/name/index`: as routes of Gateway API are named, with dots.
    Rule(&'a str),
}

impl<'a> Name<'a> {
    /// Writes it.
    pub(in crate::telemetry) fn push(&self, to: &mut String) {
        match *self {
            Self::Said(text) => to.push_str(text),
            Self::Cluster {
                kind,
                port,
                protocol,
                subset,
                host,
            } => {
                to.push_str(kind);
                to.push('|');
                push_number(port.into(), to);
                to.push('|');
                to.push_str(protocol);
                if let Some(subset) = subset {
                    to.push_str(if protocol.is_empty() { "" } else { "/" });
                    to.push_str(subset);
                }
                to.push('|');
                to.push_str(host);
            }
            Self::Rule(label) => to.extend(label.chars().map(|c| if c == '/' { '.' } else { c })),
        }
    }

    /// As text; empty if it says nothing.
    pub(in crate::telemetry) fn text(&self) -> Cow<'a, str> {
        match *self {
            Self::Said(text) => Cow::Borrowed(text),
            name => {
                let mut text = String::new();
                name.push(&mut text);
                Cow::Owned(text)
            }
        }
    }
}

impl<'a> Entry<'a> {
    /// What is known of a connection that is no request: its ends.
    pub fn of_connection(
        [local, remote]: [Option<SocketAddr>; 2],
        peer: Option<&'a str>,
        sni: Option<&'a str>,
        labels: &'a RequestLabels,
    ) -> Self {
        static NONE: Fields = Fields::new();
        static NO_TRAILERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
        Self {
            start: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            answered: None,
            method: "",
            scheme: "",
            authority: "",
            path: "",
            protocol: None,
            request: &NONE,
            response: &NONE,
            trailers: &NO_TRAILERS,
            code: 0,
            flags: "-",
            details: None,
            grpc_status: None,
            received: 0,
            sent: 0,
            upstream: None,
            cluster: None,
            attempts: 0,
            failure: None,
            local,
            remote,
            direct: remote,
            peer,
            sni,
            route: None,
            trace: None,
            hostname: None,
            labels: Some(labels),
        }
    }
}
