//! What Istio's webhook refuses of a `VirtualService`.

mod fault;
mod http;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::Faults;
use super::common::{export_to, labels};
use super::lexical::{is_host, is_label, is_name, is_subnet, overlap};
use crate::config::Labels;
use crate::config::istio::VirtualService;
use crate::config::istio::virtual_service::{Destination, RouteDestination};

pub(super) fn check(it: &VirtualService, faults: &mut Faults) {
    let spec = &it.spec;
    let is_delegate = spec.hosts.is_empty();
    if is_delegate {
        for (field, is_empty) in [
            ("gateways", spec.gateways.is_empty()),
            ("tls", spec.tls.is_empty()),
            ("tcp", spec.tcp.is_empty()),
        ] {
            if !is_empty {
                faults.error(
                    format!("spec.{field}"),
                    "a VirtualService without hosts is a delegate, which has HTTP routes only",
                    "remove it, or give hosts",
                );
            }
        }
    }
    gateways(&spec.gateways, "spec.gateways", faults);
    // A delegate may become part of what is bound to a Gateway.
    let on_gateway = is_delegate || spec.gateways.iter().any(|it| it != "mesh");
    let in_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|it| it == "mesh");
    hosts(&spec.hosts, in_mesh, faults);
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        faults.error("spec", "a VirtualService has routes", "give http, tls or tcp");
    }
    for (at, route) in spec.http.iter().enumerate() {
        let at = format!("spec.http[{at}]");
        http::route(route, is_delegate, on_gateway, &at, faults);
    }
    for (at, route) in spec.tls.iter().enumerate() {
        let at = format!("spec.tls[{at}]");
        if route.matches.is_empty() {
            faults.error(format!("{at}.match"), "a TLS route has a match", "name sniHosts");
        }
        for (index, it) in route.matches.iter().enumerate() {
            let at = format!("{at}.match[{index}]");
            sni_hosts(&it.sni_hosts, &spec.hosts, &at, faults);
            subnets(
                &it.destination_subnets,
                &format!("{at}.destinationSubnets"),
                faults,
            );
            common(
                it.port,
                &it.source_labels,
                &it.gateways,
                it.source_namespace.as_deref(),
                &at,
                faults,
            );
        }
        destinations(&route.route, &at, faults);
    }
    for (at, route) in spec.tcp.iter().enumerate() {
        let at = format!("spec.tcp[{at}]");
        for (index, it) in route.matches.iter().enumerate() {
            let at = format!("{at}.match[{index}]");
            subnets(
                &it.destination_subnets,
                &format!("{at}.destinationSubnets"),
                faults,
            );
            common(
                it.port,
                &it.source_labels,
                &it.gateways,
                it.source_namespace.as_deref(),
                &at,
                faults,
            );
        }
        destinations(&route.route, &at, faults);
    }
    export_to(&spec.export_to, &it.metadata.namespace, faults);
}

fn hosts(hosts: &[String], in_mesh: bool, faults: &mut Faults) {
    for (at, host) in hosts.iter().enumerate() {
        if !is_host(host) {
            faults.error(
                format!("spec.hosts[{at}]"),
                format!("`{host}` is not a host"),
                "write a service's name, or `*.example.com`",
            );
        } else if host == "*" && in_mesh {
            faults.error(
                format!("spec.hosts[{at}]"),
                "`*` is for Gateways only",
                "name the hosts, or bind to a Gateway",
            );
        }
    }
    // Whatever is listed twice covers itself; only wildcards cover others.
    let wild: Vec<&String> = hosts.iter().filter(|it| it.starts_with('*')).collect();
    let mut seen = BTreeMap::new();
    for (at, host) in hosts.iter().enumerate() {
        let twice = seen.insert(host, at).is_some();
        let covered = wild.iter().any(|it| *it != host && overlap(it, host));
        if twice || covered {
            faults.error(
                format!("spec.hosts[{at}]"),
                format!("`{host}` is listed twice, or covered by another host"),
                "list every host once",
            );
        }
    }
}

fn gateways(names: &[String], at: &str, faults: &mut Faults) {
    for (index, name) in names.iter().enumerate() {
        let usable = match name.split_once('/') {
            Some((namespace, name)) => is_label(namespace) && is_label(name),
            None => is_name(name),
        };
        if !usable {
            faults.error(
                format!("{at}[{index}]"),
                format!("`{name}` is not a name of a Gateway"),
                "write `mesh`, `name` or `namespace/name`",
            );
        } else if name.contains('.') {
            faults.warning(
                format!("{at}[{index}]"),
                format!("`{name}` is an older form"),
                "write `namespace/name`",
            );
        }
    }
}

fn weights(count: usize, total: u64, at: &str, faults: &mut Faults) {
    if count > 1 && total == 0 {
        faults.error(format!("{at}.route"), "nobody has a weight", "give weights");
    }
    if total > u64::from(u32::MAX) {
        faults.error(
            format!("{at}.route"),
            "the weights are too large together",
            "make them smaller",
        );
    }
}

/// What matches of requests and of connections have in common.
fn common(
    port: Option<u16>,
    source_labels: &Labels,
    gateways: &[String],
    source_namespace: Option<&str>,
    at: &str,
    faults: &mut Faults,
) {
    // Zero is how the API says "any".
    let _ = port;
    labels(source_labels, &format!("{at}.sourceLabels"), faults);
    self::gateways(gateways, &format!("{at}.gateways"), faults);
    if source_namespace.is_some_and(|it| !it.is_empty() && !is_label(it)) {
        faults.error(
            format!("{at}.sourceNamespace"),
            "not a namespace",
            "write its name",
        );
    }
}

fn destination(it: &Destination, at: &str, faults: &mut Faults) {
    if it.host == "*" || !is_host(&it.host) {
        faults.error(
            format!("{at}.host"),
            format!("`{}` is not a host", it.host),
            "name a service",
        );
    }
    if it
        .subset
        .as_ref()
        .is_some_and(|it| !it.is_empty() && !is_label(it))
    {
        faults.error(
            format!("{at}.subset"),
            "not a name of a subset",
            "use letters, digits and dashes",
        );
    }
    if it.port.as_ref().is_some_and(|it| it.number == 0) {
        faults.error(
            format!("{at}.port.number"),
            "a port from 1 to 65535 is required",
            "write the port's number",
        );
    }
}

fn destinations(list: &[RouteDestination], at: &str, faults: &mut Faults) {
    if list.is_empty() {
        faults.error(format!("{at}.route"), "is required", "name a destination");
    }
    let mut total = 0_u64;
    for (index, it) in list.iter().enumerate() {
        total += u64::from(it.weight);
        let at = format!("{at}.route[{index}].destination");
        match &it.destination {
            Some(to) => destination(to, &at, faults),
            None => faults.error(at, "is required", "name a host"),
        }
    }
    weights(list.len(), total, at, faults);
}

fn sni_hosts(names: &[String], hosts: &[String], at: &str, faults: &mut Faults) {
    if names.is_empty() {
        faults.error(
            format!("{at}.sniHosts"),
            "at least one is required",
            "name the server",
        );
    }
    let within = |name: &str, host: &str| match (name.strip_prefix('*'), host.strip_prefix('*')) {
        (_, None) => name == host,
        (Some(name), Some(host)) => name.ends_with(host),
        (None, Some(host)) => name.ends_with(host),
    };
    for (index, name) in names.iter().enumerate() {
        let at = format!("{at}.sniHosts[{index}]");
        if !is_host(name) {
            faults.error(
                at,
                format!("`{name}` is not a host"),
                "write a server's name, or `*.example.com`",
            );
        } else if !hosts.iter().any(|host| within(name, host)) {
            faults.error(
                at,
                format!("`{name}` is none of the hosts"),
                "list it under hosts",
            );
        }
    }
}

fn subnets(list: &[String], at: &str, faults: &mut Faults) {
    for (index, text) in list.iter().enumerate().filter(|(_, text)| !is_subnet(text)) {
        faults.error(
            format!("{at}[{index}]"),
            format!("`{text}` is not a block of addresses"),
            "write 10.0.0.0/8",
        );
    }
}
