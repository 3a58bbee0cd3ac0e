//! Rate limits as EnvoyFilters write them.

use super::kit::*;
use crate::compile::{Compiled, Handover, compile};
use crate::policy::limit::Criticality;
use crate::snapshot::{Context, LimiterKind};

const LOCAL: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// A filter of `namespace` with these patches; `spec` is what it says besides.
fn filter(namespace: &str, spec: &str, patches: &str) -> String {
    format!(
        "\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f, namespace: {namespace}}}\n\
         spec: {{{spec} configPatches: [{patches}]}}\n"
    )
}

fn local(context: &str, config: &str) -> String {
    format!(
        "{{applyTo: HTTP_FILTER, match: {{context: {context}}}, patch: {{operation: INSERT_BEFORE, value: {{name: l, typed_config: \
         {{'@type': type.googleapis.com/{LOCAL}, {config}}}}}}}}}"
    )
}

const BUCKET: &str = "token_bucket: {max_tokens: 2, fill_interval: 1s}, filter_enabled: {default_value: {numerator: 100}}, \
                      filter_enforced: {default_value: {numerator: 100}}";

fn labelled(text: &str) -> Compiled {
    let mut node = workload("caller");
    node.labels = [("app".to_owned(), "reviews".to_owned())].into();
    seen_by(&node, &[TOWN, text])
}

fn about_it(seen: &Compiled) -> Vec<String> {
    let all = seen.problems.iter().map(ToString::to_string);
    all.filter(|it| it.contains("EnvoyFilter")).collect()
}

#[test]
fn a_filter_applies_by_namespace_label_and_target() {
    let patch = local("SIDECAR_INBOUND", BUCKET);
    for (namespace, spec, count) in [
        ("default", "", 1),
        ("istio-system", "", 1),
        ("elsewhere", "", 0),
        ("default", "workloadSelector: {labels: {app: reviews}},", 1),
        ("default", "workloadSelector: {labels: {app: other}},", 0),
        ("istio-system", "workloadSelector: {labels: {app: reviews}},", 1),
        ("default", "targetRefs: [{kind: Service, name: reviews}],", 1),
        (
            "default",
            "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}],",
            0,
        ),
    ] {
        let seen = labelled(&filter(namespace, spec, &patch));
        assert_eq!(seen.snapshot.limits.limiters.len(), count, "{namespace} {spec}");
        assert_eq!(about_it(&seen), [""; 0]);
    }
    let text = filter(
        "default",
        "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}],",
        &patch,
    );
    let seen = seen_by(&gateway("default", "waypoint"), &[TOWN, &text]);
    assert_eq!(seen.snapshot.limits.limiters.len(), 1);
    assert_eq!(seen.snapshot.limits.limiters[0].0.context, Context::Inbound);
}

/// A Gateway serves before it knows its own Pod; a limit that may be meant for it is kept until it does.
#[test]
fn who_does_not_know_itself_counts_as_selected() {
    let patch = local("ANY", BUCKET);
    let text = filter("default", "workloadSelector: {labels: {app: front}},", &patch);
    let mut unknown = gateway("default", "waypoint");
    unknown.pod = Some("nobody".into());
    let seen = seen_by(&unknown, &[TOWN, &text]);
    assert_eq!(seen.snapshot.limits.limiters.len(), 1);
    assert!(about_it(&seen)[0].contains("our own Pod is not known"));
    let mut known = unknown;
    known.labels = [("app".to_owned(), "other".to_owned())].into();
    let seen = seen_by(&known, &[TOWN, &text]);
    assert_eq!(seen.snapshot.limits.limiters.len(), 0);
    assert_eq!(about_it(&seen), [""; 0]);
}

const ADAPTIVE: &str = "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency";

/// A filter with adaptive concurrency and annotations.
fn adaptive(annotations: &str, config: &str) -> Compiled {
    let patch = local("ANY", config).replace(LOCAL, ADAPTIVE);
    let annotated = format!("namespace: default, annotations: {{{annotations}}}");
    labelled(&filter("default", "", &patch).replace("namespace: default", &annotated))
}

#[test]
fn adaptive_concurrency_is_read_with_envoys_defaults() {
    let config = "gradient_controller_config: {concurrency_limit_params: {concurrency_update_interval: 0.1s}, \
                  min_rtt_calc_params: {interval: 30s}}";
    let seen = adaptive("inmesh.io/criticality-header: X-Criticality", config);
    assert_eq!(about_it(&seen), [""; 0]);
    let LimiterKind::Adaptive(shedding) = &seen.snapshot.limits.limiters[0].1.kind else {
        panic!("{:?}", seen.snapshot.limits);
    };
    let policy = shedding.policy();
    assert_eq!(policy.status, 503);
    assert_eq!(policy.importance.header.as_ref().unwrap(), "x-criticality");
    let gradient = &policy.gradient;
    assert_eq!((gradient.most, gradient.least, gradient.requests), (1_000, 3, 50));
    assert_eq!(
        (gradient.percentile, gradient.jitter, gradient.buffer),
        (0.5, 0.15, 0.25)
    );
    assert_eq!(gradient.measure_every.as_secs(), 30);
    let all = "gradient_controller_config: {sample_aggregate_percentile: {value: 90}, concurrency_limit_params: \
               {max_concurrency_limit: 100, concurrency_update_interval: 1s}, min_rtt_calc_params: {fixed_value: 0.01s, \
               request_count: 5, jitter: {value: 0}, min_concurrency: 7, buffer: {value: 10}}}, \
               concurrency_limit_exceeded_status: {code: 429}, enabled: {default_value: true, runtime_key: x}";
    let seen = adaptive("inmesh.io/criticality: sheddable-plus", all);
    assert_eq!(about_it(&seen), [""; 0]);
    let LimiterKind::Adaptive(shedding) = &seen.snapshot.limits.limiters[0].1.kind else {
        panic!("{:?}", seen.snapshot.limits);
    };
    let policy = shedding.policy();
    assert_eq!(policy.status, 429);
    assert_eq!(policy.importance.default, Criticality::SheddablePlus);
    let gradient = &policy.gradient;
    assert_eq!((gradient.most, gradient.least, gradient.requests), (100, 7, 5));
    assert_eq!(
        (gradient.percentile, gradient.jitter, gradient.buffer),
        (0.9, 0.0, 0.1)
    );
    assert_eq!(gradient.fixed_floor.unwrap().as_millis(), 10);
}

#[test]
fn half_of_adaptive_concurrency_is_refused() {
    let floor = "min_rtt_calc_params: {interval: 30s}";
    let limits = "concurrency_limit_params: {concurrency_update_interval: 0.1s}";
    for (annotations, config, part) in [
        (
            "",
            format!("gradient_controller_config: {{{limits}}}"),
            "min_rtt_calc_params",
        ),
        (
            "",
            format!("gradient_controller_config: {{{limits}, min_rtt_calc_params: {{}}}}"),
            "either an interval",
        ),
        (
            "",
            format!(
                "gradient_controller_config: {{{limits}, min_rtt_calc_params: {{interval: 1s, buffer: {{value: 101}}}}}}"
            ),
            "101 %",
        ),
        (
            "",
            format!(
                "gradient_controller_config: {{{limits}, min_rtt_calc_params: {{interval: 1s, min_concurrency: 0}}}}"
            ),
            "is 0",
        ),
        (
            "",
            format!("gradient_controller_config: {{{limits}, {floor}}}, more: 1"),
            "unknown field `more`",
        ),
        (
            "inmesh.io/criticality: urgent",
            format!("gradient_controller_config: {{{limits}, {floor}}}"),
            "`urgent` is none of",
        ),
        (
            "inmesh.io/criticality-header: 'a b'",
            format!("gradient_controller_config: {{{limits}, {floor}}}"),
            "is no header",
        ),
    ] {
        let seen = adaptive(annotations, &config);
        assert!(
            about_it(&seen).iter().any(|it| it.contains(part)),
            "{part}: {:?}",
            about_it(&seen)
        );
        assert!(seen.snapshot.limits.is_empty(), "{part}");
    }
    let off = adaptive(
        "",
        &format!("gradient_controller_config: {{{limits}, {floor}}}, enabled: {{default_value: false}}"),
    );
    assert!(about_it(&off)[0].contains("nothing is limited"));
    let astray = filter("default", "", &local("ANY", BUCKET)).replace(
        "namespace: default",
        "namespace: default, annotations: {inmesh.io/criticality: sheddable}",
    );
    assert!(about_it(&labelled(&astray))[0].contains("sheds nothing"));
}

#[test]
fn whatever_is_not_a_rate_limit_is_refused_and_so_is_half_of_one() {
    for (patch, part) in [
        ("{applyTo: LISTENER, patch: {operation: MERGE}}".to_owned(), "`LISTENER` is not supported"),
        (local("SIDECAR_OUTBOUND", BUCKET), "callers are not relied upon"),
        (local("ANY", "token_bucket: {max_tokens: 2, fill_interval: 10ms}"), "less than 50ms"),
        (local("ANY", "token_bucket: {max_tokens: 0, fill_interval: 1s}"), "holds or is given nothing"),
        (local("ANY", &format!("{BUCKET}, local_cluster_rate_limit: {{}}")), "unknown field `local_cluster_rate_limit`"),
        (local("ANY", &format!("{BUCKET}, status: {{code: 200}}")), "no status of a refusal"),
        (
            local("ANY", BUCKET).replace(LOCAL, "envoy.extensions.filters.http.wasm.v3.Wasm"),
            "wasm.v3.Wasm is not supported",
        ),
        (
            "{applyTo: VIRTUAL_HOST, patch: {operation: MERGE, value: {rate_limits: [{actions: [{metadata: {}}]}]}}}".to_owned(),
            "unknown field `metadata`",
        ),
        (
            "{applyTo: CLUSTER, patch: {operation: MERGE, value: {name: c}}}".to_owned(),
            "only clusters with one address",
        ),
    ] {
        let seen = labelled(&filter("default", "", &patch));
        assert!(about_it(&seen).iter().any(|it| it.contains(part)), "{part}: {:?}", about_it(&seen));
        assert!(seen.snapshot.limits.is_empty(), "{part}");
    }
    // Envoy does nothing unless it is told how often: whoever forgets is told.
    let silent = labelled(&filter(
        "default",
        "",
        &local("ANY", "token_bucket: {max_tokens: 2, fill_interval: 1s}"),
    ));
    assert!(
        about_it(&silent)
            .iter()
            .any(|it| it.contains("nothing is limited"))
    );
}

#[test]
fn both_spellings_and_typed_structs_are_read() {
    let camel = "tokenBucket: {maxTokens: 2, fillInterval: 1s}, filterEnabled: {defaultValue: {numerator: 100}}, \
                 filterEnforced: {defaultValue: {numerator: 100}}";
    let wrapped = format!(
        "{{applyTo: HTTP_FILTER, patch: {{operation: INSERT_BEFORE, value: {{name: l, typed_config: {{'@type': \
         type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/{LOCAL}, value: {{{BUCKET}}}}}}}}}}}"
    );
    for patch in [local("ANY", camel), wrapped] {
        let seen = labelled(&filter("default", "", &patch));
        assert_eq!(about_it(&seen), [""; 0]);
        assert!(
            matches!(&seen.snapshot.limits.limiters[0].1.kind, LimiterKind::Local(Some(limit)) if limit.policy().all.is_some())
        );
    }
}

#[test]
fn a_bucket_outlives_a_change_of_something_else() {
    let text = filter("default", "", &local("ANY", BUCKET));
    let mut node = workload("caller");
    node.labels = [("app".to_owned(), "reviews".to_owned())].into();
    let first = seen_by(&node, &[TOWN, &text]);
    let limit = |seen: &Compiled| match &seen.snapshot.limits.limiters[0].1.kind {
        LimiterKind::Local(Some(limit)) => std::sync::Arc::clone(limit),
        other => panic!("{other:?}"),
    };
    let next = |text: &str| {
        compile(
            &store(&[TOWN, BOUND, text]),
            &node,
            &Handover::default(),
            Some(&first.snapshot),
        )
    };
    assert!(std::sync::Arc::ptr_eq(&limit(&first), &limit(&next(&text))));
    let changed = next(&text.replace("max_tokens: 2", "max_tokens: 3"));
    assert!(!std::sync::Arc::ptr_eq(&limit(&first), &limit(&changed)));
}
