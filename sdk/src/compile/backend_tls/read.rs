//! What one policy demands.

use std::sync::Arc;

use super::Read;
use crate::compile::gateway::{Fault, Material, certificates};
use crate::config::Entry;
use crate::config::gateway::{BackendTLSPolicy, BackendTLSValidation, LocalObjectReference, SubjectAltName};
use crate::matcher::HostPattern;
use crate::name::Kind;
use crate::policy::tls::{Certificate, Roots, Subject, TlsOrigin};

/// What this process itself brings to a handshake with a backend: nothing, the client certificate of the Gateway that it is,
/// or why that cannot be had.
pub(crate) type Own = Option<Result<Arc<Certificate>, Fault>>;

pub(super) fn one<'a>(
    policy: &'a BackendTLSPolicy,
    entry: &'a Arc<Entry>,
    material: &Material<'a>,
    own: &Own,
) -> Read<'a> {
    let (demand, unresolved) = demand(policy, entry, material, own);
    Read {
        policy,
        entry,
        demand: demand.map(Arc::new),
        unresolved,
        rivals: Vec::new(),
    }
}

fn invalid(text: impl Into<String>) -> Fault {
    Fault::new("Invalid", text)
}

fn demand(
    policy: &BackendTLSPolicy,
    entry: &Entry,
    material: &Material<'_>,
    own: &Own,
) -> (Result<TlsOrigin, Fault>, Option<Fault>) {
    if let Some(why) = &entry.broken {
        return (Err(invalid(why)), None);
    }
    if policy.spec.target_refs.is_empty() {
        let text = "targetRefs names no Service, so that every one of the namespace may be meant";
        return (Err(invalid(text)), None);
    }
    let validation = &policy.spec.validation;
    let (roots, unresolved) = roots(&policy.metadata.namespace, validation, material);
    let origin = || {
        // A setting that is not known may demand more than would be demanded without it.
        if let Some(key) = policy.spec.options.keys().next() {
            return Err(invalid(format!("the option {key} is not supported")));
        }
        let Ok(HostPattern::Exact(host)) = HostPattern::parse(&validation.hostname) else {
            return Err(invalid(format!("`{}` is no host name", validation.hostname)));
        };
        let mut origin = TlsOrigin::new(host.as_str(), roots?);
        for name in &validation.subject_alt_names {
            origin.subjects.push(subject(name)?);
        }
        if let Some(own) = own {
            let own = own.as_ref().map_err(|fault| invalid(&fault.text))?;
            origin.client = Some(Arc::clone(own));
        }
        Ok(origin)
    };
    (origin(), unresolved)
}

fn subject(name: &SubjectAltName) -> Result<Subject, Fault> {
    match (name.kind.as_str(), name.hostname.as_str(), name.uri.as_str()) {
        ("Hostname", hostname, "") if !hostname.is_empty() => match HostPattern::parse(hostname) {
            Ok(HostPattern::Any) | Err(_) => Err(invalid(format!("`{hostname}` is no host name"))),
            Ok(pattern) => Ok(Subject::Host(pattern)),
        },
        ("URI", "", uri) if uri.contains(':') => Ok(Subject::Uri(uri.into())),
        (kind, ..) => Err(invalid(format!(
            "a subjectAltName of type `{kind}` needs exactly its own value"
        ))),
    }
}

/// Who may have signed, and the first reference that leads nowhere.
fn roots(
    namespace: &str,
    validation: &BackendTLSValidation,
    material: &Material<'_>,
) -> (Result<Roots, Fault>, Option<Fault>) {
    let well_known = validation
        .well_known_ca_certificates
        .as_deref()
        .filter(|it| !it.is_empty());
    match (validation.ca_certificate_refs.as_slice(), well_known) {
        ([], Some("System")) => (Ok(Roots::System), None),
        ([], Some(other)) => {
            let text = format!("the well-known certificates `{other}` are not known");
            (Err(invalid(text)), None)
        }
        ([], None) => (
            Err(invalid("caCertificateRefs or wellKnownCACertificates is needed")),
            None,
        ),
        (_, Some(_)) => {
            let text = "caCertificateRefs and wellKnownCACertificates exclude each other";
            (Err(invalid(text)), None)
        }
        (references, None) => {
            let (mut roots, mut unresolved) = (Vec::new(), None);
            for reference in references {
                match given(namespace, reference, material) {
                    Ok(found) => roots.extend(found),
                    Err(fault) => {
                        unresolved.get_or_insert(fault);
                    }
                }
            }
            match &unresolved {
                Some(fault) if roots.is_empty() => {
                    let text = format!("no certificate could be judged: {}", fault.text);
                    (Err(Fault::new("NoValidCACertificate", text)), unresolved)
                }
                _ => (Ok(Roots::Given(roots)), unresolved),
            }
        }
    }
}

fn given(
    namespace: &str,
    reference: &LocalObjectReference,
    material: &Material<'_>,
) -> Result<Vec<Box<[u8]>>, Fault> {
    let LocalObjectReference { group, kind, name } = reference;
    if !matches!(group.as_str(), "" | "core") || kind != Kind::ConfigMap.as_str() {
        let text = format!("{kind} {name} cannot hold certificates: only a ConfigMap");
        return Err(Fault::new("InvalidKind", text));
    }
    let fault = |why: String| Fault::new("InvalidCACertificateRef", why);
    let Some((map, _)) = material.store.config_map(namespace, name) else {
        return Err(fault(format!("ConfigMap {namespace}/{name} does not exist")));
    };
    let pem = map
        .get("ca.crt")
        .ok_or_else(|| "it does not hold ca.crt".to_owned());
    pem.and_then(|pem| certificates("ca.crt", pem))
        .map_err(|why| fault(format!("ConfigMap {namespace}/{name} cannot be used: {why}")))
}
