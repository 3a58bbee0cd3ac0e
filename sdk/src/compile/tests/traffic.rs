//! DestinationRules, XBackendTrafficPolicies and localities.

use std::time::Duration;

use super::kit::{BOUND, TOWN, caller, gateway, seen_by};
use crate::compile::{Compiled, Handover, compile};
use crate::config::Severity;
use crate::policy::balance::{Algorithm, HashKey};
use crate::policy::retry::{Least, RetryBudget};
use crate::policy::traffic::TrafficPolicy;

pub(super) fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// Problems with resources.
fn told(compiled: &Compiled) -> Vec<String> {
    let ours = compiled.problems.iter().filter(|it| it.resource.is_some());
    ours.map(ToString::to_string).collect()
}

fn policy(texts: &[&str]) -> std::sync::Arc<TrafficPolicy> {
    let compiled = caller(texts);
    assert_eq!(told(&compiled), Vec::<String>::new());
    compiled.cluster("reviews:9080").endpoints.policy().clone()
}

fn with(spec: &str) -> std::sync::Arc<TrafficPolicy> {
    policy(&[TOWN, &rule("default", "a", spec)])
}

#[test]
fn without_a_rule_the_defaults_apply() {
    let policy = policy(&[TOWN]);
    assert_eq!(*policy, TrafficPolicy::default());
    assert_eq!(policy.outlier, None);
}

#[test]
fn a_rule_says_how_its_host_is_called() {
    let policy = with(
        "{host: reviews, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: X-User}}, \
         outlierDetection: {consecutive5xxErrors: 7, minHealthPercent: 30}, \
         connectionPool: {http: {http2MaxRequests: 4, maxRetries: 1}}}}",
    );
    assert_eq!(policy.balance.algorithm, Algorithm::RING);
    assert!(matches!(&policy.balance.hash, Some(HashKey::Header(name)) if name == "x-user"));
    assert_eq!(policy.balance.panic_percent, 30);
    assert_eq!(policy.outlier.as_ref().unwrap().consecutive_errors, 7);
    assert_eq!(policy.limits.requests, 4);
    assert_eq!(policy.retries, RetryBudget::Concurrent(1));
}

#[test]
fn a_rule_for_a_host_that_nobody_has_is_told() {
    let of = |host: &str| {
        let rule = rule(
            "default",
            "a",
            &format!("{{host: {host}, trafficPolicy: {{outlierDetection: {{}}}}}}"),
        );
        told(&caller(&[TOWN, &rule]))
    };
    for known in ["reviews", "reviews.default.svc.cluster.local", "'*'", "'*.local'"] {
        assert_eq!(of(known), Vec::<String>::new(), "{known}");
    }
    // Istio completes names without a dot only.
    for (lost, host) in [
        ("revievs", "revievs.default.svc.cluster.local"),
        ("reviews.default", "reviews.default"),
    ] {
        let told = of(lost);
        let text = format!("no service is called {host};");
        assert!(told.len() == 1 && told[0].contains(&text), "{told:?}");
    }
}

#[test]
fn the_settings_of_a_port_take_the_place_of_all_others() {
    let policy = with(
        "{host: reviews, trafficPolicy: {outlierDetection: {}, loadBalancer: {simple: RANDOM}, \
         portLevelSettings: [{port: {number: 9080}, loadBalancer: {simple: ROUND_ROBIN}}]}}",
    );
    assert_eq!(policy.balance.algorithm, Algorithm::RoundRobin);
    assert_eq!(policy.outlier, None, "not inherited");
}

#[test]
fn the_callers_own_rule_comes_first_then_the_services_then_the_roots() {
    let random = "{host: reviews.default.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: RANDOM}}}";
    let robin =
        "{host: reviews.default.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}";
    let all = "{host: '*.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}}";
    let root = rule("istio-system", "r", all);
    assert_eq!(policy(&[TOWN, &root]).balance.algorithm, Algorithm::Random);
    let own = rule("default", "o", robin);
    assert_eq!(
        policy(&[TOWN, &root, &own]).balance.algorithm,
        Algorithm::RoundRobin
    );
    // Rules of a third namespace are nobody's.
    let stranger = rule("elsewhere", "s", random);
    assert_eq!(*policy(&[TOWN, &stranger]), TrafficPolicy::default());
    // What is kept to the root namespace is not for us.
    let private = rule(
        "istio-system",
        "p",
        "{host: '*', exportTo: ['.'], trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
    );
    assert_eq!(*policy(&[TOWN, &private]), TrafficPolicy::default());
}

#[test]
fn the_most_particular_host_wins_and_rules_for_one_host_are_one() {
    let wide = rule(
        "default",
        "a",
        "{host: '*.default.svc.cluster.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
    );
    let exact = rule(
        "default",
        "b",
        "{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}",
    );
    assert_eq!(
        policy(&[TOWN, &wide, &exact]).balance.algorithm,
        Algorithm::RoundRobin
    );
    let second = rule(
        "default",
        "c",
        "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {}}}",
    );
    let merged = policy(&[TOWN, &exact, &second]);
    assert_eq!(merged.balance.algorithm, Algorithm::RoundRobin);
    assert_eq!(merged.outlier, None, "policies are not mixed");
}

#[test]
fn a_rule_for_some_callers_is_for_them_alone() {
    let ours = "{host: reviews, workloadSelector: {matchLabels: {app: productpage}}, \
                trafficPolicy: {loadBalancer: {simple: RANDOM}}}";
    let all = "{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}";
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: productpage-1, namespace: default, labels: {app: productpage}}
status: {phase: Running, podIP: 10.0.0.9, conditions: [{type: Ready, status: 'True'}]}
";
    let rules = [rule("default", "a", all), rule("default", "z", ours)];
    let texts = [TOWN, &rules[0], &rules[1]];
    assert_eq!(policy(&texts).balance.algorithm, Algorithm::RoundRobin);
    assert_eq!(
        policy(&[TOWN, pod, &rules[0], &rules[1]]).balance.algorithm,
        Algorithm::Random
    );
}

#[test]
fn what_a_waypoint_does_the_caller_leaves_to_it() {
    let spec = "{host: reviews, trafficPolicy: {outlierDetection: {}, loadBalancer: {simple: RANDOM}}}";
    let texts = [TOWN, BOUND, &rule("default", "a", spec)];
    let caller = caller(&texts);
    assert!(caller.waypoint("reviews:9080").is_some());
    assert_eq!(
        **caller.cluster("reviews:9080").endpoints.policy(),
        TrafficPolicy::default()
    );
    let waypoint = seen_by(&gateway("default", "waypoint"), &texts);
    assert!(
        waypoint
            .cluster("reviews:9080")
            .endpoints
            .policy()
            .outlier
            .is_some()
    );
}

#[test]
fn a_constraint_limits_retries_unless_a_rule_does() {
    let constraint = "
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: b, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  retryConstraint: {budget: {percent: 5, interval: 3s}, minRetryRate: {count: 1, interval: 1s}}
";
    assert_eq!(
        policy(&[TOWN, constraint]).retries,
        RetryBudget::Share {
            percent: 5.0,
            least: Least::Rate(1, Duration::from_secs(1)),
            interval: Duration::from_secs(3),
            unsent: true,
        }
    );
    let rule = rule(
        "default",
        "a",
        "{host: reviews, trafficPolicy: {retryBudget: {percent: 7}}}",
    );
    assert_eq!(
        policy(&[TOWN, constraint, &rule]).retries,
        RetryBudget::share(7.0, 3)
    );
    let wrong = constraint
        .replace("kind: Service", "kind: Deployment")
        .replace("3s", "soon");
    let compiled = caller(&[TOWN, &wrong]);
    assert_eq!(compiled.problem("cannot be a target").field, "spec.targetRefs[0]");
    assert_eq!(
        compiled.problem("`soon`").field,
        "spec.retryConstraint.budget.interval"
    );
}

#[test]
fn who_is_least_loaded_is_told_as_the_annotation_says() {
    let annotated = |spec: &str, value: &str| {
        rule("default", "a", spec).replace(
            "namespace: default",
            &format!("namespace: default, annotations: {{inmesh.io/load-balancer: {value}}}"),
        )
    };
    let algorithm = |compiled: &Compiled| {
        compiled
            .cluster("reviews:9080")
            .endpoints
            .policy()
            .balance
            .algorithm
    };
    let least = "{host: reviews, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}}";
    for spec in ["{host: reviews}", least] {
        let compiled = caller(&[TOWN, &annotated(spec, "peak-ewma")]);
        assert_eq!(algorithm(&compiled), Algorithm::PeakEwma, "{spec}");
        assert_eq!(told(&compiled), Vec::<String>::new());
    }
    let service = TOWN.replacen(
        "name: reviews, namespace: default}",
        "name: reviews, namespace: default, annotations: {inmesh.io/load-balancer: peak-ewma}}",
        1,
    );
    assert_eq!(algorithm(&caller(&[&service])), Algorithm::PeakEwma);
    let random = "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}}";
    let compiled = caller(&[TOWN, &annotated(random, "peak-ewma")]);
    assert_eq!(algorithm(&compiled), Algorithm::Random);
    assert_eq!(compiled.problem("asks for another").severity, Severity::Ignored);
    let compiled = caller(&[TOWN, &annotated("{host: reviews}", "fastest")]);
    assert_eq!(algorithm(&compiled), Algorithm::LeastRequest);
    assert_eq!(
        compiled.problem("`fastest`").field,
        "metadata.annotations.inmesh.io/load-balancer"
    );
}

#[test]
fn who_dials_a_service_that_passes_through_gets_any_of_its_endpoints() {
    let spec = "{host: reviews, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}";
    assert_eq!(with(spec).balance.algorithm, Algorithm::Random);
}

/// Three pods: one on our node, one in our zone, one in another region.
pub(super) const PLACES: &str = "
apiVersion: v1
kind: Service
metadata: {name: near, namespace: default}
spec: {selector: {app: near}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1}}
spec: {podCIDR: 10.1.0.0/24}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z2}}
---
apiVersion: v1
kind: Pod
metadata: {name: productpage-1, namespace: default, labels: {app: productpage}}
spec: {nodeName: n1}
status: {phase: Running, podIP: 10.1.0.9, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near-1, namespace: default, labels: {app: near}}
spec: {nodeName: n1}
status: {phase: Running, podIP: 10.1.0.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near-2, namespace: default, labels: {app: near}}
spec: {nodeName: n2}
status: {phase: Running, podIP: 10.1.0.2, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near-3, namespace: default, labels: {app: near, istio-locality: r2.z9}}
status: {phase: Running, podIP: 10.1.0.3, conditions: [{type: Ready, status: 'True'}]}
";

/// Priority and share of `near-1` to `near-3`; `-` for those that get nothing.
fn ranks(texts: &[&str]) -> Vec<String> {
    let compiled = caller(texts);
    assert_eq!(told(&compiled), Vec::<String>::new());
    let endpoints = compiled.cluster("near:80").endpoints.endpoints();
    let of = |last: u8| {
        let it = endpoints
            .iter()
            .find(|it| it.addr.ip() == std::net::IpAddr::from([10, 1, 0, last]));
        it.map_or_else(
            || "-".into(),
            |it| match it.rank.share {
                0 => it.rank.priority.to_string(),
                share => format!("{share}%"),
            },
        )
    };
    (1..=3).map(of).collect()
}

#[test]
fn services_may_prefer_the_near() {
    assert_eq!(ranks(&[PLACES]), ["0", "0", "0"]);
    let close = PLACES.replacen(
        "spec: {selector",
        "spec: {trafficDistribution: PreferClose, selector",
        1,
    );
    assert_eq!(ranks(&[&close]), ["0", "1", "2"]);
    let annotated = PLACES.replacen(
        "{name: near, namespace: default}",
        "{name: near, namespace: default, annotations: {networking.istio.io/traffic-distribution: prefersamenode}}",
        1,
    );
    assert_eq!(ranks(&[&annotated]), ["0", "1", "2"]);
}

#[test]
fn outlier_detection_makes_the_near_preferred_and_a_rule_may_say_otherwise() {
    let with = |settings: &str| {
        let spec = format!(
            "{{host: near, trafficPolicy: {{outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {settings}}}}}}}"
        );
        ranks(&[PLACES, &rule("default", "a", &spec)])
    };
    let plain = rule(
        "default",
        "a",
        "{host: near, trafficPolicy: {outlierDetection: {}}}",
    );
    assert_eq!(ranks(&[PLACES, &plain]), ["0", "1", "2"]);
    assert_eq!(with("{enabled: false}"), ["0", "0", "0"]);
    assert_eq!(
        with("{failoverPriority: ['topology.kubernetes.io/region']}"),
        ["0", "0", "1"]
    );
    assert_eq!(
        with("{distribute: [{from: 'r1/z1/*', to: {'r1/z1/*': 70, 'r1/z2/*': 30}}]}"),
        ["70%", "30%", "-"]
    );
    assert_eq!(
        with("{distribute: [{from: 'r1/*', to: {'r1/*': 60, 'r2/*': 40}}]}"),
        ["30%", "30%", "40%"],
        "two localities under one name share it"
    );
    assert_eq!(
        with("{distribute: [{from: 'r5/*', to: {'r1/*': 100}}]}"),
        ["0", "0", "0"]
    );
}

#[test]
fn a_change_of_policy_forgets_nothing_that_is_under_way() {
    use crate::policy::traffic::Counter;
    let first = caller(&[TOWN]).snapshot;
    let cell = first
        .cluster(first.services[0].ports[0].cluster)
        .unwrap()
        .endpoints
        .cell()
        .clone();
    let ticket = cell.enter(Counter::Requests, 1);
    assert!(ticket.is_some());
    let changed = rule(
        "default",
        "a",
        "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
    );
    let store = super::kit::store(&[TOWN, &changed]);
    let next = compile(
        &store,
        &super::kit::workload("productpage-1"),
        &Handover::default(),
        Some(&first),
    );
    let cluster = next.cluster("reviews:9080");
    assert_eq!(cluster.endpoints.policy().balance.algorithm, Algorithm::Random);
    assert_eq!(cluster.endpoints.cell().count(Counter::Requests), 1);
    let same = compile(
        &store,
        &super::kit::workload("productpage-1"),
        &Handover::default(),
        Some(&next.snapshot),
    );
    assert!(std::ptr::eq(cluster, same.cluster("reviews:9080")));
}
