//! A Gateway's listeners, met by clients from outside the mesh.

mod istio;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use http::HeaderName;
use inmesh::Waypoint;
use inmesh::identity::dev_ca::{DevCa, Leaf, Pems};
use inmesh_tests::kit::cluster::spiffe;
use inmesh_tests::kit::echo::Seen;
use inmesh_tests::kit::secure::Secure;
use inmesh_tests::kit::visitor::{Visit, roots, secret};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::{Cluster, Pod, Visitor};

/// Two services in the mesh, and the Gateway `front` before them.
struct Town {
    cluster: Cluster,
    front: Waypoint,
    ip: Ipv4Addr,
    pods: Vec<Pod>,
}

/// Starts with these listeners; certificates are in the Secret `cert`.
async fn town(listeners: &str, files: &[(&str, &str)]) -> Result<Town> {
    let cluster = Cluster::new()?;
    let mut pods = Vec::new();
    for name in ["a", "b"] {
        cluster.service(name, name, None)?;
        pods.push(cluster.run(&cluster.pod(name).label("app", name)).await?);
    }
    cluster.apply("front", &gateway(listeners))?;
    for (name, yaml) in files {
        cluster.apply(name, yaml)?;
    }
    let spec = cluster.waypoint_pod("default", "front");
    let front = cluster.run_waypoint(&spec).await?;
    let ip = spec.ip;
    Ok(Town {
        cluster,
        front,
        ip,
        pods,
    })
}

fn gateway(listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: front, namespace: default}}\nspec:\n  \
         gatewayClassName: istio\n  listeners: [{listeners}]\n"
    )
}

fn http(name: &str, port: u16, host: &str) -> String {
    format!("{{name: {name}, port: {port}, protocol: HTTP, hostname: '{host}'}}")
}

fn https(name: &str, host: &str) -> String {
    format!(
        "{{name: {name}, port: 8443, protocol: HTTPS, hostname: '{host}', tls: {{certificateRefs: [{{name: cert}}]}}}}"
    )
}

/// A route from a listener to a service.
fn route(name: &str, listener: &str, service: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{name: front, sectionName: {listener}}}]\n  rules:\n  - matches: [{{path: {{value: /away}}}}]\n    filters: \
         [{{type: RequestRedirect, requestRedirect: {{path: {{type: ReplaceFullPath, replaceFullPath: /here}}}}}}]\n  - backendRefs: \
         [{{name: {service}, port: 9080}}]\n"
    )
}

/// A certificate for these names, by a CA that visitors trust.
fn public(ca: &DevCa, dns: &[&str], from: SystemTime) -> Result<Pems> {
    let mut leaf = Leaf::of(&spiffe("default", "front"), Duration::from_secs(3600));
    leaf.dns = dns.iter().map(|name| (*name).to_owned()).collect();
    leaf.not_before = from;
    Ok(ca.issue_leaf(&leaf)?)
}

impl Town {
    fn visitor(&self, port: u16) -> Visitor {
        Visitor::to(self.ip, port)
    }

    /// What is said of a listener under a condition type: status and reason.
    fn said(&self, listener: &str, kind: &str) -> Option<(bool, String)> {
        let statuses = self.front.mesh().statuses();
        let of = statuses.iter().find(|it| it.resource.name.as_ref() == "front")?;
        let listener = of.listeners.iter().find(|it| it.name == listener)?;
        let condition = listener.condition(kind)?;
        Some((condition.status, condition.reason.to_string()))
    }
}

/// The pod that answered, or the status.
fn who(answer: Result<(u16, String)>) -> String {
    match answer {
        Ok((200, body)) => serde_json::from_str(&body).map_or(body, |seen: Seen| seen.pod),
        Ok((status, _)) => status.to_string(),
        Err(error) => format!("{error:#}"),
    }
}

async fn asked(visit: &mut Visit, host: &str) -> String {
    who(visit.get(host, "/").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_share_a_port_and_the_most_specific_host_decides_alone() -> Result<()> {
    let listeners = [
        http("any", 8080, ""),
        http("wild", 8080, "*.example.com"),
        http("one", 8080, "b.example.com"),
    ];
    let town = town(
        &listeners.join(", "),
        &[("r1", &route("r1", "any", "a")), ("r2", &route("r2", "one", "b"))],
    )
    .await?;
    let visitor = town.visitor(8080);
    until("the listeners are served", || async {
        who(visitor.get("x", "/").await) == "a" && who(visitor.get("b.example.com", "/").await) == "b"
    })
    .await;
    let mut visit = visitor.connect().await?;
    assert_eq!(asked(&mut visit, "other.test:8080").await, "a");
    assert_eq!(asked(&mut visit, "B.example.com").await, "b");
    // `wild` has no route, and `any` is not asked instead.
    assert_eq!(asked(&mut visit, "c.example.com").await, "404");
    assert_eq!(
        asked(&mut visitor.clone().http2().connect().await?, "b.example.com").await,
        "b"
    );

    // Listeners come and go below a connection that stays.
    town.cluster
        .apply("front", &gateway(&listeners[..1].join(", ")))?;
    until("the other listeners are gone", || async {
        who(visitor.get("b.example.com", "/").await) == "a"
    })
    .await;
    assert_eq!(asked(&mut visit, "b.example.com").await, "a");
    town.cluster.apply("front", &gateway(&http("moved", 8081, "")))?;
    until("the port is closed", || async {
        visitor.connect().await.is_err()
    })
    .await;
    assert_eq!(asked(&mut visit, "b.example.com").await, "404", "said, not cut");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_connection_serves_the_hosts_of_the_listener_that_it_was_made_for() -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let now = SystemTime::now() - Duration::from_secs(60);
    let cert = public(&ca, &["*.example.com", "*.wild.example.com", "other.test"], now)?;
    let listeners = [
        https("any", ""),
        https("one", "one.example.com"),
        https("wild", "*.wild.example.com"),
    ];
    let files = [
        ("cert", secret("cert", &cert)),
        ("r1", route("r1", "any", "a")),
        ("r2", route("r2", "one", "b")),
        ("r3", route("r3", "wild", "b")),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, yaml)| (*name, yaml.as_str())).collect();
    let town = town(&listeners.join(", "), &files).await?;
    let visitor = |sni: &str| town.visitor(8443).tls(sni, ca.root_pem());
    until("TLS is served", || async {
        who(visitor("other.test").get("other.test", "/").await) == "a"
            && who(visitor("one.example.com").get("one.example.com", "/").await) == "b"
    })
    .await;
    for (sni, host, expected) in [
        ("other.test", "other.test", "a"),
        ("other.test", "one.example.com", "421"),
        ("one.example.com", "one.example.com", "b"),
        ("one.example.com", "other.test", "421"),
        ("x.wild.example.com", "y.wild.example.com:8443", "b"),
        ("x.wild.example.com", "one.example.com", "421"),
    ] {
        for visitor in [visitor(sni), visitor(sni).http2()] {
            let mut visit = visitor.connect().await?;
            assert_eq!(asked(&mut visit, host).await, expected, "{host} over {sni}");
            assert_eq!(visit.shown, der(&cert)?, "{sni}");
        }
    }
    // A redirect stays with the scheme of the request and the port of the listener.
    let response = visitor("other.test")
        .connect()
        .await?
        .response("other.test", "/away")
        .await?;
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], "https://other.test:8443/here");
    // A name that the certificate is not for is the client's to refuse; plain HTTP is not understood here.
    assert!(visitor("nobody.test").connect().await.is_err());
    assert!(town.visitor(8443).get("other.test", "/").await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_says_who_came_and_how() -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let now = SystemTime::now() - Duration::from_secs(60);
    let cert = secret("cert", &public(&ca, &["one.example.com"], now)?);
    let listeners = [http("plain", 8080, ""), https("one", "one.example.com")];
    let files = [
        ("cert", cert),
        ("r1", route("r1", "plain", "a")),
        ("r2", route("r2", "one", "a")),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, yaml)| (*name, yaml.as_str())).collect();
    let town = town(&listeners.join(", "), &files).await?;
    let secure = town.visitor(8443).tls("one.example.com", ca.root_pem());
    until("both are served", || async {
        who(town.visitor(8080).get("one.example.com", "/").await) == "a"
            && who(secure.get("one.example.com", "/").await) == "a"
    })
    .await;
    let said = [
        (
            HeaderName::from_static("x-forwarded-for"),
            "203.0.113.7".to_owned(),
        ),
        (HeaderName::from_static("x-forwarded-for"), "10.1.1.1".to_owned()),
        (HeaderName::from_static("x-forwarded-proto"), "gopher".to_owned()),
    ];
    let seen = async |visitor: &Visitor, said: &[(HeaderName, String)]| {
        let (status, body) = visitor
            .connect()
            .await?
            .get_with("one.example.com", "/", said)
            .await?;
        ensure!(status == 200, "{status}: {body}");
        let seen: Seen = serde_json::from_str(&body)?;
        let header = |name: &str| seen.headers.get(name).cloned().unwrap_or_default();
        anyhow::Ok((header("x-forwarded-for"), header("x-forwarded-proto")))
    };
    for (visitor, scheme) in [(town.visitor(8080), "http"), (secure, "https")] {
        // The connection's own address, and what was said before it, as one line; how it came is known better here.
        let (list, proto) = seen(&visitor, &[]).await?;
        list.parse::<std::net::IpAddr>()?;
        assert_eq!(proto, scheme);
        let (longer, proto) = seen(&visitor, &said).await?;
        assert_eq!(
            (longer, &*proto),
            (format!("203.0.113.7, 10.1.1.1, {list}"), scheme)
        );
    }

    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
                defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}\n";
    town.cluster.apply("mesh", mesh)?;
    until("the proxy in front is believed", || async {
        seen(&town.visitor(8080), &said)
            .await
            .is_ok_and(|(_, proto)| proto == "gopher")
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_listener_has_is_refused_before_a_certificate_is_shown() -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let now = SystemTime::now() - Duration::from_secs(60);
    let cert = secret(
        "cert",
        &public(&ca, &["one.example.com", "two.example.com"], now)?,
    );
    let town = town(
        &https("one", "one.example.com"),
        &[("cert", &cert), ("r", &route("r", "one", "a"))],
    )
    .await?;
    let visitor = |sni: &str| town.visitor(8443).tls(sni, ca.root_pem());
    until("TLS is served", || async {
        who(visitor("one.example.com").get("one.example.com", "/").await) == "a"
    })
    .await;
    let refused = format!("{:?}", visitor("two.example.com").connect().await.map(drop));
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_rotated_under_load_without_losing_a_request() -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let past = SystemTime::now() - Duration::from_secs(600);
    let first = public(&ca, &["one.example.com"], past)?;
    let files = [("cert", secret("cert", &first)), ("r", route("r", "one", "a"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, yaml)| (*name, yaml.as_str())).collect();
    let town = town(&https("one", "one.example.com"), &files).await?;
    let visitor = town.visitor(8443).tls("one.example.com", ca.root_pem());
    until("TLS is served", || async {
        who(visitor.get("one.example.com", "/").await) == "a"
    })
    .await;

    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for http2 in [false, true] {
        let (visitor, stop, done) = (visitor.clone(), Arc::clone(&stop), Arc::clone(&done));
        let visitor = if http2 { visitor.http2() } else { visitor };
        load.spawn(async move {
            // One connection for long, and a new one for each request beside it.
            let mut kept = visitor.connect().await?;
            while !stop.load(Ordering::Relaxed) {
                for answer in [
                    kept.get("one.example.com", "/").await?,
                    visitor.get("one.example.com", "/").await?,
                ] {
                    ensure!(answer.0 == 200, "{answer:?}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(kept.shown)
        });
    }
    for round in 0..3 {
        let before = done.load(Ordering::Relaxed);
        until("load runs", || async {
            done.load(Ordering::Relaxed) > before + 20
        })
        .await;
        let next = public(
            &ca,
            &["one.example.com"],
            past + Duration::from_secs(60 * (round + 1)),
        )?;
        town.cluster.apply("cert", &secret("cert", &next))?;
        let wanted = der(&next)?;
        until("new connections are shown the new certificate", || async {
            visitor.connect().await.is_ok_and(|visit| visit.shown == wanted)
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        assert_eq!(ended??, der(&first)?, "a connection keeps what it was made with");
    }
    // A key that is not the certificate's.
    town.cluster.apply(
        "cert",
        &secret(
            "cert",
            &Pems {
                key: first.key.clone(),
                ..public(&ca, &["one.example.com"], past)?
            },
        ),
    )?;
    until("the mismatch is reported", || async {
        town.said("one", "ResolvedRefs") == Some((false, "InvalidCertificateRef".into()))
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_cannot_be_bound_is_said_and_served_once_it_is_free() -> Result<()> {
    let town = town(&http("one", 8080, ""), &[("r", &route("r", "two", "a"))]).await?;
    let squatter = TcpListener::bind((town.ip, 8082))?;
    town.cluster.apply(
        "front",
        &gateway(&[http("one", 8080, ""), http("two", 8082, "")].join(", ")),
    )?;
    until("the failure is reported", || async {
        town.said("two", "Accepted") == Some((false, "PortUnavailable".into()))
    })
    .await;
    assert_eq!(town.said("two", "Programmed"), Some((false, "Invalid".into())));
    assert_eq!(
        town.said("one", "Programmed"),
        Some((true, "Programmed".into())),
        "the other is served"
    );
    drop(squatter);
    until("the port is served", || async {
        who(town.visitor(8082).get("x", "/").await) == "a"
    })
    .await;
    until("nothing is wrong any more", || async {
        town.said("two", "Accepted") == Some((true, "Accepted".into()))
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_prove_who_they_are_where_the_gateway_demands_it() -> Result<()> {
    let (ca, clients) = (DevCa::new_in_memory()?, DevCa::new_in_memory()?);
    let now = SystemTime::now() - Duration::from_secs(60);
    let cert = secret("cert", &public(&ca, &["one.example.com"], now)?);
    let front = gateway(&https("one", "one.example.com"));
    let files = [
        ("cert", cert.as_str()),
        ("roots", &roots("roots", clients.root_pem())),
        ("r", &route("r", "one", "a")),
    ];
    let town = town(&https("one", "one.example.com"), &files).await?;
    let visitor = town.visitor(8443).tls("one.example.com", ca.root_pem());
    until("TLS is served", || async {
        who(visitor.get("one.example.com", "/").await) == "a"
    })
    .await;
    let mut before = visitor.connect().await?;
    assert_eq!(asked(&mut before, "one.example.com").await, "a");

    let demand = |mode: &str| {
        let validation =
            format!("{{caCertificateRefs: [{{group: '', kind: ConfigMap, name: roots}}], mode: {mode}}}");
        front.replacen(
            "  listeners",
            &format!("  tls: {{frontend: {{default: {{validation: {validation}}}}}}}\n  listeners"),
            1,
        )
    };
    town.cluster.apply("front", &demand("AllowValidOnly"))?;
    until("nobody else is let in", || async {
        visitor.get("one.example.com", "/").await.is_err()
    })
    .await;
    let known = visitor.clone().certificate(&public(&clients, &["c"], now)?);
    assert_eq!(who(known.get("one.example.com", "/").await), "a");
    let stranger = visitor.clone().certificate(&public(&ca, &["c"], now)?);
    assert!(stranger.get("one.example.com", "/").await.is_err());
    // Who came before anything was demanded has to come again.
    assert_eq!(asked(&mut before, "one.example.com").await, "421");

    town.cluster.apply("front", &demand("AllowInsecureFallback"))?;
    until("others are let in", || async {
        who(visitor.get("one.example.com", "/").await) == "a"
    })
    .await;
    assert_eq!(who(stranger.get("one.example.com", "/").await), "a");
    Ok(())
}

/// The leaf of a chain in DER.
fn der(pems: &Pems) -> Result<Vec<u8>> {
    use rustls::pki_types::pem::PemObject;
    let leaf = rustls::pki_types::CertificateDer::from_pem_slice(pems.chain.as_bytes());
    Ok(leaf.context("no certificate")?.to_vec())
}

/// A route of connections from a listener to port 7000 of a service.
fn leads(kind: &str, name: &str, listener: &str, hosts: &str, service: &str) -> String {
    let hostnames = match hosts {
        "" => String::new(),
        hosts => format!("  hostnames: [{hosts}]\n"),
    };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  parentRefs: \
         [{{name: front, sectionName: {listener}}}]\n{hostnames}  rules: [{{backendRefs: [{{name: {service}, port: 7000}}]}}]\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_passed_on_by_server_name_beside_listeners_that_open_it() -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let now = SystemTime::now() - Duration::from_secs(60);
    let listeners = [
        https("web", "web.example.com"),
        "{name: pass, port: 8443, protocol: TLS, hostname: '*.example.com', tls: {mode: Passthrough}}".to_owned(),
        "{name: open, port: 8443, protocol: TLS, hostname: open.example.com, tls: {certificateRefs: [{name: cert}]}}"
            .to_owned(),
        "{name: raw, port: 7000, protocol: TCP}".to_owned(),
    ];
    let town = town(
        &listeners.join(", "),
        &[
            (
                "cert",
                &secret(
                    "cert",
                    &public(&ca, &["web.example.com", "open.example.com"], now)?,
                ),
            ),
            ("web", &route("web", "web", "a")),
            (
                "pass",
                &leads("TLSRoute", "pass", "pass", "a.example.com, b.example.com", "b"),
            ),
            (
                "open",
                &leads("TLSRoute", "open", "open", "open.example.com", "a"),
            ),
            ("raw", &leads("TCPRoute", "raw", "raw", "", "a")),
        ],
    )
    .await?;
    // `b` speaks TLS of its own; behind port 7000 of `a` is its HTTP application.
    let backend_ip = town.cluster.address();
    let own = public(&ca, &["a.example.com", "b.example.com"], now)?;
    let backend = Secure::start(backend_ip, 7443, &own).await?;
    town.pods[1].mesh.relay(7000, (backend_ip, 7443).into()).await?;
    let served = (town.pods[0].spec.ip, inmesh_tests::kit::cluster::PORT);
    town.pods[0].mesh.relay(7000, served.into()).await?;

    let visitor = |name: &str| town.visitor(8443).tls(name, ca.root_pem());
    until("the listeners are served", || async {
        who(visitor("web.example.com").get("web.example.com", "/").await) == "a"
            && visitor("a.example.com").get("a.example.com", "/").await.is_ok()
    })
    .await;
    // The certificate that is shown says who opened it.
    let mut passed = visitor("b.example.com").http2().connect().await?;
    let (_, body) = passed.get("b.example.com", "/").await?;
    ensure!(body.starts_with("b.example.com h2"), "{body}");
    // What is opened here need not be HTTP, so nothing is agreed on beforehand; what is passed on may be anything.
    let mut plain = town.visitor(7000).connect().await?;
    ensure!(asked(&mut plain, "whatever").await == "a");
    ensure!(who(visitor("open.example.com").get("open.example.com", "/").await) == "a");
    ensure!(
        visitor("c.example.com").connect().await.is_err(),
        "no route takes it"
    );
    ensure!(
        visitor("example.org").connect().await.is_err(),
        "no listener has it"
    );
    let met = backend.met();
    // A request on a connection for one listener is not served for another that only passes on.
    let mut web = visitor("web.example.com").connect().await?;
    ensure!(asked(&mut web, "a.example.com").await == "421");
    ensure!(backend.met() == met);

    for listener in ["web", "pass", "open", "raw"] {
        let said = town.said(listener, "Programmed");
        ensure!(
            said == Some((true, "Programmed".to_owned())),
            "{listener} {said:?}"
        );
    }
    // Policies of the Gateway judge connections too.
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no, namespace: default}\nspec:\n  \
         targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: front}]\n  action: DENY\n  rules: [{when: [{key: \
         connection.sni, values: [b.example.com]}]}]\n";
    town.cluster.apply("policy", policy)?;
    until("one name is denied", || async {
        visitor("b.example.com").connect().await.is_err()
    })
    .await;
    ensure!(visitor("a.example.com").connect().await.is_ok());
    Ok(())
}

/// A ListenerSet of another namespace adds hosts of its own, under certificates of its own, while the Gateway runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_set_adds_listeners_to_a_gateway_that_takes_it() -> Result<()> {
    let (ca, now) = (
        DevCa::new_in_memory()?,
        SystemTime::now() - Duration::from_secs(60),
    );
    let cert = secret("cert", &public(&ca, &["one.example.com"], now)?);
    let theirs = secret("cert", &public(&ca, &["two.example.com"], now)?)
        .replace("namespace: default", "namespace: shop");
    let own = https("one", "one.example.com");
    let files = [
        ("cert", cert.as_str()),
        ("theirs", theirs.as_str()),
        ("r", &route("r", "one", "a")),
    ];
    let town = town(&own, &files).await?;
    let visitor = |name: &str| town.visitor(8443).tls(name, ca.root_pem());
    let (one, two) = (visitor("one.example.com"), visitor("two.example.com"));
    until("the Gateway's own listener is served", || async {
        who(one.get("one.example.com", "/").await) == "a"
    })
    .await;
    let set = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: set, namespace: shop}}\nspec:\n  \
         parentRef: {{name: front, namespace: default}}\n  listeners: [{}]\n",
        https("one", "two.example.com")
    );
    let theirs = route("theirs", "one", "b")
        .replace(
            "name: theirs, namespace: default",
            "name: theirs, namespace: shop",
        )
        .replace("{name: front,", "{kind: ListenerSet, name: set,")
        .replace("{name: b, port", "{name: b, namespace: default, port");
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: \
                 default}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: \
                 '', kind: Service}]}\n";
    town.cluster
        .apply("set", &format!("{set}---\n{theirs}---\n{grant}"))?;
    until("a Gateway takes none that it does not allow", || async {
        let told = town.front.mesh().status().borrow().problems.clone();
        told.iter().any(|it| it.to_string().contains("NotAllowed"))
    })
    .await;
    assert!(two.get("two.example.com", "/").await.is_err());

    let allowed = gateway(&own).replacen(
        "  listeners",
        "  allowedListeners: {namespaces: {from: All}}\n  listeners",
        1,
    );
    town.cluster.apply("front", &allowed)?;
    until("the set's listener is served", || async {
        who(two.get("two.example.com", "/").await) == "b"
    })
    .await;
    // Another listener's host on this connection, which was not made for it.
    let mut visit = two.connect().await?;
    assert_eq!(asked(&mut visit, "one.example.com").await, "421");
    assert_eq!(who(one.get("one.example.com", "/").await), "a");

    town.cluster.remove("set")?;
    until("a set that is gone is not served", || async {
        two.get("two.example.com", "/").await.is_err()
    })
    .await;
    assert_eq!(who(one.get("one.example.com", "/").await), "a");
    Ok(())
}
