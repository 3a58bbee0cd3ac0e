//! What clients of a port have to prove.

use super::listener::Fault;
use super::material::{Material, Reasons};
use super::pem;
use crate::config::gateway::{FrontendValidation, Gateway};
use crate::name::ResourceRef;
use crate::snapshot::ClientTerms;

const REASONS: Reasons = Reasons {
    missing: "InvalidCACertificateRef",
    kind: "InvalidCACertificateKind",
};

/// Who may connect to the HTTPS listeners of a port.
pub(super) enum Clients {
    /// Anybody; no certificate is asked for.
    Any,
    /// Those who prove something; one of several references may lead nowhere.
    Proved {
        terms: ClientTerms,
        fault: Option<Fault>,
    },
    /// Nobody could prove anything: the listener cannot be served.
    Nobody { fault: Fault, unresolved: Option<Fault> },
}

/// The demands of the Gateway on clients of a port: the port's own, else the default.
pub(super) fn of(gateway: &Gateway, owner: &ResourceRef, port: u16, material: &Material<'_>) -> Clients {
    let Some(frontend) = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else {
        return Clients::Any;
    };
    let own = frontend.per_port.iter().find(|it| it.port == port);
    let settings = own.map_or(&frontend.default, |own| &own.tls);
    match &settings.validation {
        None => Clients::Any,
        Some(validation) => proved(owner, validation, material),
    }
}

fn proved(owner: &ResourceRef, validation: &FrontendValidation, material: &Material<'_>) -> Clients {
    let optional = match validation.mode.as_deref() {
        None | Some("" | "AllowValidOnly") => false,
        Some("AllowInsecureFallback") => true,
        Some(other) => {
            return Clients::Nobody {
                fault: Fault::new(
                    "UnsupportedValue",
                    format!("the validation mode `{other}` is not known"),
                ),
                unresolved: None,
            };
        }
    };
    let (mut roots, mut fault) = (Vec::new(), None);
    for reference in &validation.ca_certificate_refs {
        let found = material.config_map(owner, reference, REASONS).and_then(|map| {
            let pem = map
                .get("ca.crt")
                .ok_or_else(|| "it does not hold ca.crt".to_owned());
            pem.and_then(|pem| pem::certificates("ca.crt", pem))
                .map_err(|why| {
                    let text = format!("ConfigMap {} cannot be used: {why}", reference.name);
                    Fault::new(REASONS.missing, text)
                })
        });
        match found {
            Ok(found) => roots.extend(found),
            Err(why) => {
                fault.get_or_insert(why);
            }
        }
    }
    if roots.is_empty() {
        let text = fault
            .as_ref()
            .map_or("there is no caCertificateRef", |fault| &*fault.text);
        return Clients::Nobody {
            fault: Fault::new(
                "NoValidCACertificate",
                format!("no client could be let in: {text}"),
            ),
            unresolved: fault,
        };
    }
    Clients::Proved {
        terms: ClientTerms { roots, optional },
        fault,
    }
}
