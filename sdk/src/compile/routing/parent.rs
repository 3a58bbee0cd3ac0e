//! What a parent reference of a route leads to, or why it leads nowhere.

use super::report::Sight;
use super::{attaching, parent_kind};
use crate::compile::gateway::{Checked, Fault, Listening, Looked, attach};
use crate::compile::route::{PortRef, RouteInput};
use crate::config::gateway::ParentRef;
use crate::name::{Kind, ServiceName};

/// A parent that a route is attached to.
pub(super) enum Parent<'s, 'a> {
    /// A service.
    Service,
    /// These listeners, of a Gateway or of a ListenerSet that belongs to it.
    Listeners(&'s Looked<'a>, Vec<&'s Checked<'a>>),
}

impl<'s, 'a> Sight<'s, 'a> {
    pub(super) fn parent(&self, input: &RouteInput<'_>, parent: &ParentRef) -> Result<Parent<'s, 'a>, Fault> {
        let namespace = parent.namespace.as_deref().unwrap_or(input.route.namespace());
        let name = &parent.name;
        let lost = |text: String| Err(Fault::new("NoMatchingParent", text));
        match parent_kind(parent) {
            Some(kind @ (Kind::Service | Kind::ServiceEntry)) => match self.ports(kind, namespace, name) {
                None => lost(format!("{kind} {namespace}/{name} does not exist")),
                Some(ports) => self.service(input, parent, kind, &ports),
            },
            Some(kind) => match self.gateways.listening(kind, namespace, name) {
                Err(text) => lost(text),
                Ok(listening) => self.listeners(input, parent, listening),
            },
            None => {
                let kind = parent.kind.as_deref().unwrap_or("Gateway");
                let group = parent.group.as_deref().unwrap_or_else(|| Kind::Gateway.group());
                Err(Fault::new(
                    "InvalidKind",
                    format!("routes do not attach to {kind} of group `{group}`"),
                ))
            }
        }
    }

    /// The ports of a Service or ServiceEntry, if it exists.
    fn ports(&self, kind: Kind, namespace: &str, name: &str) -> Option<Vec<PortRef<'_>>> {
        if kind == Kind::Service {
            let (service, _) = self.store.service(namespace, name)?;
            let ports = service.spec.ports.iter().map(|it| PortRef {
                number: it.port,
                name: it.name.as_deref(),
            });
            return Some(ports.collect());
        }
        let (entry, _) = self.store.service_entry(namespace, name)?;
        let ports = entry.spec.ports.iter();
        Some(
            ports
                .map(|it| PortRef::from((it.number, it.name.as_str())))
                .collect(),
        )
    }

    fn service(
        &self,
        input: &RouteInput<'_>,
        parent: &ParentRef,
        kind: Kind,
        ports: &[PortRef<'_>],
    ) -> Result<Parent<'s, 'a>, Fault> {
        let own = input.route.namespace();
        let namespace = parent.namespace.as_deref().unwrap_or(own);
        let service = ServiceName::new(namespace, parent.name.as_str());
        let mut named = ports
            .iter()
            .filter(|it| {
                parent.port.is_none_or(|port| port == it.number)
                    && parent
                        .section_name
                        .as_deref()
                        .is_none_or(|section| Some(section) == it.name)
            })
            .peekable();
        if named.peek().is_none() && (parent.port.is_some() || parent.section_name.is_some()) {
            let text = format!("{} {service} has no such port", kind.as_str());
            return Err(Fault::new("NoMatchingParent", text));
        }
        let wins = |port: &PortRef<'_>| {
            // As seen from the route's own namespace, which is who it is for.
            let routes = self.routes.for_client(kind, &service, *port, own);
            routes.iter().any(|it| it.route.is(input.route))
        };
        let loses =
            named.peek().is_some() && self.routes.has_rivals(namespace, &parent.name) && !named.any(wins);
        if loses {
            Err(lost(input))
        } else {
            Ok(Parent::Service)
        }
    }

    fn listeners(
        &self,
        input: &RouteInput<'_>,
        parent: &ParentRef,
        listening: Listening<'s, 'a>,
    ) -> Result<Parent<'s, 'a>, Fault> {
        let gateway = listening.gateway;
        let mut listeners = attach(listening, parent, attaching(input), self.namespaces)?;
        let (owner, _) = gateway.owner(listening.set);
        if self.routes.has_rivals(&owner.namespace, &owner.name) {
            listeners.retain(|listener| {
                let routes = self.routes.for_listener(gateway, listener, self.namespaces);
                routes.iter().any(|it| it.route.is(input.route))
            });
        }
        match listeners.is_empty() {
            true => Err(lost(input)),
            false => Ok(Parent::Listeners(gateway, listeners)),
        }
    }
}

/// The verdict on a route that another kind of route has the requests of.
fn lost(input: &RouteInput<'_>) -> Fault {
    let other = match input.route.kind() {
        Kind::GRPCRoute => "an HTTPRoute",
        _ => "a GRPCRoute",
    };
    let text = format!("{other} that is older, or first by name, has the same requests");
    Fault::new("HostnameConflict", text)
}
