//! Which metrics are told, and with which labels, by Telemetries at every level.

use super::kit::{BOUND, TOWN, gateway, seen_by, telemetry, workload};
use crate::compile::Compiled;
use crate::name::Host;
use crate::snapshot::Place;
use crate::telemetry::{Metric, MetricPlan};

fn at_workload(compiled: &Compiled) -> &MetricPlan {
    compiled
        .snapshot
        .metrics
        .servers
        .at(&Place::Workload { port: 9080 })
}

/// What differs from the standard, for whoever receives and whoever sends.
fn told(plan: &MetricPlan) -> String {
    plan.to_string()
}

fn both(texts: &[&str]) -> [String; 2] {
    let texts: Vec<&str> = [TOWN].into_iter().chain(texts.iter().copied()).collect();
    let compiled = seen_by(&workload("reviews-v1-1"), &texts);
    [
        told(at_workload(&compiled)),
        told(&compiled.snapshot.metrics.clients),
    ]
}

#[test]
fn without_a_telemetry_everything_is_told_as_istio_does() {
    assert_eq!(both(&[]), ["", ""]);
}

#[test]
fn overrides_apply_in_order_to_one_metric_or_all_on_the_side_that_they_name() {
    let root = telemetry(
        "istio-system",
        "mesh",
        "{metrics: [{providers: [{name: prometheus}], overrides: [
            {match: {metric: ALL_METRICS, mode: CLIENT}, disabled: true},
            {match: {metric: REQUEST_COUNT}, disabled: false, tagOverrides: {source_version: {operation: REMOVE}}},
            {match: {metric: RESPONSE_SIZE, mode: SERVER}, disabled: true}]}]}",
    );
    let [server, client] = both(&[&root]);
    assert_eq!(server, "REQUEST_COUNT -source_version;RESPONSE_SIZE off;");
    assert!(
        client.starts_with("REQUEST_COUNT -source_version;REQUEST_DURATION off;"),
        "{client}"
    );
    assert_eq!(client.matches(" off;").count(), 9);

    // A nearer one goes on from there.
    let near = telemetry(
        "default",
        "reviews",
        "{selector: {matchLabels: {app: reviews}}, metrics: [{overrides: [
            {match: {metric: RESPONSE_SIZE}, disabled: false, tagOverrides: {
                who: {value: \"downstream_peer.workload\"}, source_app: {operation: UPSERT, value: \"'x'\"}}}]}]}",
    );
    let [server, client] = both(&[&root, &near]);
    assert_eq!(
        server,
        "REQUEST_COUNT -source_version;RESPONSE_SIZE source_app=\"'x'\";RESPONSE_SIZE who=\"downstream_peer.workload\";"
    );
    assert_eq!(client.matches(" off;").count(), 8);
    let elsewhere = telemetry("other", "t", "{metrics: [{overrides: [{disabled: true}]}]}");
    assert_eq!(both(&[&elsewhere]), ["", ""]);
}

#[test]
fn a_waypoint_speaks_as_a_server_and_for_each_service_by_what_targets_it() {
    let wide = telemetry(
        "default",
        "wide",
        "{metrics: [{overrides: [{match: {metric: REQUEST_SIZE, mode: SERVER}, disabled: true}]}]}",
    );
    let near = telemetry(
        "default",
        "near",
        "{targetRefs: [{group: '', kind: Service, name: reviews}], metrics: [{overrides: [
            {match: {metric: REQUEST_SIZE, mode: CLIENT}, disabled: false},
            {match: {metric: REQUEST_COUNT, mode: SERVER}, tagOverrides: {verb: {value: request.method}}}]}]}",
    );
    let compiled = seen_by(&gateway("default", "waypoint"), &[TOWN, BOUND, &wide, &near]);
    let place = |host: &str| Place::Service {
        host: Host::parse(host).unwrap(),
        port: 9080,
    };
    let at = |host: &str| told(compiled.snapshot.metrics.servers.at(&place(host)));
    assert_eq!(
        at("reviews.default.svc.cluster.local"),
        "REQUEST_COUNT verb=\"request.method\";REQUEST_SIZE off;"
    );
    assert_eq!(at("ratings.default.svc.cluster.local"), "REQUEST_SIZE off;");
}

#[test]
fn providers_that_metrics_cannot_be_told_to_take_them_away() {
    let none = telemetry("default", "t", "{metrics: [{providers: [{name: stackdriver}]}]}");
    let [server, _] = both(&[&none]);
    assert_eq!(server.matches(" off;").count(), Metric::ALL.len());
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
                extensionProviders: [{name: stackdriver, prometheus: {}}]\n    defaultProviders: {metrics: [stackdriver]}\n";
    assert_eq!(both(&[&none, mesh]), ["", ""], "a name is only a name");
}

#[test]
fn what_has_no_effect_is_said_with_its_place() {
    let odd = telemetry(
        "default",
        "t",
        "{metrics: [{reportingInterval: 10s}, {reportingInterval: often}, {providers: [{name: nobody}], reportingInterval: 0s, overrides: [
            {match: {metric: REQUESTS}, disabled: true},
            {match: {customMetric: mine}, disabled: true},
            {match: {mode: BOTH}, disabled: true},
            {match: {metric: REQUEST_COUNT}, tagOverrides: {
                a-b: {value: request.method}, mine: {operation: REMOVE}, odd: {operation: DROP},
                source_app: {value: request.total_size}, theirs: {value: node.owner}}}]}]}",
    );
    let prometheus = odd.replace("name: nobody", "name: prometheus");
    let compiled = seen_by(&workload("reviews-v1-1"), &[TOWN, &odd]);
    let problems: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
    for words in [
        "spec.metrics[2].providers[0].name: there is no provider `nobody` that metrics can be told to",
        "spec.metrics[1].reportingInterval: `often` is not a duration",
        "spec.metrics[2].reportingInterval: connections are counted as their bytes pass, not at their end",
        "spec.metrics[2].overrides[0].match.metric: `REQUESTS` is no metric",
        "spec.metrics[2].overrides[1].match.customMetric: there is no metric `mine` here",
        "spec.metrics[2].overrides[2].match.mode: `BOTH` is no mode",
        "spec.metrics[2].overrides[3].tagOverrides.a-b: `a-b` is no name of a label",
        "spec.metrics[2].overrides[3].tagOverrides.mine: `mine` is none of Istio's labels",
        "spec.metrics[2].overrides[3].tagOverrides.odd: `DROP` is no operation",
        "tagOverrides.source_app: `request.total_size` is no attribute that is known here at character 1; the label is left out",
        "tagOverrides.theirs: `node.owner` is not known here at character 1; it has no effect",
    ] {
        assert!(
            problems.iter().any(|it| it.contains(words)),
            "{words}: {problems:#?}"
        );
    }
    assert_eq!(both(&[&prometheus]), ["REQUEST_COUNT -source_app;"; 2]);
}
