//! A listener's TLS against real clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::identity::dev_ca::{DevCa, Leaf, Pems};
use crate::matcher::HostPattern;
use crate::name::{Kind, ResourceRef, SpiffeId};
use crate::policy::tls::Certificate;
use crate::snapshot::{ClientTerms, TlsTerms};

fn leaf(ca: &DevCa, dns: &[&str]) -> Pems {
    let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/front").unwrap();
    let mut leaf = Leaf::of(&id, Duration::from_secs(3600));
    leaf.dns = dns.iter().map(|name| (*name).to_owned()).collect();
    ca.issue_leaf(&leaf).unwrap()
}

fn certificate(pems: &Pems, dns: &[&str]) -> Arc<Certificate> {
    let chain = CertificateDer::pem_slice_iter(pems.chain.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(pems.key.as_bytes()).unwrap();
    Arc::new(Certificate {
        source: ResourceRef::new(Kind::Secret, "default", dns[0]),
        hosts: dns.iter().map(|name| HostPattern::parse(name).unwrap()).collect(),
        chain: chain.map(|der| der.unwrap().as_ref().into()).collect(),
        key: key.secret_der().into(),
    })
}

fn client(ca: &DevCa, own: Option<&Pems>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.root_pem().as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pems) => {
            let chain = vec![CertificateDer::from_pem_slice(pems.chain.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pems.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// What a client that asks for a name gets: the certificate it is shown, in DER.
async fn shown(terms: &TlsTerms, config: Arc<ClientConfig>, name: &str) -> io::Result<Vec<u8>> {
    let (near, far) = tokio::io::duplex(4096);
    let server = async {
        let (asked, stream) = greet(far).await?;
        assert_eq!(asked.map(|it| it.to_string()).as_deref(), Some(name));
        let mut stream = terminate(terms, stream).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    };
    let client = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(config).connect(name, near).await?;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        assert_eq!(said, "hello");
        Ok(certificate)
    };
    let (served, got) = tokio::join!(server, client);
    served.and(got)
}

#[tokio::test]
async fn the_certificate_with_the_longest_matching_name_is_shown() {
    let ca = DevCa::new_in_memory().unwrap();
    let names: [&[&str]; 3] = [
        &["*.a.example"],
        &["a.example", "b.example"],
        &["*.deep.a.example"],
    ];
    let pems: Vec<Pems> = names.iter().map(|dns| leaf(&ca, dns)).collect();
    let certificates: Vec<_> = pems
        .iter()
        .zip(names)
        .map(|(pems, dns)| certificate(pems, dns))
        .collect();
    let terms = TlsTerms::new(certificates.clone(), None);
    let table = [
        ("x.a.example", 0),
        ("a.example", 1),
        ("b.example", 1),
        ("x.deep.a.example", 2),
    ];
    for (name, expected) in table {
        let shown = shown(&terms, client(&ca, None), name).await.unwrap();
        assert_eq!(shown, certificates[expected].chain[0].to_vec(), "{name}");
    }
    // One that nobody names: the first is shown, and this client does not accept it.
    assert!(shown(&terms, client(&ca, None), "other.test").await.is_err());
}

#[tokio::test]
async fn clients_prove_who_they_are_where_that_is_demanded() {
    let (ca, clients, strangers) = (
        DevCa::new_in_memory().unwrap(),
        DevCa::new_in_memory().unwrap(),
        DevCa::new_in_memory().unwrap(),
    );
    let own = certificate(&leaf(&ca, &["a.example"]), &["a.example"]);
    let root = CertificateDer::from_pem_slice(clients.root_pem().as_bytes()).unwrap();
    let demand = |optional| {
        let roots = vec![root.as_ref().into()];
        TlsTerms::new(
            vec![Arc::clone(&own)],
            Some(Arc::new(ClientTerms { roots, optional })),
        )
    };
    let (known, stranger) = (leaf(&clients, &["c"]), leaf(&strangers, &["c"]));
    for (optional, who, served) in [
        (false, Some(&known), true),
        (false, Some(&stranger), false),
        (false, None, false),
        (true, Some(&known), true),
        (true, Some(&stranger), true),
        (true, None, true),
    ] {
        let result = shown(&demand(optional), client(&ca, who), "a.example").await;
        assert_eq!(result.is_ok(), served, "optional {optional}, {who:?}: {result:?}");
    }
}

#[test]
fn a_key_that_is_not_the_certificates_is_found_out_before_anybody_comes() {
    let ca = DevCa::new_in_memory().unwrap();
    let (a, b) = (leaf(&ca, &["a.example"]), leaf(&ca, &["a.example"]));
    let mixed = Pems { key: b.key, ..a };
    let terms = TlsTerms::new(vec![certificate(&mixed, &["a.example"])], None);
    let error = usable(&terms).unwrap_err().to_string();
    assert!(error.contains("Secret default/a.example"), "{error}");
    assert!(usable(&TlsTerms::new(Vec::new(), None)).is_err());
}

async fn greeted(bytes: &[u8]) -> (io::Result<()>, Vec<u8>) {
    let (mut near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 20);
    near.write_all(bytes).await.unwrap();
    let greeted = greet(far).await.map(drop);
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    (greeted, answer)
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_say_hello_is_not_waited_for() {
    // Plain HTTP, to a TLS port: told so by an alert.
    let (result, answer) = greeted(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(result.is_err() && answer.first() == Some(&21), "{answer:?}");
    // Half a hello, and then nothing.
    let (near, far) = tokio::io::duplex(64);
    let silent = tokio::spawn(async move { greet(far).await.map(drop) });
    assert_eq!(silent.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(near);
    let (mut near, far) = tokio::io::duplex(64);
    near.write_all(&[22, 3, 1, 0, 200, 1]).await.unwrap();
    drop(near);
    assert_eq!(
        greet(far).await.map(drop).unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[tokio::test]
async fn a_name_that_nobody_has_is_refused_with_an_alert() {
    let (near, far) = tokio::io::duplex(4096);
    let ca = DevCa::new_in_memory().unwrap();
    let server = async {
        let (_, stream) = greet(far).await.unwrap();
        refuse(stream).await;
    };
    let name = ServerName::try_from("nobody.example").unwrap();
    let connector = TlsConnector::from(client(&ca, None));
    let (_, result) = tokio::join!(server, connector.connect(name, near));
    let error = format!("{:?}", result.unwrap_err());
    assert!(error.contains("UnrecognisedName"), "{error}");
}
