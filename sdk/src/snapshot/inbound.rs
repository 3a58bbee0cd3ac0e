//! The question every server asks: may this caller do this here? One function, whatever the process is.

use std::net::IpAddr;
use std::sync::Arc;

use super::{InboundPolicy, ServiceGuard, Snapshot};
use crate::name::{Host, SpiffeId};
use crate::policy::authz::{AuthzEngine, Decision, RuleRef};
use crate::policy::{ConnectionHead, RequestHead};

/// Where something came in: what a server knows of a connection before it reads a request.
///
/// Holds names, not indices, so that a connection may outlive a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// At a workload, for the application behind this local port.
    Workload {
        /// The port.
        port: u16,
    },
    /// At a waypoint, for this service port.
    Service {
        /// The service's fully qualified host.
        host: Host,
        /// The service port.
        port: u16,
    },
    /// At a waypoint, for this workload (pod-addressed).
    Pod {
        /// The workload's address.
        ip: IpAddr,
        /// The workload's port.
        port: u16,
    },
    /// At a Gateway's own listener.
    Listener {
        /// The listener's name.
        name: Arc<str>,
    },
}

/// What is asked of an engine: a request or a connection.
enum Question<'q, 'h> {
    Request(&'q RequestHead<'h>),
    Connection(&'q ConnectionHead<'h>),
}

impl Question<'_, '_> {
    fn ask<'s>(&self, engine: &'s AuthzEngine) -> Decision<'s> {
        match self {
            Self::Request(head) => engine.decide(head),
            Self::Connection(head) => engine.decide_connection(head),
        }
    }

    fn guard<'s>(&self, guard: &'s ServiceGuard) -> Decision<'s> {
        // Policies that target a service judge the service's port, at the waypoint and at the workload alike.
        match *self {
            Self::Request(head) => {
                let mut head = *head;
                head.destination.set_port(guard.port);
                guard.http.decide(&head)
            }
            Self::Connection(head) => {
                let mut head = *head;
                head.destination.set_port(guard.port);
                guard.tcp.decide_connection(&head)
            }
        }
    }

    fn caller(&self) -> Option<&SpiffeId> {
        match self {
            Self::Request(head) => head.caller.identity,
            Self::Connection(head) => head.caller.identity,
        }
    }
}

/// What a policy that decides nothing says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark<'s> {
    /// An AUDIT rule matches.
    Audited(&'s RuleRef),
    /// What the dry-run policies would have decided.
    DryRun(Decision<'s>),
}

impl Snapshot {
    /// Judges a request that came in at `place`.
    pub fn authorize(&self, place: &Place, head: &RequestHead<'_>) -> Decision<'_> {
        self.judge(place, &Question::Request(head))
    }

    /// Judges a connection that is not HTTP, or not yet.
    pub fn authorize_connection(&self, place: &Place, head: &ConnectionHead<'_>) -> Decision<'_> {
        self.judge(place, &Question::Connection(head))
    }

    fn judge(&self, place: &Place, question: &Question<'_, '_>) -> Decision<'_> {
        const ELSEWHERE: Decision<'static> = Decision::Deny {
            by: None,
            why: "the configuration does not place this destination here",
        };
        match (&self.inbound, place) {
            (InboundPolicy::DenyAll, _) => Decision::Deny {
                by: None,
                why: "no configuration has been loaded yet",
            },
            (InboundPolicy::Workload(policy), Place::Workload { port }) => {
                let own = match question {
                    Question::Request(_) => &policy.http,
                    Question::Connection(_) => &policy.l4,
                };
                let mut answer = question.ask(own);
                for guard in policy.ports.get(port).map(Vec::as_slice).unwrap_or_default() {
                    if matches!(answer, Decision::Deny { .. }) {
                        break;
                    }
                    if !question
                        .caller()
                        .is_some_and(|caller| guard.waypoints.contains(caller))
                    {
                        answer = stricter(answer, question.guard(guard));
                    }
                }
                answer
            }
            (InboundPolicy::Waypoint(policy), Place::Service { host, port }) => self
                .service_by_host(host)
                .and_then(|id| policy.services.get(&id))
                .and_then(|guards| guards.iter().find(|guard| guard.port == *port))
                .map_or(ELSEWHERE, |guard| question.guard(guard)),
            (InboundPolicy::Waypoint(policy), Place::Pod { ip, .. }) => policy
                .workloads
                .get(ip)
                .map_or(ELSEWHERE, |engine| question.ask(engine)),
            (InboundPolicy::Waypoint(_), Place::Listener { name }) => self
                .listeners
                .iter()
                .find(|listener| listener.name == *name)
                .map_or(ELSEWHERE, |listener| question.ask(&listener.authz)),
            _ => ELSEWHERE,
        }
    }

    /// What policies that decide nothing say of a request: AUDIT rules that match, and what dry-run policies would have
    /// decided. Costs nothing where there are none.
    pub fn remarks<'s>(&'s self, place: &Place, head: &RequestHead<'_>, mut say: impl FnMut(Remark<'s>)) {
        let mut ask = |engine: &'s AuthzEngine, port: Option<u16>| {
            let mut head = *head;
            if let Some(port) = port {
                head.destination.set_port(port);
            }
            if let Some(rule) = engine.audit(&head) {
                say(Remark::Audited(rule));
            }
            if let Some(decision) = engine.shadow(&head) {
                say(Remark::DryRun(decision));
            }
        };
        match (&self.inbound, place) {
            (InboundPolicy::Workload(policy), Place::Workload { port }) => {
                ask(&policy.http, None);
                for guard in policy.ports.get(port).into_iter().flatten() {
                    if !head
                        .caller
                        .identity
                        .is_some_and(|caller| guard.waypoints.contains(caller))
                    {
                        ask(&guard.http, Some(guard.port));
                    }
                }
            }
            (InboundPolicy::Waypoint(policy), Place::Service { host, port }) => {
                let guards = self.service_by_host(host).and_then(|id| policy.services.get(&id));
                for guard in guards.into_iter().flatten().filter(|guard| guard.port == *port) {
                    ask(&guard.http, Some(guard.port));
                }
            }
            (InboundPolicy::Waypoint(policy), Place::Pod { ip, .. }) => {
                if let Some(engine) = policy.workloads.get(ip) {
                    ask(engine, None);
                }
            }
            (InboundPolicy::Waypoint(_), Place::Listener { name }) => {
                for listener in self.listeners.iter().filter(|listener| listener.name == *name) {
                    ask(&listener.authz, None);
                }
            }
            _ => {}
        }
    }

    /// Whether a peer may speak for the callers behind it: it is a waypoint that the configuration binds to what was
    /// called here.
    pub fn may_introduce(&self, place: &Place, peer: &SpiffeId) -> bool {
        let (InboundPolicy::Workload(policy), Place::Workload { port }) = (&self.inbound, place) else {
            return false;
        };
        let guards = policy.ports.get(port).into_iter().flatten();
        policy.waypoints.contains(peer) || guards.into_iter().any(|guard| guard.waypoints.contains(peer))
    }

    /// Whether plaintext is refused on a workload's port.
    pub fn is_strict(&self, port: u16) -> bool {
        match &self.inbound {
            InboundPolicy::Workload(policy) => policy.strict.is_strict(port),
            // Nothing known, or a process whose plain listeners are its Gateway's own.
            InboundPolicy::DenyAll => true,
            InboundPolicy::Waypoint(_) => false,
        }
    }

    /// Whether a waypoint or gateway serves this place in this generation.
    pub fn serves(&self, place: &Place) -> bool {
        match (&self.inbound, place) {
            (InboundPolicy::Waypoint(policy), Place::Service { host, port }) => self
                .service_by_host(host)
                .and_then(|id| policy.services.get(&id))
                .is_some_and(|guards| guards.iter().any(|guard| guard.port == *port)),
            (InboundPolicy::Waypoint(policy), Place::Pod { ip, .. }) => policy.workloads.contains_key(ip),
            (InboundPolicy::Waypoint(_), Place::Listener { name }) => {
                self.listeners.iter().any(|listener| listener.name == *name)
            }
            (_, Place::Workload { .. }) => true,
            _ => false,
        }
    }
}

/// Both must allow; an allowance that names a rule is worth more to a reader than one by default.
fn stricter<'s>(first: Decision<'s>, second: Decision<'s>) -> Decision<'s> {
    match (first, second) {
        (Decision::Deny { .. }, _) => first,
        (Decision::Allow { by: Some(_) }, Decision::Allow { by: None }) => first,
        _ => second,
    }
}
