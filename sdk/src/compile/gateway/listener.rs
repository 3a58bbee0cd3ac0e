//! One listener looked at: can it be served, do its references lead anywhere, does another stand in its way.

use std::borrow::Cow;
use std::sync::Arc;

use super::certificate;
use super::clients::{self, Clients};
use super::material::Material;
use super::set::Set;
use crate::compile::status::RouteKind;
use crate::compile::waypoint::HBONE_PORT;
use crate::config::gateway::{Gateway, Listener, RouteGroupKind};
use crate::matcher::HostPattern;
use crate::name::{Kind, ResourceRef};
use crate::policy::tls::Certificate;
use crate::snapshot::{ClientTerms, TlsTerms};

/// The class whose Gateways are nothing but waypoints.
pub(super) const WAYPOINT_CLASS: &str = "istio-waypoint";

/// Why something is not so: the reason of a condition, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Hbone,
    Http,
    Https,
    Tcp,
    /// TLS with anything inside.
    Tls {
        /// Whether it is opened here.
        terminated: bool,
    },
}

impl Protocol {
    /// Kinds of route that make sense with it. Routes do not attach to a waypoint but to the services that it serves.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Hbone => &[],
            Self::Http | Self::Https => &[Kind::HTTPRoute, Kind::GRPCRoute],
            Self::Tls { .. } => &[Kind::TLSRoute, Kind::TCPRoute],
            Self::Tcp => &[Kind::TCPRoute],
        }
    }

    /// Listeners of one port must be of one family: the first bytes do not tell these apart. Those that speak TLS are told
    /// apart by the server name.
    fn family(self) -> u8 {
        match self {
            Self::Hbone => 0,
            Self::Http => 1,
            Self::Https | Self::Tls { .. } => 2,
            Self::Tcp => 3,
        }
    }

    /// Whether TLS is opened, for which there must be a certificate.
    fn terminates(self) -> bool {
        matches!(self, Self::Https | Self::Tls { terminated: true })
    }
}

/// What listeners that speak TLS on one port have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Overlap {
    /// Host names of one are among the other's.
    Hostnames,
    /// Hosts that a certificate of one names are among those that one of the other's names. Said rather than the former
    /// where both are so.
    Certificates,
}

/// What is the matter with a listener.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) listener: &'a Listener,
    /// The ListenerSet that it is of, among those of the Gateway; none if it is the Gateway's own.
    pub(crate) set: Option<usize>,
    /// Where in the Gateway or in the set it is.
    pub(crate) at: usize,
    /// What it speaks and for whom, or why nobody can say.
    pub(crate) accepted: Result<(Protocol, HostPattern), Fault>,
    /// What other listener it cannot be told apart from.
    pub(crate) conflict: Option<Fault>,
    /// The first of its references that leads nowhere.
    pub(crate) unresolved: Option<Fault>,
    /// What it has in common with another listener of the port, so that a connection for one would do for the other.
    pub(crate) overlap: Option<Overlap>,
    /// The kinds of route that may attach.
    pub(crate) kinds: Vec<RouteKind>,
    /// How it terminates TLS.
    pub(crate) tls: Option<Arc<TlsTerms>>,
    /// Whether clients that prove nothing are let in.
    pub(crate) lenient: bool,
}

impl<'a> Checked<'a> {
    /// What it serves, if it does.
    pub(crate) fn serves(&self) -> Option<(Protocol, &HostPattern)> {
        match (&self.accepted, &self.conflict) {
            (Ok((protocol, _)), None) if protocol.terminates() && self.tls.is_none() => None,
            (Ok((protocol, host)), None) => Some((*protocol, host)),
            _ => None,
        }
    }

    /// Why it is not served.
    pub(crate) fn refusal(&self) -> Option<&Fault> {
        let unusable = || self.unresolved.as_ref().filter(|_| self.serves().is_none());
        self.accepted
            .as_ref()
            .err()
            .or(self.conflict.as_ref())
            .or_else(unusable)
    }

    /// The hosts that it has in common with what attaches to it, whether or not it is served itself; no host names are
    /// every host.
    pub(crate) fn hosts(&self, hostnames: &[String]) -> Vec<HostPattern> {
        let Ok((_, own)) = &self.accepted else {
            return Vec::new();
        };
        if hostnames.is_empty() {
            return vec![own.clone()];
        }
        let patterns = hostnames.iter().filter_map(|it| HostPattern::parse(it).ok());
        patterns.filter_map(|it| it.intersect(own)).collect()
    }
}

/// Looks at all listeners of a Gateway: its own, and then those of the ListenerSets that it takes, in their order.
pub(crate) fn check<'a>(
    gateway: &'a Gateway,
    owner: &ResourceRef,
    sets: &[Set<'a>],
    material: &Material<'_>,
) -> Vec<Checked<'a>> {
    let mut all = Vec::new();
    let mut add = |set: Option<usize>, of: &ResourceRef, listeners: &'a [Listener]| {
        let listeners = listeners.iter().enumerate();
        all.extend(listeners.map(|(at, listener)| {
            one(
                Owned {
                    gateway,
                    owner,
                    of,
                    set,
                },
                listener,
                at,
                material,
            )
        }));
    };
    add(None, owner, &gateway.spec.listeners);
    for (at, it) in sets.iter().enumerate().filter(|(_, it)| it.admitted.is_ok()) {
        add(Some(at), &it.reference, &it.set.spec.listeners);
    }
    let conflicts: Vec<_> = (0..all.len()).map(|at| conflict_within(&all, at)).collect();
    for (checked, conflict) in all.iter_mut().zip(conflicts) {
        checked.conflict = conflict;
    }
    let mut lost = vec![false; all.len()];
    for at in 0..all.len() {
        let before = all[..at].iter().zip(&lost).filter(|(_, lost)| !**lost);
        let others = before.map(|(it, _)| it).filter(|it| it.set != all[at].set);
        let clash = others.filter_map(|other| clash(&all[at], other)).next();
        if let Some(reason) = clash {
            // Whose listener it is need not be known to whoever wrote this one.
            let text = "a listener that comes before it, of the Gateway or of another ListenerSet, has the same port";
            all[at].conflict = Some(Fault::new(reason, text));
            lost[at] = true;
        }
    }
    for at in 0..all.len() {
        let others = all.iter().enumerate().filter(|(other, _)| *other != at);
        all[at].overlap = others.filter_map(|(_, other)| overlap(&all[at], other)).max();
    }
    all
}

/// Whose a listener is.
#[derive(Clone, Copy)]
struct Owned<'o, 'a> {
    gateway: &'a Gateway,
    owner: &'o ResourceRef,
    /// The Gateway, or the ListenerSet.
    of: &'o ResourceRef,
    set: Option<usize>,
}

fn one<'a>(it: Owned<'_, 'a>, listener: &'a Listener, at: usize, material: &Material<'_>) -> Checked<'a> {
    let Owned {
        gateway,
        owner,
        of,
        set,
    } = it;
    let mut accepted = protocol(gateway, listener).and_then(|protocol| Ok((protocol, host(listener)?)));
    if set.is_some() && matches!(accepted, Ok((Protocol::Hbone, _))) {
        let text = "tunnels are for the Gateway itself to listen for";
        accepted = Err(Fault::new("UnsupportedProtocol", text));
    }
    let (kinds, mut unresolved) = match &accepted {
        Ok((protocol, _)) => kinds(*protocol, listener),
        Err(_) => (Vec::new(), None),
    };
    let (mut tls, mut lenient) = (None, false);
    if let Ok((protocol, _)) = accepted
        && protocol.terminates()
    {
        let (certificates, fault) = certificate::of(of, listener, material);
        unresolved = unresolved.or(fault);
        match clients::of(gateway, owner, listener.port, material) {
            // What a Gateway demands of clients it demands of those that speak HTTPS.
            _ if protocol != Protocol::Https => tls = terms(certificates, None).map(TlsTerms::of_bytes),
            Clients::Any => tls = terms(certificates, None),
            Clients::Proved {
                terms: demands,
                fault,
            } => {
                unresolved = unresolved.or(fault);
                lenient = demands.optional;
                tls = terms(certificates, Some(Arc::new(demands)));
            }
            Clients::Nobody {
                fault,
                unresolved: reference,
            } => {
                unresolved = unresolved.or(reference);
                accepted = Err(fault);
            }
        }
    }
    Checked {
        listener,
        set,
        at,
        accepted,
        conflict: None,
        unresolved,
        overlap: None,
        kinds,
        tls: tls.map(Arc::new),
        lenient,
    }
}

fn terms(certificates: Vec<Arc<Certificate>>, clients: Option<Arc<ClientTerms>>) -> Option<TlsTerms> {
    (!certificates.is_empty()).then(|| TlsTerms::new(certificates, clients))
}

fn protocol(gateway: &Gateway, listener: &Listener) -> Result<Protocol, Fault> {
    let unsupported = |text: &str| Err(Fault::new("UnsupportedProtocol", text));
    let waypoint = gateway.spec.gateway_class_name == WAYPOINT_CLASS;
    // "All Core ProtocolType values MUST be treated case-insensitively" (Gateway API, ProtocolType).
    match &*listener.protocol.to_ascii_uppercase() {
        "HBONE" if listener.port == HBONE_PORT => Ok(Protocol::Hbone),
        "HBONE" => unsupported("HBONE is served on port 15008 only"),
        _ if waypoint => unsupported("a waypoint serves HBONE on port 15008 only"),
        "HTTP" | "HTTPS" | "TCP" | "TLS" if listener.port == HBONE_PORT => {
            Err(Fault::new("PortUnavailable", "port 15008 is for HBONE"))
        }
        "HTTP" => match listener.tls {
            None => Ok(Protocol::Http),
            Some(_) => Err(Fault::new("UnsupportedValue", "tls is for HTTPS, not for HTTP")),
        },
        "HTTPS" => Ok(Protocol::Https),
        "TCP" if listener.tls.is_some() || listener.hostname.as_deref().is_some_and(|it| !it.is_empty()) => {
            let text = "TCP names no hosts, and knows of no tls";
            Err(Fault::new("UnsupportedValue", text))
        }
        "TCP" => Ok(Protocol::Tcp),
        "TLS" => match listener
            .tls
            .as_ref()
            .map(|tls| tls.mode.as_deref().unwrap_or_default())
        {
            Some("" | "Terminate") => Ok(Protocol::Tls { terminated: true }),
            Some("Passthrough") => Ok(Protocol::Tls { terminated: false }),
            Some(mode) => Err(Fault::new(
                "UnsupportedValue",
                format!("tls.mode `{mode}` is not known"),
            )),
            None => Err(Fault::new("UnsupportedValue", "a TLS listener needs tls")),
        },
        "UDP" => unsupported("UDP is not carried by the mesh"),
        _ => unsupported("only HTTP, HTTPS, TLS, TCP and HBONE are supported"),
    }
}

fn host(listener: &Listener) -> Result<HostPattern, Fault> {
    let text = listener.hostname.as_deref().unwrap_or_default();
    HostPattern::parse(text)
        .map_err(|error| Fault::new("UnsupportedValue", format!("`{text}` is no host name: {error}")))
}

/// The kinds of route that may attach, and whether others were asked for.
fn kinds(protocol: Protocol, listener: &Listener) -> (Vec<RouteKind>, Option<Fault>) {
    let asked = listener.allowed_routes.as_ref().map(|it| it.kinds.as_slice());
    let supported = protocol.kinds();
    let Some(asked) = asked.filter(|it| !it.is_empty()) else {
        return (supported.iter().map(|kind| route_kind(*kind)).collect(), None);
    };
    let known = |it: &RouteGroupKind| {
        let fits = |kind: &&Kind| {
            it.group.as_deref().is_none_or(|group| group == kind.group()) && it.kind == kind.as_str()
        };
        supported.iter().find(fits).copied()
    };
    let mut kinds: Vec<RouteKind> = asked.iter().filter_map(known).map(route_kind).collect();
    kinds.dedup();
    let stranger = asked.iter().find(|it| known(it).is_none());
    let fault = stranger.map(|it| {
        let text = format!(
            "routes of kind {} do not attach to {} listeners",
            it.kind, listener.protocol
        );
        Fault::new("InvalidRouteKinds", text)
    });
    (kinds, fault)
}

fn route_kind(kind: Kind) -> RouteKind {
    RouteKind {
        group: Cow::Borrowed(kind.group()),
        kind: Cow::Borrowed(kind.as_str()),
    }
}

/// Why a listener cannot be told apart from another of the same resource: then neither is served (Gateway API, "Handling
/// indistinct Listeners").
fn conflict_within(all: &[Checked<'_>], at: usize) -> Option<Fault> {
    let one = &all[at];
    let others = all.iter().enumerate().filter(|(other, _)| *other != at);
    let mut others = others.map(|(_, it)| it).filter(|it| it.set == one.set);
    others.find_map(|other| {
        let name = &other.listener.name;
        if one.listener.name == *name {
            let text = format!("another listener is called {name}, too");
            return Some(Fault::new("HostnameConflict", text));
        }
        let reason = clash(one, other)?;
        let text = match reason {
            "ProtocolConflict" => format!(
                "listener {name} has the same port and speaks {}",
                other.listener.protocol
            ),
            _ => format!("listener {name} has the same port and host name"),
        };
        Some(Fault::new(reason, text))
    })
}

/// By what two listeners cannot be told apart, if they cannot: the reason that a conflict has.
fn clash(one: &Checked<'_>, other: &Checked<'_>) -> Option<&'static str> {
    let (Ok((protocol, host)), Ok((others, hosts))) = (&one.accepted, &other.accepted) else {
        return None;
    };
    if one.listener.port != other.listener.port {
        return None;
    }
    if protocol.family() != others.family() {
        return Some("ProtocolConflict");
    }
    (host == hosts).then_some("HostnameConflict")
}

/// What two listeners that open TLS on one port have in common.
fn overlap(one: &Checked<'_>, other: &Checked<'_>) -> Option<Overlap> {
    let (Ok((protocol, host)), Ok((others, hosts))) = (&one.accepted, &other.accepted) else {
        return None;
    };
    if !protocol.terminates() || !others.terminates() || one.listener.port != other.listener.port {
        return None;
    }
    let mut named = names(one);
    if named.any(|one| names(other).any(|other| one.intersect(other).is_some())) {
        return Some(Overlap::Certificates);
    }
    host.intersect(hosts).map(|_| Overlap::Hostnames)
}

/// The hosts that the certificates of a listener name.
fn names<'c>(it: &'c Checked<'_>) -> impl Iterator<Item = &'c HostPattern> {
    let certificates = it.tls.iter().flat_map(|tls| &tls.certificates);
    certificates.flat_map(|it| &it.hosts)
}
