//! Where the time of a request went, as bars below each other.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::exchange::short;
use crate::snapshot::tap::{Attempt, Phase, Taken};

/// One bar, in microseconds from the request's beginning.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bar {
    name: &'static str,
    /// How deep below the request.
    depth: u8,
    start_us: u64,
    duration_us: u64,
    note: Option<String>,
    failed: bool,
}

/// The bars of a request, as far as its way was written down; the first is all of it.
pub(super) fn waterfall(taken: &Taken) -> Vec<Bar> {
    let end = taken.start + taken.duration;
    let at = |instant: Instant| micros(taken.start, instant);
    let bar = |name, depth, from: Instant, to: Instant| Bar {
        name,
        depth,
        start_us: at(from),
        duration_us: micros(from, to.max(from)),
        note: None,
        failed: false,
    };
    let mut bars = vec![bar("request", 0, taken.start, end)];
    bars[0].failed = taken.refused.is_some() || taken.status == 0 || taken.status >= 500;
    let marks = &taken.trail.marks;
    if let Some((first, _)) = marks.first() {
        bars.push(bar("read and checked", 1, taken.start, *first));
    }
    let answered = taken.answered.unwrap_or(end);
    for (index, (from, phase)) in marks.iter().enumerate() {
        let next = marks.get(index + 1).map_or(answered, |(next, _)| *next);
        // What is under way ends with its attempt, if that comes first.
        let ended = attempt_at(&taken.trail.attempts, *from).and_then(|attempt| attempt.ended);
        let to = ended.map_or(next, |ended| ended.min(next));
        bars.push(bar(phase.name(), phase.depth(), *from, to));
    }
    for (index, attempt) in taken.trail.attempts.iter().enumerate() {
        let mut bar = bar("attempt", 1, attempt.began, attempt.ended.unwrap_or(answered));
        let workload = &attempt.endpoint.workload;
        bar.note = Some(format!(
            "{} to {}/{} at {}",
            index + 1,
            workload.namespace,
            workload.name,
            attempt.endpoint.addr
        ));
        bar.failed = attempt.failed.is_some() || attempt.status >= 500;
        bars.push(bar);
    }
    if let Some(answered) = taken.answered.filter(|answered| *answered < end) {
        bars.push(bar("response body", 1, answered, end));
    }
    bars[1..].sort_by_key(|bar| (bar.start_us, bar.depth));
    bars
}

/// Whom a request was sent to, and what came of it.
pub(super) fn attempts(taken: &Taken) -> Vec<Value> {
    let attempts = taken.trail.attempts.iter();
    let told = attempts.map(|attempt| {
        let endpoint = &attempt.endpoint;
        json!({
            "workload": format!("{}/{}", endpoint.workload.namespace, endpoint.workload.name),
            "version": &*endpoint.workload.version,
            "address": endpoint.addr.to_string(),
            "dialled": attempt.dialled.to_string(),
            "tunnelled": endpoint.is_tunnelled(),
            "identity": endpoint.identities.first().map(|identity| identity.as_str()),
            "startUs": micros(taken.start, attempt.began),
            "durationUs": attempt.ended.map(|ended| micros(attempt.began, ended)),
            "status": (attempt.status > 0).then_some(attempt.status),
            "failed": attempt.failed.as_deref().map(short),
        })
    });
    told.collect()
}

/// The attempt that was under way.
fn attempt_at(attempts: &[Attempt], at: Instant) -> Option<&Attempt> {
    attempts
        .iter()
        .find(|attempt| attempt.began <= at && attempt.ended.is_none_or(|ended| ended >= at))
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Consult => "external authorization",
            Self::Authenticate => "tokens",
            Self::Authorize => "authorization",
            Self::Admit => "rate limits",
            Self::Application => "application",
            Self::Route => "routing",
            Self::Balance => "choice of endpoint",
            Self::Connect => "connecting",
            Self::Exchange => "waiting for the answer",
        }
    }

    fn depth(self) -> u8 {
        match self {
            Self::Connect | Self::Exchange => 2,
            _ => 1,
        }
    }
}
