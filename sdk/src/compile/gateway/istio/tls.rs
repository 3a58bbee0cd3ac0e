//! How a server of Istio's Gateway terminates TLS.
//!
//! What demands more of clients than can be checked here is not served: it would be served to more than were meant.

use std::sync::Arc;

use super::server::{Unserved, unserved};
use crate::compile::files::{Files, Unread};
use crate::compile::gateway::{Pair, certificates, pair};
use crate::config::ResourceStore;
use crate::config::core::Secret;
use crate::config::istio::{ServerTLSSettings, ServerTLSmode};
use crate::name::{Kind, ResourceRef};
use crate::policy::tls::Certificate;
use crate::snapshot::{ClientTerms, TlsTerms};

/// The terms of a server; Secrets are of the namespace of the pod that serves.
pub(super) fn terms(
    written: Option<&ServerTLSSettings>,
    namespace: &str,
    store: &ResourceStore,
    files: &Files<'_>,
) -> Result<TlsTerms, Unserved> {
    let (tls, demands_clients) = demands(written)?;
    let lookup = Lookup {
        namespace,
        store,
        files,
    };
    let certificates = lookup.certificates(tls)?;
    let clients = match demands_clients {
        None => None,
        Some(optional) => Some(Arc::new(ClientTerms {
            roots: lookup.roots(tls)?,
            optional,
        })),
    };
    Ok(TlsTerms::new(certificates, clients))
}

/// What is demanded, before anything it refers to is looked at: whether clients must show a certificate, or may leave it.
pub(super) fn demands(
    written: Option<&ServerTLSSettings>,
) -> Result<(&ServerTLSSettings, Option<bool>), Unserved> {
    let Some(tls) = written else {
        return unserved("tls", "a certificate is required", "give a credentialName");
    };
    let of_clients = match tls.mode {
        Some(ServerTLSmode::Simple) => None,
        Some(ServerTLSmode::Mutual) => Some(false),
        Some(ServerTLSmode::OptionalMutual) => Some(true),
        _ => {
            let text = "this is done by the mesh's own certificates, which a Gateway does not show";
            return unserved(
                "tls.mode",
                text,
                "use SIMPLE, MUTUAL, OPTIONAL_MUTUAL or PASSTHROUGH",
            );
        }
    };
    unsupported(tls)?;
    Ok((tls, of_clients))
}

fn unsupported(tls: &ServerTLSSettings) -> Result<(), Unserved> {
    let is_beyond = |version: &Option<String>, known: &[&str]| {
        version
            .as_deref()
            .is_some_and(|it| !it.is_empty() && !known.contains(&it))
    };
    let fields = [
        ("tls.subjectAltNames", !tls.subject_alt_names.is_empty()),
        (
            "tls.verifyCertificateSpki",
            !tls.verify_certificate_spki.is_empty(),
        ),
        (
            "tls.verifyCertificateHash",
            !tls.verify_certificate_hash.is_empty(),
        ),
        ("tls.caCrl", given(&tls.ca_crl).is_some()),
        ("tls.cipherSuites", !tls.cipher_suites.is_empty()),
        ("tls.tlsCertificates", !tls.tls_certificates.is_empty()),
        // What we offer is 1.2 and 1.3.
        (
            "tls.minProtocolVersion",
            is_beyond(&tls.min_protocol_version, &["TLS_AUTO", "TLSV1_2"]),
        ),
        (
            "tls.maxProtocolVersion",
            is_beyond(&tls.max_protocol_version, &["TLS_AUTO", "TLSV1_3"]),
        ),
    ];
    match fields.into_iter().find(|(_, is_written)| *is_written) {
        Some((field, _)) => unserved(
            field,
            "this cannot be demanded of clients",
            "remove it, if you can do without",
        ),
        None => Ok(()),
    }
}

struct Lookup<'s> {
    namespace: &'s str,
    store: &'s ResourceStore,
    files: &'s Files<'s>,
}

impl Lookup<'_> {
    fn certificates(&self, tls: &ServerTLSSettings) -> Result<Vec<Arc<Certificate>>, Unserved> {
        let names: Vec<&str> = match given(&tls.credential_name) {
            Some(name) => vec![name],
            None => tls.credential_names.iter().map(String::as_str).collect(),
        };
        if !names.is_empty() {
            return names.into_iter().map(|name| self.of_secret(name)).collect();
        }
        let (Some(chain), Some(key)) = (given(&tls.server_certificate), given(&tls.private_key)) else {
            return unserved(
                "tls.credentialName",
                "a certificate is required",
                "name a Secret, or files",
            );
        };
        let (chain, key) = (
            self.file("tls.serverCertificate", chain)?,
            self.file("tls.privateKey", key)?,
        );
        let held = |name: &str| match name {
            "tls.crt" => Some(chain),
            "tls.key" => Some(key),
            _ => None,
        };
        let source = ResourceRef::new(Kind::IstioGateway, self.namespace, "files");
        certificate("tls.serverCertificate", source, pair(held)).map(|it| vec![it])
    }

    fn of_secret(&self, name: &str) -> Result<Arc<Certificate>, Unserved> {
        let secret = self.secret(name)?;
        let source = ResourceRef::new(Kind::Secret, self.namespace, name);
        certificate("tls.credentialName", source, pair(|key| secret.get(key)))
    }

    fn secret(&self, name: &str) -> Result<&Secret, Unserved> {
        match self.store.secret(self.namespace, name) {
            Some((secret, _)) => Ok(secret),
            None => unserved(
                "tls.credentialName",
                format!("Secret {}/{name} does not exist", self.namespace),
                "make the Secret in the namespace of the gateway's pods",
            ),
        }
    }

    /// Who must have signed the certificates of clients.
    fn roots(&self, tls: &ServerTLSSettings) -> Result<Vec<Box<[u8]>>, Unserved> {
        let judged = |field, source: &str, pem: &[u8]| {
            certificates(source, pem).or_else(|why| unserved(field, why, "use certificates in PEM"))
        };
        if let Some(path) = given(&tls.ca_certificates) {
            return judged("tls.caCertificates", path, self.file("tls.caCertificates", path)?);
        }
        let own = given(&tls.ca_cert_credential_name).or_else(|| given(&tls.credential_name));
        let Some(name) = own else {
            return unserved(
                "tls.caCertificates",
                "nobody could prove anything",
                "name the clients' authority",
            );
        };
        let beside = self.store.secret(self.namespace, &format!("{name}-cacert"));
        let secrets = [Some(self.secret(name)?), beside.map(|(secret, _)| secret)];
        let held = secrets.into_iter().flatten().find_map(|secret| {
            let names = ["ca.crt", "cacert"];
            names.into_iter().find_map(|key| secret.get(key))
        });
        match held {
            Some(pem) => judged("tls.credentialName", "ca.crt", pem),
            None => unserved(
                "tls.credentialName",
                format!(
                    "neither Secret {}/{name} nor {name}-cacert holds ca.crt",
                    self.namespace
                ),
                "put the clients' authority into it as ca.crt",
            ),
        }
    }

    fn file(&self, field: &'static str, path: &str) -> Result<&[u8], Unserved> {
        self.files.get(path).or_else(|unread| match unread {
            Unread::Unasked => unserved(field, format!("{path} has not been read yet"), ""),
            Unread::Unreadable(why) => unserved(field, why, "put the file where the gateway can read it"),
        })
    }
}

fn certificate(
    field: &'static str,
    source: ResourceRef,
    pair: Result<Pair, String>,
) -> Result<Arc<Certificate>, Unserved> {
    match pair {
        Ok(Pair { chain, hosts, key }) => Ok(Arc::new(Certificate {
            source,
            hosts,
            chain,
            key,
        })),
        Err(why) => unserved(field, format!("the certificate cannot be used: {why}"), "use PEM"),
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|it| !it.is_empty())
}
