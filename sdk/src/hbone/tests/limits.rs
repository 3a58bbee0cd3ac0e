//! Peers that break the rules, send too much or take too little.

use bytes::Bytes;
use h2::Reason;
use http::{Method, Request, StatusCode};

use super::*;

type RawClient = h2::client::SendRequest<Bytes>;

async fn h2_client(addr: SocketAddr) -> (RawClient, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let (client, connection) = h2::client::Builder::new()
        .max_header_list_size(1 << 20)
        .handshake(raw::sound_tls(addr).await)
        .await
        .unwrap();
    (client, tokio::spawn(connection))
}

fn connect_to(authority: &str) -> Request<()> {
    let uri = http::Uri::builder().authority(authority).build().unwrap();
    Request::builder()
        .method(Method::CONNECT)
        .uri(uri)
        .body(())
        .unwrap()
}

#[tokio::test]
async fn authorities_that_are_none_never_reach_the_application() {
    let mut server = Server::start(Settings::default()).await;
    let (client, _task) = h2_client(server.addr).await;
    let long = format!("{}:80", "a".repeat(254));
    let table = [
        "reviews",
        "10.0.0.7",
        "reviews:0",
        "reviews:65536",
        "user@reviews:80",
        "*.default:80",
        "[::1]",
        &long,
    ];
    for authority in table {
        let mut client = client.clone().ready().await.unwrap();
        let (answer, _send) = client.send_request(connect_to(authority), true).unwrap();
        let status = answer.await.unwrap().status();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{authority}");
    }
    assert!(server.incoming.try_recv().is_err());
}

/// HPACK literals without indexing, for heads that no library would send.
fn literal(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0);
    for text in [name.as_bytes(), value] {
        if text.len() < 127 {
            block.push(text.len() as u8);
        } else {
            block.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
        block.extend_from_slice(text);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Reads frames until one matches; `None` if the connection ends before.
async fn read_until(
    tls: &mut (impl tokio::io::AsyncRead + Unpin),
    wanted: impl Fn(u8, u32) -> bool,
) -> Option<(u8, Vec<u8>)> {
    loop {
        let mut head = [0; 9];
        tls.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        tls.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if wanted(head[3], stream) {
            return Some((head[3], payload));
        }
    }
}

#[tokio::test]
async fn authorities_that_no_library_would_send_are_turned_away() {
    let mut server = Server::start(Settings::default()).await;
    let mut tls = raw::sound_tls(server.addr).await;
    tls.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
        .await
        .unwrap();
    let huge = vec![b'a'; 60_000];
    let table: [&[u8]; 7] = [
        b"",
        b"a\0b:80",
        b"[fe80::1%eth0]:80",
        b"fe80::1:80",
        b"a b:80",
        b"a/b:80",
        &huge,
    ];
    for (i, authority) in table.into_iter().enumerate() {
        let stream = i as u32 * 2 + 1;
        let mut block = Vec::new();
        literal(&mut block, ":method", b"CONNECT");
        literal(&mut block, ":authority", authority);
        let (first, rest) = block.split_at(block.len().min(16_000));
        let mut chunks = rest.chunks(16_000).peekable();
        let flags = if chunks.peek().is_none() { END_HEADERS } else { 0 };
        let mut bytes = frame(HEADERS, flags, stream, first);
        while let Some(chunk) = chunks.next() {
            let flags = if chunks.peek().is_none() { END_HEADERS } else { 0 };
            bytes.extend(frame(CONTINUATION, flags, stream, chunk));
        }
        tls.write_all(&bytes).await.unwrap();
        // A refusal (HEADERS) or a protocol error of this stream alone (RST_STREAM): never the whole connection.
        let (kind, _) = read_until(&mut tls, |kind, on| on == stream || kind == GOAWAY)
            .await
            .unwrap();
        assert!(
            kind == HEADERS || kind == RST_STREAM,
            "{:?}",
            String::from_utf8_lossy(&authority[..authority.len().min(40)])
        );
    }
    assert!(server.incoming.try_recv().is_err());
}

#[tokio::test]
async fn other_methods_are_bad_requests() {
    let mut server = Server::start(Settings::default()).await;
    let (client, _task) = h2_client(server.addr).await;
    for method in [Method::GET, Method::POST, Method::OPTIONS] {
        let mut client = client.clone().ready().await.unwrap();
        let request = Request::builder()
            .method(method)
            .uri("https://reviews:9080/")
            .body(())
            .unwrap();
        let (answer, _send) = client.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), StatusCode::BAD_REQUEST);
    }
    assert!(server.incoming.try_recv().is_err());
}

#[tokio::test]
async fn early_payload_of_a_refused_stream_reaches_nobody() {
    let mut server = Server::start(Settings::default()).await;
    let (client, _task) = h2_client(server.addr).await;
    for _ in 0..20 {
        let mut first = client.clone().ready().await.unwrap();
        let (refused, mut early) = first.send_request(connect_to("10.0.0.7:9080"), false).unwrap();
        early.send_data(Bytes::from(vec![b'!'; 30_000]), false).unwrap();
        let incoming = server.incoming.recv().await.unwrap();
        incoming.refuse(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);

        let mut second = client.clone().ready().await.unwrap();
        let (accepted, mut send) = second.send_request(connect_to("10.0.0.7:9081"), false).unwrap();
        let mut far = server.incoming.recv().await.unwrap().accept(None).unwrap();
        send.send_data(Bytes::from_static(b"mine"), true).unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"mine");
        assert_eq!(accepted.await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let mut server = Server::start(Settings::default()).await;
    let tls = raw::sound_tls(server.addr).await;
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for i in 0..20_000u32 {
        let mut block = Vec::new();
        literal(&mut block, ":method", b"CONNECT");
        literal(&mut block, ":authority", b"10.0.0.7:9080");
        bytes.extend(frame(HEADERS, END_HEADERS, i * 2 + 1, &block));
        bytes.extend(frame(RST_STREAM, 0, i * 2 + 1, &8u32.to_be_bytes()));
    }
    let (mut read, mut write) = tokio::io::split(tls);
    tokio::spawn(async move { drop(write.write_all(&bytes).await) });
    let (_, goaway) = read_until(&mut read, |kind, _| kind == GOAWAY)
        .await
        .expect("a GOAWAY");
    assert_eq!(goaway[4..8], u32::from(Reason::ENHANCE_YOUR_CALM).to_be_bytes());
    let mut seen = 0;
    while let Ok(_incoming) = server.incoming.try_recv() {
        seen += 1;
    }
    assert!(seen < 2000, "{seen} streams got through");
    // Others do not notice.
    let pool = pool("client", Settings::default());
    let target = server.target();
    let (opened, _far) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None)
    });
    opened.unwrap();
}

#[tokio::test]
async fn patient_resets_end_the_connection_too() {
    let settings = Settings {
        max_resets: 100,
        ..Settings::default()
    };
    let mut server = Server::start(settings).await;
    let (client, task) = h2_client(server.addr).await;
    for _ in 0..300 {
        let Ok(mut client) = client.clone().ready().await else {
            break;
        };
        let Ok((answer, mut send)) = client.send_request(connect_to("10.0.0.7:9080"), false) else {
            break;
        };
        let Some(incoming) = server.incoming.recv().await else {
            break;
        };
        let Ok(mut stream) = incoming.accept(None) else {
            break;
        };
        if answer.await.is_err() {
            break;
        }
        send.send_reset(Reason::CANCEL);
        let _ = stream.read(&mut [0; 8]).await;
    }
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn endless_continuations_end_the_connection() {
    let server = Server::start(Settings::default()).await;
    let mut tls = raw::sound_tls(server.addr).await;
    tls.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
        .await
        .unwrap();
    let (mut read, mut write) = tokio::io::split(tls);
    let mut block = Vec::new();
    literal(&mut block, ":method", b"CONNECT");
    let flood = tokio::spawn(async move {
        write.write_all(&frame(HEADERS, 0, 1, &block)).await?;
        let mut more = Vec::new();
        literal(&mut more, "x", &[b'x'; 100]);
        for sent in 0..1_000_000 {
            if write.write_all(&frame(CONTINUATION, 0, 1, &more)).await.is_err() {
                return Ok(sent);
            }
        }
        Err(std::io::Error::other("nobody stopped it"))
    });
    // Closed, with or without a GOAWAY.
    while read_until(&mut read, |_, _| true).await.is_some() {}
    flood.await.unwrap().unwrap();
}

#[tokio::test]
async fn too_large_heads_are_refused_and_the_tunnel_stays() {
    let mut server = Server::start(Settings::default()).await;
    let (client, _task) = h2_client(server.addr).await;
    let mut request = connect_to("10.0.0.7:9080");
    for i in 0..20 {
        let name = http::HeaderName::try_from(format!("x-{i}")).unwrap();
        request
            .headers_mut()
            .insert(name, "y".repeat(4000).parse().unwrap());
    }
    let mut first = client.clone().ready().await.unwrap();
    let (answer, _send) = first.send_request(request, true).unwrap();
    match answer.await {
        Ok(answer) => assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
    let mut second = client.clone().ready().await.unwrap();
    let (answer, _send) = second.send_request(connect_to("10.0.0.7:9080"), true).unwrap();
    drop(server.incoming.recv().await.unwrap());
    assert_eq!(answer.await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// Writes until nothing more is taken for a while; returns how much was.
async fn fill(stream: &mut TunnelStream) -> usize {
    let chunk = vec![0; 64 * 1024];
    let mut written = 0;
    while let Ok(count) = tokio::time::timeout(Duration::from_millis(300), stream.write(&chunk)).await {
        written += count.unwrap();
    }
    written
}

#[tokio::test]
async fn a_reader_that_stops_holds_up_its_own_stream_and_no_other() {
    const WINDOW: usize = 256 * 1024;
    let settings = Settings {
        stream_window: WINDOW as u32,
        connection_window: 4 * WINDOW as u32,
        send_buffer: 128 * 1024,
        ..Settings::default()
    };
    let mut server = Server::start(settings.clone()).await;
    let pool = pool("client", settings);
    let target = server.target();
    let (stuck, far) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None).unwrap()
    });
    let mut stuck = stuck.unwrap();
    let written = fill(&mut stuck).await;
    assert!(written >= WINDOW, "{written}");
    assert!(
        written <= WINDOW + 128 * 1024,
        "{written} bytes were taken for a reader that reads none"
    );

    let (other, other_far) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None).unwrap()
    });
    tokio::spawn(echo(other_far));
    let mut other = other.unwrap();
    for _ in 0..50 {
        ask(&mut other, &[7; 10_000]).await;
    }
    // Reading again sets the writer free.
    tokio::spawn(echo(far));
    let freed = tokio::time::timeout(Duration::from_secs(10), stuck.write(b"go on")).await;
    freed.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_too_is_not_flooded_by_a_server() {
    const WINDOW: usize = 256 * 1024;
    let settings = Settings {
        stream_window: WINDOW as u32,
        connection_window: 4 * WINDOW as u32,
        send_buffer: 128 * 1024,
        ..Settings::default()
    };
    let mut server = Server::start(settings.clone()).await;
    let pool = pool("client", settings);
    let target = server.target();
    let (near, far) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None).unwrap()
    });
    let (mut far, _near) = (far, near.unwrap());
    let written = fill(&mut far).await;
    assert!((WINDOW..=WINDOW + 128 * 1024).contains(&written), "{written}");
}

#[tokio::test]
async fn streams_dropped_unread_give_their_room_back() {
    const WINDOW: usize = 64 * 1024;
    let settings = Settings {
        stream_window: WINDOW as u32,
        connection_window: 2 * WINDOW as u32,
        linger: Duration::from_millis(100),
        ..Settings::default()
    };
    let mut server = Server::start(settings.clone()).await;
    let pool = pool("client", settings);
    let target = server.target();
    // Far more than the connection's window in all, none of it read.
    for _ in 0..20 {
        let (near, far) = tokio::join!(pool.open(&target, head()), async {
            server.incoming.recv().await.unwrap().accept(None).unwrap()
        });
        let mut near = near.unwrap();
        near.write_all(&[1; WINDOW / 2]).await.unwrap();
        drop(far);
    }
    let (near, far) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None).unwrap()
    });
    tokio::spawn(echo(far));
    ask(&mut near.unwrap(), &[2; WINDOW]).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_graceful_shutdown_lets_streams_finish() {
    let mut server = Server::start(Settings::default()).await;
    let (client, task) = h2_client(server.addr).await;
    let mut asking = client.clone().ready().await.unwrap();
    let (answer, mut send) = asking.send_request(connect_to("10.0.0.7:9080"), false).unwrap();
    let mut far = server.incoming.recv().await.unwrap().accept(None).unwrap();
    let mut back = answer.await.unwrap().into_body();
    server.leave.send_replace(());
    until("new streams are refused", || {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        matches!(
            client.clone().poll_ready(&mut context),
            std::task::Poll::Ready(Err(_))
        )
    })
    .await;
    send.send_data(Bytes::from_static(b"the rest"), true).unwrap();
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"the rest");
    far.write_all(b"and the answer").await.unwrap();
    drop(far);
    assert_eq!(back.data().await.unwrap().unwrap(), "and the answer");
    while let Some(data) = back.data().await {
        assert_eq!(data.unwrap(), "", "nothing follows but the end");
    }
    drop((asking, client));
    task.await.unwrap().unwrap();
}
