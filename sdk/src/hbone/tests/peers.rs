//! Peers that are not whom they should be, or not peers at all.

use std::error::Error as _;
use std::time::SystemTime;

use super::*;
use crate::identity::Refused;
use crate::identity::dev_ca::Leaf;
use crate::name::TrustDomain;

/// A sound certificate, before it is spoiled.
fn sound(account: &str) -> Leaf {
    Leaf::of(&id(account), HOUR)
}

fn from_leaf(leaf: &Leaf) -> Credential {
    CA.issue_leaf(leaf).and_then(|pems| pems.credential()).unwrap()
}

/// A credential that a sound program would not even load, made of one that it would.
fn expired(account: &str) -> Credential {
    let mut leaf = sound(account);
    leaf.not_before = SystemTime::now() - 2 * HOUR;
    leaf.not_after = SystemTime::now() - HOUR;
    from_leaf(&leaf)
}

fn not_yet_valid(account: &str) -> Credential {
    let mut leaf = sound(account);
    leaf.not_before = SystemTime::now() + HOUR;
    leaf.not_after = SystemTime::now() + 2 * HOUR;
    from_leaf(&leaf)
}

fn of_another_root(account: &str) -> Credential {
    let stranger = DevCa::new_in_memory().unwrap().issue(&id(account), HOUR).unwrap();
    // It trusts our root, so that only its own certificate is at fault.
    Credential::from_pem(
        stranger.chain.as_bytes(),
        stranger.key.as_bytes(),
        CA.root_pem().as_bytes(),
    )
    .unwrap()
}

fn of_another_domain(account: &str) -> Credential {
    let mut leaf = sound(account);
    leaf.uris = vec![format!("spiffe://other.example/ns/default/sa/{account}")];
    from_leaf(&leaf)
}

#[tokio::test]
async fn a_server_refuses_clients_that_prove_nobody_it_accepts() {
    let domain = SpiffeId::parse("spiffe://other.example/ns/default/sa/client").unwrap();
    let table = [
        (expired("client"), Refused::Expired),
        (not_yet_valid("client"), Refused::NotYetValid),
        (of_another_root("client"), Refused::UnknownIssuer),
        (
            of_another_domain("client"),
            Refused::TrustDomain { presented: domain },
        ),
    ];
    let mut server = Server::start(Settings::default()).await;
    for (credential, reason) in table {
        let pool = TunnelPool::new(fixed(credential).subscribe(), Settings::default());
        let error = pool.open(&server.target(), head()).await.unwrap_err();
        assert!(
            matches!(error, Error::Alert { .. }),
            "the client learns of it: {error:?}"
        );
        assert!(error.is_connect_failure());
        let Error::Identity { source, .. } = server.failures.recv().await.unwrap() else {
            panic!("{reason}")
        };
        assert_eq!(source, reason);
    }
}

#[tokio::test]
async fn a_client_refuses_servers_that_are_not_whom_it_calls() {
    let domain = SpiffeId::parse("spiffe://other.example/ns/default/sa/server").unwrap();
    let expected: Arc<[SpiffeId]> = Arc::from([id("server")]);
    let unexpected = |presented| Refused::Unexpected {
        presented,
        expected: expected.clone(),
    };
    let table = [
        (expired("server"), Refused::Expired),
        (not_yet_valid("server"), Refused::NotYetValid),
        (of_another_root("server"), Refused::UnknownIssuer),
        (of_another_domain("server"), unexpected(domain)),
        (credential("server2"), unexpected(id("server2"))),
    ];
    let pool = pool("client", Settings::default());
    for (credential, reason) in table {
        let mut server = Server::with(fixed(credential), Trust::own(), Settings::default()).await;
        let error = pool.open(&server.target(), head()).await.unwrap_err();
        assert!(error.is_identity(), "{error:?}");
        assert_eq!(error.source().unwrap().to_string(), reason.to_string());
        assert!(matches!(
            server.failures.recv().await.unwrap(),
            Error::Alert { .. }
        ));
    }
}

#[tokio::test]
async fn nobody_expected_is_nobody_accepted() {
    let server = Server::echo(Settings::default()).await;
    let target = TunnelTarget::new(server.addr, []);
    let error = pool("client", Settings::default())
        .open(&target, head())
        .await
        .unwrap_err();
    assert!(error.is_identity(), "{error:?}");
}

#[tokio::test]
async fn one_of_several_expected_identities_is_enough() {
    let server = Server::echo(Settings::default()).await;
    let target = TunnelTarget::new(server.addr, [id("other"), id("server")]);
    let mut stream = pool("client", Settings::default())
        .open(&target, head())
        .await
        .unwrap();
    ask(&mut stream, b"hello").await;
}

#[tokio::test]
async fn an_alias_lets_another_trust_domain_in() {
    let trust = Trust::own().alias(TrustDomain::parse("other.example").unwrap());
    let mut server = Server::with(provider("server"), trust, Settings::default()).await;
    let pool = TunnelPool::new(
        fixed(of_another_domain("client")).subscribe(),
        Settings::default(),
    );
    let target = server.target();
    let (opened, incoming) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None).unwrap()
    });
    opened.unwrap();
    assert_eq!(
        incoming.peer().identity.as_ref().unwrap().trust_domain(),
        "other.example"
    );
}

/// Certificates that our own `Credential` refuses to load are presented by bare rustls.
#[tokio::test]
async fn a_server_refuses_certificates_without_exactly_one_spiffe_name() {
    let uri = |account| format!("spiffe://cluster.local/ns/default/sa/{account}");
    let table = [
        (vec![], "the certificate has no SPIFFE identity"),
        (
            vec![uri("a"), uri("b")],
            "the certificate has 2 URI names, expected one",
        ),
        (
            vec![uri("a"), "https://a.example".into()],
            "the certificate has 2 URI names, expected one",
        ),
        (
            vec!["https://a.example".into()],
            "the certificate's URI name is not a workload identity",
        ),
        (
            vec!["spiffe://cluster.local/a".into()],
            "the certificate's URI name is not a workload identity",
        ),
    ];
    let mut server = Server::start(Settings::default()).await;
    for (uris, reason) in table {
        let mut leaf = sound("client");
        (leaf.uris, leaf.dns) = (uris, vec!["client.default.svc".to_owned()]);
        let pems = CA.issue_leaf(&leaf).unwrap();
        let loaded = pems.credential().unwrap_err();
        assert_eq!(
            loaded.source().unwrap().to_string(),
            reason,
            "we would not load it ourselves"
        );
        let _tls = raw::tls(server.addr, Some(&pems)).await;
        let error = server.failures.recv().await.unwrap();
        assert_eq!(error.source().unwrap().to_string(), reason);
    }
}

#[tokio::test]
async fn a_server_refuses_those_without_certificate() {
    let mut server = Server::start(Settings::default()).await;
    let _tls = raw::tls(server.addr, None).await;
    let error = server.failures.recv().await.unwrap();
    assert!(
        matches!(
            error,
            Error::Identity {
                source: Refused::NoCertificate,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn plaintext_garbage_and_silence_on_the_tls_port_do_no_harm() {
    let hasty = Settings {
        handshake_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let mut server = Server::start(hasty).await;
    let garbage = vec![0xa5; 100_000];
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &garbage,
    ] {
        let mut tcp = TcpStream::connect(server.addr).await.unwrap();
        let _ = tcp.write_all(bytes).await;
        assert!(matches!(
            server.failures.recv().await.unwrap(),
            Error::Handshake { .. }
        ));
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await; // the server closes; an alert may come first
    }
    // A TLS record's head and then nothing; and nothing at all.
    for bytes in [&[0x16, 3, 1, 0x20, 0][..], &[]] {
        let mut tcp = TcpStream::connect(server.addr).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        assert!(matches!(
            server.failures.recv().await.unwrap(),
            Error::HandshakeTimeout { .. }
        ));
    }
    // Somebody who leaves in the middle.
    drop(TcpStream::connect(server.addr).await.unwrap());
    assert!(matches!(
        server.failures.recv().await.unwrap(),
        Error::Handshake { .. }
    ));
    // The server is as well as before.
    let pool = pool("client", Settings::default());
    let target = server.target();
    let (opened, _stream) = tokio::join!(pool.open(&target, head()), async {
        server.incoming.recv().await.unwrap().accept(None).unwrap()
    });
    opened.unwrap();
}

#[tokio::test]
async fn a_client_survives_servers_that_speak_something_else() {
    let hasty = Settings {
        handshake_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let pool = pool("client", hasty);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = TunnelTarget::new(listener.local_addr().unwrap(), [id("server")]);
    for answer in [Some(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]), None] {
        let (opened, _tcp) = tokio::join!(pool.open(&target, head()), async {
            let (mut tcp, _) = listener.accept().await.unwrap();
            if let Some(answer) = answer {
                tcp.write_all(answer).await.unwrap();
            }
            tcp
        });
        let error = opened.unwrap_err();
        assert!(error.is_connect_failure(), "{error:?}");
        assert_eq!(error.is_timeout(), answer.is_none());
    }
}
