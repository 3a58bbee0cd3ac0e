//! Which tunnels are made, shared and left.

use super::*;

#[tokio::test]
async fn many_who_need_the_same_tunnel_dial_once() {
    let server = Server::echo(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..80u32 {
        let (pool, target) = (pool.clone(), server.target());
        tasks.spawn(async move {
            let mut stream = pool.open(&target, head()).await.unwrap();
            ask(&mut stream, format!("stream {i}").as_bytes()).await;
            stream
        });
    }
    let streams = tasks.join_all().await;
    assert_eq!(server.accepted(), 1);
    assert_eq!(
        pool.stats(),
        PoolStats {
            tunnels: 1,
            streams: 80
        }
    );
    drop(streams);
    until("the seats are free", || pool.stats().streams == 0).await;
}

#[tokio::test]
async fn more_streams_than_a_tunnel_carries_make_a_second_one() {
    let server = Server::echo(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let mut streams = Vec::new();
    for _ in 0..250 {
        streams.push(pool.open(&server.target(), head()).await.unwrap());
    }
    assert_eq!(server.accepted(), 3);
    for stream in &mut streams {
        ask(stream, b"here").await;
    }
}

#[tokio::test]
async fn a_peer_that_allows_fewer_streams_is_heeded() {
    let few = Settings {
        advertised_streams: 3,
        ..Settings::default()
    };
    let server = Server::echo(few).await;
    let pool = pool("client", Settings::default());
    let mut streams = Vec::new();
    for _ in 0..7 {
        streams.push(pool.open(&server.target(), head()).await.unwrap());
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn a_failed_dial_is_told_to_all_who_waited() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = TunnelTarget::new(listener.local_addr().unwrap(), [id("server")]);
    drop(listener);
    let pool = pool("client", Settings::default());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (pool, target) = (pool.clone(), target.clone());
        tasks.spawn(async move { pool.open(&target, head()).await.unwrap_err() });
    }
    for error in tasks.join_all().await {
        assert!(error.is_connect_failure(), "{error}");
    }
    assert_eq!(pool.stats(), PoolStats::default());
}

#[tokio::test]
async fn a_tunnel_that_goes_away_is_left_and_its_streams_stay() {
    let server = Server::echo(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let mut old = pool.open(&server.target(), head()).await.unwrap();
    server.leave.send_replace(());
    // The GOAWAY reaches us on its own; until then the old tunnel may still be used.
    until_new_tunnel(&pool, &server).await;
    ask(&mut old, b"the old one works").await;
    drop(old);
}

async fn until_new_tunnel(pool: &TunnelPool, server: &Server) {
    let before = server.accepted();
    for _ in 0..200 {
        if let Ok(mut stream) = pool.open(&server.target(), head()).await
            && server.accepted() > before
        {
            ask(&mut stream, b"new").await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the tunnel that goes away is still used");
}

#[tokio::test]
async fn a_new_credential_makes_a_new_tunnel_and_the_old_stream_goes_on() {
    let mut server = Server::start(Settings::default()).await;
    let ours = provider("client");
    let pool = TunnelPool::new(ours.subscribe(), Settings::default());
    let target = server.target();
    let (old, accepted) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None)
    });
    let mut old = old.unwrap();
    tokio::spawn(echo(accepted.unwrap()));

    ours.replace(credential("client"));
    let (new, accepted) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None)
    });
    let mut new = new.unwrap();
    tokio::spawn(echo(accepted.unwrap()));
    assert_eq!(server.accepted(), 2);
    assert!(new.epoch() > old.epoch());
    ask(&mut old, b"old").await;
    ask(&mut new, b"new").await;
    assert_eq!(pool.stats().tunnels, 1, "the old tunnel takes no new streams");
}

#[tokio::test]
async fn a_tunnel_is_never_used_for_another_identity() {
    let mut server = Server::start(Settings::default()).await;
    let ours = provider("alice");
    let pool = TunnelPool::new(ours.subscribe(), Settings::default());
    let target = server.target();
    for account in ["alice", "bob", "alice"] {
        if *account != *ours.subscribe().borrow().id().service_account() {
            ours.replace(credential(account));
        }
        let (opened, peer) = tokio::join!(pool.open(&target, head()), async {
            let incoming = server.incoming.recv().await.unwrap();
            let peer = incoming.peer.clone();
            incoming.accept(None).map(|stream| (stream, peer))
        });
        let (_stream, peer) = peer.unwrap();
        assert_eq!(peer.identity, Some(id(account)));
        opened.unwrap();
    }
    assert_eq!(server.accepted(), 3);
    // The same address, but somebody else expected there: not the tunnel that stands.
    let elsewhere = TunnelTarget::new(server.addr, [id("somebody-else")]);
    assert!(pool.open(&elsewhere, head()).await.unwrap_err().is_identity());
}

#[tokio::test]
async fn an_unused_tunnel_is_released() {
    let server = Server::echo(Settings::default()).await;
    let hasty = Settings {
        ping_every: Duration::from_millis(20),
        idle_release: Duration::from_millis(50),
        ..Settings::default()
    };
    let pool = pool("client", hasty);
    let mut stream = pool.open(&server.target(), head()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        pool.stats().tunnels,
        1,
        "a tunnel with a stream is in use, however quiet"
    );
    ask(&mut stream, b"still there").await;
    drop(stream);
    until("the tunnel is released", || pool.stats().tunnels == 0).await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up() {
    let server = Server::echo(Settings::default()).await;
    let wire = BlackHole::before(server.addr).await;
    let hasty = Settings {
        ping_every: Duration::from_millis(50),
        ping_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let pool = pool("client", hasty);
    let target = TunnelTarget::new(wire.addr, [id("server")]);
    let mut stream = pool.open(&target, head()).await.unwrap();
    ask(&mut stream, b"hello").await;
    wire.swallow.send_replace(true);
    assert!(
        stream.read(&mut [0; 8]).await.is_err(),
        "a lost tunnel is not a clean end"
    );
    until("the tunnel has left the pool", || pool.stats().tunnels == 0).await;
}

/// Quick to notice that nothing is answered, and patient enough for a busy machine.
fn attentive() -> Settings {
    Settings {
        ping_every: Duration::from_millis(50),
        ping_timeout: Duration::from_secs(1),
        handshake_timeout: Duration::from_secs(2),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_peer_that_fell_silent_is_dialled_until_it_answers() {
    let server = Server::echo(Settings::default()).await;
    let wire = BlackHole::before(server.addr).await;
    let pool = pool("client", attentive());
    let target = TunnelTarget::new(wire.addr, [id("server")]);
    let silence = pool.silence(&target);
    let silent = || silence.load(Ordering::Relaxed);
    let mut stream = pool.open(&target, head()).await.unwrap();
    ask(&mut stream, b"hello").await;
    assert!(!silent());
    wire.swallow.send_replace(true);
    assert!(stream.read(&mut [0; 8]).await.is_err());
    assert!(silent(), "it is marked before its streams hear of it");
    assert_eq!(pool.stats().tunnels, 0);
    wire.swallow.send_replace(false);
    until("it answers again, and nobody had to ask", || !silent()).await;
    assert_eq!(pool.stats().tunnels, 1);
    ask(&mut pool.open(&target, head()).await.unwrap(), b"hello again").await;
}

#[tokio::test]
async fn a_peer_that_never_answered_a_dial_is_silent_until_it_is_retired() {
    let server = Server::echo(Settings::default()).await;
    let wire = BlackHole::before(server.addr).await;
    wire.swallow.send_replace(true);
    let hasty = Settings {
        handshake_timeout: Duration::from_millis(100),
        ..attentive()
    };
    let pool = pool("client", hasty);
    let target = TunnelTarget::new(wire.addr, [id("server")]);
    let silence = pool.silence(&target);
    let error = pool.open(&target, head()).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert!(silence.load(Ordering::Relaxed));
    pool.retire(|_| false);
    assert!(!silence.load(Ordering::Relaxed), "nobody would say so later");
    let again = pool.silence(&target);
    assert!(!Arc::ptr_eq(&silence, &again), "forgotten");
}

#[tokio::test]
async fn a_server_gives_up_a_client_that_falls_silent() {
    let hasty = Settings {
        ping_every: Duration::from_millis(50),
        ping_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let mut server = Server::start(hasty).await;
    let wire = BlackHole::before(server.addr).await;
    let pool = pool("client", Settings::default());
    let target = TunnelTarget::new(wire.addr, [id("server")]);
    let (near, far) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None)
    });
    let (_near, mut far) = (near.unwrap(), far.unwrap());
    wire.swallow.send_replace(true);
    assert!(far.read(&mut [0; 8]).await.is_err());
}

/// A wire that passes bytes until it is told to swallow them, without closing anything.
struct BlackHole {
    addr: SocketAddr,
    swallow: watch::Sender<bool>,
}

impl BlackHole {
    async fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let swallow = watch::Sender::new(false);
        let told = swallow.subscribe();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let told = told.clone();
                tokio::spawn(async move {
                    let far = TcpStream::connect(behind).await.unwrap();
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(pass(near_in, far_out, told.clone()), pass(far_in, near_out, told));
                });
            }
        });
        Self { addr, swallow }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    swallow: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !*swallow.borrow() && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    std::future::pending::<()>().await; // keeps the other half open
}

#[tokio::test]
async fn retired_tunnels_take_no_new_streams() {
    let server = Server::echo(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let mut old = pool.open(&server.target(), head()).await.unwrap();
    pool.retire(|target| target.addr != server.addr);
    assert_eq!(pool.stats().tunnels, 0);
    ask(&mut old, b"the stream goes on").await;
    let mut new = pool.open(&server.target(), head()).await.unwrap();
    ask(&mut new, b"on a new tunnel").await;
    assert_eq!(server.accepted(), 2);
    pool.retire(|_| true);
    assert_eq!(pool.stats().tunnels, 1);
}

#[tokio::test]
async fn draining_waits_for_streams_and_cuts_them_off_at_the_deadline() {
    let server = Server::echo(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let mut stream = pool.open(&server.target(), head()).await.unwrap();
    let draining = tokio::spawn({
        let pool = pool.clone();
        async move { pool.drain(Duration::from_secs(30)).await }
    });
    until("the pool is closed", || pool.stats().tunnels == 0).await;
    assert!(matches!(
        pool.open(&server.target(), head()).await,
        Err(Error::Closed)
    ));
    ask(&mut stream, b"may finish").await;
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    drop(stream);
    tokio::time::timeout(Duration::from_secs(10), draining)
        .await
        .unwrap()
        .unwrap();

    let pool = super::pool("client", Settings::default());
    let mut stream = pool.open(&server.target(), head()).await.unwrap();
    pool.drain(Duration::from_millis(50)).await;
    assert!(stream.read(&mut [0; 8]).await.is_err(), "cut off");
}

#[tokio::test]
async fn streams_outlive_their_pool() {
    let server = Server::echo(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let mut stream = pool.open(&server.target(), head()).await.unwrap();
    drop(pool);
    ask(&mut stream, b"alone").await;
}

#[tokio::test]
async fn an_impatient_caller_does_not_hurt_the_tunnel() {
    let mut server = Server::start(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let target = server.target();
    for _ in 0..5 {
        tokio::select! {
            _ = pool.open(&target, head()) => panic!("nobody answered"),
            incoming = server.incoming.recv() => {
                // The caller goes while we look; then we answer all the same.
                let incoming = incoming.unwrap();
                tokio::task::yield_now().await;
                tokio::spawn(async move { incoming.accept(None).map(echo) });
            }
        }
    }
    until("the seats are free", || pool.stats().streams == 0).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_peer_that_never_answers_is_left_waiting_no_longer_than_agreed() {
    let mut server = Server::start(Settings::default()).await;
    let hasty = Settings {
        answer_timeout: Duration::from_millis(50),
        ..Settings::default()
    };
    let pool = pool("client", hasty);
    let error = pool.open(&server.target(), head()).await.unwrap_err();
    assert!(error.is_timeout() && !error.is_connect_failure(), "{error}");
    drop(server.incoming.recv().await.unwrap());
}

#[tokio::test]
async fn a_server_rotates_between_two_tunnels() {
    let server = Server::echo(Settings::default()).await;
    let pool = pool("client", Settings::default());
    let mut old = pool.open(&server.target(), head()).await.unwrap();
    // The server becomes somebody else: who dials anew notices, who is connected does not.
    server.provider.replace(credential("successor"));
    ask(&mut old, b"the old tunnel stands").await;
    pool.retire(|_| false);
    assert!(
        pool.open(&server.target(), head())
            .await
            .unwrap_err()
            .is_identity()
    );
    let successor = TunnelTarget::new(server.addr, [id("successor")]);
    let mut new = pool.open(&successor, head()).await.unwrap();
    ask(&mut new, b"new").await;
}

/// Elsewhere than on Linux 127.0.0.1 is the only loopback address of its family.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_tunnel_is_dialled_from_the_address_it_should_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = TunnelTarget::new(listener.local_addr().unwrap(), [id("server")]);
    let from: std::net::IpAddr = "127.3.2.1".parse().unwrap();
    let settings = Settings {
        dial_from: Some(from),
        ..Settings::default()
    };
    let pool = pool("client", settings);
    let dialled = tokio::spawn(async move { pool.open(&target, head()).await });
    let (_stream, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip(), from);
    dialled.abort();
}

#[tokio::test]
async fn an_address_to_dial_from_is_for_peers_of_its_family() {
    let server = Server::echo(Settings::default()).await;
    let settings = Settings {
        dial_from: Some("::1".parse().unwrap()),
        ..Settings::default()
    };
    let mut stream = pool("client", settings)
        .open(&server.target(), head())
        .await
        .unwrap();
    ask(&mut stream, b"here").await;
}
