//! Gateways of Istio's own API: servers of the pods that they select, whichever Gateway of Gateway API those belong to.
//!
//! ```text
//! Gateway ─ server ─┬▶ HTTP: all servers of a port share one list of routes, told apart by host
//!                   └▶ HTTPS: each its own certificate and its own list
//! ```

mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::StatusCode;

use super::Listeners;
use crate::compile::authz::{GatewayTarget, Target};
use crate::compile::files::Files;
use crate::compile::guard::Guards;
use crate::compile::registry::Registry;
use crate::compile::route::time::created;
use crate::compile::virtual_service::{Scope, VirtualServices};
use crate::compile::workload::Members;
use crate::config::istio::{IstioGateway, Server};
use crate::config::{Entry, Problem, ResourceStore, Severity, contains};
use crate::matcher::HostPattern;
use crate::name::ResourceRef;
use crate::policy::route::listed::Conditions;
use crate::policy::route::{
    Action, Redirect, RedirectPort, RouteRule, RouteTable, RouteTableBuilder, RuleOrigin,
};
use crate::snapshot::{GatewayView, ListenerView, Place, TlsTerms};

/// All Gateways of Istio's own API, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct IstioGateways<'a>(Vec<(&'a IstioGateway, &'a Arc<Entry>)>);

impl<'a> IstioGateways<'a> {
    pub(crate) fn read(store: &'a ResourceStore) -> Self {
        let mut all: Vec<_> = store.istio_gateways().collect();
        all.sort_by_cached_key(|(it, _)| {
            let meta = &it.metadata;
            let created = created(meta).unwrap_or(u64::MAX);
            (created, meta.namespace.clone(), meta.name.clone())
        });
        Self(all)
    }

    /// Whether there is one of this name, as `namespace/name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(it, _)| name_of(it) == name)
    }

    /// Says of those that select nobody that nobody serves them.
    pub(crate) fn report(&self, members: &Members<'_>, problems: &mut Vec<Problem>) {
        for (gateway, entry) in &self.0 {
            let selector = &gateway.spec.selector;
            if !members.iter().any(|(_, it)| contains(&it.labels, selector)) {
                problems.push(entry.problem(
                    Severity::Warning,
                    "spec.selector",
                    "no pod carries these labels; nobody serves the Gateway",
                    "run `waypoint run --gateway` as a pod with these labels",
                ));
            }
        }
    }
}

/// What servers are made of, in the process that serves them.
pub(crate) struct Servers<'s, 'a> {
    pub(crate) gateways: &'s IstioGateways<'a>,
    pub(crate) listeners: &'s Listeners<'s, 'a>,
    /// The Gateway that this process runs as, whether or not Gateway API knows one of that name.
    pub(crate) own: &'s ResourceRef,
    pub(crate) class: &'s str,
    pub(crate) virtual_services: &'s VirtualServices<'a>,
    pub(crate) registry: &'s Registry,
    pub(crate) domain: &'s str,
    pub(crate) store: &'s ResourceStore,
    pub(crate) files: &'s Files<'s>,
}

/// A server that can be served.
struct Served<'a> {
    gateway: &'a IstioGateway,
    entry: &'a Arc<Entry>,
    index: usize,
    hosts: Vec<ServerHost>,
    terms: Option<Arc<TlsTerms>>,
}

/// A host of a server, for VirtualServices of some namespaces.
struct ServerHost {
    /// `None` is any.
    namespace: Option<Box<str>>,
    host: HostPattern,
}

impl<'a> Servers<'_, 'a> {
    /// Adds what is served here to the listeners of Gateway API.
    pub(crate) fn added(
        &self,
        mut view: GatewayView,
        guards: &mut Guards<'_, '_>,
        problems: &mut Vec<Problem>,
    ) -> GatewayView {
        let taken: BTreeSet<u16> = view.ports().map(|(port, _)| port).collect();
        let mut ports: BTreeMap<u16, Vec<Served<'a>>> = BTreeMap::new();
        let selected = |it: &&(&'a IstioGateway, _)| contains(self.listeners.labels, &it.0.spec.selector);
        for (gateway, entry) in self.gateways.0.iter().filter(selected) {
            for (index, server) in gateway.spec.servers.iter().enumerate() {
                let port = server.port.number;
                let of_port = ports.entry(port).or_default();
                match self.served(gateway, entry, index, server, of_port, taken.contains(&port)) {
                    Ok(served) => of_port.push(served),
                    // There will be another compile when it has been read.
                    Err(Unserved { remedy: "", .. }) => {}
                    Err(Unserved { field, text, remedy }) => {
                        let field = format!("spec.servers[{index}].{field}");
                        let text = format!("{text}; the server is not served");
                        problems.push(entry.problem(Severity::Error, field, text, remedy));
                    }
                }
            }
        }
        for (port, servers) in &ports {
            self.port(*port, servers, &mut view, guards, problems);
        }
        view
    }

    fn served(
        &self,
        gateway: &'a IstioGateway,
        entry: &'a Arc<Entry>,
        index: usize,
        server: &'a Server,
        others: &[Served<'a>],
        taken: bool,
    ) -> Result<Served<'a>, Unserved> {
        let secure = match server.port.protocol.to_ascii_uppercase().as_str() {
            "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => false,
            "HTTPS" => true,
            other => {
                let text = format!("{other} cannot be served");
                return unserved(
                    "port.protocol",
                    text,
                    "use HTTP or HTTPS, or a route of Gateway API",
                );
            }
        };
        if server.port.number == 0 {
            return unserved("port.number", "a port is required", "give a port from 1 to 65535");
        }
        if taken {
            let text = format!(
                "a listener of Gateway {} has port {}",
                self.own.name, server.port.number
            );
            return unserved("port.number", text, "give each its own port");
        }
        if others.first().is_some_and(|it| it.terms.is_some() != secure) {
            let text = format!("port {} is served with and without TLS", server.port.number);
            return unserved("port.protocol", text, "give each its own port");
        }
        let terms = match secure {
            false => None,
            true => Some(tls::terms(
                server.tls.as_ref(),
                &self.own.namespace,
                self.store,
                self.files,
            )?),
        };
        let mut hosts = Vec::new();
        for (at, text) in server.hosts.iter().enumerate() {
            match host(text, &gateway.metadata.namespace) {
                Some(host) => hosts.push(host),
                None => {
                    let text = format!("hosts[{at}] `{text}` is no host");
                    return unserved("hosts", text, "write a host, `*.example.com` or `*`");
                }
            }
        }
        let names = |it: &Served<'_>, host: &ServerHost| it.hosts.iter().any(|other| other.host == host.host);
        if secure && let Some(host) = hosts.iter().find(|host| others.iter().any(|it| names(it, host))) {
            let text = format!("another server of the port has {} already", host.host);
            return unserved("hosts", text, "give every host one server");
        }
        Ok(Served {
            gateway,
            entry,
            index,
            hosts,
            terms,
        })
    }

    fn port(
        &self,
        port: u16,
        servers: &[Served<'a>],
        view: &mut GatewayView,
        guards: &mut Guards<'_, '_>,
        problems: &mut Vec<Problem>,
    ) {
        let target = Target::Gateway {
            gateway: GatewayTarget {
                namespace: &self.own.namespace,
                name: &self.own.name,
                class: self.class,
            },
            labels: self.listeners.labels,
        };
        let mut listen = |name: Arc<str>, host, tls, routes, problems: &mut Vec<Problem>| {
            view.add(Arc::new(ListenerView {
                place: Arc::new(Place::Listener { name: name.clone() }),
                name,
                port,
                host,
                tls,
                passes_tls: false,
                routes,
                connections: None,
                gate: guards.gate(&target, problems),
            }));
        };
        if servers.first().is_some_and(|it| it.terms.is_none()) {
            let routes = self.routes(port, servers, problems);
            // Hosts that no server has are none of the table's.
            listen(
                format!("istio/{port}").into(),
                HostPattern::Any,
                None,
                routes,
                problems,
            );
            return;
        }
        for it in servers {
            let routes = self.routes(port, std::slice::from_ref(it), problems);
            for (at, host) in it.hosts.iter().enumerate() {
                let name: Arc<str> = format!("{}/{}/{at}", name_of(it.gateway), it.index).into();
                let terms = it.terms.as_ref().map(|terms| self.listeners.kept(&name, terms));
                listen(name, host.host.clone(), terms, routes.clone(), problems);
            }
        }
    }

    /// What servers of one port route by: of each Gateway those VirtualServices that are bound to it, on the hosts that they
    /// have in common.
    fn routes(&self, port: u16, servers: &[Served<'a>], problems: &mut Vec<Problem>) -> Arc<RouteTable> {
        let mut builder = RouteTableBuilder::default();
        for it in servers {
            if it.redirects() {
                it.redirect(&mut builder);
                continue;
            }
            let name = name_of(it.gateway);
            let scope = Scope {
                gateway: &name,
                port,
                labels: Some(self.listeners.labels),
                namespace: &self.own.namespace,
                registry: self.registry,
                domain: self.domain,
            };
            let hosts = |namespace: &str| {
                let admits = |it: &&ServerHost| it.namespace.as_ref().is_none_or(|own| **own == *namespace);
                it.hosts.iter().filter(admits).map(|it| it.host.clone()).collect()
            };
            for (bound, hosts) in self
                .virtual_services
                .for_gateway(&name, &self.own.namespace, hosts)
            {
                bound.add(&mut builder, &hosts, &scope, problems);
            }
        }
        let mut table = builder.build();
        self.listeners
            .sessions
            .complete(&mut table, self.listeners.clusters);
        Arc::new(table)
    }
}

impl Served<'_> {
    /// Whether callers in the clear are sent to HTTPS.
    fn redirects(&self) -> bool {
        let server = self.gateway.spec.servers.get(self.index);
        self.terms.is_none()
            && server
                .and_then(|it| it.tls.as_ref())
                .is_some_and(|it| it.https_redirect)
    }

    fn redirect(&self, builder: &mut RouteTableBuilder) {
        let origin = RuleOrigin::new(self.entry.reference(), self.index as u32, None);
        let to_https = Action::Redirect(Redirect {
            scheme: Some("https".into()),
            host: None,
            port: RedirectPort::Kept,
            path: None,
            status: StatusCode::MOVED_PERMANENTLY,
        });
        let rule = builder.rule(RouteRule::new(origin, to_https), None);
        let hosts: Vec<HostPattern> = self.hosts.iter().map(|it| it.host.clone()).collect();
        builder.listed(rule, 0, &hosts, Conditions::default());
    }
}

/// Why a server is not served; without a remedy where there is nothing to do but wait.
struct Unserved {
    field: &'static str,
    text: String,
    remedy: &'static str,
}

fn unserved<T>(field: &'static str, text: impl Into<String>, remedy: &'static str) -> Result<T, Unserved> {
    Err(Unserved {
        field,
        text: text.into(),
        remedy,
    })
}

/// `namespace/name`, as VirtualServices mean it.
fn name_of(gateway: &IstioGateway) -> String {
    format!("{}/{}", gateway.metadata.namespace, gateway.metadata.name)
}

/// A host, perhaps with a namespace before it: `.` is the Gateway's own, `*` any, and so is none.
fn host(text: &str, own: &str) -> Option<ServerHost> {
    let (namespace, host) = match text.split_once('/') {
        None | Some(("*", _)) => (None, text.rsplit('/').next().unwrap_or(text)),
        Some((".", host)) => (Some(own.into()), host),
        Some((namespace, host)) => (Some(namespace.into()), host),
    };
    (!host.is_empty()).then_some(())?;
    let host = HostPattern::parse(host).ok()?;
    Some(ServerHost { namespace, host })
}
