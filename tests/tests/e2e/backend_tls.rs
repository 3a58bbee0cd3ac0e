//! BackendTLSPolicies against backends that speak TLS: through a Gateway and from a client of the mesh.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use inmesh::identity::dev_ca::{DevCa, Leaf, Pems};
use inmesh::{Client, Mesh, Waypoint};
use inmesh_tests::kit::cluster::spiffe;
use inmesh_tests::kit::secure::Secure;
use inmesh_tests::kit::visitor::{roots, secret};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::text;
use inmesh_tests::kit::{Cluster, Visitor};

const NAME: &str = "backend.example.com";

struct Town {
    cluster: Cluster,
    backend: Secure,
    front: Waypoint,
    visitor: Visitor,
    client: Client,
    _mesh: Mesh,
}

/// A backend with this certificate behind the Service `secure`, called by way of the Gateway `front` and from the mesh.
async fn town(pems: &Pems, files: &[(&str, String)]) -> Result<Town> {
    let cluster = Cluster::new()?;
    let ip = cluster.address();
    let backend = Secure::start(ip, 8443, pems).await?;
    around(cluster, ip, backend, files).await
}

/// The Gateway, with this more in its `spec`, and its route.
fn gateway(more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: front, namespace: default}}\nspec:\n  \
         gatewayClassName: istio\n  listeners: [{{name: a, port: 8080, protocol: HTTP}}]\n{more}---\napiVersion: \
         gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: default}}\nspec:\n  parentRefs: \
         [{{name: front}}]\n  rules:\n  - matches: [{{path: {{value: /h2}}}}]\n    backendRefs: [{{name: secure, port: 444}}]\n  \
         - backendRefs: [{{name: secure, port: 443}}]\n"
    )
}

/// The town around a backend at an address.
async fn around(cluster: Cluster, ip: Ipv4Addr, backend: Secure, files: &[(&str, String)]) -> Result<Town> {
    cluster.apply(
        "secure",
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: secure, namespace: default}}\nspec:\n  selector: {{app: secure}}\n  \
             ports: [{{name: web, port: 443, targetPort: 8443, appProtocol: https}}, {{name: h2, port: 444, targetPort: 8443, \
             appProtocol: kubernetes.io/h2c}}]\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: secure-1, namespace: default, \
             labels: {{app: secure}}}}\nspec: {{serviceAccountName: secure}}\nstatus: {{phase: Running, podIP: {ip}, \
             conditions: [{{type: Ready, status: 'True'}}]}}\n"
        ),
    )?;
    cluster.apply("front", &gateway(""))?;
    for (name, yaml) in files {
        cluster.apply(name, yaml)?;
    }
    let spec = cluster.waypoint_pod("default", "front");
    let front = cluster.run_waypoint(&spec).await?;
    let (mesh, client) = cluster.client("curl").await?;
    Ok(Town {
        backend,
        front,
        visitor: Visitor::to(spec.ip, 8080),
        client,
        cluster,
        _mesh: mesh,
    })
}

fn policy(hostname: &str, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: p, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: secure}}]\n  validation:\n    hostname: {hostname}\n    \
         caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]\n{more}"
    )
}

fn issue(ca: &DevCa, edit: impl FnOnce(&mut Leaf)) -> Result<Pems> {
    let mut leaf = Leaf::of(&spiffe("default", "secure"), Duration::from_secs(3600));
    leaf.dns = vec![NAME.to_owned()];
    edit(&mut leaf);
    Ok(ca.issue_leaf(&leaf)?)
}

impl Town {
    /// What a path is answered with, through the Gateway and from the mesh: the same.
    async fn asked(&self, path: &str) -> String {
        let outside = match self.visitor.get("any.test", path).await {
            Ok((200, body)) => body,
            Ok((status, _)) => status.to_string(),
            Err(error) => format!("{error:#}"),
        };
        let port = if path == "/h2" { 444 } else { 443 };
        let inside = match self.client.get(format!("http://secure:{port}{path}")).await {
            Ok(response) if response.status() == 200 => text(response).await.unwrap_or_default(),
            Ok(response) => response.status().as_u16().to_string(),
            Err(refusal) => refusal.status.as_u16().to_string(),
        };
        // Over HTTP/2 the request names the host that was asked for.
        let inside = inside.replace(&format!("secure:{port}"), "any.test");
        if inside == outside {
            outside
        } else {
            format!("{outside} | {inside}")
        }
    }

    async fn until_asked(&self, path: &str, expected: &str) {
        until(&format!("{path} is answered with {expected}"), || async {
            self.asked(path).await == expected
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_begun_with_the_name_and_the_protocol_that_the_backend_is_asked_for() -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let files = [("ca", roots("ca", ca.root_pem())), ("policy", policy(NAME, ""))];
    let town = town(&issue(&ca, |_| {})?, &files).await?;
    town.until_asked("/a", &format!("{NAME} http/1.1 HTTP/1.1 /a"))
        .await;
    town.until_asked("/h2", &format!("{NAME} h2 HTTP/2.0 https://any.test/h2"))
        .await;
    let met = town.backend.met();
    for _ in 0..20 {
        town.asked("/a").await;
    }
    assert_eq!(town.backend.met(), met, "connections are used again");
    assert_eq!(town.backend.clear(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_prove_what_is_demanded_gets_nothing() -> Result<()> {
    let (ca, other) = (DevCa::new_in_memory()?, DevCa::new_in_memory()?);
    let files = [("ca", roots("ca", ca.root_pem())), ("policy", policy(NAME, ""))];
    let town = town(&issue(&ca, |_| {})?, &files).await?;
    let fine = format!("{NAME} http/1.1 HTTP/1.1 /");
    town.until_asked("/", &fine).await;

    // A name that the certificate does not have: connections that proved another one are not used.
    town.cluster.apply("policy", &policy("other.example.com", ""))?;
    town.until_asked("/", "503").await;
    town.cluster.apply("policy", &policy(NAME, ""))?;
    town.until_asked("/", &fine).await;
    // Roots that did not sign it.
    town.cluster.apply("ca", &roots("ca", other.root_pem()))?;
    town.until_asked("/", "503").await;
    // The backend follows.
    town.backend.rotate(&issue(&other, |_| {})?)?;
    town.until_asked("/", &fine).await;
    // Roots that are none, and no roots.
    town.cluster.apply("ca", &roots("ca", "nonsense"))?;
    town.until_asked("/", "500").await;
    town.cluster.remove("ca")?;
    town.until_asked("/", "500").await;
    town.cluster.apply("ca", &roots("ca", other.root_pem()))?;
    town.until_asked("/", &fine).await;
    // A policy that is not understood.
    town.cluster
        .apply("policy", &policy(NAME, "").replace("hostname", "hostnam"))?;
    tokio::time::timeout(Duration::from_secs(1), town.until_asked("/", "500"))
        .await
        .ok();
    assert_eq!(
        town.asked("/").await,
        fine,
        "the last good version stays in force"
    );
    assert_eq!(town.backend.clear(), 0, "nothing was ever sent in the clear");

    let said = town.front.mesh().statuses();
    let status = said
        .iter()
        .find(|it| it.resource.to_string() == "BackendTLSPolicy default/p");
    assert_eq!(status.map(|it| it.ancestors.len()), Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_over_proves_nothing_and_other_names_may_be_demanded() -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let over = issue(&ca, |leaf| {
        leaf.not_before = SystemTime::now() - Duration::from_secs(7200);
        leaf.not_after = SystemTime::now() - Duration::from_secs(3600);
    })?;
    let files = [("ca", roots("ca", ca.root_pem())), ("policy", policy(NAME, ""))];
    let town = town(&over, &files).await?;
    town.until_asked("/", "503").await;
    town.backend.rotate(&issue(&ca, |_| {})?)?;
    town.until_asked("/", &format!("{NAME} http/1.1 HTTP/1.1 /"))
        .await;
    let uri = spiffe("default", "secure");
    let subjects = |uri: &str| format!("    subjectAltNames: [{{type: URI, uri: '{uri}'}}]\n");
    town.cluster
        .apply("policy", &policy("asked.example.com", &subjects("spiffe://a/b")))?;
    town.until_asked("/", "503").await;
    town.cluster
        .apply("policy", &policy("asked.example.com", &subjects(uri.as_str())))?;
    town.until_asked("/", "asked.example.com http/1.1 HTTP/1.1 /")
        .await;
    assert_eq!(town.backend.clear(), 0);
    Ok(())
}

/// `spec.tls.backend` of a Gateway: what it shows to backends that ask who calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_proves_itself_to_backends_by_the_certificate_that_it_has_for_them() -> Result<()> {
    let (ca, clients) = (DevCa::new_in_memory()?, DevCa::new_in_memory()?);
    let cluster = Cluster::new()?;
    let ip = cluster.address();
    let backend = Secure::mutual(ip, 8443, &issue(&ca, |_| {})?, clients.root_pem()).await?;
    let files = [("ca", roots("ca", ca.root_pem())), ("policy", policy(NAME, ""))];
    let town = around(cluster, ip, backend, &files).await?;
    let outside = async || match town.visitor.get("any.test", "/").await {
        Ok((200, body)) => body,
        Ok((status, _)) => status.to_string(),
        Err(error) => format!("{error:#}"),
    };
    until("a Gateway that shows nothing is not served", || async {
        outside().await == "503"
    })
    .await;
    let own = issue(&clients, |_| {})?;
    let shown = "  tls: {backend: {clientCertificateRef: {kind: Secret, name: own}}}\n";
    town.cluster.apply("front", &gateway(shown))?;
    until("a certificate that is not there is told of", || async {
        let told = town.front.mesh().status().borrow().problems.clone();
        told.iter()
            .any(|it| it.to_string().contains("InvalidClientCertificateRef"))
    })
    .await;
    assert_eq!(outside().await, "500", "nothing is sent without it");
    town.cluster.apply("own", &secret("own", &own))?;
    until("the certificate is shown", || async {
        outside().await == format!("{NAME} http/1.1 HTTP/1.1 /")
    })
    .await;
    assert_eq!(town.backend.clear(), 0, "nothing was ever sent in the clear");
    Ok(())
}
