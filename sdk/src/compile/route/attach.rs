//! Which routes belong to a service port or a listener, and for which hosts.

use super::{PortRef, Route, RouteInput};
use crate::config::gateway::{Listener, ParentRef};
use crate::config::{Problem, Severity};
use crate::matcher::HostPattern;
use crate::name::{ResourceRef, ServiceName};

/// Whether a route attaches to a port of a service.
pub(crate) fn to_service(route: Route<'_>, service: &ServiceName, port: PortRef<'_>) -> bool {
    route.parents().iter().any(|parent| {
        let kind = (group(parent), kind(parent));
        let is_service = matches!(
            kind,
            ("" | "core", "Service") | ("networking.istio.io", "ServiceEntry")
        );
        is_service
            && names(parent, route, &service.namespace, &service.name)
            && parent.port.is_none_or(|number| number == port.number)
            && parent
                .section_name
                .as_deref()
                .is_none_or(|section| Some(section) == port.name)
    })
}

/// Whether a route attaches to a listener of a Gateway or of a ListenerSet.
pub(super) fn to_listener(route: Route<'_>, owner: &ResourceRef, listener: &Listener) -> bool {
    route.parents().iter().any(|parent| {
        group(parent) == "gateway.networking.k8s.io"
            && kind(parent) == owner.kind.as_str()
            && names(parent, route, &owner.namespace, &owner.name)
            && parent.port.is_none_or(|number| number == listener.port)
            && parent
                .section_name
                .as_deref()
                .is_none_or(|section| section == listener.name)
    })
}

/// The hosts that a route serves on a listener: what both have in common. Empty if nothing.
pub(super) fn hosts(
    input: &RouteInput<'_>,
    listener: &Listener,
    problems: &mut Vec<Problem>,
) -> Vec<HostPattern> {
    // A listener whose host name cannot be read is reported with its Gateway; it serves nobody.
    match HostPattern::parse(listener.hostname.as_deref().unwrap_or("")) {
        Ok(of_listener) => within(input, &of_listener, problems),
        Err(_) => Vec::new(),
    }
}

/// The hosts of a route that are among others.
pub(super) fn within(
    input: &RouteInput<'_>,
    around: &HostPattern,
    problems: &mut Vec<Problem>,
) -> Vec<HostPattern> {
    let hostnames = input.route.hostnames();
    if hostnames.is_empty() {
        return vec![around.clone()];
    }
    let mut hosts: Vec<HostPattern> = Vec::with_capacity(hostnames.len());
    for (index, text) in hostnames.iter().enumerate() {
        match HostPattern::parse(text) {
            Ok(HostPattern::Any) | Err(_) => problems.push(input.entry.problem(
                Severity::Error,
                format!("spec.hostnames[{index}]"),
                format!("`{text}` is not a host name"),
                "write `example.com` or `*.example.com`",
            )),
            Ok(pattern) => {
                if let Some(host) = pattern.intersect(around)
                    && !hosts.contains(&host)
                {
                    hosts.push(host);
                }
            }
        }
    }
    hosts
}

fn group(parent: &ParentRef) -> &str {
    parent.group.as_deref().unwrap_or("gateway.networking.k8s.io")
}

fn kind(parent: &ParentRef) -> &str {
    parent.kind.as_deref().unwrap_or("Gateway")
}

fn names(parent: &ParentRef, route: Route<'_>, namespace: &str, name: &str) -> bool {
    let own = &**route.namespace();
    parent.name == name && parent.namespace.as_deref().unwrap_or(own) == namespace
}
