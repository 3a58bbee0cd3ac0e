//! `TLSRoute` and `TCPRoute` to rules of a [`ConnectionTable`].
//!
//! TLSRoutes come before TCPRoutes, which take whatever is left. Of two TLSRoutes the one with the more specific host
//! name decides, of two that want the same the older, then the first by `namespace/name` (Gateway API, "Conflicts").
//!
//! [`ConnectionTable`]: crate::policy::connection::ConnectionTable

use std::cmp::Reverse;
use std::sync::Arc;

use super::attach::{hosts, to_listener, to_service, within};
use super::{Backends as Resolve, PortRef, Route, RouteInput, Unresolved};
use crate::compile::findings::Findings;
use crate::config::gateway::{BackendRef, Listener};
use crate::config::{Problem, Severity};
use crate::matcher::HostPattern;
use crate::name::{ResourceRef, ServiceName};
use crate::policy::connection::{ConnectionRule, ConnectionTableBuilder, Opens};
use crate::policy::route::{Backend, Backends, RuleId, RuleOrigin, Target};

/// Adds the rules of those routes that have a `parentRef` to a port of a service.
pub(crate) fn connections_of_service(
    builder: &mut ConnectionTableBuilder,
    routes: &[RouteInput<'_>],
    service: &ServiceName,
    port: PortRef<'_>,
    resolve: &mut dyn Resolve,
    problems: &mut Vec<Problem>,
) {
    let attached = routes.iter().filter(|it| to_service(it.route, service, port));
    let attached = attached.map(|it| (*it, within(it, &HostPattern::Any, problems)));
    let attached: Vec<_> = attached.collect();
    add(builder, attached, resolve, problems);
}

/// Adds the rules of those routes that have a `parentRef` to a listener of a Gateway or of a ListenerSet and share a host name with it.
pub(crate) fn connections_of_listener(
    builder: &mut ConnectionTableBuilder,
    routes: &[RouteInput<'_>],
    owner: &ResourceRef,
    listener: &Listener,
    resolve: &mut dyn Resolve,
    problems: &mut Vec<Problem>,
) {
    let attached = routes.iter().filter(|it| to_listener(it.route, owner, listener));
    let attached = attached.map(|it| (*it, hosts(it, listener, problems)));
    let attached: Vec<_> = attached.collect();
    add(builder, attached, resolve, problems);
}

/// What a rule is for, and where that stands among all.
struct Wish<'a> {
    opens: Opens,
    order: (u8, Reverse<usize>),
    rule: RuleId,
    input: RouteInput<'a>,
    index: usize,
}

fn add(
    builder: &mut ConnectionTableBuilder,
    attached: Vec<(RouteInput<'_>, Vec<HostPattern>)>,
    resolve: &mut dyn Resolve,
    problems: &mut Vec<Problem>,
) {
    let mut wishes = Vec::new();
    for (input, hosts) in attached {
        let mut wish = |rule, index| match input.route {
            Route::Tls(_) => wishes.extend(hosts.iter().map(|host| Wish {
                opens: Opens::Tls(host.clone()),
                order: host.order(),
                rule,
                input,
                index,
            })),
            _ => wishes.push(Wish {
                opens: Opens::Anyhow,
                order: (u8::MAX, Reverse(0)),
                rule,
                input,
                index,
            }),
        };
        if input.route.connection_rules().is_empty() {
            let why = "the route has no rules";
            // Attached all the same: what it is for is not let through.
            wish(builder.rule(rule(&input, 0, None, Err(why.into()))), 0);
            problems.push(input.entry.problem(
                Severity::Warning,
                "spec.rules",
                format!("{why}, so its connections are closed"),
                "add a rule",
            ));
        }
        for (index, written) in input.route.connection_rules().iter().enumerate() {
            let mut findings = Findings::new(input.entry, problems, format!("spec.rules[{index}]"));
            let backends = backends(&written.backend_refs, resolve, &mut findings);
            let name = written.name.as_deref().map(Arc::from);
            wish(builder.rule(rule(&input, index, name, backends)), index);
        }
    }
    wishes.sort_by_cached_key(|it| {
        let meta = it.input.route.metadata();
        let created = it.input.route.created().unwrap_or(u64::MAX);
        (
            it.order,
            created,
            meta.namespace.clone(),
            meta.name.clone(),
            it.index,
        )
    });
    for wish in wishes {
        if !builder.on(wish.rule, wish.opens) {
            problems.push(wish.input.entry.problem(
                Severity::Warning,
                format!("spec.rules[{}]", wish.index),
                "another rule, which is older or comes first by name, has the same connections; this one gets none of them",
                "remove one of the two, or tell them apart by port or host name",
            ));
        }
    }
}

fn rule(
    input: &RouteInput<'_>,
    index: usize,
    name: Option<Arc<str>>,
    backends: Result<Backends, Arc<str>>,
) -> ConnectionRule {
    ConnectionRule {
        origin: RuleOrigin::new(input.entry.reference(), index as u32, name),
        backends,
    }
}

/// What cannot be resolved keeps its share, whose connections are closed.
fn backends(
    refs: &[BackendRef],
    resolve: &mut dyn Resolve,
    findings: &mut Findings<'_>,
) -> Result<Backends, Arc<str>> {
    let mut backends = Vec::with_capacity(refs.len());
    for (index, written) in refs.iter().enumerate() {
        let mut findings = findings.part(&format!("backendRefs[{index}]"));
        let target = match resolve.resolve(&findings.route(), &written.target()) {
            Ok(cluster) => Target::Cluster(cluster),
            Err(Unresolved { reason, text }) => {
                findings.unresolved("", format!("{}: {text}", reason.as_str()), reason.remedy());
                Target::Invalid(text.into())
            }
        };
        backends.push(Backend::new(target, written.weight));
    }
    let none = backends.is_empty();
    Backends::new(backends).ok_or_else(|| {
        let why = match none {
            true => "the rule has no backendRefs",
            false => "no backend has a weight",
        };
        findings.report(
            Severity::Warning,
            "backendRefs",
            format!("{why}, so its connections are closed"),
            "name a backend with a weight",
        );
        why.into()
    })
}
