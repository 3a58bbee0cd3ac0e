//! What routes and policies of services say about traffic: as in `fields`, no field is passed over in silence, none is missing
//! from the guide, and none can be added to a shape without a row here.

use std::collections::BTreeSet;

use super::fields::{declared_by, is_named};
use super::kit::{store, workload};
use super::traffic::PLACES;
use crate::compile::{Handover, compile};
use crate::config::yaml;

/// A field, with what it needs beside it, and the same without it or with another value.
type Row = (&'static str, &'static str, &'static str);

/// Of a route of a VirtualService.
const VIRTUAL_SERVICE: &[Row] = &[
    ("timeout", "timeout: 3s", ""),
    ("retries.attempts", "retries: {attempts: 7}", ""),
    (
        "retries.perTryTimeout",
        "retries: {attempts: 2, perTryTimeout: 1s}",
        "retries: {attempts: 2}",
    ),
    (
        "retries.retryOn",
        "retries: {attempts: 2, retryOn: reset}",
        "retries: {attempts: 2}",
    ),
    (
        "retries.retryRemoteLocalities",
        "retries: {attempts: 2, retryRemoteLocalities: true}",
        "retries: {attempts: 2}",
    ),
    (
        "retries.retryIgnorePreviousHosts",
        "retries: {attempts: 2, retryIgnorePreviousHosts: false}",
        "retries: {attempts: 2}",
    ),
    (
        "retries.backoff",
        "retries: {attempts: 2, backoff: 1s}",
        "retries: {attempts: 2}",
    ),
    (
        "fault.delay.fixedDelay",
        "fault: {delay: {fixedDelay: 3s, percentage: {value: 5}}}",
        "fault: {delay: {fixedDelay: 4s, percentage: {value: 5}}}",
    ),
    (
        "fault.delay.percentage.value",
        "fault: {delay: {fixedDelay: 3s, percentage: {value: 5}}}",
        "fault: {delay: {fixedDelay: 3s, percentage: {value: 6}}}",
    ),
    (
        "fault.delay.percent",
        "fault: {delay: {fixedDelay: 3s, percent: 5}}",
        "fault: {delay: {fixedDelay: 3s}}",
    ),
    (
        "fault.delay.exponentialDelay",
        "fault: {delay: {exponentialDelay: 3s, percentage: {value: 5}}}",
        "",
    ),
    (
        "fault.abort.httpStatus",
        "fault: {abort: {httpStatus: 500, percentage: {value: 5}}}",
        "fault: {abort: {httpStatus: 501, percentage: {value: 5}}}",
    ),
    (
        "fault.abort.grpcStatus",
        "fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 5}}}",
        "fault: {abort: {grpcStatus: INTERNAL, percentage: {value: 5}}}",
    ),
    (
        "fault.abort.http2Error",
        "fault: {abort: {http2Error: INTERNAL_ERROR, percentage: {value: 5}}}",
        "",
    ),
    (
        "fault.abort.percentage.value",
        "fault: {abort: {httpStatus: 500, percentage: {value: 5}}}",
        "fault: {abort: {httpStatus: 500, percentage: {value: 6}}}",
    ),
    ("mirror", "mirror: {host: near}", ""),
    (
        "mirrorPercent",
        "mirror: {host: near}, mirrorPercent: 5",
        "mirror: {host: near}",
    ),
    (
        "mirrorPercentage.value",
        "mirror: {host: near}, mirrorPercentage: {value: 5}",
        "mirror: {host: near}",
    ),
    (
        "mirrors.destination",
        "mirrors: [{destination: {host: near}}]",
        "",
    ),
    (
        "mirrors.percentage.value",
        "mirrors: [{destination: {host: near}, percentage: {value: 5}}]",
        "mirrors: [{destination: {host: near}}]",
    ),
    (
        "corsPolicy.allowOrigin",
        "corsPolicy: {allowOrigin: ['https://a']}",
        "corsPolicy: {allowOrigins: []}",
    ),
    (
        "corsPolicy.allowOrigins",
        "corsPolicy: {allowOrigins: [{prefix: 'https://a'}]}",
        "corsPolicy: {allowOrigins: [{exact: 'https://a'}]}",
    ),
    (
        "corsPolicy.allowMethods",
        "corsPolicy: {allowOrigins: [{exact: a}], allowMethods: [GET]}",
        "corsPolicy: {allowOrigins: [{exact: a}]}",
    ),
    (
        "corsPolicy.allowHeaders",
        "corsPolicy: {allowOrigins: [{exact: a}], allowHeaders: [x]}",
        "corsPolicy: {allowOrigins: [{exact: a}]}",
    ),
    (
        "corsPolicy.exposeHeaders",
        "corsPolicy: {allowOrigins: [{exact: a}], exposeHeaders: [x]}",
        "corsPolicy: {allowOrigins: [{exact: a}]}",
    ),
    (
        "corsPolicy.maxAge",
        "corsPolicy: {allowOrigins: [{exact: a}], maxAge: 9s}",
        "corsPolicy: {allowOrigins: [{exact: a}]}",
    ),
    (
        "corsPolicy.allowCredentials",
        "corsPolicy: {allowOrigins: [{exact: a}], allowCredentials: true}",
        "corsPolicy: {allowOrigins: [{exact: a}]}",
    ),
    (
        "corsPolicy.unmatchedPreflights",
        "corsPolicy: {allowOrigins: [{exact: a}], unmatchedPreflights: IGNORE}",
        "corsPolicy: {allowOrigins: [{exact: a}]}",
    ),
];

/// Of a rule of an HTTPRoute.
const HTTP_ROUTE: &[Row] = &[
    ("retry.attempts", "retry: {attempts: 7}", "retry: {}"),
    ("retry.codes", "retry: {codes: [500]}", "retry: {}"),
    ("retry.backoff", "retry: {backoff: 1s}", "retry: {}"),
    ("timeouts.request", "timeouts: {request: 3s}", ""),
    (
        "timeouts.backendRequest",
        "timeouts: {request: 3s, backendRequest: 1s}, retry: {}",
        "timeouts: {request: 3s}, retry: {}",
    ),
    (
        "sessionPersistence.sessionName",
        "sessionPersistence: {sessionName: a}",
        "sessionPersistence: {sessionName: b}",
    ),
    (
        "sessionPersistence.type",
        "sessionPersistence: {type: Header}",
        "sessionPersistence: {type: Cookie}",
    ),
    (
        "sessionPersistence.absoluteTimeout",
        "sessionPersistence: {sessionName: a, absoluteTimeout: 9s}",
        "sessionPersistence: {sessionName: a}",
    ),
    (
        "sessionPersistence.idleTimeout",
        "sessionPersistence: {sessionName: a, idleTimeout: 9s}",
        "sessionPersistence: {sessionName: a}",
    ),
    (
        "sessionPersistence.cookieConfig.lifetimeType",
        "sessionPersistence: {sessionName: a, absoluteTimeout: 9s, cookieConfig: {lifetimeType: Permanent}}",
        "sessionPersistence: {sessionName: a, absoluteTimeout: 9s}",
    ),
    (
        "sessionPersistence.cookie.name",
        "sessionPersistence: {cookie: {name: a}}",
        "sessionPersistence: {cookie: {name: b}}",
    ),
    (
        "sessionPersistence.cookie.path",
        "sessionPersistence: {cookie: {name: a, path: /p}}",
        "sessionPersistence: {cookie: {name: a}}",
    ),
    (
        "sessionPersistence.header.name",
        "sessionPersistence: {type: Header, header: {name: x-a}}",
        "sessionPersistence: {type: Header, header: {name: x-b}}",
    ),
];

/// Of an XBackendTrafficPolicy.
const BACKEND: &[Row] = &[
    (
        "retryConstraint.budget.percent",
        "retryConstraint: {budget: {percent: 50}}",
        "retryConstraint: {budget: {}}",
    ),
    (
        "retryConstraint.budget.interval",
        "retryConstraint: {budget: {interval: 9s}}",
        "retryConstraint: {budget: {}}",
    ),
    (
        "retryConstraint.minRetryRate.count",
        "retryConstraint: {minRetryRate: {count: 7, interval: 1s}}",
        "retryConstraint: {minRetryRate: {count: 8, interval: 1s}}",
    ),
    (
        "retryConstraint.minRetryRate.interval",
        "retryConstraint: {minRetryRate: {count: 7, interval: 2s}}",
        "retryConstraint: {minRetryRate: {count: 7, interval: 1s}}",
    ),
    (
        "sessionPersistence.sessionName",
        "sessionPersistence: {sessionName: a}",
        "",
    ),
];

/// Every table, the resource that a row of it is part of, and the shapes that it answers for.
type Table = (
    &'static [Row],
    fn(&str) -> String,
    &'static str,
    &'static [&'static str],
);

const TABLES: &[Table] = &[
    (
        VIRTUAL_SERVICE,
        |field| {
            let more = if field.is_empty() { "" } else { ", " };
            format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: near, namespace: default}}\n\
                 spec: {{hosts: [near], http: [{{{field}{more}route: [{{destination: {{host: near}}}}]}}]}}\n"
            )
        },
        include_str!("../../config/istio/virtual_service.rs"),
        &[
            "HTTPRetry",
            "HTTPFaultInjection",
            "FaultDelay",
            "FaultAbort",
            "HTTPMirrorPolicy",
            "Percent",
            "CorsPolicy",
        ],
    ),
    (
        HTTP_ROUTE,
        |field| {
            let more = if field.is_empty() { "" } else { ", " };
            format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: near, namespace: default}}\n\
                 spec: {{parentRefs: [{{group: '', kind: Service, name: near}}], \
                 rules: [{{{field}{more}backendRefs: [{{name: near, port: 80}}]}}]}}\n"
            )
        },
        include_str!("../../config/gateway/http_route.rs"),
        &[
            "HTTPRouteTimeouts",
            "HTTPRouteRetry",
            "SessionPersistence",
            "CookieConfig",
            "HeaderConfig",
        ],
    ),
    (
        BACKEND,
        |field| {
            format!(
                "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
                 metadata: {{name: near, namespace: default}}\n\
                 spec: {{targetRefs: [{{group: '', kind: Service, name: near}}], {field}}}\n"
            )
        },
        include_str!("../../config/gateway/backend_traffic_policy.rs"),
        &["RetryConstraint", "BudgetDetails", "RequestRate"],
    ),
];

/// What a caller of `near` does under such a resource, and what is told of it.
fn outcome(resource: &str) -> (String, Vec<String>) {
    let read = yaml::read("near.yaml", resource, None);
    let mut store = store(&[PLACES]);
    read.entries.into_iter().for_each(|it| store.apply(it));
    let compiled = compile(&store, &workload("productpage-1"), &Handover::default(), None);
    let port = compiled.port("near:80");
    let rules: Vec<_> = port.routes.rules().collect();
    let set = &compiled.cluster("near:80").endpoints;
    let told = read.problems.iter().chain(&compiled.problems);
    (
        format!("{rules:?} {:?} {:?}", port.session, set.policy()),
        told.filter(|it| it.resource.is_some())
            .map(ToString::to_string)
            .collect(),
    )
}

#[test]
fn every_field_of_a_route_about_traffic_changes_something_or_is_told() {
    let mut silent = Vec::new();
    for (rows, resource, ..) in TABLES {
        for (field, with, without) in *rows {
            let ((before, _), (after, told)) = (outcome(&resource(without)), outcome(&resource(with)));
            let is_told = field
                .split('.')
                .any(|part| told.iter().any(|it| it.contains(part)));
            if before == after && !is_told {
                silent.push(*field);
            }
        }
    }
    assert!(silent.is_empty(), "no effect, and nobody says so: {silent:#?}");
}

#[test]
fn every_field_that_these_shapes_declare_has_a_row() {
    for (rows, _, source, shapes) in TABLES {
        let declared = declared_by(source, |name| shapes.contains(&name));
        assert!(declared.len() > 2, "have the shapes moved? {shapes:?}");
        let known: BTreeSet<&str> = rows.iter().flat_map(|(field, ..)| field.split('.')).collect();
        // Rust's word for `type`.
        let missing: Vec<_> = declared
            .iter()
            .filter(|it| !known.contains(it.as_str()) && *it != "kind")
            .collect();
        assert!(missing.is_empty(), "no row for {missing:?}");
    }
}

#[test]
fn the_guide_has_a_row_for_every_field_of_a_route() {
    let page = include_str!("../../docs/traffic.md");
    let rows = TABLES.iter().flat_map(|(rows, ..)| *rows);
    let missing: BTreeSet<_> = rows
        .map(|(field, ..)| field.strip_suffix(".value").unwrap_or(field))
        .filter(|field| !is_named(page, field))
        .collect();
    assert!(missing.is_empty(), "the table says nothing of {missing:#?}");
}

/// Annotations are no shapes: their names stand in one place.
#[test]
fn the_guide_names_every_annotation_of_ours() {
    let names = include_str!("../labels.rs");
    let ours = names
        .split('"')
        .filter(|it| it.starts_with("inmesh") && !it.ends_with('/'));
    let pages = [
        include_str!("../../docs/traffic.md"),
        include_str!("../../docs/enforcement.md"),
        include_str!("../../docs/tracing.md"),
        include_str!("../../docs/live-view.md"),
    ]
    .concat();
    let missing: Vec<_> = ours.filter(|it| !pages.contains(*it)).collect();
    assert!(missing.is_empty(), "no page says anything of {missing:?}");
}
