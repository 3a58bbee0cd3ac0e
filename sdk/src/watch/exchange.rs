//! One finished request, in words.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::HeaderMap;
use serde::Serialize;
use serde_json::json;

use super::explained::explained;
use super::waterfall::{attempts, waterfall};
use crate::explain::hide_secrets;
use crate::snapshot::Place;
use crate::snapshot::tap::{SLOW, Taken, Wanted};
use crate::telemetry::{PartyLabels, Protocol};

/// How long any text that a caller chose may be.
const LONGEST: usize = 512;
/// How much is kept to be told of one request.
const MOST_DETAIL: usize = 64 * 1024;

/// One finished request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exchange {
    /// Counts the requests that were told of.
    pub(crate) id: u64,
    /// When it began, in milliseconds since 1970.
    pub(crate) time_ms: u64,
    /// `x-request-id`.
    pub(crate) request_id: Option<String>,
    pub(crate) trace_id: Option<String>,
    /// `inbound`, `outbound`, `waypoint` or `gateway`.
    pub(crate) direction: &'static str,
    pub(crate) source: End,
    pub(crate) destination: End,
    pub(crate) mtls: bool,
    pub(crate) protocol: &'static str,
    pub(crate) method: String,
    pub(crate) host: String,
    /// With its query, in which secrets are hidden.
    pub(crate) path: String,
    /// 0 if there was no answer.
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u16>,
    /// Envoy's response flags.
    pub(crate) flags: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) duration_us: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) attempts: u32,
    /// The rule that won: `namespace/name/index`.
    pub(crate) rule: Option<String>,
    /// The policy that decided.
    pub(crate) policy: Option<String>,
    /// Why it was refused, in a word.
    pub(crate) refused: Option<&'static str>,
    pub(crate) generation: u64,
    /// Whether somebody looked on when it began, so that its way was written down.
    pub(crate) followed: bool,
    /// What else is known of it, as JSON.
    #[serde(skip)]
    detail: Box<str>,
}

/// What became of a request, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    Ok,
    Slow,
    Denied,
    Failed,
}

/// Who is at one end.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct End {
    pub(crate) workload: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) version: Option<String>,
    /// The SPIFFE id.
    pub(crate) identity: Option<String>,
    pub(crate) address: Option<String>,
    /// The host of the service that was called.
    pub(crate) service: Option<String>,
}

impl Exchange {
    pub(super) fn of(id: u64, taken: &Taken) -> Self {
        let labels = taken.series.labels();
        let authority = match taken.uri.authority() {
            Some(authority) => authority.as_str(),
            None => &taken.authority,
        };
        let peer = taken.peer.as_deref();
        let judged = taken.judged.as_ref();
        let refused = taken.refused.as_ref();
        let policy = refused.and_then(|refused| refused.policy.as_ref());
        let mut source = end(&labels.source);
        if let Some(peer) = peer {
            source.address = Some(peer.addr.to_string());
            source.identity = peer.identity.as_ref().map(|identity| short(identity.as_str()));
        }
        let mut destination = end(&labels.destination);
        destination.service = some(&labels.service.host);
        if let Some(endpoint) = &taken.endpoint {
            destination.address = Some(endpoint.addr.to_string());
        }
        let mtls = match (peer, &taken.endpoint) {
            (Some(peer), _) => peer.identity.is_some(),
            (None, Some(endpoint)) => endpoint.is_tunnelled(),
            (None, None) => false,
        };
        Self {
            id,
            time_ms: millis(taken.began),
            request_id: taken.headers.as_ref().and_then(request_id),
            trace_id: taken.trace.clone(),
            direction: direction(taken),
            source,
            destination,
            mtls,
            protocol: match labels.protocol {
                Protocol::Grpc => "grpc",
                _ => "http",
            },
            method: short(taken.method.as_str()),
            host: short(authority),
            path: short(&path(taken)),
            status: taken.status,
            grpc_status: taken.grpc_status,
            flags: taken.flags,
            outcome: outcome(taken),
            duration_us: u64::try_from(taken.duration.as_micros()).unwrap_or(u64::MAX),
            request_bytes: taken.received,
            response_bytes: taken.sent,
            attempts: taken.attempts,
            rule: taken.rule.as_deref().map(str::to_owned),
            policy: policy
                .map(ToString::to_string)
                .or_else(|| judged.and_then(|judged| judged.policy.clone())),
            refused: refused.map(|refused| refused.reason),
            generation: taken.view.generation,
            followed: taken.wanted == Wanted::All,
            detail: detail(taken),
        }
    }

    /// All that is known of it: the short form, `waterfall`, `attempts`, `decision`, and what the engines say of its like.
    pub(crate) fn document(&self) -> serde_json::Value {
        let mut document = json!(self);
        // Written by us, so it is JSON.
        let detail: serde_json::Value = serde_json::from_str(&self.detail).unwrap_or_default();
        if let (Some(document), serde_json::Value::Object(detail)) = (document.as_object_mut(), detail) {
            document.extend(detail);
        }
        document
    }

    /// Whether it is remembered longer than others.
    pub(super) fn is_remarkable(&self) -> bool {
        self.outcome != Outcome::Ok
    }
}

fn detail(taken: &Taken) -> Box<str> {
    let decision = taken.judged.as_ref().map(|judged| {
        json!({
            "allowed": judged.allowed,
            "policy": judged.policy,
            "rule": judged.rule,
            "clause": judged.clause,
            "inputs": judged.inputs,
            "costNs": u64::try_from(judged.cost.as_nanos()).unwrap_or(u64::MAX),
        })
    });
    let refusal = taken.refused.as_ref().map(|refused| {
        json!({
            "reason": refused.reason,
            "why": short(&refused.why),
            "policy": refused.policy.as_ref().map(ToString::to_string),
            "rule": refused.rule,
        })
    });
    let mut detail = json!({
        "cluster": taken.cluster.as_ref().map(ToString::to_string),
        "refusal": refusal,
        "decision": decision,
        "waterfall": waterfall(taken),
        "attemptList": attempts(taken),
        "explanation": explained(taken),
    });
    let mut text = detail.to_string();
    if text.len() > MOST_DETAIL {
        detail["explanation"] = serde_json::Value::Null;
        detail["explanationLeftOut"] = json!("it is too long to be kept");
        text = detail.to_string();
    }
    text.into()
}

fn end(party: &PartyLabels) -> End {
    End {
        workload: some(&party.workload),
        namespace: some(&party.namespace),
        version: some(&party.version),
        identity: some(&party.principal),
        address: None,
        service: None,
    }
}

fn direction(taken: &Taken) -> &'static str {
    match taken.place.as_deref() {
        None => "outbound",
        Some(Place::Workload { .. }) => "inbound",
        Some(Place::Service { .. } | Place::Pod { .. }) => "waypoint",
        Some(Place::Port { .. } | Place::Listener { .. }) => "gateway",
    }
}

fn outcome(taken: &Taken) -> Outcome {
    match (taken.refused.as_ref().map(|refused| refused.reason), taken.status) {
        (Some("denied" | "unauthenticated" | "authorizer" | "rate_limited"), _) | (_, 401 | 403 | 429) => {
            Outcome::Denied
        }
        (Some(_), _) | (_, 0 | 500..) => Outcome::Failed,
        _ if matches!(taken.grpc_status, Some(7 | 16)) => Outcome::Denied,
        _ if matches!(taken.grpc_status, Some(2 | 4 | 8 | 13..=15)) => Outcome::Failed,
        // A caller that leaves, most of all.
        _ if taken.flags == "DC" => Outcome::Failed,
        _ if taken.duration >= SLOW => Outcome::Slow,
        _ => Outcome::Ok,
    }
}

fn path(taken: &Taken) -> String {
    match taken.uri.query() {
        Some(query) => format!("{}?{}", taken.uri.path(), hide_secrets(query)),
        None => taken.uri.path().to_owned(),
    }
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-request-id")?;
    Some(short(&String::from_utf8_lossy(value.as_bytes())))
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Text that somebody else chose, cut off where it becomes unreasonable.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
