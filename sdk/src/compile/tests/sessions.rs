//! Sessions that an `XBackendTrafficPolicy` asks for.

use super::kit::{BOUND, TOWN, caller, gateway, seen_by};
use crate::compile::Compiled;
use crate::policy::route::{Action, Carrier, CookiePath, Session};

fn policy(name: &str, service: &str, session: &str) -> String {
    format!(
        "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
         metadata: {{name: {name}, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: {service}}}]\n  sessionPersistence: {session}\n"
    )
}

/// A route of two rules, the second with what is given.
fn route(second: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: default}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  \
         - matches: [{{path: {{value: /a}}}}]\n    backendRefs: [{{name: reviews, port: 9080}}]\n  \
         - matches: [{{path: {{value: /b}}}}]\n    backendRefs: [{{name: reviews, port: 9080}}]\n{second}"
    )
}

fn told(compiled: &Compiled) -> Vec<String> {
    let ours = compiled.problems.iter().filter(|it| it.resource.is_some());
    ours.map(ToString::to_string).collect()
}

/// The sessions of the only backend of each rule, and of the rule itself.
fn sessions(compiled: &Compiled) -> Vec<(Option<&Session>, Option<&Session>)> {
    let rules = compiled.port("reviews:9080").routes.rules();
    let sessions = rules.map(|(_, rule)| {
        let Action::Forward(backends) = &rule.action else {
            panic!("{rule:?}")
        };
        let backend = backends.get(0).unwrap();
        (backend.session.as_deref(), rule.session.as_deref())
    });
    sessions.collect()
}

#[test]
fn every_rule_keeps_sessions_of_its_own() {
    let compiled = caller(&[TOWN, &route(""), &policy("p", "reviews", "{sessionName: sid}")]);
    assert_eq!(told(&compiled), Vec::<String>::new());
    let sessions = sessions(&compiled);
    let [(Some(a), None), (Some(b), None)] = &*sessions else {
        panic!("{sessions:?}")
    };
    assert_ne!(a, b);
    let cookie = Carrier::Cookie {
        name: "sid".into(),
        path: CookiePath::Unsaid,
        permanent: false,
    };
    assert_eq!((&a.carrier, &b.carrier), (&cookie, &cookie));
}

#[test]
fn a_rule_that_speaks_of_sessions_is_left_alone() {
    let own = "    sessionPersistence: {type: Header, sessionName: x-own}\n";
    let compiled = caller(&[TOWN, &route(own), &policy("p", "reviews", "{}")]);
    let sessions = sessions(&compiled);
    let [(Some(_), None), (None, Some(own))] = &*sessions else {
        panic!("{sessions:?}")
    };
    assert!(matches!(&own.carrier, Carrier::Header(name) if name == "x-own"));
}

#[test]
fn without_a_route_sessions_are_kept_all_the_same() {
    let compiled = caller(&[TOWN, &policy("p", "reviews", "{}")]);
    assert!(compiled.port("reviews:9080").session.is_some());
    assert!(caller(&[TOWN]).port("reviews:9080").session.is_none());
}

#[test]
fn what_a_virtual_service_sends_there_is_kept_together_too() {
    let written = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}
";
    let compiled = caller(&[TOWN, written, &policy("p", "reviews", "{}")]);
    assert!(matches!(&*sessions(&compiled), [(Some(_), None)]));
}

#[test]
fn the_waypoint_keeps_them_and_not_its_callers() {
    let policy = policy("p", "reviews", "{}");
    let texts = [TOWN, BOUND, &policy];
    assert!(caller(&texts).port("reviews:9080").session.is_none());
    let waypoint = seen_by(&gateway("default", "waypoint"), &texts);
    assert!(waypoint.port("reviews:9080").session.is_some());
}

#[test]
fn of_two_policies_the_older_counts_and_a_broken_one_not_at_all() {
    let (first, second) = (
        policy("a", "reviews", "{sessionName: a}"),
        policy("b", "reviews", "{sessionName: b}"),
    );
    let compiled = caller(&[TOWN, &second, &first]);
    let session = compiled.port("reviews:9080").session.as_deref().unwrap();
    assert!(matches!(&session.carrier, Carrier::Cookie { name, .. } if &**name == "a"));
    assert_eq!(compiled.problem("older policy").field, "spec.targetRefs[0]");

    let compiled = caller(&[TOWN, &policy("a", "reviews", "{absoluteTimeout: soon}")]);
    assert!(compiled.port("reviews:9080").session.is_none());
    let problem = compiled.problem("`soon`");
    assert_eq!(problem.field, "spec.sessionPersistence.absoluteTimeout");
}

#[test]
fn a_policy_says_whether_its_targets_heed_it() {
    let compiled = caller(&[
        TOWN,
        &policy("a", "reviews", "{sessionName: sid}"),
        &policy("b", "reviews", "{sessionName: other}"),
        &policy("c", "nobody", "{sessionName: sid}"),
        &policy("d", "reviews", "{type: Header, sessionName: 'no header'}"),
        // Another part of the same Service.
        &policy("e", "reviews", "{}").replace(
            "sessionPersistence: {}",
            "retryConstraint: {budget: {percent: 10}}",
        ),
        &policy("f", "reviews", "{}").replace(
            "sessionPersistence: {}",
            "retryConstraint: {budget: {interval: soon}}",
        ),
    ]);
    for (name, expected) in [
        ("a", "Accepted"),
        ("b", "Conflicted"),
        ("c", "TargetNotFound"),
        ("d", "Invalid"),
        ("e", "Accepted"),
        ("f", "Invalid"),
    ] {
        let resource = format!("XBackendTrafficPolicy default/{name}");
        assert_eq!(compiled.reason(&resource, "Accepted"), expected, "{name}");
    }
    compiled.problem("Service default/nobody does not exist");
}
