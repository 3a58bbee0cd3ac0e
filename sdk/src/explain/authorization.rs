//! May it pass, and because of what: the decision record in full.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::hop::nowhere;
use super::redact::{HIDDEN, is_secret};
use super::{Ask, Authorization, Input, Judged};
use crate::policy::authz::{Action, Alternative, Asked, Decision, Holds, RuleTold};
use crate::policy::{ConnectionHead, RequestHead};
use crate::snapshot::{Findings, Place, Remark, Snapshot};

/// What is judged.
pub(super) enum Case<'c> {
    Request(&'c RequestHead<'c>),
    Connection(&'c ConnectionHead<'c>),
}

/// What the policies of `place` say. `values` shows those of headers and claims, too.
pub(super) fn authorization(view: &Snapshot, place: &Place, case: &Case<'_>, values: bool) -> Authorization {
    let (Case::Request(RequestHead { caller, .. }) | Case::Connection(ConnectionHead { caller, .. })) = case;
    if let Place::Workload { port } = *place
        && caller.identity.is_none()
        && view.is_strict(port)
    {
        return Authorization {
            allowed: false,
            policy: None,
            rule: None,
            clause: Vec::new(),
            inputs: Vec::new(),
            why: "PeerAuthentication STRICT: plaintext is refused".to_owned(),
            cost_ns: 0,
            rules: Vec::new(),
            rule_count: 0,
            remarks: Vec::new(),
        };
    }
    match case {
        Case::Request(head) => decision(view, place, head, &Findings::default(), values),
        Case::Connection(head) => {
            let began = Instant::now();
            let decision = view.authorize_connection(place, head);
            let cost = began.elapsed();
            let told = view.connection_rules_told(place, head);
            record(&decision, cost, &told, Vec::new(), values)
        }
    }
}

/// The destination that policies of `place` judge.
pub(super) fn destination(view: &Snapshot, place: &Place) -> SocketAddr {
    match place {
        Place::Workload { port } | Place::Service { port, .. } => SocketAddr::new(view.my_addr(), *port),
        Place::Pod { ip, port } => SocketAddr::new(*ip, *port),
        Place::Port { port, .. } => nowhere(*port),
        Place::Listener { name } => nowhere(view.gateway.listener(name).map_or(0, |listener| listener.port)),
    }
}

/// What the policies of `place` say of a request, with what was found out about it before.
pub(crate) fn decision(
    view: &Snapshot,
    place: &Place,
    head: &RequestHead<'_>,
    found: &Findings,
    values: bool,
) -> Authorization {
    let mut remarks = Vec::new();
    view.remarks(place, head, found, |remark| {
        remarks.push(match remark {
            Remark::Audited(rule) => format!("{} rule {} audits it", rule.policy, rule.rule),
            Remark::DryRun(decision) => format!("dry-run policies would say: {}", why(&decision)),
        });
    });
    let began = Instant::now();
    let decision = view.authorize_found(place, head, found);
    let cost = began.elapsed();
    record(
        &decision,
        cost,
        &view.rules_told(place, head, found),
        remarks,
        values,
    )
}

fn record(
    decision: &Decision<'_>,
    cost: Duration,
    told: &[RuleTold<'_>],
    remarks: Vec<String>,
    values: bool,
) -> Authorization {
    let (Decision::Allow { by } | Decision::Deny { by, .. }) = *decision;
    let decides = |rule: &RuleTold<'_>| !rule.dry_run && Some(rule.by) == by && rule.applies();
    let decisive = told.iter().position(decides);
    let clause = |rule: &RuleTold<'_>| rule.held().map(|one| one.at.clone()).collect();
    let inputs = |rule: &RuleTold<'_>| {
        let asks = rule.held().flat_map(|one| &one.asks);
        asks.map(|ask| Input {
            name: ask.of.clone(),
            value: given(ask, values),
        })
        .collect()
    };
    let shown = told.iter().enumerate().filter(|(at, _)| {
        // The one that decides has a place of its own beyond the first.
        *at < Authorization::SHOWN || decisive == Some(*at)
    });
    Authorization {
        allowed: decision.is_allowed(),
        policy: by.map(|rule| rule.policy.to_string()),
        rule: by.map(|rule| rule.rule),
        clause: decisive.map(|at| clause(&told[at])).unwrap_or_default(),
        inputs: decisive.map(|at| inputs(&told[at])).unwrap_or_default(),
        why: why(decision),
        cost_ns: u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX),
        rules: shown
            .map(|(at, rule)| judged(rule, decisive == Some(at), values))
            .collect(),
        rule_count: told.len(),
        remarks,
    }
}

fn why(decision: &Decision<'_>) -> String {
    match decision {
        Decision::Allow { by: Some(rule) } => format!("{} rule {} allows it", rule.policy, rule.rule),
        Decision::Allow { by: None } => "no ALLOW policy applies and no DENY rule matches".to_owned(),
        Decision::Deny { by: Some(rule), why } => format!("{} rule {}: {why}", rule.policy, rule.rule),
        Decision::Deny { by: None, why } => (*why).to_owned(),
    }
}

fn judged(rule: &RuleTold<'_>, decides: bool, values: bool) -> Judged {
    let asks = |one: &Alternative| {
        let at = one.at.clone();
        let asks = one.asks.iter().map(move |asked| ask(asked, &at, values));
        asks.collect::<Vec<_>>()
    };
    let asks = match rule.applies() {
        true => rule.held().flat_map(asks).collect(),
        false => {
            let asks = rule.failed().iter().flat_map(asks);
            asks.filter(|ask| ask.holds != Some(true)).collect()
        }
    };
    Judged {
        policy: rule.by.policy.to_string(),
        rule: rule.by.rule,
        action: match rule.action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
            Action::Audit => "AUDIT",
            Action::Custom => "CUSTOM",
        },
        dry_run: rule.dry_run,
        matches: told(rule.holds),
        decides,
        asks,
    }
}

fn ask(asked: &Asked, at: &str, values: bool) -> Ask {
    let not = if asked.negated { "not " } else { "" };
    let wanted = match is_secret(&asked.of) {
        true => HIDDEN,
        false => &asked.wanted,
    };
    Ask {
        clause: at.to_owned(),
        of: asked.of.clone(),
        asked: format!("{not}{wanted}"),
        given: given(asked, values),
        holds: told(asked.holds),
    }
}

/// What the request has, as far as that may be shown.
fn given(asked: &Asked, values: bool) -> Option<String> {
    let hidden = is_secret(&asked.of) || asked.private && !values;
    asked.found.as_ref().map(|found| match hidden {
        true => HIDDEN.to_owned(),
        false => found.clone(),
    })
}

fn told(holds: Holds) -> Option<bool> {
    match holds {
        Holds::Yes => Some(true),
        Holds::No => Some(false),
        Holds::Unclear => None,
    }
}
