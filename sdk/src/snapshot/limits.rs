//! Rate limits: which a request meets where it comes in, and as what it counts.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use smallvec::SmallVec;

use super::{InboundPolicy, Place, Shedding, Snapshot, Way};
use crate::name::{Host, ResourceRef, ServiceName};
use crate::policy::RequestHead;
use crate::policy::limit::{Around, Describe, LocalLimit};
use crate::policy::route::RouteRule;

/// All rate limits of this process.
#[derive(Debug, Default)]
pub struct RateLimits {
    /// What keeps limits, in the order in which it is asked.
    pub limiters: Vec<(Scope, Arc<Limiter>)>,
    /// What is said of virtual hosts and routes.
    pub settings: Vec<Setting>,
    /// Whether any of them is for certain routes only.
    pub by_route: bool,
}

/// What keeps a limit.
#[derive(Debug)]
pub struct Limiter {
    /// Where it is written.
    pub by: ResourceRef,
    /// Its name there; what is said of routes may take its place.
    pub kind: Kind,
}

/// Who keeps it.
#[derive(Debug)]
pub enum Kind {
    /// This process; `None` where only routes say how much.
    Local(Option<Arc<LocalLimit>>),
    /// A service that is asked.
    Global(Arc<GlobalLimit>),
    /// This process, as latency has it: of what is under way at once.
    Adaptive(Arc<Shedding>),
}

pub use Kind as LimiterKind;

/// A service that keeps a limit (Envoy's `ratelimit` filter).
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalLimit {
    /// What the service calls us.
    pub domain: Arc<str>,
    /// The service.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether requests are refused where it cannot be asked.
    pub deny: bool,
    /// The status of a refusal.
    pub status: StatusCode,
    /// The status where it cannot be asked.
    pub status_on_error: StatusCode,
    /// Whether gRPC is told `RESOURCE_EXHAUSTED` rather than `UNAVAILABLE`.
    pub exhausted: bool,
    /// Whether a refusal says `x-envoy-ratelimited`.
    pub marks: bool,
    /// Whether callers are told what is left (`x-ratelimit-*`).
    pub tells: bool,
    /// Which of the descriptors with several stages count.
    pub stage: u32,
}

/// Where something applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// At which kind of place.
    pub context: Context,
    /// For this service only.
    pub service: Option<ServiceName>,
}

/// Kinds of places, as Envoy filters name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Context {
    /// Every place.
    #[default]
    Any,
    /// A Gateway's own listeners.
    Gateway,
    /// Where requests come in to a workload, or to the waypoint before it.
    Inbound,
}

/// What is said of virtual hosts or routes.
#[derive(Debug)]
pub struct Setting {
    /// Where.
    pub scope: Scope,
    /// `host:port` or `inbound|http|port`; every virtual host if empty.
    pub vhost: Box<str>,
    /// One route by its name; all of the virtual host if `None`. An empty name is every route, each for itself.
    pub route: Option<Box<str>>,
    /// As what its requests count.
    pub describes: Vec<Describe>,
    /// What of it this process keeps, in place of what the limiter says.
    pub local: Option<Arc<LocalLimit>>,
}

/// What one request meets.
#[derive(Debug, Default)]
pub struct Met<'s> {
    /// What keeps limits.
    pub limiters: SmallVec<[&'s Limiter; 2]>,
    /// As what the request counts.
    pub describes: SmallVec<[&'s Describe; 4]>,
    /// What its route or virtual host says in place of the local limiter.
    pub local: Option<&'s Arc<LocalLimit>>,
}

impl RateLimits {
    /// Whether there is no limit at all.
    pub fn is_empty(&self) -> bool {
        self.limiters.is_empty()
    }
}

impl Snapshot {
    /// The rate limits that a request meets at a place.
    pub fn limits_at<'s>(&'s self, place: &Place, head: &RequestHead<'_>) -> Met<'s> {
        let mut met = Met::default();
        let limits = &self.limits;
        let within = |scope: &Scope| self.is_within(place, scope);
        met.limiters.extend(
            limits
                .limiters
                .iter()
                .filter(|(scope, _)| within(scope))
                .map(|(_, it)| &**it),
        );
        if met.limiters.is_empty() {
            return met;
        }
        // Asked twice, here and by whoever routes: only where something is said of one route.
        let rule = limits.by_route.then(|| self.rule_at(place, head)).flatten();
        // What a route says counts before what its virtual host says.
        for of_route in [true, false] {
            for setting in &limits.settings {
                let fits = match &setting.route {
                    None => !of_route,
                    Some(name) => {
                        of_route
                            && rule.is_none_or(|rule| is_named(rule, name))
                            && (rule.is_some() || name.is_empty())
                    }
                };
                if !(fits && within(&setting.scope) && is_host(&setting.vhost, place, head)) {
                    continue;
                }
                met.describes.extend(&setting.describes);
                met.local = met.local.or(setting.local.as_ref());
            }
            if !met.describes.is_empty() && of_route {
                break;
            }
        }
        met
    }

    /// What descriptors may say beside the request: who we are to each other, in Istio's names.
    pub fn around(&self, place: &Place) -> (String, String) {
        let me = &self.me;
        let source = format!("{}.{}", me.app, me.namespace);
        let destination = match place {
            Place::Workload { port } | Place::Pod { port, .. } => format!("inbound|{port}||"),
            Place::Service { host, port } => format!("inbound-vip|{port}|http|{host}"),
            Place::Port { .. } | Place::Listener { .. } => String::new(),
        };
        (source, destination)
    }

    fn rule_at(&self, place: &Place, head: &RequestHead<'_>) -> Option<&RouteRule> {
        let routes = match self.way(Some(place), "", None).ok()? {
            Way::Service(_, port) => &port.routes,
            Way::Listener(listener) => &listener.routes,
            _ => return None,
        };
        routes.rule(routes.find(head)?.rule)
    }

    fn is_within(&self, place: &Place, scope: &Scope) -> bool {
        let is_gateways = matches!(place, Place::Listener { .. } | Place::Port { .. });
        let fits = match scope.context {
            Context::Any => true,
            Context::Gateway => is_gateways,
            Context::Inbound => !is_gateways,
        };
        fits && scope.service.as_ref().is_none_or(|wanted| match place {
            Place::Service { host, .. } => {
                let found = self.service_by_host(host).and_then(|id| self.service(id));
                found.is_some_and(|it| it.name == *wanted)
            }
            Place::Workload { port } => match &self.inbound {
                InboundPolicy::Workload(policy) => {
                    let guards = policy.ports.get(port).into_iter().flatten();
                    guards.into_iter().any(|guard| guard.service == *wanted)
                }
                _ => false,
            },
            _ => false,
        })
    }
}

/// Whether a route has this name: its own, or that of its resource and its place there.
fn is_named(rule: &RouteRule, name: &str) -> bool {
    let origin = &rule.origin;
    name.is_empty()
        || origin.name.as_deref() == Some(name)
        || *origin.label == *name
        || is_istios_name(name, &origin.resource, origin.rule)
}

/// Istio's name of a Gateway API rule: `namespace.name.index`.
fn is_istios_name(text: &str, route: &ResourceRef, index: u32) -> bool {
    let rest = text
        .strip_prefix(&*route.namespace)
        .and_then(|it| it.strip_prefix('.'));
    let rest = rest
        .and_then(|it| it.strip_prefix(&*route.name))
        .and_then(|it| it.strip_prefix('.'));
    rest.is_some_and(|it| it.parse() == Ok(index))
}

fn is_host(vhost: &str, place: &Place, head: &RequestHead<'_>) -> bool {
    if vhost.is_empty() {
        return true;
    }
    if let Some(port) = vhost.strip_prefix("inbound|http|") {
        return matches!(place, Place::Workload { port: at } | Place::Service { port: at, .. } if port.parse() == Ok(*at));
    }
    let (host, port) = vhost.rsplit_once(':').unwrap_or((vhost, ""));
    let named = head
        .authority
        .rsplit_once(':')
        .map_or(head.authority, |(host, _)| host);
    let at = head.destination.port();
    (host == "*" || host.eq_ignore_ascii_case(named))
        && (port.is_empty() || at == 0 || port.parse() == Ok(at))
}

impl Met<'_> {
    /// What descriptors may say beside the request.
    pub fn around<'a>(source: &'a str, destination: &'a str) -> Around<'a> {
        Around {
            source_cluster: source,
            destination_cluster: destination,
        }
    }
}
