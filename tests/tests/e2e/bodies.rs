//! What is inside a request passes as it is: bodies of any size, trailers, upgrades, gRPC.

use anyhow::{Result, anyhow};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use inmesh::Body;
use inmesh_tests::kit::echo::{sink, source, with_trailers};
use inmesh_tests::kit::world::{request, seen, status, text};
use inmesh_tests::kit::{Shape, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const URL: &str = "http://reviews:9080";
const GRPC: &str = "http://reviews:9090";
const BIG: u64 = 16 << 20;

in_both_shapes!(
    large_bodies_stream_both_ways,
    trailers_arrive_as_in_grpc,
    an_upgraded_connection_carries_bytes,
    requests_without_bodies_are_answered_as_http_says,
    header_fields_beyond_the_limit_are_refused,
);

async fn large_bodies_stream_both_ways(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let mut up = request(Method::POST, &format!("{URL}/sink"), &[]);
    *up.body_mut() = Body::new(source(BIG));
    let answer = world.curl.request(up).await.map_err(|e| anyhow!("{e}"))?;
    assert_eq!(text(answer).await?, BIG.to_string());
    let down = world
        .curl
        .get(format!("{URL}/source/{BIG}"))
        .await
        .map_err(|e| anyhow!("{e}"))?;
    assert_eq!(sink(down.into_body()).await, BIG);
    // Both at once, over HTTP/2.
    let mut both = request(Method::POST, &format!("{GRPC}/mirror"), &[]);
    *both.body_mut() = Body::new(source(BIG));
    let answer = world.curl.request(both).await.map_err(|e| anyhow!("{e}"))?;
    assert_eq!(sink(answer.into_body()).await, BIG);
    Ok(())
}

async fn trailers_arrive_as_in_grpc(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("grpc-message", HeaderValue::from_static("fine"));
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut call = request(Method::POST, &format!("{GRPC}/mirror"), &headers);
    *call.body_mut() = Body::new(with_trailers(
        Bytes::from_static(b"\0\0\0\0\x02hi"),
        trailers.clone(),
    ));
    let answer = world.curl.request(call).await.map_err(|e| anyhow!("{e}"))?;
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let body = answer.into_body().collect().await.map_err(|e| anyhow!("{e}"))?;
    assert_eq!(body.trailers(), Some(&trailers));
    assert_eq!(&body.to_bytes()[..], b"\0\0\0\0\x02hi");
    Ok(())
}

async fn an_upgraded_connection_carries_bytes(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let headers = [("connection", "upgrade"), ("upgrade", "websocket")];
    let mut answer = world
        .curl
        .request(request(Method::GET, &format!("{URL}/upgrade"), &headers))
        .await
        .map_err(|e| anyhow!("{e}"))?;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["upgrade"], "websocket");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await?);
    stream.write_all(b"ping").await?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).await?;
    assert_eq!(&back, b"ping");
    Ok(())
}

async fn requests_without_bodies_are_answered_as_http_says(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let head = world
        .curl
        .request(request(Method::HEAD, &format!("{URL}/"), &[]))
        .await
        .map_err(|e| anyhow!("{e}"))?;
    assert_eq!(head.status(), 200);
    assert_eq!(text(head).await?, "");
    let empty = world
        .curl
        .get(format!("{URL}/status/204"))
        .await
        .map_err(|e| anyhow!("{e}"))?;
    assert_eq!(empty.status(), 204);
    assert_eq!(text(empty).await?, "");
    let mut patient = request(
        Method::POST,
        &format!("{URL}/sink"),
        &[("expect", "100-continue")],
    );
    *patient.body_mut() = Body::from("12345");
    let answer = world.curl.request(patient).await.map_err(|e| anyhow!("{e}"))?;
    assert_eq!(text(answer).await?, "5");
    // The connection is still good for the next.
    assert_eq!(
        seen(world.curl.get(format!("{URL}/next")).await).await?.path,
        "/next"
    );
    Ok(())
}

async fn header_fields_beyond_the_limit_are_refused(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let long = "x".repeat(600 << 10);
    let asked = request(Method::GET, &format!("{URL}/"), &[("x-long", &long)]);
    assert_eq!(status(world.curl.request(asked).await), 431);
    assert_eq!(status(world.curl.get(format!("{URL}/")).await), 200);
    Ok(())
}
