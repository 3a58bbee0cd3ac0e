//! Upgrades pass, in every combination of how they are asked for and what is spoken behind the policy; what would
//! carry HTTP past the policy does not.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use inmesh::Body;
use inmesh_tests::kit::door::Stream;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status};
use inmesh_tests::kit::{Door, House, Shape, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

in_both_shapes!(
    a_websocket_reaches_servers_of_either_version,
    an_extended_connect_reaches_servers_of_either_version,
    a_refused_upgrade_is_an_ordinary_answer,
    both_halves_close_on_their_own,
    row_37_an_upgrade_is_neither_copied_nor_sent_again,
    row_37_a_fault_comes_before_an_upgrade_and_not_into_it,
);

at_every_door!(
    a_websocket_by_hand_is_echoed,
    an_extended_connect_by_hand_is_echoed,
    http_is_not_smuggled_through_an_upgrade_to_h2c,
    an_upgrade_with_a_body_is_refused,
);

/// The service's port of HTTP/1.1, and that of HTTP/2.
const URLS: [&str; 2] = ["http://reviews:9080/upgrade", "http://reviews:9090/upgrade"];
const WEBSOCKET: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

async fn echoes(stream: &mut (impl Stream + ?Sized)) -> Result<()> {
    for size in [4, 100_000] {
        let sent: Vec<u8> = (0..size).map(|n: u32| n as u8).collect();
        let mut back = vec![0; sent.len()];
        let (mut read, mut write) = tokio::io::split(&mut *stream);
        tokio::try_join!(write.write_all(&sent), read.read_exact(&mut back))?;
        ensure!(back == sent, "{size} bytes came back changed");
    }
    Ok(())
}

async fn upgraded(mut answer: Response<Body>) -> Result<TokioIo<hyper::upgrade::Upgraded>> {
    Ok(TokioIo::new(hyper::upgrade::on(&mut answer).await?))
}

async fn a_websocket_reaches_servers_of_either_version(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    for url in URLS {
        let asked = request(Method::GET, url, &WEBSOCKET);
        let answer = world
            .curl
            .request(asked)
            .await
            .map_err(|e| anyhow!("{url}: {e}"))?;
        assert_eq!(answer.status(), 101, "{url}");
        assert_eq!(answer.headers()["upgrade"], "websocket");
        if url == URLS[1] {
            // Over HTTP/2 there is no such proof: who translates owes it (RFC 6455 §1.3).
            assert_eq!(
                answer.headers()["sec-websocket-accept"],
                "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            );
        }
        echoes(&mut upgraded(answer).await?).await?;
    }
    Ok(())
}

fn extended_connect(url: &str) -> Request<Body> {
    let mut asked = request(Method::CONNECT, url, &[("sec-websocket-version", "13")]);
    asked.extensions_mut().insert(Protocol::from_static("websocket"));
    asked
}

async fn an_extended_connect_reaches_servers_of_either_version(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    for url in URLS {
        let answer = world
            .curl
            .request(extended_connect(url))
            .await
            .map_err(|e| anyhow!("{url}: {e}"))?;
        assert_eq!(answer.status(), 200, "{url}");
        assert!(!answer.headers().contains_key("sec-websocket-accept"));
        echoes(&mut upgraded(answer).await?).await?;
        // Anything but a changed protocol is no success.
        let plain = extended_connect(&url.replace("/upgrade", "/anything"));
        let answer = world
            .curl
            .request(plain)
            .await
            .map_err(|e| anyhow!("{url}: {e}"))?;
        assert!(
            !answer.status().is_success() || url == URLS[1],
            "{url}: {}",
            answer.status()
        );
    }
    Ok(())
}

async fn a_refused_upgrade_is_an_ordinary_answer(shape: Shape) -> Result<()> {
    let deny = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no-get, namespace: default}\nspec:\n  \
                targetRefs: [{group: '', kind: Service, name: reviews}]\n  action: DENY\n  rules: [{to: [{operation: \
                {methods: [GET], paths: [/upgrade]}}]}]\n";
    let world = World::start(shape, &[("deny", deny)]).await?;
    for url in URLS {
        // However it is asked for, a policy sees the GET that it is.
        for asked in [request(Method::GET, url, &WEBSOCKET), extended_connect(url)] {
            let answer = world
                .curl
                .request(asked)
                .await
                .map_err(|e| anyhow!("{url}: {e}"))?;
            assert_eq!(answer.status(), 403, "{url}");
        }
        let ignored = request(Method::GET, &url.replace("/upgrade", "/plain"), &WEBSOCKET);
        let answer = world.curl.request(ignored).await;
        match url == URLS[0] {
            true => assert_eq!(seen(answer).await?.path, "/plain"),
            // Over HTTP/2 the application sees a CONNECT and its 200 is a yes.
            false => assert_eq!(answer.map_err(|e| anyhow!("{e}"))?.status(), 101),
        }
    }
    Ok(())
}

async fn both_halves_close_on_their_own(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    for url in URLS {
        let answer = world.curl.request(request(Method::GET, url, &WEBSOCKET)).await;
        let mut stream = upgraded(answer.map_err(|e| anyhow!("{e}"))?).await?;
        stream.write_all(b"the last words").await?;
        stream.shutdown().await?;
        let mut back = String::new();
        stream.read_to_string(&mut back).await?;
        assert_eq!(back, "the last words", "{url}");
    }
    Ok(())
}

/// Hardening row 37: with a mirror and retries in the way, and where the answer is one that would be retried.
async fn row_37_an_upgrade_is_neither_copied_nor_sent_again(shape: Shape) -> Result<()> {
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: default}\nspec:\n  \
                 parentRefs: [{group: '', kind: Service, name: reviews}]\n  rules:\n  - filters: [{type: RequestMirror, requestMirror: \
                 {backendRef: {name: reviews-v2, port: 9080}}}]\n    retry: {codes: [500, 502, 503], attempts: 3}\n    \
                 backendRefs: [{name: reviews-v1, port: 9080}]\n";
    let world = World::start(shape, &[("route", route)]).await?;
    let answer = world
        .curl
        .request(request(Method::GET, URLS[0], &WEBSOCKET))
        .await;
    let mut stream = upgraded(answer.map_err(|e| anyhow!("{e}"))?).await?;
    echoes(&mut stream).await?;
    drop(stream);
    assert_eq!((world.v1.echo.served(), world.v2.echo.served()), (1, 0));
    // What does not become an upgrade may be tried again, and is copied no more than one that does.
    let refused = URLS[0].replace("/upgrade", "/fail/503/2/upgrade");
    let answer = world
        .curl
        .request(request(Method::GET, &refused, &WEBSOCKET))
        .await;
    assert_eq!(answer.map_err(|e| anyhow!("{e}"))?.status(), 200);
    assert_eq!((world.v1.echo.served(), world.v2.echo.served()), (4, 0));
    // An ordinary request shows that there is a mirror.
    let ordinary = world.curl.get("http://reviews:9080/").await;
    assert_eq!(ordinary.map_err(|e| anyhow!("{e}"))?.status(), 200);
    until("the mirror has its copy", || async {
        world.v2.echo.served() == 1
    })
    .await;
    Ok(())
}

/// Hardening row 37: a fault happens once, before anybody is asked; after 101 no rule has a hand in what passes.
async fn row_37_a_fault_comes_before_an_upgrade_and_not_into_it(shape: Shape) -> Result<()> {
    let delay = Duration::from_millis(100);
    let to = "mirror: {host: reviews-v2}\n    retries: {attempts: 3, retryOn: '5xx,reset'}\n    route: [{destination: {host: \
              reviews-v1}}]";
    let rules = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews, namespace: default}}\nspec:\n  \
         hosts: [reviews]\n  http:\n  - match: [{{headers: {{x-abort: {{exact: 'yes'}}}}}}]\n    fault: {{abort: {{httpStatus: 503, \
         percentage: {{value: 100}}}}}}\n    {to}\n  - fault: {{delay: {{fixedDelay: {}ms, percentage: {{value: 100}}}}}}\n    {to}\n",
        delay.as_millis()
    );
    let world = World::start(shape, &[("rules", &rules)]).await?;
    for url in URLS {
        let mut asked = request(Method::GET, url, &WEBSOCKET);
        asked.headers_mut().insert("x-abort", "yes".parse()?);
        let answer = world.curl.request(asked).await;
        assert_eq!(status(answer), 503, "{url}");
    }
    assert_eq!((world.v1.echo.served(), world.v2.echo.served()), (0, 0));
    for url in URLS {
        let began = Instant::now();
        let answer = world.curl.request(request(Method::GET, url, &WEBSOCKET)).await;
        let mut stream = upgraded(answer.map_err(|e| anyhow!("{url}: {e}"))?).await?;
        assert!(began.elapsed() >= delay, "{url}: {:?}", began.elapsed());
        echoes(&mut stream).await?;
        // Broken off in the middle: nobody makes it up again.
        stream.write_all(b"and the").await?;
        drop(stream);
    }
    let ordinary = world.curl.get("http://reviews:9080/").await;
    assert_eq!(status(ordinary), 200);
    until("the mirror has its copy of what was no upgrade", || async {
        world.v2.echo.served() == 1
    })
    .await;
    assert_eq!(world.v1.echo.served(), 3);
    Ok(())
}

/// The head of an HTTP/1 answer.
async fn head(stream: &mut (impl Stream + ?Sized)) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

async fn a_websocket_by_hand_is_echoed(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let mut stream = house.knock().await?;
    stream
        .write_all(
            b"GET /upgrade HTTP/1.1\r\nHost: reviews:9080\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await?;
    let head = head(&mut stream).await?;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
    echoes(&mut stream).await
}

async fn an_extended_connect_by_hand_is_echoed(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    for port in [9080, 9090] {
        let io = TokioIo::new(house.knock_at(port).await?);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        let mut asked = Request::connect("http://reviews:9080/upgrade")
            .version(Version::HTTP_2)
            .body(Empty::new())?;
        asked.extensions_mut().insert(Protocol::from_static("websocket"));
        let mut answer = sender.send_request(asked).await?;
        assert_eq!(answer.status(), 200);
        echoes(&mut TokioIo::new(hyper::upgrade::on(&mut answer).await?)).await?;
    }
    Ok(())
}

/// Hardening row 32. Whoever lets `Upgrade: h2c` through has a tunnel in which nothing is judged.
async fn http_is_not_smuggled_through_an_upgrade_to_h2c(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    for protocol in ["h2c", "websocket, h2c", "HTTP/2.0", "TLS/1.2"] {
        let head = format!(
            "GET /upgrade HTTP/1.1\r\nHost: reviews:9080\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: \
             {protocol}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        );
        let answer = house.say(head.as_bytes()).await?;
        // The echo application says 101 whatever it is offered: it was offered nothing, and is not believed.
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("h2c"), "{answer}");
        assert!(
            !answer.contains("SM\r\n"),
            "bytes of the tunnel came back: {answer}"
        );
    }
    Ok(())
}

/// Hardening row 32.
async fn an_upgrade_with_a_body_is_refused(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let before = house.served();
    for framing in ["Content-Length: 30\r\n", "Transfer-Encoding: chunked\r\n"] {
        let head = format!(
            "GET /upgrade HTTP/1.1\r\nHost: reviews:9080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{framing}\r\nGET /admin \
             HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let answer = house.say(head.as_bytes()).await?;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(house.served(), before);
    Ok(())
}
