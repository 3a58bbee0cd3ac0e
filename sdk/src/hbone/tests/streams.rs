//! Bytes through one stream.

use std::io::IoSlice;

use http::{HeaderValue, StatusCode};

use super::*;

#[tokio::test]
async fn bytes_come_back_and_both_ends_know_each_other() {
    let mut server = Server::start(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let opening = tokio::spawn({
        let (pool, target) = (pool.clone(), server.target());
        let mut head = head();
        head.baggage = Some(HeaderValue::from_static("service.name=client"));
        async move { pool.open(&target, head).await.unwrap() }
    });
    let incoming = server.incoming.recv().await.unwrap();
    assert_eq!(incoming.peer.identity, Some(id("client")));
    assert_eq!(incoming.authority.to_string(), "10.0.0.7:9080");
    assert_eq!(incoming.head.baggage.as_ref().unwrap(), "service.name=client");
    tokio::spawn(echo(incoming.accept(None).unwrap()));
    let mut stream = opening.await.unwrap();
    assert_eq!(stream.peer().identity, Some(id("server")));
    ask(&mut stream, b"hello").await;
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let mut server = Server::start(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let target = server.target();
    let (opened, incoming) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None).unwrap()
    });
    let (mut near, mut far) = (opened.unwrap(), incoming);
    // Client first: the server reads the end, and may still talk.
    near.write_all(b"last words").await.unwrap();
    near.shutdown().await.unwrap();
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"last words");
    assert!(near.write_all(b"x").await.is_err(), "nothing can follow the end");
    far.write_all(b"still here").await.unwrap();
    far.shutdown().await.unwrap();
    let mut heard = Vec::new();
    near.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"still here");

    // Server first.
    let (opened, incoming) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None).unwrap()
    });
    let (mut near, mut far) = (opened.unwrap(), incoming);
    far.shutdown().await.unwrap();
    assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
    near.write_all(b"I go on").await.unwrap();
    near.shutdown().await.unwrap();
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"I go on");
}

#[tokio::test]
async fn much_data_passes_unchanged() {
    let server = Server::echo(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let stream = pool.open(&server.target(), head()).await.unwrap();
    let sent: Vec<u8> = (0..24 * 1024 * 1024u32).map(|i| ((i * 31) >> 7) as u8).collect();
    let expected = sent.clone();
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    read.read_to_end(&mut got).await.unwrap();
    assert!(got == expected);
}

#[tokio::test]
async fn several_slices_are_one_write() {
    let server = Server::echo(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let mut stream = pool.open(&server.target(), head()).await.unwrap();
    assert!(tokio::io::AsyncWrite::is_write_vectored(&stream));
    let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
    assert_eq!(stream.write_vectored(&slices).await.unwrap(), 7);
    let mut back = [0; 7];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"one two");
}

#[tokio::test]
async fn a_refused_stream_says_why_and_the_tunnel_stays() {
    let mut server = Server::start(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let target = server.target();
    let (refused, ()) = tokio::join!(pool.open(&target, head()), async {
        server
            .incoming
            .recv()
            .await
            .unwrap()
            .refuse(StatusCode::UNAUTHORIZED);
    });
    assert_eq!(refused.unwrap_err().status(), Some(StatusCode::UNAUTHORIZED));
    // Nobody answers: dropping is an answer too.
    let (refused, ()) = tokio::join!(pool.open(&target, head()), async {
        drop(server.incoming.recv().await.unwrap());
    });
    assert_eq!(
        refused.unwrap_err().status(),
        Some(StatusCode::SERVICE_UNAVAILABLE)
    );
    let (opened, accepted) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None)
    });
    opened.unwrap();
    accepted.unwrap();
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn dropped_streams_end_without_a_reset() {
    let mut server = Server::start(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let target = server.target();
    for _ in 0..20 {
        let (opened, accepted) = tokio::join!(pool.open(&target, head()), async {
            server.incoming.recv().await.unwrap().accept(None)
        });
        let mut far = accepted.unwrap();
        let mut near = opened.unwrap();
        near.write_all(b"bye").await.unwrap();
        drop(near);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"bye");
        // A reset would make this fail.
        far.write_all(b"you left already").await.unwrap();
        far.shutdown().await.unwrap();
    }
    assert_eq!(server.accepted(), 1);
    until("all seats are free", || pool.stats().streams == 0).await;
}

#[tokio::test]
async fn a_reset_stream_is_cut_off_and_the_others_go_on() {
    let mut server = Server::start(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let target = server.target();
    let (opened, accepted) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None)
    });
    let (near, mut far) = (opened.unwrap(), accepted.unwrap());
    near.reset();
    assert!(matches!(far.read(&mut [0; 8]).await, Ok(0) | Err(_)));
    let (opened, accepted) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None)
    });
    let mut near = opened.unwrap();
    tokio::spawn(echo(accepted.unwrap()));
    ask(&mut near, b"still works").await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn relay_joins_tcp_and_tunnel_in_both_directions() {
    let mut server = Server::start(Settings::default()).await;
    let pool = pool("client", Settings::default());
    // The application behind the server: reads to the end, then answers.
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app_addr = app.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = app.accept().await.unwrap();
        let mut heard = Vec::new();
        tcp.read_to_end(&mut heard).await.unwrap();
        heard.reverse();
        tcp.write_all(&heard).await.unwrap();
    });
    let target = server.target();
    let (opened, (tcp, far)) = tokio::join!(pool.open(&target, head()), async {
        let far = server.incoming.recv().await.unwrap().accept(None).unwrap();
        let tcp = TcpStream::connect(app_addr).await.unwrap();
        (tcp, far)
    });
    let relayed = tokio::spawn(relay(tcp, far));
    let mut near = opened.unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    near.write_all(&sent).await.unwrap();
    near.shutdown().await.unwrap();
    let mut got = Vec::new();
    near.read_to_end(&mut got).await.unwrap();
    got.reverse();
    assert!(got == sent);
    assert_eq!(relayed.await.unwrap(), (3_000_000, 3_000_000));
}
