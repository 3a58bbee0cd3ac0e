//! The `ExternalAuth` filter: a rule's requests go nowhere before a service has allowed them.

use std::net::IpAddr;

use anyhow::{Result, anyhow, ensure};
use http::{Method, Response};
use inmesh::{Body, Mesh, Refusal};
use inmesh_tests::kit::cluster::PORT;
use inmesh_tests::kit::gatekeeper::Gatekeeper;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status, text};
use inmesh_tests::kit::{Shape, World};

in_both_shapes!(
    an_http_authorizer_decides,
    a_grpc_authorizer_decides,
    whoever_cannot_be_asked_allows_nothing,
    a_body_is_shown_as_far_as_is_allowed,
    a_preflight_is_answered_without_asking,
    the_authorizer_of_a_backend_is_asked_for_that_backend,
);

/// The world with the service `auth` in it, whose application is the gatekeeper.
struct Guarded {
    world: World,
    keeper: Gatekeeper,
    _mesh: Mesh,
}

/// The authorizer before all requests to `reviews`.
fn route(settings: &str, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  - filters:\n    - type: ExternalAuth\n      \
         externalAuth: {{{settings}}}\n{more}    backendRefs: [{{name: reviews-v1, port: 9080}}]\n"
    )
}

async fn guarded(shape: Shape, route: &str) -> Result<Guarded> {
    let world = World::start(shape, &[("route", route)]).await?;
    let cluster = &world.cluster;
    cluster.service("auth", "auth", None)?;
    let spec = cluster.pod("auth").label("app", "auth");
    let mesh = cluster
        .participant("default", "auth")?
        .pod(&spec.name)
        .address(IpAddr::V4(spec.ip))
        .start()
        .await?;
    let keeper = Gatekeeper::default();
    mesh.attach(PORT, keeper.clone()).await?;
    cluster.declare(&spec)?;
    let guarded = Guarded {
        world,
        keeper,
        _mesh: mesh,
    };
    let ready = || async { guarded.get("/ready", &[("authorization", "let-me-in")]).await == 200 };
    until("the authorizer is asked", ready).await;
    guarded.keeper.told();
    Ok(guarded)
}

impl Guarded {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        let url = format!("http://reviews:9080{path}");
        status(self.world.curl.request(request(Method::GET, &url, headers)).await)
    }

    /// How many requests reached the application.
    fn served(&self) -> usize {
        self.world.v1.echo.served() + self.world.v2.echo.served()
    }
}

/// What a caller is shown: in process a denial is a refusal, which says what a proxy would answer.
fn shown(result: Result<Response<Body>, Refusal>) -> Response<Body> {
    result.unwrap_or_else(|refusal| refusal.into_response(false))
}

const WORD: (&str, &str) = ("authorization", "let-me-in");

async fn an_http_authorizer_decides(shape: Shape) -> Result<()> {
    let settings = "protocol: HTTP, backendRef: {name: auth, port: 9080}, http: {path: /check, allowedHeaders: [x-a], \
                    allowedResponseHeaders: [x-user]}";
    let guarded = guarded(shape, &route(settings, "")).await?;
    let asked = request(
        Method::GET,
        "http://reviews:9080/one?two=3",
        &[WORD, ("x-a", "1"), ("cookie", "c=d"), ("x-user", "forged")],
    );
    let seen = seen(guarded.world.curl.request(asked).await).await?;
    ensure!(seen.pod == "reviews-v1" && seen.path == "/one?two=3");
    ensure!(seen.headers["x-user"] == "jason" && !seen.headers.contains_key("x-other"));
    let told = guarded.keeper.told();
    let [told] = &told[..] else {
        return Err(anyhow!("{told:?}"));
    };
    ensure!(
        !told.grpc && told.method == "GET" && told.path == "/check/one?two=3",
        "{told:?}"
    );
    ensure!(told.host == "reviews:9080", "{told:?}");
    ensure!(
        told.headers["x-a"] == "1" && !told.headers.contains_key("cookie"),
        "{told:?}"
    );
    ensure!(told.headers["content-length"] == "0", "{told:?}");

    let served = guarded.served();
    let denied = shown(guarded.world.curl.get("http://reviews:9080/").await);
    ensure!(denied.status() == 401 && denied.headers()["www-authenticate"] == "Word");
    ensure!(text(denied).await? == "who are you?");
    ensure!(
        guarded.served() == served,
        "a denied request reached the application"
    );
    Ok(())
}

async fn a_grpc_authorizer_decides(shape: Shape) -> Result<()> {
    let settings =
        "protocol: GRPC, backendRef: {name: auth, port: 9090}, grpc: {allowedHeaders: [authorization]}";
    let guarded = guarded(shape, &route(settings, "")).await?;
    let asked = request(Method::POST, "http://reviews:9080/one", &[WORD, ("x-a", "1")]);
    let seen = seen(guarded.world.curl.request(asked).await).await?;
    ensure!(seen.headers["x-user"] == "jason" && seen.headers["x-a"] == "1");
    let told = guarded.keeper.told();
    let [told] = &told[..] else {
        return Err(anyhow!("{told:?}"));
    };
    ensure!(
        told.grpc && told.method == "POST" && told.path == "/one",
        "{told:?}"
    );
    ensure!(
        !told.headers.contains_key("x-a") && told.headers.contains_key("authorization"),
        "{told:?}"
    );

    let served = guarded.served();
    let denied = shown(guarded.world.curl.get("http://reviews:9080/").await);
    ensure!(denied.status() == 401 && denied.headers()["www-authenticate"] == "Word");
    ensure!(text(denied).await? == "who are you?");
    ensure!(guarded.get("/", &[("authorization", "break")]).await == 403);
    ensure!(guarded.served() == served);
    Ok(())
}

async fn whoever_cannot_be_asked_allows_nothing(shape: Shape) -> Result<()> {
    let settings = "protocol: HTTP, backendRef: {name: auth, port: 9080}";
    let guarded = guarded(shape, &route(settings, "")).await?;
    let served = guarded.served();
    ensure!(guarded.get("/", &[("authorization", "break")]).await == 403);
    ensure!(guarded.served() == served);
    // Nobody is there any more: first the pod, then the service.
    guarded.world.cluster.remove("pod-auth")?;
    until("the authorizer is gone", || async {
        guarded.get("/", &[WORD]).await == 403
    })
    .await;
    guarded.world.cluster.remove("service-auth")?;
    until("the route cannot be carried out", || async {
        guarded.get("/", &[WORD]).await == 500
    })
    .await;
    let late = guarded.served();
    ensure!(guarded.get("/", &[WORD]).await == 500 && guarded.served() == late);
    Ok(())
}

async fn a_body_is_shown_as_far_as_is_allowed(shape: Shape) -> Result<()> {
    let settings = "protocol: HTTP, backendRef: {name: auth, port: 9080}, forwardBody: {maxSize: 8}";
    let guarded = guarded(shape, &route(settings, "")).await?;
    let send = |body: &'static str| {
        let mut request = request(Method::POST, "http://reviews:9080/sink", &[WORD]);
        *request.body_mut() = Body::from(body);
        guarded.world.curl.request(request)
    };
    let answer = send("12345678").await.map_err(|it| anyhow!("{it}"))?;
    ensure!(answer.status() == 200 && text(answer).await? == "8");
    let told = guarded.keeper.told();
    ensure!(
        told.len() == 1 && told[0].body == "12345678" && told[0].headers["content-length"] == "8",
        "{told:?}"
    );
    let served = guarded.served();
    ensure!(status(send("123456789").await) == 413);
    ensure!(guarded.keeper.told().is_empty() && guarded.served() == served);
    Ok(())
}

async fn a_preflight_is_answered_without_asking(shape: Shape) -> Result<()> {
    let settings = "protocol: HTTP, backendRef: {name: auth, port: 9080}";
    let cors =
        "    - type: CORS\n      cors: {allowOrigins: ['https://app.example.com'], allowMethods: [GET]}\n";
    let guarded = guarded(shape, &route(settings, cors)).await?;
    let origin = ("origin", "https://app.example.com");
    let preflight = request(
        Method::OPTIONS,
        "http://reviews:9080/",
        &[origin, ("access-control-request-method", "GET")],
    );
    let answer = guarded
        .world
        .curl
        .request(preflight)
        .await
        .map_err(|it| anyhow!("{it}"))?;
    ensure!(answer.status().is_success() && answer.headers().contains_key("access-control-allow-origin"));
    ensure!(guarded.keeper.told().is_empty());
    // A page may read that it was denied, and why.
    let actual = request(Method::GET, "http://reviews:9080/", &[origin]);
    let denied = shown(guarded.world.curl.request(actual).await);
    ensure!(denied.status() == 401 && denied.headers().contains_key("access-control-allow-origin"));
    Ok(())
}

async fn the_authorizer_of_a_backend_is_asked_for_that_backend(shape: Shape) -> Result<()> {
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: reviews, namespace: default}\nspec:\n  \
         parentRefs: [{group: '', kind: Service, name: reviews}]\n  rules:\n  - matches: [{path: {value: /two}}]\n    backendRefs: \
         [{name: reviews-v2, port: 9080}]\n  - backendRefs:\n    - {name: reviews-v1, port: 9080, filters: [{type: ExternalAuth, \
         externalAuth: {protocol: HTTP, backendRef: {name: auth, port: 9080}}}]}\n";
    let guarded = guarded(shape, route).await?;
    ensure!(guarded.get("/two", &[]).await == 200);
    ensure!(guarded.keeper.told().is_empty());
    ensure!(guarded.get("/one", &[]).await == 401);
    ensure!(guarded.get("/one", &[WORD]).await == 200);
    ensure!(guarded.keeper.told().len() == 2);
    Ok(())
}
