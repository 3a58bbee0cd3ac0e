//! Who stands behind a service, and by which names it is called.

use super::kit::*;
use crate::compile::{Handover, compile};
use crate::name::Host;

const REVIEWS: &str = "cluster.local/ns/default/sa/bookinfo-reviews";

#[test]
fn pods_that_speak_hbone_are_called_through_their_tunnel_by_their_identity() {
    let seen = caller(&[TOWN]);
    assert_eq!(
        seen.endpoints("reviews:9080"),
        [
            format!("10.0.0.1:15008 10.0.0.1:9080 {REVIEWS}"),
            format!("10.0.0.2:15008 10.0.0.2:9080 {REVIEWS}"),
        ]
    );
}

#[test]
fn a_service_is_known_by_all_names_a_resolver_completes_and_by_its_address() {
    let vip = "
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {clusterIP: 10.96.0.7, ports: [{port: 80}]}
";
    let seen = caller(&[TOWN, vip]);
    for host in [
        "reviews",
        "reviews.default",
        "reviews.default.svc",
        "reviews.default.svc.cluster.local",
    ] {
        assert!(seen.knows(host), "{host}");
    }
    assert!(seen.knows("far.other") && seen.knows("10.96.0.7") && !seen.knows("far"));
}

#[test]
fn pods_that_are_not_ready_finished_or_leaving_are_not_called() {
    let others = "
apiVersion: v1
kind: Pod
metadata: {name: reviews-a, namespace: default, labels: {app: reviews}}
status: {phase: Running, podIP: 10.0.0.3, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-b, namespace: default, labels: {app: reviews}}
status: {phase: Succeeded, podIP: 10.0.0.4, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-c, namespace: default, labels: {app: reviews}, deletionTimestamp: '2026-01-01T00:00:00Z'}
status: {phase: Running, podIP: 10.0.0.5, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Service
metadata: {name: eager, namespace: default}
spec: {selector: {app: reviews}, publishNotReadyAddresses: true, ports: [{port: 80}]}
";
    let seen = caller(&[TOWN, others]);
    assert_eq!(seen.endpoints("reviews:9080").len(), 2);
    assert_eq!(
        seen.endpoints("eager:80").len(),
        3,
        "the one that is not ready counts, the other two do not"
    );
}

#[test]
fn a_deployment_lends_its_pods_account_labels_and_ports() {
    let bare = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: ratings-v1, namespace: default}
spec:
  selector: {matchLabels: {app: ratings}}
  template:
    metadata: {labels: {app: ratings, version: v1, networking.istio.io/tunnel: http}}
    spec: {serviceAccountName: ratings, containers: [{name: c, ports: [{name: web, containerPort: 9081}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: ratings-v1-abc, namespace: default}
status: {podIP: 10.0.0.8, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: default}
spec: {selector: {app: ratings}, ports: [{port: 80, targetPort: web}]}
";
    let seen = caller(&[bare]);
    let expected = "10.0.0.8:15008 10.0.0.8:9081 cluster.local/ns/default/sa/ratings";
    assert_eq!(seen.endpoints("ratings:80"), [expected]);
    let workload = &seen.cluster("ratings:80").endpoints.endpoints()[0].workload;
    assert_eq!((&*workload.owner, &*workload.version), ("ratings-v1", "v1"));
}

#[test]
fn a_slice_decides_even_when_it_is_empty() {
    let slice = |endpoints: &str| {
        format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: reviews-x, namespace: default, labels: {{kubernetes.io/service-name: reviews}}}}
addressType: IPv4
ports: [{{name: http, port: 9999}}]
endpoints: {endpoints}
"
        )
    };
    assert!(caller(&[TOWN, &slice("[]")]).endpoints("reviews:9080").is_empty());
    let listed = slice(
        "[{addresses: [10.0.0.1]}, {addresses: [10.9.9.9]}, {addresses: [10.0.0.2], conditions: {ready: false}}]",
    );
    assert_eq!(
        caller(&[TOWN, &listed]).endpoints("reviews:9080"),
        [
            format!("10.0.0.1:15008 10.0.0.1:9999 {REVIEWS}"),
            "10.9.9.9:9999 - ".to_owned()
        ]
    );
}

#[test]
fn what_cannot_be_carried_is_said() {
    let odd = "
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: default}
spec: {ports: [{name: dns, port: 53, protocol: UDP}, {name: tcp, port: 54}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: default}
spec: {type: ExternalName, ports: [{port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: anything, namespace: default}
spec: {hosts: ['*.example.org'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}
";
    let seen = caller(&[odd]);
    seen.problem("UDP is not carried");
    seen.problem("ExternalName services are not supported");
    seen.problem("`*.example.org` cannot be looked up");
    assert!(!seen.knows("elsewhere") && !seen.knows("a.example.org"));
    assert_eq!(seen.port("dns:54").number, 54);
}

#[test]
fn service_entries_list_endpoints_or_names_to_look_up() {
    let entries = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: static, namespace: default}
spec:
  hosts: ['*.db.example']
  ports: [{number: 5432, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1, ports: {tcp: 15432}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: dns, namespace: other}
spec: {hosts: [api.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: other}
spec: {hosts: [private.example], exportTo: ['.'], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: 192.0.2.9}]}
";
    let first = caller(&[entries]);
    assert_eq!(first.endpoints("a.db.example:5432"), ["192.0.2.1:15432 - "]);
    assert!(first.endpoints("api.example:80").is_empty());
    assert!(!first.knows("private.example"));
    let host = Host::parse("api.example").unwrap();
    assert_eq!(first.names.iter().collect::<Vec<_>>(), [&host]);
    let mut handover = Handover::default();
    handover
        .resolved
        .insert(host, vec!["198.51.100.1".parse().unwrap()]);
    let then = compile(
        &store(&[entries]),
        &workload("x"),
        &handover,
        Some(&first.snapshot),
    );
    assert_eq!(then.endpoints("api.example:80"), ["198.51.100.1:80 - "]);
}

/// Istio's `resolution: NONE`: where the caller itself would have gone.
#[test]
fn what_is_dialled_is_an_address_of_the_entry_or_what_dns_says() {
    let entry = |spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: default}}\n\
             spec: {{ports: [{{number: 80, name: http, protocol: HTTP}}], {spec}}}\n"
        )
    };
    let addressed = caller(&[&entry("hosts: ['*.example.org'], addresses: [192.0.2.1]")]);
    assert_eq!(addressed.endpoints("a.example.org:80"), ["192.0.2.1:80 - "]);
    assert_eq!(addressed.endpoints("192.0.2.1:80"), ["192.0.2.1:80 - "]);
    assert!(addressed.names.is_empty());
    let text = entry("hosts: [api.example], resolution: NONE");
    let named = caller(&[&text]);
    let host = Host::parse("api.example").unwrap();
    assert_eq!(named.names.iter().collect::<Vec<_>>(), [&host]);
    let handover = Handover {
        resolved: [(host, vec!["198.51.100.1".parse().unwrap()])].into(),
        ..Handover::default()
    };
    let then = compile(&store(&[&text]), &workload("x"), &handover, Some(&named.snapshot));
    assert_eq!(then.endpoints("api.example:80"), ["198.51.100.1:80 - "]);
    let both = caller(&[&entry("hosts: [api.example], endpoints: [{address: 192.0.2.1}]")]);
    both.problem("resolution NONE excludes endpoints");
    assert!(!both.knows("api.example"));
}

#[test]
fn a_service_is_seen_where_it_is_exported_to() {
    let service = |to: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: quiet, namespace: other, annotations: \
             {{networking.istio.io/exportTo: '{to}'}}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n"
        )
    };
    for (to, seen) in [
        ("*", true),
        ("default", true),
        ("shop, default", true),
        (".", false),
        ("~", false),
        ("shop", false),
    ] {
        assert_eq!(caller(&[&service(to)]).knows("quiet.other"), seen, "{to}");
    }
}
