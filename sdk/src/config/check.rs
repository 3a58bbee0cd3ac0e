//! What the API server would not have let in: names and port numbers.

use super::Resource;
use crate::name::Kind;

/// A value that its type allows and its field does not.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) text: String,
    pub(super) remedy: &'static str,
}

/// The first fault of a resource.
pub(super) fn fault(resource: &Resource) -> Option<Fault> {
    names(resource).or_else(|| ports(resource))
}

fn names(resource: &Resource) -> Option<Fault> {
    let metadata = resource.metadata();
    if metadata.name.is_empty() {
        let text = "a name is required".to_owned();
        return Some(Fault {
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

fn ports(resource: &Resource) -> Option<Fault> {
    let zero = |field: String| Fault {
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
        Resource::HTTPRoute(it) => {
            let parents = Box::new(it.spec.parent_refs.iter().map(|it| it.port == Some(0)));
            first("spec.parentRefs", "port", parents).or_else(|| {
                it.spec.rules.iter().enumerate().find_map(|(index, rule)| {
                    let backends = Box::new(rule.backend_refs.iter().map(|it| it.port == Some(0)));
                    first(&format!("spec.rules[{index}].backendRefs"), "port", backends)
                })
            })
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
