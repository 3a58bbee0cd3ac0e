//! The manifests of the Bookinfo sample's `networking` folder, each as it is, against its services: what the sample's
//! documentation promises of them, whether the policy runs in the caller or in a waypoint.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http::{Method, Response};
use inmesh::compile::{Handover, compile};
use inmesh::config::{ResourceStore, Severity, yaml};
use inmesh::policy::balance::Algorithm;
use inmesh::policy::tls::{Origination, Roots};
use inmesh::snapshot::Role;
use inmesh::{Body, Client, Mesh, Refusal, Waypoint};
use inmesh_tests::kit::cluster::{gateway, namespace};
use inmesh_tests::kit::metrics::samples;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, text};
use inmesh_tests::kit::{Cluster, Pod, Shape, Visitor};

in_both_shapes!(
    virtual_service_all_v1_sends_everything_to_the_first_versions,
    virtual_service_reviews_test_v2_shows_it_to_jason_alone,
    virtual_service_reviews_jason_v2_v3_shows_the_third_to_all_others,
    virtual_services_of_one_version_send_everything_there,
    virtual_service_reviews_50_v3_halves,
    virtual_service_reviews_80_20_shares,
    virtual_service_reviews_90_10_shares,
    virtual_service_reviews_v2_v3_halves,
    virtual_service_ratings_test_delay_delays_jason_alone,
    virtual_service_ratings_test_abort_fails_jason_alone,
    fault_injection_details_v1_fails_everybody,
    destination_rule_reviews_draws_at_random,
    destination_rule_all_mtls_is_what_hbone_is_anyway,
    a_subset_without_its_rule_answers_503,
    bookinfo_gateway_shows_the_product_page,
);

/// Every file and the test above or below that is about it: a new one in the folder must be decided on.
const FILES: [&str; 21] = [
    "bookinfo-gateway.yaml",
    "certmanager-gateway.yaml",
    "destination-rule-all-mtls.yaml",
    "destination-rule-all.yaml",
    "destination-rule-reviews.yaml",
    "egress-rule-google-apis.yaml",
    "fault-injection-details-v1.yaml",
    "virtual-service-all-v1.yaml",
    "virtual-service-details-v2.yaml",
    "virtual-service-ratings-db.yaml",
    "virtual-service-ratings-mysql-vm.yaml",
    "virtual-service-ratings-mysql.yaml",
    "virtual-service-ratings-test-abort.yaml",
    "virtual-service-ratings-test-delay.yaml",
    "virtual-service-reviews-50-v3.yaml",
    "virtual-service-reviews-80-20.yaml",
    "virtual-service-reviews-90-10.yaml",
    "virtual-service-reviews-jason-v2-v3.yaml",
    "virtual-service-reviews-test-v2.yaml",
    "virtual-service-reviews-v2-v3.yaml",
    "virtual-service-reviews-v3.yaml",
];

/// A manifest of the sample.
fn manifest(name: &str) -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bookinfo/networking");
    std::fs::read_to_string(folder.join(name)).with_context(|| name.to_owned())
}

/// Services of the sample in some versions, and somebody who calls them.
struct Town {
    cluster: Cluster,
    pods: BTreeMap<String, Pod>,
    curl: Client,
    mesh: Mesh,
    waypoint: Option<Waypoint>,
}

impl Town {
    /// Starts `service-version` pods; `files` are the sample's manifests, there from the beginning.
    async fn start(shape: Shape, names: &[&str], files: &[&str]) -> Result<Self> {
        let cluster = Cluster::new()?;
        let mut planned = Vec::new();
        for name in names {
            let (service, version) = name.split_once('-').context("service-version")?;
            cluster.service(service, service, None)?;
            let pod = cluster
                .pod(name)
                .account(&format!("bookinfo-{service}"))
                .label("app", service)
                .label("version", version);
            cluster.declare(&pod)?;
            planned.push(pod);
        }
        for file in files {
            cluster.apply(file.trim_end_matches(".yaml"), &manifest(file)?)?;
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
        let mut pods = BTreeMap::new();
        for pod in planned {
            pods.insert(pod.name.clone(), cluster.run(&pod).await?);
        }
        let (mesh, curl) = cluster.client("curl").await?;
        Ok(Self {
            cluster,
            pods,
            curl,
            mesh,
            waypoint,
        })
    }

    /// What a service answers to a user: status, and the pod that answered or the text.
    async fn ask(&self, service: &str, user: Option<&str>) -> (u16, String) {
        let user = user.map(|user| ("end-user", user));
        let asked = request(Method::GET, &format!("http://{service}:9080/"), user.as_slice());
        answer(self.curl.request(asked).await).await
    }

    /// How many of some requests each pod answered.
    async fn shares(&self, service: &str, count: usize) -> Result<BTreeMap<String, usize>> {
        let mut shares = BTreeMap::new();
        for _ in 0..count {
            let (status, pod) = self.ask(service, None).await;
            anyhow::ensure!(status == 200, "{status}: {pod}");
            *shares.entry(pod).or_default() += 1;
        }
        Ok(shares)
    }

    /// How many requests were counted with a response flag, by whoever applied the policy.
    fn flagged(&self, flag: &str) -> usize {
        let meshes = [Some(&self.mesh), self.waypoint.as_ref().map(Waypoint::mesh)];
        let all = meshes.into_iter().flatten();
        let counted = all.flat_map(|mesh| samples(&mesh.metrics(), "istio_requests_total"));
        let flagged = counted.filter(|it| it.label("response_flags") == flag);
        flagged.map(|it| it.value as usize).sum()
    }
}

/// Status, and the pod that answered or the text.
async fn answer(result: Result<Response<Body>, Refusal>) -> (u16, String) {
    match result {
        Ok(response) => {
            let status = response.status().as_u16();
            let pod = response.headers().get("x-pod").cloned();
            // To its end, which is when it is counted.
            let text = text(response).await.unwrap_or_default();
            match pod {
                Some(pod) => (status, pod.to_str().unwrap_or_default().to_owned()),
                None => (status, text),
            }
        }
        Err(refusal) => (refusal.status.as_u16(), refusal.body.into_owned()),
    }
}

fn ok(pod: &str) -> (u16, String) {
    (200, pod.to_owned())
}

#[test]
fn every_manifest_of_the_folder_is_decided_on() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bookinfo/networking");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder)? {
        found.push(file?.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    assert_eq!(found, FILES);
    // Nothing in any of them is passed over: no kind, no field.
    for file in FILES {
        let read = yaml::read(file, &manifest(file)?, Some("default"));
        let told: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told, [""; 0], "{file}");
    }
    Ok(())
}

async fn virtual_service_all_v1_sends_everything_to_the_first_versions(shape: Shape) -> Result<()> {
    let pods = [
        "productpage-v1",
        "reviews-v1",
        "reviews-v2",
        "reviews-v3",
        "ratings-v1",
        "ratings-v2",
        "details-v1",
        "details-v2",
    ];
    let files = ["destination-rule-all.yaml", "virtual-service-all-v1.yaml"];
    let town = Town::start(shape, &pods, &files).await?;
    for service in ["productpage", "reviews", "ratings", "details"] {
        for user in [None, Some("jason")] {
            for _ in 0..8 {
                assert_eq!(town.ask(service, user).await, ok(&format!("{service}-v1")));
            }
        }
    }
    Ok(())
}

const REVIEWS: [&str; 3] = ["reviews-v1", "reviews-v2", "reviews-v3"];

async fn virtual_service_reviews_test_v2_shows_it_to_jason_alone(shape: Shape) -> Result<()> {
    let files = [
        "destination-rule-all.yaml",
        "virtual-service-reviews-test-v2.yaml",
    ];
    let town = Town::start(shape, &REVIEWS, &files).await?;
    for _ in 0..8 {
        assert_eq!(town.ask("reviews", Some("jason")).await, ok("reviews-v2"));
        assert_eq!(town.ask("reviews", Some("somebody")).await, ok("reviews-v1"));
        assert_eq!(town.ask("reviews", None).await, ok("reviews-v1"));
    }
    Ok(())
}

async fn virtual_service_reviews_jason_v2_v3_shows_the_third_to_all_others(shape: Shape) -> Result<()> {
    let files = [
        "destination-rule-all.yaml",
        "virtual-service-reviews-jason-v2-v3.yaml",
    ];
    let town = Town::start(shape, &REVIEWS, &files).await?;
    for _ in 0..8 {
        assert_eq!(town.ask("reviews", Some("jason")).await, ok("reviews-v2"));
        assert_eq!(town.ask("reviews", None).await, ok("reviews-v3"));
    }
    Ok(())
}

async fn virtual_services_of_one_version_send_everything_there(shape: Shape) -> Result<()> {
    let all = "destination-rule-all.yaml";
    for (file, pods, expected) in [
        (
            "virtual-service-reviews-v3.yaml",
            &REVIEWS[..],
            &["reviews-v3"][..],
        ),
        (
            "virtual-service-details-v2.yaml",
            &["details-v1", "details-v2"],
            &["details-v2"],
        ),
        (
            "virtual-service-ratings-db.yaml",
            &["reviews-v1", "reviews-v3", "ratings-v1", "ratings-v2"],
            &["reviews-v3", "ratings-v2"],
        ),
        (
            "virtual-service-ratings-mysql.yaml",
            &["reviews-v1", "reviews-v3", "ratings-v1", "ratings-v2-mysql"],
            &["reviews-v3", "ratings-v2-mysql"],
        ),
        (
            "virtual-service-ratings-mysql-vm.yaml",
            &["reviews-v1", "reviews-v3", "ratings-v1", "ratings-v2-mysql-vm"],
            &["reviews-v3", "ratings-v2-mysql-vm"],
        ),
    ] {
        let town = Town::start(shape, pods, &[all, file]).await?;
        for pod in expected {
            let (service, _) = pod.split_once('-').context("service-version")?;
            for user in [None, Some("jason"), None, None] {
                assert_eq!(town.ask(service, user).await, ok(pod), "{file}");
            }
        }
    }
    Ok(())
}

/// Whether a manifest shares requests between two versions of reviews as it says: the first gets so many percent.
async fn halves(shape: Shape, file: &str, first: (&str, f64), second: &str) -> Result<()> {
    const TOTAL: usize = 1_000;
    let town = Town::start(shape, &REVIEWS, &["destination-rule-all.yaml", file]).await?;
    let shares = town.shares("reviews", TOTAL).await?;
    let got = shares.get(first.0).copied().unwrap_or_default();
    let rest = shares.get(second).copied().unwrap_or_default();
    assert_eq!(got + rest, TOTAL, "{shares:?}");
    // Six standard deviations to either side: wrong once in 500 million runs.
    let expected = TOTAL as f64 * first.1 / 100.0;
    let within = 6.0 * (expected * (1.0 - first.1 / 100.0)).sqrt();
    assert!((got as f64 - expected).abs() <= within, "{shares:?}");
    Ok(())
}

async fn virtual_service_reviews_50_v3_halves(shape: Shape) -> Result<()> {
    let file = "virtual-service-reviews-50-v3.yaml";
    halves(shape, file, ("reviews-v1", 50.0), "reviews-v3").await
}

async fn virtual_service_reviews_80_20_shares(shape: Shape) -> Result<()> {
    let file = "virtual-service-reviews-80-20.yaml";
    halves(shape, file, ("reviews-v1", 80.0), "reviews-v2").await
}

async fn virtual_service_reviews_90_10_shares(shape: Shape) -> Result<()> {
    let file = "virtual-service-reviews-90-10.yaml";
    halves(shape, file, ("reviews-v1", 90.0), "reviews-v2").await
}

async fn virtual_service_reviews_v2_v3_halves(shape: Shape) -> Result<()> {
    let file = "virtual-service-reviews-v2-v3.yaml";
    halves(shape, file, ("reviews-v2", 50.0), "reviews-v3").await
}

/// The documentation's delay is seven seconds; time does pass here, since sockets know no other.
async fn virtual_service_ratings_test_delay_delays_jason_alone(shape: Shape) -> Result<()> {
    let delay = Duration::from_secs(7);
    let files = [
        "destination-rule-all.yaml",
        "virtual-service-ratings-test-delay.yaml",
    ];
    let town = Town::start(shape, &["ratings-v1", "ratings-v2"], &files).await?;
    let began = Instant::now();
    assert_eq!(town.ask("ratings", None).await, ok("ratings-v1"));
    assert!(began.elapsed() < delay, "nobody else is delayed");
    let began = Instant::now();
    assert_eq!(town.ask("ratings", Some("jason")).await, ok("ratings-v1"));
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    until("the delay is counted", || async { town.flagged("DI") == 1 }).await;
    Ok(())
}

async fn virtual_service_ratings_test_abort_fails_jason_alone(shape: Shape) -> Result<()> {
    let files = [
        "destination-rule-all.yaml",
        "virtual-service-ratings-test-abort.yaml",
    ];
    let town = Town::start(shape, &["ratings-v1", "ratings-v2"], &files).await?;
    for _ in 0..4 {
        assert_eq!(
            town.ask("ratings", Some("jason")).await,
            (500, "fault filter abort".to_owned())
        );
        assert_eq!(town.ask("ratings", None).await, ok("ratings-v1"));
    }
    assert_eq!(
        town.pods["ratings-v1"].echo.served(),
        4,
        "what is aborted is not sent"
    );
    until("aborts are counted", || async { town.flagged("FI") == 4 }).await;
    Ok(())
}

/// The file declares the subset itself, and answers 555 to all.
async fn fault_injection_details_v1_fails_everybody(shape: Shape) -> Result<()> {
    let town = Town::start(shape, &["details-v1"], &["fault-injection-details-v1.yaml"]).await?;
    for user in [None, Some("jason")] {
        assert_eq!(
            town.ask("details", user).await,
            (555, "fault filter abort".to_owned())
        );
    }
    assert_eq!(town.pods["details-v1"].echo.served(), 0);
    Ok(())
}

async fn destination_rule_reviews_draws_at_random(shape: Shape) -> Result<()> {
    const TOTAL: usize = 600;
    let town = Town::start(shape, &REVIEWS, &["destination-rule-reviews.yaml"]).await?;
    let shares = town.shares("reviews", TOTAL).await?;
    for pod in REVIEWS {
        // A third each: 200, six standard deviations (69) to either side.
        let got = shares.get(pod).copied().unwrap_or_default();
        assert!(got.abs_diff(TOTAL / 3) <= 69, "{shares:?}");
    }
    let whoever = town.waypoint.as_ref().map_or(&town.mesh, Waypoint::mesh);
    let view = whoever.snapshot();
    let clusters = view
        .clusters
        .iter()
        .filter(|it| it.service.name.as_ref() == "reviews" && it.port == 9080);
    let algorithms: Vec<_> = clusters
        .map(|it| &it.endpoints.policy().balance.algorithm)
        .collect();
    assert_eq!(
        algorithms,
        [&Algorithm::Random; 4],
        "the service and its three subsets"
    );
    // Its subsets are there for a VirtualService.
    let file = "virtual-service-reviews-v3.yaml";
    town.cluster.apply("v3", &manifest(file)?)?;
    until("all go to the third", || async {
        let mut all = Vec::new();
        for _ in 0..8 {
            all.push(town.ask("reviews", None).await);
        }
        all.iter().all(|it| *it == ok("reviews-v3"))
    })
    .await;
    Ok(())
}

async fn destination_rule_all_mtls_is_what_hbone_is_anyway(shape: Shape) -> Result<()> {
    let files = ["destination-rule-all-mtls.yaml", "virtual-service-all-v1.yaml"];
    let pods = [
        "productpage-v1",
        "reviews-v1",
        "reviews-v2",
        "ratings-v1",
        "details-v1",
    ];
    let town = Town::start(shape, &pods, &files).await?;
    for service in ["productpage", "reviews", "ratings", "details"] {
        let answer = seen(town.curl.get(format!("http://{service}:9080/")).await).await?;
        assert_eq!(answer.pod, format!("{service}-v1"));
        let caller = match shape {
            Shape::InProcess => "spiffe://cluster.local/ns/default/sa/curl",
            Shape::Waypoint => "spiffe://cluster.local/ns/default/sa/waypoint",
        };
        assert_eq!(answer.peer.as_deref(), Some(caller));
    }
    // A workload that does not speak HBONE could be called in the clear only: it is not called.
    let ip = town.cluster.address();
    let plain = tokio::net::TcpListener::bind((ip, 9080)).await?;
    town.cluster.apply(
        "plain",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: ratings-plain, namespace: default, labels: {{app: ratings, version: \
             v1}}}}\nstatus: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
        ),
    )?;
    until("calls of the plain workload are refused", || async {
        town.ask("ratings", None).await.0 == 500
    })
    .await;
    let nobody = tokio::time::timeout(Duration::from_millis(50), plain.accept()).await;
    assert!(nobody.is_err(), "nobody connected to it");
    Ok(())
}

async fn a_subset_without_its_rule_answers_503(shape: Shape) -> Result<()> {
    let town = Town::start(shape, &REVIEWS, &["virtual-service-reviews-v3.yaml"]).await?;
    assert_eq!(town.ask("reviews", None).await.0, 503);
    let whoever = town.waypoint.as_ref().map_or(&town.mesh, Waypoint::mesh);
    let problems = whoever.status().borrow().problems.clone();
    let problem = problems.iter().find(|it| it.field.ends_with(".subset"));
    let problem = problem.context("the subset is reported")?;
    assert_eq!(problem.severity, Severity::Error);
    assert!(
        problem.place.file.ends_with("virtual-service-reviews-v3.yaml"),
        "{problem}"
    );
    assert!(problem.place.line > 0 && !problem.remedy.is_empty());
    town.cluster
        .apply("destination-rule-all", &manifest("destination-rule-all.yaml")?)?;
    until("the rule makes it work", || async {
        town.ask("reviews", None).await == ok("reviews-v3")
    })
    .await;
    Ok(())
}

/// No Gateway of Gateway API: the pod is an ingress because of its label, as in Istio.
async fn bookinfo_gateway_shows_the_product_page(shape: Shape) -> Result<()> {
    let files = ["destination-rule-all.yaml", "bookinfo-gateway.yaml"];
    let town = Town::start(shape, &["productpage-v1"], &files).await?;
    let spec = town
        .cluster
        .waypoint_pod("default", "ingress")
        .label("istio", "ingressgateway");
    town.cluster.declare(&spec)?;
    let ingress = town.cluster.run_waypoint(&spec).await?;
    let visitor = Visitor::to(spec.ip, 8080);
    until("the gateway listens", || async {
        visitor.get("bookinfo.example.com", "/productpage").await.is_ok()
    })
    .await;
    for (path, expected) in [
        ("/productpage", 200),
        ("/productpage?u=normal", 200),
        ("/static/css/a.css", 200),
        ("/login", 200),
        ("/logout", 200),
        ("/api/v1/products/0/reviews", 200),
        ("/", 404),
        ("/productpages", 404),
        ("/api/v2", 404),
    ] {
        let (status, body) = visitor.get("any.host:8080", path).await?;
        assert_eq!(status, expected, "{path}: {body}");
        if expected == 200 {
            assert!(body.contains("\"productpage-v1\""), "{body}");
        }
    }
    let told = ingress.mesh().status().borrow().problems.clone();
    // The sample's DestinationRules are for all of its services, of which this town has one.
    let ours: Vec<_> = told
        .iter()
        .filter(|it| it.severity != Severity::Ignored && it.field != "spec.host")
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
    Ok(())
}

/// A Gateway in another namespace, on a port that asks for a privilege: the pod binds another, as behind a Service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certmanager_gateway_serves_challenges() -> Result<()> {
    let cluster = Cluster::new()?;
    let solver = cluster
        .pod("cert-manager-resolver-0")
        .namespace("istio-system")
        .label("app", "resolver");
    cluster.declare(&solver)?;
    cluster.apply(
        "service",
        "apiVersion: v1\nkind: Service\nmetadata: {name: cert-manager-resolver, namespace: istio-system}\nspec: {selector: {app: \
         resolver}, ports: [{name: http, port: 8089, targetPort: 9080}]}\n",
    )?;
    cluster.apply("certmanager-gateway", &manifest("certmanager-gateway.yaml")?)?;
    let spec = cluster
        .waypoint_pod("istio-system", "istio-ingressgateway")
        .label("istio", "ingressgateway");
    cluster.declare(&spec)?;
    let solver = cluster.run(&solver).await?;
    let mesh = cluster
        .participant("istio-system", "istio-ingressgateway")?
        .pod(&spec.name)
        .address(spec.ip.into())
        .role(Role::Gateway {
            namespace: "istio-system".into(),
            name: "istio-ingressgateway".into(),
        })
        .start()
        .await?;
    let _ingress = Waypoint::start(mesh, HashMap::from([(80, 8180)])).await?;
    let visitor = Visitor::to(spec.ip, 8180);
    until("the gateway listens", || async {
        visitor.get("shop.example.com", "/").await.is_ok()
    })
    .await;
    let path = "/.well-known/acme-challenge/token";
    let (status, body) = visitor.get("shop.example.com", path).await?;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(&solver.spec.name), "{body}");
    assert_eq!(visitor.get("shop.example.com", "/").await?.0, 404);
    Ok(())
}

/// The file as it is: what would be spoken to whom. Nobody in a test may call Google; that TLS is begun so is shown with
/// servers of our own (`destination_tls`).
#[test]
fn egress_rule_google_apis_begins_tls() -> Result<()> {
    let read = yaml::read(
        "egress.yaml",
        &manifest("egress-rule-google-apis.yaml")?,
        Some("default"),
    );
    let mut store = ResourceStore::default();
    read.entries.into_iter().for_each(|it| store.apply(it));
    let node = inmesh::snapshot::Node {
        namespace: "default".into(),
        pod: None,
        addr: None,
        labels: Default::default(),
        identity: None,
        role: Role::Workload,
        root_namespace: "istio-system".into(),
        trust_domains: vec!["cluster.local".into()],
        cluster_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
        propagation: Default::default(),
        paths: Default::default(),
    };
    let asked = compile(&store, &node, &Handover::default(), None).names;
    let host = asked.iter().next().context("a name must be looked up")?.clone();
    assert_eq!(host.as_str(), "www.googleapis.com");
    let handover = Handover {
        resolved: [(host, vec!["192.0.2.7".parse()?])].into(),
        ..Handover::default()
    };
    let compiled = compile(&store, &node, &handover, None);
    let ours: Vec<_> = compiled
        .problems
        .iter()
        .filter(|it| it.resource.is_some())
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
    let clusters = compiled.snapshot.clusters.iter();
    let secure: Vec<_> = clusters.filter(|it| it.port == 443).collect();
    let [cluster] = secure.as_slice() else {
        anyhow::bail!("{secure:?}")
    };
    // Settings of a port inherit nothing, so ROUND_ROBIN is for port 80 alone.
    assert_eq!(
        cluster.endpoints.policy().balance.algorithm,
        Algorithm::LeastRequest
    );
    let endpoint = cluster.endpoints.endpoints().first().context("an address")?;
    assert_eq!(endpoint.addr, "192.0.2.7:443".parse()?);
    let Origination::Tls(origin) = &endpoint.tls else {
        anyhow::bail!("{:?}", endpoint.tls)
    };
    assert_eq!(
        (&*origin.server_name, &origin.roots),
        ("www.googleapis.com", &Roots::System)
    );
    // Requests to port 80 go to port 443.
    let service = compiled.snapshot.services.first().context("a service")?;
    let rules: Vec<usize> = service.ports.iter().map(|it| it.routes.rules().count()).collect();
    assert_eq!(rules, [1, 0]);
    Ok(())
}
