//! Endpoints to choose from, and configuration to compile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use inmesh::compile::{Compiled, Handover, compile};
use inmesh::config::istio::VirtualService;
use inmesh::config::{Entry, Resource, ResourceStore, Severity, yaml};
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
        propagation: Default::default(),
        paths: Default::default(),
    }
}

/// Who is there beside the objects of a row: a service `svc` with an endpoint, and whoever else is named.
#[derive(Debug)]
pub(super) struct Town<'a> {
    /// The ports of `svc`.
    pub(super) ports: &'a [u16],
    /// Other services.
    pub(super) others: &'a [String],
    /// Whether the waypoint of `svc` compiles, rather than a caller.
    pub(super) waypoint: bool,
    /// The caller's labels.
    pub(super) labels: BTreeMap<String, String>,
}

impl Town<'_> {
    /// Compiles the town with these objects.
    pub(super) fn compile(&self, objects: &[Value]) -> Result<Compiled> {
        let mut all = Vec::new();
        let names = std::iter::once("svc").chain(self.others.iter().map(String::as_str));
        for (at, name) in names.enumerate() {
            let port = |it: &u16| json!({"name": format!("http-{it}"), "port": it});
            let ports: Vec<Value> = self.ports.iter().map(port).collect();
            let labels = if self.waypoint {
                json!({"istio.io/use-waypoint": "waypoint"})
            } else {
                json!({})
            };
            all.push(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "default", "labels": labels},
                "spec": {"selector": {"app": name}, "ports": ports},
            }));
            all.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("{name}-1"), "namespace": "default", "labels": {"app": name}},
                "spec": {"serviceAccountName": name},
                "status": {
                    "phase": "Running", "podIP": format!("10.0.0.{}", at + 1),
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }));
        }
        let mut node = Node {
            labels: self.labels.clone(),
            ..node()
        };
        if self.waypoint {
            node.role = Role::Gateway {
                namespace: "default".into(),
                name: "waypoint".into(),
            };
            all.push(json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"name": "waypoint", "namespace": "default"},
                "spec": {
                    "gatewayClassName": "istio-waypoint",
                    "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
                },
            }));
        }
        let mut store = ResourceStore::default();
        for object in all.iter().chain(objects) {
            // Rows say what a proxy does with what admission would not let through: it is not asked about those.
            if object["kind"] == "VirtualService" {
                let it: VirtualService = serde_json::from_value(object.clone())?;
                store.apply(Entry::from_resource(Resource::VirtualService(it), "case.yaml"));
                continue;
            }
            // JSON is YAML.
            let read = yaml::read("case.yaml", &object.to_string(), Some("default"));
            if let Some(problem) = read.problems.iter().find(|it| it.severity == Severity::Error) {
                bail!("{problem}");
            }
            read.entries.into_iter().for_each(|entry| store.apply(entry));
        }
        Ok(compile(&store, &node, &Handover::default(), None))
    }
}

/// Compiles objects beside a service `svc` on port 80.
pub(super) fn compiled(objects: &[Value]) -> Result<Compiled> {
    let town = Town {
        ports: &[80],
        others: &[],
        waypoint: false,
        labels: BTreeMap::new(),
    };
    town.compile(objects)
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
