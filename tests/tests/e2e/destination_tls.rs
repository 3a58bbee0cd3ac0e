//! `tls` of DestinationRules, towards servers outside the mesh that really speak it.

use std::time::Duration;

use anyhow::Result;
use inmesh::identity::dev_ca::{DevCa, Leaf, Pems};
use inmesh::{Client, Mesh, Waypoint};
use inmesh_tests::kit::cluster::{gateway, namespace, spiffe};
use inmesh_tests::kit::secure::Secure;
use inmesh_tests::kit::visitor::secret;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::text;
use inmesh_tests::kit::{Cluster, Shape};

in_both_shapes!(
    simple_proves_the_host_by_roots_in_a_file,
    names_and_the_lack_of_verification_are_as_written,
    mutual_shows_a_certificate_from_files,
    a_secret_is_used_where_it_may_be,
    without_tls_nothing_changes_and_istio_mutual_needs_hbone,
    a_rule_that_cannot_be_read_sends_nothing,
);

const HOST: &str = "api.example.com";

/// A server behind port 443 of a ServiceEntry; requests to its port 80 go there.
struct Town {
    cluster: Cluster,
    server: Secure,
    client: Client,
    mesh: Mesh,
    waypoint: Option<Waypoint>,
}

impl Town {
    async fn start(
        shape: Shape,
        pems: &Pems,
        clients: Option<&str>,
        files: &[(&str, String)],
    ) -> Result<Self> {
        let cluster = Cluster::new()?;
        let ip = cluster.address();
        let server = match clients {
            None => Secure::start(ip, 8443, pems).await?,
            Some(roots) => Secure::mutual(ip, 8443, pems, roots).await?,
        };
        cluster.apply(
            "entry",
            &format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: api, namespace: default}}\nspec:\n  \
                 hosts: [{HOST}]\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: \
                 https, protocol: HTTPS}}]\n  endpoints: [{{address: {ip}, ports: {{https: 8443}}}}]\n---\napiVersion: \
                 networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: api, namespace: default}}\nspec:\n  hosts: [{HOST}]\n  \
                 http: [{{match: [{{port: 80}}], route: [{{destination: {{host: {HOST}, port: {{number: 443}}}}}}]}}]\n"
            ),
        )?;
        for (name, yaml) in files {
            cluster.apply(name, yaml)?;
        }
        let mut waypoint = None;
        if shape == Shape::Waypoint {
            let spec = cluster.waypoint_pod("default", "waypoint");
            cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
            let bound = namespace("default", &[("istio.io/use-waypoint", "waypoint")]);
            cluster.apply("namespace", &bound)?;
            cluster.declare(&spec)?;
            waypoint = Some(cluster.run_waypoint(&spec).await?);
        }
        let (mesh, client) = cluster.client("curl").await?;
        Ok(Self {
            cluster,
            server,
            client,
            mesh,
            waypoint,
        })
    }

    async fn ask(&self) -> String {
        match self.client.get(format!("http://{HOST}/a")).await {
            Ok(response) if response.status() == 200 => text(response).await.unwrap_or_default(),
            Ok(response) => response.status().as_u16().to_string(),
            Err(refusal) => refusal.status.as_u16().to_string(),
        }
    }

    async fn until(&self, expected: &str) {
        until(&format!("the answer is {expected}"), || async {
            self.ask().await == expected
        })
        .await;
    }

    fn rule(&self, tls: &str) -> Result<()> {
        self.cluster.apply("rule", &rule(tls))
    }

    /// Whoever applies the rule.
    fn point(&self) -> &Mesh {
        self.waypoint.as_ref().map_or(&self.mesh, Waypoint::mesh)
    }
}

fn rule(tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: api, namespace: default}}\nspec:\n  host: \
         {HOST}\n  trafficPolicy: {{portLevelSettings: [{{port: {{number: 443}}, tls: {tls}}}]}}\n"
    )
}

fn issue(ca: &DevCa) -> Result<Pems> {
    let mut leaf = Leaf::of(&spiffe("default", "api"), Duration::from_secs(3600));
    leaf.dns = vec![HOST.to_owned()];
    Ok(ca.issue_leaf(&leaf)?)
}

/// What the server saw: server name, protocol, version and path.
const FINE: &str = "api.example.com http/1.1 HTTP/1.1 /a";

/// A file beside the configuration, with its path.
fn file(dir: &tempfile::TempDir, name: &str, pem: &str) -> Result<String> {
    let path = dir.path().join(name);
    std::fs::write(&path, pem)?;
    Ok(path.display().to_string())
}

async fn simple_proves_the_host_by_roots_in_a_file(shape: Shape) -> Result<()> {
    let (ca, other) = (DevCa::new_in_memory()?, DevCa::new_in_memory()?);
    let dir = tempfile::tempdir()?;
    let path = file(&dir, "roots.pem", ca.root_pem())?;
    let town = Town::start(
        shape,
        &issue(&ca)?,
        None,
        &[("rule", rule(&format!("{{mode: SIMPLE, caCertificates: {path}}}")))],
    )
    .await?;
    town.until(FINE).await;
    // The file changes, and the server follows.
    file(&dir, "roots.pem", other.root_pem())?;
    town.until("503").await;
    town.server.rotate(&issue(&other)?)?;
    town.until(FINE).await;
    // A file that is not there keeps requests from being sent, and is told.
    town.rule("{mode: SIMPLE, caCertificates: /nowhere/at/all.pem}")?;
    town.until("500").await;
    until("the file is reported", || async {
        let status = town.point().status().borrow().clone();
        let problem = status
            .problems
            .iter()
            .find(|it| it.to_string().contains("/nowhere/at/all.pem"));
        problem.is_some_and(|it| it.field == "spec.trafficPolicy.portLevelSettings[0].tls.caCertificates")
    })
    .await;
    // The machine's own roots know nothing of our authorities.
    town.rule("{mode: SIMPLE}")?;
    town.until("503").await;
    assert_eq!(town.server.clear(), 0, "nothing was ever sent in the clear");
    Ok(())
}

async fn names_and_the_lack_of_verification_are_as_written(shape: Shape) -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let dir = tempfile::tempdir()?;
    let path = file(&dir, "roots.pem", ca.root_pem())?;
    let of = |more: &str| format!("{{mode: SIMPLE, caCertificates: {path}{more}}}");
    let town = Town::start(shape, &issue(&ca)?, None, &[("rule", rule(&of("")))]).await?;
    town.until(FINE).await;
    // Another name is asked for, and not proved.
    town.rule(&of(", sni: other.example.com"))?;
    town.until("503").await;
    // With names of its own the server name is only asked for.
    town.rule(&of(&format!(
        ", sni: other.example.com, subjectAltNames: [{HOST}]"
    )))?;
    town.until("other.example.com http/1.1 HTTP/1.1 /a").await;
    let uri = spiffe("default", "api");
    town.rule(&of(&format!(
        ", sni: uri.example.com, subjectAltNames: ['{uri}']"
    )))?;
    town.until("uri.example.com http/1.1 HTTP/1.1 /a").await;
    town.rule(&of(", subjectAltNames: [nobody.example.com]"))?;
    town.until("503").await;
    // Nothing is proved where that is written, and that is told.
    town.rule("{mode: SIMPLE, sni: any.example.com, insecureSkipVerify: true}")?;
    town.until("any.example.com http/1.1 HTTP/1.1 /a").await;
    // What is wrong is told behind the snapshot's back.
    until("it is said that nothing is proved", || async {
        let told = town.point().status().borrow().problems.clone();
        told.iter().any(|it| it.field.ends_with("tls.insecureSkipVerify"))
    })
    .await;
    // What is not read keeps requests from being sent.
    town.rule(&of(", caCrl: /a.crl"))?;
    town.until("500").await;
    assert_eq!(town.server.clear(), 0);
    Ok(())
}

async fn mutual_shows_a_certificate_from_files(shape: Shape) -> Result<()> {
    let (ca, clients) = (DevCa::new_in_memory()?, DevCa::new_in_memory()?);
    let dir = tempfile::tempdir()?;
    let roots = file(&dir, "roots.pem", ca.root_pem())?;
    let own = issue(&clients)?;
    let (chain, key) = (
        file(&dir, "own.pem", &own.chain)?,
        file(&dir, "own.key", &own.key)?,
    );
    let of = |key: &str| {
        format!("{{mode: MUTUAL, caCertificates: {roots}, clientCertificate: {chain}, privateKey: {key}}}")
    };
    let town = Town::start(
        shape,
        &issue(&ca)?,
        Some(clients.root_pem()),
        &[(
            "rule",
            rule(&format!("{{mode: SIMPLE, caCertificates: {roots}}}")),
        )],
    )
    .await?;
    town.until("503").await;
    town.rule(&of(&key))?;
    town.until(FINE).await;
    // A certificate of somebody whom the server does not know.
    let other = issue(&ca)?;
    file(&dir, "own.pem", &other.chain)?;
    file(&dir, "own.key", &other.key)?;
    town.until("503").await;
    // A key that is none.
    town.rule(&of(&roots))?;
    town.until("500").await;
    assert_eq!(town.server.clear(), 0);
    Ok(())
}

/// A Gateway uses any rule's Secret of its own namespace; a workload only by a rule that selects it.
async fn a_secret_is_used_where_it_may_be(shape: Shape) -> Result<()> {
    let (ca, clients) = (DevCa::new_in_memory()?, DevCa::new_in_memory()?);
    let own = secret("own", &issue(&clients)?);
    let authority = secret("own-cacert", &issue(&ca)?);
    let authority = authority
        .split("  tls.crt")
        .next()
        .unwrap_or_default()
        .replace("kubernetes.io/tls", "Opaque");
    let pem = ca.root_pem().trim_end().replace('\n', "\n    ");
    let files = [
        ("rule", rule("{mode: MUTUAL, credentialName: own}")),
        ("own", own),
        ("cacert", format!("{authority}  ca.crt: |\n    {pem}\n")),
    ];
    let town = Town::start(shape, &issue(&ca)?, Some(clients.root_pem()), &files).await?;
    match shape {
        Shape::Waypoint => town.until(FINE).await,
        Shape::InProcess => {
            town.until("500").await;
            let told = town.point().status().borrow().problems.clone();
            let problem = told.iter().find(|it| it.field.ends_with("tls.credentialName"));
            assert!(
                problem.is_some_and(|it| it.to_string().contains("workloadSelector")),
                "{told:#?}"
            );
            let selecting = files[0].1.replace(
                "spec:\n",
                "spec:\n  workloadSelector: {matchLabels: {}}\n  exportTo: ['.']\n",
            );
            town.cluster.apply("rule", &selecting)?;
            town.until(FINE).await;
        }
    }
    town.cluster.remove("own")?;
    town.until("500").await;
    assert_eq!(town.server.clear(), 0);
    Ok(())
}

async fn without_tls_nothing_changes_and_istio_mutual_needs_hbone(shape: Shape) -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let town = Town::start(
        shape,
        &issue(&ca)?,
        None,
        &[("rule", rule("{mode: ISTIO_MUTUAL}"))],
    )
    .await?;
    town.until("500").await;
    assert_eq!(town.server.clear() + town.server.met(), 0, "nobody connected");
    town.rule("{mode: DISABLE}")?;
    until("the request is sent as it is", || async {
        town.ask().await;
        town.server.clear() > 0
    })
    .await;
    assert_eq!(town.server.met(), 0);
    Ok(())
}

async fn a_rule_that_cannot_be_read_sends_nothing(shape: Shape) -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let dir = tempfile::tempdir()?;
    let path = file(&dir, "roots.pem", ca.root_pem())?;
    let good = format!("{{mode: SIMPLE, caCertificates: {path}}}");
    let bad = good.replace("SIMPLE", "SIMPEL");
    let town = Town::start(shape, &issue(&ca)?, None, &[("rule", rule(&bad))]).await?;
    town.until("500").await;
    assert_eq!(town.server.clear() + town.server.met(), 0, "nobody connected");
    town.rule(&good)?;
    town.until(FINE).await;
    // What was read well before stays in force.
    town.rule(&good.replace("caCertificates", "caCertificate"))?;
    until("the mistake is reported", || async {
        let told = town.point().status().borrow().problems.clone();
        told.iter().any(|it| it.field.ends_with("tls.caCertificate"))
    })
    .await;
    assert_eq!(town.ask().await, FINE);
    assert_eq!(town.server.clear(), 0);
    Ok(())
}
