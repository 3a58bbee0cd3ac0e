//! What the API server, or Istio's webhook behind it, would not have let in.

mod common;
mod destination_rule;
mod gateway;
mod lexical;
mod registry;
mod route;
mod virtual_service;

use super::gateway::ParentRef;
use super::{Resource, Severity};
use crate::name::Kind;

/// A value that its type allows and its field does not.
#[derive(Debug)]
pub(super) struct Fault {
    /// An error makes the resource unusable; a warning is told.
    pub(super) severity: Severity,
    pub(super) field: String,
    pub(super) text: String,
    pub(super) remedy: &'static str,
}

/// The faults of a resource.
pub(super) fn faults(resource: &Resource) -> Vec<Fault> {
    if let Some(fault) = names(resource).or_else(|| ports(resource)) {
        return vec![fault];
    }
    let mut faults = Faults::default();
    match resource {
        Resource::HTTPRoute(it) => route::http(it, &mut faults),
        Resource::GRPCRoute(it) => route::grpc(it, &mut faults),
        Resource::TCPRoute(it) => route::tcp(it, &mut faults),
        Resource::TLSRoute(it) => route::tls(it, &mut faults),
        Resource::Gateway(it) => gateway::gateway(it, &mut faults),
        Resource::ReferenceGrant(it) => gateway::grant(it, &mut faults),
        Resource::XBackendTrafficPolicy(it) => gateway::backend_traffic_policy(it, &mut faults),
        Resource::ServiceEntry(it) => registry::service_entry(it, &mut faults),
        Resource::EndpointSlice(it) => registry::endpoint_slice(it, &mut faults),
        Resource::VirtualService(it) => virtual_service::check(it, &mut faults),
        Resource::DestinationRule(it) => destination_rule::check(it, &mut faults),
        _ => {}
    }
    faults.0
}

/// Faults as they are found.
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn error(&mut self, field: impl Into<String>, text: impl Into<String>, remedy: &'static str) {
        self.push(Severity::Error, field.into(), text.into(), remedy);
    }

    fn warning(&mut self, field: impl Into<String>, text: impl Into<String>, remedy: &'static str) {
        self.push(Severity::Warning, field.into(), text.into(), remedy);
    }

    fn push(&mut self, severity: Severity, field: String, text: String, remedy: &'static str) {
        self.0.push(Fault {
            severity,
            field,
            text,
            remedy,
        });
    }
}

fn names(resource: &Resource) -> Option<Fault> {
    let metadata = resource.metadata();
    if metadata.name.is_empty() {
        let text = "a name is required".to_owned();
        return Some(Fault {
            severity: Severity::Error,
            field: "metadata.name".to_owned(),
            text,
            remedy: "give the resource a name",
        });
    }
    // RFC 1123: what a name in DNS may be. Services and Namespaces are single labels.
    let most = match resource.kind() {
        Kind::Service | Kind::Namespace => 63,
        _ => 253,
    };
    let dots = most > 63;
    [("name", &metadata.name, most, dots), ("namespace", &metadata.namespace, 63, false)]
        .into_iter()
        .find(|(_, name, most, dots)| !name.is_empty() && !is_dns(name, *most, *dots))
        .map(|(field, name, most, _)| Fault {
            severity: Severity::Error,
            field: format!("metadata.{field}"),
            text: format!("`{}` is not a valid {field}", name.escape_debug()),
            remedy: match most {
                63 => "use up to 63 lower-case letters, digits and dashes, with a letter or digit at both ends",
                _ => "use up to 253 lower-case letters, digits, dashes and dots, with a letter or digit at both ends",
            },
        })
}

fn is_dns(name: &str, most: usize, dots: bool) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(is_alphanumeric)
            && bytes.last().is_some_and(is_alphanumeric)
            && bytes.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
    };
    name.len() <= most
        && if dots {
            name.split('.').all(is_label)
        } else {
            is_label(name)
        }
}

/// Finds the first zero in a list of ports, and says where it is.
type First<'f> = dyn Fn(&str, &str, Box<dyn Iterator<Item = bool> + '_>) -> Option<Fault> + 'f;

/// The ports of a route's parents, and those of its backends rule by rule.
fn route_ports(
    parents: &[ParentRef],
    mut rules: impl Iterator<Item = Vec<Option<u16>>>,
    first: &First<'_>,
) -> Option<Fault> {
    let zeros = Box::new(parents.iter().map(|it| it.port == Some(0)));
    first("spec.parentRefs", "port", zeros).or_else(|| {
        let mut index = 0;
        rules.find_map(|backends| {
            let list = format!("spec.rules[{index}].backendRefs");
            index += 1;
            let zeros = Box::new(backends.into_iter().map(|port| port == Some(0)));
            first(&list, "port", zeros)
        })
    })
}

fn ports(resource: &Resource) -> Option<Fault> {
    let zero = |field: String| Fault {
        severity: Severity::Error,
        field,
        text: "a port from 1 to 65535 is required".to_owned(),
        remedy: "write the port's number",
    };
    let first = |list: &str, field: &str, mut zeros: Box<dyn Iterator<Item = bool> + '_>| {
        zeros
            .position(|zero| zero)
            .map(|index| zero(format!("{list}[{index}].{field}")))
    };
    match resource {
        Resource::Service(it) => first(
            "spec.ports",
            "port",
            Box::new(it.spec.ports.iter().map(|it| it.port == 0)),
        ),
        Resource::Pod(it) => it
            .spec
            .containers
            .iter()
            .enumerate()
            .find_map(|(index, container)| {
                let zeros = Box::new(container.ports.iter().map(|it| it.container_port == 0));
                first(&format!("spec.containers[{index}].ports"), "containerPort", zeros)
            }),
        Resource::Deployment(it) => {
            it.spec
                .template
                .spec
                .containers
                .iter()
                .enumerate()
                .find_map(|(index, container)| {
                    let zeros = Box::new(container.ports.iter().map(|it| it.container_port == 0));
                    first(
                        &format!("spec.template.spec.containers[{index}].ports"),
                        "containerPort",
                        zeros,
                    )
                })
        }
        Resource::EndpointSlice(it) => first(
            "ports",
            "port",
            Box::new(it.ports.iter().map(|it| it.port == Some(0))),
        ),
        Resource::Gateway(it) => first(
            "spec.listeners",
            "port",
            Box::new(it.spec.listeners.iter().map(|it| it.port == 0)),
        ),
        Resource::ListenerSet(it) => first(
            "spec.listeners",
            "port",
            Box::new(it.spec.listeners.iter().map(|it| it.port == 0)),
        ),
        Resource::HTTPRoute(it) => {
            let rules = it.spec.rules.iter();
            let ports = rules.map(|rule| rule.backend_refs.iter().map(|it| it.port).collect());
            route_ports(&it.spec.parent_refs, ports, &first)
        }
        Resource::GRPCRoute(it) => {
            let rules = it.spec.rules.iter();
            let ports = rules.map(|rule| rule.backend_refs.iter().map(|it| it.port).collect());
            route_ports(&it.spec.parent_refs, ports, &first)
        }
        Resource::TCPRoute(it) => {
            let rules = it.spec.rules.iter();
            let ports = rules.map(|rule| rule.backend_refs.iter().map(|it| it.port).collect());
            route_ports(&it.spec.parent_refs, ports, &first)
        }
        Resource::TLSRoute(it) => {
            let rules = it.spec.rules.iter();
            let ports = rules.map(|rule| rule.backend_refs.iter().map(|it| it.port).collect());
            route_ports(&it.spec.parent_refs, ports, &first)
        }
        Resource::ServiceEntry(it) => first(
            "spec.ports",
            "number",
            Box::new(it.spec.ports.iter().map(|it| it.number == 0)),
        )
        .or_else(|| {
            first(
                "spec.ports",
                "targetPort",
                Box::new(it.spec.ports.iter().map(|it| it.target_port == Some(0))),
            )
        }),
        Resource::WorkloadEntry(it) => {
            let named = it.spec.ports.iter().find(|(_, port)| **port == 0);
            named.map(|(name, _)| zero(format!("spec.ports.{name}")))
        }
        _ => None,
    }
}
