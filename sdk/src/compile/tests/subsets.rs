//! Subsets of DestinationRules as destinations of VirtualServices.

use std::sync::Arc;

use super::kit::*;
use crate::compile::{Compiled, Handover, compile};
use crate::config::Severity;
use crate::policy::balance::Algorithm;
use crate::policy::route::{Action, Target};
use crate::snapshot::Cluster;

fn rule(spec: &str) -> String {
    named("reviews", spec)
}

fn named(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )
}

/// A VirtualService that sends everything for a host to a subset of it.
fn to(host: &str, subset: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {subset}, namespace: default}}\n\
         spec: {{hosts: [{host}], http: [{{route: [{{destination: {{host: {host}, subset: {subset}}}}}]}}]}}\n"
    )
}

const VERSIONS: &str =
    "{host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}";

/// Where everything goes that the only rule of a port decides.
fn target<'c>(seen: &'c Compiled, authority: &str) -> Result<&'c Arc<Cluster>, String> {
    let routes = &seen.port(authority).routes;
    let (_, rule) = routes.rules().next().expect("there is a route");
    let Action::Forward(backends) = &rule.action else {
        return Err(format!("{:?}", rule.action));
    };
    match &backends.get(0).unwrap().cluster {
        Target::Cluster(id) => Ok(seen.snapshot.cluster(*id).unwrap()),
        Target::Invalid(why) => Err(why.to_string()),
        other => Err(format!("{other:?}")),
    }
}

/// Problems with resources.
fn told(seen: &Compiled) -> Vec<String> {
    let ours = seen.problems.iter().filter(|it| it.resource.is_some());
    ours.map(ToString::to_string).collect()
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    let all = cluster.endpoints.endpoints().iter();
    all.map(|it| it.addr.to_string()).collect()
}

#[test]
fn a_subset_is_who_carries_its_labels() {
    for (subset, address) in [("v1", "10.0.0.1:9080"), ("v2", "10.0.0.2:9080")] {
        let texts = [TOWN, &rule(VERSIONS), &to("reviews", subset)];
        let bound = [TOWN, BOUND, &rule(VERSIONS), &to("reviews", subset)];
        for seen in [caller(&texts), seen_by(&gateway("default", "waypoint"), &bound)] {
            assert_eq!(told(&seen), [""; 0]);
            let cluster = target(&seen, "reviews:9080").unwrap();
            assert_eq!(addresses(cluster), [address]);
            assert_eq!(
                cluster.to_string(),
                format!("reviews.default.svc.cluster.local:9080 subset {subset}")
            );
            // The service itself stays whole.
            assert_eq!(seen.cluster("reviews:9080").endpoints.endpoints().len(), 2);
        }
    }
    let all = [
        TOWN,
        &rule("{host: reviews, subsets: [{name: all}]}"),
        &to("reviews", "all"),
    ];
    assert_eq!(addresses(target(&caller(&all), "reviews:9080").unwrap()).len(), 2);
    let none = [
        TOWN,
        &rule("{host: reviews, subsets: [{name: v3, labels: {version: v3}}]}"),
        &to("reviews", "v3"),
    ];
    assert!(addresses(target(&caller(&none), "reviews:9080").unwrap()).is_empty());
}

#[test]
fn a_subsets_blocks_take_the_place_of_the_rules() {
    let spec = "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {consecutive5xxErrors: 7}, \
                connectionPool: {http: {http2MaxRequests: 9}}}, subsets: [{name: v1, labels: {version: v1}, \
                trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, portLevelSettings: [{port: {number: 81}, outlierDetection: {}}]}}]}";
    let ports = TOWN.replace(
        "{name: http, port: 9080}",
        "{name: http, port: 9080}, {name: http-b, port: 81}",
    );
    let seen = caller(&[&ports, &rule(spec), &to("reviews", "v1")]);
    let policy = target(&seen, "reviews:9080").unwrap().endpoints.policy();
    assert_eq!(policy.balance.algorithm, Algorithm::RoundRobin);
    assert_eq!(policy.outlier.as_ref().unwrap().consecutive_errors, 7);
    assert_eq!(policy.limits.requests, 9);
    let of_port = target(&seen, "reviews:81").unwrap().endpoints.policy();
    assert_eq!(
        of_port.balance.algorithm,
        Algorithm::LeastRequest,
        "settings of a port inherit nothing"
    );
    assert_eq!(of_port.outlier.as_ref().unwrap().consecutive_errors, 5);
    assert_eq!(
        seen.cluster("reviews:9080").endpoints.policy().balance.algorithm,
        Algorithm::Random
    );
}

#[test]
fn a_subset_that_nobody_declares_is_told_and_answers_503() {
    let other = rule("{host: ratings, subsets: [{name: v9}]}");
    for texts in [
        vec![TOWN, &to("reviews", "v9")],
        vec![TOWN, &rule(VERSIONS), &to("reviews", "v9")],
        vec![TOWN, &other, &to("reviews", "v9")],
    ] {
        let seen = caller(&texts);
        let why = target(&seen, "reviews:9080").unwrap_err();
        assert!(why.contains("no DestinationRule that applies here"), "{why}");
        let problem = seen.problem("a subset v9");
        assert_eq!(problem.severity, Severity::Error);
        assert_eq!(problem.field, "spec.http[0].route[0].destination.subset");
        assert!(!problem.remedy.is_empty());
        let (_, rule) = seen.port("reviews:9080").routes.rules().next().unwrap();
        assert_eq!(rule.failure(), 503);
    }
}

#[test]
fn a_client_before_a_waypoint_leaves_subsets_to_it() {
    let foreign =
        to("reviews.default.svc.cluster.local", "v2").replace("namespace: default", "namespace: shop");
    let shop = crate::snapshot::Node {
        namespace: "shop".into(),
        ..workload("cart-1")
    };
    let seen = seen_by(&shop, &[TOWN, BOUND, &rule(VERSIONS), &foreign]);
    let cluster = target(&seen, "reviews.default:9080").unwrap();
    assert_eq!(cluster.subset, None);
    let problem = seen.problem("chooses among all its workloads");
    assert_eq!(problem.severity, Severity::Ignored);
    assert_eq!(problem.field, "spec.http[0].route[0].destination.subset");
}

#[test]
fn labels_of_a_service_entry_are_those_of_its_endpoints() {
    let entry = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: default}
spec:
  hosts: [db.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.1.0.1, labels: {tier: gold}}, {address: 10.1.0.2, labels: {tier: iron}}, {address: 10.1.0.3}]
";
    let gold = named(
        "db",
        "{host: db.example.com, subsets: [{name: gold, labels: {tier: gold}}]}",
    );
    let seen = caller(&[entry, &gold, &to("db.example.com", "gold")]);
    assert_eq!(told(&seen), [""; 0]);
    assert_eq!(
        addresses(target(&seen, "db.example.com:80").unwrap()),
        ["10.1.0.1:80"]
    );
}

#[test]
fn a_subset_keeps_its_state_from_one_configuration_to_the_next() {
    let node = workload("productpage-1");
    let compiled = |texts: &[&str], previous: Option<&Compiled>| {
        compile(
            &store(texts),
            &node,
            &Handover::default(),
            previous.map(|it| &it.snapshot),
        )
    };
    let rule_of = |requests: u32| {
        rule(&VERSIONS.replace(
            "subsets:",
            &format!(
                "trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: {requests}}}}}}}, subsets:"
            ),
        ))
    };
    let first = compiled(&[TOWN, &rule_of(3), &to("reviews", "v1")], None);
    let same = compiled(&[TOWN, &rule_of(3), &to("reviews", "v1")], Some(&first));
    let other = compiled(&[TOWN, &rule_of(4), &to("reviews", "v1")], Some(&same));
    let of = |seen: &Compiled| Arc::clone(target(seen, "reviews:9080").unwrap());
    assert!(Arc::ptr_eq(&of(&first), &of(&same)), "nothing changed");
    assert!(!Arc::ptr_eq(&of(&same), &of(&other)));
    assert!(Arc::ptr_eq(
        of(&same).endpoints.cell(),
        of(&other).endpoints.cell()
    ));
    let cell = |seen: &Compiled| Arc::clone(&of(seen).endpoints.endpoints()[0].cell);
    assert!(Arc::ptr_eq(&cell(&same), &cell(&other)));
    // A subset's cells are its own: what ejects from one does not eject from the whole.
    let whole = &other.cluster("reviews:9080").endpoints;
    assert!(
        whole
            .endpoints()
            .iter()
            .all(|it| !Arc::ptr_eq(&it.cell, &cell(&other)))
    );
    assert!(!Arc::ptr_eq(whole.cell(), of(&other).endpoints.cell()));
}
