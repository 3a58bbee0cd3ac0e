//! No field of a traffic policy, a retry or a budget is passed over in silence: each changes what is compiled, or is told
//! by its name.
//!
//! The rows are held against the shapes themselves, so that a field cannot be added to one without a row here.

use std::collections::BTreeSet;

use super::kit::{store, workload};
use super::traffic::{PLACES, rule};
use crate::compile::{Handover, compile};
use crate::config::yaml;

/// A field of `trafficPolicy`, with what it needs beside it, and the same without it or with another value.
type Row = (&'static str, &'static str, &'static str);

const TRAFFIC_POLICY: &[Row] = &[
    ("loadBalancer.simple", "loadBalancer: {simple: RANDOM}", ""),
    (
        "loadBalancer.consistentHash.httpHeaderName",
        "loadBalancer: {consistentHash: {httpHeaderName: x}}",
        "",
    ),
    (
        "loadBalancer.consistentHash.httpCookie.name",
        "loadBalancer: {consistentHash: {httpCookie: {name: a}}}",
        "loadBalancer: {consistentHash: {httpCookie: {name: b}}}",
    ),
    (
        "loadBalancer.consistentHash.httpCookie.path",
        "loadBalancer: {consistentHash: {httpCookie: {name: a, path: /p}}}",
        "loadBalancer: {consistentHash: {httpCookie: {name: a}}}",
    ),
    (
        "loadBalancer.consistentHash.httpCookie.ttl",
        "loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 5s}}}",
        "loadBalancer: {consistentHash: {httpCookie: {name: a}}}",
    ),
    (
        "loadBalancer.consistentHash.httpCookie.attributes.name",
        "loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 5s, attributes: [{name: Secure}]}}}",
        "loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 5s}}}",
    ),
    (
        "loadBalancer.consistentHash.httpCookie.attributes.value",
        "loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 5s, attributes: [{name: SameSite, value: Lax}]}}}",
        "loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 5s, attributes: [{name: SameSite}]}}}",
    ),
    (
        "loadBalancer.consistentHash.useSourceIp",
        "loadBalancer: {consistentHash: {useSourceIp: true}}",
        "",
    ),
    (
        "loadBalancer.consistentHash.httpQueryParameterName",
        "loadBalancer: {consistentHash: {httpQueryParameterName: q}}",
        "",
    ),
    (
        "loadBalancer.consistentHash.ringHash.minimumRingSize",
        "loadBalancer: {consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 7}}}",
        "loadBalancer: {consistentHash: {httpHeaderName: x}}",
    ),
    (
        "loadBalancer.consistentHash.maglev.tableSize",
        "loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: 13}}}",
        "loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {}}}",
    ),
    (
        "loadBalancer.consistentHash.minimumRingSize",
        "loadBalancer: {consistentHash: {httpHeaderName: x, minimumRingSize: 9}}",
        "loadBalancer: {consistentHash: {httpHeaderName: x}}",
    ),
    (
        "loadBalancer.localityLbSetting.distribute.from",
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {distribute: [{from: 'r1/*', to: {'r1/*': 60, 'r2/*': 40}}]}}",
        "outlierDetection: {}",
    ),
    (
        "loadBalancer.localityLbSetting.distribute.to",
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {distribute: [{from: 'r1/*', to: {'r1/*': 60, 'r2/*': 40}}]}}",
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {distribute: [{from: 'r1/*', to: {'r1/*': 100}}]}}",
    ),
    (
        "loadBalancer.localityLbSetting.failover.from",
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}}",
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r9, to: r2}]}}",
    ),
    (
        "loadBalancer.localityLbSetting.failover.to",
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}}",
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r2}]}}",
    ),
    (
        "loadBalancer.localityLbSetting.failoverPriority",
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: ['topology.kubernetes.io/region']}}",
        "outlierDetection: {}",
    ),
    (
        "loadBalancer.localityLbSetting.enabled",
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}",
        "outlierDetection: {}",
    ),
    (
        "loadBalancer.zoneAwareLbSetting.enabled",
        "loadBalancer: {zoneAwareLbSetting: {enabled: true}}",
        "",
    ),
    (
        "loadBalancer.zoneAwareLbSetting.failover",
        "loadBalancer: {zoneAwareLbSetting: {enabled: true, failover: [{from: r1, to: r3}]}}",
        "loadBalancer: {zoneAwareLbSetting: {enabled: true}}",
    ),
    (
        "loadBalancer.zoneAwareLbSetting.failoverPriority",
        "loadBalancer: {zoneAwareLbSetting: {enabled: true, failoverPriority: ['topology.kubernetes.io/zone']}}",
        "loadBalancer: {zoneAwareLbSetting: {enabled: true}}",
    ),
    (
        "loadBalancer.zoneAwareLbSetting.minClusterSize",
        "loadBalancer: {zoneAwareLbSetting: {enabled: true, minClusterSize: 3}}",
        "loadBalancer: {zoneAwareLbSetting: {enabled: true}}",
    ),
    (
        "loadBalancer.warmupDurationSecs",
        "loadBalancer: {warmupDurationSecs: 9s}",
        "",
    ),
    (
        "loadBalancer.warmup.duration",
        "loadBalancer: {warmup: {duration: 9s}}",
        "",
    ),
    (
        "loadBalancer.warmup.minimumPercent",
        "loadBalancer: {warmup: {duration: 9s, minimumPercent: 20}}",
        "loadBalancer: {warmup: {duration: 9s}}",
    ),
    (
        "loadBalancer.warmup.aggression",
        "loadBalancer: {warmup: {duration: 9s, aggression: 2}}",
        "loadBalancer: {warmup: {duration: 9s}}",
    ),
    (
        "connectionPool.tcp.maxConnections",
        "connectionPool: {tcp: {maxConnections: 7}}",
        "",
    ),
    (
        "connectionPool.tcp.connectTimeout",
        "connectionPool: {tcp: {connectTimeout: 10s}}",
        "",
    ),
    (
        "connectionPool.tcp.tcpKeepalive.probes",
        "connectionPool: {tcp: {tcpKeepalive: {probes: 3}}}",
        "connectionPool: {tcp: {tcpKeepalive: {}}}",
    ),
    (
        "connectionPool.tcp.tcpKeepalive.time",
        "connectionPool: {tcp: {tcpKeepalive: {time: 3s}}}",
        "connectionPool: {tcp: {tcpKeepalive: {}}}",
    ),
    (
        "connectionPool.tcp.tcpKeepalive.interval",
        "connectionPool: {tcp: {tcpKeepalive: {interval: 3s}}}",
        "connectionPool: {tcp: {tcpKeepalive: {}}}",
    ),
    (
        "connectionPool.tcp.maxConnectionDuration",
        "connectionPool: {tcp: {maxConnectionDuration: 9s}}",
        "",
    ),
    (
        "connectionPool.tcp.idleTimeout",
        "connectionPool: {tcp: {idleTimeout: 9s}}",
        "",
    ),
    (
        "connectionPool.http.http1MaxPendingRequests",
        "connectionPool: {http: {http1MaxPendingRequests: 7}}",
        "",
    ),
    (
        "connectionPool.http.http2MaxRequests",
        "connectionPool: {http: {http2MaxRequests: 7}}",
        "",
    ),
    (
        "connectionPool.http.maxRequestsPerConnection",
        "connectionPool: {http: {maxRequestsPerConnection: 7}}",
        "",
    ),
    (
        "connectionPool.http.maxRetries",
        "connectionPool: {http: {maxRetries: 7}}",
        "",
    ),
    (
        "connectionPool.http.idleTimeout",
        "connectionPool: {http: {idleTimeout: 9s}}",
        "",
    ),
    (
        "connectionPool.http.h2UpgradePolicy",
        "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}",
        "",
    ),
    (
        "connectionPool.http.useClientProtocol",
        "connectionPool: {http: {useClientProtocol: true}}",
        "",
    ),
    (
        "connectionPool.http.maxConcurrentStreams",
        "connectionPool: {http: {maxConcurrentStreams: 7}}",
        "",
    ),
    (
        "connectionPool.http.http2KeepAlive.interval",
        "connectionPool: {http: {http2KeepAlive: {interval: 9s, timeout: 1s}}}",
        "connectionPool: {http: {http2KeepAlive: {interval: 8s, timeout: 1s}}}",
    ),
    (
        "connectionPool.http.http2KeepAlive.timeout",
        "connectionPool: {http: {http2KeepAlive: {interval: 9s, timeout: 1s}}}",
        "connectionPool: {http: {http2KeepAlive: {interval: 9s, timeout: 2s}}}",
    ),
    (
        "outlierDetection.consecutiveErrors",
        "outlierDetection: {consecutiveErrors: 3}",
        "outlierDetection: {}",
    ),
    (
        "outlierDetection.splitExternalLocalOriginErrors",
        "outlierDetection: {splitExternalLocalOriginErrors: true}",
        "outlierDetection: {}",
    ),
    (
        "outlierDetection.consecutiveLocalOriginFailures",
        "outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3}",
        "outlierDetection: {splitExternalLocalOriginErrors: true}",
    ),
    (
        "outlierDetection.consecutiveGatewayErrors",
        "outlierDetection: {consecutiveGatewayErrors: 3}",
        "outlierDetection: {}",
    ),
    (
        "outlierDetection.consecutive5xxErrors",
        "outlierDetection: {consecutive5xxErrors: 3}",
        "outlierDetection: {}",
    ),
    (
        "outlierDetection.interval",
        "outlierDetection: {interval: 3s}",
        "outlierDetection: {}",
    ),
    (
        "outlierDetection.baseEjectionTime",
        "outlierDetection: {baseEjectionTime: 3s}",
        "outlierDetection: {}",
    ),
    (
        "outlierDetection.maxEjectionPercent",
        "outlierDetection: {maxEjectionPercent: 33}",
        "outlierDetection: {}",
    ),
    (
        "outlierDetection.minHealthPercent",
        "outlierDetection: {minHealthPercent: 33}",
        "outlierDetection: {}",
    ),
    (
        "outlierDetection.outlierDetectionHttpErrorCodes",
        "outlierDetection: {outlierDetectionHttpErrorCodes: [429]}",
        "outlierDetection: {}",
    ),
    (
        "retryBudget.percent",
        "retryBudget: {percent: 50}",
        "retryBudget: {}",
    ),
    (
        "retryBudget.minRetryConcurrency",
        "retryBudget: {minRetryConcurrency: 9}",
        "retryBudget: {}",
    ),
    (
        "retryBudget.budgetInterval",
        "retryBudget: {budgetInterval: 9s}",
        "retryBudget: {}",
    ),
    (
        "portLevelSettings.port.number",
        "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]",
        "portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]",
    ),
    ("proxyProtocol.version", "proxyProtocol: {version: V2}", ""),
    (
        "tunnel.protocol",
        "tunnel: {protocol: CONNECT, targetHost: a, targetPort: 1}",
        "",
    ),
    ("tunnel.targetHost", "tunnel: {targetHost: a, targetPort: 1}", ""),
    ("tunnel.targetPort", "tunnel: {targetHost: a, targetPort: 1}", ""),
];

/// A third region, so that it matters which of two comes next.
const FARTHER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: near-4, namespace: default, labels: {app: near, istio-locality: r3.z1}}
status: {phase: Running, podIP: 10.1.0.4, conditions: [{type: Ready, status: 'True'}]}
";

/// What a caller of `near` does under such a policy, and what is told of it.
fn outcome(policy: &str) -> (String, Vec<String>) {
    let spec = match policy {
        "" => "{host: near}".to_owned(),
        policy => format!("{{host: near, trafficPolicy: {{{policy}}}}}"),
    };
    let read = yaml::read("rule.yaml", &rule("default", "a", &spec), None);
    let mut store = store(&[PLACES, FARTHER]);
    read.entries.into_iter().for_each(|it| store.apply(it));
    let compiled = compile(&store, &workload("productpage-1"), &Handover::default(), None);
    let set = &compiled.cluster("near:80").endpoints;
    let ranks: Vec<_> = set
        .endpoints()
        .iter()
        .map(|it| (it.addr, it.rank, &it.tls))
        .collect();
    let told = read.problems.iter().chain(&compiled.problems);
    let told = told.filter(|it| it.resource.is_some());
    (
        format!("{:?} {ranks:?}", set.policy()),
        told.map(ToString::to_string).collect(),
    )
}

/// The fields that those shapes of a file declare which are asked for, as they are written.
pub(super) fn declared_by(source: &str, is_asked_for: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let mut skips = true;
    for line in source.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ") {
            skips = !is_asked_for(name.trim_end_matches(" {"));
        }
        let field = line.strip_prefix("pub ").and_then(|it| it.split_once(": "));
        if let Some((name, _)) = field.filter(|_| !skips) {
            let mut words = name.trim_start_matches("r#").split('_');
            let first = words.next().unwrap_or_default().to_owned();
            fields.insert(words.fold(first, |all, word| {
                let (head, tail) = word.split_at(1);
                all + &head.to_uppercase() + tail
            }));
        }
    }
    fields
}

#[test]
fn every_field_of_a_traffic_policy_changes_something_or_is_told() {
    let is_silent = |(field, with, without): &&Row| {
        let ((before, _), (after, told)) = (outcome(without), outcome(with));
        let is_told = field
            .split('.')
            .any(|part| told.iter().any(|it| it.contains(part)));
        before == after && !is_told
    };
    let silent: Vec<_> = TRAFFIC_POLICY
        .iter()
        .filter(is_silent)
        .map(|(field, ..)| *field)
        .collect();
    assert!(silent.is_empty(), "no effect, and nobody says so: {silent:#?}");
}

#[test]
fn every_field_that_the_shapes_declare_has_a_row() {
    // TLS is held against its own table: see "destination TLS".
    let source = include_str!("../../config/istio/destination_rule.rs");
    let others = ["DestinationRule", "Subset", "ClientTLSSettings"];
    let shapes = declared_by(source, |name| !others.iter().any(|it| name.starts_with(it)));
    let rows: BTreeSet<&str> = TRAFFIC_POLICY
        .iter()
        .flat_map(|(field, ..)| field.split('.'))
        .collect();
    let missing: Vec<_> = shapes
        .iter()
        .filter(|it| !rows.contains(it.as_str()) && *it != "tls")
        .collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert!(shapes.len() > 60, "have the shapes moved?");
}

#[test]
fn the_guide_has_a_row_for_every_field() {
    let page = include_str!("../../docs/traffic.md");
    let missing: Vec<_> = TRAFFIC_POLICY
        .iter()
        .map(|(field, ..)| *field)
        .filter(|field| !is_named(page, field))
        .collect();
    assert!(missing.is_empty(), "the table says nothing of {missing:#?}");
}

/// Whether the table names a field, by itself or after another of the same block, or its whole block (`a.b.*`).
pub(super) fn is_named(page: &str, field: &str) -> bool {
    let parts: Vec<&str> = field.split('.').collect();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|line| line.trim_matches('|').split(" | ").next());
    cells.into_iter().any(|cell| {
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let block = names
            .first()
            .and_then(|it| it.rsplit_once('.'))
            .map_or("", |(block, _)| block);
        names.iter().any(|name| {
            let whole = name.strip_suffix(".*").is_some_and(|it| field.starts_with(it));
            whole
                || *name == field
                || format!("{block}.{name}") == field
                || (parts.len() == 2 && *name == parts[0])
        })
    })
}
