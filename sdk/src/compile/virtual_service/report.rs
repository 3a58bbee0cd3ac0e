//! What a VirtualService says to nobody.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;

use super::{HostGlob, HttpRoute, MESH, VirtualService, VirtualServices, matching};
use crate::compile::findings::Findings;
use crate::compile::service::Destination;
use crate::config::{Problem, Severity};
use crate::snapshot::AppProtocol;

/// What hosts and Gateways are looked up in.
pub(crate) struct Sight<'s> {
    /// Everything that is declared, visible here or not.
    pub(crate) declared: &'s Declared<'s>,
    /// The namespace of the waypoint that a destination is bound to.
    pub(crate) waypoint: &'s dyn Fn(&Destination) -> Option<&'s str>,
    /// What is spoken on a Gateway (`namespace/name`) that VirtualServices can be bound to, if there is one.
    pub(crate) gateway: &'s dyn Fn(&str) -> Option<Spoken>,
}

/// Destinations, found by their hosts.
#[derive(Debug)]
pub(crate) struct Declared<'d> {
    all: &'d [Arc<Destination>],
    by_host: HashMap<&'d str, Vec<&'d Arc<Destination>>>,
}

impl<'d> Declared<'d> {
    pub(crate) fn of(all: &'d [Arc<Destination>]) -> Self {
        let mut by_host: HashMap<&str, Vec<_>> = HashMap::new();
        for it in all {
            by_host.entry(it.host.as_str()).or_default().push(it);
        }
        Self { all, by_host }
    }

    /// Those that a host stands for.
    fn named(&self, host: &'d HostGlob) -> impl Iterator<Item = &'d Arc<Destination>> {
        let (exact, all) = match host {
            HostGlob::Exact(host) => (self.by_host.get(&**host), None),
            HostGlob::Ending(_) => (None, Some(self.all)),
        };
        let candidates = exact.into_iter().flatten().copied();
        let candidates = candidates.chain(all.into_iter().flatten());
        candidates.filter(|it| host.covers(&glob(it)))
    }
}

/// Which routes of VirtualServices are asked somewhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spoken {
    /// `http`.
    pub(crate) http: bool,
    /// `tcp`: what is neither HTTP nor TLS, or TLS that was opened.
    pub(crate) tcp: bool,
    /// `tls`: TLS, unopened.
    pub(crate) tls: bool,
}

impl AddAssign for Spoken {
    fn add_assign(&mut self, other: Self) {
        self.http |= other.http;
        self.tcp |= other.tcp;
        self.tls |= other.tls;
    }
}

impl VirtualServices<'_> {
    /// The problems of those that reach nobody, wholly or in part.
    pub(crate) fn report(&self, sight: &Sight<'_>, problems: &mut Vec<Problem>) {
        for it in &self.all {
            it.gateways(sight, problems);
            if it.is_bound_to(MESH) {
                it.hosts(sight, problems);
            }
            it.unspoken(sight, problems);
            it.unreachable(problems);
        }
    }
}

impl VirtualService<'_> {
    fn gateways(&self, sight: &Sight<'_>, problems: &mut Vec<Problem>) {
        let named = self.gateways.iter().enumerate().filter(|(_, it)| &***it != MESH);
        for (at, gateway) in named.filter(|(_, it)| (sight.gateway)(it).is_none()) {
            problems.push(self.entry.problem(
                Severity::Warning,
                format!("spec.gateways[{at}]"),
                format!("there is no Gateway {gateway} of networking.istio.io"),
                "name a Gateway that exists, or use an HTTPRoute with a Gateway of Gateway API",
            ));
        }
    }

    fn hosts(&self, sight: &Sight<'_>, problems: &mut Vec<Problem>) {
        for (at, host) in self.hosts.iter().enumerate() {
            let mut of_host = sight.declared.named(host).peekable();
            let field = format!("spec.hosts[{at}]");
            if of_host.peek().is_none() {
                problems.push(self.entry.problem(
                    Severity::Warning,
                    field,
                    format!("no service is called {host}; nothing is routed"),
                    "name a Service, or write a ServiceEntry for the host",
                ));
                continue;
            }
            let own = self.namespace();
            let unheard = |it: &Destination| {
                let home = (sight.waypoint)(it);
                home.is_some_and(|home| own != home && own != &*it.name.namespace)
            };
            if let Some(it) = of_host.find(|it| unheard(it)) {
                problems.push(self.entry.problem(
                    Severity::Ignored,
                    field,
                    format!(
                        "the waypoint of {} does not apply VirtualServices of namespace {own}",
                        it.name
                    ),
                    "move it to the service's or the waypoint's namespace",
                ));
            }
        }
    }

    /// Routes of a kind that nobody asks who is bound to it.
    fn unspoken(&self, sight: &Sight<'_>, problems: &mut Vec<Problem>) {
        let of_mesh = self.is_bound_to(MESH).then(|| self.spoken_in_mesh(sight));
        let named = self.gateways.iter().filter(|it| &***it != MESH);
        let of_gateways = named.filter_map(|it| (sight.gateway)(it));
        let mut known: Vec<Spoken> = of_gateways.collect();
        let only_gateways = of_mesh.is_none();
        match of_mesh {
            // It has no services, which is said elsewhere.
            Some(None) if known.is_empty() => return,
            Some(spoken) => known.extend(spoken),
            None if known.is_empty() => return,
            None => {}
        }
        let mut spoken = Spoken::default();
        known.into_iter().for_each(|it| spoken += it);
        let spec = &self.spec.spec;
        for (field, written, is_spoken, what) in [
            ("spec.http", !self.http.is_empty(), spoken.http, "HTTP"),
            ("spec.tls", !spec.tls.is_empty(), spoken.tls, "TLS"),
            (
                "spec.tcp",
                !spec.tcp.is_empty(),
                spoken.tcp,
                "anything but HTTP and TLS",
            ),
        ] {
            if !written || is_spoken {
                continue;
            }
            let (text, remedy) = match (only_gateways, field) {
                (true, "spec.tls") => (
                    "no server of its Gateways passes TLS on; nothing is routed".to_owned(),
                    "give a server tls.mode PASSTHROUGH, or write tcp routes for TLS that ends there",
                ),
                (true, "spec.tcp") => (
                    "every server of its Gateways serves requests or passes TLS on; nothing is routed"
                        .to_owned(),
                    "give a server protocol TCP, or TLS that ends there",
                ),
                (true, _) => (
                    "no server of its Gateways serves requests; nothing is routed".to_owned(),
                    "give a server protocol HTTP or HTTPS",
                ),
                (false, _) => (
                    format!("no port of its services is declared to speak {what}; nothing is routed"),
                    "declare what the port speaks by appProtocol or the beginning of its name",
                ),
            };
            problems.push(self.entry.problem(Severity::Ignored, field, text, remedy));
        }
    }

    /// What the services that it names speak; `None` if it names none with a port.
    fn spoken_in_mesh(&self, sight: &Sight<'_>) -> Option<Spoken> {
        let named = self.hosts.iter().flat_map(|host| sight.declared.named(host));
        let mut ports = named.flat_map(|it| &it.ports).peekable();
        ports.peek()?;
        let mut spoken = Spoken::default();
        for port in ports {
            let opaque = matches!(port.protocol, AppProtocol::Tcp | AppProtocol::Unknown);
            spoken += Spoken {
                http: port.protocol != AppProtocol::Tcp,
                tcp: opaque && !port.secure,
                tls: port.secure,
            };
        }
        Some(spoken)
    }

    /// Routes after one that takes everything.
    fn unreachable(&self, problems: &mut Vec<Problem>) {
        let Some(last) = self.http.iter().position(takes_everything) else {
            return;
        };
        for it in &self.http[last + 1..] {
            problems.push(it.entry.problem(
                Severity::Warning,
                format!("spec.http[{}]", it.index),
                "is never reached: a route before it takes everything",
                "put it before that route, or remove it",
            ));
        }
    }
}

fn takes_everything(it: &HttpRoute<'_>) -> bool {
    it.matches().into_iter().any(|(_, written)| {
        let everywhere = written.is_none_or(|it| {
            it.port.is_none_or(|port| port == 0)
                && it.source_labels.is_empty()
                && it.source_namespace.is_none()
                && it.gateways.is_empty()
        });
        // What is wrong with a match is told where it is compiled.
        let mut unheard = Vec::new();
        let mut findings = Findings::new(it.entry, &mut unheard, String::new());
        everywhere && matching::conditions(written, true, "", &mut findings).is_catch_all()
    })
}

/// The host of a destination.
pub(crate) fn glob(it: &Destination) -> HostGlob {
    match &it.wildcard {
        Some(suffix) => HostGlob::Ending((&**suffix).into()),
        None => HostGlob::Exact(it.host.as_str().into()),
    }
}
