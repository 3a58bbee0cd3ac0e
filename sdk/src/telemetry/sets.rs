//! Istio's standard labels, in Istio's order and with Istio's words for what is missing.

use super::labels::{OVERFLOW, Outcome, Protocol, Reporter, RequestLabels, Security, UNKNOWN};
use super::metric::Text;

type Labels = Vec<(Text, Text)>;

/// The 25 labels of `istio_requests_total` and the histograms beside it.
pub(super) fn request(labels: &RequestLabels, outcome: Outcome) -> Labels {
    let mut out = envoy(labels);
    put(&mut out, "request_protocol", labels.protocol.as_str());
    put(&mut out, "response_code", outcome.code.to_string());
    let grpc = outcome.grpc.map(|status| status.to_string());
    out.push((
        "grpc_response_status".into(),
        grpc.map(Text::from).unwrap_or_default(),
    ));
    put(&mut out, "response_flags", outcome.flags);
    put(&mut out, "connection_security_policy", labels.security.as_str());
    out
}

/// The 20 labels of `istio_request_messages_total`, which Envoy counts before it knows the others.
pub(super) fn messages(labels: &RequestLabels) -> Labels {
    envoy(labels)
}

/// The labels of `istio_tcp_*`.
pub(super) fn connection(labels: &RequestLabels, flags: &'static str) -> Labels {
    // A waypoint speaks as Envoy does; at the ends we stand where ztunnel does and use its order.
    let ends = labels.reporter != Reporter::Waypoint;
    let mut out = if ends { ztunnel(labels) } else { envoy(labels) };
    put(&mut out, "request_protocol", Protocol::Tcp.as_str());
    put(&mut out, "response_flags", flags);
    let security = match labels.security {
        Security::None if ends => Security::Unknown,
        other => other,
    };
    put(&mut out, "connection_security_policy", security.as_str());
    if ends {
        locality(labels, &mut out);
    }
    out
}

/// Labels 1 to 20 in the order of Istio's stats filter.
fn envoy(labels: &RequestLabels) -> Labels {
    let (from, to, service) = (&labels.source, &labels.destination, &labels.service);
    let mut out = Vec::with_capacity(25);
    put(&mut out, "reporter", labels.reporter.as_str());
    put(&mut out, "source_workload", &from.workload);
    put(&mut out, "source_canonical_service", &from.canonical_service);
    let revision = match from.canonical_revision.is_empty() {
        true => "latest".into(),
        false => Text::from(&from.canonical_revision),
    };
    put(&mut out, "source_canonical_revision", revision);
    put(&mut out, "source_workload_namespace", &from.namespace);
    put(&mut out, "source_principal", &from.principal);
    put(&mut out, "source_app", &from.app);
    put(&mut out, "source_version", &from.version);
    put(&mut out, "source_cluster", &from.cluster);
    put(&mut out, "destination_workload", &to.workload);
    put(&mut out, "destination_workload_namespace", &to.namespace);
    put(&mut out, "destination_principal", &to.principal);
    put(&mut out, "destination_app", &to.app);
    put(&mut out, "destination_version", &to.version);
    put(&mut out, "destination_service", &service.host);
    put(&mut out, "destination_canonical_service", &to.canonical_service);
    put(&mut out, "destination_canonical_revision", &to.canonical_revision);
    put(&mut out, "destination_service_name", labels.service_name());
    put(&mut out, "destination_service_namespace", &service.namespace);
    put(&mut out, "destination_cluster", &to.cluster);
    out
}

/// The same twenty in the order of ztunnel, which knows no `latest`.
fn ztunnel(labels: &RequestLabels) -> Labels {
    let (from, to, service) = (&labels.source, &labels.destination, &labels.service);
    let mut out = Vec::with_capacity(27);
    put(&mut out, "reporter", labels.reporter.as_str());
    put(&mut out, "source_workload", &from.workload);
    put(&mut out, "source_canonical_service", &from.canonical_service);
    put(&mut out, "source_canonical_revision", &from.canonical_revision);
    put(&mut out, "source_workload_namespace", &from.namespace);
    put(&mut out, "source_principal", &from.principal);
    put(&mut out, "source_app", &from.app);
    put(&mut out, "source_version", &from.version);
    put(&mut out, "source_cluster", &from.cluster);
    put(&mut out, "destination_service", &service.host);
    put(&mut out, "destination_service_namespace", &service.namespace);
    put(&mut out, "destination_service_name", labels.service_name());
    put(&mut out, "destination_workload", &to.workload);
    put(&mut out, "destination_canonical_service", &to.canonical_service);
    put(&mut out, "destination_canonical_revision", &to.canonical_revision);
    put(&mut out, "destination_workload_namespace", &to.namespace);
    put(&mut out, "destination_principal", &to.principal);
    put(&mut out, "destination_app", &to.app);
    put(&mut out, "destination_version", &to.version);
    put(&mut out, "destination_cluster", &to.cluster);
    out
}

fn locality(labels: &RequestLabels, out: &mut Labels) {
    let known = [
        ("source_region", &labels.source.region),
        ("source_zone", &labels.source.zone),
        ("destination_region", &labels.destination.region),
        ("destination_zone", &labels.destination.zone),
    ];
    for (key, value) in known.into_iter().filter(|(_, value)| !value.is_empty()) {
        put(out, key, value);
    }
}

fn put(out: &mut Labels, key: &'static str, value: impl Into<Text>) {
    let value = value.into();
    let value = if value.is_empty() { UNKNOWN.into() } else { value };
    out.push((key.into(), value));
}

impl RequestLabels {
    /// What stands in for label sets beyond the limit.
    pub(super) fn overflow(&self) -> Self {
        let mut labels = Self::new(self.reporter);
        labels.protocol = self.protocol;
        labels.security = self.security;
        labels.service.host = OVERFLOW.into();
        labels
    }
}

/// The names of all standard labels, of which a Telemetry may remove or replace any.
pub(super) const STANDARD: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];
