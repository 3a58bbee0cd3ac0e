//! Gateways: the listeners that this process serves, and what the status of every Gateway says.

use std::sync::Arc;

use super::authz::{GatewayTarget, Target};
use super::backends::{Directory, Frontend};
use super::guard::Guards;
use super::namespace::Namespaces;
use super::route::for_listener;
use super::routing::Routes;
use super::status::{ACCEPTED, Condition, PROGRAMMED, Statuses};
use super::waypoint::{HBONE_PORT, Waypoint, Waypoints};
use crate::config::gateway::{Gateway, Listener};
use crate::config::{Entry, Labels, Problem, Severity};
use crate::matcher::HostPattern;
use crate::name::ResourceRef;
use crate::snapshot::ListenerView;

/// The class whose Gateways are nothing but waypoints.
const WAYPOINT_CLASS: &str = "istio-waypoint";

/// What a listener is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Hbone,
    Http,
}

fn service(gateway: &Gateway, listener: &Listener) -> Result<Service, &'static str> {
    let waypoint = gateway.spec.gateway_class_name == WAYPOINT_CLASS;
    match listener.protocol.as_str() {
        "HBONE" if listener.port == HBONE_PORT => Ok(Service::Hbone),
        "HBONE" => Err("HBONE is served on port 15008 only"),
        "HTTP" if waypoint => Err("a waypoint serves HBONE on port 15008 only"),
        "HTTP" if HostPattern::parse(listener.hostname.as_deref().unwrap_or("")).is_err() => {
            Err("its hostname is not a host name")
        }
        "HTTP" => Ok(Service::Http),
        _ => Err("only HTTP and HBONE are supported"),
    }
}

/// What the listeners are made of.
pub(crate) struct Listeners<'s, 'a> {
    pub(crate) routes: &'s Routes<'a>,
    pub(crate) namespaces: &'s Namespaces<'a>,
    pub(crate) directory: &'s Directory<'a>,
    /// Labels of the Gateway's own pods: policies with a selector attach to an ingress by them.
    pub(crate) labels: &'s Labels,
}

impl Listeners<'_, '_> {
    /// The plain HTTP listeners of a Gateway.
    pub(crate) fn of(
        &self,
        gateway: &Gateway,
        reference: &ResourceRef,
        guards: &mut Guards<'_, '_>,
        problems: &mut Vec<Problem>,
    ) -> Vec<Arc<ListenerView>> {
        let http = gateway
            .spec
            .listeners
            .iter()
            .filter(|it| service(gateway, it) == Ok(Service::Http));
        let target = Target::Gateway {
            gateway: GatewayTarget {
                namespace: &reference.namespace,
                name: &reference.name,
                class: &gateway.spec.gateway_class_name,
            },
            labels: self.labels,
        };
        let view = |listener: &Listener| {
            let routes = self.routes.for_listener(gateway, listener, self.namespaces);
            Arc::new(ListenerView {
                name: listener.name.as_str().into(),
                port: listener.port,
                routes: Arc::new(for_listener(
                    &routes,
                    reference,
                    listener,
                    &mut self.directory.seen_from(Frontend::Gateway),
                    problems,
                )),
                gate: guards.gate(&target, problems),
            })
        };
        http.map(view).collect()
    }
}

/// Conditions and problems of all Gateways.
pub(crate) fn report(waypoints: &Waypoints<'_>, problems: &mut Vec<Problem>, statuses: &mut Statuses) {
    for it in waypoints.iter() {
        let valid = listeners(it.gateway, it.entry, problems);
        let status = statuses.of(it.entry);
        status.set(match valid {
            true => Condition::new(ACCEPTED, true, "Accepted", "the Gateway can be served"),
            false => Condition::new(ACCEPTED, false, "ListenersNotValid", "no listener can be served"),
        });
        status.set(programmed(it, valid));
    }
}

fn programmed(it: &Waypoint<'_>, valid: bool) -> Condition {
    match (valid, it.instances.len()) {
        (false, _) => Condition::new(PROGRAMMED, false, "Invalid", "no listener can be served"),
        (true, 0) => {
            let text = "no instance is ready";
            Condition::new(PROGRAMMED, false, "AddressNotAssigned", text)
        }
        (true, count) => Condition::new(
            PROGRAMMED,
            true,
            "Programmed",
            format!("{count} instances are ready"),
        ),
    }
}

/// Whether any listener can be served; reports those that cannot.
fn listeners(gateway: &Gateway, entry: &Entry, problems: &mut Vec<Problem>) -> bool {
    let mut valid = false;
    for (at, listener) in gateway.spec.listeners.iter().enumerate() {
        match service(gateway, listener) {
            Ok(_) => valid = true,
            Err(why) => problems.push(entry.problem(
                Severity::Error,
                format!("spec.listeners[{at}].protocol"),
                format!(
                    "listener {} ({} {}) is not served: {why}",
                    listener.name, listener.protocol, listener.port
                ),
                "remove the listener, or use HTTP, or HBONE on port 15008",
            )),
        }
    }
    valid
}
