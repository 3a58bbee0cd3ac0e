//! What is refused, field by field.

use crate::config::Severity;
use crate::config::yaml::read;

/// The fields that are refused.
fn refused(spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: a, namespace: shop}}\nspec: {spec}\n"
    );
    let parsed = read("a.yaml", &text, None);
    let mut fields: Vec<_> = parsed
        .problems
        .into_iter()
        .filter(|it| it.severity == Severity::Error)
        .map(|it| it.field)
        .collect();
    assert_eq!(parsed.entries.is_empty(), !fields.is_empty(), "{spec}");
    fields.sort();
    fields
}

/// A VirtualService with this one HTTP route.
fn route(route: &str) -> Vec<String> {
    refused(&format!("{{hosts: [a], http: [{route}]}}"))
        .into_iter()
        .map(|it| it.replace("spec.http[0]", ""))
        .collect()
}

const TO: &str = "route: [{destination: {host: a}}]";

#[test]
fn what_istio_refuses_of_the_whole_is_refused_with_its_field() {
    let http = format!("http: [{{{TO}}}]");
    for (spec, expected) in [
        (format!("{{hosts: [a], {http}}}"), &[][..]),
        (
            format!("{{hosts: ['*.a.com', b.com], gateways: [mesh, gw, ns/gw], {http}}}"),
            &[],
        ),
        (format!("{{hosts: ['*'], gateways: [gw], {http}}}"), &[]),
        (format!("{{{http}}}"), &[]),
        (format!("{{gateways: [gw], {http}}}"), &["spec.gateways"]),
        ("{hosts: [a]}".into(), &["spec"]),
        (format!("{{hosts: ['*'], {http}}}"), &["spec.hosts[0]"]),
        (
            format!("{{hosts: ['*'], gateways: [gw, mesh], {http}}}"),
            &["spec.hosts[0]"],
        ),
        (format!("{{hosts: [a, a], {http}}}"), &["spec.hosts[1]"]),
        (format!("{{hosts: ['*.com', a.com], {http}}}"), &["spec.hosts[1]"]),
        (format!("{{hosts: ['a b'], {http}}}"), &["spec.hosts[0]"]),
        (
            format!("{{hosts: [a], gateways: ['a/b/c', '/x'], {http}}}"),
            &["spec.gateways[0]", "spec.gateways[1]"],
        ),
        (
            "{hosts: [a], tcp: [{match: [{port: 1}]}]}".into(),
            &["spec.tcp[0].route"],
        ),
        (
            format!("{{hosts: [a], tls: [{{match: [{{sniHosts: [b]}}], {TO}}}]}}"),
            &["spec.tls[0].match[0].sniHosts[0]"],
        ),
        (
            format!("{{hosts: ['*.a.com'], tls: [{{match: [{{sniHosts: [b.a.com]}}], {TO}}}]}}"),
            &[],
        ),
        (
            format!("{{hosts: [a], tcp: [{{match: [{{destinationSubnets: [x]}}], {TO}}}]}}"),
            &["spec.tcp[0].match[0].destinationSubnets[0]"],
        ),
    ] {
        assert_eq!(refused(&spec), expected, "{spec}");
    }
}

#[test]
fn what_istio_refuses_of_a_route_is_refused_with_its_field() {
    for (text, expected) in [
        ("{}".to_owned(), &[""][..]),
        (format!("{{{TO}, timeout: 0s}}"), &[".timeout"]),
        (format!("{{{TO}, timeout: 1.5s}}"), &[]),
        (format!("{{{TO}, redirect: {{uri: /x}}}}"), &[".route"]),
        ("{redirect: {uri: /x}, rewrite: {uri: /y}}".into(), &[".rewrite"]),
        ("{redirect: {}}".into(), &[".redirect"]),
        (
            "{redirect: {uri: /x, redirectCode: 200}}".into(),
            &[".redirect.redirectCode"],
        ),
        ("{redirect: {uri: /x, redirectCode: 304}}".into(), &[]),
        (
            "{match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /x}}".into(),
            &[".redirect.prefixRewrite"],
        ),
        (
            "{directResponse: {status: 99}}".into(),
            &[".directResponse.status"],
        ),
        (
            "{directResponse: {status: 503, body: {string: a, bytes: YQ==}}}".into(),
            &[".directResponse.body"],
        ),
        ("{delegate: {name: b}}".into(), &[]),
        (format!("{{delegate: {{name: b}}, {TO}}}"), &[".route"]),
        (format!("{{{TO}, rewrite: {{}}}}"), &[".rewrite"]),
        (
            format!("{{{TO}, rewrite: {{uri: /a, uriRegexRewrite: {{match: '[', rewrite: b}}}}}}"),
            &[".rewrite.uriRegexRewrite", ".rewrite.uriRegexRewrite.match"],
        ),
        (
            format!("{{{TO}, match: [{{uri: {{regex: '('}}}}]}}"),
            &[".match[0].uri.regex"],
        ),
        (format!("{{{TO}, match: [{{uri: {{prefix: ''}}}}]}}"), &[]),
        (
            format!("{{{TO}, match: [{{method: {{prefix: ''}}}}]}}"),
            &[".match[0].method.prefix"],
        ),
        (
            format!("{{{TO}, match: [{{uri: {{exact: /a, prefix: /b}}}}]}}"),
            &[".match[0].uri"],
        ),
        (
            format!("{{{TO}, match: [{{headers: {{x: {{}}, y: {{regex: '*'}}}}}}]}}"),
            &[],
        ),
        (
            format!("{{{TO}, match: [{{headers: {{'a b': {{}}}}}}]}}"),
            &[".match[0].headers.a b"],
        ),
        (
            format!("{{{TO}, match: [{{headers: {{'@request.auth.claims.x': {{}}}}}}]}}"),
            &[".match[0].headers.@request.auth.claims.x"],
        ),
        (
            format!("{{{TO}, headers: {{request: {{set: {{host: b}}, add: {{':authority': c}}}}}}}}"),
            &[".headers.request"],
        ),
        (
            format!("{{{TO}, headers: {{response: {{set: {{host: b}}}}}}}}"),
            &[".headers.response.set.host"],
        ),
        (
            format!("{{{TO}, headers: {{request: {{remove: [host]}}}}}}"),
            &[".headers.request.remove[0]"],
        ),
        (
            format!("{{{TO}, retries: {{attempts: 0, perTryTimeout: 1s}}}}"),
            &[".retries.attempts"],
        ),
        (
            format!("{{{TO}, fault: {{abort: {{httpStatus: 100}}}}}}"),
            &[".fault.abort.httpStatus"],
        ),
        (
            format!("{{{TO}, fault: {{abort: {{grpcStatus: BAD}}}}}}"),
            &[".fault.abort.grpcStatus"],
        ),
        (
            format!("{{{TO}, fault: {{delay: {{fixedDelay: 7s, percentage: {{value: 100.5}}}}}}}}"),
            &[".fault.delay.percentage.value"],
        ),
        (
            format!("{{{TO}, fault: {{delay: {{exponentialDelay: 1s}}}}}}"),
            &[".fault.delay.exponentialDelay"],
        ),
        (
            format!("{{{TO}, fault: {{abort: {{http2Error: INTERNAL_ERROR}}}}}}"),
            &[".fault.abort.http2Error"],
        ),
        (
            format!("{{{TO}, mirror: {{host: b}}, mirrors: [{{destination: {{host: c}}}}]}}"),
            &[".mirror"],
        ),
        (
            format!("{{{TO}, corsPolicy: {{allowMethods: [get], maxAge: 1.5s}}}}"),
            &[".corsPolicy.allowMethods[0]", ".corsPolicy.maxAge"],
        ),
        (
            "{route: [{destination: {host: a}}, {destination: {host: b}}]}".into(),
            &[".route"],
        ),
        ("{route: [{weight: 1}]}".into(), &[".route[0].destination"]),
        (
            "{route: [{destination: {host: a, subset: 'v_1', port: {number: 0}}}]}".into(),
            &[
                ".route[0].destination.port.number",
                ".route[0].destination.subset",
            ],
        ),
    ] {
        assert_eq!(route(&text), expected, "{text}");
    }
}
