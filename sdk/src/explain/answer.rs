//! An explanation, as data.

use serde::Serialize;

/// What would become of a request, hop by hop.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Explanation {
    /// The request.
    pub request: Request,
    /// The policy points that it meets, in order.
    pub hops: Vec<Hop>,
    /// What becomes of it in the end.
    pub outcome: Outcome,
}

impl Explanation {
    pub(crate) fn new(request: Request, hops: Vec<Hop>, outcome: Outcome) -> Self {
        Self {
            request,
            hops,
            outcome,
        }
    }
}

/// A request, as it is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Request {
    /// The method.
    pub method: String,
    /// The authority that it names.
    pub authority: String,
    /// Path and query, normalized; how it opens, of a connection.
    pub path: String,
    /// The identity of who sends it; `None` in plaintext.
    pub from: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Outcome {
    /// It is sent on, or reaches the application.
    Allowed,
    /// It is answered with a redirect.
    Redirected {
        /// The status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// It is answered by the route itself.
    Answered {
        /// The status.
        status: u16,
        /// How long the body is.
        bytes: usize,
    },
    /// It is refused.
    Refused {
        /// The status.
        status: u16,
        /// Why.
        why: String,
    },
    /// It depends on which backend its share falls to.
    Mixed,
}

impl Outcome {
    /// Whether nothing stands in the request's way.
    pub fn is_allowed(&self) -> bool {
        matches!(
            self,
            Self::Allowed | Self::Redirected { .. } | Self::Answered { .. }
        )
    }
}

/// What happens at one policy point.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Hop {
    /// Where: `caller`, `waypoint default/waypoint`, `workload default/reviews-v1 at 10.0.0.3:9080`.
    pub at: String,
    /// The generation of the configuration in force there.
    pub generation: u64,
    /// Who sends it there, as proved.
    pub peer: Option<String>,
    /// Whether it may pass; `None` where nobody asks.
    pub authorization: Option<Authorization>,
    /// Where it goes from there; `None` where it ends or is refused.
    pub routing: Option<Routing>,
    /// What becomes of it there.
    pub outcome: Outcome,
}

/// A decision about who may do what: the whole record, of which spans, logs and the response header give the short form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Authorization {
    /// The answer.
    pub allowed: bool,
    /// The policy that gave it, if one did.
    pub policy: Option<String>,
    /// The index of its rule.
    pub rule: Option<u32>,
    /// Which parts of the rule hold: `from[0]`, `to[1]`, `when[0]`. Empty if no rule decided, or one that asks nothing.
    pub clause: Vec<String>,
    /// What of the request those parts ask about.
    pub inputs: Vec<Input>,
    /// Why.
    pub why: String,
    /// How long deciding took, this time, in nanoseconds.
    pub cost_ns: u64,
    /// The rules that apply here, as they are asked: at most [`Authorization::SHOWN`] of them.
    pub rules: Vec<Judged>,
    /// How many rules there are.
    pub rule_count: usize,
    /// What policies say that decide nothing: AUDIT, and dry runs.
    pub remarks: Vec<String>,
}

impl Authorization {
    /// How many rules are told of; the one that decides is always among them.
    pub const SHOWN: usize = 100;
}

/// Something of a request that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Input {
    /// What: `principal`, `path`, `request.headers[x-tenant]`.
    pub name: String,
    /// Its value; `None` if the request has none.
    pub value: Option<String>,
}

/// What one rule makes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Judged {
    /// The policy.
    pub policy: String,
    /// The rule's index.
    pub rule: u32,
    /// `ALLOW`, `DENY`, `AUDIT` or `CUSTOM`.
    pub action: &'static str,
    /// Whether it is only watched.
    pub dry_run: bool,
    /// Whether it matches; `None` if that cannot be told, which denies.
    pub matches: Option<bool>,
    /// Whether it decides.
    pub decides: bool,
    /// If it matches what it asks, else what is amiss: the entries of the first part of which none holds.
    pub asks: Vec<Ask>,
}

/// One thing that a rule asks of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Ask {
    /// Where in the rule.
    pub clause: String,
    /// Of what.
    pub of: String,
    /// The values asked for, in words; `not` before them if it must be none of these.
    pub asked: String,
    /// What the request has; `None` if nothing.
    pub given: Option<String>,
    /// Whether that will do; `None` if that cannot be told.
    pub holds: Option<bool>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Routing {
    /// The service port whose routes apply (`default/reviews:9080`), or the listener (`listener http`).
    pub of: String,
    /// The rule that decides; `None` if there are no routes, or none matches.
    pub rule: Option<Rule>,
    /// All matches in order of precedence, and what came of them.
    pub candidates: Vec<Candidate>,
    /// Who gets which share.
    pub backends: Vec<Backend>,
}

impl Routing {
    pub(super) fn of(of: String) -> Self {
        Self {
            of,
            rule: None,
            candidates: Vec::new(),
            backends: Vec::new(),
        }
    }
}

/// The rule that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Rule {
    /// The resource that it is in.
    pub resource: String,
    /// Its index there.
    pub index: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What is done to request and answer, in words.
    pub filters: Vec<String>,
}

/// A match, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Candidate {
    /// The rule: `namespace/name/index`.
    pub rule: String,
    /// The match's index in the rule.
    pub match_index: u32,
    /// Whether it decides.
    pub decides: bool,
    /// What came of it, in words.
    pub verdict: String,
    /// Everything that it asks.
    pub asks: Vec<Condition>,
}

/// One thing that a match asks of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Condition {
    /// Of what: `path`, `header end-user`.
    pub of: String,
    /// The value asked for.
    pub asked: String,
    /// What the request has; `None` if nothing.
    pub given: Option<String>,
    /// Whether that will do.
    pub holds: bool,
}

/// Who gets a share of a rule's requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Backend {
    /// The service port, and its subset if one is meant; `None` if there is none to send to.
    pub service: Option<String>,
    /// Its weight.
    pub weight: u32,
    /// Its share of the rule's requests, from 0 to 1.
    pub share: f64,
    /// Why its share is answered with an error.
    pub error: Option<String>,
    /// How it is reached: `direct`, or `waypoint default/waypoint`.
    pub via: Option<String>,
    /// What is done for this backend only, in words.
    pub filters: Vec<String>,
    /// How many endpoints there are.
    pub endpoint_count: usize,
    /// The first of them.
    pub endpoints: Vec<Endpoint>,
}

/// One address that can serve a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Endpoint {
    /// The workload.
    pub workload: String,
    /// Its address.
    pub address: String,
    /// Whom it must prove to be; `None` in plaintext.
    pub identity: Option<String>,
    /// Whether it is reached through an HBONE tunnel.
    pub tunnelled: bool,
}
