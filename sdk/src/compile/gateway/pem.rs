//! Certificates and keys as Secrets and ConfigMaps hold them: from PEM to DER, each looked at once so that what cannot be
//! one is said where it is written.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

use crate::matcher::HostPattern;

/// Names under which Kubernetes and Istio keep a chain and its key in a Secret.
const PAIRS: [(&str, &str); 2] = [("tls.crt", "tls.key"), ("cert", "key")];

/// A chain in DER, the leaf first, with the hosts that the leaf names; and its key.
pub(crate) struct Pair {
    pub(crate) chain: Vec<Box<[u8]>>,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) key: Box<[u8]>,
}

/// The pair in a Secret. The errors name entries, never what is in them.
pub(crate) fn pair<'d>(get: impl Fn(&str) -> Option<&'d [u8]>) -> Result<Pair, String> {
    let held = PAIRS
        .iter()
        .find_map(|(chain, key)| Some((*chain, get(chain)?, *key, get(key)?)));
    let Some((chain_name, chain, key_name, key)) = held else {
        return Err("it does not hold tls.crt and tls.key".to_owned());
    };
    let chain = certificates(chain_name, chain)?;
    let hosts = chain.first().map(|leaf| hosts(leaf)).unwrap_or_default();
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| format!("{key_name} is no private key in PEM"))?;
    Ok(Pair {
        chain,
        hosts,
        key: key.secret_der().into(),
    })
}

/// The certificates in PEM under a name; at least one, each well-formed.
pub(crate) fn certificates(name: &str, pem: &[u8]) -> Result<Vec<Box<[u8]>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("{name} is not PEM: {error}"))?;
    if read.is_empty() {
        return Err(format!("{name} holds no certificate in PEM"));
    }
    for der in &read {
        match x509_parser::parse_x509_certificate(der) {
            Ok(([], _)) => {}
            Ok(_) => return Err(format!("{name} holds a certificate with something behind it")),
            Err(error) => return Err(format!("{name} holds what is no certificate: {error}")),
        }
    }
    Ok(read.into_iter().map(|der| der.as_ref().into()).collect())
}

/// The DNS names of a certificate.
fn hosts(leaf: &[u8]) -> Vec<HostPattern> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else {
        return Vec::new();
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => HostPattern::parse(name).ok(),
            _ => None,
        })
        .collect()
}
