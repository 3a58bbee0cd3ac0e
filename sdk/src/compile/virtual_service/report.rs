//! What a VirtualService says to nobody.

use super::{HostGlob, HttpRoute, MESH, VirtualService, VirtualServices, matching};
use crate::compile::findings::Findings;
use crate::compile::service::Destination;
use crate::config::{Problem, Severity};
use crate::snapshot::AppProtocol;

/// What hosts and Gateways are looked up in.
pub(crate) struct Sight<'s, 'a> {
    /// Everything that is declared, visible here or not.
    pub(crate) destinations: &'s [Destination<'a>],
    /// The namespace of the waypoint that a destination is bound to.
    pub(crate) waypoint: &'s dyn Fn(&Destination<'_>) -> Option<&'s str>,
    /// Whether there is a Gateway (`namespace/name`) that VirtualServices can be bound to.
    pub(crate) gateway: &'s dyn Fn(&str) -> bool,
}

impl VirtualServices<'_> {
    /// The problems of those that reach nobody, wholly or in part.
    pub(crate) fn report(&self, sight: &Sight<'_, '_>, problems: &mut Vec<Problem>) {
        for it in &self.all {
            it.gateways(sight, problems);
            if it.is_bound_to(MESH) {
                it.hosts(sight, problems);
                it.unspoken(sight, problems);
            }
            it.unreachable(problems);
        }
    }
}

impl VirtualService<'_> {
    fn gateways(&self, sight: &Sight<'_, '_>, problems: &mut Vec<Problem>) {
        let named = self.gateways.iter().enumerate().filter(|(_, it)| &***it != MESH);
        for (at, gateway) in named.filter(|(_, it)| !(sight.gateway)(it)) {
            problems.push(self.entry.problem(
                Severity::Warning,
                format!("spec.gateways[{at}]"),
                format!("there is no Gateway {gateway} of networking.istio.io"),
                "name a Gateway that exists, or use an HTTPRoute with a Gateway of Gateway API",
            ));
        }
    }

    fn hosts(&self, sight: &Sight<'_, '_>, problems: &mut Vec<Problem>) {
        for (at, host) in self.hosts.iter().enumerate() {
            let mut of_host = sight
                .destinations
                .iter()
                .filter(|it| host.covers(&glob(it)))
                .peekable();
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
            let unheard = |it: &Destination<'_>| {
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

    /// Routes of connections that none of the services has ports for.
    fn unspoken(&self, sight: &Sight<'_, '_>, problems: &mut Vec<Problem>) {
        let named = || {
            sight
                .destinations
                .iter()
                .filter(|it| self.names(&glob(it)).is_some())
        };
        let mut ports = named().flat_map(|it| &it.ports).peekable();
        if ports.peek().is_none() {
            return;
        }
        let (mut tls, mut tcp) = (false, false);
        for port in ports {
            let opaque = matches!(port.protocol, AppProtocol::Tcp | AppProtocol::Unknown);
            tls |= port.secure;
            tcp |= opaque && !port.secure;
        }
        for (field, secure, spoken, what) in [
            ("spec.tls", true, tls, "TLS"),
            ("spec.tcp", false, tcp, "anything but HTTP and TLS"),
        ] {
            if self.routes_connections(secure) && !spoken {
                problems.push(self.entry.problem(
                    Severity::Ignored,
                    field,
                    format!("no port of its services is declared to speak {what}; nothing is routed"),
                    "declare what the port speaks by appProtocol or the beginning of its name",
                ));
            }
        }
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
pub(crate) fn glob(it: &Destination<'_>) -> HostGlob {
    match &it.wildcard {
        Some(suffix) => HostGlob::Ending((&**suffix).into()),
        None => HostGlob::Exact(it.host.as_str().into()),
    }
}
