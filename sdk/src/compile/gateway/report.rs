//! The status of Gateways, their listeners and their classes, and the problems of what cannot be served.

use std::collections::HashMap;
use std::net::IpAddr;

use super::listener::{Overlap, WAYPOINT_CLASS};
use super::{Checked, Gateways, Looked, features, set};
use crate::compile::status::{
    ACCEPTED, CONFLICTED, Condition, ListenerStatus, OVERLAPPING_TLS, PROGRAMMED, RESOLVED_REFS,
    SUPPORTED_VERSION, Statuses,
};
use crate::compile::waypoint::Waypoint;
use crate::config::{Problem, ResourceStore, Severity};

/// Who answers for Istio's ingress gateways, and for routes of services.
const ISTIO_GATEWAY: &str = "istio.io/gateway-controller";
/// Who answers for waypoints of class `istio-waypoint`.
const ISTIO_MESH: &str = "istio.io/mesh-controller";

/// Which controller answers for the Gateways of a class.
#[derive(Debug, Default)]
pub(crate) struct Controllers<'a>(HashMap<&'a str, &'a str>);

impl<'a> Controllers<'a> {
    pub(crate) fn read(store: &'a ResourceStore) -> Self {
        let classes = store.gateway_classes();
        Self(
            classes
                .map(|(it, _)| (&*it.metadata.name, it.spec.controller_name.as_str()))
                .filter(|(_, controller)| !controller.is_empty())
                .collect(),
        )
    }

    /// The class's own, else Istio's for it.
    pub(crate) fn of(&self, class: &str) -> &'a str {
        match (self.0.get(class), class) {
            (Some(controller), _) => controller,
            (None, WAYPOINT_CLASS) => ISTIO_MESH,
            (None, _) => ISTIO_GATEWAY,
        }
    }

    /// For routes of a service: the controller of the waypoint that it is bound to.
    pub(crate) fn of_service(&self, waypoint: Option<&Waypoint<'_>>) -> &'a str {
        // Istio writes the status of routes to services under the name of its gateway controller, waypoint or not.
        match waypoint.map(|it| self.of(it.class())) {
            None | Some(ISTIO_MESH) => ISTIO_GATEWAY,
            Some(controller) => controller,
        }
    }
}

/// Conditions and problems of all Gateways and their classes.
pub(crate) fn report<'w>(
    gateways: &Gateways<'_>,
    store: &ResourceStore,
    addresses: impl Fn(&Looked<'_>) -> Vec<IpAddr> + 'w,
    problems: &mut Vec<Problem>,
    statuses: &mut Statuses,
) {
    for (class, entry) in store.gateway_classes() {
        let condition = match &class.spec.parameters_ref {
            None => Condition::new(ACCEPTED, true, "Accepted", "Gateways of the class can be served"),
            Some(_) => Condition::new(
                ACCEPTED,
                false,
                "InvalidParameters",
                "no parameters are supported",
            ),
        };
        let is_mesh = class.spec.controller_name == ISTIO_MESH || *class.metadata.name == *WAYPOINT_CLASS;
        let status = statuses.of(entry);
        status.set(condition);
        status.set(Condition::new(
            SUPPORTED_VERSION,
            true,
            SUPPORTED_VERSION,
            "resources are read as Gateway API v1.6 has them; definitions of resources are not looked at",
        ));
        status.supports(features::of_class(is_mesh));
    }
    for gateway in gateways.iter() {
        let addresses = addresses(gateway);
        say(gateway, problems);
        let conditions = conditions(gateway, &addresses);
        let sets = set::report(gateway, &conditions, problems, statuses);
        let status = statuses.of(gateway.entry);
        status.attached_listener_sets = sets;
        for condition in conditions {
            status.set(condition);
        }
        for address in &addresses {
            status.address(*address);
        }
        for listener in &gateway.listeners {
            let (_, entry) = gateway.owner(listener.set);
            let said = statuses.of(entry).listener(&listener.listener.name);
            said.supported_kinds.clone_from(&listener.kinds);
            of_listener(listener, said);
        }
    }
    for it in &gateways.strays {
        set::refused(it, problems, statuses);
    }
}

/// The conditions of the Gateway as a whole.
fn conditions(gateway: &Looked<'_>, addresses: &[IpAddr]) -> Vec<Condition> {
    // What is said of ListenerSets is said of them.
    let own = || gateway.listeners.iter().filter(|it| it.set.is_none());
    let lost: Vec<String> = own().filter_map(refused).collect();
    let refusal = unacceptable(gateway, lost.len());
    let served = own().any(|it| it.serves().is_some()) || own().next().is_none();
    let unresolved = own().find_map(|it| it.unresolved.as_ref());
    let mut all = Vec::with_capacity(4);
    all.push(match (&refusal, lost.as_slice()) {
        (Some((reason, text)), _) => Condition::new(ACCEPTED, false, *reason, text),
        (None, []) => Condition::new(ACCEPTED, true, "Accepted", "the Gateway can be served"),
        (None, lost) => Condition::new(ACCEPTED, true, "ListenersNotValid", lost.join("; ")),
    });
    let client = gateway.client.as_ref().and_then(|it| it.as_ref().err());
    all.push(match (client, unresolved) {
        (None, None) => Condition::new(
            RESOLVED_REFS,
            true,
            "ResolvedRefs",
            "every reference leads somewhere",
        ),
        (Some(fault), _) => Condition::new(RESOLVED_REFS, false, fault.reason, &*fault.text),
        (None, Some(fault)) => Condition::new(RESOLVED_REFS, false, "ListenersNotResolved", &*fault.text),
    });
    all.push(if refusal.is_some() || !served {
        Condition::new(PROGRAMMED, false, "Invalid", "no listener can be served")
    } else if addresses.is_empty() {
        Condition::new(PROGRAMMED, false, "AddressNotAssigned", "no instance is ready")
    } else if let Some(address) = unusable(gateway, addresses) {
        let text = format!("no instance has the address {address}");
        Condition::new(PROGRAMMED, false, "AddressNotUsable", text)
    } else {
        let text = format!("{} instances are ready", addresses.len());
        Condition::new(PROGRAMMED, true, "Programmed", text)
    });
    if gateway.listeners.iter().any(|it| it.lenient) {
        let text = "clients that prove nothing are served on some listeners";
        all.push(Condition::new(
            "InsecureFrontendValidationMode",
            true,
            "ConfigurationChanged",
            text,
        ));
    }
    all
}

/// Why the Gateway is not accepted at all.
fn unacceptable(gateway: &Looked<'_>, lost: usize) -> Option<(&'static str, String)> {
    let spec = &gateway.gateway.spec;
    let parameters = spec
        .infrastructure
        .as_ref()
        .and_then(|it| it.parameters_ref.as_ref());
    if let Some(parameters) = parameters {
        let text = format!("parameters of kind {} are not supported", parameters.kind);
        return Some(("InvalidParameters", text));
    }
    let strange = spec
        .addresses
        .iter()
        .find(|it| it.kind.as_deref().is_some_and(|kind| kind != "IPAddress"));
    if let Some(address) = strange {
        let kind = address.kind.as_deref().unwrap_or_default();
        return Some((
            "UnsupportedAddress",
            format!("addresses of type {kind} are not supported"),
        ));
    }
    // A Gateway need have none of its own if ListenerSets may bring some.
    let none_needed = spec.listeners.is_empty() && spec.allowed_listeners.is_some();
    let none_valid = lost == spec.listeners.len() && !none_needed;
    none_valid.then(|| ("ListenersNotValid", "no listener is valid".to_owned()))
}

/// An address that the Gateway shall have and has not.
fn unusable<'g>(gateway: &'g Looked<'_>, addresses: &[IpAddr]) -> Option<&'g str> {
    let wanted = gateway.gateway.spec.addresses.iter().map(|it| it.value.as_str());
    let has = |text: &str| text.parse().is_ok_and(|ip: IpAddr| addresses.contains(&ip));
    wanted.filter(|it| !it.is_empty()).find(|it| !has(it))
}

/// What is said of the Gateway if a listener is not valid.
fn refused(it: &Checked<'_>) -> Option<String> {
    let fault = it.accepted.as_ref().err().or(it.conflict.as_ref())?;
    Some(format!("listener {}: {}", it.listener.name, fault.text))
}

fn of_listener(it: &Checked<'_>, status: &mut ListenerStatus) {
    // Of a listener of a ListenerSet that loses to another, or has no certificate, it is said so (GEP-1713, "Conformance
    // Details").
    let is_lost = it.set.is_some() && it.conflict.is_some();
    status.set(match (&it.accepted, &it.conflict) {
        (Ok(_), Some(fault)) if is_lost => Condition::new(ACCEPTED, false, "PortUnavailable", &*fault.text),
        (Err(fault), _) | (Ok(_), Some(fault)) => Condition::new(ACCEPTED, false, fault.reason, &*fault.text),
        (Ok(_), None) => match it
            .unresolved
            .as_ref()
            .filter(|_| it.set.is_some() && it.serves().is_none())
        {
            Some(fault) => Condition::new(ACCEPTED, false, fault.reason, &*fault.text),
            None => Condition::new(ACCEPTED, true, "Accepted", "the listener is valid"),
        },
    });
    status.set(match &it.conflict {
        Some(fault) => Condition::new(CONFLICTED, true, fault.reason, &*fault.text),
        None => Condition::new(
            CONFLICTED,
            false,
            "NoConflicts",
            "it can be told apart from every other",
        ),
    });
    status.set(match &it.unresolved {
        Some(fault) => Condition::new(RESOLVED_REFS, false, fault.reason, &*fault.text),
        None => Condition::new(
            RESOLVED_REFS,
            true,
            "ResolvedRefs",
            "every reference leads somewhere",
        ),
    });
    status.set(match it.refusal() {
        Some(fault) if is_lost => Condition::new(PROGRAMMED, false, "PortUnavailable", &*fault.text),
        Some(fault) => Condition::new(PROGRAMMED, false, "Invalid", &*fault.text),
        None => Condition::new(PROGRAMMED, true, "Programmed", "the listener is served"),
    });
    if let Some(overlap) = it.overlap {
        let (reason, text) = match overlap {
            Overlap::Hostnames => (
                "OverlappingHostnames",
                "another listener of the port has host names in common with this one",
            ),
            Overlap::Certificates => (
                "OverlappingCertificates",
                "another listener of the port has a certificate that names hosts of this one's: clients that use a connection \
                 again are answered with 421",
            ),
        };
        status.set(Condition::new(OVERLAPPING_TLS, true, reason, text));
    }
}

/// Reports what is not served, and what is served otherwise than written.
fn say(gateway: &Looked<'_>, problems: &mut Vec<Problem>) {
    for it in &gateway.listeners {
        let (_, entry) = gateway.owner(it.set);
        let at = format!("spec.listeners[{}]", it.at);
        let listener = format!(
            "listener {} ({} {})",
            it.listener.name, it.listener.protocol, it.listener.port
        );
        let field = match it.refusal().map(|fault| fault.reason) {
            Some("UnsupportedProtocol") => format!("{at}.protocol"),
            Some("PortUnavailable" | "ProtocolConflict") => format!("{at}.port"),
            _ if it.unresolved.is_some() && it.listener.tls.is_some() => format!("{at}.tls"),
            _ => at,
        };
        match (it.refusal(), &it.unresolved) {
            (Some(fault), _) => problems.push(entry.problem(
                Severity::Error,
                field,
                format!("{}: {listener} is not served: {}", fault.reason, fault.text),
                "mend the listener, or remove it",
            )),
            (None, Some(fault)) => problems.push(entry.problem(
                Severity::Error,
                field,
                format!(
                    "{}: {}; {listener} is served without it",
                    fault.reason, fault.text
                ),
                "refer to something that exists and can be used here",
            )),
            (None, None) => {}
        }
        if it.lenient {
            problems.push(gateway.entry.problem(
                Severity::Warning,
                "spec.tls.frontend",
                format!("{listener} serves clients whose certificate proves nothing"),
                "use the mode AllowValidOnly",
            ));
        }
    }
    if let Some(Err(fault)) = &gateway.client {
        problems.push(gateway.entry.problem(
            Severity::Error,
            "spec.tls.backend.clientCertificateRef",
            format!(
                "{}: {}; backends that speak TLS are not spoken to",
                fault.reason, fault.text
            ),
            "refer to a Secret with tls.crt and tls.key",
        ));
    }
    if let Some((reason, text)) = unacceptable(gateway, 0) {
        problems.push(gateway.entry.problem(
            Severity::Error,
            if reason == "InvalidParameters" {
                "spec.infrastructure.parametersRef"
            } else {
                "spec.addresses"
            },
            format!("{reason}: {text}"),
            "remove it",
        ));
    }
}
