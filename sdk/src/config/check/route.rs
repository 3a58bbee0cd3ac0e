//! What the schemas of HTTPRoute, GRPCRoute, TCPRoute and TLSRoute (Gateway API v1.6) forbid and nothing here depends on.
//!
//! Such a route means something, and is carried out; but a cluster's API server would refuse it, so whoever writes it
//! is told. What means nothing is for whoever compiles the route to refuse.

use std::collections::BTreeSet;

use super::{Faults, is_dns};
use crate::config::gateway::{
    ConnectionRouteRule, GRPCRoute, HTTPBackendRef, HTTPHeader, HTTPHeaderFilter, HTTPRoute, HTTPRouteFilter,
    HTTPValueMatch, ParentRef, TCPRoute, TLSRoute,
};
use crate::matcher::HostPattern;

/// The largest weight.
const WEIGHT: u32 = 1_000_000;

pub(super) fn http(route: &HTTPRoute, faults: &mut Faults) {
    let spec = &route.spec;
    common(&spec.parent_refs, &spec.hostnames, spec.rules.len(), faults);
    names(spec.rules.iter().map(|rule| rule.name.as_deref()), faults);
    let matches = spec.rules.iter().map(|rule| rule.matches.len());
    total(matches.sum(), faults);
    for (index, rule) in spec.rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        at_most(64, rule.matches.len(), format!("{at}.matches"), faults);
        for (index, it) in rule.matches.iter().enumerate() {
            let at = format!("{at}.matches[{index}]");
            values(&it.headers, format!("{at}.headers"), faults);
            values(&it.query_params, format!("{at}.queryParams"), faults);
            let path = it.path.as_ref().and_then(|path| path.value.as_deref());
            if path.is_some_and(|path| path.len() > 1_024) {
                faults.warning(
                    format!("{at}.path.value"),
                    "longer than 1,024 bytes, which a cluster refuses",
                    "match a shorter prefix",
                );
            }
        }
        filters(&rule.filters, &at, faults);
        backends(&rule.backend_refs, &at, faults);
    }
}

pub(super) fn grpc(route: &GRPCRoute, faults: &mut Faults) {
    let spec = &route.spec;
    common(&spec.parent_refs, &spec.hostnames, spec.rules.len(), faults);
    names(spec.rules.iter().map(|rule| rule.name.as_deref()), faults);
    let matches = spec.rules.iter().map(|rule| rule.matches.len());
    total(matches.sum(), faults);
    for (index, rule) in spec.rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        at_most(64, rule.matches.len(), format!("{at}.matches"), faults);
        for (index, it) in rule.matches.iter().enumerate() {
            values(&it.headers, format!("{at}.matches[{index}].headers"), faults);
        }
        filters(&rule.filters, &at, faults);
        backends(&rule.backend_refs, &at, faults);
    }
}

pub(super) fn tcp(route: &TCPRoute, faults: &mut Faults) {
    let spec = &route.spec;
    parents(&spec.parent_refs, faults);
    connections(&spec.rules, faults);
}

pub(super) fn tls(route: &TLSRoute, faults: &mut Faults) {
    let spec = &route.spec;
    parents(&spec.parent_refs, faults);
    at_most(1_024, spec.hostnames.len(), "spec.hostnames".to_owned(), faults);
    if spec.hostnames.is_empty() {
        faults.warning(
            "spec.hostnames",
            "no host name, which a cluster refuses; the route takes every TLS connection",
            "name the servers, as `*.example.com` if there are many",
        );
    }
    for (index, host) in spec.hostnames.iter().enumerate() {
        if host.parse::<std::net::IpAddr>().is_ok() {
            faults.warning(
                format!("spec.hostnames[{index}]"),
                "an address, which no client asks for by SNI (RFC 6066 §3)",
                "write a name",
            );
        }
    }
    connections(&spec.rules, faults);
}

/// One rule, since there is nothing by which connections could be told apart.
fn connections(rules: &[ConnectionRouteRule], faults: &mut Faults) {
    at_most(1, rules.len(), "spec.rules".to_owned(), faults);
    names(rules.iter().map(|rule| rule.name.as_deref()), faults);
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{index}].backendRefs");
        at_most(16, rule.backend_refs.len(), at.clone(), faults);
        for (index, backend) in rule.backend_refs.iter().enumerate() {
            weight(backend.weight, &format!("{at}[{index}]"), faults);
        }
    }
}

fn common(parent_refs: &[ParentRef], hostnames: &[String], rules: usize, faults: &mut Faults) {
    parents(parent_refs, faults);
    at_most(16, hostnames.len(), "spec.hostnames".to_owned(), faults);
    self::hostnames(hostnames, faults);
    at_most(16, rules, "spec.rules".to_owned(), faults);
}

/// Names, or `*.` before one: of no other text there is a host that could be asked for.
fn hostnames(hostnames: &[String], faults: &mut Faults) {
    for (index, text) in hostnames.iter().enumerate() {
        let at = format!("spec.hostnames[{index}]");
        match HostPattern::parse(text) {
            Err(error) => faults.warning(
                at,
                format!(
                    "`{}` is no host name ({error}); it is left out",
                    text.escape_debug()
                ),
                "write a name without a port, or `*.` before one",
            ),
            Ok(HostPattern::Any) => faults.warning(
                at,
                format!("`{text}` is every host, which a cluster refuses here"),
                "remove the list",
            ),
            Ok(_) if text.parse::<std::net::IpAddr>().is_ok() => {
                faults.warning(at, "an address, which a cluster refuses", "write a name");
            }
            Ok(_) => {}
        }
    }
}

fn parents(parents: &[ParentRef], faults: &mut Faults) {
    at_most(32, parents.len(), "spec.parentRefs".to_owned(), faults);
    let mut seen = BTreeSet::new();
    for (index, it) in parents.iter().enumerate() {
        let parent = (
            &it.group,
            &it.kind,
            &it.namespace,
            &it.name,
            &it.section_name,
            it.port,
        );
        if !seen.insert(parent) {
            faults.warning(
                format!("spec.parentRefs[{index}]"),
                "the same parent twice, which a cluster refuses",
                "remove one, or tell them apart by sectionName or port",
            );
        }
    }
}

/// Names of rules are unique, so that they can stand for them.
fn names<'r>(names: impl Iterator<Item = Option<&'r str>>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        if let Some(name) = name
            && !seen.insert(name)
        {
            faults.warning(
                format!("spec.rules[{index}].name"),
                format!("`{name}` is the name of an earlier rule, which a cluster refuses"),
                "give every rule a name of its own",
            );
        }
        if let Some(name) = name.filter(|it| !is_dns(it, 253, true)) {
            faults.warning(
                format!("spec.rules[{index}].name"),
                format!(
                    "`{}` is no name of a rule, which a cluster refuses",
                    name.escape_debug()
                ),
                "use lower-case letters, digits and dashes",
            );
        }
    }
}

fn total(matches: usize, faults: &mut Faults) {
    if matches > 128 {
        faults.warning(
            "spec.rules",
            format!("{matches} matches in all; a cluster takes 128"),
            "make several routes of it",
        );
    }
}

fn values(values: &[HTTPValueMatch], at: String, faults: &mut Faults) {
    for (index, it) in values.iter().enumerate() {
        if it.name.is_empty() {
            faults.warning(
                format!("{at}[{index}].name"),
                "no name, which a cluster refuses",
                "name it",
            );
        }
        if it.value.is_empty() {
            faults.warning(
                format!("{at}[{index}].value"),
                "no value, which a cluster refuses; it is compared with nothing",
                "write the value, or `.*` with type RegularExpression for any",
            );
        }
    }
    at_most(16, values.len(), at, faults);
}

fn filters(filters: &[HTTPRouteFilter], at: &str, faults: &mut Faults) {
    at_most(16, filters.len(), format!("{at}.filters"), faults);
    for (index, filter) in filters.iter().enumerate() {
        let at = format!("{at}.filters[{index}]");
        for (field, edits) in [
            ("requestHeaderModifier", &filter.request_header_modifier),
            ("responseHeaderModifier", &filter.response_header_modifier),
        ] {
            if let Some(HTTPHeaderFilter { set, add, remove }) = edits {
                for (list, headers) in [("set", set), ("add", add)] {
                    let blank = |(_, it): &(usize, &HTTPHeader)| it.value.is_empty();
                    for (index, _) in headers.iter().enumerate().filter(blank) {
                        faults.warning(
                            format!("{at}.{field}.{list}[{index}].value"),
                            "no value, which a cluster refuses; the header is sent without one",
                            "write the value, or put the name into `remove`",
                        );
                    }
                }
                for (list, count) in [("set", set.len()), ("add", add.len()), ("remove", remove.len())] {
                    at_most(16, count, format!("{at}.{field}.{list}"), faults);
                }
            }
        }
        if let Some(cors) = &filter.cors {
            for (list, most, count) in [
                ("allowOrigins", 64, cors.allow_origins.len()),
                ("allowMethods", 9, cors.allow_methods.len()),
                ("allowHeaders", 64, cors.allow_headers.len()),
                ("exposeHeaders", 64, cors.expose_headers.len()),
            ] {
                at_most(most, count, format!("{at}.cors.{list}"), faults);
            }
        }
    }
}

fn backends(backends: &[HTTPBackendRef], at: &str, faults: &mut Faults) {
    at_most(16, backends.len(), format!("{at}.backendRefs"), faults);
    for (index, backend) in backends.iter().enumerate() {
        let at = format!("{at}.backendRefs[{index}]");
        weight(backend.weight, &at, faults);
        filters(&backend.filters, &at, faults);
    }
}

fn weight(weight: u32, at: &str, faults: &mut Faults) {
    if weight > WEIGHT {
        faults.warning(
            format!("{at}.weight"),
            format!("{weight} is more than {WEIGHT}, which a cluster refuses"),
            "divide all weights of the rule",
        );
    }
}

fn at_most(most: usize, count: usize, field: String, faults: &mut Faults) {
    if count > most {
        faults.warning(
            field,
            format!("{count} entries; a cluster takes {most}"),
            "make several rules or routes of it",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(spec: &str) -> Vec<String> {
        let route = HTTPRoute {
            spec: serde_saphyr::from_str(spec).unwrap(),
            ..HTTPRoute::default()
        };
        let mut faults = Faults::default();
        http(&route, &mut faults);
        faults.0.into_iter().map(|fault| fault.field).collect()
    }

    fn times(count: usize, item: &str) -> String {
        vec![item; count].join(", ")
    }

    #[test]
    fn what_a_cluster_would_refuse_is_told() {
        let rule = |rule: String| format!("rules: [{{{rule}}}]");
        let table = [
            (format!("rules: [{}]", times(17, "{}")), "spec.rules"),
            (format!("hostnames: [{}]", times(17, "a.com")), "spec.hostnames"),
            (
                "parentRefs: [{name: a}, {name: a}]".to_owned(),
                "spec.parentRefs[1]",
            ),
            (
                "rules: [{name: a}, {name: b}, {name: a}]".to_owned(),
                "spec.rules[2].name",
            ),
            (
                rule(format!("matches: [{}]", times(65, "{}"))),
                "spec.rules[0].matches",
            ),
            (
                format!(
                    "rules: [{}]",
                    times(3, &format!("{{matches: [{}]}}", times(43, "{}")))
                ),
                "spec.rules",
            ),
            (
                rule(format!(
                    "matches: [{{headers: [{}]}}]",
                    times(17, "{name: a, value: b}")
                )),
                "spec.rules[0].matches[0].headers",
            ),
            (
                rule(format!("matches: [{{path: {{value: /{}}}}}]", "x".repeat(1_024))),
                "spec.rules[0].matches[0].path.value",
            ),
            (
                rule(format!("backendRefs: [{}]", times(17, "{name: a}"))),
                "spec.rules[0].backendRefs",
            ),
            (
                rule("backendRefs: [{name: a, weight: 1000001}]".to_owned()),
                "spec.rules[0].backendRefs[0].weight",
            ),
            (
                rule(format!(
                    "backendRefs: [{{filters: [{{requestHeaderModifier: {{remove: [{}]}}}}]}}]",
                    times(17, "a")
                )),
                "spec.rules[0].backendRefs[0].filters[0].requestHeaderModifier.remove",
            ),
            (
                rule(format!(
                    "filters: [{{cors: {{allowMethods: [{}]}}}}]",
                    times(10, "GET")
                )),
                "spec.rules[0].filters[0].cors.allowMethods",
            ),
        ];
        for (spec, field) in table {
            assert_eq!(warnings(&spec), [field], "{spec}");
        }
    }

    #[test]
    fn what_a_cluster_would_refuse_of_connection_routes_is_told() {
        let told = |spec: &str| {
            let route = TLSRoute {
                spec: serde_saphyr::from_str(spec).unwrap(),
                ..TLSRoute::default()
            };
            let mut faults = Faults::default();
            tls(&route, &mut faults);
            faults.0.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
        };
        let backends = |count| {
            format!(
                "hostnames: [a.b]\nrules: [{{backendRefs: [{}]}}]",
                times(count, "{name: a}")
            )
        };
        assert_eq!(told(&backends(16)), [""; 0]);
        assert_eq!(told(&backends(17)), ["spec.rules[0].backendRefs"]);
        assert_eq!(told("rules: [{}]"), ["spec.hostnames"]);
        assert_eq!(told("hostnames: [a.b, 10.0.0.1]"), ["spec.hostnames[1]"]);
        assert_eq!(told("hostnames: [a.b]\nrules: [{}, {}]"), ["spec.rules"]);
        assert_eq!(
            told("hostnames: [a.b]\nrules: [{backendRefs: [{name: a, weight: 1000001}]}]"),
            ["spec.rules[0].backendRefs[0].weight"]
        );
        let mut faults = Faults::default();
        let route = TCPRoute {
            spec: serde_saphyr::from_str("parentRefs: [{name: a}, {name: a}]\nrules: [{}, {}]").unwrap(),
            ..TCPRoute::default()
        };
        tcp(&route, &mut faults);
        let fields: Vec<_> = faults.0.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["spec.parentRefs[1]", "spec.rules"]);
    }

    #[test]
    fn what_is_left_blank_is_told() {
        let table = [
            (
                "rules: [{matches: [{headers: [{name: a}]}]}]",
                "spec.rules[0].matches[0].headers[0].value",
            ),
            (
                "rules: [{matches: [{queryParams: [{value: a}]}]}]",
                "spec.rules[0].matches[0].queryParams[0].name",
            ),
            (
                "rules: [{filters: [{requestHeaderModifier: {add: [{name: a, value: b}, {name: c}]}}]}]",
                "spec.rules[0].filters[0].requestHeaderModifier.add[1].value",
            ),
            ("rules: [{name: One}]", "spec.rules[0].name"),
            ("hostnames: [a.b, 'c.d:80']", "spec.hostnames[1]"),
            ("hostnames: ['a.*.b']", "spec.hostnames[0]"),
            ("hostnames: ['*']", "spec.hostnames[0]"),
            ("hostnames: [10.0.0.1]", "spec.hostnames[0]"),
        ];
        for (spec, field) in table {
            assert_eq!(warnings(spec), [field], "{spec}");
        }
    }

    #[test]
    fn what_a_cluster_takes_is_not() {
        let spec = format!(
            "parentRefs: [{{name: a, port: 1}}, {{name: a, port: 2}}]\nrules: [{}]",
            times(16, "{backendRefs: [{name: a, weight: 1000000}]}")
        );
        assert_eq!(warnings(&spec), [""; 0]);
    }
}
