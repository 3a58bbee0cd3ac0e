//! Endpoints to choose from, and configuration to compile.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use inmesh::compile::{Compiled, Handover, compile};
use inmesh::config::{ResourceStore, Severity, yaml};
use inmesh::policy::Outcome;
use inmesh::policy::balance::{Endpoint, EndpointCell, EndpointKey, EndpointSet, Rank, Workload};
use inmesh::policy::route::RouteRule;
use inmesh::policy::traffic::TrafficPolicy;
use inmesh::snapshot::{Node, Role};
use serde_json::{Value, json};

/// Endpoints at these addresses, called as the policy says.
pub(super) fn endpoints(addresses: &[SocketAddr], policy: TrafficPolicy) -> EndpointSet {
    let endpoint = |addr: &SocketAddr| {
        Arc::new(Endpoint {
            tls: inmesh::policy::tls::Origination::None,
            key: EndpointKey {
                dial: *addr,
                authority: None,
            },
            addr: *addr,
            identities: Arc::new([]),
            weight: 1,
            rank: Rank::default(),
            workload: Arc::new(Workload::default()),
            cell: Arc::new(EndpointCell::default()),
        })
    };
    EndpointSet::with(
        addresses.iter().map(endpoint).collect(),
        Arc::new(policy),
        Arc::default(),
    )
}

/// So many addresses.
pub(super) fn addresses(count: usize) -> Vec<SocketAddr> {
    (0..count)
        .map(|n| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8 + 1], 8080)))
        .collect()
}

/// Headers from pairs.
pub(super) fn headers(pairs: &[(String, String)]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_bytes(name.as_bytes())?,
            HeaderValue::from_str(value)?,
        );
    }
    Ok(headers)
}

/// How an attempt ended: a status, or what else may happen.
pub(super) fn outcome(result: &Value) -> Result<Outcome> {
    if let Some(status) = result.as_u64() {
        let status = StatusCode::from_u16(u16::try_from(status)?)?;
        return Ok(Outcome::response(status, &HeaderMap::new()));
    }
    Ok(match result.as_str().unwrap_or_default() {
        "connect_failure" | "connect_failed" | "connect_timeout" => Outcome::ConnectFailure,
        "refused_stream" => Outcome::RefusedStream,
        "remote_reset" | "reset" => Outcome::Reset,
        "reset_before_request" => Outcome::ResetBeforeRequest,
        "per_try_timeout" | "timeout" => Outcome::PerTryTimeout,
        "route_timeout" | "global_timeout" => Outcome::Timeout,
        "overflow" => Outcome::Overflow,
        _ => bail!("an attempt cannot end by {result}"),
    })
}

/// A caller that compiles what is applied.
fn node() -> Node {
    Node {
        namespace: "default".into(),
        pod: Some("caller".into()),
        addr: None,
        labels: Default::default(),
        identity: None,
        role: Role::Workload,
        root_namespace: "istio-system".into(),
        trust_domains: vec!["cluster.local".into()],
        cluster_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
        paths: Default::default(),
    }
}

/// Compiles objects beside a service `svc` on port 80.
pub(super) fn compiled(objects: &[Value]) -> Result<Compiled> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "svc", "namespace": "default"},
        "spec": {"selector": {"app": "svc"}, "ports": [{"name": "http", "port": 80}]},
    });
    let mut store = ResourceStore::default();
    for object in std::iter::once(&service).chain(objects) {
        // JSON is YAML.
        let read = yaml::read("case.yaml", &object.to_string(), Some("default"));
        if let Some(problem) = read.problems.iter().find(|it| it.severity == Severity::Error) {
            bail!("{problem}");
        }
        read.entries.into_iter().for_each(|entry| store.apply(entry));
    }
    Ok(compile(&store, &node(), &Handover::default(), None))
}

/// The first rule that a HTTPRoute of `svc` compiles to.
pub(super) fn http_rule(rule: &Value) -> Result<RouteRule> {
    let mut rule = rule.clone();
    if let Some(fields) = rule.as_object_mut() {
        fields
            .entry("backendRefs")
            .or_insert_with(|| json!([{"name": "svc", "port": 80}]));
    }
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "route", "namespace": "default"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "svc"}], "rules": [rule]},
    });
    let compiled = compiled(&[route])?;
    let service = compiled.snapshot.services.first().context("no service")?;
    let port = service.ports.first().context("no port")?;
    let rule = port.routes.rule(inmesh::policy::route::RuleId(0));
    Ok(rule.context("no rule")?.clone())
}
