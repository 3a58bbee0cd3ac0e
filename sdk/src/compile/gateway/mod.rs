//! Gateways: what their listeners come to, what this process serves of them, and what their status says.
//!
//! ```text
//! ListenerSet ─┐
//! Gateway ─ listener ─▶ protocol, hosts, conflicts ─┬▶ attach ─▶ routes per listener
//!   Secret, ConfigMap ─▶ certificate, clients ──────┴▶ ListenerView, TlsTerms
//! ```

mod attach;
mod certificate;
mod clients;
mod features;
mod istio;
mod listener;
mod material;
mod pem;
mod report;
mod set;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use attach::{Attaching, attach};
pub(crate) use istio::{IstioGateways, Servers};
pub(crate) use listener::{Checked, Fault, Protocol};
pub(crate) use material::Material;
pub(crate) use pem::{Pair, certificates, pair};
pub(crate) use report::{Controllers, report};
pub(crate) use set::Set;
use set::Sets;

use super::authz::{GatewayTarget, Target};
use super::backends::{Directory, Frontend};
use super::guard::Guards;
use super::namespace::Namespaces;
use super::route::{connections_of_listener, for_listener};
use super::routing::Routes;
use super::sessions::Sessions;
use crate::config::gateway::Gateway;
use crate::config::{Entry, Labels, Problem};
use crate::name::{Kind, ResourceRef};
use crate::policy::authz::Layer;
use crate::policy::connection::ConnectionTableBuilder;
use crate::policy::route::RouteTable;
use crate::policy::tls::Certificate;
use crate::snapshot::{Cluster, GatewayView, ListenerView, PassedOn, Place, Snapshot, TlsTerms};

/// A Gateway whose listeners were looked at, with those of the ListenerSets that belong to it.
#[derive(Debug)]
pub(crate) struct Looked<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) entry: &'a Arc<Entry>,
    pub(crate) reference: ResourceRef,
    /// ListenerSets that name it, taken or not, in the order of precedence.
    pub(crate) sets: Vec<Set<'a>>,
    /// Its own, and then those of the sets that it takes.
    pub(crate) listeners: Vec<Checked<'a>>,
    /// What it shows to backends that speak TLS: nothing, a certificate, or why that cannot be had.
    pub(crate) client: Option<Result<Arc<Certificate>, Fault>>,
}

/// All Gateways.
#[derive(Debug, Default)]
pub(crate) struct Gateways<'a> {
    /// By namespace and name.
    all: BTreeMap<&'a str, BTreeMap<&'a str, Looked<'a>>>,
    /// ListenerSets that belong to none.
    strays: Vec<Set<'a>>,
}

/// Listeners that a route can refer to as a parent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening<'g, 'a> {
    pub(crate) gateway: &'g Looked<'a>,
    /// Those of this ListenerSet; of the Gateway itself if absent.
    pub(crate) set: Option<usize>,
}

impl<'a> Looked<'a> {
    /// The Gateway, or the ListenerSet, that a listener is written in.
    pub(crate) fn owner(&self, set: Option<usize>) -> (&ResourceRef, &'a Arc<Entry>) {
        let set = set.and_then(|at| self.sets.get(at));
        set.map_or((&self.reference, self.entry), |it| (&it.reference, it.entry))
    }

    /// What a listener is called where those of all are together: names are unique only in what they are written in.
    fn name(&self, it: &Checked<'_>) -> Arc<str> {
        let name = it.listener.name.as_str();
        match it.set {
            None => name.into(),
            Some(_) => {
                let (owner, _) = self.owner(it.set);
                format!("{}/{}/{name}", owner.namespace, owner.name).into()
            }
        }
    }
}

impl<'a> Gateways<'a> {
    pub(crate) fn read(material: &Material<'a>, namespaces: &Namespaces<'_>) -> Self {
        let mut gateways = Self::default();
        let mut sets = Sets::read(material.store, namespaces);
        for (gateway, entry) in material.store.gateways() {
            let (reference, sets) = (entry.reference(), sets.take(gateway));
            let looked = Looked {
                gateway,
                entry,
                listeners: listener::check(gateway, &reference, &sets, material),
                client: certificate::of_client(gateway, &reference, material),
                sets,
                reference,
            };
            let meta = &gateway.metadata;
            let of_namespace = gateways.all.entry(&meta.namespace).or_default();
            of_namespace.insert(&meta.name, looked);
        }
        gateways.strays = sets.into_rest();
        gateways
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Looked<'a>> {
        self.all.get(namespace)?.get(name)
    }

    /// The Gateway or ListenerSet that a route refers to by this kind.
    ///
    /// # Errors
    /// If there is none, or a Gateway that does not take it.
    pub(crate) fn listening(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Listening<'_, 'a>, String> {
        let missing = || format!("{kind} {namespace}/{name} does not exist");
        if kind == Kind::Gateway {
            let gateway = self.get(namespace, name).ok_or_else(missing)?;
            return Ok(Listening { gateway, set: None });
        }
        let is_meant = |it: &Set<'_>| &*it.reference.namespace == namespace && &*it.reference.name == name;
        let found = self
            .iter()
            .find_map(|gateway| Some((gateway, gateway.sets.iter().position(is_meant)?)));
        let set = found.and_then(|(gateway, at)| gateway.sets.get(at));
        match (found, set.or_else(|| self.strays.iter().find(|it| is_meant(it)))) {
            (
                _,
                Some(Set {
                    admitted: Err(fault), ..
                }),
            ) => Err(format!(
                "{kind} {namespace}/{name} is not accepted: {}",
                fault.text
            )),
            (Some((gateway, at)), Some(_)) => Ok(Listening {
                gateway,
                set: Some(at),
            }),
            _ => Err(missing()),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Looked<'a>> {
        self.all.values().flat_map(BTreeMap::values)
    }
}

/// What the listeners are made of.
pub(crate) struct Listeners<'s, 'a> {
    pub(crate) routes: &'s Routes<'a>,
    pub(crate) connections: &'s Routes<'a>,
    pub(crate) namespaces: &'s Namespaces<'a>,
    pub(crate) directory: &'s Directory<'a>,
    pub(crate) sessions: &'s Sessions<'s>,
    /// What the backends of routes point into.
    pub(crate) clusters: &'s [Arc<Cluster>],
    /// Labels of the Gateway's own pods: policies with a selector attach to an ingress by them.
    pub(crate) labels: &'s Labels,
    /// Whose TLS terms stay what they are as long as they say the same.
    pub(crate) previous: Option<&'s Snapshot>,
}

impl Listeners<'_, '_> {
    /// The listeners of a Gateway that this process serves, tunnels apart.
    pub(crate) fn of(
        &self,
        gateway: &Looked<'_>,
        reference: &ResourceRef,
        guards: &mut Guards<'_, '_>,
        problems: &mut Vec<Problem>,
    ) -> GatewayView {
        let target = Target::Gateway {
            gateway: GatewayTarget {
                namespace: &reference.namespace,
                name: &reference.name,
                class: &gateway.gateway.spec.gateway_class_name,
            },
            labels: self.labels,
        };
        let mut view = GatewayView::default();
        for it in &gateway.listeners {
            let Some((protocol, host)) = it.serves() else {
                continue;
            };
            let (owner, _) = gateway.owner(it.set);
            let mut backends = self.directory.seen_from(Frontend::Gateway);
            let (requests, connections) = match protocol {
                Protocol::Hbone => continue,
                Protocol::Http | Protocol::Https => {
                    let routes = self.routes.for_listener(gateway, it, self.namespaces);
                    let mut table = for_listener(&routes, owner, it.listener, &mut backends, problems);
                    self.sessions.complete(&mut table, self.clusters);
                    (table, None)
                }
                Protocol::Tls { .. } | Protocol::Tcp => {
                    let routes = self.connections.for_listener(gateway, it, self.namespaces);
                    let mut table = ConnectionTableBuilder::default();
                    connections_of_listener(&mut table, &routes, owner, it.listener, &mut backends, problems);
                    let passed = PassedOn {
                        routes: table.build(),
                        authz: guards.engine(Layer::Tcp, &target, problems),
                    };
                    (RouteTable::default(), Some(passed))
                }
            };
            let name = gateway.name(it);
            view.add(Arc::new(ListenerView {
                port: it.listener.port,
                host: host.clone(),
                tls: it.tls.as_ref().map(|tls| self.kept(&name, tls)),
                passes_tls: protocol == Protocol::Tls { terminated: false },
                routes: Arc::new(requests),
                connections,
                gate: guards.gate(&target, problems),
                place: Arc::new(Place::Listener { name: name.clone() }),
                name,
            }));
        }
        view
    }

    /// The terms of before, if they say the same: what was made of them, such as tickets to resume by, stays good.
    fn kept(&self, name: &str, next: &Arc<TlsTerms>) -> Arc<TlsTerms> {
        let before = self
            .previous
            .and_then(|it| it.gateway.listener(name)?.tls.as_ref());
        Arc::clone(before.filter(|before| *before == next).unwrap_or(next))
    }
}
