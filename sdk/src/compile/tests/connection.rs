//! TCPRoutes, TLSRoutes and the `tcp` and `tls` routes of VirtualServices, and where connections lead.

use super::kit::*;
use crate::compile::Compiled;
use crate::config::Severity;
use crate::name::Host;
use crate::policy::connection::{ConnectionTable, Opening};
use crate::policy::route::Target;
use crate::snapshot::Snapshot;

/// Databases: a port of bytes, one of TLS, one of HTTP, and one that says nothing.
const DATABASES: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {clusterIP: 10.96.0.7, selector: {app: db}, ports: [{name: tcp, port: 5432}, {name: tls, port: 5433}, {name: http, port: 80}, {name: any, port: 7}]}
---
apiVersion: v1
kind: Service
metadata: {name: replica, namespace: default}
spec: {selector: {app: replica}, ports: [{name: tcp, port: 5432}, {name: tls, port: 5433}]}
---
apiVersion: v1
kind: Service
metadata: {name: archive, namespace: vault}
spec: {selector: {app: archive}, ports: [{name: tcp, port: 5432}]}
";

/// A route of a kind in a namespace: parents, host names and rules.
fn route(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"
    )
}

/// A route to Service `db` that leads to these backends.
fn of_db(kind: &str, name: &str, more: &str, backends: &str) -> String {
    let spec = format!(
        "{{parentRefs: [{{group: '', kind: Service, name: db{more}}}], rules: [{{backendRefs: [{backends}]}}]}}"
    );
    route(kind, "default", name, &spec)
}

/// A TLSRoute to Service `db`.
fn tls(name: &str, hosts: &str, backend: &str) -> String {
    let spec = format!(
        "{{parentRefs: [{{group: '', kind: Service, name: db, port: 5433}}], hostnames: [{hosts}], rules: [{{backendRefs: [{{name: {backend}, port: 5433}}]}}]}}"
    );
    route("TLSRoute", "default", name, &spec)
}

fn virtual_service(spec: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: db, namespace: default}}
spec: {{hosts: [db], {spec}}}
"
    )
}

/// Where the shares of a connection go: `service:port weight`, or why not.
fn shares(view: &Snapshot, table: &ConnectionTable, opening: Opening<'_>) -> String {
    let Some(rule) = table.find(opening) else {
        return "closed".into();
    };
    let backends = match &rule.backends {
        Ok(backends) => backends,
        Err(why) => return format!("closed: {why}"),
    };
    let share = |it: &crate::policy::route::Backend| match &it.cluster {
        Target::Cluster(id) => {
            let cluster = view.cluster(*id).unwrap();
            format!("{}:{} {}", cluster.service.name, cluster.port, it.weight)
        }
        other => format!("{other:?} {}", it.weight),
    };
    backends.iter().map(share).collect::<Vec<_>>().join(", ")
}

impl Compiled {
    fn plain(&self, authority: &str) -> String {
        shares(&self.snapshot, &self.port(authority).connections, Opening::Plain)
    }

    fn named(&self, authority: &str, name: &str) -> String {
        let name = Host::parse(name).unwrap();
        let opening = Opening::Tls(Some(&name));
        shares(&self.snapshot, &self.port(authority).connections, opening)
    }

    fn routes_of(&self, authority: &str) -> usize {
        self.port(authority).connections.rules().count()
    }

    /// `type=status reason` of a route's one parent.
    fn said(&self, route: &str) -> Vec<String> {
        let status = self.statuses.iter().find(|it| it.resource.to_string() == route);
        let conditions = status.unwrap().parents[0].conditions.iter();
        conditions
            .filter(|it| it.kind != "ResolvedWaypoints")
            .map(|it| format!("{}={} {}", it.kind, it.status, it.reason))
            .collect()
    }
}

const GOOD: [&str; 2] = ["Accepted=true Accepted", "ResolvedRefs=true ResolvedRefs"];

#[test]
fn a_tcp_route_shares_connections_by_weight() {
    let text = of_db(
        "TCPRoute",
        "db",
        ", port: 5432",
        "{name: db, port: 5432, weight: 90}, {name: replica, port: 5432, weight: 10}, {name: replica, port: 5433, weight: 0}",
    );
    let seen = caller(&[TOWN, DATABASES, &text]);
    assert_eq!(
        seen.plain("db:5432"),
        "db:5432 90, replica:5432 10, replica:5433 0"
    );
    assert!(!seen.port("db:5432").connections.wants_opening());
    for other in ["db:5433", "db:80", "db:7", "replica:5432"] {
        assert_eq!(seen.routes_of(other), 0, "{other}");
    }
    assert_eq!(seen.said("TCPRoute default/db"), GOOD);
    assert!(!seen.problems.iter().any(|it| it.to_string().contains("TCPRoute")));
}

#[test]
fn what_cannot_be_resolved_keeps_its_share_and_closes_it() {
    let text = of_db(
        "TCPRoute",
        "db",
        ", sectionName: tcp",
        "{name: db, port: 5432, weight: 80}, {name: nobody, port: 1, weight: 20}",
    );
    let seen = caller(&[TOWN, DATABASES, &text]);
    assert_eq!(
        seen.plain("db:5432"),
        "db:5432 80, Invalid(\"Service default/nobody does not exist\") 20"
    );
    assert_eq!(
        seen.said("TCPRoute default/db"),
        [GOOD[0], "ResolvedRefs=false BackendNotFound"]
    );
    let problem = seen.problem("does not exist");
    assert_eq!(problem.severity, Severity::Error);
    assert_eq!(problem.field, "spec.rules[0].backendRefs[1]");

    for (backends, why) in [
        ("", "the rule has no backendRefs"),
        ("{name: db, port: 5432, weight: 0}", "no backend has a weight"),
    ] {
        let seen = caller(&[
            TOWN,
            DATABASES,
            &of_db("TCPRoute", "db", ", port: 5432", backends),
        ]);
        assert_eq!(seen.plain("db:5432"), format!("closed: {why}"));
        seen.problem(why);
    }
    let none = route(
        "TCPRoute",
        "default",
        "db",
        "{parentRefs: [{group: '', kind: Service, name: db}]}",
    );
    let seen = caller(&[TOWN, DATABASES, &none]);
    assert_eq!(seen.plain("db:5432"), "closed: the route has no rules");
    seen.problem("the route has no rules");
}

#[test]
fn a_route_of_connections_means_nothing_to_requests_and_the_other_way_round() {
    let http = route(
        "HTTPRoute",
        "default",
        "db",
        "{parentRefs: [{group: '', kind: Service, name: db, port: 80}], rules: [{backendRefs: [{name: replica, port: 5432}]}]}",
    );
    let tcp = of_db("TCPRoute", "db", "", "{name: replica, port: 5432}");
    let seen = caller(&[TOWN, DATABASES, &http, &tcp]);
    assert_eq!(seen.plain("db:5432"), "replica:5432 1");
    // What a port speaks that says nothing is told by the bytes.
    assert_eq!(seen.plain("db:7"), "replica:5432 1");
    assert_eq!(seen.routes_of("db:80"), 0);
    assert_eq!(
        seen.problem("speaks HTTP; the route of connections").severity,
        Severity::Ignored
    );
    assert_eq!(
        seen.said("HTTPRoute default/db"),
        [GOOD[0], "ResolvedRefs=false UnsupportedProtocol"]
    );
}

#[test]
fn the_most_specific_server_name_decides_and_tcp_routes_take_the_rest() {
    let texts = [
        tls("a-wide", "'*.example.com', '*'", "db"),
        tls("b-narrow", "'one.example.com', '*.x.example.com'", "replica"),
        tls("c-late", "'one.example.com', 'two.example.com'", "db"),
        of_db("TCPRoute", "rest", ", port: 5433", "{name: db, port: 5432}"),
    ];
    let mut all = vec![TOWN, DATABASES];
    all.extend(texts.iter().map(String::as_str));
    let seen = caller(&all);
    for (name, expected) in [
        ("one.example.com", "replica:5433 1"),
        ("two.example.com", "db:5433 1"),
        ("a.x.example.com", "replica:5433 1"),
        ("three.example.com", "db:5433 1"),
        ("example.com", "db:5432 1"),
    ] {
        assert_eq!(seen.named("db:5433", name), expected, "{name}");
    }
    assert_eq!(seen.plain("db:5433"), "db:5432 1");
    let problem = seen.problem("gets none of them");
    assert_eq!(problem.severity, Severity::Warning);
    assert!(problem.to_string().contains("c-late"), "{problem}");
    // `*` is no host name of Gateway API.
    assert_eq!(seen.problem("`*` is not a host name").severity, Severity::Error);

    let alone = caller(&[TOWN, DATABASES, &tls("a", "one.example.com", "replica")]);
    assert_eq!(alone.plain("db:5433"), "closed");
    assert_eq!(alone.named("db:5433", "two.example.com"), "closed");
    assert_eq!(alone.said("TLSRoute default/a"), GOOD);
}

#[test]
fn of_two_tcp_routes_the_older_decides() {
    let dated = |name: &str, day: u8, backend: &str| {
        of_db(
            "TCPRoute",
            name,
            ", port: 5432",
            &format!("{{name: {backend}, port: 5432}}"),
        )
        .replace(
            "namespace: default}",
            &format!("namespace: default, creationTimestamp: '2026-01-{day:02}T00:00:00Z'}}"),
        )
    };
    let seen = caller(&[TOWN, DATABASES, &dated("a", 2, "db"), &dated("b", 1, "replica")]);
    assert_eq!(seen.plain("db:5432"), "replica:5432 1");
    assert!(
        seen.problem("gets none of them")
            .to_string()
            .contains("TCPRoute default/a")
    );
}

#[test]
fn consumers_waypoints_and_other_namespaces_are_as_with_http_routes() {
    let producer = of_db("TCPRoute", "producer", "", "{name: replica, port: 5432}");
    let consumer = route(
        "TCPRoute",
        "vault",
        "consumer",
        "{parentRefs: [{group: '', kind: Service, name: db, namespace: default}], rules: [{backendRefs: [{name: archive, port: 5432}]}]}",
    );
    let texts = [TOWN, DATABASES, &producer, &consumer];
    assert_eq!(caller(&texts).plain("db:5432"), "replica:5432 1");
    let mut guest = workload("archive-1");
    guest.namespace = "vault".into();
    assert_eq!(seen_by(&guest, &texts).plain("db.default:5432"), "archive:5432 1");

    let bound = [&texts[..], &[BOUND]].concat();
    assert_eq!(caller(&bound).routes_of("db:5432"), 0, "the waypoint routes");
    let waypoint = seen_by(&gateway("default", "waypoint"), &bound);
    assert_eq!(waypoint.plain("db:5432"), "replica:5432 1");
}

#[test]
fn virtual_services_route_connections_by_what_is_known_of_them() {
    let text = virtual_service(
        "tls: [{match: [{port: 5433, sniHosts: [db]}, {sniHosts: ['*.db']}], route: [{destination: {host: replica}}]}], \
         tcp: [{match: [{port: 5432, sourceLabels: {app: elsewhere}}], route: [{destination: {host: db}}]}, \
               {match: [{port: 7, destinationSubnets: [10.96.0.0/16]}, {port: 5432}], route: [{destination: {host: replica, port: {number: 5432}}, weight: 3}, {destination: {host: db, port: {number: 5432}}, weight: 1}]}, \
               {match: [{port: 7, destinationSubnets: [10.97.0.0/16]}], route: [{destination: {host: db}}]}]",
    )
    .replace("hosts: [db]", "hosts: [db, '*.db']");
    let seen = caller(&[TOWN, DATABASES, &text]);
    assert_eq!(seen.plain("db:5432"), "replica:5432 3, db:5432 1");
    assert_eq!(seen.plain("db:7"), "replica:5432 3, db:5432 1");
    assert_eq!(seen.named("db:5433", "db"), "replica:5433 1");
    assert_eq!(seen.named("db:5433", "x.db"), "replica:5433 1");
    assert_eq!(seen.named("db:5433", "other"), "closed");
    assert_eq!(seen.plain("db:5433"), "closed");
    assert_eq!(seen.routes_of("db:80"), 0);
    assert!(!seen.port("db:5432").connections.wants_opening());

    // What does not apply leaves the service to itself.
    let elsewhere = virtual_service("tcp: [{match: [{port: 9}], route: [{destination: {host: replica}}]}]");
    assert_eq!(caller(&[TOWN, DATABASES, &elsewhere]).routes_of("db:5432"), 0);
}

#[test]
fn what_a_virtual_service_says_of_connections_in_vain_is_told() {
    let told = |spec: &str, part: &str| {
        let seen = caller(&[TOWN, DATABASES, &virtual_service(spec)]);
        let problem = seen.problem(part).clone();
        (problem.severity, problem.field)
    };
    assert_eq!(
        told(
            "tcp: [{route: [{destination: {host: replica, port: {number: 5432}}}]}, {route: [{destination: {host: db}}]}]",
            "is never reached"
        ),
        (Severity::Warning, "spec.tcp[1]".into())
    );
    assert_eq!(
        told(
            "tcp: [{route: [{destination: {host: nobody}}]}]",
            "is no service of the mesh"
        ),
        (Severity::Error, "spec.tcp[0].route[0].destination.host".into())
    );
    let archive = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: archive, namespace: vault}
spec: {hosts: [archive], tls: [{match: [{sniHosts: [archive]}], route: [{destination: {host: archive}}]}]}
";
    let seen = caller(&[TOWN, DATABASES, archive]);
    let problem = seen.problem("declared to speak TLS");
    assert_eq!(
        (problem.severity, &*problem.field),
        (Severity::Ignored, "spec.tls")
    );
}

/// The Gateway `front` with these listeners, seen by itself.
fn front(listeners: &str, texts: &[&str]) -> Compiled {
    let gateway_ = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: front, namespace: default}}
spec: {{gatewayClassName: istio, listeners: [{listeners}]}}
"
    );
    let mut all = vec![TOWN, DATABASES, &gateway_];
    all.extend(texts);
    seen_by(&gateway("default", "front"), &all)
}

fn listener(seen: &Compiled, name: &str, opening: Opening<'_>) -> String {
    let listener = seen.snapshot.gateway.listener(name).unwrap();
    shares(
        &seen.snapshot,
        &listener.connections.as_ref().unwrap().routes,
        opening,
    )
}

/// `type=status reason` of a listener's conditions that are not as they should be.
fn faults(seen: &Compiled, name: &str) -> Vec<String> {
    let status = seen
        .statuses
        .iter()
        .find(|it| it.resource.to_string() == "Gateway default/front");
    let of = status
        .unwrap()
        .listeners
        .iter()
        .find(|it| it.name == name)
        .unwrap();
    let conditions = of.conditions.iter();
    conditions
        .filter(|it| it.status == (it.kind == "Conflicted"))
        .map(|it| format!("{} {}", it.kind, it.reason))
        .collect()
}

const PASS: &str =
    "{name: pass, port: 443, protocol: TLS, hostname: '*.example.com', tls: {mode: Passthrough}}";

#[test]
fn listeners_pass_connections_on() {
    let to = |section: &str| format!("[{{name: front, sectionName: {section}}}]");
    let tls = route(
        "TLSRoute",
        "default",
        "secure",
        &format!(
            "{{parentRefs: {}, hostnames: [a.example.com, b.example.org], rules: [{{backendRefs: [{{name: db, port: 5433}}]}}]}}",
            to("pass")
        ),
    );
    let tcp = route(
        "TCPRoute",
        "default",
        "bytes",
        &format!(
            "{{parentRefs: {}, rules: [{{backendRefs: [{{name: db, port: 5432}}]}}]}}",
            to("raw")
        ),
    );
    let seen = front(
        &format!("{PASS}, {{name: raw, port: 5432, protocol: TCP}}"),
        &[&tls, &tcp],
    );
    assert_eq!(faults(&seen, "pass"), [""; 0]);
    assert_eq!(faults(&seen, "raw"), [""; 0]);
    let (a, b) = (
        Host::parse("a.example.com").unwrap(),
        Host::parse("b.example.org").unwrap(),
    );
    assert_eq!(listener(&seen, "pass", Opening::Tls(Some(&a))), "db:5433 1");
    assert_eq!(listener(&seen, "pass", Opening::Tls(Some(&b))), "closed");
    assert_eq!(listener(&seen, "raw", Opening::Plain), "db:5432 1");
    assert_eq!(seen.said("TLSRoute default/secure"), GOOD);
    assert_eq!(seen.said("TCPRoute default/bytes"), GOOD);
    let port = seen.snapshot.gateway.port(443).unwrap();
    assert!(port.secure && port.passes && !seen.snapshot.gateway.port(5432).unwrap().secure);
}

#[test]
fn a_listener_that_is_not_meant_for_a_route_says_so() {
    let parents = |section: &str| format!("parentRefs: [{{name: front, sectionName: {section}}}]");
    let rules = "rules: [{backendRefs: [{name: db, port: 5432}]}]";
    let table = [
        (
            "TLSRoute",
            "raw",
            "hostnames: [a.example.com], ",
            "UnsupportedValue",
        ),
        (
            "TLSRoute",
            "pass",
            "hostnames: [a.example.net], ",
            "NoMatchingListenerHostname",
        ),
        (
            "TLSRoute",
            "none",
            "hostnames: [a.example.com], ",
            "NoMatchingParent",
        ),
        ("TCPRoute", "web", "", "NotAllowedByListeners"),
        ("HTTPRoute", "raw", "", "NotAllowedByListeners"),
    ];
    for (kind, section, more, reason) in table {
        let text = route(
            kind,
            "default",
            "r",
            &format!("{{{}, {more}{rules}}}", parents(section)),
        );
        let seen = front(
            &format!(
                "{PASS}, {{name: raw, port: 5432, protocol: TCP}}, {{name: web, port: 80, protocol: HTTP}}"
            ),
            &[&text],
        );
        assert_eq!(
            seen.said(&format!("{kind} default/r"))[0],
            format!("Accepted=false {reason}"),
            "{kind} {section}"
        );
    }
}

#[test]
fn listeners_that_cannot_be_had_are_refused() {
    for (spec, expected) in [
        ("protocol: UDP", "Accepted UnsupportedProtocol"),
        ("protocol: TLS", "Accepted UnsupportedValue"),
        (
            "protocol: TLS, tls: {mode: Sideways}",
            "Accepted UnsupportedValue",
        ),
        ("protocol: TCP, hostname: a.b", "Accepted UnsupportedValue"),
        (
            "protocol: TCP, tls: {mode: Passthrough}",
            "Accepted UnsupportedValue",
        ),
        ("protocol: TLS, tls: {}", "ResolvedRefs InvalidCertificateRef"),
    ] {
        let seen = front(&format!("{{name: it, port: 443, {spec}}}"), &[]);
        assert_eq!(faults(&seen, "it")[0], expected, "{spec}");
        assert!(seen.snapshot.gateway.listener("it").is_none(), "{spec}");
    }
    // TCP takes everything; HTTPS and TLS are told apart by the server name.
    let https = "{name: web, port: 443, protocol: HTTPS, hostname: a.example.com, tls: {certificateRefs: [{name: none}]}}";
    let seen = front(&format!("{PASS}, {https}"), &[]);
    assert_eq!(faults(&seen, "pass"), [""; 0]);
    let seen = front(&format!("{PASS}, {{name: raw, port: 443, protocol: TCP}}"), &[]);
    assert_eq!(faults(&seen, "pass")[0], "Accepted ProtocolConflict");
}

#[test]
fn a_gateway_needs_a_grant_for_another_namespace() {
    let text = route(
        "TCPRoute",
        "default",
        "bytes",
        "{parentRefs: [{name: front}], rules: [{backendRefs: [{name: archive, namespace: vault, port: 5432}]}]}",
    );
    let grant = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: open, namespace: vault}
spec: {from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: default}], to: [{group: '', kind: Service}]}
";
    let raw = "{name: raw, port: 5432, protocol: TCP}";
    let closed = front(raw, &[&text]);
    assert_eq!(
        closed.said("TCPRoute default/bytes"),
        [GOOD[0], "ResolvedRefs=false RefNotPermitted"]
    );
    assert!(listener(&closed, "raw", Opening::Plain).starts_with("Invalid"));
    let open = front(raw, &[&text, grant]);
    assert_eq!(open.said("TCPRoute default/bytes"), GOOD);
    assert_eq!(listener(&open, "raw", Opening::Plain), "archive:5432 1");
}
