use super::kit::{TOWN, mesh, places, seen_by, seen_by_both, telemetry, workload};
use crate::compile::Compiled;
use crate::snapshot::Place;

const FILES: &str = "
extensionProviders:
- name: one
  envoyFileAccessLog: {path: /tmp/one}
- name: two
  envoyFileAccessLog: {path: /tmp/two, logFormat: {labels: {code: '%RESPONSE_CODE%'}}}
";

/// Where requests at a place are written to, and which.
fn written(compiled: &Compiled, place: &Place) -> Vec<String> {
    let logs = compiled.snapshot.logs.at(place);
    logs.iter()
        .map(|(log, filter)| match filter {
            Some(filter) => format!("{} if {}", log.path, filter.as_str()),
            None => log.path.to_string(),
        })
        .collect()
}

fn both(texts: &[&str]) -> [Vec<String>; 2] {
    let [workload, waypoint] = seen_by_both(texts);
    let [at_workload, at_waypoint] = places();
    [written(&workload, &at_workload), written(&waypoint, &at_waypoint)]
}

fn same(texts: &[&str], expected: &[&str]) {
    for found in both(texts) {
        assert_eq!(found, expected, "{texts:?}");
    }
}

#[test]
fn nothing_is_written_unless_somebody_says_so() {
    same(&[], &[]);
    same(&[&mesh("trustDomain: cluster.local")], &[]);
    same(&[&mesh(FILES)], &[]);
    same(&[&mesh("accessLogFile: /dev/stdout")], &["/dev/stdout"]);
    same(
        &[&mesh(&format!(
            "{FILES}defaultProviders: {{accessLogging: [two]}}\naccessLogFile: /dev/stderr"
        ))],
        &["/tmp/two"],
    );
    // Without a mesh configuration there is one provider.
    same(
        &[&telemetry(
            "istio-system",
            "all",
            "{accessLogging: [{providers: [{name: envoy}]}]}",
        )],
        &["/dev/stdout"],
    );
}

#[test]
fn a_nearer_telemetry_takes_the_place_of_a_wider_one_field_by_field() {
    let mesh = mesh(FILES);
    let root = telemetry(
        "istio-system",
        "all",
        "{accessLogging: [{providers: [{name: one}]}]}",
    );
    let space = |spec: &str| telemetry("default", "space", spec);
    same(&[&mesh, &root], &["/tmp/one"]);
    same(
        &[
            &mesh,
            &root,
            &space("{accessLogging: [{providers: [{name: two}]}]}"),
        ],
        &["/tmp/two"],
    );
    same(
        &[&mesh, &root, &space("{accessLogging: [{disabled: true}]}")],
        &[],
    );
    same(
        &[
            &mesh,
            &root,
            &space("{accessLogging: [{filter: {expression: 'response.code >= 400'}}]}"),
        ],
        &["/tmp/one if response.code >= 400"],
    );
    same(&[&mesh, &root, &space("{}")], &["/tmp/one"]);
    // Of callers, which log nothing here.
    same(
        &[
            &mesh,
            &root,
            &space("{accessLogging: [{match: {mode: CLIENT}, disabled: true}]}"),
        ],
        &["/tmp/one"],
    );
    let other = telemetry("elsewhere", "space", "{accessLogging: [{disabled: true}]}");
    same(&[&mesh, &root, &other], &["/tmp/one"]);
}

#[test]
fn selectors_choose_workloads_and_targets_what_a_waypoint_serves() {
    let mesh = mesh(FILES);
    let one = "accessLogging: [{providers: [{name: one}]}]";
    let selected = telemetry(
        "default",
        "v1",
        &format!("{{selector: {{matchLabels: {{version: v1}}}}, {one}}}"),
    );
    assert_eq!(both(&[&mesh, &selected]), [vec!["/tmp/one".to_owned()], vec![]]);
    for target in [
        "{group: '', kind: Service, name: reviews}",
        "{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}",
    ] {
        let targeted = telemetry("default", "t", &format!("{{targetRefs: [{target}], {one}}}"));
        assert_eq!(
            both(&[&mesh, &targeted]),
            [vec![], vec!["/tmp/one".to_owned()]],
            "{target}"
        );
    }
    let elsewhere = telemetry(
        "elsewhere",
        "t",
        &format!("{{targetRefs: [{{group: '', kind: Service, name: reviews}}], {one}}}"),
    );
    assert_eq!(both(&[&mesh, &elsewhere]), [vec![], Vec::<String>::new()]);
}

#[test]
fn a_collector_is_a_provider_like_any_other() {
    let mesh = mesh(
        "extensionProviders:
- name: otel
  envoyOtelAls: {service: collector.example, port: 4317, logName: shop, logFormat: {labels: {code: '%RESPONSE_CODE%'}}}
defaultProviders: {accessLogging: [otel]}",
    );
    same(&[&mesh], &["collector.example:4317"]);
    let compiled = seen_by(&workload("reviews-v1-1"), &[TOWN, &mesh]);
    let logs = compiled.snapshot.logs.at(&Place::Workload { port: 9080 });
    assert!(logs.wanted().trace, "a record says to which trace it belongs");
}

#[test]
fn what_is_wrong_with_logs_is_said_with_its_place() {
    let wrong = mesh(
        "accessLogFile: /dev/stdout
accessLogFormat: '%FOO%'
extensionProviders:
- name: odd
  envoyFileAccessLog: {path: /tmp/odd, logFormat: {text: '%BAR%'}}
- name: als
  envoyHttpAls: {service: collector, port: 4317}
- name: otel
  envoyOtelAls: {service: collector.example, port: 4317, logFormat: {text: '%BAZ%'}}
defaultProviders: {accessLogging: [odd], tracing: [zipkin]}",
    );
    let telemetry = telemetry(
        "default",
        "t",
        "{accessLogging: [{providers: [{name: nobody}]}, {filter: {expression: 'response.kode > 1'}}], wasm: [{}]}",
    );
    let compiled = seen_by(&workload("reviews-v1-1"), &[TOWN, &wrong]);
    let told: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
    for words in [
        "accessLogFormat (line 2 of it): `FOO` is no operator that is known here",
        "extensionProviders[0].envoyFileAccessLog (line 5 of it): access logs to `odd` are not written: `BAR`",
        "there is no provider `odd` that access logs can be written to",
        "extensionProviders[1].envoyHttpAls (line 7 of it) is not supported",
        "extensionProviders[2].envoyOtelAls (line 9 of it): access logs to `otel` are not written: `BAZ`",
        "defaultProviders.tracing (line 10 of it): there is no provider `zipkin` that spans can be sent to",
    ] {
        assert!(
            told.iter().any(|problem| problem.contains(words)),
            "{words}: {told:#?}"
        );
    }
    // The rest stands: the file is written in Istio's own format.
    let place = Place::Workload { port: 9080 };
    assert_eq!(written(&compiled, &place), ["/dev/stdout"]);

    let parsed = crate::config::yaml::read("t.yaml", &telemetry, None);
    let ignored: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    assert!(
        ignored.iter().any(|problem| problem.contains("spec.wasm")),
        "{ignored:?}"
    );
    let mut store = super::kit::store(&[TOWN]);
    parsed.entries.into_iter().for_each(|entry| store.apply(entry));
    let compiled = crate::compile::compile(&store, &workload("reviews-v1-1"), &Default::default(), None);
    let told: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
    for words in [
        "t.yaml:4:38: Telemetry default/t: spec.accessLogging[0].providers[0].name: there is no provider `nobody`",
        "spec.accessLogging[1].filter.expression: `response.kode` is no attribute that is known here at character 1",
    ] {
        assert!(
            told.iter().any(|problem| problem.contains(words)),
            "{words}: {told:#?}"
        );
    }
    assert_eq!(written(&compiled, &place), Vec::<String>::new());
}

#[test]
fn of_several_telemetries_for_a_namespace_the_oldest_counts_and_the_others_are_told() {
    let files = mesh(FILES);
    let dated = |name: &str, date: &str, provider: &str| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\n\
             metadata: {{name: {name}, namespace: default, creationTimestamp: '{date}'}}\n\
             spec: {{accessLogging: [{{providers: [{{name: {provider}}}]}}]}}\n"
        )
    };
    let young = dated("a", "2026-02-02T00:00:00Z", "two");
    let old = dated("b", "2026-01-01T00:00:00Z", "one");
    let compiled = seen_by(&workload("reviews-v1-1"), &[TOWN, &files, &young, &old]);
    assert_eq!(written(&compiled, &Place::Workload { port: 9080 }), ["/tmp/one"]);
    let told: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
    let words = "Telemetry default/a: spec: Telemetry b is older and for the whole namespace too";
    assert!(told.iter().any(|problem| problem.contains(words)), "{told:#?}");
}
