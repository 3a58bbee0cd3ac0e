//! Who judges requests.

use std::collections::BTreeMap;

use super::judge::{Court, Ruling};
use super::{Answer, Policies, Request, Verdict};
use crate::config::{Labels, Resource, yaml};
use crate::name::{Host, ServiceName};
use crate::snapshot::{InboundPolicy, Node, Place, Role, Snapshot, Via};

/// The label that tells whose workload something is, by everybody's custom.
const APP: &str = "app";
/// A port, where nothing says which.
const PORT: u16 = 8080;

/// Somebody who judges requests: a workload, a service, a Gateway.
#[derive(Debug)]
pub struct Target<'p> {
    policies: &'p Policies,
    view: Snapshot,
    at: At,
    /// Its name, for messages and as the authority of requests.
    name: String,
    authority: String,
}

#[derive(Debug)]
enum At {
    /// A workload; requests go to this port unless they say which.
    Workload(u16),
    /// A waypoint, for a service.
    Service {
        host: Host,
        port: u16,
    },
    Listener(String),
    /// Nobody enforces anything.
    Nowhere(String),
}

impl<'p> Target<'p> {
    pub(super) fn workload(policies: &'p Policies, name: &str, namespace: &str) -> Self {
        let app = || Labels::from([(APP.to_owned(), name.to_owned())]);
        let (pod, labels, ports) =
            found(policies, name, namespace).unwrap_or_else(|| (None, app(), Vec::new()));
        let mut node = policies.node(namespace, labels);
        node.pod = pod.map(Into::into);
        Self::of_workload(policies, &node, name, &ports)
    }

    pub(super) fn labelled(policies: &'p Policies, namespace: &str, labels: Labels) -> Self {
        let name = labels.get(APP).cloned().unwrap_or_else(|| "workload".to_owned());
        Self::of_workload(policies, &policies.node(namespace, labels), &name, &[])
    }

    fn of_workload(policies: &'p Policies, node: &Node, name: &str, ports: &[u16]) -> Self {
        let view = policies.seen_by(node).snapshot;
        let served = match &view.inbound {
            InboundPolicy::Workload(policy) => policy.ports.keys().min().copied(),
            _ => None,
        };
        Self {
            policies,
            at: At::Workload(served.or_else(|| ports.first().copied()).unwrap_or(PORT)),
            view,
            name: format!("workload {}/{name}", node.namespace),
            authority: name.to_owned(),
        }
    }

    pub(super) fn service(policies: &'p Policies, name: &str, namespace: &str) -> Self {
        let (mut known, wanted) = (policies.clone(), ServiceName::new(namespace, name));
        if policies.store.service(namespace, name).is_none()
            && policies.store.service_entry(namespace, name).is_none()
        {
            let text = format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                 spec: {{selector: {{{APP}: {name}}}, ports: [{{name: http, port: 80}}]}}\n"
            );
            let assumed = yaml::read("(assumed)", &text, None).entries;
            assumed.into_iter().for_each(|entry| known.store.apply(entry));
        }
        let view = known.seen_by(&known.node(namespace, Labels::new())).snapshot;
        let title = format!("service {wanted}");
        let nowhere = |view, why: String| Self {
            policies,
            view,
            at: At::Nowhere(why),
            name: title.clone(),
            authority: name.to_owned(),
        };
        let service = view.services.iter().find(|it| it.name == wanted).cloned();
        let Some((service, port)) = service.and_then(|it| Some((it.clone(), it.ports.first()?.number)))
        else {
            return nowhere(view, format!("no service {wanted} with a port is known"));
        };
        let cluster = service.ports.first().and_then(|port| view.cluster(port.cluster));
        if let Some(Via::Waypoint {
            namespace: home,
            name: waypoint,
        }) = cluster.map(|cluster| &cluster.via)
        {
            let mut node = known.node(home, Labels::new());
            node.role = Role::Gateway {
                namespace: home.clone(),
                name: waypoint.clone(),
            };
            return Self {
                policies,
                name: format!("{title} at waypoint {home}/{waypoint}"),
                view: known.seen_by(&node).snapshot,
                at: At::Service {
                    host: service.host.clone(),
                    port,
                },
                authority: name.to_owned(),
            };
        }
        let declared = known.store.service(namespace, name);
        let selector = declared
            .map(|(it, _)| it.spec.selector.clone())
            .unwrap_or_default();
        if selector.is_empty() {
            let why =
                format!("{wanted} has no waypoint and selects no workloads, so nobody enforces its policies");
            return nowhere(view, why);
        }
        let view = known.seen_by(&known.node(namespace, selector)).snapshot;
        let local = match &view.inbound {
            InboundPolicy::Workload(policy) => {
                let mut ports: Vec<_> = policy.ports.iter().collect();
                ports.sort_by_key(|(local, _)| **local);
                let leads = |guards: &[crate::snapshot::ServiceGuard]| {
                    guards
                        .iter()
                        .any(|guard| guard.service == wanted && guard.port == port)
                };
                ports
                    .into_iter()
                    .find(|(_, guards)| leads(guards))
                    .map(|(local, _)| *local)
            }
            _ => None,
        };
        Self {
            policies,
            view,
            at: At::Workload(local.unwrap_or(port)),
            name: format!("{title} at its workloads"),
            authority: name.to_owned(),
        }
    }

    pub(super) fn gateway(policies: &'p Policies, name: &str, namespace: &str, listener: &str) -> Self {
        let mut node = policies.node(namespace, Labels::new());
        node.role = Role::Gateway {
            namespace: namespace.into(),
            name: name.into(),
        };
        Self {
            policies,
            view: policies.seen_by(&node).snapshot,
            at: At::Listener(listener.to_owned()),
            name: format!("listener {listener} of Gateway {namespace}/{name}"),
            authority: name.to_owned(),
        }
    }

    /// What would come of a request.
    ///
    /// # Panics
    /// If a part of the request is none: a header, a method, an identity.
    #[track_caller]
    pub fn request(&self, request: Request) -> Verdict {
        let asked = format!("{request} at {}", self.name);
        let place = match &self.at {
            At::Workload(port) => Place::Workload {
                port: request.port.unwrap_or(*port),
            },
            At::Service { host, port } => Place::Service {
                host: host.clone(),
                port: request.port.unwrap_or(*port),
            },
            At::Listener(name) => Place::Listener {
                name: name.as_str().into(),
            },
            At::Nowhere(why) => {
                return Verdict {
                    answer: Answer::Allowed,
                    by: None,
                    asked,
                    why: why.clone(),
                };
            }
        };
        let court = Court {
            view: &self.view,
            place: &place,
            authority: request.host.as_deref().unwrap_or(&self.authority),
            authorizers: &self.policies.authorizers,
            reached: &self.policies.reached,
        };
        match court.judge(&request) {
            Ok(Ruling { answer, by, why }) => Verdict {
                answer,
                by,
                asked,
                why,
            },
            Err(why) => panic!("{asked} cannot be asked about: {why}"),
        }
    }
}

type Found = (Option<String>, Labels, Vec<u16>);

/// The pod, labels and ports of a workload.
fn found(policies: &Policies, name: &str, namespace: &str) -> Option<Found> {
    let store = &policies.store;
    let ports = |spec: &crate::config::core::PodSpec| {
        let ports = spec.containers.iter().flat_map(|it| &it.ports);
        ports.map(|port| port.container_port).collect::<Vec<_>>()
    };
    if let Some((it, _)) = store.deployment(namespace, name) {
        let template = &it.spec.template;
        return Some((None, template.metadata.labels.clone(), ports(&template.spec)));
    }
    if let Some((it, _)) = store.pod(namespace, name) {
        return Some((Some(name.to_owned()), it.metadata.labels.clone(), ports(&it.spec)));
    }
    if let Some((_, entry)) = store.workload_entry(namespace, name)
        && let Resource::WorkloadEntry(it) = &entry.resource
    {
        let mut labels: BTreeMap<_, _> = it.metadata.labels.clone();
        labels.extend(it.spec.labels.clone());
        return Some((None, labels, Vec::new()));
    }
    let mut named = store.deployments().map(|(it, _)| it).filter(|it| {
        let labels = &it.spec.template.metadata.labels;
        it.metadata.namespace.as_ref() == namespace && labels.get(APP).is_some_and(|app| app == name)
    });
    match (named.next(), named.next()) {
        (Some(it), None) => {
            let template = &it.spec.template;
            Some((None, template.metadata.labels.clone(), ports(&template.spec)))
        }
        _ => None,
    }
}
