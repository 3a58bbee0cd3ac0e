//! VirtualServices, DestinationRules and Istio's Gateways beyond the sample's: on sockets, in both shapes.

use std::time::Duration;

use anyhow::Result;
use http::{Method, header};
use inmesh::config::Severity;
use inmesh::identity::dev_ca::{DevCa, Leaf, Pems};
use inmesh::testing::Issuer;
use inmesh::{Client, Mesh};
use inmesh_tests::kit::cluster::spiffe;
use inmesh_tests::kit::visitor::secret;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status};
use inmesh_tests::kit::{Shape, Visitor, World};
use serde_json::json;

in_both_shapes!(
    a_fault_is_drawn_once_for_a_request_and_never_retried_or_copied,
    callers_ask_for_faults_by_header_where_the_resource_lets_them,
    labels_of_the_caller_choose_where_they_are_known,
    a_rewritten_path_keeps_its_slash,
    an_ejected_endpoint_of_a_subset_stays_ejected_when_the_configuration_changes,
);

const URL: &str = "http://reviews:9080";

const SUBSETS: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews, namespace: default}\nspec:\n  \
    host: reviews\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]\n";

fn routes(annotation: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews, namespace: default{annotation}}}\nspec:\n  \
         hosts: [reviews]\n  http: {http}\n"
    )
}

fn to(subset: &str) -> String {
    format!("route: [{{destination: {{host: reviews, subset: {subset}}}}}]")
}

/// Whoever applies the routes.
fn point(world: &World) -> &Mesh {
    match &world.waypoint {
        Some(waypoint) => waypoint.mesh(),
        None => &world.meshes()[0],
    }
}

async fn pod(client: &Client, url: &str, headers: &[(&str, &str)]) -> Result<String> {
    let asked = request(Method::GET, url, headers);
    Ok(seen(client.request(asked).await).await?.pod)
}

fn token_rule(issuer: &Issuer, target: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: idp, namespace: default}}\nspec:\n  {target}\n  \
         jwtRules: [{{issuer: 'https://idp', jwks: '{}'}}]\n",
        issuer.jwks()
    )
}

async fn a_fault_is_drawn_once_for_a_request_and_never_retried_or_copied(shape: Shape) -> Result<()> {
    const TOTAL: usize = 400;
    let http = format!(
        "[{{fault: {{abort: {{httpStatus: 503, percentage: {{value: 50}}}}}}, retries: {{attempts: 5, retryOn: '5xx'}}, \
         mirror: {{host: reviews, subset: v2}}, {}}}]",
        to("v1")
    );
    let world = World::start(shape, &[("subsets", SUBSETS), ("routes", &routes("", &http))]).await?;
    let mut failed = 0;
    for _ in 0..TOTAL {
        match status(world.curl.get(format!("{URL}/")).await) {
            503 => failed += 1,
            other => assert_eq!(other, 200),
        }
    }
    // Six standard deviations (60) to either side of a half; six draws would let one in 64 through.
    assert!((140..=260).contains(&failed), "{failed} of {TOTAL} failed");
    assert_eq!(world.v1.echo.served(), TOTAL - failed);
    until("copies of what was sent came", || async {
        world.v2.echo.served() == TOTAL - failed
    })
    .await;
    Ok(())
}

async fn callers_ask_for_faults_by_header_where_the_resource_lets_them(shape: Shape) -> Result<()> {
    let http = format!("[{{{}}}]", to("v1"));
    let world = World::start(shape, &[("subsets", SUBSETS), ("routes", &routes("", &http))]).await?;
    let url = format!("{URL}/");
    let ask = || async {
        let asked = request(Method::GET, &url, &[("x-envoy-fault-abort-request", "418")]);
        status(world.curl.request(asked).await)
    };
    assert_eq!(ask().await, 200, "as in Istio");
    let open = routes(", annotations: {inmesh/fault-headers: 'true'}", &http);
    world.cluster.apply("routes", &open)?;
    until("the fault is had", || async { ask().await == 418 }).await;
    assert_eq!(status(world.curl.get(&url).await), 200, "nobody else has it");
    Ok(())
}

async fn labels_of_the_caller_choose_where_they_are_known(shape: Shape) -> Result<()> {
    let http = format!(
        "[{{match: [{{sourceLabels: {{app: cart}}}}], {}}}, {{{}}}]",
        to("v2"),
        to("v1")
    );
    let world = World::start(shape, &[("subsets", SUBSETS), ("routes", &routes("", &http))]).await?;
    let cart = world
        .cluster
        .participant("default", "cart")?
        .label("app", "cart")
        .start()
        .await?;
    let url = format!("{URL}/");
    let expected = match shape {
        Shape::InProcess => "reviews-v2",
        // Its callers are of all kinds, so the match is not there for it.
        Shape::Waypoint => "reviews-v1",
    };
    for _ in 0..4 {
        assert_eq!(pod(&cart.client(), &url, &[]).await?, expected);
        assert_eq!(pod(&world.curl, &url, &[]).await?, "reviews-v1");
    }
    Ok(())
}

async fn a_rewritten_path_keeps_its_slash(shape: Shape) -> Result<()> {
    let http = format!(
        "[{{match: [{{uri: {{prefix: /a}}}}], rewrite: {{uri: b}}, {one}}}, \
          {{rewrite: {{uriRegexRewrite: {{match: '^/(.*)$', rewrite: '\\1'}}}}, {one}}}]",
        one = to("v1")
    );
    let world = World::start(shape, &[("subsets", SUBSETS), ("routes", &routes("", &http))]).await?;
    for (path, expected) in [
        ("/a/x?q", "/b/x?q"),
        ("/a", "/b"),
        ("/c/d", "/c/d"),
        ("/@elsewhere/", "/@elsewhere/"),
    ] {
        let seen = seen(world.curl.get(format!("{URL}{path}")).await).await?;
        assert_eq!(seen.path, expected, "{path}");
        assert_eq!(seen.host, "reviews:9080");
    }
    Ok(())
}

async fn an_ejected_endpoint_of_a_subset_stays_ejected_when_the_configuration_changes(
    shape: Shape,
) -> Result<()> {
    let subsets = |requests: u32| {
        SUBSETS.replace(
            "labels: {version: v1}",
            &format!(
                "labels: {{version: v1}}, trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 1, maxEjectionPercent: 100, \
                 baseEjectionTime: 300s}}, connectionPool: {{http: {{http2MaxRequests: {requests}}}}}}}"
            ),
        )
    };
    let http = format!("[{{retries: {{attempts: 0}}, {}}}]", to("v1"));
    let first = subsets(100);
    let world = World::start(shape, &[("subsets", &first), ("routes", &routes("", &http))]).await?;
    assert_eq!(status(world.curl.get(format!("{URL}/status/500")).await), 500);
    assert_eq!(
        status(world.curl.get(format!("{URL}/")).await),
        503,
        "its only endpoint is ejected"
    );
    let before = point(&world).snapshot().generation;
    world.cluster.apply("subsets", &subsets(99))?;
    until("the change is in force", || async {
        let view = point(&world).snapshot();
        let mut clusters = view
            .clusters
            .iter()
            .filter(|it| it.subset.as_deref() == Some("v1"));
        view.generation > before && clusters.any(|it| it.endpoints.policy().limits.requests == 99)
    })
    .await;
    assert_eq!(
        status(world.curl.get(format!("{URL}/")).await),
        503,
        "it still is"
    );
    // The service as a whole, and the other subset, never had anything to do with it.
    world
        .cluster
        .apply("routes", &routes("", &format!("[{{{}}}]", to("v2"))))?;
    world.until(&format!("{URL}/"), 200).await;
    Ok(())
}

fn issue(ca: &DevCa, host: &str) -> Result<Pems> {
    let mut leaf = Leaf::of(&spiffe("default", "ingress"), Duration::from_secs(3600));
    leaf.dns = vec![host.to_owned()];
    Ok(ca.issue_leaf(&leaf)?)
}

/// Two servers on one port, one of which wants to know its callers; and one that sends callers there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn istios_gateway_ends_tls_with_its_secrets_and_asks_clients_where_it_must() -> Result<()> {
    let (ca, clients) = (DevCa::new_in_memory()?, DevCa::new_in_memory()?);
    let roots = clients.root_pem().trim_end().replace('\n', "\n    ");
    let open = secret("open", &issue(&ca, "open.test")?);
    let closed = format!(
        "{}  ca.crt: |\n    {roots}\n",
        secret("closed", &issue(&ca, "closed.test")?)
    );
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: shop, namespace: default}\nspec:\n  selector: {istio: \
                   ingressgateway}\n  servers:\n  - {port: {number: 8443, name: https, protocol: HTTPS}, hosts: [open.test], tls: {mode: SIMPLE, \
                   credentialName: open}}\n  - {port: {number: 8443, name: https-b, protocol: HTTPS}, hosts: [closed.test], tls: {mode: MUTUAL, \
                   credentialName: closed}}\n  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: true}}\n  - \
                   {port: {number: 8080, name: tcp, protocol: TCP}, hosts: ['*']}\n";
    let issuer = Issuer::new();
    let http = format!(
        "[{{match: [{{headers: {{'@request.auth.claims[groups]': {{exact: testers}}}}}}], {}}}, {{{}}}]",
        to("v2"),
        to("v1")
    );
    // Of several ports the Gateway's own number would be meant.
    let http = http.replace("subset:", "port: {number: 9080}, subset:");
    let bound = routes("", &http).replace("hosts: [reviews]", "hosts: ['*']\n  gateways: [shop]");
    let world = World::start(
        Shape::InProcess,
        &[
            ("subsets", SUBSETS),
            ("shop", gateway),
            ("bound", &bound),
            ("open", &open),
            ("closed", &closed),
            (
                "tokens",
                &token_rule(&issuer, "selector: {matchLabels: {istio: ingressgateway}}"),
            ),
        ],
    )
    .await?;
    let spec = world
        .cluster
        .waypoint_pod("default", "ingress")
        .label("istio", "ingressgateway");
    world.cluster.declare(&spec)?;
    let ingress = world.cluster.run_waypoint(&spec).await?;
    let plain = Visitor::to(spec.ip, 8080);
    until("the gateway listens", || async {
        plain.get("open.test", "/").await.is_ok()
    })
    .await;

    let moved = plain.connect().await?.response("open.test", "/a?b").await?;
    assert_eq!(moved.status(), 301);
    assert_eq!(moved.headers()["location"], "https://open.test/a?b");

    let visitor = |name: &str| Visitor::to(spec.ip, 8443).tls(name, ca.root_pem());
    let (status, body) = visitor("open.test").get("open.test", "/").await?;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"reviews-v1\""), "{body}");
    // A claim of a verified token chooses, here where tokens are verified before routes are looked up.
    for (groups, pod) in [
        (&["users", "testers"][..], "reviews-v2"),
        (&["users"], "reviews-v1"),
    ] {
        let token = issuer.token(&json!({"iss": "https://idp", "sub": "jason", "groups": groups}));
        let mut visit = visitor("open.test").connect().await?;
        let headers = [(header::AUTHORIZATION, format!("Bearer {token}"))];
        let (status, body) = visit.get_with("open.test", "/", &headers).await?;
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(&format!("\"{pod}\"")), "{groups:?}: {body}");
    }
    let forged = [(header::AUTHORIZATION, "Bearer nonsense".to_owned())];
    let mut visit = visitor("open.test").connect().await?;
    assert_eq!(visit.get_with("open.test", "/", &forged).await?.0, 401);
    assert!(
        visitor("closed.test").get("closed.test", "/").await.is_err(),
        "nobody without a certificate"
    );
    let known = issue(&clients, "somebody.test")?;
    let (status, body) = visitor("closed.test")
        .certificate(&known)
        .get("closed.test", "/")
        .await?;
    assert_eq!(status, 200, "{body}");
    // A connection that was made for the one is not for the other.
    assert_eq!(visitor("open.test").get("closed.test", "/").await?.0, 421);

    let told = ingress.mesh().status().borrow().problems.clone();
    let refused = told.iter().find(|it| it.field == "spec.servers[3].port.protocol");
    assert!(
        refused.is_some_and(|it| it.severity == Severity::Error),
        "{told:#?}"
    );
    Ok(())
}
