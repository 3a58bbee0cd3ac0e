//! Small worlds in YAML, and questions to what they compile to.

use std::time::Duration;

use crate::compile::{Compiled, Condition, Handover, compile};
use crate::config::{Problem, ResourceStore, yaml};
use crate::identity::dev_ca::{DevCa, Leaf};
use crate::name::{Host, SpiffeId};
use crate::snapshot::{
    Cluster, InboundPolicy, Node, Place, Role, ServicePortView, Via, WaypointInbound, WorkloadInbound,
};

/// A namespace with two pods of `reviews`, a service of theirs, and a ready waypoint that is nobody's yet.
pub(super) const TOWN: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v1-1, namespace: default, labels: {app: reviews, version: v1, networking.istio.io/tunnel: http}}
spec: {serviceAccountName: bookinfo-reviews}
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v2-1, namespace: default, labels: {app: reviews, version: v2, networking.istio.io/tunnel: http}}
spec: {serviceAccountName: bookinfo-reviews}
status: {phase: Running, podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: default}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Pod
metadata: {name: waypoint-1, namespace: default, labels: {gateway.networking.k8s.io/gateway-name: waypoint}}
spec: {serviceAccountName: waypoint}
status: {phase: Running, podIP: 10.0.0.15, conditions: [{type: Ready, status: 'True'}]}
";

/// The label that binds all of a namespace.
pub(super) const BOUND: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio.io/use-waypoint: waypoint}}
";

/// An application in `default`: the pod of this name.
pub(super) fn workload(pod: &str) -> Node {
    Node {
        namespace: "default".into(),
        pod: Some(pod.into()),
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

/// The Gateway of this name.
pub(super) fn gateway(namespace: &str, name: &str) -> Node {
    let role = Role::Gateway {
        namespace: namespace.into(),
        name: name.into(),
    };
    Node {
        role,
        namespace: namespace.into(),
        ..workload("waypoint-1")
    }
}

/// A Secret with a certificate for these names.
pub(super) fn secret(namespace: &str, name: &str, dns: &[&str]) -> String {
    let ca = DevCa::new_in_memory().unwrap();
    let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/front").unwrap();
    let mut leaf = Leaf::of(&id, Duration::from_secs(3600));
    leaf.dns = dns.iter().map(|name| (*name).to_owned()).collect();
    let pems = ca.issue_leaf(&leaf).unwrap();
    let indent = |pem: &str| pem.trim_end().replace('\n', "\n    ");
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    {}
  tls.key: |
    {}
",
        indent(&pems.chain),
        indent(&pems.key)
    )
}

pub(super) fn store(texts: &[&str]) -> ResourceStore {
    let mut store = ResourceStore::default();
    for text in texts {
        let parsed = yaml::read("town.yaml", text, None);
        assert_eq!(parsed.problems, [], "the text itself must be right");
        parsed.entries.into_iter().for_each(|it| store.apply(it));
    }
    store
}

/// What the productpage of `default` sees.
pub(super) fn caller(texts: &[&str]) -> Compiled {
    compile(
        &store(texts),
        &workload("productpage-1"),
        &Handover::default(),
        None,
    )
}

pub(super) fn seen_by(node: &Node, texts: &[&str]) -> Compiled {
    compile(&store(texts), node, &Handover::default(), None)
}

impl Compiled {
    pub(super) fn port(&self, authority: &str) -> &ServicePortView {
        let (host, port) = Host::parse_authority(authority).unwrap();
        let id = self
            .snapshot
            .service_by_host(&host)
            .unwrap_or_else(|| panic!("no {host}"));
        self.snapshot.service(id).unwrap().port(port.unwrap()).unwrap()
    }

    pub(super) fn knows(&self, host: &str) -> bool {
        self.snapshot
            .service_by_host(&Host::parse(host).unwrap())
            .is_some()
    }

    pub(super) fn cluster(&self, authority: &str) -> &Cluster {
        self.snapshot.cluster(self.port(authority).cluster).unwrap()
    }

    /// The waypoint on the way, as `namespace/name`.
    pub(super) fn waypoint(&self, authority: &str) -> Option<String> {
        match &self.cluster(authority).via {
            Via::Direct => None,
            Via::Waypoint { namespace, name } => Some(format!("{namespace}/{name}")),
        }
    }

    /// `dial authority identity` of every endpoint.
    pub(super) fn endpoints(&self, authority: &str) -> Vec<String> {
        let endpoints = self.cluster(authority).endpoints.endpoints().iter();
        let show = |it: &std::sync::Arc<crate::policy::balance::Endpoint>| {
            let identities: Vec<&str> = it.identities.iter().map(|it| it.principal()).collect();
            format!(
                "{} {} {}",
                it.key.dial,
                it.key.authority.as_deref().unwrap_or("-"),
                identities.join(",")
            )
        };
        endpoints.map(show).collect()
    }

    pub(super) fn inbound(&self) -> &WorkloadInbound {
        match &self.snapshot.inbound {
            InboundPolicy::Workload(it) => it,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn serves(&self) -> &WaypointInbound {
        match &self.snapshot.inbound {
            InboundPolicy::Waypoint(it) => it,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn condition(&self, resource: &str, kind: &str) -> Option<&Condition> {
        let of = self
            .statuses
            .iter()
            .find(|it| it.resource.to_string() == resource)?;
        of.all().map(|(_, it)| it).find(|it| it.kind == kind)
    }

    pub(super) fn reason(&self, resource: &str, kind: &str) -> &str {
        &self
            .condition(resource, kind)
            .unwrap_or_else(|| panic!("no {kind} of {resource}"))
            .reason
    }

    pub(super) fn problem(&self, part: &str) -> &Problem {
        let found = self.problems.iter().find(|it| it.to_string().contains(part));
        found.unwrap_or_else(|| panic!("no `{part}` in {:#?}", self.problems))
    }
}

/// A mesh configuration.
pub(super) fn mesh(text: &str) -> String {
    let text: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n{text}"
    )
}

pub(super) fn telemetry(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// Where requests come in at the workload `reviews-v1-1`, and at the waypoint in front of its service.
pub(super) fn places() -> [Place; 2] {
    let host = Host::parse("reviews.default.svc.cluster.local").unwrap();
    [
        Place::Workload { port: 9080 },
        Place::Service { host, port: 9080 },
    ]
}

/// What these texts come to for the workload `reviews-v1-1`, and for the waypoint in front of its service.
pub(super) fn seen_by_both(texts: &[&str]) -> [Compiled; 2] {
    let texts: Vec<&str> = [TOWN, BOUND].into_iter().chain(texts.iter().copied()).collect();
    [
        seen_by(&workload("reviews-v1-1"), &texts),
        seen_by(&gateway("default", "waypoint"), &texts),
    ]
}
