//! `tls` of a DestinationRule: what is spoken below HTTP to a destination.
//!
//! What cannot be carried out as written keeps requests from being sent; nothing falls back to plain text.

use std::sync::Arc;

use crate::compile::files::{Files, Unread};
use crate::compile::gateway::{Pair, certificates, pair};
use crate::compile::service::Destination;
use crate::config::core::Secret;
use crate::config::istio::DestinationRule;
use crate::config::istio::destination_rule::{ClientTLSSettings, TLSmode, TrafficPolicy};
use crate::config::{Entry, Problem, Resource, ResourceStore, Severity};
use crate::matcher::HostPattern;
use crate::name::{Kind, ResourceRef};
use crate::policy::tls::{Certificate, Origination, Roots, Subject, TlsOrigin};

/// Where certificates and keys are looked up that a rule names.
pub(crate) struct Credentials<'s> {
    pub(crate) store: &'s ResourceStore,
    pub(crate) files: &'s Files<'s>,
    /// Where this process is: Secrets are of its own namespace, never of the rule's.
    pub(crate) namespace: &'s str,
    /// Whether it is a Gateway, which may use any rule's Secret.
    pub(crate) is_gateway: bool,
}

/// What a rule demands to be spoken.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Demand {
    /// Whatever the endpoints speak: HBONE, or what they are sent as it is.
    #[default]
    Nothing,
    /// Mutual TLS between workloads of the mesh: HBONE and nothing else.
    Mesh,
    /// This, within HBONE where that is spoken.
    Begun(Origination),
}

impl Demand {
    /// What is begun towards an endpoint.
    pub(crate) fn towards(&self, hbone: bool) -> Origination {
        match self {
            Self::Nothing => Origination::None,
            Self::Mesh if hbone => Origination::None,
            Self::Mesh => Origination::Refused(
                "the DestinationRule demands ISTIO_MUTUAL, and the workload does not speak HBONE".into(),
            ),
            Self::Begun(origination) => origination.clone(),
        }
    }
}

/// A rule, as what is wrong with its `tls` is told.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) tls: &'a ClientTLSSettings,
    pub(crate) rule: &'a DestinationRule,
    pub(crate) entry: &'a Arc<Entry>,
}

impl<'a> Writer<'a> {
    /// The rule among these that has written it.
    pub(crate) fn of(tls: &'a ClientTLSSettings, among: &[&'a Arc<Entry>]) -> Option<Self> {
        among.iter().find_map(|entry| {
            let Resource::DestinationRule(rule) = &entry.resource else {
                return None;
            };
            let writer = Self { tls, rule, entry };
            writer.field().is_some().then_some(writer)
        })
    }

    /// Where in the rule it is.
    fn field(&self) -> Option<String> {
        let spec = &self.rule.spec;
        let whole = spec.traffic_policy.as_deref().map(|it| ("spec".to_owned(), it));
        let subsets = spec.subsets.iter().enumerate().filter_map(|(at, it)| {
            let policy = it.traffic_policy.as_deref()?;
            Some((format!("spec.subsets[{at}]"), policy))
        });
        let is = |it: &Option<ClientTLSSettings>| it.as_ref().is_some_and(|it| std::ptr::eq(it, self.tls));
        whole
            .into_iter()
            .chain(subsets)
            .find_map(|(at, policy): (_, &TrafficPolicy)| {
                if is(&policy.tls) {
                    return Some(format!("{at}.trafficPolicy.tls"));
                }
                let port = policy.port_level_settings.iter().position(|it| is(&it.tls))?;
                Some(format!("{at}.trafficPolicy.portLevelSettings[{port}].tls"))
            })
    }

    /// A BackendTLSPolicy of the Service has the last word.
    pub(crate) fn outranked(&self) -> Problem {
        let text = "a BackendTLSPolicy says what is spoken to the Service; this is not looked at";
        let at = self.field().unwrap_or_default();
        let remedy = "keep one of the two";
        self.entry.problem(Severity::Ignored, at, text, remedy)
    }

    fn problem(&self, severity: Severity, field: &str, text: impl Into<String>, remedy: &str) -> Problem {
        let at = self.field().unwrap_or_default();
        self.entry
            .problem(severity, format!("{at}.{field}"), text.into(), remedy)
    }
}

/// Why TLS cannot be begun as demanded.
struct Fault {
    /// Which field.
    field: &'static str,
    text: String,
    /// What to do; empty where there is nothing to be done but wait.
    remedy: &'static str,
}

fn fault<T>(field: &'static str, text: impl Into<String>, remedy: &'static str) -> Result<T, Fault> {
    Err(Fault {
        field,
        text: text.into(),
        remedy,
    })
}

impl Credentials<'_> {
    /// What a rule demands towards a destination.
    pub(crate) fn demand(&self, writer: Writer<'_>, to: &Destination, problems: &mut Vec<Problem>) -> Demand {
        let tls = writer.tls;
        match tls.mode.unwrap_or(TLSmode::Disable) {
            TLSmode::Disable => Demand::Nothing,
            TLSmode::IstioMutual => Demand::Mesh,
            TLSmode::Simple | TLSmode::Mutual => match self.origin(&writer, to) {
                Ok(origin) => {
                    if origin.roots == Roots::Unverified {
                        problems.push(writer.problem(
                            Severity::Warning,
                            "insecureSkipVerify",
                            format!("whoever answers for {} is believed", to.host),
                            "give caCertificates or a credentialName, and verify",
                        ));
                    }
                    Demand::Begun(Origination::Tls(Arc::new(origin)))
                }
                Err(fault) => {
                    if !fault.remedy.is_empty() {
                        let text = format!("{}; nothing is sent to {}", fault.text, to.host);
                        problems.push(writer.problem(Severity::Error, fault.field, text, fault.remedy));
                    }
                    let text = format!("{}: {}", writer.entry.reference(), fault.text);
                    Demand::Begun(Origination::Refused(text.into()))
                }
            },
        }
    }

    fn origin(&self, writer: &Writer<'_>, to: &Destination) -> Result<TlsOrigin, Fault> {
        let tls = writer.tls;
        if given(&tls.ca_crl).is_some() {
            let text = "lists of revoked certificates are not read";
            return fault(
                "caCrl",
                text,
                "remove it, or trust an authority that issues for short times",
            );
        }
        let name = match (given(&tls.sni), &to.wildcard) {
            (Some(sni), _) => match HostPattern::parse(sni) {
                Ok(HostPattern::Exact(host)) => host.as_str().to_owned(),
                _ => {
                    return fault(
                        "sni",
                        format!("`{sni}` is no host name"),
                        "write the name to ask for",
                    );
                }
            },
            (None, None) => to.host.as_str().to_owned(),
            (None, Some(_)) => {
                let text = format!("of all hosts that are {} none is the name to ask for", to.host);
                return fault(
                    "sni",
                    text,
                    "write the name to ask for, or one rule for each host",
                );
            }
        };
        let secret = match given(&tls.credential_name) {
            Some(name) => Some(self.secret(name, writer)?),
            None => None,
        };
        let roots = match (tls.insecure_skip_verify, secret) {
            (Some(true), _) => Roots::Unverified,
            (_, Some(secret)) => self.roots_beside(secret)?,
            (_, None) => match given(&tls.ca_certificates) {
                Some(path) => Roots::Given(judged(
                    "caCertificates",
                    path,
                    self.file("caCertificates", path)?,
                )?),
                None => Roots::System,
            },
        };
        let mut origin = TlsOrigin::new(&name, roots);
        origin.subjects = subjects(tls, to)?;
        if tls.mode == Some(TLSmode::Mutual) {
            origin.client = Some(Arc::new(self.own(writer, secret)?));
        }
        Ok(origin)
    }

    /// The Secret of our own namespace. As in Istio, a workload uses it only by a rule that selects workloads.
    fn secret(&self, name: &str, writer: &Writer<'_>) -> Result<&Secret, Fault> {
        if !self.is_gateway && writer.rule.spec.workload_selector.is_none() {
            let text = "workloads use a Secret only by a rule that selects them";
            return fault(
                "credentialName",
                text,
                "give the rule a workloadSelector, or name files",
            );
        }
        match self.store.secret(self.namespace, name) {
            Some((secret, _)) => Ok(secret),
            None => fault(
                "credentialName",
                format!("Secret {}/{name} does not exist", self.namespace),
                "make the Secret in the namespace of whoever calls",
            ),
        }
    }

    /// The roots in a Secret, or in the one beside it that holds nothing else.
    fn roots_beside(&self, secret: &Secret) -> Result<Roots, Fault> {
        let name = &secret.metadata.name;
        let beside = self.store.secret(self.namespace, &format!("{name}-cacert"));
        let held = std::iter::once(secret)
            .chain(beside.map(|(secret, _)| secret))
            .find_map(|secret| {
                let names = ["ca.crt", "cacert"];
                names.into_iter().find_map(|key| Some((key, secret.get(key)?)))
            });
        match held {
            Some((key, pem)) => {
                let source = format!("{key} of Secret {}/{name}", self.namespace);
                Ok(Roots::Given(judged("credentialName", &source, pem)?))
            }
            None => fault(
                "credentialName",
                format!(
                    "neither Secret {}/{name} nor {name}-cacert holds ca.crt",
                    self.namespace
                ),
                "put the authority's certificate into it as ca.crt",
            ),
        }
    }

    /// The certificate that we show.
    fn own(&self, writer: &Writer<'_>, secret: Option<&Secret>) -> Result<Certificate, Fault> {
        let tls = writer.tls;
        let (field, source, pair) = match (secret, given(&tls.client_certificate), given(&tls.private_key)) {
            (Some(secret), ..) => {
                let meta = &secret.metadata;
                let source = ResourceRef::new(Kind::Secret, meta.namespace.clone(), meta.name.clone());
                ("credentialName", source, pair(|key| secret.get(key)))
            }
            (None, Some(chain), Some(key)) => {
                let chain = self.file("clientCertificate", chain)?;
                let key = self.file("privateKey", key)?;
                let held = |name: &str| match name {
                    "tls.crt" => Some(chain),
                    "tls.key" => Some(key),
                    _ => None,
                };
                ("clientCertificate", writer.entry.reference(), pair(held))
            }
            _ => {
                let text = "MUTUAL needs a certificate to show";
                return fault("clientCertificate", text, "name files, or a credentialName");
            }
        };
        match pair {
            Ok(Pair { chain, hosts, key }) => Ok(Certificate {
                source,
                hosts,
                chain,
                key,
            }),
            Err(why) => fault(
                field,
                format!("the certificate cannot be used: {why}"),
                "use a chain and its key in PEM",
            ),
        }
    }

    fn file(&self, field: &'static str, path: &str) -> Result<&[u8], Fault> {
        match self.files.get(path) {
            Ok(content) => Ok(content),
            Err(Unread::Unasked) => fault(field, format!("{path} has not been read yet"), ""),
            Err(Unread::Unreadable(why)) => fault(field, why, "put the file where every caller can read it"),
        }
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|it| !it.is_empty())
}

fn judged(field: &'static str, source: &str, pem: &[u8]) -> Result<Vec<Box<[u8]>>, Fault> {
    certificates(source, pem).or_else(|why| fault(field, why, "use certificates in PEM"))
}

/// The names of which the server must prove one: the rule's, else those of the ServiceEntry.
fn subjects(tls: &ClientTLSSettings, to: &Destination) -> Result<Vec<Subject>, Fault> {
    let of_entry = match &to.entry.resource {
        Resource::ServiceEntry(it) => it.spec.subject_alt_names.as_slice(),
        _ => &[],
    };
    let written = match tls.subject_alt_names.as_slice() {
        [] => of_entry,
        own => own,
    };
    let read = |text: &String| match HostPattern::parse(text) {
        _ if text.contains("://") => Ok(Subject::Uri(text.as_str().into())),
        Ok(HostPattern::Exact(host)) if host.ip().is_none() => Ok(Subject::Host(HostPattern::Exact(host))),
        _ => fault(
            "subjectAltNames",
            format!("`{text}` is neither a host name nor a URI"),
            "write a DNS name, or a URI such as spiffe://…",
        ),
    };
    written.iter().map(read).collect()
}

/// What is said of names that a ServiceEntry wants to be proved, where no rule begins the TLS to prove them by.
pub(crate) fn unproved(to: &Destination) -> Option<Problem> {
    let Resource::ServiceEntry(it) = &to.entry.resource else {
        return None;
    };
    let names = it.spec.subject_alt_names.iter();
    let at = names.into_iter().position(|text| !text.starts_with("spiffe:"))?;
    Some(to.entry.problem(
        Severity::Ignored,
        format!("spec.subjectAltNames[{at}]"),
        "no TLS is begun here, so nobody proves this name",
        "begin TLS by a DestinationRule, or write a SPIFFE identity for workloads of the mesh",
    ))
}
