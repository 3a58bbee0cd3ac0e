//! Gateways: what their listeners come to, what this process serves of them, and what their status says.
//!
//! ```text
//! Gateway ─ listener ─▶ protocol, hosts, conflicts ─┬▶ attach ─▶ routes per listener
//!   Secret, ConfigMap ─▶ certificate, clients ──────┴▶ ListenerView, TlsTerms
//! ```

mod attach;
mod certificate;
mod clients;
mod istio;
mod listener;
mod material;
mod pem;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use attach::{Attaching, attach};
pub(crate) use istio::{IstioGateways, Servers};
pub(crate) use listener::{Checked, Fault, Protocol};
pub(crate) use material::Material;
pub(crate) use pem::{Pair, certificates, pair};
pub(crate) use report::{Controllers, report};

use super::authz::{GatewayTarget, Target};
use super::backends::{Directory, Frontend};
use super::guard::Guards;
use super::namespace::Namespaces;
use super::route::{connections_of_listener, for_listener};
use super::routing::Routes;
use super::sessions::Sessions;
use crate::config::gateway::Gateway;
use crate::config::{Entry, Labels, Problem};
use crate::name::ResourceRef;
use crate::policy::authz::Layer;
use crate::policy::connection::ConnectionTableBuilder;
use crate::policy::route::RouteTable;
use crate::policy::tls::Certificate;
use crate::snapshot::{Cluster, GatewayView, ListenerView, PassedOn, Place, Snapshot, TlsTerms};

/// A Gateway whose listeners were looked at.
#[derive(Debug)]
pub(crate) struct Looked<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) entry: &'a Arc<Entry>,
    pub(crate) listeners: Vec<Checked<'a>>,
    /// What it shows to backends that speak TLS: nothing, a certificate, or why that cannot be had.
    pub(crate) client: Option<Result<Arc<Certificate>, Fault>>,
}

/// All Gateways, by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Gateways<'a>(BTreeMap<&'a str, BTreeMap<&'a str, Looked<'a>>>);

impl<'a> Gateways<'a> {
    pub(crate) fn read(material: &Material<'a>) -> Self {
        let mut all = Self::default();
        for (gateway, entry) in material.store.gateways() {
            let looked = Looked {
                gateway,
                entry,
                listeners: listener::check(gateway, material),
                client: certificate::of_client(gateway, material),
            };
            let meta = &gateway.metadata;
            all.0
                .entry(&meta.namespace)
                .or_default()
                .insert(&meta.name, looked);
        }
        all
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Looked<'a>> {
        self.0.get(namespace)?.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Looked<'a>> {
        self.0.values().flat_map(BTreeMap::values)
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
            let mut backends = self.directory.seen_from(Frontend::Gateway);
            let (requests, connections) = match protocol {
                Protocol::Hbone => continue,
                Protocol::Http | Protocol::Https => {
                    let routes = self.routes.for_listener(gateway, it, self.namespaces);
                    let mut table = for_listener(&routes, reference, it.listener, &mut backends, problems);
                    self.sessions.complete(&mut table, self.clusters);
                    (table, None)
                }
                Protocol::Tls { .. } | Protocol::Tcp => {
                    let routes = self.connections.for_listener(gateway, it, self.namespaces);
                    let mut table = ConnectionTableBuilder::default();
                    connections_of_listener(
                        &mut table,
                        &routes,
                        reference,
                        it.listener,
                        &mut backends,
                        problems,
                    );
                    let passed = PassedOn {
                        routes: table.build(),
                        authz: guards.engine(Layer::Tcp, &target, problems),
                    };
                    (RouteTable::default(), Some(passed))
                }
            };
            let name: Arc<str> = it.listener.name.as_str().into();
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
