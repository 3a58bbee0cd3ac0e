//! One policy point, for a connection of which only the beginning is known: bytes, or somebody else's TLS.

use http::StatusCode;

use super::authorization::{Case, authorization};
use super::hop::{blank, pod, reached, refused, shared_among};
use super::question::Opens;
use super::{Backend, Candidate, Condition, Hop, Outcome, Question, Routing, Rule};
use crate::name::SpiffeId;
use crate::policy::connection::{ConnectionRule, ConnectionTable, Opening};
use crate::policy::route;
use crate::policy::{Caller, ConnectionHead};
use crate::snapshot::{AppProtocol, Place, Snapshot, Way};

/// As [`hop`](super::hop()), for a connection.
pub(super) fn hop(
    view: &Snapshot,
    place: Option<&Place>,
    question: &Question,
    opens: &Opens,
    peer: Option<&SpiffeId>,
    at: String,
) -> Hop {
    let mut hop = blank(view, peer, at);
    let way = match place {
        Some(Place::Workload { .. }) => None,
        _ => match view.way(place, &question.dialled, None) {
            Ok(way) => Some(way),
            Err(astray) => {
                hop.outcome = refused(StatusCode::NOT_FOUND, astray.to_string());
                return hop;
            }
        },
    };
    let at_waypoint = matches!(place, Some(Place::Service { .. }));
    if let Some(Way::Service(_, port)) = way
        && at_waypoint
        && matches!(port.protocol, AppProtocol::Http1 | AppProtocol::Http2)
    {
        let why = format!("port {} speaks HTTP: what it serves are requests", port.number);
        hop.outcome = refused(StatusCode::BAD_REQUEST, why);
        return hop;
    }
    if let Some(place) = place {
        let head = head(view, place, question, opens, peer);
        let decided = authorization(view, place, &Case::Connection(&head), question.values);
        let denied = (!decided.allowed).then(|| decided.why.clone());
        hop.authorization = Some(decided);
        if let Some(why) = denied {
            // As ztunnel answers.
            hop.outcome = refused(StatusCode::UNAUTHORIZED, why);
            return hop;
        }
    }
    if let Some(way) = way {
        let (routing, outcome) = routing(view, way, opens.as_opening());
        hop.routing = Some(routing);
        hop.outcome = outcome;
    }
    hop
}

/// What policies judge.
fn head<'a>(
    view: &Snapshot,
    place: &Place,
    question: &Question,
    opens: &'a Opens,
    peer: Option<&'a SpiffeId>,
) -> ConnectionHead<'a> {
    ConnectionHead {
        caller: Caller {
            identity: peer,
            addr: question.from_ip,
            remote: question.from_ip,
        },
        destination: super::authorization::destination(view, place),
        sni: match (place, opens.as_opening()) {
            // A workload does not look into what it relays.
            (Place::Workload { .. }, _) => "",
            (_, Opening::Tls(Some(name))) => name.as_str(),
            _ => "",
        },
    }
}

fn routing(view: &Snapshot, way: Way<'_>, opening: Opening<'_>) -> (Routing, Outcome) {
    let nobody = "nobody to ask";
    let (of, table, otherwise) = match way {
        Way::Service(service, port) => (
            format!("{}:{}", service.name, port.number),
            &*port.connections,
            view.cluster(port.cluster),
        ),
        Way::Listener(listener) => {
            let of = format!("listener {}", listener.name);
            match &listener.connections {
                Some(passed) => (of, &passed.routes, None),
                None => {
                    let why = "the listener serves requests, not connections";
                    return (Routing::of(of), refused(StatusCode::BAD_REQUEST, why));
                }
            }
        }
        Way::Pod(addr) => return (pod(view, addr), Outcome::Allowed),
    };
    let mut routing = Routing::of(of);
    if table.is_empty() {
        let outcome = match otherwise {
            Some(cluster) if !cluster.endpoints.endpoints().is_empty() => Outcome::Allowed,
            _ => refused(StatusCode::SERVICE_UNAVAILABLE, nobody),
        };
        let backend = otherwise.map(|cluster| reached(cluster, 1, 1.0, Vec::new()));
        routing.backends.extend(backend);
        return (routing, outcome);
    }
    let found = table.find(opening);
    routing.candidates = candidates(table, found, opening);
    let Some(rule) = found else {
        let why = format!("no route takes a connection with {opening}");
        return (routing, refused(StatusCode::INTERNAL_SERVER_ERROR, why));
    };
    routing.rule = Some(Rule {
        resource: rule.origin.resource.to_string(),
        index: rule.origin.rule,
        name: rule.origin.name.as_deref().map(str::to_owned),
        filters: Vec::new(),
    });
    let outcome = match &rule.backends {
        Ok(backends) => {
            let total = backends.total();
            routing.backends = backends.iter().map(|it| backend(view, it, total)).collect();
            shared_among(&routing.backends, StatusCode::INTERNAL_SERVER_ERROR)
        }
        Err(why) => refused(StatusCode::INTERNAL_SERVER_ERROR, &**why),
    };
    (routing, outcome)
}

/// Every alternative in order: the first that takes the connection decides.
fn candidates(
    table: &ConnectionTable,
    found: Option<&ConnectionRule>,
    opening: Opening<'_>,
) -> Vec<Candidate> {
    let mut decided = false;
    let mut of_rule = (None, 0);
    let mut candidates = Vec::new();
    for (opens, rule) in table.alternatives() {
        // Those of one rule stand together.
        of_rule = match of_rule {
            (Some(before), at) if std::ptr::eq(before, rule) => (Some(before), at + 1),
            _ => (Some(rule), 0),
        };
        let holds = opens.hold(opening);
        let decides = holds && !decided && found.is_some_and(|found| std::ptr::eq(found, rule));
        decided |= decides;
        candidates.push(Candidate {
            rule: rule.origin.label.to_string(),
            match_index: of_rule.1,
            decides,
            verdict: match (decides, holds) {
                (true, _) => "decides",
                (false, true) => "matches, but another comes first",
                (false, false) => "does not match",
            }
            .to_owned(),
            asks: vec![Condition {
                of: "opening".to_owned(),
                asked: opens.to_string(),
                given: Some(opening.to_string()),
                holds,
            }],
        });
    }
    candidates
}

fn backend(view: &Snapshot, it: &route::Backend, total: u64) -> Backend {
    let share = f64::from(it.weight) / total as f64;
    match &it.cluster {
        route::Target::Cluster(id) => match view.cluster(*id) {
            Some(cluster) => reached(cluster, it.weight, share, Vec::new()),
            None => super::hop::nobody(it.weight, share, "the backend is not in the snapshot"),
        },
        route::Target::Invalid(why) => super::hop::nobody(it.weight, share, why),
        route::Target::Redirect(_) => {
            super::hop::nobody(it.weight, share, "connections cannot be redirected")
        }
    }
}
