//! Every reason that a status can give, each by a small text that is given it.

use super::kit::*;
use crate::compile::Compiled;

/// A resource of Gateway API in `default`.
fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: default}}
spec: {spec}
"
    )
}

/// A route `r` to Service `reviews` with these rules.
fn rules(rules: &str) -> String {
    resource(
        "HTTPRoute",
        "r",
        &format!("{{parentRefs: [{{group: '', kind: Service, name: reviews}}], rules: [{rules}]}}"),
    )
}

/// One rule with this in it, to a backend that is there.
fn rule(more: &str) -> String {
    rules(&format!(
        "{{{more}, backendRefs: [{{name: reviews, port: 9080}}]}}"
    ))
}

/// A policy `p` of `default`.
fn policy(spec: &str) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, namespace: default}}
spec: {spec}
"
    )
}

/// `type=status reason` of everything that is said of a resource, whoever says it.
fn said(seen: &Compiled, resource: &str) -> Vec<String> {
    let of = seen
        .statuses
        .iter()
        .find(|it| it.resource.to_string() == resource);
    let of = of.unwrap_or_else(|| panic!("nothing is said of {resource}"));
    of.all()
        .map(|(_, it)| format!("{}={} {}", it.kind, it.status, it.reason))
        .collect()
}

/// Each text beside what must be said of a resource in it.
fn expect(table: &[(&str, String, &str)]) {
    for (resource, text, expected) in table {
        let seen = caller(&[TOWN, text]);
        let said = said(&seen, resource);
        assert!(
            said.iter().any(|it| it == expected),
            "{resource}: {expected} is not in {said:?}\n{text}"
        );
    }
}

const GOOD_RULE: &str = "{backendRefs: [{name: reviews, port: 9080}]}";

#[test]
fn of_routes_to_services() {
    let route = "HTTPRoute default/r";
    let refused = |more: &str, reason: &'static str| (route, rule(more), reason);
    expect(&[
        (route, rules(GOOD_RULE), "Accepted=true Accepted"),
        (route, rules(GOOD_RULE), "ResolvedRefs=true ResolvedRefs"),
        (
            route,
            rules(GOOD_RULE),
            "ResolvedWaypoints=true ResolvedWaypoints",
        ),
        // Values that mean nothing.
        refused("filters: [{type: Bogus}]", "Accepted=false UnsupportedValue"),
        refused(
            "matches: [{path: {type: Glob, value: /a}}]",
            "Accepted=false UnsupportedValue",
        ),
        refused(
            "matches: [{headers: [{type: Fuzzy, name: a, value: b}]}]",
            "Accepted=false UnsupportedValue",
        ),
        refused(
            "filters: [{type: RequestRedirect, requestRedirect: {scheme: gopher}}]",
            "Accepted=false UnsupportedValue",
        ),
        refused(
            "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 299}}]",
            "Accepted=false UnsupportedValue",
        ),
        refused(
            "filters: [{type: ExternalAuth, externalAuth: {protocol: TELNET, backendRef: {name: reviews, port: 9080}}}]",
            "Accepted=false UnsupportedValue",
        ),
        refused(
            "sessionPersistence: {type: Memory}",
            "Accepted=false UnsupportedValue",
        ),
        refused(
            "matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]",
            "Accepted=false UnsupportedValue",
        ),
        // Filters that do not go together, or that nobody here knows.
        refused(
            "filters: [{type: URLRewrite, urlRewrite: {hostname: a}}, {type: RequestRedirect, requestRedirect: {hostname: b}}]",
            "Accepted=false IncompatibleFilters",
        ),
        refused(
            "filters: [{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: b}}]",
            "Accepted=false IncompatibleFilters",
        ),
        refused(
            "filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: f}}]",
            "Accepted=false IncompatibleFilters",
        ),
        // Some rules only: those are dropped, and nobody need wonder about the others.
        (
            route,
            rules(&format!("{{filters: [{{type: Bogus}}]}}, {GOOD_RULE}")),
            "PartiallyInvalid=true UnsupportedValue",
        ),
        (
            route,
            rules(&format!("{{filters: [{{type: Bogus}}]}}, {GOOD_RULE}")),
            "Accepted=true Accepted",
        ),
        // What it refers to.
        (
            route,
            rules("{backendRefs: [{name: nobody, port: 1}]}"),
            "ResolvedRefs=false BackendNotFound",
        ),
        (
            route,
            rules("{backendRefs: [{name: reviews, port: 1}]}"),
            "ResolvedRefs=false BackendNotFound",
        ),
        (
            route,
            rules("{backendRefs: [{group: example.com, kind: Thing, name: a, port: 1}]}"),
            "ResolvedRefs=false InvalidKind",
        ),
        (
            route,
            rules("{backendRefs: [{name: nobody, port: 1}]}"),
            "Accepted=true Accepted",
        ),
        // Where it attaches.
        (
            route,
            rules(GOOD_RULE).replace("name: reviews}]", "name: nobody}]"),
            "Accepted=false NoMatchingParent",
        ),
        (
            route,
            rules(GOOD_RULE).replace("kind: Service", "kind: Secret"),
            "Accepted=false InvalidKind",
        ),
    ]);
    let seen = caller(&[
        TOWN,
        &rules(&format!("{{filters: [{{type: Bogus}}]}}, {GOOD_RULE}")),
    ]);
    let partial = seen.condition(route, "PartiallyInvalid").unwrap();
    assert!(
        partial.message.starts_with("Dropped Rule 0 (UnsupportedValue: "),
        "{}",
        partial.message
    );
    assert!(
        !said(&caller(&[TOWN, &rules(GOOD_RULE)]), route)
            .iter()
            .any(|it| it.starts_with("Partially"))
    );
}

/// A Gateway `g` with these listeners.
fn gateway_with(listeners: &str) -> String {
    resource(
        "Gateway",
        "g",
        &format!("{{gatewayClassName: istio, listeners: [{listeners}]}}"),
    )
}

const HTTP: &str = "{name: web, port: 80, protocol: HTTP, hostname: '*.example.com'}";

#[test]
fn of_gateways_and_what_attaches_to_them() {
    let (gateway, route) = ("Gateway default/g", "HTTPRoute default/r");
    let attached = |parent: &str, more: &str| {
        let route = resource(
            "HTTPRoute",
            "r",
            &format!("{{parentRefs: [{{name: g{parent}}}], {more}, rules: [{GOOD_RULE}]}}"),
        );
        format!("{}---{route}", gateway_with(HTTP))
    };
    let grpc = resource(
        "GRPCRoute",
        "s",
        "{parentRefs: [{name: g}], hostnames: [a.example.com], rules: [{backendRefs: [{name: reviews, port: 9080}]}]}",
    );
    let far = "{parentRefs: [{name: g}], hostnames: [a.example.com], rules: [{backendRefs: [{name: far, namespace: other, port: 1}]}]}";
    expect(&[
        (
            route,
            attached("", "hostnames: [a.example.com]"),
            "Accepted=true Accepted",
        ),
        (
            route,
            attached("", "hostnames: [a.example.org]"),
            "Accepted=false NoMatchingListenerHostname",
        ),
        (
            route,
            attached(", port: 81", "hostnames: []"),
            "Accepted=false NoMatchingParent",
        ),
        (
            route,
            attached("", "hostnames: [a.example.com]").replace(
                "protocol: HTTP,",
                "protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]},",
            ),
            "Accepted=false NotAllowedByListeners",
        ),
        (
            "GRPCRoute default/s",
            format!("{}---{grpc}", attached("", "hostnames: [a.example.com]")),
            "Accepted=false HostnameConflict",
        ),
        (
            route,
            format!("{}---{}", gateway_with(HTTP), resource("HTTPRoute", "r", far)),
            "ResolvedRefs=false RefNotPermitted",
        ),
        (gateway, gateway_with(HTTP), "Accepted=true Accepted"),
        (gateway, gateway_with(HTTP), "Programmed=false AddressNotAssigned"),
        (
            gateway,
            gateway_with("{name: a, port: 80, protocol: UDP}"),
            "Accepted=false ListenersNotValid",
        ),
        (
            gateway,
            gateway_with("{name: a, port: 80, protocol: UDP}"),
            "Accepted=false UnsupportedProtocol",
        ),
        (
            gateway,
            gateway_with(&format!("{HTTP}, {{name: a, port: 81, protocol: UDP}}")),
            "Accepted=true ListenersNotValid",
        ),
        (
            gateway,
            gateway_with("{name: a, port: 15008, protocol: HTTP}"),
            "Accepted=false PortUnavailable",
        ),
        (
            gateway,
            gateway_with("{name: a, port: 80, protocol: TLS, tls: {mode: Sideways}}"),
            "Accepted=false UnsupportedValue",
        ),
        (
            gateway,
            gateway_with(&format!(
                "{HTTP}, {{name: b, port: 80, protocol: HTTP, hostname: '*.example.com'}}"
            )),
            "Conflicted=true HostnameConflict",
        ),
        (
            gateway,
            gateway_with(&format!("{HTTP}, {{name: b, port: 80, protocol: TCP}}")),
            "Conflicted=true ProtocolConflict",
        ),
        (gateway, gateway_with(HTTP), "Conflicted=false NoConflicts"),
        (
            gateway,
            gateway_with("{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}"),
            "ResolvedRefs=false InvalidCertificateRef",
        ),
        (
            gateway,
            gateway_with(
                "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none, namespace: other}]}}",
            ),
            "ResolvedRefs=false RefNotPermitted",
        ),
        (
            gateway,
            gateway_with("{name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: TCPRoute}]}}"),
            "ResolvedRefs=false InvalidRouteKinds",
        ),
        (
            gateway,
            gateway_with(HTTP).replace(
                "{gatewayClassName",
                "{infrastructure: {parametersRef: {group: a, kind: B, name: c}}, gatewayClassName",
            ),
            "Accepted=false InvalidParameters",
        ),
        (
            gateway,
            gateway_with(HTTP).replace(
                "{gatewayClassName",
                "{addresses: [{type: Hostname, value: a.b}], gatewayClassName",
            ),
            "Accepted=false UnsupportedAddress",
        ),
        (
            "GatewayClass c",
            "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: c}
spec: {controllerName: example.com/c, parametersRef: {group: a, kind: B, name: c}}
"
            .to_owned(),
            "Accepted=false InvalidParameters",
        ),
    ]);
    // A rule that cannot be carried out attaches nothing.
    let seen = caller(&[
        TOWN,
        &attached("", "hostnames: [a.example.com]")
            .replace("{backendRefs", "{filters: [{type: Bogus}], backendRefs"),
    ]);
    let status = seen
        .statuses
        .iter()
        .find(|it| it.resource.to_string() == gateway)
        .unwrap();
    assert_eq!(status.listeners[0].attached_routes, 0);
}

#[test]
fn of_policies() {
    let name = "AuthorizationPolicy default/p";
    let targets = |names: &str, more: &str| {
        let refs: Vec<String> = names
            .split(' ')
            .map(|it| format!("{{group: '', kind: Service, name: {it}}}"))
            .collect();
        policy(&format!("{{targetRefs: [{}]{more}}}", refs.join(", ")))
    };
    let bound = |text: String| format!("{text}---{BOUND}");
    let untargeted = |spec: &str, expected| (name, policy(spec), expected);
    expect(&[
        (
            name,
            bound(targets("reviews", "")),
            "WaypointAccepted=true Accepted",
        ),
        (
            name,
            targets("reviews", ""),
            "WaypointAccepted=false AncestorNotBound",
        ),
        (
            name,
            bound(targets("nobody", "")),
            "WaypointAccepted=false TargetNotFound",
        ),
        (
            name,
            bound(targets("reviews nobody", "")),
            "WaypointAccepted=true PartiallyInvalid",
        ),
        (
            name,
            targets("reviews nobody", ""),
            "WaypointAccepted=false TargetNotFound",
        ),
        (
            name,
            bound(targets("reviews", ", action: DENY")),
            "WaypointAccepted=false Invalid",
        ),
        untargeted("{}", "ZtunnelAccepted=true Accepted"),
        untargeted(
            "{rules: [{from: [{source: {principals: [a]}}], to: [{operation: {ports: ['80']}}], when: [{key: source.ip, values: [10.0.0.0/8]}]}]}",
            "ZtunnelAccepted=true Accepted",
        ),
        untargeted(
            "{rules: [{to: [{operation: {methods: [GET]}}]}]}",
            "ZtunnelAccepted=true UnsupportedValue",
        ),
        untargeted(
            "{rules: [{from: [{source: {requestPrincipals: [a]}}]}]}",
            "ZtunnelAccepted=true UnsupportedValue",
        ),
        untargeted(
            "{rules: [{when: [{key: connection.sni, values: [a]}]}]}",
            "ZtunnelAccepted=true UnsupportedValue",
        ),
        untargeted(
            "{action: AUDIT, rules: [{}]}",
            "ZtunnelAccepted=false UnsupportedValue",
        ),
        (
            name,
            policy("{}").replace(
                "namespace: default}",
                "namespace: default, annotations: {istio.io/dry-run: 'true'}}",
            ),
            "ZtunnelAccepted=false UnsupportedValue",
        ),
        untargeted("{action: DENY}", "ZtunnelAccepted=false UnsupportedValue"),
    ]);
}

#[test]
fn of_what_waypoints_serve() {
    let service = |waypoint: &str| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: s, namespace: default, labels: {{istio.io/use-waypoint: {waypoint}}}}}
spec: {{selector: {{app: s}}, ports: [{{name: http, port: 80}}]}}
"
        )
    };
    let gateway = |more: &str| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: w, namespace: default{more}}}
spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}
"
        )
    };
    let entry = |host: &str, more: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: e, namespace: default{more}}}
spec: {{hosts: ['{host}'], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{{address: 10.1.0.1}}]}}
"
        )
    };
    let bound = ", labels: {istio.io/use-waypoint: waypoint}";
    expect(&[
        (
            "Service default/s",
            service("waypoint"),
            "istio.io/WaypointBound=true WaypointAccepted",
        ),
        (
            "Service default/s",
            service("nobody"),
            "istio.io/WaypointBound=false WaypointIsNotReady",
        ),
        (
            "Service default/s",
            format!(
                "{}---{}---{}",
                service("w"),
                gateway(", labels: {istio.io/waypoint-for: workload}"),
                "
apiVersion: v1
kind: Pod
metadata: {name: w-1, namespace: default, labels: {gateway.networking.k8s.io/gateway-name: w}}
spec: {serviceAccountName: w}
status: {phase: Running, podIP: 10.0.0.16, conditions: [{type: Ready, status: 'True'}]}
"
            ),
            "istio.io/WaypointBound=false UnsupportedTrafficType",
        ),
        (
            "ServiceEntry default/e",
            entry("*.example.com", ""),
            "istio.io/WaypointMissing=true WaypointMissing",
        ),
        (
            "ServiceEntry default/e",
            entry("*.example.com", bound),
            "istio.io/WaypointBound=true WaypointAccepted",
        ),
    ]);
    let seen = caller(&[TOWN, &entry("*.example.com", bound)]);
    assert!(
        seen.condition("ServiceEntry default/e", "istio.io/WaypointMissing")
            .is_none()
    );
    let seen = caller(&[TOWN, &entry("www.example.com", "")]);
    assert!(
        seen.condition("ServiceEntry default/e", "istio.io/WaypointMissing")
            .is_none()
    );
}
