//! Copies of requests: sent beside them, seen by nobody, in nobody's way.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use http::Method;
use inmesh::Body;
use inmesh_tests::kit::echo::{Echo, source};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status, text};
use inmesh_tests::kit::{Shape, World};

const URL: &str = "http://reviews:9080";

in_both_shapes!(
    every_mirror_gets_a_copy_and_the_caller_one_answer,
    a_share_of_requests_is_copied,
    a_slow_a_failing_and_a_missing_mirror_are_not_felt,
    a_streamed_body_reaches_both_whole,
    a_mirror_that_does_not_read_holds_nobody_up,
);

fn route(mirrors: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  - filters: [{mirrors}]\n    \
         backendRefs: [{{name: reviews-v1, port: 9080}}]\n"
    )
}

fn mirror(more: &str) -> String {
    format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: reviews-v2, port: 9080}}{more}}}}}")
}

async fn every_mirror_gets_a_copy_and_the_caller_one_answer(shape: Shape) -> Result<()> {
    let two = format!("{}, {}", mirror(""), mirror(", percent: 100"));
    let world = World::start(shape, &[("route", &route(&two))]).await?;
    let url = format!("{URL}/a?b=c");
    let mut asked = request(Method::POST, &url, &[("x-a", "1")]);
    *asked.body_mut() = Body::from("hello");
    assert_eq!(seen(world.curl.request(asked).await).await?.pod, "reviews-v1");
    until("both copies came", || async { world.v2.echo.served() == 2 }).await;
    assert_eq!(world.v1.echo.served(), 1);
    Ok(())
}

async fn a_share_of_requests_is_copied(shape: Shape) -> Result<()> {
    const TOTAL: usize = 1000;
    let third = mirror(", fraction: {numerator: 1, denominator: 3}");
    let world = World::start(shape, &[("route", &route(&third))]).await?;
    for _ in 0..TOTAL {
        assert_eq!(status(world.curl.get(format!("{URL}/")).await), 200);
    }
    // Six standard deviations to either side of 333: wrong once in 500 million runs.
    let expected = 244..=423;
    until("the copies came", || async {
        expected.contains(&world.v2.echo.served())
    })
    .await;
    assert_eq!(world.v1.echo.served(), TOTAL);
    Ok(())
}

async fn a_slow_a_failing_and_a_missing_mirror_are_not_felt(shape: Shape) -> Result<()> {
    let empty = "apiVersion: v1\nkind: Service\nmetadata: {name: empty, namespace: default}\nspec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}\n";
    let to = |name: &str, port: u16| {
        format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: {port}}}}}}}")
    };
    let mirrors = format!("{}, {}, {}", mirror(""), to("empty", 80), to("missing", 80));
    let files = [("route", &*route(&mirrors)), ("empty", empty)];
    let world = World::start(shape, &files).await?;
    assert_eq!(
        status(world.curl.get(format!("{URL}/fail/503/1/once")).await),
        503
    );
    let slow = "http://reviews:9080/sleep/300";
    let began = Instant::now();
    let answers = futures_util::future::join_all((0..20).map(|_| world.curl.get(slow))).await;
    assert!(answers.into_iter().all(|answer| status(answer) == 200));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    Ok(())
}

async fn a_streamed_body_reaches_both_whole(shape: Shape) -> Result<()> {
    const BYTES: u64 = 8 << 20;
    let world = World::start(shape, &[("route", &route(&mirror("")))]).await?;
    let mut asked = request(Method::POST, &format!("{URL}/sink"), &[]);
    // Paced by whoever reads the copy, which may lag behind by little.
    *asked.body_mut() = Body::new(paced(BYTES, &world.v2.echo));
    let answer = world.curl.request(asked).await.map_err(|e| anyhow!("{e}"))?;
    assert_eq!(text(answer).await?, BYTES.to_string());
    until("the copy has every byte", || async {
        world.v2.echo.sunk() == BYTES
    })
    .await;
    Ok(())
}

/// Frames, each when the one but few before has been read there.
fn paced(
    bytes: u64,
    reader: &Echo,
) -> impl http_body::Body<Data = bytes::Bytes, Error = std::convert::Infallible> + Send + use<> {
    use futures_util::StreamExt;
    // Three frames are less than a copy may lag behind.
    const AHEAD: u64 = 2;
    let frame = bytes::Bytes::from(vec![b'x'; 64 << 10]);
    let (size, reader) = (frame.len() as u64, reader.clone());
    let stream = futures_util::stream::iter(0..bytes / size).then(move |at| {
        let (frame, reader) = (frame.clone(), reader.clone());
        async move {
            until("the reader follows", || async {
                reader.sinking() >= at.saturating_sub(AHEAD) * size
            })
            .await;
            Ok(http_body::Frame::data(frame))
        }
    });
    http_body_util::StreamBody::new(stream)
}

async fn a_mirror_that_does_not_read_holds_nobody_up(shape: Shape) -> Result<()> {
    const BYTES: u64 = 64 << 20;
    let sleepy = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: reviews, namespace: default}\nspec:\n  \
                  parentRefs: [{group: '', kind: Service, name: reviews}]\n  rules:\n  - filters: [{type: RequestMirror, requestMirror: \
                  {backendRef: {name: reviews-v2, port: 9080}}}, {type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /sink}}}]\n    \
                  backendRefs: [{name: reviews-v1, port: 9080}]\n";
    let world = World::start(shape, &[("route", sleepy)]).await?;
    // The mirror's pod is gone from one moment to the next: whatever it was sent, it reads nothing.
    world.v2.mesh.shutdown(Duration::ZERO).await;
    let mut asked = request(Method::POST, &format!("{URL}/any"), &[]);
    *asked.body_mut() = Body::new(source(BYTES));
    let answer = world.curl.request(asked).await.map_err(|e| anyhow!("{e}"))?;
    assert_eq!(text(answer).await?, BYTES.to_string());
    assert_eq!(world.v1.echo.sunk(), BYTES);
    Ok(())
}
