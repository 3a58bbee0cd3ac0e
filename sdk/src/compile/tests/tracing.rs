use std::sync::Arc;
use std::time::Duration;

use super::kit::{mesh, places, seen_by_both, telemetry};
use crate::compile::Compiled;
use crate::telemetry::recording::{Keep, SpanProtocol, TracePlan, Tracing};
use crate::telemetry::{Formats, Propagation};

const PROVIDERS: &str = "
extensionProviders:
- name: otel
  opentelemetry: {service: otel.observability.svc.cluster.local, port: 4317}
- name: posted
  opentelemetry:
    service: observability/otel
    port: 4318
    maxTagLength: 64
    http: {path: /v1/traces, timeout: 3s, headers: [{name: x-tenant, value: shop}]}
    serviceAttributeEnrichment: OTEL_SEMANTIC_CONVENTIONS
- name: zipkin
  zipkin: {service: zipkin.observability.svc.cluster.local, port: 9411}
- name: both
  zipkin: {service: zipkin.observability.svc.cluster.local, port: 9411, traceContextOption: USE_B3_WITH_W3C_PROPAGATION}
";

fn at_workload(compiled: &Compiled) -> Arc<TracePlan> {
    let [workload, _] = places();
    Arc::clone(compiled.snapshot.traces.received.at(&workload))
}

fn at_waypoint(compiled: &Compiled) -> Arc<TracePlan> {
    let [_, waypoint] = places();
    Arc::clone(compiled.snapshot.traces.received.at(&waypoint))
}

fn both(texts: &[&str]) -> [Arc<TracePlan>; 2] {
    let [workload, waypoint] = seen_by_both(texts);
    [at_workload(&workload), at_waypoint(&waypoint)]
}

fn provider(plan: &TracePlan) -> &str {
    plan.outlet.as_ref().map_or("", |outlet| &outlet.target.name)
}

#[test]
fn nothing_is_done_unless_somebody_asks() {
    for texts in [&[][..], &[&*mesh(PROVIDERS)]] {
        for plan in both(texts) {
            assert_eq!(plan.tracing, Tracing::Unasked);
        }
    }
    let default = mesh(&format!("{PROVIDERS}defaultProviders: {{tracing: [otel]}}"));
    for plan in both(&[&default]) {
        assert_eq!((plan.tracing, provider(&plan)), (Tracing::Recorded, "otel"));
        // Istio's one per cent.
        assert_eq!((plan.sampling.share, plan.sampling.by_request_id), (100, true));
    }
    // Without a provider decisions are made and handed on, and no span goes anywhere.
    let all = telemetry(
        "istio-system",
        "all",
        "{tracing: [{randomSamplingPercentage: 100}]}",
    );
    for plan in both(&[&all]) {
        assert_eq!(
            (plan.tracing, provider(&plan), plan.sampling.share),
            (Tracing::Recorded, "", 10_000)
        );
    }
}

#[test]
fn a_nearer_telemetry_counts_field_by_field_and_replaces_providers_and_tags() {
    let mesh = mesh(PROVIDERS);
    let root = telemetry(
        "istio-system",
        "all",
        "{tracing: [{providers: [{name: otel}], randomSamplingPercentage: 25, customTags: {a: {literal: {value: '1'}}, b: {literal: {value: '2'}}}}]}",
    );
    let near = |spec: &str| telemetry("default", "near", spec);
    for plan in both(&[&mesh, &root]) {
        assert_eq!(
            (provider(&plan), plan.sampling.share, plan.tags.len()),
            ("otel", 2_500, 2)
        );
    }
    for plan in both(&[
        &mesh,
        &root,
        &near("{tracing: [{randomSamplingPercentage: 0.01}]}"),
    ]) {
        assert_eq!(
            (provider(&plan), plan.sampling.share, plan.tags.len()),
            ("otel", 1, 2)
        );
    }
    let other = near("{tracing: [{providers: [{name: zipkin}], customTags: {c: {header: {name: x-c}}}}]}");
    for plan in both(&[&mesh, &root, &other]) {
        assert_eq!((provider(&plan), plan.sampling.share), ("zipkin", 2_500));
        let names: Vec<_> = plan.tags.iter().map(|tag| tag.name()).collect();
        assert_eq!(names, ["c"]);
        assert!(plan.wanted.request.iter().any(|name| name == "x-c"));
    }
    for plan in both(&[&mesh, &root, &near("{tracing: [{disableSpanReporting: true}]}")]) {
        assert_eq!(plan.tracing, Tracing::Silent);
        assert_eq!(
            plan.propagation.write,
            Formats::default(),
            "headers pass as they are"
        );
    }
    for plan in both(&[
        &mesh,
        &root,
        &near("{tracing: [{disableContextPropagation: true, useRequestIdForTraceSampling: false}]}"),
    ]) {
        assert_eq!(plan.tracing, Tracing::Recorded);
        assert_eq!(plan.propagation.write, Formats::default());
        assert!(!plan.sampling.by_request_id);
    }
}

#[test]
fn what_targets_a_workload_or_a_service_is_for_that_alone() {
    let mesh = mesh(PROVIDERS);
    let selected = telemetry(
        "default",
        "selected",
        "{selector: {matchLabels: {app: reviews}}, tracing: [{providers: [{name: otel}]}]}",
    );
    let [workload, waypoint] = both(&[&mesh, &selected]);
    assert_eq!((provider(&workload), provider(&waypoint)), ("otel", ""));
    let targeted = telemetry(
        "default",
        "targeted",
        "{targetRefs: [{group: '', kind: Service, name: reviews}], tracing: [{providers: [{name: otel}]}]}",
    );
    let [_, waypoint] = both(&[&mesh, &targeted]);
    assert_eq!(provider(&waypoint), "otel");
}

#[test]
fn a_mode_tells_what_is_received_from_what_is_sent() {
    let mesh = mesh(PROVIDERS);
    for (mode, received, sent) in [
        ("SERVER", "otel", ""),
        ("CLIENT", "", "otel"),
        ("CLIENT_AND_SERVER", "otel", "otel"),
    ] {
        let spec = format!("{{tracing: [{{match: {{mode: {mode}}}, providers: [{{name: otel}}]}}]}}");
        let [workload, waypoint] = seen_by_both(&[&mesh, &telemetry("default", "all", &spec)]);
        assert_eq!(provider(&at_workload(&workload)), received, "{mode}");
        assert_eq!(provider(&workload.snapshot.traces.sent), sent, "{mode}");
        assert_eq!(provider(&at_waypoint(&waypoint)), received, "{mode}");
        // A waypoint has one span of a request.
        assert_eq!(waypoint.snapshot.traces.sent.tracing, Tracing::Unasked);
    }
}

#[test]
fn providers_are_read_with_all_that_they_say() {
    let of = |name: &str| {
        let spec = format!("{{tracing: [{{providers: [{{name: {name}}}]}}]}}");
        both(&[&mesh(PROVIDERS), &telemetry("default", "all", &spec)])
    };
    let [workload, waypoint] = of("otel");
    let target = &workload.outlet.as_ref().unwrap().target;
    assert_eq!(target.protocol, SpanProtocol::Grpc);
    assert_eq!(
        (&*target.host, target.port),
        ("otel.observability.svc.cluster.local", 4317)
    );
    assert_eq!(target.timeout, Duration::from_secs(10));
    let name = |plan: &TracePlan| {
        let resource = &plan.outlet.as_ref().unwrap().target.resource;
        let found = resource.iter().find(|(key, _)| &**key == "service.name");
        found.map(|(_, value)| value.to_string()).unwrap_or_default()
    };
    assert_eq!(name(&workload), "reviews.default");
    assert!(name(&waypoint).ends_with(".default"), "{}", name(&waypoint));

    let [workload, _] = of("posted");
    let target = &workload.outlet.as_ref().unwrap().target;
    assert_eq!(
        (target.protocol, &*target.path),
        (SpanProtocol::Http, "/v1/traces")
    );
    assert_eq!(
        (&*target.host, target.timeout),
        ("otel.observability.svc.cluster.local", Duration::from_secs(3))
    );
    assert_eq!(target.headers[0].1, "shop");
    assert!(
        !format!("{:?}", target.headers).contains("shop"),
        "it may be a key"
    );
    assert_eq!(workload.longest, 64);

    let [workload, _] = of("zipkin");
    let target = &workload.outlet.as_ref().unwrap().target;
    assert_eq!(
        (target.protocol, &*target.path),
        (SpanProtocol::Zipkin, "/api/v2/spans")
    );
    assert_eq!(workload.propagation, Propagation::zipkin(false));
    let [workload, _] = of("both");
    assert_eq!(workload.propagation, Propagation::zipkin(true));
}

#[test]
fn proxies_defaults_count_where_no_telemetry_says_otherwise() {
    let mesh = mesh(&format!(
        "{PROVIDERS}defaultProviders: {{tracing: [otel]}}\ndefaultConfig: {{tracing: {{sampling: 42.5, maxPathTagLength: 99, enableIstioTags: false, customTags: {{zone: {{literal: {{value: a}}}}}}}}}}"
    ));
    for plan in both(&[&mesh]) {
        assert_eq!(
            (plan.sampling.share, plan.longest, plan.tags.len()),
            (4_250, 99, 1)
        );
        assert!(plan.own.iter().all(|(name, _)| !name.starts_with("istio.")));
        assert!(plan.own.iter().any(|(name, _)| &**name == "node_id"));
    }
    let near = telemetry(
        "default",
        "near",
        "{tracing: [{randomSamplingPercentage: 0, enableIstioTags: true}]}",
    );
    for plan in both(&[&mesh, &near]) {
        assert_eq!((provider(&plan), plan.sampling.share), ("otel", 0));
        assert!(
            plan.own
                .iter()
                .any(|(name, _)| &**name == "istio.canonical_service")
        );
    }
}

#[test]
fn an_annotation_says_which_traces_are_kept() {
    let mesh = mesh(&format!("{PROVIDERS}defaultProviders: {{tracing: [otel]}}"));
    let kept = |text: &str| {
        let telemetry = telemetry("default", "kept", "{tracing: [{}]}").replace(
            "namespace: default}",
            &format!("namespace: default, annotations: {{inmesh.io/keep-traces: '{text}'}}}}"),
        );
        let [workload, _] = seen_by_both(&[&mesh, &telemetry]);
        let problems: Vec<String> = workload.problems.iter().map(ToString::to_string).collect();
        let problems = problems
            .into_iter()
            .filter(|it| it.contains("keep-traces"))
            .count();
        (at_workload(&workload).keep, problems)
    };
    let all = Keep {
        slow: Some(Duration::from_millis(500)),
        failed: true,
        denied: true,
    };
    assert_eq!(kept("failed, denied,slow=500ms"), (Some(all), 0));
    assert_eq!(kept(""), (None, 0));
    for odd in ["quick", "slow", "slow=soon", "failed=1"] {
        assert_eq!(kept(odd), (None, 1), "{odd}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let mesh = mesh(
        "extensionProviders:
- name: old
  lightstep: {service: lightstep, port: 9411}
- name: odd
  opentelemetry: {service: otel.default.svc.cluster.local, port: 0}
- name: secret
  opentelemetry: {service: otel.default.svc.cluster.local, port: 1, grpc: {initialMetadata: [{name: x-key}]}}
defaultProviders: {tracing: [none, odd]}
defaultConfig: {tracing: {sampling: 101, zipkin: {address: 'zipkin:9411'}}}
",
    );
    let telemetry = telemetry(
        "default",
        "odd",
        "{tracing: [{providers: [{name: nobody}, {name: odd}], randomSamplingPercentage: 200, match: {mode: SIDEWAYS}, \
          customTags: {none: {}, two: {literal: {value: a}, header: {name: b}}, form: {formatter: {value: '%NOPE%'}}, head: {header: {name: 'a b'}}}}]}",
    );
    let [workload, _] = seen_by_both(&[&mesh, &telemetry]);
    let problems: Vec<String> = workload.problems.iter().map(ToString::to_string).collect();
    let problems = problems.join("\n");
    for words in [
        "extensionProviders[0].lightstep",
        "no spans go to `odd`: port",
        "no spans go to `secret`: header x-key has either a value or an envName",
        "there is no provider `none`",
        "101 is no percentage, so it counts as 1.0",
        "defaultConfig.tracing.zipkin",
        "there is no provider `nobody`",
        "of several providers of traces the first counts",
        "200 is no percentage",
        "`SIDEWAYS` is no mode",
        "customTags.none",
        "customTags.two",
        "customTags.form",
        "customTags.head",
    ] {
        assert!(problems.contains(words), "{words} in\n{problems}");
    }
}
