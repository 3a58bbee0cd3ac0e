//! What Istio's webhook refuses of a `DestinationRule`.

mod balancer;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::Faults;
use super::common::{at_least_a_millisecond, export_to, labels};
use super::lexical::{is_host, is_label};
use crate::config::istio::DestinationRule;
use crate::config::istio::destination_rule::{
    ClientTLSSettings, ConnectionPoolSettings, H2UpgradePolicy, HTTPSettings, LoadBalancerSettings,
    OutlierDetection, Subset, TCPSettings, TLSmode, TrafficPolicy,
};

/// The blocks that the policy of a rule, of a subset and of a port share.
#[derive(Clone, Copy)]
struct Blocks<'a> {
    load_balancer: Option<&'a LoadBalancerSettings>,
    connection_pool: Option<&'a ConnectionPoolSettings>,
    outlier_detection: Option<&'a OutlierDetection>,
    tls: Option<&'a ClientTLSSettings>,
}

pub(super) fn check(it: &DestinationRule, faults: &mut Faults) {
    let spec = &it.spec;
    if !is_host(&spec.host) {
        faults.error(
            "spec.host",
            format!("`{}` is not a host", spec.host),
            "write a service's name, or `*.example.com`",
        );
    }
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy(policy, "spec.trafficPolicy", faults);
    }
    let mut names = BTreeSet::new();
    for (at, subset) in spec.subsets.iter().enumerate() {
        let at = format!("spec.subsets[{at}]");
        if !names.insert(&subset.name) {
            faults.error(
                format!("{at}.name"),
                format!("the subset `{}` is declared twice", subset.name),
                "give every subset a name of its own",
            );
        }
        self::subset(subset, &at, faults);
    }
    export_to(&spec.export_to, &it.metadata.namespace, faults);
    if let Some(selector) = &spec.workload_selector {
        let own = [".", &*it.metadata.namespace];
        if spec.export_to.iter().any(|to| !own.contains(&to.as_str())) {
            faults.error(
                "spec.exportTo",
                "a rule with a workloadSelector is for its own namespace only",
                "remove exportTo, or write `.`",
            );
        }
        if selector
            .match_labels
            .iter()
            .any(|(key, value)| key.is_empty() || key.contains('*') || value.contains('*'))
        {
            faults.error(
                "spec.workloadSelector.matchLabels",
                "labels are compared literally: no empty key and no `*`",
                "write whole labels",
            );
        }
        if selector.match_labels.is_empty() {
            faults.warning(
                "spec.workloadSelector",
                "selects every workload of the namespace",
                "name labels, or remove it",
            );
        }
    }
}

fn subset(subset: &Subset, at: &str, faults: &mut Faults) {
    if !is_label(&subset.name) {
        faults.error(
            format!("{at}.name"),
            format!("`{}` is not a name of a subset", subset.name),
            "use up to 63 letters, digits and dashes",
        );
    }
    labels(&subset.labels, &format!("{at}.labels"), faults);
    if let Some(policy) = &subset.traffic_policy {
        traffic_policy(policy, &format!("{at}.trafficPolicy"), faults);
    }
}

fn traffic_policy(policy: &TrafficPolicy, at: &str, faults: &mut Faults) {
    if *policy == TrafficPolicy::default() {
        faults.error(at, "a traffic policy says something", "remove it");
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        faults.error(
            format!("{at}.tunnel"),
            "tunnel and proxyProtocol exclude each other",
            "remove one of them",
        );
    }
    let of_all = Blocks {
        load_balancer: policy.load_balancer.as_ref(),
        connection_pool: policy.connection_pool.as_ref(),
        outlier_detection: policy.outlier_detection.as_ref(),
        tls: policy.tls.as_ref(),
    };
    blocks(of_all, at, faults);
    for (index, it) in policy.port_level_settings.iter().enumerate() {
        let at = format!("{at}.portLevelSettings[{index}]");
        if it.port.as_ref().is_none_or(|port| port.number == 0) {
            faults.error(
                format!("{at}.port"),
                "a port is required",
                "write `port: {number: 80}`",
            );
        }
        let of_port = Blocks {
            load_balancer: it.load_balancer.as_ref(),
            connection_pool: it.connection_pool.as_ref(),
            outlier_detection: it.outlier_detection.as_ref(),
            tls: it.tls.as_ref(),
        };
        if of_port.load_balancer.is_none()
            && of_port.connection_pool.is_none()
            && of_port.outlier_detection.is_none()
            && of_port.tls.is_none()
        {
            faults.error(&at, "a port's policy says something", "remove it");
        }
        blocks(of_port, &at, faults);
    }
    if let Some(tunnel) = &policy.tunnel {
        let at = format!("{at}.tunnel");
        if !matches!(tunnel.protocol.as_deref(), None | Some("" | "CONNECT" | "POST")) {
            faults.error(
                format!("{at}.protocol"),
                "not a way to tunnel",
                "use CONNECT or POST",
            );
        }
        if !is_host(&tunnel.target_host) || tunnel.target_host.starts_with('*') {
            faults.error(
                format!("{at}.targetHost"),
                "a host name or an address is required",
                "name the far end",
            );
        }
        if tunnel.target_port == 0 {
            faults.error(
                format!("{at}.targetPort"),
                "a port is required",
                "name the far end's port",
            );
        }
    }
    if let Some(budget) = &policy.retry_budget {
        let percent = budget.percent.unwrap_or(20.0);
        if !(0.0..=100.0).contains(&percent) {
            faults.error(
                format!("{at}.retryBudget.percent"),
                format!("{percent} is not a percentage"),
                "use 0 to 100",
            );
        }
    }
}

fn blocks(blocks: Blocks<'_>, at: &str, faults: &mut Faults) {
    if let Some(outlier) = blocks.outlier_detection {
        outlier_detection(outlier, &format!("{at}.outlierDetection"), faults);
    }
    if let Some(pool) = blocks.connection_pool {
        let at = format!("{at}.connectionPool");
        if pool.tcp.is_none() && pool.http.is_none() {
            faults.error(&at, "a connection pool says something", "remove it");
        }
        if let Some(tcp) = &pool.tcp {
            self::tcp(tcp, &format!("{at}.tcp"), faults);
        }
        if let Some(http) = &pool.http {
            self::http(http, &format!("{at}.http"), faults);
        }
    }
    if let Some(balancer) = blocks.load_balancer {
        let has_outlier = blocks.outlier_detection.is_some();
        balancer::check(balancer, has_outlier, &format!("{at}.loadBalancer"), faults);
    }
    if let Some(tls) = blocks.tls {
        self::tls(tls, &format!("{at}.tls"), faults);
    }
}

fn outlier_detection(it: &OutlierDetection, at: &str, faults: &mut Faults) {
    at_least_a_millisecond(it.interval, || format!("{at}.interval"), faults);
    at_least_a_millisecond(it.base_ejection_time, || format!("{at}.baseEjectionTime"), faults);
    if it.consecutive_errors.is_some_and(|it| it != 0) {
        faults.warning(
            format!("{at}.consecutiveErrors"),
            "an older form",
            "use consecutiveGatewayErrors or consecutive5xxErrors",
        );
    }
    let split = it.split_external_local_origin_errors.unwrap_or(false);
    if !split && it.consecutive_local_origin_failures.is_some_and(|it| it > 0) {
        faults.error(
            format!("{at}.consecutiveLocalOriginFailures"),
            "needs splitExternalLocalOriginErrors",
            "set splitExternalLocalOriginErrors: true",
        );
    }
    for (field, value) in [
        ("maxEjectionPercent", it.max_ejection_percent),
        ("minHealthPercent", it.min_health_percent),
    ] {
        if value.is_some_and(|it| it > 100) {
            faults.error(format!("{at}.{field}"), "not a percentage", "use 0 to 100");
        }
    }
}

fn tcp(it: &TCPSettings, at: &str, faults: &mut Faults) {
    limit(it.max_connections, || format!("{at}.maxConnections"), faults);
    at_least_a_millisecond(it.connect_timeout, || format!("{at}.connectTimeout"), faults);
    at_least_a_millisecond(
        it.max_connection_duration,
        || format!("{at}.maxConnectionDuration"),
        faults,
    );
    // Zero switches it off.
    let idle = it.idle_timeout.filter(|it| it.0.as_millis() != 0);
    at_least_a_millisecond(idle, || format!("{at}.idleTimeout"), faults);
    if let Some(keepalive) = &it.tcp_keepalive {
        let at = format!("{at}.tcpKeepalive");
        at_least_a_millisecond(keepalive.time, || format!("{at}.time"), faults);
        at_least_a_millisecond(keepalive.interval, || format!("{at}.interval"), faults);
    }
}

fn http(it: &HTTPSettings, at: &str, faults: &mut Faults) {
    for (field, value) in [
        ("http1MaxPendingRequests", it.http1_max_pending_requests),
        ("http2MaxRequests", it.http2_max_requests),
        ("maxRequestsPerConnection", it.max_requests_per_connection),
        ("maxRetries", it.max_retries),
        ("maxConcurrentStreams", it.max_concurrent_streams),
    ] {
        limit(value, || format!("{at}.{field}"), faults);
    }
    at_least_a_millisecond(it.idle_timeout, || format!("{at}.idleTimeout"), faults);
    if it.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) && it.use_client_protocol == Some(true) {
        faults.error(
            format!("{at}.useClientProtocol"),
            "contradicts h2UpgradePolicy UPGRADE",
            "remove one of them",
        );
    }
    if let Some(keepalive) = &it.http2_keep_alive {
        let at = format!("{at}.http2KeepAlive");
        for (field, value) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
            if value.is_none() {
                faults.error(format!("{at}.{field}"), "is required", "write a duration");
            }
            at_least_a_millisecond(value, || format!("{at}.{field}"), faults);
        }
    }
}

/// Upstream counts in signed 32 bits.
fn limit(value: Option<u32>, field: impl Fn() -> String, faults: &mut Faults) {
    if value.is_some_and(|it| i32::try_from(it).is_err()) {
        faults.error(
            field(),
            "too large",
            "use at most 2147483647, or leave it out for no limit",
        );
    }
}

fn tls(it: &ClientTLSSettings, at: &str, faults: &mut Faults) {
    let mode = it.mode.unwrap_or(TLSmode::Disable);
    let is_set = |value: &Option<String>| value.as_ref().is_some_and(|it| !it.is_empty());
    if it.insecure_skip_verify == Some(true)
        && (is_set(&it.ca_certificates) || !it.subject_alt_names.is_empty())
        && matches!(mode, TLSmode::Simple | TLSmode::Mutual)
    {
        faults.error(
            format!("{at}.insecureSkipVerify"),
            "contradicts caCertificates and subjectAltNames",
            "remove one of them",
        );
    }
    let files = [
        ("clientCertificate", is_set(&it.client_certificate)),
        ("privateKey", is_set(&it.private_key)),
        ("caCertificates", is_set(&it.ca_certificates)),
        ("caCrl", is_set(&it.ca_crl)),
    ];
    if is_set(&it.credential_name) && matches!(mode, TLSmode::Simple | TLSmode::Mutual) {
        for (field, _) in files.into_iter().filter(|(_, is_set)| *is_set) {
            faults.error(
                format!("{at}.{field}"),
                "credentialName excludes files",
                "remove one of them",
            );
        }
        return;
    }
    if mode == TLSmode::Mutual {
        for (field, _) in files[..2].iter().filter(|(_, is_set)| !is_set) {
            faults.error(
                format!("{at}.{field}"),
                "MUTUAL needs it",
                "name a file, or a credentialName",
            );
        }
    }
}
