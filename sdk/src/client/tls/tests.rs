//! TLS towards backends, against real servers.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::client::connection::Spoken;
use crate::identity::dev_ca::{DevCa, Leaf, Pems};
use crate::matcher::HostPattern;
use crate::name::{Kind, ResourceRef, SpiffeId};
use crate::policy::tls::{Certificate, Roots, Subject, TlsOrigin};

const URI: &str = "spiffe://cluster.local/ns/default/sa/backend";

fn issue(ca: &DevCa, edit: impl FnOnce(&mut Leaf)) -> Pems {
    let mut leaf = Leaf::of(&SpiffeId::parse(URI).unwrap(), Duration::from_secs(3600));
    leaf.dns = vec!["a.example.com".into(), "*.wild.example.com".into()];
    edit(&mut leaf);
    ca.issue_leaf(&leaf).unwrap()
}

fn der(pem: &str) -> Box<[u8]> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .as_ref()
        .into()
}

fn server(pems: &Pems, clients: Option<&DevCa>) -> Arc<ServerConfig> {
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&crypto))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from(der(ca.root_pem()).to_vec()))
                .unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(pems.key.as_bytes()).unwrap();
    let mut config = builder
        .with_single_cert(vec![CertificateDer::from(der(&pems.chain).to_vec())], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What a server saw of a client that began TLS: server name and protocol.
async fn met(
    origin: &TlsOrigin,
    spoken: Spoken,
    config: Arc<ServerConfig>,
) -> io::Result<(Option<String>, Option<Vec<u8>>)> {
    let (near, far) = tokio::io::duplex(8192);
    let serving = async {
        let mut stream = TlsAcceptor::from(config).accept(far).await?;
        let session = stream.get_ref().1;
        let seen = (
            session.server_name().map(str::to_owned),
            session.alpn_protocol().map(<[u8]>::to_vec),
        );
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        Ok(seen)
    };
    let calling = async {
        let mut stream = originate(origin, spoken, near).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        assert_eq!(said, "hello");
        Ok(())
    };
    let (served, called): (io::Result<_>, io::Result<()>) = tokio::join!(serving, calling);
    called?;
    served
}

fn origin(name: &str, ca: &DevCa) -> TlsOrigin {
    TlsOrigin::new(name, Roots::Given(vec![der(ca.root_pem())]))
}

#[tokio::test]
async fn the_host_name_is_asked_for_and_must_be_proved() {
    let (ca, other) = (DevCa::new_in_memory().unwrap(), DevCa::new_in_memory().unwrap());
    let config = server(&issue(&ca, |_| {}), None);
    let seen = met(&origin("a.example.com", &ca), Spoken::Http2, Arc::clone(&config))
        .await
        .unwrap();
    assert_eq!(seen, (Some("a.example.com".into()), Some(b"h2".to_vec())));
    let seen = met(
        &origin("b.wild.example.com", &ca),
        Spoken::Http1,
        Arc::clone(&config),
    )
    .await
    .unwrap();
    assert_eq!(seen.1, Some(b"http/1.1".to_vec()));
    let seen = met(&origin("a.example.com", &ca), Spoken::Bytes, Arc::clone(&config))
        .await
        .unwrap();
    assert_eq!(seen.1, None);
    for (name, ca) in [("b.example.com", &ca), ("a.example.com", &other)] {
        let refused = met(&origin(name, ca), Spoken::Http1, Arc::clone(&config)).await;
        assert!(refused.is_err(), "{name}: {refused:?}");
    }
}

#[tokio::test]
async fn what_is_over_or_not_yet_begun_proves_nothing() {
    let ca = DevCa::new_in_memory().unwrap();
    let now = SystemTime::now();
    for (from, until) in [(-7200, -3600), (3600, 7200)] {
        let at = |seconds: i64| {
            let distance = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 {
                now - distance
            } else {
                now + distance
            }
        };
        let pems = issue(&ca, |leaf| {
            (leaf.not_before, leaf.not_after) = (at(from), at(until))
        });
        let refused = met(&origin("a.example.com", &ca), Spoken::Http1, server(&pems, None)).await;
        assert!(refused.is_err(), "{from} {until}");
    }
}

#[tokio::test]
async fn with_subjects_the_host_name_is_only_asked_for() {
    let ca = DevCa::new_in_memory().unwrap();
    let config = server(&issue(&ca, |_| {}), None);
    let host = |text: &str| Subject::Host(HostPattern::parse(text).unwrap());
    let table = [
        (vec![host("a.example.com")], true),
        (vec![host("A.EXAMPLE.com")], true),
        (vec![host("b.example.com")], false),
        (vec![host("b.example.com"), Subject::Uri(URI.into())], true),
        (vec![Subject::Uri(URI.into())], true),
        (
            vec![Subject::Uri("spiffe://cluster.local/ns/default/sa/back".into())],
            false,
        ),
        (vec![host("*.example.com")], true),
        (vec![host("x.wild.example.com")], true),
        (vec![host("y.x.wild.example.com")], false),
        (vec![host("*.wild.example.com")], true),
        (vec![host("*.other.com")], false),
        // What is asked for proves nothing any more.
        (vec![host("asked.example.com")], false),
    ];
    for (subjects, proved) in table {
        let mut origin = origin("asked.example.com", &ca);
        origin.subjects = subjects;
        let met = met(&origin, Spoken::Http1, Arc::clone(&config)).await;
        assert_eq!(met.is_ok(), proved, "{:?}: {met:?}", origin.subjects);
        if let Ok((name, _)) = met {
            assert_eq!(name.as_deref(), Some("asked.example.com"));
        }
    }
}

#[tokio::test]
async fn a_certificate_of_our_own_is_shown_to_whom_it_matters() {
    let (ca, clients) = (DevCa::new_in_memory().unwrap(), DevCa::new_in_memory().unwrap());
    let config = server(&issue(&ca, |_| {}), Some(&clients));
    assert!(
        met(&origin("a.example.com", &ca), Spoken::Http1, Arc::clone(&config))
            .await
            .is_err()
    );
    let own = issue(&clients, |_| {});
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let mut with = origin("a.example.com", &ca);
    with.client = Some(Arc::new(Certificate {
        source: ResourceRef::new(Kind::Secret, "default", "own"),
        hosts: Vec::new(),
        chain: vec![der(&own.chain)],
        key: key.secret_der().into(),
    }));
    assert!(met(&with, Spoken::Http1, config).await.is_ok());
}

#[tokio::test]
async fn nobody_is_proved_by_no_roots() {
    let ca = DevCa::new_in_memory().unwrap();
    let config = server(&issue(&ca, |_| {}), None);
    let none = TlsOrigin::new("a.example.com", Roots::Given(Vec::new()));
    assert!(met(&none, Spoken::Http1, Arc::clone(&config)).await.is_err());
    // The system trusts others than a CA made a moment ago.
    let system = TlsOrigin::new("a.example.com", Roots::System);
    assert!(met(&system, Spoken::Http1, config).await.is_err());
}

#[tokio::test]
async fn who_is_not_verified_may_be_anybody_with_a_key() {
    let ca = DevCa::new_in_memory().unwrap();
    let config = server(&issue(&ca, |_| {}), None);
    let anybody = TlsOrigin::new("elsewhere.example.com", Roots::Unverified);
    let (name, _) = met(&anybody, Spoken::Http1, config).await.unwrap();
    assert_eq!(name.as_deref(), Some("elsewhere.example.com"));
}
