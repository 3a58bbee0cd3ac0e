//! Bodies stream: nothing waits for the end of one, nobody waits for the reader of another, and nothing is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use inmesh::{Body, Client};
use inmesh_tests::kit::cluster::{gateway, namespace};
use inmesh_tests::kit::door::Stream;
use inmesh_tests::kit::echo::{sink, source};
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::{PATIENCE, until};
use inmesh_tests::kit::world::{request, status};
use inmesh_tests::kit::{Cluster, Door, House, Shape, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

at_every_door!(early_hints_come_before_the_answer);

in_both_shapes!(
    answers_that_nobody_reads_hold_up_no_other,
    uploads_that_nobody_reads_hold_up_no_other,
    an_answer_may_begin_before_the_request_has_ended,
    a_refusal_need_not_wait_for_the_body,
    each_direction_ends_on_its_own,
    trailers_of_requests_arrive,
    a_caller_that_leaves_ends_the_work,
    memory_does_not_grow_with_the_body,
);

/// The service's port of HTTP/1.1, and that of HTTP/2.
const URLS: [&str; 2] = ["http://reviews:9080", "http://reviews:9090"];

fn failed(refusal: inmesh::Refusal) -> anyhow::Error {
    anyhow!("{refusal}")
}

async fn send(client: &Client, url: String, body: Body) -> Result<Response<Body>> {
    send_within(PATIENCE, client, url, body).await
}

async fn send_within(limit: Duration, client: &Client, url: String, body: Body) -> Result<Response<Body>> {
    let mut asked = request(Method::POST, &url, &[("te", "trailers")]);
    *asked.body_mut() = body;
    let answered = timeout(limit, client.request(asked))
        .await
        .context("no answer comes")?;
    answered.map_err(failed)
}

/// A body that a test writes as it goes.
fn written() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, async |mut receiver| {
        let frame = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(frame), receiver))
    });
    (sender, Body::new(StreamBody::new(frames)))
}

/// The next bytes of a body; none at its end.
async fn next(body: &mut Body) -> Result<Bytes> {
    let frame = timeout(PATIENCE, body.frame()).await.context("nothing comes")?;
    let Some(frame) = frame else {
        return Ok(Bytes::new());
    };
    let frame = frame.map_err(|error| anyhow!("{error}"))?;
    frame.into_data().map_err(|_| anyhow!("trailers came"))
}

async fn answers_that_nobody_reads_hold_up_no_other(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    for url in URLS {
        let begun = Arc::new(AtomicUsize::new(0));
        let mut stalled = JoinSet::new();
        for _ in 0..40 {
            let (client, begun) = (world.curl.clone(), Arc::clone(&begun));
            stalled.spawn(async move {
                let _held = client.get(format!("{url}/source/{}", 1_u64 << 30)).await;
                begun.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            });
        }
        until("all answers have begun", || async {
            begun.load(Ordering::SeqCst) == 40
        })
        .await;
        // The same caller, so the same connections: what is held up there would hold this up.
        for _ in 0..20 {
            let answer = timeout(PATIENCE, world.curl.get(format!("{url}/"))).await;
            assert_eq!(status(answer.context("an answer is held up")?), 200, "{url}");
        }
        stalled.shutdown().await;
    }
    Ok(())
}

async fn uploads_that_nobody_reads_hold_up_no_other(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    for url in URLS {
        let before = world.v1.echo.served() + world.v2.echo.served();
        let mut stalled = JoinSet::new();
        for _ in 0..40 {
            // The application sleeps over it.
            let (client, body) = (world.curl.clone(), Body::new(source(1 << 30)));
            stalled.spawn(async move { send(&client, format!("{url}/sleep/100000"), body).await.is_ok() });
        }
        until("all uploads have begun", || async {
            world.v1.echo.served() + world.v2.echo.served() == before + 40
        })
        .await;
        for _ in 0..20 {
            let answer = send(&world.curl, format!("{url}/sink"), Body::new(source(300_000))).await?;
            assert_eq!(
                answer
                    .into_body()
                    .collect()
                    .await
                    .map_err(|e| anyhow!("{e}"))?
                    .to_bytes(),
                "300000"
            );
        }
        stalled.shutdown().await;
    }
    Ok(())
}

/// As in a gRPC call of two streams.
async fn an_answer_may_begin_before_the_request_has_ended(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    for url in URLS {
        let (sender, body) = written();
        sender.send(Frame::data(Bytes::from_static(b"first"))).await?;
        let mut answer = send(&world.curl, format!("{url}/mirror"), body)
            .await?
            .into_body();
        assert_eq!(next(&mut answer).await?, "first");
        for n in 0..100 {
            let said = Bytes::from(format!("line {n}"));
            sender.send(Frame::data(said.clone())).await?;
            assert_eq!(next(&mut answer).await?, said, "{url}");
        }
        drop(sender);
        assert_eq!(next(&mut answer).await?, "", "{url}");
    }
    Ok(())
}

async fn a_refusal_need_not_wait_for_the_body(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    for url in URLS {
        let (sender, body) = written();
        sender
            .send(Frame::data(Bytes::from_static(b"much more will follow")))
            .await?;
        let answer = send(&world.curl, format!("{url}/status/413"), body).await?;
        assert_eq!(answer.status(), 413, "{url}");
        // The rest is thrown away, or nobody takes it; the caller is not kept waiting for ever.
        let rest = async {
            while sender
                .send(Frame::data(Bytes::from(vec![b'x'; 60_000])))
                .await
                .is_ok()
            {}
        };
        let _ = timeout(Duration::from_millis(200), rest).await;
        drop((sender, answer));
        assert_eq!(status(world.curl.get(format!("{url}/")).await), 200, "{url}");
    }
    Ok(())
}

async fn each_direction_ends_on_its_own(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    for url in URLS {
        // The request ends at once, its answer goes on.
        let answer = send(
            &world.curl,
            format!("{url}/source/3000000"),
            Body::full("all there is"),
        )
        .await?;
        assert_eq!(sink(answer.into_body()).await, 3_000_000);
        // The answer ends first, the request later.
        let (sender, body) = written();
        let mut answer = send(&world.curl, format!("{url}/source/5"), body).await?;
        assert_eq!(next(answer.body_mut()).await?, "xxxxx");
        assert_eq!(next(answer.body_mut()).await?, "", "{url}");
        drop(sender);
    }
    Ok(())
}

async fn trailers_of_requests_arrive(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse()?);
    let (sender, body) = written();
    sender.send(Frame::data(Bytes::from_static(b"data"))).await?;
    let answer = send(&world.curl, format!("{}/mirror", URLS[1]), body).await?;
    sender.send(Frame::trailers(trailers.clone())).await?;
    let answer = timeout(PATIENCE, answer.into_body().collect())
        .await?
        .map_err(|e| anyhow!("{e}"))?;
    assert_eq!(answer.trailers(), Some(&trailers));
    Ok(())
}

/// An application whose caller has gone shall not work on: its body says so.
async fn a_caller_that_leaves_ends_the_work(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    for url in URLS {
        let (sender, body) = written();
        sender.send(Frame::data(Bytes::from_static(b"x"))).await?;
        let mut answer = send(&world.curl, format!("{url}/mirror"), body).await?;
        next(answer.body_mut()).await?;
        drop(answer);
        // Who reads the request is gone, hop by hop, and at last here.
        let gone = async {
            while sender
                .send(Frame::data(Bytes::from(vec![b'x'; 60_000])))
                .await
                .is_ok()
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, gone)
            .await
            .with_context(|| format!("{url}: somebody still reads"))?;
    }
    Ok(())
}

/// An application that no mesh is in, and that answers in two steps: hyper has no server that could.
async fn hinting(addr: std::net::SocketAddr, go_on: Arc<Notify>) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(addr).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let go_on = Arc::clone(&go_on);
        tokio::spawn(async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await?);
            }
            for hint in ["102 Processing", "103 Early Hints"] {
                let said = format!("HTTP/1.1 {hint}\r\nlink: </style.css>; rel=preload\r\n\r\n");
                stream.write_all(said.as_bytes()).await?;
            }
            if !asked.starts_with(b"GET /hints/ready") {
                go_on.notified().await;
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\ndone")
                .await
        });
    }
}

async fn early_hints_come_before_the_answer(door: Door) -> Result<()> {
    let route = "apiVersion: v1\nkind: Service\nmetadata: {name: hints, namespace: default}\nspec: {selector: {app: hints}, ports: \
                 [{name: http, port: 9080}]}\n---\n\
                 apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: hints, namespace: default}\nspec:\n  \
                 parentRefs: [{name: ingress}]\n  rules: [{matches: [{path: {value: /hints}}], backendRefs: [{name: hints, port: \
                 9080}]}]\n";
    let house = House::build(door, &[("hints", route)]).await?;
    let cluster = &house.world.cluster;
    let pod = cluster.pod("hints-0").account("hints").label("app", "hints");
    let go_on = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(hinting((pod.ip, 9080).into(), Arc::clone(&go_on)));
    cluster.apply(
        "pod-hints",
        &pod.yaml().replace("networking.istio.io/tunnel: http", "x: y"),
    )?;
    let url = "http://hints:9080/hints";
    let knock = async || -> Result<Box<dyn Stream>> {
        Ok(match door {
            Door::Gateway => house.knock().await?,
            _ => Box::new(house.world.curl.connect("hints:9080").await.map_err(failed)?),
        })
    };
    until("the application is known", || async {
        let Ok(mut stream) = knock().await else {
            return false;
        };
        let asked = b"GET /hints/ready HTTP/1.1\r\nHost: hints:9080\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        let answered = async {
            stream.write_all(asked).await?;
            stream.read_to_string(&mut answer).await
        };
        answered.await.is_ok() && answer.contains(" 200 OK")
    })
    .await;
    if door == Door::Workload {
        // Here the caller is the one who is told.
        let hints = Arc::new(AtomicUsize::new(0));
        let (seen, release) = (Arc::clone(&hints), Arc::clone(&go_on));
        let mut asked = request(Method::GET, url, &[]);
        hyper::ext::on_informational(&mut asked, move |hint| {
            assert_eq!(hint.headers()["link"], "</style.css>; rel=preload");
            if seen.fetch_add(1, Ordering::SeqCst) == 1 {
                release.notify_one();
            }
        });
        let answer = timeout(PATIENCE, house.world.curl.request(asked)).await?;
        assert_eq!((status(answer), hints.load(Ordering::SeqCst)), (200, 2));
        return Ok(());
    }
    let mut stream = knock().await?;
    // Two on one connection: an interim answer must not get into the middle of another one.
    for _ in 0..2 {
        stream
            .write_all(b"GET /hints HTTP/1.1\r\nHost: hints:9080\r\n\r\n")
            .await?;
        for status in ["102", "103", "200"] {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(timeout(PATIENCE, stream.read_u8()).await.context(status)??);
            }
            let head = String::from_utf8(head)?;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert_eq!(
                head.contains("link: </style.css>; rel=preload"),
                status != "200",
                "{head}"
            );
            if status == "103" {
                go_on.notify_one();
            }
        }
        let mut body = [0; 4];
        stream.read_exact(&mut body).await?;
        assert_eq!(&body, b"done");
    }
    Ok(())
}

const POD: &str = env!("CARGO_BIN_EXE_test-pod");
const WAYPOINT: &str = env!("CARGO_BIN_EXE_test-waypoint");

/// How much is sent each way, in MiB. `INMESH_MUCH_MIB=1024` does it with a gigabyte, in which case it takes a while.
fn much() -> u64 {
    let asked = std::env::var("INMESH_MUCH_MIB")
        .ok()
        .and_then(|it| it.parse().ok());
    asked.unwrap_or(96_u64) << 20
}

/// How much more a process may hold for it: windows and buffers, and what an allocator does not give back.
const SLACK_KIB: u64 = 24 << 10;

/// Real processes, because their memory is measured.
async fn memory_does_not_grow_with_the_body(shape: Shape) -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    let pod = cluster
        .pod("reviews-0")
        .account("reviews")
        .label("app", "reviews");
    cluster.declare(&pod)?;
    let mut processes = Vec::new();
    if shape == Shape::Waypoint {
        cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
        cluster.apply(
            "namespace",
            &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
        )?;
        let spec = cluster.waypoint_pod("default", "waypoint");
        cluster.declare(&spec)?;
        processes.push(("waypoint", Process::waypoint(WAYPOINT, &cluster, &spec, &[])?));
    }
    processes.push(("pod", Process::pod(POD, &cluster, &pod, &[])?));
    let (_mesh, curl) = cluster.client("curl").await?;
    until("requests are answered", || async {
        status(curl.get("http://reviews:9080/").await) == 200
    })
    .await;
    let resident = || -> Option<Vec<u64>> { processes.iter().map(|(_, it)| it.resident_kib()).collect() };
    let both_ways = async |bytes: u64| -> Result<()> {
        for url in URLS {
            let limit = PATIENCE * u32::try_from(1 + (bytes >> 27))?;
            let up = send_within(limit, &curl, format!("{url}/sink"), Body::new(source(bytes))).await?;
            let text = up
                .into_body()
                .collect()
                .await
                .map_err(|e| anyhow!("{e}"))?
                .to_bytes();
            ensure!(text == bytes.to_string(), "{text:?} of {bytes} bytes arrived");
            let down = curl.get(format!("{url}/source/{bytes}")).await.map_err(failed)?;
            ensure!(sink(down.into_body()).await == bytes, "not all came back");
        }
        Ok(())
    };
    both_ways(16 << 20).await?;
    let Some(before) = resident() else {
        eprintln!("SKIPPED: this platform does not tell how much memory a process has");
        return Ok(());
    };
    both_ways(much()).await?;
    // One that is never read to its end must not be fetched to its end either.
    let unread = curl
        .get(format!("{}/source/{}", URLS[1], much()))
        .await
        .map_err(failed)?;
    assert_eq!(status(curl.get("http://reviews:9080/").await), 200);
    for ((name, before), after) in processes
        .iter()
        .map(|it| it.0)
        .zip(before)
        .zip(resident().unwrap_or_default())
    {
        let grown = after.saturating_sub(before);
        assert!(grown < SLACK_KIB, "the {name} grew from {before} to {after} KiB");
    }
    drop(unread);
    Ok(())
}
