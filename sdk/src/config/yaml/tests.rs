//! What is read from YAML, what is wrong with it, and where.

mod broken;
mod bytes;

use super::*;
use crate::config::Resource;

/// `severity line:column field: text`, one per problem.
fn problems(parsed: &Parsed) -> Vec<String> {
    let line = |problem: &Problem| {
        let Problem {
            severity,
            place,
            field,
            text,
            ..
        } = problem;
        format!("{severity} {}:{} {field}: {text}", place.line, place.column)
    };
    parsed.problems.iter().map(line).collect()
}

fn names(parsed: &Parsed) -> Vec<String> {
    parsed
        .entries
        .iter()
        .map(|entry| entry.reference().to_string())
        .collect()
}

#[test]
fn the_bookinfo_sample_loads_without_a_problem() {
    for (text, resources) in [
        (include_str!("../../../testdata/bookinfo/bookinfo.yaml"), 14),
        (
            include_str!("../../../testdata/bookinfo/bookinfo-versions.yaml"),
            6,
        ),
        (
            include_str!("../../../testdata/bookinfo/bookinfo-gateway.yaml"),
            2,
        ),
        (
            include_str!("../../../testdata/bookinfo/route-reviews-90-10.yaml"),
            1,
        ),
    ] {
        let parsed = read("bookinfo", text, None);
        assert_eq!(problems(&parsed), [""; 0]);
        assert_eq!(parsed.entries.len(), resources, "{:?}", names(&parsed));
    }
}

/// One row: the text, what is loaded, what is wrong.
#[track_caller]
fn check(text: &str, loaded: &[&str], wrong: &[&str]) {
    let parsed = read("a.yaml", text, Some("shop"));
    assert_eq!(names(&parsed), loaded, "{text}");
    assert_eq!(problems(&parsed), wrong, "{text}");
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  ports:\n  - port: 80\n";

#[test]
fn one_broken_document_costs_only_itself() {
    let broken = "apiVersion: v1\nkind: Service\nmetadata:\n  name: b\nspec: [\n";
    let other = SERVICE.replace("name: a", "name: c");
    let text = format!("# comment\n---\n{SERVICE}---\n{broken}---\n---\n{other}");
    let parsed = read("a.yaml", &text, None);
    assert_eq!(names(&parsed), ["Service default/a", "Service default/c"]);
    let [problem] = &parsed.problems[..] else {
        panic!("{:?}", parsed.problems)
    };
    assert_eq!(
        problem.resource.as_ref().unwrap().to_string(),
        "Service default/b"
    );
    assert!((15..=17).contains(&problem.place.line), "{problem}");
    assert!(!problem.remedy.is_empty() && !parsed.lost);
    assert_eq!(parsed.entries[1].place.to_string(), "a.yaml:18:1");
}

#[test]
fn fields_that_nothing_enforces_are_reported_with_their_exact_place() {
    check(
        "---\n# c\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: r\n  lables: {}\n\
         spec:\n  rules:\n  - matches: []\n  - backendRefs:\n    - name: a\n      prot: 80\n    sessionAffinity: {}\n\
         status: {}\n",
        &["HTTPRoute shop/r"],
        &[
            "ignored 8:3 metadata.lables: this field is not supported and has no effect",
            "ignored 14:7 spec.rules[1].backendRefs[0].prot: this field is not supported and has no effect",
            "ignored 15:5 spec.rules[1].sessionAffinity: this field is not supported and has no effect",
        ],
    );
}

#[test]
fn inert_fields_are_not_reported() {
    check(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  uid: 1-2\n  creationTimestamp: null\n  managedFields: [{a: 1}]\n\
         spec:\n  containers:\n  - name: c\n    image: i\n    env: [{name: A, value: b}]\n  volumes: []\n\
         status:\n  podIP: 10.0.0.1\n  hostIP: 10.0.0.2\n  conditions: [{type: Ready, status: 'True', lastProbeTime: null}]\n",
        &["Pod shop/p"],
        &[],
    );
}

#[test]
fn wrong_types_name_the_place_and_what_was_expected() {
    for (spec, wrong) in [
        (
            "  ports: 80\n",
            "error 6:10 spec.ports: expected a list, found the number 80",
        ),
        (
            "  ports:\n  - port: http\n",
            "error 7:11 spec.ports[0].port: expected a whole number from 0 to 65535, found the text `http`",
        ),
        (
            "  ports:\n  - port: 65536\n",
            "error 7:11 spec.ports[0].port: expected a whole number from 0 to 65535, found the number 65536",
        ),
        (
            "  ports:\n  - port: -1\n",
            "error 7:11 spec.ports[0].port: expected a whole number from 0 to 65535, found the number -1",
        ),
        (
            "  ports:\n  - port: 0\n",
            "error 7:5 spec.ports[0].port: a port from 1 to 65535 is required",
        ),
        (
            "  ports:\n  - name: x\n",
            "error 7:5 spec.ports[0].port: a port from 1 to 65535 is required",
        ),
        (
            "  selector: [a]\n",
            "error 6:13 spec.selector: expected a mapping, found a list",
        ),
        (
            "  selector:\n    a: 1.0\n",
            "error 7:8 spec.selector.a: expected text, found the number 1",
        ),
        (
            "  publishNotReadyAddresses: maybe\n",
            "error 6:29 spec.publishNotReadyAddresses: expected true or false, found the text `maybe`",
        ),
        (
            "  ports:\n  - port: 80\n    targetPort: 0\n",
            "error 8:17 spec.ports[0].targetPort: invalid value: integer `0`, expected a port from 1 to 65535 or a port's name",
        ),
    ] {
        check(
            &format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n{spec}"),
            &[],
            &[wrong],
        );
    }
}

#[test]
fn duplicate_keys_are_errors() {
    let parsed = read("a.yaml", &format!("{SERVICE}  ports: []\n"), None);
    assert!(parsed.entries.is_empty());
    assert_eq!(parsed.problems[0].place.to_string(), "a.yaml:8:3");
    assert!(parsed.problems[0].text.contains("duplicate") && parsed.problems[0].text.contains("ports"));
    assert_eq!(parsed.failed[0].to_string(), "Service default/a");
}

#[test]
fn a_field_without_a_value_counts_as_absent_and_is_said_to() {
    check(
        &SERVICE.replace("  - port: 80\n", "  selector:\n"),
        &["Service shop/a"],
        &[
            "warning 6:3 spec.ports: this field has no value and counts as absent",
            "warning 7:3 spec.selector: this field has no value and counts as absent",
        ],
    );
}

#[test]
fn unknown_kinds_and_versions_are_ignored_one_by_one() {
    check(
        "apiVersion: v1\nkind: Endpoints\nsubsets: []\n---\napiVersion: v2\nkind: Service\n---\nkind: Service\n---\n\
         apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: v}\n",
        &[],
        &[
            "ignored 2:1 kind: Endpoints of v1 is not supported and has no effect",
            "ignored 6:1 kind: Service of v2 is not supported and has no effect",
            "ignored 8:1 apiVersion: Service of no apiVersion is not supported and has no effect",
            "ignored 11:1 kind: Sidecar of networking.istio.io/v1 is not supported and has no effect",
        ],
    );
}

#[test]
fn what_is_no_resource_is_an_error() {
    check(
        "just text\n",
        &[],
        &["error 1:1 kind: expected a resource, found the text `just text`"],
    );
    check("a: 1\n", &[], &["error 1:1 kind: this object has no kind"]);
    check("~\n", &[], &[]);
    check("", &[], &[]);
}

#[test]
fn lists_are_unpacked_and_their_items_keep_their_places() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n\
                - apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec:\n    ports: [{port: 80, nmae: x}]\n";
    check(
        text,
        &["Service shop/a", "Service shop/b"],
        &["ignored 11:24 spec.ports[0].nmae: this field is not supported and has no effect"],
    );
    let parsed = read("a.yaml", text, None);
    assert_eq!(parsed.entries[1].place.to_string(), "a.yaml:7:3");
    assert_eq!(
        parsed.entries[1].place_of("spec.ports[0].port").to_string(),
        "a.yaml:11:14"
    );
    let typed = "apiVersion: v1\nkind: ServiceList\nitems: [{metadata: {name: a}}]\n";
    check(typed, &["Service shop/a"], &[]);
}

#[test]
fn json_is_read_too() {
    check(
        "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"x\": 1}\n}\n",
        &["Service shop/a"],
        &["ignored 5:11 spec.x: this field is not supported and has no effect"],
    );
}

#[test]
fn every_field_of_an_entry_has_a_place() {
    let text = "# c\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: r\n  labels:\n    \
                example.com/a.b: x\nspec:\n  rules:\n  - {}\n  - matches:\n    - path: {type: Exact, value: /}\n";
    let parsed = read("a.yaml", text, None);
    let entry = &parsed.entries[0];
    for (field, line, column) in [
        ("", 3, 1),
        ("spec.rules[1].matches[0].path.type", 13, 14),
        ("spec.rules[1].matches[0].headers", 13, 7),
        ("spec.rules[1].matches[7].path", 12, 5),
        ("spec.rules[0]", 11, 5),
        ("spec.parentRefs", 9, 1),
        ("status", 3, 1),
        ("metadata.labels.example.com/a.b", 8, 5),
        ("spec.rules[x]..[", 10, 3),
    ] {
        let place = entry.place_of(field);
        assert_eq!((place.line, place.column), (line, column), "{field}");
    }
    let problem = entry.problem(Severity::Warning, "spec.rules", "what", "remedy");
    assert_eq!(
        problem.to_string(),
        "warning: a.yaml:10:3: HTTPRoute default/r: spec.rules: what (remedy)"
    );
    let place = Entry::from_resource(entry.resource.clone(), "memory").place_of("spec.rules");
    assert_eq!(place.to_string(), "memory");
}

#[test]
fn the_hash_is_of_what_is_said_not_of_how() {
    let hash = |text: &str| read("x", text, None).entries[0].hash();
    assert_eq!(
        hash(SERVICE),
        hash(&format!(
            "# c\n---\n{}",
            SERVICE.replace("name: a", "name: \"a\"")
        ))
    );
    assert_ne!(hash(SERVICE), hash(&SERVICE.replace("80", "81")));
}

const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\nspec:\n  \
                      selector:\n    matchLabels: {app: a}\n  rules:\n  - from:\n    - source:\n        principals: [x]\n";

#[test]
fn names_are_checked_as_the_api_server_would() {
    for (name, good) in [
        ("a", true),
        ("a-1", true),
        ("A", false),
        ("-a", false),
        ("a.b", false),
        ("a_b", false),
        ("ü", false),
        ("''", false),
        ("\"1\"", true),
    ] {
        let parsed = read(
            "a.yaml",
            &SERVICE.replace("name: a", &format!("name: {name}")),
            None,
        );
        assert_eq!(parsed.entries.len() == 1, good, "{name}: {:?}", parsed.problems);
    }
    let long = format!("name: {}", "a".repeat(64));
    assert!(
        read("a.yaml", &SERVICE.replace("name: a", &long), None)
            .entries
            .is_empty()
    );
}

#[test]
fn cluster_scoped_kinds_have_no_namespace() {
    check(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: x, namespace: y}\n",
        &["Namespace x"],
        &[],
    );
}

#[test]
fn a_billion_laughs_are_refused_quickly() {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, before) in ('b'..='j').zip('a'..) {
        text += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","));
    }
    let start = std::time::Instant::now();
    let parsed = read("a.yaml", &format!("{text}---\n{SERVICE}"), None);
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
    assert_eq!(names(&parsed), ["Service default/a"]);
    assert_eq!(parsed.problems.len(), 1);
}

#[test]
fn depth_does_not_exhaust_the_stack() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(10_000),
    ] {
        assert!(!read("a.yaml", &text, None).problems.is_empty());
    }
}

#[test]
fn problems_do_not_grow_without_bound() {
    let parsed = read("a.yaml", &"kind: X\n---\n".repeat(5_000), None);
    assert_eq!(parsed.problems.len(), 1_001);
    assert_eq!(parsed.problems[1_000].text, "4000 more problems");
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let _ = read("a.yaml", &String::from_utf8_lossy(&bytes), None);
    }

    #[test]
    fn arbitrary_damage_to_a_policy_never_loses_it_silently(at in 0..250usize, byte in proptest::prelude::any::<u8>()) {
        let mut bytes = POLICY.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let parsed = read("a.yaml", &String::from_utf8_lossy(&bytes), None);
        proptest::prop_assert!(!parsed.entries.is_empty() || !parsed.problems.is_empty() || bytes[at] == b'#');
    }

    #[test]
    fn yaml_like_text_never_panics(text in "([a-c]: |- |\n|  |\\[|\\]|\\{|\\}|&a |\\*a |---\n|!!str |'|\"|\\||>|#|kind: Service\n|metadata:\n|null|~|<<: ){0,60}") {
        let parsed = read("a.yaml", &text, None);
        for entry in &parsed.entries {
            entry.place_of("metadata.name");
        }
    }
}

/// What becomes of a field that is declared before anything enforces it.
#[test]
fn declared_fields_that_are_idle_are_reported_where_they_stand() {
    let text = "apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  \
                trafficPolicy:\n    tunnel: {targetHost: a, targetPort: 1}\n    conectionPool: {}\n";
    check(
        text,
        &["DestinationRule shop/a"],
        &[
            "ignored 7:5 spec.trafficPolicy.tunnel: this field is not enforced and has no effect",
            "ignored 8:5 spec.trafficPolicy.conectionPool: this field is not supported and has no effect",
        ],
    );
}
