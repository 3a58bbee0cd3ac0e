//! Gateways, their listeners, and the routes that attach to them.

use super::kit::*;
use crate::compile::{Compiled, Handover, compile};
use crate::identity::dev_ca::DevCa;
use crate::snapshot::{ListenerView, Misfit};

/// The Gateway `front` of `default` with these listeners, its one instance, and a service to send to.
fn front(listeners: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: front, namespace: default, generation: 7}}
spec: {{gatewayClassName: istio, listeners: [{listeners}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: front-1, namespace: default, labels: {{gateway.networking.k8s.io/gateway-name: front}}}}
spec: {{serviceAccountName: front}}
status: {{phase: Running, podIP: 10.0.0.80, conditions: [{{type: Ready, status: 'True'}}]}}
"
    )
}

/// A route of `namespace` to Gateway `front`.
fn route(namespace: &str, name: &str, parent: &str, hostnames: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{name: front, namespace: default{parent}}}]
  hostnames: [{hostnames}]
  rules: [{{backendRefs: [{{name: reviews, namespace: default, port: 9080}}]}}]
"
    )
}

fn seen(texts: &[&str]) -> Compiled {
    let mut all = vec![TOWN];
    all.extend(texts);
    let node = crate::snapshot::Node {
        pod: Some("front-1".into()),
        ..gateway("default", "front")
    };
    seen_by(&node, &all)
}

/// `type=status reason` of a listener's conditions, one line.
fn listener(seen: &Compiled, name: &str) -> String {
    let status = seen
        .statuses
        .iter()
        .find(|it| it.resource.to_string() == "Gateway default/front");
    let said = status
        .unwrap()
        .listeners
        .iter()
        .find(|it| it.name == name)
        .unwrap();
    let mut words: Vec<String> = said
        .conditions
        .iter()
        .map(|it| format!("{}={} {}", it.kind, it.status, it.reason))
        .collect();
    words.push(format!("{} routes", said.attached_routes));
    words.join(", ")
}

const FINE: &str = "Accepted=true Accepted, Conflicted=false NoConflicts, ResolvedRefs=true ResolvedRefs, \
                    Programmed=true Programmed";

fn view<'s>(seen: &'s Compiled, name: &str) -> Option<&'s ListenerView> {
    seen.snapshot.gateway.listener(name).map(|it| &**it)
}

#[test]
fn a_gateway_is_programmed_where_it_has_an_instance() {
    let fine = seen(&[&front("{name: http, port: 80, protocol: HTTP}")]);
    assert_eq!(fine.problems, []);
    let status = fine
        .statuses
        .iter()
        .find(|it| it.resource.name.as_ref() == "front")
        .unwrap();
    let words: Vec<String> = status
        .conditions
        .iter()
        .map(|it| format!("{} {}", it.status, it.reason))
        .collect();
    assert_eq!(words, ["true Accepted", "true ResolvedRefs", "true Programmed"]);
    assert_eq!(status.addresses[0].value, "10.0.0.80");
    let mut generations = status.all().map(|(_, it)| it.observed_generation);
    assert!(generations.all(|it| it == Some(7)));
    assert_eq!(listener(&fine, "http"), format!("{FINE}, 0 routes"));

    let town = front("{name: http, port: 80, protocol: HTTP}").replace("'True'", "'False'");
    let down = caller(&[TOWN, &town]);
    assert_eq!(
        down.reason("Gateway default/front", "Programmed"),
        "AddressNotAssigned"
    );
    let own = crate::snapshot::Node {
        addr: Some([10, 0, 0, 99].into()),
        pod: None,
        ..gateway("default", "front")
    };
    let own = compile(&store(&[TOWN, &town]), &own, &Handover::default(), None);
    assert_eq!(
        own.reason("Gateway default/front", "Programmed"),
        "Programmed",
        "we are its instance"
    );
}

#[test]
fn listeners_that_cannot_be_told_apart_are_not_served() {
    let table = [
        // (the listeners, what is said of `a`)
        (
            "{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP, hostname: b.example}",
            None,
        ),
        (
            "{name: a, port: 80, protocol: HTTP}, {name: b, port: 81, protocol: HTTP}",
            None,
        ),
        (
            "{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}",
            Some("HostnameConflict"),
        ),
        (
            "{name: a, port: 80, protocol: HTTP, hostname: B.example}, {name: b, port: 80, protocol: HTTP, hostname: b.example}",
            Some("HostnameConflict"),
        ),
        (
            "{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTPS, hostname: b.example}",
            Some("ProtocolConflict"),
        ),
        // What is not served anyway stands in nobody's way.
        (
            "{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: UDP}",
            None,
        ),
    ];
    for (listeners, conflict) in table {
        let seen = seen(&[&front(&format!(
            "{listeners}, {{name: c, port: 90, protocol: HTTP}}"
        ))]);
        let said = listener(&seen, "a");
        match conflict {
            None => assert!(said.starts_with(FINE), "{listeners}: {said}"),
            Some(reason) => {
                assert!(
                    said.contains(&format!("Conflicted=true {reason}")),
                    "{listeners}: {said}"
                );
                assert!(
                    said.contains("Accepted=false") && said.contains("Programmed=false Invalid"),
                    "{said}"
                );
                assert!(view(&seen, "b").is_none(), "neither is the winner: {listeners}");
                assert_eq!(
                    seen.reason("Gateway default/front", "Accepted"),
                    "ListenersNotValid"
                );
                seen.problem(reason);
            }
        }
        assert_eq!(view(&seen, "a").is_some(), conflict.is_none(), "{listeners}");
        assert!(view(&seen, "c").is_some(), "others go on working");
        assert!(
            seen.condition("Gateway default/front", "Accepted")
                .unwrap()
                .status
        );
    }
}

#[test]
fn what_cannot_be_served_is_said_of_the_listener() {
    let table = [
        (
            "{name: a, port: 80, protocol: UDP}",
            "Accepted=false UnsupportedProtocol",
        ),
        (
            "{name: a, port: 15009, protocol: HBONE}",
            "Accepted=false UnsupportedProtocol",
        ),
        (
            "{name: a, port: 15008, protocol: HTTP}",
            "Accepted=false PortUnavailable",
        ),
        (
            "{name: a, port: 80, protocol: HTTP, hostname: 'a.*'}",
            "Accepted=false UnsupportedValue",
        ),
        (
            "{name: a, port: 443, protocol: HTTPS}",
            "ResolvedRefs=false InvalidCertificateRef",
        ),
        (
            "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}",
            "ResolvedRefs=false InvalidCertificateRef",
        ),
        (
            "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{kind: ConfigMap, name: cert}]}}",
            "ResolvedRefs=false InvalidCertificateRef",
        ),
        (
            "{name: a, port: 443, protocol: HTTPS, tls: {mode: Passthrough, certificateRefs: [{name: cert}]}}",
            "ResolvedRefs=false InvalidCertificateRef",
        ),
        (
            "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}], options: {gateway.istio.io/tls-terminate-mode: MUTUAL}}}",
            "ResolvedRefs=false InvalidCertificateRef",
        ),
    ];
    let cert = secret("default", "cert", &["a.example"]);
    for (written, said) in table {
        let seen = seen(&[
            &cert,
            &front(&format!("{written}, {{name: c, port: 90, protocol: HTTP}}")),
        ]);
        let words = listener(&seen, "a");
        assert!(
            words.contains(said) && words.contains("Programmed=false Invalid"),
            "{written}: {words}"
        );
        assert!(
            view(&seen, "a").is_none() && view(&seen, "c").is_some(),
            "{written}"
        );
        let reason = said.rsplit(' ').next().unwrap();
        seen.problem(reason);
    }
}

#[test]
fn kinds_that_cannot_attach_are_left_out() {
    let kinds = |kinds: &str| {
        let written = format!("{{name: a, port: 80, protocol: HTTP, allowedRoutes: {{kinds: [{kinds}]}}}}");
        let seen = seen(&[&front(&written), &route("default", "r", "", "")]);
        let status = seen
            .statuses
            .iter()
            .find(|it| it.resource.name.as_ref() == "front")
            .unwrap();
        let listener = &status.listeners[0];
        let kinds: Vec<String> = listener
            .supported_kinds
            .iter()
            .map(|it| it.kind.to_string())
            .collect();
        (
            kinds,
            listener.condition("ResolvedRefs").unwrap().reason.clone(),
            listener.attached_routes,
        )
    };
    assert_eq!(
        kinds("{kind: HTTPRoute}"),
        (vec!["HTTPRoute".into()], "ResolvedRefs".into(), 1)
    );
    assert_eq!(
        kinds("{kind: HTTPRoute}, {kind: Strange}"),
        (vec!["HTTPRoute".into()], "InvalidRouteKinds".into(), 1)
    );
    assert_eq!(kinds("{kind: Strange}"), (vec![], "InvalidRouteKinds".into(), 0));
    assert_eq!(
        kinds("{kind: HTTPRoute, group: other.example}"),
        (vec![], "InvalidRouteKinds".into(), 0)
    );
}

#[test]
fn a_certificate_of_another_namespace_needs_a_grant() {
    let grant = |from: &str, to: &str| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: g, namespace: safe}}
spec: {{from: [{from}], to: [{to}]}}
"
        )
    };
    let gateways = "{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}";
    let table = [
        (grant(gateways, "{group: '', kind: Secret}"), true),
        (grant(gateways, "{group: '', kind: Secret, name: cert}"), true),
        (grant(gateways, "{group: '', kind: Secret, name: other}"), false),
        (grant(gateways, "{group: '', kind: ConfigMap}"), false),
        (
            grant(&gateways.replace("default", "other"), "{group: '', kind: Secret}"),
            false,
        ),
        (
            grant(
                &gateways.replace("Gateway", "HTTPRoute"),
                "{group: '', kind: Secret}",
            ),
            false,
        ),
        (
            grant(
                &gateways.replace("gateway.networking.k8s.io", "networking.istio.io"),
                "{group: '', kind: Secret}",
            ),
            false,
        ),
    ];
    let cert = secret("safe", "cert", &["a.example"]);
    let front = front(
        "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert, namespace: safe}]}}",
    );
    for (grant, granted) in table {
        let seen = seen(&[&cert, &front, &grant]);
        assert_eq!(view(&seen, "a").is_some(), granted, "{grant}");
        let said = listener(&seen, "a");
        assert_eq!(
            said.contains("ResolvedRefs=false RefNotPermitted"),
            !granted,
            "{grant}: {said}"
        );
    }
    assert!(view(&seen(&[&cert, &front]), "a").is_none());
}

#[test]
fn malformed_certificates_are_said_without_showing_them() {
    let good = secret("default", "cert", &["a.example"]);
    let front = front("{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}");
    assert!(view(&seen(&[&good, &front]), "a").is_some());
    for bad in [
        good.replace("tls.crt", "tls.cert"),
        good.replace("tls.key", "tls.pem"),
        good.replace("BEGIN CERTIFICATE", "BEGIN NOTHING"),
        good.replace("PRIVATE KEY", "PUBLIC KEY"),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: default}\nstringData: {tls.crt: hello, tls.key: world}\n".to_owned(),
    ] {
        let seen = seen(&[&bad, &front]);
        assert!(view(&seen, "a").is_none());
        assert!(listener(&seen, "a").contains("ResolvedRefs=false InvalidCertificateRef"));
        let said = format!("{:?}", seen.problems);
        assert!(!said.contains("hello") && !said.contains("MII"), "{said}");
    }
}

#[test]
fn clients_may_have_to_prove_who_they_are() {
    let cert = secret("default", "cert", &["a.example"]);
    let root = DevCa::new_in_memory().unwrap();
    let root = root.root_pem().trim_end().replace('\n', "\n    ");
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: roots, namespace: default}}\ndata:\n  ca.crt: |\n    {root}\n"
    );
    let https = |port: u16| {
        format!(
            "{{name: p{port}, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}}}"
        )
    };
    let front = front(&format!("{}, {}", https(443), https(444)));
    let with = |validation: &str| {
        let tls = format!(
            "tls: {{frontend: {{default: {{validation: {{{validation}}}}}, perPort: [{{port: 444, tls: {{}}}}]}}}}, listeners"
        );
        seen(&[&cert, &map, &front.replacen("listeners", &tls, 1)])
    };
    let clients = |seen: &Compiled, name: &str| {
        let tls = view(seen, name)?.tls.clone()?;
        tls.clients.as_ref().map(|it| (it.roots.len(), it.optional))
    };
    let strict = with("caCertificateRefs: [{group: '', kind: ConfigMap, name: roots}]");
    assert_eq!(clients(&strict, "p443"), Some((1, false)));
    assert_eq!(clients(&strict, "p444"), None, "the port's own settings count");
    assert!(view(&strict, "p444").is_some());
    let lenient =
        with("caCertificateRefs: [{group: '', kind: ConfigMap, name: roots}], mode: AllowInsecureFallback");
    assert_eq!(clients(&lenient, "p443"), Some((1, true)));
    assert!(
        lenient
            .condition("Gateway default/front", "InsecureFrontendValidationMode")
            .unwrap()
            .status
    );

    for (validation, unresolved) in [
        (
            "caCertificateRefs: [{group: '', kind: ConfigMap, name: none}]",
            "InvalidCACertificateRef",
        ),
        (
            "caCertificateRefs: [{group: '', kind: Secret, name: cert}]",
            "InvalidCACertificateKind",
        ),
        (
            "caCertificateRefs: [{group: '', kind: ConfigMap, name: roots, namespace: safe}]",
            "RefNotPermitted",
        ),
    ] {
        let seen = with(validation);
        let said = listener(&seen, "p443");
        assert!(
            said.contains("Accepted=false NoValidCACertificate"),
            "{validation}: {said}"
        );
        assert!(
            said.contains(&format!("ResolvedRefs=false {unresolved}")),
            "{validation}: {said}"
        );
        assert!(view(&seen, "p443").is_none() && view(&seen, "p444").is_some());
    }
    assert!(view(&with("caCertificateRefs: []"), "p443").is_none());
    assert!(view(&with("mode: Whatever"), "p443").is_none());
}

#[test]
fn routes_attach_where_parent_kind_namespace_and_host_agree() {
    let listeners = "{name: any, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}, \
                     {name: wild, port: 80, protocol: HTTP, hostname: '*.example'}, \
                     {name: one, port: 81, protocol: HTTP, hostname: a.example}";
    let table = [
        // (namespace, parent, host names, reason, attached to)
        ("default", "", "", "Accepted", "any wild one"),
        ("default", "", "a.example", "Accepted", "any wild one"),
        ("default", "", "b.example", "Accepted", "any wild"),
        ("default", "", "other", "Accepted", "any"),
        ("default", ", sectionName: one", "'*.example'", "Accepted", "one"),
        ("default", ", port: 81", "", "Accepted", "one"),
        ("default", ", port: 81, sectionName: one", "", "Accepted", "one"),
        (
            "default",
            ", port: 81, sectionName: any",
            "",
            "NoMatchingParent",
            "",
        ),
        ("default", ", port: 82", "", "NoMatchingParent", ""),
        ("default", ", sectionName: none", "", "NoMatchingParent", ""),
        (
            "default",
            ", sectionName: one",
            "b.example",
            "NoMatchingListenerHostname",
            "",
        ),
        ("other", "", "", "Accepted", "any"),
        ("other", ", sectionName: wild", "", "NotAllowedByListeners", ""),
    ];
    for (namespace, parent, hosts, reason, attached) in table {
        let seen = seen(&[&front(listeners), &route(namespace, "r", parent, hosts)]);
        let of = format!("HTTPRoute {namespace}/r");
        assert_eq!(seen.reason(&of, "Accepted"), reason, "{parent} {hosts}");
        let counted: Vec<&str> = ["any", "wild", "one"]
            .into_iter()
            .filter(|name| listener(&seen, name).ends_with("1 routes"))
            .collect();
        let served: Vec<&str> = ["any", "wild", "one"]
            .into_iter()
            .filter(|name| !view(&seen, name).unwrap().routes.is_empty())
            .collect();
        assert_eq!(counted.join(" "), attached, "{parent} {hosts}");
        assert_eq!(served, counted, "{parent} {hosts}");
    }
}

#[test]
fn a_route_counts_once_per_listener_and_a_refused_one_not_at_all() {
    let twice = route("default", "r", "}, {name: front, sectionName: a", "");
    let seen = seen(&[
        &front("{name: a, port: 80, protocol: HTTP}"),
        &twice,
        &route("other", "r", "", ""),
    ]);
    assert!(listener(&seen, "a").ends_with("1 routes"));
    let status = seen
        .statuses
        .iter()
        .find(|it| it.resource.to_string() == "HTTPRoute default/r")
        .unwrap();
    let parents: Vec<String> = status
        .parents
        .iter()
        .map(|it| it.parent_ref.to_string())
        .collect();
    assert_eq!(parents, ["Gateway default/front", "Gateway default/front/a"]);
    assert_eq!(status.parents[0].controller_name, "istio.io/gateway-controller");
}

#[test]
fn a_backend_of_another_namespace_needs_a_grant() {
    let grant = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: default}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}], to: [{group: '', kind: Service}]}
";
    let front = front("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}");
    let route = route("other", "r", "", "");
    let refused = seen(&[&front, &route]);
    assert_eq!(
        refused.reason("HTTPRoute other/r", "ResolvedRefs"),
        "RefNotPermitted"
    );
    assert_eq!(refused.reason("HTTPRoute other/r", "Accepted"), "Accepted");
    let granted = seen(&[&front, &route, grant]);
    assert_eq!(
        granted.reason("HTTPRoute other/r", "ResolvedRefs"),
        "ResolvedRefs"
    );
}

#[test]
fn routes_do_not_attach_to_a_waypoint() {
    let to_waypoint = route("default", "r", "", "").replace("name: front", "name: waypoint");
    let seen = caller(&[TOWN, &to_waypoint]);
    assert_eq!(
        seen.reason("HTTPRoute default/r", "Accepted"),
        "NotAllowedByListeners"
    );
}

#[test]
fn classes_name_who_answers_for_their_gateways() {
    let class = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio}
spec: {controllerName: example.org/ours}
";
    let seen = seen(&[
        class,
        &front("{name: a, port: 80, protocol: HTTP}"),
        &route("default", "r", "", ""),
    ]);
    assert_eq!(seen.reason("GatewayClass istio", "Accepted"), "Accepted");
    assert_eq!(
        seen.reason("GatewayClass istio", "SupportedVersion"),
        "SupportedVersion"
    );
    let status = seen
        .statuses
        .iter()
        .find(|it| it.resource.to_string() == "HTTPRoute default/r")
        .unwrap();
    assert_eq!(status.parents[0].controller_name, "example.org/ours");
}

/// The cases of Gateway API's own suite for listeners that share a TLS port.
#[test]
fn a_request_is_served_by_the_listener_of_its_host_on_a_connection_made_for_that_listener() {
    let cert = secret("default", "cert", &["*.org"]);
    let https = |name: &str, host: &str| {
        format!(
            "{{name: {name}, port: 443, protocol: HTTPS{host}, tls: {{certificateRefs: [{{name: cert}}]}}}}"
        )
    };
    let listeners = [
        https("any", ""),
        https("second", ", hostname: second.org"),
        https("wild", ", hostname: '*.wild.org'"),
        https("fourth", ", hostname: fourth.wild.org"),
    ];
    let seen = seen(&[&cert, &front(&listeners.join(", "))]);
    // One certificate is for all of them.
    assert!(listener(&seen, "second").contains("OverlappingTLSConfig=true OverlappingCertificates"));
    let port = seen.snapshot.gateway.port(443).unwrap();
    assert!(port.secure);
    let asked = |host: &str, sni: &str| {
        let sni = crate::name::Host::parse(sni).ok();
        port.request(host, sni.as_ref(), None)
            .map(|it| it.name.to_string())
    };
    let table = [
        ("a.org", "a.org", Ok("any")),
        ("A.ORG:443", "a.org", Ok("any")),
        ("second.org", "a.org", Err(Misfit::Misdirected)),
        ("second.org", "second.org", Ok("second")),
        ("a.org", "second.org", Err(Misfit::Misdirected)),
        ("third.wild.org", "third.wild.org", Ok("wild")),
        ("fifth.wild.org", "third.wild.org", Ok("wild")),
        ("fourth.wild.org", "third.wild.org", Err(Misfit::Misdirected)),
        ("fourth.wild.org", "fourth.wild.org", Ok("fourth")),
        ("fifth.wild.org", "fourth.wild.org", Err(Misfit::Misdirected)),
        ("a.org", "unknown.org", Ok("any")),
        ("a.org", "", Ok("any")),
        ("second.org", "", Err(Misfit::Misdirected)),
    ];
    for (host, sni, expected) in table {
        assert_eq!(asked(host, sni), expected.map(str::to_owned), "{host} over {sni}");
    }
}

/// Gateway API, ListenerConditionType "OverlappingTLSConfig".
#[test]
fn listeners_whose_tls_has_something_in_common_are_told_so() {
    let secrets = [
        secret("default", "a", &["a.example.com"]),
        secret("default", "b", &["b.example.com", "b.example.org"]),
        secret("default", "wild", &["*.example.com"]),
        secret("default", "other", &["a.example.net"]),
    ]
    .join("---\n");
    let https = |name: &str, port: u16, host: &str, cert: &str| {
        format!(
            "{{name: {name}, port: {port}, protocol: HTTPS, hostname: '{host}', tls: {{certificateRefs: [{{name: {cert}}}]}}}}"
        )
    };
    let said = |one: String, two: String| {
        let seen = seen(&[&secrets, &front(&format!("{one}, {two}"))]);
        ["one", "two"].map(|name| {
            let words = listener(&seen, name);
            let reason = words.split("OverlappingTLSConfig=true ").nth(1);
            reason.map(|it| it.split(',').next().unwrap().to_owned())
        })
    };
    let both = |reason: &str| [Some(reason.to_owned()), Some(reason.to_owned())];
    let one = |cert| https("one", 443, "a.example.com", cert);
    assert_eq!(
        said(one("a"), https("two", 443, "*.example.com", "other")),
        both("OverlappingHostnames")
    );
    assert_eq!(
        said(one("wild"), https("two", 443, "b.example.com", "b")),
        both("OverlappingCertificates")
    );
    assert_eq!(
        said(one("a"), https("two", 443, "*.example.com", "wild")),
        both("OverlappingCertificates"),
        "rather than host names"
    );
    assert_eq!(
        said(one("a"), https("two", 443, "b.example.com", "b")),
        [None, None]
    );
    assert_eq!(
        said(one("wild"), https("two", 8443, "b.example.com", "wild")),
        [None, None]
    );
}

#[test]
fn an_address_without_a_value_is_whichever_there_is() {
    let text = front("{name: a, port: 80, protocol: HTTP}");
    let asked = |addresses: &str| {
        let text = text.replace("listeners: ", &format!("addresses: [{addresses}], listeners: "));
        let seen = seen(&[&text]);
        seen.reason("Gateway default/front", "Programmed").to_owned()
    };
    assert_eq!(asked("{type: IPAddress}"), "Programmed");
    assert_eq!(asked("{type: IPAddress, value: 10.0.0.80}"), "Programmed");
    assert_eq!(asked("{value: 10.0.0.81}"), "AddressNotUsable");
}

#[test]
fn protocols_are_the_same_in_any_case() {
    let seen = seen(&[&front("{name: a, port: 80, protocol: hTtP}")]);
    assert_eq!(listener(&seen, "a"), format!("{FINE}, 0 routes"));
    assert!(view(&seen, "a").is_some());
}
