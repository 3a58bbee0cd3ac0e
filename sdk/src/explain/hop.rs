//! One policy point: what the snapshot in force there says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::StatusCode;

use super::authorization::{Case, authorization, destination};
use super::redact::{HIDDEN, is_secret};
use super::{
    Backend, Candidate, Condition, Endpoint, Explanation, Hop, Outcome, Question, Routing, Rule, connection,
    filter,
};
use crate::name::{SpiffeId, with_lower_host};
use crate::policy::RequestHead;
use crate::policy::route::{self, Action, Property, RouteTable, Verdict};
use crate::snapshot::{Astray, Cluster, InboundPolicy, Place, Snapshot, Via, Way};

/// How many endpoints of a backend are shown.
const SHOWN: usize = 20;

/// What happens to a request at one policy point: at `place`, or, without one, in the process that sends it. `peer` is
/// who sends it there, which a waypoint on the way changes; `at` says where that is, in words.
pub fn hop(
    view: &Snapshot,
    place: Option<&Place>,
    question: &Question,
    peer: Option<&SpiffeId>,
    at: impl Into<String>,
) -> Hop {
    if let Some(opens) = &question.opens {
        return connection::hop(view, place, question, opens, peer, at.into());
    }
    let mut hop = blank(view, peer, at.into());
    let target = match question.target(view.paths) {
        Ok(target) => target,
        Err(why) => {
            hop.outcome = refused(StatusCode::BAD_REQUEST, why);
            return hop;
        }
    };
    if let Some(place) = place {
        let head = target.head(peer, destination(view, place));
        let decided = authorization(view, place, &Case::Request(&head), question.values);
        let denied = (!decided.allowed).then(|| decided.why.clone());
        hop.authorization = Some(decided);
        if let Some(why) = denied {
            hop.outcome = refused(StatusCode::FORBIDDEN, why);
            return hop;
        }
        if let Place::Workload { .. } = place {
            return hop;
        }
    }
    match view.way(place, &question.dialled, Some(&question.scheme)) {
        Ok(way) => {
            let port = match way {
                Way::Service(_, port) => port.number,
                Way::Listener(listener) => listener.port,
                Way::Pod(addr) => addr.port(),
            };
            let head = target.head(peer, nowhere(port));
            let (routing, outcome) = routing(view, way, &head);
            hop.routing = Some(routing);
            hop.outcome = outcome;
        }
        Err(astray) => {
            let status = match astray {
                Astray::Authority(_) => StatusCode::BAD_REQUEST,
                _ => StatusCode::NOT_FOUND,
            };
            hop.outcome = refused(status, astray.to_string());
        }
    }
    hop
}

/// Nothing said yet.
pub(super) fn blank(view: &Snapshot, peer: Option<&SpiffeId>, at: String) -> Hop {
    Hop {
        at,
        generation: view.generation,
        peer: peer.map(ToString::to_string),
        authorization: None,
        routing: None,
        outcome: Outcome::Allowed,
    }
}

/// What this process does with a request: receives it where the question says, or where its Gateway would, or sends it.
pub(crate) fn here(view: &Snapshot, question: &Question) -> Explanation {
    let place = question.at.clone().or_else(|| match &view.inbound {
        InboundPolicy::Waypoint(_) => arrival(view, question),
        _ => None,
    });
    let me = format!("{}/{}", view.me.namespace, view.me.name);
    let at = match (&view.inbound, &place) {
        (InboundPolicy::Waypoint(policy), _) => {
            format!("waypoint {}/{}", policy.gateway.namespace, policy.gateway.name)
        }
        (_, Some(_)) => format!("workload {me}"),
        (_, None) => format!("caller {me}"),
    };
    let peer = place.as_ref().and(question.from.as_ref());
    let hop = hop(view, place.as_ref(), question, peer, at);
    let outcome = hop.outcome.clone();
    Explanation::new(question.shown(view.paths), vec![hop], outcome)
}

/// Where at a waypoint or gateway a request comes in: at the service it is for, if that is served, else at a listener.
pub(crate) fn arrival(view: &Snapshot, question: &Question) -> Option<Place> {
    if let Ok(Way::Service(service, port)) = view.way(None, &question.dialled, Some(&question.scheme)) {
        let place = Place::Service {
            host: service.host.clone(),
            port: port.number,
        };
        if view.serves(&place) {
            return Some(place);
        }
    }
    let port = view.gateway.port(question.port())?;
    let named = match &question.opens {
        // Of TLS that is passed on the server name says which listener is meant.
        Some(opens) => opens.server_name().unwrap_or_default(),
        None => question.authority(),
    };
    let listener = with_lower_host(named, |host| port.listener(host))?;
    Some(Place::Listener {
        name: Arc::clone(&listener.name),
    })
}

/// A destination of which only the port counts.
pub(super) fn nowhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

pub(super) fn refused(status: StatusCode, why: impl Into<String>) -> Outcome {
    Outcome::Refused {
        status: status.as_u16(),
        why: why.into(),
    }
}

// ===== where does it go? =====

fn routing(view: &Snapshot, way: Way<'_>, head: &RequestHead<'_>) -> (Routing, Outcome) {
    let (of, table, otherwise, session) = match way {
        Way::Service(service, port) => (
            format!("{}:{}", service.name, port.number),
            Some(&*port.routes).filter(|table| !table.is_empty()),
            view.cluster(port.cluster).map(|cluster| &**cluster),
            port.session.as_deref(),
        ),
        Way::Listener(listener) => (
            format!("listener {}", listener.name),
            Some(&*listener.routes),
            None,
            None,
        ),
        Way::Pod(addr) => return (pod(view, addr), Outcome::Allowed),
    };
    let mut routing = Routing::of(of);
    let Some(table) = table else {
        let outcome = match otherwise {
            Some(cluster) if cluster.endpoints.endpoints().is_empty() => {
                refused(StatusCode::SERVICE_UNAVAILABLE, "nobody to ask")
            }
            Some(_) => Outcome::Allowed,
            None => refused(StatusCode::INTERNAL_SERVER_ERROR, "the service lost its cluster"),
        };
        let filters = session.map(filter::kept_together).into_iter().collect();
        routing
            .backends
            .extend(otherwise.map(|cluster| reached(cluster, 1, 1.0, filters)));
        return (routing, outcome);
    };
    routing.candidates = table
        .explain(head)
        .iter()
        .map(|it| candidate(table, it))
        .collect();
    let Some((found, rule)) = table
        .find(head)
        .and_then(|found| Some((found, table.rule(found.rule)?)))
    else {
        return (routing, refused(StatusCode::NOT_FOUND, "no route matches"));
    };
    routing.rule = Some(Rule {
        resource: rule.origin.resource.to_string(),
        index: rule.origin.rule,
        name: rule.origin.name.as_deref().map(str::to_owned),
        filters: filter::of_rule(rule, view, head.path, found.matched),
    });
    let outcome = match &rule.action {
        Action::Forward(backends) => {
            let total = backends.total();
            routing.backends = backends
                .iter()
                .map(|it| backend(view, it, total, head, found.matched))
                .collect();
            shared_among(&routing.backends, rule.failure())
        }
        Action::Redirect(redirect) => redirected(redirect, head, found.matched),
        Action::Respond { status, body } => Outcome::Answered {
            status: status.as_u16(),
            bytes: body.len(),
        },
        Action::Fail { why } => refused(rule.failure(), &**why),
    };
    (routing, outcome)
}

fn redirected(redirect: &route::Redirect, head: &RequestHead<'_>, matched: usize) -> Outcome {
    let (status, location) = redirect.location(head, matched);
    Outcome::Redirected {
        status: status.as_u16(),
        location: String::from_utf8_lossy(location.as_bytes()).into_owned(),
    }
}

fn candidate(table: &RouteTable, it: &route::Candidate) -> Candidate {
    let label = table.rule(it.rule).map(|rule| rule.origin.label.to_string());
    Candidate {
        rule: label.unwrap_or_default(),
        match_index: it.match_index,
        decides: it.verdict == Verdict::Won,
        verdict: it.verdict.to_string(),
        asks: it.asks.iter().map(condition).collect(),
    }
}

fn condition(ask: &route::Ask) -> Condition {
    let secret = match &ask.of {
        Property::Header(name) => is_secret(name.as_str()),
        Property::Query(name) => is_secret(name),
        // Whatever a token says of somebody is nobody else's business.
        Property::Claim(_) => true,
        _ => false,
    };
    let given = match &ask.given {
        Some(_) if secret => Some(HIDDEN.to_owned()),
        given => given.clone(),
    };
    Condition {
        of: ask.of.to_string(),
        asked: if secret {
            HIDDEN.to_owned()
        } else {
            ask.value.clone()
        },
        given,
        holds: ask.holds,
    }
}

fn backend(
    view: &Snapshot,
    it: &route::Backend,
    total: u64,
    head: &RequestHead<'_>,
    matched: usize,
) -> Backend {
    let share = f64::from(it.weight) / total as f64;
    let filters = filter::of_backend(it, view, head.path, matched);
    match &it.cluster {
        route::Target::Cluster(id) => match view.cluster(*id) {
            Some(cluster) => reached(cluster, it.weight, share, filters),
            None => nobody(it.weight, share, "the backend is not in the snapshot"),
        },
        route::Target::Invalid(why) => nobody(it.weight, share, why),
        route::Target::Redirect(redirect) => {
            let (status, location) = redirect.location(head, matched);
            let to = String::from_utf8_lossy(location.as_bytes()).into_owned();
            nobody(it.weight, share, &format!("{status} to {to}"))
        }
    }
}

pub(super) fn nobody(weight: u32, share: f64, why: &str) -> Backend {
    Backend {
        service: None,
        weight,
        share,
        error: Some(why.to_owned()),
        via: None,
        filters: Vec::new(),
        endpoint_count: 0,
        endpoints: Vec::new(),
    }
}

pub(super) fn reached(cluster: &Cluster, weight: u32, share: f64, filters: Vec<String>) -> Backend {
    let endpoints = cluster.endpoints.endpoints();
    Backend {
        service: Some(match &cluster.subset {
            None => format!("{}:{}", cluster.service, cluster.port),
            Some(subset) => format!("{}:{} subset {subset}", cluster.service, cluster.port),
        }),
        weight,
        share,
        error: endpoints.is_empty().then(|| "nobody to ask: 503".to_owned()),
        via: Some(match &cluster.via {
            Via::Direct => "direct".to_owned(),
            Via::Waypoint { namespace, name } => format!("waypoint {namespace}/{name}"),
        }),
        filters,
        endpoint_count: endpoints.len(),
        endpoints: endpoints
            .iter()
            .take(SHOWN)
            .map(|endpoint| Endpoint {
                workload: format!("{}/{}", endpoint.workload.namespace, endpoint.workload.name),
                address: endpoint.addr.to_string(),
                identity: endpoint.identities.first().map(ToString::to_string),
                tunnelled: endpoint.is_tunnelled(),
            })
            .collect(),
    }
}

/// The outcome of a rule that shares out; `failure` is what a backend that is none answers.
pub(super) fn shared_among(backends: &[Backend], failure: StatusCode) -> Outcome {
    let mut failing = backends.iter().filter(|it| it.weight > 0).filter_map(|it| {
        let status = match it.service {
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
            None => failure,
        };
        Some((status, it.error.as_ref()?))
    });
    let working = backends.iter().any(|it| it.weight > 0 && it.error.is_none());
    match failing.next() {
        None => Outcome::Allowed,
        Some(_) if working => Outcome::Mixed,
        Some((status, why)) => refused(status, why.as_str()),
    }
}

/// A workload that is addressed itself.
pub(super) fn pod(view: &Snapshot, addr: SocketAddr) -> Routing {
    let backends = view.pods.get(&addr.ip()).map(|pod| Backend {
        service: None,
        weight: 1,
        share: 1.0,
        error: None,
        via: Some(match &pod.waypoint {
            Some(_) => "the workload's waypoint".to_owned(),
            None => "direct".to_owned(),
        }),
        filters: Vec::new(),
        endpoint_count: 1,
        endpoints: vec![Endpoint {
            workload: format!("{}/{}", pod.workload.namespace, pod.workload.name),
            address: addr.to_string(),
            identity: pod.identity.as_ref().map(ToString::to_string),
            tunnelled: pod.hbone,
        }],
    });
    Routing {
        backends: backends.into_iter().collect(),
        ..Routing::of(format!("workload {addr}"))
    }
}
