//! Servers that mean harm, or do not know better: the request that went to them ends, and nobody else notices.

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;
use inmesh::Body;
use inmesh_tests::kit::echo::with_trailers;
use inmesh_tests::kit::frames::{self, END_HEADERS, END_STREAM, frame, kind};
use inmesh_tests::kit::wait::{PATIENCE, until};
use inmesh_tests::kit::world::{request, status};
use inmesh_tests::kit::{Shape, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

in_both_shapes!(
    row_9_an_upstream_of_http2_that_floods_costs_its_own_request_only,
    row_9_an_upstream_of_http1_that_floods_costs_its_own_request_only,
    row_36_broken_grpc_passes_as_it_is,
);

/// Two ports of one server that no mesh is in. A route gives up on it after a while, as any route to a stranger should.
const HOSTILE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: hostile, namespace: default}\nspec: {selector: {app: hostile}, \
                       ports: [{name: http, port: 80, targetPort: 8001}, {name: http2, port: 90, targetPort: 8002, appProtocol: \
                       kubernetes.io/h2c}]}\n---\n\
                       apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: hostile, namespace: default}\n\
                       spec:\n  parentRefs: [{group: '', kind: Service, name: hostile}]\n  rules: [{timeouts: {request: 2s}, \
                       backendRefs: [{name: hostile, port: PORT}]}]\n";

/// What a server writes, piece by piece, until nobody takes it any more.
type Attack = fn(usize) -> Vec<u8>;

/// The attacks of rows 1 to 8 from the other side, the head of an answer before those that need one.
const HTTP2: [(&str, Attack); 11] = [
    ("resets", |n| {
        frame(kind::RST_STREAM, 0, n as u32 * 2 + 1, &8_u32.to_be_bytes())
    }),
    ("continuations", |n| match n {
        0 => frame(kind::HEADERS, 0, 1, &[0x88]),
        _ => frame(kind::CONTINUATION, 0, 1, &frames::block(&[("x", &[b'y'; 1_000])])),
    }),
    ("bomb", |_| {
        let mut block = vec![0x88, 0x40];
        frames::integer(&mut block, 0, 7, 6);
        block.extend_from_slice(b"x-bomb");
        frames::integer(&mut block, 0, 7, 3_000);
        block.extend_from_slice(&[b'y'; 3_000]);
        block.resize(block.len() + 10_000, 0x80 | 62);
        frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block)
    }),
    ("names", |n| {
        let names: Vec<String> = (0..500).map(|at| format!("x{}", n * 500 + at)).collect();
        let fields: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        match n {
            0 => frame(
                kind::HEADERS,
                0,
                1,
                &[&[0x88][..], &frames::block(&fields)].concat(),
            ),
            _ => frame(kind::CONTINUATION, 0, 1, &frames::block(&fields)),
        }
    }),
    ("empty data", |n| match n {
        0 => frame(kind::HEADERS, END_HEADERS, 1, &[0x88]),
        _ => frame(kind::DATA, 0, 1, &[]).repeat(100),
    }),
    ("too much data", |n| match n {
        0 => frame(kind::HEADERS, END_HEADERS, 1, &[0x88]),
        _ => frame(kind::DATA, 0, 1, &[0; 16_000]),
    }),
    ("pings", |_| frame(kind::PING, 0, 0, &[7; 8]).repeat(100)),
    ("settings", |_| {
        frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(100)
    }),
    ("windows", |_| {
        frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())
    }),
    ("promises", |n| {
        let promised = (n as u32 * 2 + 2).to_be_bytes();
        let fields = frames::block(&frames::get("reviews:9080", "/"));
        frame(
            kind::PUSH_PROMISE,
            END_HEADERS,
            1,
            &[&promised[..], &fields].concat(),
        )
    }),
    ("unknown frames", |_| frame(0xee, 0, 1, &[7; 100]).repeat(100)),
];

const HTTP1: [(&str, Attack); 7] = [
    ("endless head", |n| match n {
        0 => b"HTTP/1.1 200 OK\r\n".to_vec(),
        _ => b"x-more: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(20),
    }),
    ("endless line", |n| match n {
        0 => b"HTTP/1.1 200 OK\r\nx: ".to_vec(),
        _ => vec![b'y'; 1_000],
    }),
    ("interim answers", |_| {
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(20)
    }),
    ("chunk size", |n| match n {
        0 => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        _ => b"fffffffffffffffffffffffff".to_vec(),
    }),
    ("chunk extensions", |n| match n {
        0 => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        _ => [b"1;", &[b'e'; 1_000][..], b"\r\nx\r\n"].concat(),
    }),
    ("two lengths", |_| {
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde".to_vec()
    }),
    ("no HTTP at all", |_| vec![0xff; 1_000]),
];

/// How often a piece is written at most; nobody who heeds limits takes half of it.
const PIECES: usize = 5_000;

async fn attack(mut stream: TcpStream, http2: bool, attack: Attack) -> Result<()> {
    let (mut read, mut write) = stream.split();
    if http2 {
        let mut preface = vec![0; frames::PREFACE.len()];
        read.read_exact(&mut preface).await?;
        write.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await?;
        while frames::next(&mut read).await.context("no request came")?.0 != kind::HEADERS {}
    } else {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(read.read_u8().await?);
        }
    }
    let flood = async {
        for n in 0..PIECES {
            write.write_all(&attack(n)).await?;
        }
        // To the end and nobody minds: then at least nothing more comes.
        std::future::pending::<Result<()>>().await
    };
    let listen = async {
        let mut sunk = vec![0; 64 << 10];
        while read.read(&mut sunk).await? > 0 {}
        Ok(())
    };
    tokio::select! { ended = flood => ended, ended = listen => ended }
}

async fn serve(addr: SocketAddr, http2: bool, with: Attack) -> Result<JoinSet<()>> {
    let listener = TcpListener::bind(addr).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                // It ends in an error if it is cut off, as it should be.
                let _ = attack(stream, http2, with).await;
            });
        }
    });
    Ok(tasks)
}

async fn floods(shape: Shape, http2: bool, attacks: &[(&str, Attack)]) -> Result<()> {
    let (port, target) = if http2 { (90, 8002) } else { (80, 8001) };
    let world = World::start(shape, &[("hostile", &HOSTILE.replace("PORT", &port.to_string()))]).await?;
    let pod = world.cluster.pod("hostile-0").label("app", "hostile");
    let yaml = pod.yaml().replace("networking.istio.io/tunnel: http", "x: y");
    world.cluster.apply("pod-hostile", &yaml)?;
    let url = format!("http://hostile:{port}/");
    let caller = world
        .waypoint
        .as_ref()
        .map_or_else(|| &world.meshes()[0], |it| it.mesh());
    until("the server is known", || async {
        caller.snapshot().endpoints().any(|it| it.addr.ip() == pod.ip)
    })
    .await;
    for (name, with) in attacks {
        let mut tasks = serve((pod.ip, target).into(), http2, *with).await?;
        let asked = async {
            let answer = world.curl.get(&*url).await.ok()?;
            answer.into_body().collect().await.ok()
        };
        timeout(2 * PATIENCE, asked)
            .await
            .with_context(|| format!("{name}: the request does not end"))?;
        for _ in 0..5 {
            let answer = timeout(PATIENCE, world.curl.get("http://reviews:9080/")).await;
            assert_eq!(
                status(answer.with_context(|| format!("{name}: others wait"))?),
                200,
                "{name}"
            );
        }
        tasks.shutdown().await;
    }
    Ok(())
}

async fn row_9_an_upstream_of_http2_that_floods_costs_its_own_request_only(shape: Shape) -> Result<()> {
    floods(shape, true, &HTTP2).await
}

async fn row_9_an_upstream_of_http1_that_floods_costs_its_own_request_only(shape: Shape) -> Result<()> {
    floods(shape, false, &HTTP1).await
}

/// We read no messages, so a length that promises too much is the application's to refuse; and of statuses only those that
/// there are mean something.
async fn row_36_broken_grpc_passes_as_it_is(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let message = Bytes::from_static(b"\x01\xff\xff\xff\xffbomb");
    for value in ["0", "99", "4294967296", "-1", "abc", ""] {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(value));
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let mut call = request(Method::POST, "http://reviews:9090/mirror", &headers);
        *call.body_mut() = Body::new(with_trailers(message.clone(), trailers.clone()));
        let answer = world.curl.request(call).await.map_err(|e| anyhow!("{e}"))?;
        let body = answer.into_body().collect().await.map_err(|e| anyhow!("{e}"))?;
        assert_eq!(body.trailers(), Some(&trailers), "{value:?}");
        assert_eq!(body.to_bytes(), message);
    }
    // Nor are they missed where there are none.
    let mut call = request(
        Method::POST,
        "http://reviews:9090/mirror",
        &[("content-type", "application/grpc")],
    );
    *call.body_mut() = Body::from(message.clone());
    let answer = world.curl.request(call).await.map_err(|e| anyhow!("{e}"))?;
    let body = answer.into_body().collect().await.map_err(|e| anyhow!("{e}"))?;
    assert_eq!(body.trailers(), None);
    assert_eq!(body.to_bytes(), message);
    let metrics = world.v1.mesh.metrics() + &world.v2.mesh.metrics();
    assert!(
        !metrics.contains("grpc_response_status=\"abc\""),
        "a status of any text is a label"
    );
    Ok(())
}
