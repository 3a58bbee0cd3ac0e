//! ListenerSets: which are taken, what they lose to, and which routes they get (GEP-1713).

use super::kit::*;
use crate::compile::Compiled;
use crate::snapshot::Node;

/// The Gateway `front` of `default` with this more in its `spec`, and its one instance.
fn front(more: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: front, namespace: default}}
spec: {{gatewayClassName: istio, {more}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: front-1, namespace: default, labels: {{gateway.networking.k8s.io/gateway-name: front}}}}
spec: {{serviceAccountName: front}}
status: {{phase: Running, podIP: 10.0.0.80, conditions: [{{type: Ready, status: 'True'}}]}}
"
    )
}

const OWN: &str = "listeners: [{name: web, port: 80, protocol: HTTP, hostname: own.example.com}]";
const ALL: &str = "allowedListeners: {namespaces: {from: All}}";

/// A set of a namespace, created on a day, for `front`.
fn set(namespace: &str, name: &str, day: u8, listeners: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-01-0{day}T00:00:00Z'}}
spec: {{parentRef: {{name: front, namespace: default}}, listeners: [{listeners}]}}
"
    )
}

/// A route of a namespace to a parent.
fn route(namespace: &str, name: &str, parent: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{parentRefs: [{parent}], rules: [{{filters: [{{type: RequestRedirect, requestRedirect: {{hostname: {name}}}}}]}}]}}
"
    )
}

fn seen(texts: &[&str]) -> Compiled {
    let mut all = vec![TOWN];
    all.extend(texts);
    let node = Node {
        pod: Some("front-1".into()),
        ..gateway("default", "front")
    };
    seen_by(&node, &all)
}

/// What is said of a resource as a whole: `type=status reason`.
fn whole(seen: &Compiled, resource: &str) -> Vec<String> {
    let status = seen
        .statuses
        .iter()
        .find(|it| it.resource.to_string() == resource);
    let conditions = &status.unwrap().conditions;
    let words = conditions
        .iter()
        .map(|it| format!("{}={} {}", it.kind, it.status, it.reason));
    words.collect()
}

/// What is said of a listener of it, and how many routes it has.
fn of(seen: &Compiled, resource: &str, name: &str) -> (Vec<String>, u32) {
    let status = seen
        .statuses
        .iter()
        .find(|it| it.resource.to_string() == resource);
    let listener = status
        .unwrap()
        .listeners
        .iter()
        .find(|it| it.name == name)
        .unwrap();
    let conditions = listener.conditions.iter();
    let words = conditions.map(|it| format!("{}={} {}", it.kind, it.status, it.reason));
    (words.collect(), listener.attached_routes)
}

/// How many sets are attached to `front`.
fn attached(seen: &Compiled) -> Option<u32> {
    let status = seen
        .statuses
        .iter()
        .find(|it| it.resource.to_string() == "Gateway default/front");
    status.unwrap().attached_listener_sets
}

const TAKEN: [&str; 2] = ["Accepted=true Accepted", "Programmed=true Programmed"];
const FINE: [&str; 4] = [
    "Accepted=true Accepted",
    "Conflicted=false NoConflicts",
    "ResolvedRefs=true ResolvedRefs",
    "Programmed=true Programmed",
];

fn http(name: &str, host: &str) -> String {
    format!("{{name: {name}, port: 80, protocol: HTTP, hostname: {host}}}")
}

#[test]
fn a_gateway_takes_the_sets_that_it_allows_and_no_others() {
    let of_default = set("default", "here", 1, &http("a", "a.example.com"));
    let of_shop = set("shop", "there", 1, &http("b", "b.example.com"));
    let team = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n";
    for (allowed, here, there) in [
        ("", false, false),
        ("allowedListeners: {}, ", false, false),
        ("allowedListeners: {namespaces: {}}, ", false, false),
        ("allowedListeners: {namespaces: {from: None}}, ", false, false),
        ("allowedListeners: {namespaces: {from: Same}}, ", true, false),
        ("allowedListeners: {namespaces: {from: All}}, ", true, true),
        (
            "allowedListeners: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}, ",
            false,
            true,
        ),
    ] {
        let seen = seen(&[&front(&format!("{allowed}{OWN}")), &of_default, &of_shop, team]);
        let refused = ["Accepted=false NotAllowed", "Programmed=false NotAllowed"];
        for (resource, name, host, is_taken) in [
            (
                "ListenerSet default/here",
                "default/here/a",
                "a.example.com",
                here,
            ),
            ("ListenerSet shop/there", "shop/there/b", "b.example.com", there),
        ] {
            let expected = if is_taken { TAKEN } else { refused };
            assert_eq!(whole(&seen, resource), expected, "{allowed}{resource}");
            assert_eq!(seen.snapshot.gateway.listener(name).is_some(), is_taken);
            let port = seen.snapshot.gateway.port(80).unwrap();
            assert_eq!(port.listener(host).is_some(), is_taken);
            let told = seen.problems.iter().any(|it| it.to_string().contains(resource));
            assert_eq!(told, !is_taken);
        }
        assert_eq!(attached(&seen), Some(u32::from(here) + u32::from(there)));
        assert_eq!(of(&seen, "Gateway default/front", "web").0, FINE);
    }
    assert_eq!(attached(&seen(&[&front(OWN)])), None);
}

#[test]
fn a_set_needs_a_gateway_that_is_there_and_accepted() {
    let lonely = set("default", "s", 1, &http("a", "a.example.com"));
    let seen_alone = seen(&[&lonely]);
    let why = [
        "Accepted=false ParentNotAccepted",
        "Programmed=false ParentNotAccepted",
    ];
    assert_eq!(whole(&seen_alone, "ListenerSet default/s"), why);
    assert_eq!(seen_alone.problem("ParentNotAccepted").field, "spec.parentRef");

    let text = lonely.replace("parentRef: {name", "parentRef: {kind: Service, name");
    let why = ["Accepted=false Invalid", "Programmed=false Invalid"];
    assert_eq!(
        whole(
            &seen(&[&front(&format!("{ALL}, {OWN}")), &text]),
            "ListenerSet default/s"
        ),
        why
    );

    let bad = front(&format!(
        "{ALL}, {OWN}, addresses: [{{type: Hostname, value: a}}]"
    ));
    let why = [
        "Accepted=false ParentNotAccepted",
        "Programmed=false ParentNotProgrammed",
    ];
    assert_eq!(whole(&seen(&[&bad, &lonely]), "ListenerSet default/s"), why);

    // One without listeners of its own is served by those of its sets.
    let empty = seen(&[&front(&format!("{ALL}, listeners: []")), &lonely]);
    assert_eq!(whole(&empty, "ListenerSet default/s"), TAKEN);
    assert_eq!(empty.reason("Gateway default/front", "Programmed"), "Programmed");
}

#[test]
fn what_comes_first_has_the_port_and_the_host() {
    let gateway = front(&format!("{ALL}, {OWN}"));
    let lost = |reason: &str| {
        [
            "Accepted=false PortUnavailable".to_owned(),
            format!("Conflicted=true {reason}"),
            "ResolvedRefs=true ResolvedRefs".to_owned(),
            "Programmed=false PortUnavailable".to_owned(),
        ]
    };
    let invalid = [
        "Accepted=false ListenersNotValid",
        "Programmed=false ListenersNotValid",
    ];

    // Against the Gateway, by the host name and by the protocol; alone, and beside others.
    let tcp = "{name: a, port: 80, protocol: TCP}";
    for (listener, reason) in [
        (http("a", "own.example.com"), "HostnameConflict"),
        (tcp.to_owned(), "ProtocolConflict"),
    ] {
        let alone = seen(&[&gateway, &set("shop", "s", 1, &listener)]);
        assert_eq!(whole(&alone, "ListenerSet shop/s"), invalid);
        assert_eq!(of(&alone, "ListenerSet shop/s", "a").0, lost(reason));
        assert_eq!(attached(&alone), Some(0));
        let other = format!("{listener}, {{name: b, port: 81, protocol: HTTP}}");
        let beside = seen(&[&gateway, &set("shop", "s", 1, &other)]);
        assert_eq!(whole(&beside, "ListenerSet shop/s"), TAKEN);
        assert_eq!(of(&beside, "ListenerSet shop/s", "a").0, lost(reason));
        assert_eq!(of(&beside, "ListenerSet shop/s", "b").0, FINE);
        assert_eq!(attached(&beside), Some(1));
        for seen in [alone, beside] {
            assert_eq!(of(&seen, "Gateway default/front", "web").0, FINE);
            assert_eq!(whole(&seen, "Gateway default/front")[0], "Accepted=true Accepted");
            let problem = seen.problem("is not served");
            assert!(
                !problem.to_string().contains("web"),
                "nothing is said of others: {problem}"
            );
        }
    }

    // Between sets: the older, then the first by namespace and name. What has lost takes nothing from others.
    let same = http("a", "a.example.com");
    for (one, two, winner) in [(1, 2, "shop/x"), (2, 1, "default/y"), (1, 1, "default/y")] {
        let seen = seen(&[
            &gateway,
            &set("shop", "x", one, &same),
            &set("default", "y", two, &same),
        ]);
        for set in ["shop/x", "default/y"] {
            let resource = format!("ListenerSet {set}");
            let words = of(&seen, &resource, "a").0;
            match set == winner {
                true => assert_eq!(words, FINE),
                false => assert_eq!(words, lost("HostnameConflict")),
            }
        }
        assert_eq!(attached(&seen), Some(1));
    }
    let (first, second) = (http("a", "own.example.com"), http("a", "a.example.com"));
    let chain = seen(&[
        &gateway,
        &set("shop", "x", 1, tcp),
        &set("shop", "y", 2, &first),
        &set("shop", "z", 3, &second),
    ]);
    assert_eq!(of(&chain, "ListenerSet shop/z", "a").0, FINE);

    // Within a set neither is served.
    let twice = format!("{}, {}", http("a", "a.example.com"), http("b", "a.example.com"));
    let twice = seen(&[&gateway, &set("shop", "s", 1, &twice)]);
    assert_eq!(whole(&twice, "ListenerSet shop/s"), invalid);
}

#[test]
fn routes_attach_to_what_they_name_and_to_nothing_beside() {
    // The names are the same everywhere.
    let gateway = front(&format!(
        "{ALL}, listeners: [{{name: web, port: 80, protocol: HTTP, hostname: own.example.com, \
         allowedRoutes: {{namespaces: {{from: All}}}}}}]"
    ));
    let sets = [
        set("shop", "x", 1, &http("web", "x.example.com")),
        set("default", "y", 1, &http("web", "y.example.com")),
    ]
    .join("---");
    let to = |kind: &str, more: &str| format!("{{kind: {kind}, {more}}}");
    let routes = [
        route("default", "to-front", &to("Gateway", "name: front")),
        route("shop", "to-x", &to("ListenerSet", "name: x")),
        route(
            "shop",
            "to-x-web",
            &to("ListenerSet", "name: x, sectionName: web"),
        ),
        route("default", "to-y", &to("ListenerSet", "name: y, port: 80")),
        route("default", "to-x", &to("ListenerSet", "name: x, namespace: shop")),
        route(
            "shop",
            "nowhere",
            &to("ListenerSet", "name: x, sectionName: other"),
        ),
        route("shop", "nothing", &to("ListenerSet", "name: z")),
        route(
            "shop",
            "front",
            &to("Gateway", "name: front, namespace: default, sectionName: x"),
        ),
    ]
    .join("---");
    let seen_all = seen(&[&gateway, &sets, &routes]);
    let closed = gateway.replace("from: All}}, listeners", "from: Same}}, listeners");
    let closed = seen(&[&closed, &sets, &routes]);
    let seen = seen_all;
    for (resource, reason) in [
        ("HTTPRoute default/to-front", "Accepted"),
        ("HTTPRoute shop/to-x", "Accepted"),
        ("HTTPRoute shop/to-x-web", "Accepted"),
        ("HTTPRoute default/to-y", "Accepted"),
        // `Same` means the set's namespace.
        ("HTTPRoute default/to-x", "NotAllowedByListeners"),
        ("HTTPRoute shop/nowhere", "NoMatchingParent"),
        ("HTTPRoute shop/nothing", "NoMatchingParent"),
        ("HTTPRoute shop/front", "NoMatchingParent"),
    ] {
        assert_eq!(seen.reason(resource, "Accepted"), reason, "{resource}");
    }
    assert_eq!(of(&seen, "Gateway default/front", "web").1, 1);
    assert_eq!(of(&seen, "ListenerSet shop/x", "web").1, 2);
    assert_eq!(of(&seen, "ListenerSet default/y", "web").1, 1);
    let view = &seen.snapshot.gateway;
    let rules = |name: &str| view.listener(name).unwrap().routes.rules().count();
    assert_eq!(
        (rules("web"), rules("shop/x/web"), rules("default/y/web")),
        (1, 2, 1)
    );

    // A route to a set that is not taken is not accepted, and is when it is.
    assert_eq!(
        closed.reason("HTTPRoute shop/to-x", "Accepted"),
        "NoMatchingParent"
    );
    assert_eq!(closed.reason("HTTPRoute default/to-y", "Accepted"), "Accepted");
}

#[test]
fn certificates_are_a_sets_own_to_refer_to() {
    let gateway = front(&format!("{ALL}, {OWN}"));
    let https = |certificate: &str| {
        format!(
            "{{name: a, port: 443, protocol: HTTPS, hostname: a.example.com, tls: {{certificateRefs: [{{{certificate}}}]}}}}"
        )
    };
    let grant = |kind: &str, namespace: &str| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: g, namespace: vault}}
spec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: {namespace}}}], to: [{{group: '', kind: Secret}}]}}
"
        )
    };
    let own = secret("shop", "cert", &["a.example.com"]);
    let far = secret("vault", "cert", &["a.example.com"]);
    let refused = [
        "Accepted=false RefNotPermitted",
        "Conflicted=false NoConflicts",
        "ResolvedRefs=false RefNotPermitted",
        "Programmed=false Invalid",
    ];
    let said = |texts: &[&str]| of(&seen(texts), "ListenerSet shop/s", "a").0;
    let near = set("shop", "s", 1, &https("name: cert"));
    assert_eq!(said(&[&gateway, &near, &own]), FINE);
    let there = set("shop", "s", 1, &https("name: cert, namespace: vault"));
    assert_eq!(said(&[&gateway, &there, &far]), refused);
    // What the Gateway may use its sets may not.
    assert_eq!(
        said(&[&gateway, &there, &far, &grant("Gateway", "default")]),
        refused
    );
    assert_eq!(
        said(&[&gateway, &there, &far, &grant("Gateway", "shop")]),
        refused
    );
    assert_eq!(
        said(&[&gateway, &there, &far, &grant("ListenerSet", "shop")]),
        FINE
    );
    let beside = format!(
        "{}, {}",
        https("name: cert, namespace: vault"),
        http("b", "b.example.com")
    );
    let beside = seen(&[&gateway, &set("shop", "s", 1, &beside), &far]);
    assert_eq!(whole(&beside, "ListenerSet shop/s"), TAKEN);
    assert_eq!(attached(&beside), Some(1));
}

#[test]
fn tunnels_are_for_the_gateway_itself() {
    let tunnels = "{name: a, port: 15008, protocol: HBONE}";
    let seen = seen(&[&front(&format!("{ALL}, {OWN}")), &set("shop", "s", 1, tunnels)]);
    assert_eq!(
        of(&seen, "ListenerSet shop/s", "a").0[0],
        "Accepted=false UnsupportedProtocol"
    );
}
