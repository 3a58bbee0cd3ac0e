//! The certificates of a listener.

use std::sync::Arc;

use super::listener::Fault;
use super::material::{Material, Reasons};
use super::pem;
use crate::config::gateway::{Gateway, Listener, ObjectReference};
use crate::name::{Kind, ResourceRef};
use crate::policy::tls::Certificate;

/// Istio's option by which clients are asked for certificates; what it says else cannot be carried out here.
const MODE: &str = "gateway.istio.io/tls-terminate-mode";

const REASONS: Reasons = Reasons {
    missing: "InvalidCertificateRef",
    kind: "InvalidCertificateRef",
};

/// The certificates that can be used, and the first reference that cannot.
pub(super) fn of(
    owner: &ResourceRef,
    listener: &Listener,
    material: &Material<'_>,
) -> (Vec<Arc<Certificate>>, Option<Fault>) {
    let invalid = |text: String| (Vec::new(), Some(Fault::new(REASONS.missing, text)));
    let Some(tls) = &listener.tls else {
        return invalid("a listener that opens TLS needs tls.certificateRefs".to_owned());
    };
    match tls.mode.as_deref() {
        None | Some("" | "Terminate") => {}
        Some(mode) => return invalid(format!("tls.mode `{mode}` cannot be had on an HTTPS listener")),
    }
    // An option may demand more of clients than would be demanded without it.
    if let Some((key, value)) = tls
        .options
        .iter()
        .find(|(key, value)| *key != MODE || *value != "SIMPLE")
    {
        return invalid(format!("the option {key}: {value} is not supported"));
    }
    if tls.certificate_refs.is_empty() {
        return invalid("a listener that opens TLS needs tls.certificateRefs".to_owned());
    }
    let (mut found, mut fault) = (Vec::new(), None);
    for reference in &tls.certificate_refs {
        match one(owner, reference, material, REASONS) {
            Ok(certificate) => found.push(Arc::new(certificate)),
            Err(why) => {
                fault.get_or_insert(why);
            }
        }
    }
    (found, fault)
}

/// The certificate that a Gateway shows to backends, if it has one to show.
pub(super) fn of_client(
    gateway: &Gateway,
    owner: &ResourceRef,
    material: &Material<'_>,
) -> Option<Result<Arc<Certificate>, Fault>> {
    const REASONS: Reasons = Reasons {
        missing: "InvalidClientCertificateRef",
        kind: "InvalidClientCertificateRef",
    };
    let backend = gateway.spec.tls.as_ref()?.backend.as_ref()?;
    let reference = backend.client_certificate_ref.as_ref()?;
    Some(one(owner, reference, material, REASONS).map(Arc::new))
}

fn one(
    owner: &ResourceRef,
    reference: &ObjectReference,
    material: &Material<'_>,
    reasons: Reasons,
) -> Result<Certificate, Fault> {
    let secret = material.secret(owner, reference, reasons)?;
    let meta = &secret.metadata;
    let source = ResourceRef::new(Kind::Secret, meta.namespace.clone(), meta.name.clone());
    let pair = pem::pair(|key| secret.get(key))
        .map_err(|why| Fault::new(reasons.missing, format!("{source} cannot be used: {why}")))?;
    Ok(Certificate {
        source,
        hosts: pair.hosts,
        chain: pair.chain,
        key: pair.key,
    })
}
