//! One server looked at: what is spoken there, for which hosts, and why it may not be served.

use std::sync::Arc;

use http::StatusCode;

use super::{Servers, tls};
use crate::compile::virtual_service::Spoken;
use crate::config::istio::{IstioGateway, Server, ServerTLSmode};
use crate::config::{Entry, Problem, Severity};
use crate::matcher::HostPattern;
use crate::name::ResourceRef;
use crate::policy::route::listed::Conditions;
use crate::policy::route::{Action, Redirect, RedirectPort, RouteRule, RouteTableBuilder, RuleOrigin};
use crate::snapshot::TlsTerms;

/// A server that can be served.
pub(super) struct Served<'a> {
    pub(super) gateway: &'a IstioGateway,
    pub(super) entry: &'a Arc<Entry>,
    pub(super) index: usize,
    pub(super) hosts: Vec<ServerHost>,
    pub(super) speaks: Speaks,
}

/// What is spoken by a server.
pub(super) enum Speaks {
    Http,
    /// HTTP within TLS that ends here.
    Https(Arc<TlsTerms>),
    /// Anything.
    Tcp,
    /// Anything within TLS that ends here.
    Opened(Arc<TlsTerms>),
    /// TLS that is passed on unopened.
    Passed,
}

/// A host of a server, for VirtualServices of some namespaces.
pub(super) struct ServerHost {
    /// `None` is any.
    pub(super) namespace: Option<Box<str>>,
    pub(super) host: HostPattern,
}

/// Why a server is not served; without a remedy where there is nothing to do but wait.
pub(super) struct Unserved {
    pub(super) field: &'static str,
    pub(super) text: String,
    pub(super) remedy: &'static str,
}

impl Unserved {
    /// As it is told.
    pub(super) fn problem(self, entry: &Entry, index: usize) -> Problem {
        let field = format!("spec.servers[{index}].{}", self.field);
        let text = format!("{}; the server is not served", self.text);
        entry.problem(Severity::Error, field, text, self.remedy)
    }
}

pub(super) fn unserved<T>(
    field: &'static str,
    text: impl Into<String>,
    remedy: &'static str,
) -> Result<T, Unserved> {
    Err(Unserved {
        field,
        text: text.into(),
        remedy,
    })
}

/// A port that Gateway API has already.
pub(super) fn taken<T>(gateway: &ResourceRef, port: u16) -> Result<T, Unserved> {
    let text = format!("a listener of Gateway {} has port {port}", gateway.name);
    unserved("port.number", text, "give each its own port")
}

/// What a server is meant to speak, before its certificates are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Https,
    Tcp,
    Opened,
    Passed,
}

/// Why nobody will ever serve a server as it is written, whatever else there is.
pub(super) fn written(server: &Server) -> Result<(), Unserved> {
    match kind(server)? {
        Kind::Https | Kind::Opened => tls::demands(server.tls.as_ref()).map(drop),
        Kind::Http | Kind::Tcp | Kind::Passed => Ok(()),
    }
}

/// As Istio tells them apart (`IsHTTPServer`, `IsTLSServer`, `IsPassThroughServer`): TLS without a mode is passed on, even
/// where HTTPS is declared, and whatever has `tls` and is not HTTP speaks TLS.
fn kind(server: &Server) -> Result<Kind, Unserved> {
    let passes = server.tls.as_ref().map(|tls| match tls.mode {
        None | Some(ServerTLSmode::Passthrough) => true,
        Some(_) => false,
    });
    match (server.port.protocol.to_ascii_uppercase().as_str(), passes) {
        ("HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB", _) => Ok(Kind::Http),
        ("HTTPS" | "TLS", None) => {
            unserved("tls", "TLS says nowhere what becomes of it", "give it a tls.mode")
        }
        ("TCP" | "MONGO" | "MYSQL" | "REDIS", None) => Ok(Kind::Tcp),
        ("HTTPS", Some(false)) => Ok(Kind::Https),
        ("TLS" | "TCP" | "MONGO" | "MYSQL" | "REDIS", Some(false)) => Ok(Kind::Opened),
        ("HTTPS" | "TLS" | "TCP" | "MONGO" | "MYSQL" | "REDIS", Some(true)) => Ok(Kind::Passed),
        (other, _) => {
            let text = format!("`{other}` cannot be served");
            unserved("port.protocol", text, "use HTTP, HTTPS, GRPC, TLS or TCP")
        }
    }
}

/// Which routes of VirtualServices a server asks.
pub(super) fn spoken(server: &Server) -> Spoken {
    let kind = kind(server).ok();
    Spoken {
        http: matches!(kind, Some(Kind::Http | Kind::Https)),
        tcp: matches!(kind, Some(Kind::Tcp | Kind::Opened)),
        tls: kind == Some(Kind::Passed),
    }
}

impl Kind {
    /// The first bytes do not tell these apart, so they cannot share a port; the server name tells all that is TLS.
    fn family(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Tcp => "TCP",
            Self::Https | Self::Opened | Self::Passed => "TLS",
        }
    }
}

impl Speaks {
    fn kind(&self) -> Kind {
        match self {
            Self::Http => Kind::Http,
            Self::Https(_) => Kind::Https,
            Self::Tcp => Kind::Tcp,
            Self::Opened(_) => Kind::Opened,
            Self::Passed => Kind::Passed,
        }
    }

    /// Whether what is served are connections, not requests.
    pub(super) fn of_connections(&self) -> bool {
        matches!(self, Self::Tcp | Self::Opened(_) | Self::Passed)
    }

    /// How TLS ends here, where it does.
    pub(super) fn terms(&self) -> Option<&Arc<TlsTerms>> {
        match self {
            Self::Https(terms) | Self::Opened(terms) => Some(terms),
            Self::Http | Self::Tcp | Self::Passed => None,
        }
    }
}

impl<'a> Servers<'_, 'a> {
    /// One server of a Gateway, beside `others` of its port.
    pub(super) fn served(
        &self,
        gateway: &'a IstioGateway,
        entry: &'a Arc<Entry>,
        index: usize,
        others: &[Served<'a>],
    ) -> Result<Served<'a>, Unserved> {
        let server = &gateway.spec.servers[index];
        let kind = kind(server)?;
        let port = server.port.number;
        if port == 0 {
            return unserved("port.number", "a port is required", "give a port from 1 to 65535");
        }
        if let Some(other) = others.first() {
            let family = other.speaks.kind().family();
            if family != kind.family() {
                let text = format!("port {port} serves {family} already");
                return unserved("port.protocol", text, "give each its own port");
            }
            if kind == Kind::Tcp {
                let text = format!("{} has every connection to port {port}", other.entry.reference());
                return unserved("port.number", text, "give each its own port");
            }
        }
        let terms = || tls::terms(server.tls.as_ref(), &self.own.namespace, self.store, self.files);
        let speaks = match kind {
            Kind::Http => Speaks::Http,
            Kind::Tcp => Speaks::Tcp,
            Kind::Passed => Speaks::Passed,
            Kind::Https => Speaks::Https(Arc::new(terms()?)),
            Kind::Opened => Speaks::Opened(Arc::new(terms()?.of_bytes())),
        };
        let mut hosts = Vec::new();
        for (at, text) in server.hosts.iter().enumerate() {
            match host(text, &gateway.metadata.namespace) {
                Some(host) => hosts.push(host),
                None => {
                    let text = format!("hosts[{at}] `{text}` is no host");
                    return unserved("hosts", text, "write a host, `*.example.com` or `*`");
                }
            }
        }
        let names = |it: &Served<'_>, host: &ServerHost| it.hosts.iter().any(|other| other.host == host.host);
        if kind.family() == Kind::Https.family()
            && let Some(host) = hosts.iter().find(|host| others.iter().any(|it| names(it, host)))
        {
            let text = format!("another server of the port has {} already", host.host);
            return unserved("hosts", text, "give every host one server");
        }
        Ok(Served {
            gateway,
            entry,
            index,
            hosts,
            speaks,
        })
    }
}

impl Served<'_> {
    /// Whether callers in the clear are sent to HTTPS.
    pub(super) fn redirects(&self) -> bool {
        let server = self.gateway.spec.servers.get(self.index);
        matches!(self.speaks, Speaks::Http)
            && server
                .and_then(|it| it.tls.as_ref())
                .is_some_and(|it| it.https_redirect)
    }

    pub(super) fn redirect(&self, builder: &mut RouteTableBuilder) {
        let origin = RuleOrigin::new(self.entry.reference(), self.index as u32, None);
        let to_https = Action::Redirect(Redirect {
            scheme: Some("https".into()),
            host: None,
            port: RedirectPort::Kept,
            path: None,
            status: StatusCode::MOVED_PERMANENTLY,
        });
        let rule = builder.rule(RouteRule::new(origin, to_https), None);
        let hosts: Vec<HostPattern> = self.hosts.iter().map(|it| it.host.clone()).collect();
        builder.listed(rule, 0, &hosts, Conditions::default());
    }
}

/// A host, perhaps with a namespace before it: `.` is the Gateway's own, `*` any, and so is none.
fn host(text: &str, own: &str) -> Option<ServerHost> {
    let (namespace, host) = match text.split_once('/') {
        None | Some(("*", _)) => (None, text.rsplit('/').next().unwrap_or(text)),
        Some((".", host)) => (Some(own.into()), host),
        Some((namespace, host)) => (Some(namespace.into()), host),
    };
    (!host.is_empty()).then_some(())?;
    let host = HostPattern::parse(host).ok()?;
    Some(ServerHost { namespace, host })
}
