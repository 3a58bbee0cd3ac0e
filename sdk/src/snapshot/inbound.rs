//! The question every server asks: may this caller do this here? One function, whatever the process is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    Authorizer, ClientTerms, Gate, InboundPolicy, ServiceGuard, Snapshot, WaypointInbound, WorkloadInbound,
};
use crate::name::{Host, SpiffeId};
use crate::policy::authz::{AuthzEngine, Decision, RuleRef, RuleTold};
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
    /// At a port of a Gateway: which of its listeners is meant, the host of each request says.
    Port {
        /// The port that the Gateway declares.
        port: u16,
        /// What clients had to prove when the connection was made, where TLS is spoken.
        admitted: Option<Arc<ClientTerms>>,
    },
    /// At a Gateway's own listener.
    Listener {
        /// The listener's name.
        name: Arc<str>,
    },
}

/// One gate on the way of a request.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'s> {
    /// The gate.
    pub gate: &'s Gate,
    /// The port that its policies judge, where that is not the one addressed: policies that target a service judge the
    /// service's port, at the waypoint and at the workload alike.
    pub port: Option<u16>,
}

impl Passage<'_> {
    /// The request as this gate sees it.
    pub fn head<'h>(&self, head: &RequestHead<'h>) -> RequestHead<'h> {
        let mut head = *head;
        if let Some(port) = self.port {
            head.destination.set_port(port);
        }
        head
    }
}

/// The gates on the way of a request, in the order in which they are asked. All must open.
pub type Passages<'s> = SmallVec<[Passage<'s>; 2]>;

/// What was found out about a request on its way to authorization, gate by gate.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    consulted: bool,
    claims: SmallVec<[Option<Arc<Claims>>; 2]>,
}

/// The claims of a verified token.
pub type Claims = serde_json::Map<String, serde_json::Value>;

impl Findings {
    /// Notes that every external authorizer that had to be asked has been, and allowed the request.
    pub fn consulted(&mut self) {
        self.consulted = true;
    }

    /// Notes whose token the next gate believes.
    pub fn push(&mut self, claims: Option<Arc<Claims>>) {
        self.claims.push(claims);
    }

    /// The claims that a gate believes; the first gate is 0.
    pub fn claims(&self, gate: usize) -> Option<&Arc<Claims>> {
        self.claims.get(gate)?.as_ref()
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
    /// At an edge of the mesh, how many proxies in front of it may be believed about who calls (Envoy's
    /// `use_remote_address` and `xff_num_trusted_hops`).
    pub(crate) fn edge(&self, place: &Place) -> Option<u32> {
        let is_edge = matches!(place, Place::Port { .. } | Place::Listener { .. });
        is_edge.then(|| self.mesh.as_ref().map_or(0, |mesh| mesh.trusted_proxies))
    }

    /// The gates that a request at `place` has to pass.
    ///
    /// # Errors
    /// Why it passes none.
    pub fn passages(&self, place: &Place, caller: Option<&SpiffeId>) -> Result<Passages<'_>, &'static str> {
        let mut passages = Passages::new();
        let of_service = |guard: &ServiceGuard| Some(guard.port);
        match (&self.inbound, place) {
            (InboundPolicy::DenyAll, _) => return Err(NOTHING),
            (InboundPolicy::Workload(policy), Place::Workload { port }) => {
                passages.push(Passage {
                    gate: &policy.http,
                    port: None,
                });
                // What comes from a service's waypoint was judged there.
                let asked = guards(policy, *port, caller).map(|guard| Passage {
                    gate: &guard.http,
                    port: of_service(guard),
                });
                passages.extend(asked);
            }
            (InboundPolicy::Waypoint(policy), Place::Service { host, port }) => {
                let guard = self.guard(policy, host, *port).ok_or(ELSEWHERE)?;
                passages.push(Passage {
                    gate: &guard.http,
                    port: of_service(guard),
                });
            }
            (InboundPolicy::Waypoint(policy), Place::Pod { ip, .. }) => {
                let gate = policy.workloads.get(ip).ok_or(ELSEWHERE)?;
                passages.push(Passage { gate, port: None });
            }
            (InboundPolicy::Waypoint(_), Place::Listener { name }) => {
                let listener = self.gateway.listener(name).ok_or(ELSEWHERE)?;
                passages.push(Passage {
                    gate: &listener.gate,
                    port: None,
                });
            }
            _ => return Err(ELSEWHERE),
        }
        Ok(passages)
    }

    /// Judges a request that came in at `place`, with the claims that its head names.
    pub fn authorize(&self, place: &Place, head: &RequestHead<'_>) -> Decision<'_> {
        self.authorize_found(place, head, &Findings::default())
    }

    /// Judges a request that came in at `place`, with what was found out about it on the way here.
    pub fn authorize_found(&self, place: &Place, head: &RequestHead<'_>, found: &Findings) -> Decision<'_> {
        let passages = match self.passages(place, head.caller.identity) {
            Ok(passages) => passages,
            Err(why) => return Decision::Deny { by: None, why },
        };
        let mut answer = Decision::Allow { by: None };
        for (index, passage) in passages.iter().enumerate() {
            let mut head = passage.head(head);
            if let Some(claims) = found.claims(index) {
                head.claims = Some(claims);
            }
            let authz = &passage.gate.authz;
            let decision = match found.consulted {
                true => authz.decide_consulted(&head),
                false => authz.decide(&head),
            };
            answer = stricter(answer, decision);
            if matches!(answer, Decision::Deny { .. }) {
                break;
            }
        }
        answer
    }

    /// Judges a connection that is not HTTP, or not yet, and that no external authorizer has been asked about.
    pub fn authorize_connection(&self, place: &Place, head: &ConnectionHead<'_>) -> Decision<'_> {
        self.connection(place, head, AuthzEngine::decide_connection)
    }

    /// Judges a connection that the external authorizers have allowed, where [`Snapshot::consults`] asked for it.
    pub fn authorize_consulted_connection(&self, place: &Place, head: &ConnectionHead<'_>) -> Decision<'_> {
        self.connection(place, head, AuthzEngine::decide_consulted_connection)
    }

    /// The external authorizers that must be asked about a connection.
    pub fn consults(&self, place: &Place, head: &ConnectionHead<'_>) -> Vec<Arc<Authorizer>> {
        let asked = |engine: &AuthzEngine, head: &ConnectionHead<'_>| {
            let (_, name) = engine.consult_connection(head)?;
            self.mesh.as_ref()?.authorizers.get(name)?.as_ref().ok().cloned()
        };
        let asks = |guard: &ServiceGuard| {
            let mut head = *head;
            head.destination.set_port(guard.port);
            asked(&guard.tcp, &head)
        };
        match (&self.inbound, place) {
            (InboundPolicy::Workload(policy), Place::Workload { port }) => {
                guards(policy, *port, head.caller.identity)
                    .filter_map(asks)
                    .collect()
            }
            (InboundPolicy::Waypoint(policy), Place::Service { host, port }) => self
                .guard(policy, host, *port)
                .and_then(asks)
                .into_iter()
                .collect(),
            (InboundPolicy::Waypoint(_), Place::Listener { name }) => {
                let listener = self.gateway.listener(name);
                let passed = listener.and_then(|it| it.connections.as_ref());
                passed.and_then(|it| asked(&it.authz, head)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn connection<'s>(
        &'s self,
        place: &Place,
        head: &ConnectionHead<'_>,
        decide: impl Fn(&'s AuthzEngine, &ConnectionHead<'_>) -> Decision<'s>,
    ) -> Decision<'s> {
        let engines = match self.engines(place, head) {
            Ok(engines) => engines,
            Err(why) => return Decision::Deny { by: None, why },
        };
        let mut answer = Decision::Allow { by: None };
        for (engine, head) in engines {
            answer = stricter(answer, decide(engine, &head));
            if matches!(answer, Decision::Deny { .. }) {
                break;
            }
        }
        answer
    }

    /// The engines that judge a connection at `place`, in the order in which they are asked, each with the connection as
    /// it sees it. All must allow.
    fn engines<'h>(
        &self,
        place: &Place,
        head: &ConnectionHead<'h>,
    ) -> Result<SmallVec<[(&AuthzEngine, ConnectionHead<'h>); 2]>, &'static str> {
        let mut engines = SmallVec::new();
        let of_service = |guard: &ServiceGuard| {
            let mut head = *head;
            head.destination.set_port(guard.port);
            head
        };
        match (&self.inbound, place) {
            (InboundPolicy::DenyAll, _) => return Err(NOTHING),
            (InboundPolicy::Workload(policy), Place::Workload { port }) => {
                engines.push((&*policy.l4, *head));
                let guards = guards(policy, *port, head.caller.identity);
                engines.extend(guards.map(|guard| (&*guard.tcp, of_service(guard))));
            }
            (InboundPolicy::Waypoint(policy), Place::Service { host, port }) => {
                let guard = self.guard(policy, host, *port).ok_or(ELSEWHERE)?;
                engines.push((&*guard.tcp, of_service(guard)));
            }
            (InboundPolicy::Waypoint(policy), Place::Pod { ip, .. }) => {
                let gate = policy.workloads.get(ip).ok_or(ELSEWHERE)?;
                engines.push((&*gate.authz, *head));
            }
            (InboundPolicy::Waypoint(_), Place::Listener { name }) => {
                let listener = self.gateway.listener(name).ok_or(ELSEWHERE)?;
                let passed = listener.connections.as_ref().ok_or(ELSEWHERE)?;
                engines.push((&*passed.authz, *head));
            }
            _ => return Err(ELSEWHERE),
        }
        Ok(engines)
    }

    /// What every rule on the way makes of a connection: for people.
    pub fn connection_rules_told(&self, place: &Place, head: &ConnectionHead<'_>) -> Vec<RuleTold<'_>> {
        let engines = self.engines(place, head).unwrap_or_default();
        let told = engines
            .iter()
            .flat_map(|(engine, head)| engine.explain_connection(head));
        told.collect()
    }

    fn guard<'s>(&self, policy: &'s WaypointInbound, host: &Host, port: u16) -> Option<&'s ServiceGuard> {
        let guards = policy.services.get(&self.service_by_host(host)?)?;
        guards.iter().find(|guard| guard.port == port)
    }

    /// What policies that decide nothing say of a request: AUDIT rules that match, and what dry-run policies would have
    /// decided. Costs nothing where there are none.
    pub fn remarks<'s>(
        &'s self,
        place: &Place,
        head: &RequestHead<'_>,
        found: &Findings,
        mut say: impl FnMut(Remark<'s>),
    ) {
        let passages = self.passages(place, head.caller.identity).unwrap_or_default();
        for (index, passage) in passages.iter().enumerate() {
            let mut head = passage.head(head);
            if let Some(claims) = found.claims(index) {
                head.claims = Some(claims);
            }
            if let Some(rule) = passage.gate.authz.audit(&head) {
                say(Remark::Audited(rule));
            }
            if let Some(decision) = passage.gate.authz.shadow(&head) {
                say(Remark::DryRun(decision));
            }
        }
    }

    /// What every rule on the way makes of a request, gate by gate: for people, not for the request path.
    pub fn rules_told(&self, place: &Place, head: &RequestHead<'_>, found: &Findings) -> Vec<RuleTold<'_>> {
        self.tell(place, head, found, |gate, head| gate.authz.explain(head))
    }

    /// What one rule on the way makes of a request: the one that a decision named.
    pub fn rule_told(
        &self,
        place: &Place,
        head: &RequestHead<'_>,
        found: &Findings,
        by: &RuleRef,
    ) -> Option<RuleTold<'_>> {
        let told = self.tell(place, head, found, |gate, head| gate.authz.explain_rule(head, by));
        told.into_iter().find(RuleTold::applies)
    }

    fn tell<'s, T: IntoIterator<Item = RuleTold<'s>>>(
        &'s self,
        place: &Place,
        head: &RequestHead<'_>,
        found: &Findings,
        ask: impl Fn(&'s Gate, &RequestHead<'_>) -> T,
    ) -> Vec<RuleTold<'s>> {
        let passages = self.passages(place, head.caller.identity).unwrap_or_default();
        let mut told: Vec<RuleTold<'s>> = Vec::new();
        // Gates share engines where the same policies attach; what says the same twice is said once.
        let mut known: HashMap<*const RuleRef, usize> = HashMap::new();
        for (index, passage) in passages.iter().enumerate() {
            let mut head = passage.head(head);
            if let Some(claims) = found.claims(index) {
                head.claims = Some(claims);
            }
            for rule in ask(passage.gate, &head) {
                let at = *known.entry(std::ptr::from_ref(rule.by)).or_insert(told.len());
                if told.get(at) != Some(&rule) {
                    told.push(rule);
                }
            }
        }
        told
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

    /// Whether this is a waypoint or gateway that took a connection in for a place of which it knows nothing in this
    /// generation: what was asked for by name has been taken away.
    pub fn has_lost(&self, place: &Place) -> bool {
        matches!(self.inbound, InboundPolicy::Waypoint(_)) && !self.serves(place)
    }

    /// Whether a waypoint or gateway serves this place in this generation.
    pub fn serves(&self, place: &Place) -> bool {
        match (&self.inbound, place) {
            (InboundPolicy::Waypoint(policy), Place::Service { host, port }) => self
                .service_by_host(host)
                .and_then(|id| policy.services.get(&id))
                .is_some_and(|guards| guards.iter().any(|guard| guard.port == *port)),
            (InboundPolicy::Waypoint(policy), Place::Pod { ip, .. }) => policy.workloads.contains_key(ip),
            (InboundPolicy::Waypoint(_), Place::Listener { name }) => self.gateway.listener(name).is_some(),
            (InboundPolicy::Waypoint(_), Place::Port { port, .. }) => self.gateway.port(*port).is_some(),
            (_, Place::Workload { .. }) => true,
            _ => false,
        }
    }
}

const NOTHING: &str = "no configuration has been loaded yet";
const ELSEWHERE: &str = "the configuration does not place this destination here";

/// The guards of a local port that a caller has to pass: what comes from a service's waypoint was judged there.
fn guards<'s>(
    policy: &'s WorkloadInbound,
    port: u16,
    caller: Option<&SpiffeId>,
) -> impl Iterator<Item = &'s ServiceGuard> {
    let guards = policy.ports.get(&port).map(Vec::as_slice).unwrap_or_default();
    guards
        .iter()
        .filter(move |guard| !caller.is_some_and(|caller| guard.waypoints.contains(caller)))
}

/// Both must allow; an allowance that names a rule is worth more to a reader than one by default.
fn stricter<'s>(first: Decision<'s>, second: Decision<'s>) -> Decision<'s> {
    match (first, second) {
        (Decision::Deny { .. }, _) => first,
        (Decision::Allow { by: Some(_) }, Decision::Allow { by: None }) => first,
        _ => second,
    }
}
