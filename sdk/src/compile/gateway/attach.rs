//! Which listeners of a Gateway a route attaches to, and why to none.

use super::Listening;
use super::listener::{Checked, Fault, Protocol};
use crate::compile::namespace::Namespaces;
use crate::config::gateway::ParentRef;
use crate::name::Kind;

/// What of a route decides where it attaches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attaching<'r> {
    pub(crate) kind: Kind,
    pub(crate) namespace: &'r str,
    /// None are every host.
    pub(crate) hostnames: &'r [String],
}

/// The listeners that a parent reference attaches the route to; at least one.
///
/// Whether a listener can be served does not matter here (Gateway API, `ListenerStatus.attachedRoutes`).
///
/// # Errors
/// With the reason of the route's `Accepted` condition.
pub(crate) fn attach<'g, 'a>(
    listening: Listening<'g, 'a>,
    parent: &ParentRef,
    route: Attaching<'_>,
    namespaces: &Namespaces<'_>,
) -> Result<Vec<&'g Checked<'a>>, Fault> {
    let (owner, _) = listening.gateway.owner(listening.set);
    let name = format!("{} {}", owner.kind, owner.name);
    let own = listening
        .gateway
        .listeners
        .iter()
        .filter(|it| it.set == listening.set);
    let meant: Vec<&Checked<'a>> = own.filter(|it| is_meant(it, parent)).collect();
    if meant.is_empty() {
        return Err(Fault::new(
            "NoMatchingParent",
            format!("{name} has no such listener"),
        ));
    }
    // A TLSRoute "MUST be attached to a Listener of protocol TLS", and this is how it is said of one that is not.
    let speaks_tls = |it: &&Checked<'_>| matches!(it.accepted, Ok((Protocol::Tls { .. }, _)) | Err(_));
    if route.kind == Kind::TLSRoute && !meant.iter().any(speaks_tls) {
        let text = format!("no such listener of {name} is one of protocol TLS");
        return Err(Fault::new("UnsupportedValue", text));
    }
    let admitting = meant
        .into_iter()
        .filter(|it| admits(it, &owner.namespace, route, namespaces));
    let admitting: Vec<&Checked<'a>> = admitting.collect();
    if admitting.is_empty() {
        let text = format!(
            "no listener of {name} allows {}s of {}",
            route.kind, route.namespace
        );
        return Err(Fault::new("NotAllowedByListeners", text));
    }
    let sharing = admitting
        .into_iter()
        .filter(|it| !it.hosts(route.hostnames).is_empty());
    let sharing: Vec<&Checked<'a>> = sharing.collect();
    match sharing.is_empty() {
        false => Ok(sharing),
        true => {
            let text = format!("no listener of {name} serves a host name of the route");
            Err(Fault::new("NoMatchingListenerHostname", text))
        }
    }
}

/// Both name and port must fit the same listener, where they are given.
fn is_meant(listener: &Checked<'_>, parent: &ParentRef) -> bool {
    let section = parent.section_name.as_deref();
    parent.port.is_none_or(|port| port == listener.listener.port)
        && section.is_none_or(|section| section == listener.listener.name)
}

fn admits(listener: &Checked<'_>, home: &str, route: Attaching<'_>, namespaces: &Namespaces<'_>) -> bool {
    let fits = |group: &str, kind: &str| group == route.kind.group() && kind == route.kind.as_str();
    listener.kinds.iter().any(|it| fits(&it.group, &it.kind))
        && namespaces.admits(listener.listener.allowed_routes.as_ref(), home, route.namespace)
}
