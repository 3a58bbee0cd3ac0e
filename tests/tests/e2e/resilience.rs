//! What becomes of requests when others fail: who is asked again, who is not, and who says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use http::Method;
use inmesh::snapshot::Role;
use inmesh::{Body, Client, Idempotency, Mesh, Reason, Waypoint};
use inmesh_tests::kit::cluster::{PORT, PodSpec, gateway, namespace};
use inmesh_tests::kit::echo::{Echo, source};
use inmesh_tests::kit::metrics::value;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status};
use inmesh_tests::kit::{Cluster, Shape, World};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

in_both_shapes!(
    an_application_says_what_may_be_sent_again,
    a_grpc_methods_definition_says_it_too,
    a_body_that_was_not_kept_is_not_sent_again_and_it_is_counted,
    another_priority_is_asked_where_the_first_one_fails,
    a_cookie_is_given_to_callers_and_leads_them_back,
    a_deadline_shrinks_from_hop_to_hop_in_either_shape,
    an_address_that_was_given_to_another_is_not_believed,
);

const URL: &str = "http://reviews:9080";

/// Whoever routes.
fn point(world: &World) -> &Mesh {
    match &world.waypoint {
        Some(waypoint) => waypoint.mesh(),
        None => &world.meshes()[0],
    }
}

/// A server that no mesh is in, takes requests, and hangs up.
struct Breaking {
    asked: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Breaking {
    async fn start(at: impl Into<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind(at.into()).await?;
        let asked = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&asked);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
                if !head.is_empty() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Ok(Self { asked, _task: task })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A Pod that does not speak HBONE.
fn plain(spec: &PodSpec) -> String {
    spec.yaml().replace("networking.istio.io/tunnel: http", "x: y")
}

fn virtual_service(host: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {host}, namespace: default}}\n\
         spec: {{hosts: [{host}], http: [{{{http}, route: [{{destination: {{host: {host}}}}}]}}]}}\n"
    )
}

/// The default policy does not repeat what may have been seen; a route may ask for it. The application knows better.
async fn an_application_says_what_may_be_sent_again(shape: Shape) -> Result<()> {
    let route = virtual_service("eager", "retries: {attempts: 3, retryOn: reset, backoff: 1ms}");
    let world = World::start(shape, &[("route", &route)]).await?;
    let pod = world.cluster.pod("breaking").label("app", "breaking");
    let breaking = Breaking::start((pod.ip, PORT)).await?;
    world.cluster.service("usual", "breaking", None)?;
    world.cluster.service("eager", "breaking", None)?;
    world.cluster.apply("pod-breaking", &plain(&pod))?;
    world.settled().await?;
    for (host, hint, attempts) in [
        ("usual", None, 1),
        ("usual", Some(Idempotency::Idempotent), 3),
        ("usual", Some(Idempotency::NotIdempotent), 1),
        ("eager", None, 4),
        ("eager", Some(Idempotency::NotIdempotent), 1),
    ] {
        let before = breaking.asked();
        let url = format!("http://{host}:9080/");
        let mut asked = request(Method::GET, &url, &[]);
        if let Some(hint) = hint {
            asked.extensions_mut().insert(hint);
        }
        assert_eq!(status(world.curl.request(asked).await), 503, "{host} {hint:?}");
        assert_eq!(breaking.asked() - before, attempts, "{host} {hint:?}");
    }
    Ok(())
}

/// `service Shop { rpc Get(...) { option idempotency_level = IDEMPOTENT; } rpc Put(...) {} }` of package `a`, compiled.
const DEFINITIONS: &[u8] =
    b"\x0a\x1e\x12\x01a\x32\x19\x0a\x04Shop\x12\x0a\x0a\x03Get\x22\x03\x90\x02\x02\x12\x05\x0a\x03Put";

/// A server of HTTP/2 that no mesh is in, takes calls, and hangs up.
async fn hanging_up(at: SocketAddr) -> Result<(Arc<AtomicUsize>, JoinSet<()>)> {
    let listener = TcpListener::bind(at).await?;
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await?;
                if let Some(Ok(_)) = connection.accept().await {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                anyhow::Ok(())
            });
        }
    });
    Ok((asked, task))
}

/// The caller has the definitions; a waypoint on the way is told what they say of the call.
async fn a_grpc_methods_definition_says_it_too(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let pod = world.cluster.pod("breaking").label("app", "breaking");
    let (asked, _task) = hanging_up((pod.ip, PORT).into()).await?;
    world.cluster.service("shop", "breaking", None)?;
    world.cluster.apply("pod-breaking", &plain(&pod))?;
    world.settled().await?;
    let knowing = world.cluster.participant("default", "knowing")?;
    let knowing = knowing.grpc_definitions(DEFINITIONS).start().await?;
    for (client, method, hint, attempts) in [
        (world.curl.clone(), "Get", None, 1),
        (knowing.client(), "Get", None, 3),
        (knowing.client(), "Get", Some(Idempotency::NotIdempotent), 1),
        (knowing.client(), "Put", None, 1),
        (knowing.client(), "Put", Some(Idempotency::Idempotent), 3),
    ] {
        let before = asked.load(Ordering::SeqCst);
        let url = format!("http://shop:9080/a.Shop/{method}");
        let mut call = request(Method::POST, &url, &[("content-type", "application/grpc")]);
        if let Some(hint) = hint {
            call.extensions_mut().insert(hint);
        }
        let answer = client.request(call).await;
        let answer = answer.unwrap_or_else(|refusal| refusal.into_response(true));
        assert_eq!(answer.headers()["grpc-status"], "14", "{method} {hint:?}");
        let seen = asked.load(Ordering::SeqCst) - before;
        assert_eq!(seen, attempts, "{method} {hint:?}");
    }
    Ok(())
}

async fn a_body_that_was_not_kept_is_not_sent_again_and_it_is_counted(shape: Shape) -> Result<()> {
    let route = virtual_service(
        "reviews-v1",
        "retries: {attempts: 2, retryOn: '503', backoff: 1ms}",
    );
    let world = World::start(shape, &[("route", &route)]).await?;
    let post = async |bytes: u64| {
        let url = format!("http://reviews-v1:9080/late/503/1/{bytes}");
        let mut request = request(Method::POST, &url, &[]);
        *request.body_mut() = Body::new(source(bytes));
        status(world.curl.request(request).await)
    };
    let skipped = || {
        let reason = [("reason", "body_too_large")];
        value(&point(&world).metrics(), "mesh_retries_skipped_total", &reason)
    };
    assert_eq!(post(10_000).await, 200, "what is small is kept");
    assert_eq!(skipped(), 0.0);
    assert_eq!(post(1 << 20).await, 503);
    assert_eq!(skipped(), 1.0);
    Ok(())
}

/// Somebody in our place, and somebody farther away.
async fn another_priority_is_asked_where_the_first_one_fails(shape: Shape) -> Result<()> {
    for (remote, expected, near_is_asked) in [("true", 200, 2), ("false", 503, 4)] {
        let cluster = Cluster::new()?;
        cluster.service("reviews", "reviews", None)?;
        let retries = format!(
            "retries: {{attempts: 3, retryOn: reset, backoff: 1ms, retryRemoteLocalities: {remote}}}"
        );
        cluster.apply("route", &virtual_service("reviews", &retries))?;
        // It is what makes places matter.
        cluster.apply(
            "rule",
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews, namespace: default}\n\
             spec: {host: reviews, trafficPolicy: {outlierDetection: {}}}\n",
        )?;
        let at = |spec: PodSpec, place: &str| spec.label("istio-locality", place);
        let near = at(cluster.pod("near"), "r1.z1").label("app", "reviews");
        let breaking = Breaking::start((near.ip, PORT)).await?;
        cluster.apply("pod-near", &plain(&near))?;
        let far = at(cluster.pod("far"), "r2.z1")
            .account("reviews")
            .label("app", "reviews");
        cluster.declare(&far)?;
        let _far = cluster.run(&far).await?;
        let (curl, _rest) = caller(&cluster, shape, &|spec| at(spec, "r1.z1"), None).await?;
        assert_eq!(status(curl.get(URL).await), expected, "{remote}");
        assert_eq!(breaking.asked(), near_is_asked, "{remote}");
    }
    Ok(())
}

/// A caller with a Pod of its own, and a waypoint before it in that shape; both are placed by `place`, and read and send
/// deadlines in a header.
async fn caller(
    cluster: &Cluster,
    shape: Shape,
    place: &dyn Fn(PodSpec) -> PodSpec,
    deadline: Option<&str>,
) -> Result<(Client, (Mesh, Option<Waypoint>))> {
    let header = deadline.map(str::parse).transpose()?;
    let waypoint = match shape {
        Shape::InProcess => None,
        Shape::Waypoint => {
            let spec = place(cluster.waypoint_pod("default", "waypoint"));
            cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
            let bound = [("istio.io/use-waypoint", "waypoint")];
            cluster.apply("namespace", &namespace("default", &bound))?;
            cluster.declare(&spec)?;
            let mut mesh = cluster.participant("default", "waypoint")?;
            if let Some(header) = &header {
                mesh = mesh.deadline_header(http::HeaderName::clone(header));
            }
            let role = Role::Gateway {
                namespace: "default".into(),
                name: "waypoint".into(),
            };
            let mesh = mesh
                .pod(&spec.name)
                .address(spec.ip.into())
                .role(role)
                .start()
                .await?;
            Some(Waypoint::start(mesh, std::collections::HashMap::new()).await?)
        }
    };
    let spec = place(cluster.pod("curl"));
    cluster.declare(&spec)?;
    let mut mesh = cluster
        .participant("default", "curl")?
        .pod("curl")
        .address(spec.ip.into());
    if let Some(header) = header {
        mesh = mesh.deadline_header(header);
    }
    let mesh = mesh.start().await?;
    Ok((mesh.client(), (mesh, waypoint)))
}

async fn a_cookie_is_given_to_callers_and_leads_them_back(shape: Shape) -> Result<()> {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews, namespace: default}\n\
                spec: {host: reviews, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: shard, path: /, \
                ttl: 60s}}}}}\n";
    let world = World::start(shape, &[("rule", rule)]).await?;
    for _ in 0..4 {
        let first = world.curl.get(URL).await.map_err(|it| anyhow::anyhow!("{it}"))?;
        let given = first.headers()["set-cookie"].to_str()?.to_owned();
        assert!(
            given.starts_with("shard=\"")
                && given.contains("Max-Age=60; Path=/")
                && given.ends_with("HttpOnly"),
            "{given}"
        );
        let pod = first.headers()["x-pod"].clone();
        let cookie = given.split(';').next().unwrap_or_default();
        for _ in 0..10 {
            let next = world
                .curl
                .request(request(Method::GET, URL, &[("cookie", cookie)]))
                .await;
            let next = next.map_err(|it| anyhow::anyhow!("{it}"))?;
            assert_eq!(next.headers()["x-pod"], pod);
            assert!(!next.headers().contains_key("set-cookie"), "it has one");
        }
    }
    Ok(())
}

const DEADLINE: &str = "x-deadline-ms";

async fn a_deadline_shrinks_from_hop_to_hop_in_either_shape(shape: Shape) -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    let spec = cluster.pod("reviews").label("app", "reviews");
    cluster.declare(&spec)?;
    let pod = cluster.run(&spec).await?;
    cluster.apply(
        "route",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: reviews, namespace: default}\nspec:\n  \
         parentRefs: [{group: '', kind: Service, name: reviews}]\n  rules: [{retry: {codes: [503], attempts: 1, backoff: 200ms}, \
         backendRefs: [{name: reviews, port: 9080}]}]\n",
    )?;
    let (curl, _rest) = caller(&cluster, shape, &|spec| spec, Some(DEADLINE)).await?;
    let url = |path: &str| format!("{URL}{path}");
    // The second attempt is told, after a pause of 200 ms at least.
    let asked = request(Method::GET, &url("/fail/503/1/x"), &[(DEADLINE, "5000")]);
    let left = seen(curl.request(asked).await).await?.headers[DEADLINE].parse::<u64>()?;
    assert!(left <= 4_800 && left > 1_000, "{left}");
    assert_eq!(
        status(
            curl.request(request(Method::GET, &url("/sleep/5000"), &[(DEADLINE, "100")]))
                .await
        ),
        504
    );
    let before = pod.echo.served();
    assert_eq!(
        status(curl.request(request(Method::GET, URL, &[(DEADLINE, "0")])).await),
        504
    );
    assert_eq!(pod.echo.served(), before, "nobody is asked");
    // gRPC has a header of its own, in its own units: no more than was asked for, and something of it is used up.
    let grpc = |timeout: &'static str| {
        let headers = [("content-type", "application/grpc"), ("grpc-timeout", timeout)];
        request(Method::POST, "http://reviews:9090/a.B/C", &headers)
    };
    let told = seen(curl.request(grpc("5S")).await).await?;
    let left = &told.headers["grpc-timeout"];
    let millis = left.strip_suffix('m').map(str::parse::<u64>).transpose()?;
    assert!(millis.is_some_and(|it| it <= 5_000 && it > 1_000), "{left}");
    let over = curl.request(grpc("0m")).await;
    let over = over.unwrap_or_else(|refusal| refusal.into_response(true));
    assert_eq!(over.headers()["grpc-status"], "14");
    Ok(())
}

/// The address of a Pod that is gone belongs to another one: what was made for the one is not used for the other, and who
/// still answers there is not asked.
async fn an_address_that_was_given_to_another_is_not_believed(shape: Shape) -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    let one = cluster.pod("one").label("app", "reviews");
    cluster.declare(&one)?;
    let pod = cluster.run(&one).await?;
    let (curl, (_mesh, waypoint)) = caller(&cluster, shape, &|spec| spec, None).await?;
    for _ in 0..5 {
        assert_eq!(status(curl.get(URL).await), 200);
    }
    let mut two = one.clone().account("two");
    two.name = "two".into();
    // In one step: there is somebody at every moment.
    cluster.apply("pod-one", &two.yaml())?;
    until("the one that is gone is not believed", || async {
        status(curl.get(URL).await) == 503
    })
    .await;
    let served = pod.echo.served();
    let refused = curl.get(URL).await.err();
    if waypoint.is_none() {
        assert_eq!(refused.map(|it| it.reason), Some(Reason::Identity));
    }
    assert_eq!(pod.echo.served(), served, "what was made before is used");
    assert!(
        pod.mesh.shutdown(Duration::from_secs(5)).await,
        "nobody holds on to it"
    );
    let mesh = cluster
        .participant("default", "two")?
        .pod("two")
        .address(two.ip.into());
    let mesh = mesh.start().await?;
    let echo = Echo::new("two", None);
    mesh.attach(PORT, echo.clone()).await?;
    until("the other one answers", || async {
        status(curl.get(URL).await) == 200
    })
    .await;
    assert!(echo.served() > 0);
    Ok(())
}
