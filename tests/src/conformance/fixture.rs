//! What the suite makes by code instead of YAML: certificates, and the Secrets and ConfigMaps that hold them.

use std::sync::Arc;

use anyhow::{Context, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// Where the suite keeps them.
const NAMESPACE: &str = "gateway-conformance-infra";
/// Secrets with a certificate that the suite makes, where else they are, and whom they are for.
const LEAVES: &[(&str, &[&str], &[&str])] = &[
    (
        "tls-checks-certificate",
        &[],
        &[
            "abc.example.com",
            "other.example.com",
            "spiffe://abc.example.com/test-identity",
        ],
    ),
    (
        "tls-passthrough-checks-certificate",
        &["gateway-conformance-app-backend"],
        &["abc.example.com"],
    ),
    ("tls-terminate-checks-certificate", &[], &["abc.example.com"]),
    (
        "tls-validity-checks-client-certificate",
        &[],
        &["client.example.org"],
    ),
    ("tls-checks-client-certificate", &[], &["client.example.org"]),
];
/// The Secret of the HTTPS listeners.
const LISTENERS: &str = "tls-validity-checks-certificate";
/// The ConfigMap with the CA of the backends.
const CA: &str = "tls-checks-ca-certificate";
/// The ConfigMap with a CA that signed nobody's certificate. The suite's notes do not list it, its manifests name it.
const STRANGER: &str = "mismatch-ca-certificate";

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Pair {
    chain: String,
    key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// All of them, made anew for each run.
#[derive(Clone, Debug)]
pub struct Fixtures {
    ca: String,
    stranger: String,
    listeners: Pair,
    leaves: Vec<(&'static str, Pair)>,
}

impl Fixtures {
    /// Makes them.
    ///
    /// # Errors
    /// If a key or a certificate cannot be made.
    pub fn new() -> Result<Self> {
        let (ca, stranger) = (authority("conformance")?, authority("stranger")?);
        let leaf = |(name, _, sans): &(&'static str, &[&str], &[&str])| {
            let key = KeyPair::generate()?;
            let certificate = leaf(sans)?.signed_by(&key, &ca)?;
            let pair = Pair {
                chain: certificate.pem(),
                key: key.serialize_pem(),
            };
            Ok::<_, anyhow::Error>((*name, pair))
        };
        let leaves = LEAVES.iter().map(leaf).collect::<Result<_>>()?;
        let key = KeyPair::generate()?;
        let own = leaf_of_its_own(&key)?;
        Ok(Self {
            ca: ca.pem(),
            stranger: stranger.pem(),
            listeners: Pair {
                chain: own,
                key: key.serialize_pem(),
            },
            leaves,
        })
    }

    /// As objects.
    pub fn objects(&self) -> Vec<Value> {
        let authority = |name: &str, pem: &str| {
            json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": { "namespace": NAMESPACE, "name": name },
                "data": { "ca.crt": pem },
            })
        };
        let mut objects = vec![
            authority(CA, &self.ca),
            authority(STRANGER, &self.stranger),
            secret(NAMESPACE, LISTENERS, &self.listeners),
        ];
        for ((name, pair), (_, elsewhere, _)) in self.leaves.iter().zip(LEAVES) {
            for namespace in [NAMESPACE].iter().chain(*elsewhere) {
                objects.push(secret(namespace, name, pair));
            }
        }
        objects
    }

    /// The certificates of the HTTPS listeners, and of the backends that listeners may pass TLS on to: clients trust exactly
    /// these.
    ///
    /// # Errors
    /// If one cannot be read back.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let leaves = self.leaves.iter().map(|(_, pair)| pair);
        let all = [&self.listeners].into_iter().chain(leaves);
        all.map(|pair| CertificateDer::from_pem_slice(pair.chain.as_bytes()).context("our own certificate"))
            .collect()
    }

    /// A server with the certificate of a Secret.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn server(&self, secret: &str) -> Result<Arc<ServerConfig>> {
        let (_, pair) = self
            .leaves
            .iter()
            .find(|(name, _)| *name == secret)
            .with_context(|| format!("a pod mounts Secret {secret}, which nobody makes"))?;
        let chain = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn leaf(sans: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "conformance leaf");
    for san in sans {
        let text = Ia5String::try_from(*san)?;
        params.subject_alt_names.push(match san.contains("://") {
            true => SanType::URI(text),
            false => SanType::DnsName(text),
        });
    }
    Ok(params)
}

fn leaf_of_its_own(key: &KeyPair) -> Result<String> {
    Ok(leaf(&["*", "*.org", "*.wildcard.org"])?.self_signed(key)?.pem())
}

fn secret(namespace: &str, name: &str, pair: &Pair) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": { "namespace": namespace, "name": name },
        "data": { "tls.crt": BASE64_STANDARD.encode(&pair.chain), "tls.key": BASE64_STANDARD.encode(&pair.key) },
    })
}
