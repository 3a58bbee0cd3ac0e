//! Compilation: from YAML to resources, and from resources to a snapshot.

use std::fmt::Write;

use anyhow::{Result, ensure};
use inmesh::compile::{Handover, compile};
use inmesh::config::{ResourceStore, yaml};
use inmesh::snapshot::{Node, Role};

use super::SIZES;
use super::harness::Harness;

/// A service with ten pods, so many route rules in routes of ten, and so many authorization policies.
pub(crate) fn world(rules: usize, policies: usize) -> Result<String> {
    let mut yaml = String::from(
        "apiVersion: v1\nkind: Service\nmetadata: {name: server, namespace: default}\n\
         spec: {clusterIP: 10.96.0.1, selector: {app: server}, ports: [{name: http, port: 80, targetPort: 8080}]}\n",
    );
    for n in 1..=10 {
        write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: server-{n}, namespace: default, \
             labels: {{app: server, networking.istio.io/tunnel: http}}}}\nspec: {{serviceAccountName: server}}\n\
             status: {{phase: Running, podIP: 10.0.0.{n}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
        )?;
    }
    for route in 0..rules.div_ceil(10) {
        write!(
            yaml,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
             metadata: {{name: route-{route}, namespace: default}}\n\
             spec:\n  parentRefs: [{{group: '', kind: Service, name: server, port: 80}}]\n  rules:\n"
        )?;
        for rule in route * 10..rules.min(route * 10 + 10) {
            writeln!(
                yaml,
                "  - matches: [{{path: {{type: PathPrefix, value: /service/v1/item{rule}}}}}]\n    \
                 backendRefs: [{{name: server, port: 80}}]"
            )?;
        }
    }
    for n in 0..policies {
        write!(
            yaml,
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: allow-{n}, namespace: default}}\n\
             spec:\n  selector: {{matchLabels: {{app: server}}}}\n  action: ALLOW\n  rules:\n  - from: [{{source: \
             {{principals: [cluster.local/ns/default/sa/client{n}]}}}}]\n    to: [{{operation: {{methods: [GET]}}}}]\n"
        )?;
    }
    Ok(yaml)
}

/// So many services, each with a pod and a route, and as many wildcard hosts outside the mesh.
pub(crate) fn services(count: usize) -> Result<String> {
    let mut yaml = String::new();
    for n in 0..count {
        let ip = |block: u8| format!("10.{block}.{}.{}", n / 250, n % 250 + 1);
        write!(
            yaml,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: service-{n}, namespace: default}}\n\
             spec: {{clusterIP: {}, selector: {{app: service-{n}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: service-{n}-0, namespace: default, \
             labels: {{app: service-{n}, networking.istio.io/tunnel: http}}}}\nspec: {{serviceAccountName: service-{n}}}\n\
             status: {{phase: Running, podIP: {}, conditions: [{{type: Ready, status: 'True'}}]}}\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: route-{n}, namespace: default}}\n\
             spec:\n  parentRefs: [{{group: '', kind: Service, name: service-{n}, port: 80}}]\n  rules:\n  \
             - matches: [{{path: {{type: PathPrefix, value: /api}}}}]\n    backendRefs: [{{name: service-{n}, port: 80}}]\n---\n\
             apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: zone-{n}, namespace: default}}\n\
             spec: {{hosts: ['*.zone{n}.example.com'], ports: [{{number: 80, name: http, protocol: HTTP}}], \
             resolution: STATIC, endpoints: [{{address: {}}}]}}\n---\n",
            ip(96),
            ip(0),
            ip(128),
        )?;
    }
    Ok(yaml)
}

/// Reads a world; everything in it must be understood.
pub(crate) fn read(text: &str) -> Result<ResourceStore> {
    let mut store = ResourceStore::default();
    let parsed = yaml::read("world.yaml", text, None);
    ensure!(
        parsed.problems.is_empty(),
        "the world has problems: {:?}",
        parsed.problems.first()
    );
    for entry in parsed.entries {
        store.apply(entry);
    }
    Ok(store)
}

/// The view of a pod; whether there is such a pod does not matter to what it may call.
pub(crate) fn node() -> Node {
    Node {
        namespace: "default".into(),
        pod: Some("server-1".into()),
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

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for size in SIZES {
        for (name, rules, policies) in [("route rules", size, 0), ("policies", 0, size)] {
            let text = world(rules, policies)?;
            let store = read(&text)?;
            let node = node();
            let handover = Handover::default();
            let previous = compile(&store, &node, &handover, None).snapshot;
            let ports = previous.services.iter().flat_map(|service| &service.ports);
            ensure!(
                ports.map(|port| port.routes.len()).sum::<usize>() >= rules,
                "not every rule arrived in the snapshot"
            );
            harness.once(("read YAML", name, size), || read(&text).is_ok());
            harness.once(("compile", name, size), || {
                compile(&store, &node, &handover, None)
            });
            harness.once(("recompile", name, size), || {
                compile(&store, &node, &handover, Some(&previous))
            });
        }
    }
    Ok(())
}
