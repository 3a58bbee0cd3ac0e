//! The `tls` and `tcp` routes of a VirtualService: rules of a [`ConnectionTable`].
//!
//! As in Istio, `tls` counts on ports that are declared as TLS or HTTPS, `tcp` on others that are not HTTP; on a Gateway
//! `tls` where TLS is passed on, `tcp` where it is not. What is known of a connection before it is made is settled here:
//! its port, its caller, the addresses of the service.
//!
//! [`ConnectionTable`]: crate::policy::connection::ConnectionTable

use std::net::IpAddr;
use std::sync::Arc;

use super::rule::Resolver;
use super::{Scope, VirtualService, from_here};
use crate::compile::findings::Findings;
use crate::config::Severity;
use crate::config::istio::virtual_service::{RouteDestination, TCPRoute, TLSRoute};
use crate::config::{Labels, Problem};
use crate::matcher::{HostPattern, parse_block};
use crate::policy::connection::{ConnectionRule, ConnectionTableBuilder, Opens};
use crate::policy::route::{Backend, Backends, RuleOrigin, Target};

/// What connections are routed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connections<'s> {
    /// Whether the port is declared as TLS.
    pub(crate) secure: bool,
    /// The addresses that are dialled for it; `None` at a Gateway, where it is the Gateway that is dialled.
    pub(crate) addresses: Option<&'s [IpAddr]>,
}

/// What matches of both kinds have in common.
struct Match<'a> {
    port: Option<u16>,
    subnets: &'a [String],
    gateways: &'a [String],
    source_labels: &'a Labels,
    source_namespace: Option<&'a str>,
}

impl VirtualService<'_> {
    /// Appends its routes of connections to a table.
    pub(crate) fn add_connections(
        &self,
        builder: &mut ConnectionTableBuilder,
        to: Connections<'_>,
        scope: &Scope<'_>,
        problems: &mut Vec<Problem>,
    ) {
        let spec = &self.spec.spec;
        let (tls, tcp): (&[TLSRoute], &[TCPRoute]) = match to.secure {
            true => (&spec.tls, &[]),
            false => (&[], &spec.tcp),
        };
        for (index, route) in tls.iter().enumerate() {
            let mut findings = Findings::new(self.entry, problems, format!("spec.tls[{index}]"));
            let mut opens = Vec::new();
            for (at, written) in route.matches.iter().enumerate() {
                let common = Match {
                    port: written.port,
                    subnets: &written.destination_subnets,
                    gateways: &written.gateways,
                    source_labels: &written.source_labels,
                    source_namespace: written.source_namespace.as_deref(),
                };
                let at = format!("match[{at}]");
                if self.applies(&common, to, scope, &at, &mut findings) {
                    opens.extend(server_names(&written.sni_hosts, &at, &mut findings));
                }
            }
            self.add_route(builder, index, opens, &route.route, scope, &mut findings);
        }
        for (index, route) in tcp.iter().enumerate() {
            let mut findings = Findings::new(self.entry, problems, format!("spec.tcp[{index}]"));
            let mut applies = route.matches.is_empty();
            for (at, written) in route.matches.iter().enumerate() {
                let common = Match {
                    port: written.port,
                    subnets: &written.destination_subnets,
                    gateways: &written.gateways,
                    source_labels: &written.source_labels,
                    source_namespace: written.source_namespace.as_deref(),
                };
                applies |= self.applies(&common, to, scope, &format!("match[{at}]"), &mut findings);
            }
            let opens = applies.then_some(Opens::Anyhow);
            self.add_route(builder, index, opens, &route.route, scope, &mut findings);
        }
    }

    /// Adds a route for what is left to it, if anything.
    fn add_route(
        &self,
        builder: &mut ConnectionTableBuilder,
        index: usize,
        opens: impl IntoIterator<Item = Opens>,
        to: &[RouteDestination],
        scope: &Scope<'_>,
        findings: &mut Findings<'_>,
    ) {
        let mut opens = opens.into_iter().peekable();
        if opens.peek().is_none() {
            return;
        }
        let id = builder.rule(ConnectionRule {
            origin: RuleOrigin::new(self.entry.reference(), index as u32, None),
            backends: self.destinations(to, scope, findings),
        });
        let mut decides = false;
        for opens in opens {
            decides |= builder.on(id, opens);
        }
        if !decides {
            findings.report(
                Severity::Warning,
                "",
                "is never reached: routes before it take everything",
                "put it before those, or remove it",
            );
        }
    }

    fn applies(
        &self,
        written: &Match<'_>,
        to: Connections<'_>,
        scope: &Scope<'_>,
        at: &str,
        findings: &mut Findings<'_>,
    ) -> bool {
        let of_port = written.port.is_none_or(|it| it == 0 || it == scope.port);
        let from_here = from_here(
            written.gateways,
            written.source_labels,
            written.source_namespace,
            self.namespace(),
            scope,
        );
        of_port && from_here && leads_within(written.subnets, to.addresses, at, findings)
    }

    fn destinations(
        &self,
        written: &[RouteDestination],
        scope: &Scope<'_>,
        findings: &mut Findings<'_>,
    ) -> Result<Backends, Arc<str>> {
        let resolver = Resolver {
            scope,
            namespace: self.namespace(),
        };
        let alone = written.len() == 1;
        let mut backends = Vec::with_capacity(written.len());
        for (index, it) in written.iter().enumerate() {
            // A destination alone gets everything, whatever its weight; without a share one need not exist.
            let weight = if alone { 1 } else { it.weight };
            let at = format!("route[{index}].destination");
            let target = match &it.destination {
                _ if weight == 0 => Target::Invalid("no share".into()),
                Some(to) => match resolver.resolve(to, &at, findings) {
                    Ok(cluster) => Target::Cluster(cluster),
                    Err(why) => Target::Invalid(why.into()),
                },
                None => Target::Invalid("no destination".into()),
            };
            backends.push(Backend::new(target, weight));
        }
        Backends::new(backends).ok_or_else(|| "no destination has a weight".into())
    }
}

/// The server names of a match. Whoever validates resources refuses what is none; here it matches nothing.
fn server_names(names: &[String], at: &str, findings: &mut Findings<'_>) -> Vec<Opens> {
    let mut opens = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match HostPattern::parse(name) {
            Ok(pattern) => opens.push(Opens::Tls(pattern)),
            Err(error) => findings.report(
                Severity::Error,
                &format!("{at}.sniHosts[{index}]"),
                format!("`{name}` is no server name: {error}; it matches nothing"),
                "write a server's name, or `*.example.com`",
            ),
        }
    }
    opens
}

/// Whether one of the addresses is within one of the blocks; no blocks are all.
fn leads_within(
    blocks: &[String],
    addresses: Option<&[IpAddr]>,
    at: &str,
    findings: &mut Findings<'_>,
) -> bool {
    let Some(addresses) = addresses else {
        if !blocks.is_empty() {
            // As in Istio.
            findings.report(
                Severity::Ignored,
                &format!("{at}.destinationSubnets"),
                "has no effect on a Gateway: it is the Gateway's own address that clients dial",
                "remove it, or tell the connections apart by port or server name",
            );
        }
        return true;
    };
    let mut within = blocks.is_empty();
    for (index, text) in blocks.iter().enumerate() {
        match parse_block(text) {
            Ok(block) => within |= addresses.iter().any(|it| block.contains(&it.to_canonical())),
            Err(error) => findings.report(
                Severity::Error,
                &format!("{at}.destinationSubnets[{index}]"),
                format!("{error}; it matches nothing"),
                "write 10.0.0.0/8",
            ),
        }
    }
    within
}
