//! Notes: what layers further in write down of a request for `Observe`, where somebody wants to know.
//!
//! Most requests have none, so that what nobody reads costs nothing.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderValue, Response};

use super::{MeshBody, Refusal};
use crate::policy::authz::RuleRef;
use crate::policy::balance::Endpoint;
use crate::policy::route::RuleOrigin;
use crate::snapshot::Claims;
use crate::snapshot::tap::{Attempt, Phase, Trail};

/// How many steps of one request are written down.
const MOST_STEPS: usize = 200;

/// What is written down of one request.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Whether the decision is told in detail: its clause, and what it rests on.
    pub(super) detailed: bool,
    decision: OnceLock<Decided>,
    /// The paths that the rule is for which won, as operations are named.
    path: OnceLock<Arc<str>>,
    /// The claims that the decision rests on.
    pub(super) claims: OnceLock<Arc<Claims>>,
    /// Where the request was, if somebody looks. Its own lock, which no other request knows of.
    trail: Option<Mutex<Trail>>,
}

/// A decision about who may do what, in short; the full record is what `explain` gives for the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) allowed: bool,
    /// What decided; `None` if no rule did.
    pub(super) by: Option<RuleRef>,
    /// `from[0] to[1]`; empty where nobody asked for it.
    pub(super) clause: String,
    /// The names of what the clause asks about.
    pub(super) inputs: String,
    pub(super) cost: Duration,
}

impl Notes {
    pub(super) fn new(detailed: bool) -> Self {
        Self {
            detailed,
            decision: OnceLock::new(),
            path: OnceLock::new(),
            claims: OnceLock::new(),
            trail: None,
        }
    }

    /// With the way of the request, step by step.
    pub(super) fn with_trail(mut self) -> Self {
        self.trail = Some(Mutex::default());
        self
    }

    /// Notes where the request is now.
    pub(crate) fn mark(&self, phase: Phase) {
        self.follow(|trail| trail.marks.push((Instant::now(), phase)));
    }

    /// Notes whom the request is sent to.
    pub(super) fn attempt(&self, endpoint: &Arc<Endpoint>) {
        self.follow(|trail| {
            trail.attempts.push(Attempt {
                began: Instant::now(),
                ended: None,
                dialled: endpoint.key.dial,
                endpoint: Arc::clone(endpoint),
                status: 0,
                failed: None,
            });
        });
    }

    /// Notes what came of the attempt that is under way.
    pub(super) fn attempted(&self, result: &Result<Response<MeshBody>, Refusal>) {
        self.follow(|trail| {
            let Some(attempt) = trail.attempts.last_mut() else {
                return;
            };
            attempt.ended = Some(Instant::now());
            match result {
                Ok(response) => attempt.status = response.status().as_u16(),
                Err(refusal) => attempt.failed = Some(super::chain(refusal).to_string()),
            }
        });
    }

    /// Notes which rule won.
    pub(crate) fn won(&self, origin: &RuleOrigin) {
        if let Some(path) = &origin.path {
            // Of several attempts it is the same.
            let _ = self.path.set(Arc::clone(path));
        }
    }

    /// The paths that the rule is for which won, if it is not for all.
    #[cfg_attr(
        not(feature = "otlp"),
        allow(dead_code, reason = "told by the spans that the mesh records")
    )]
    pub(super) fn path(&self) -> Option<&str> {
        self.path.get().map(|path| &**path)
    }

    /// The attempts so far.
    #[cfg_attr(
        not(feature = "otlp"),
        allow(dead_code, reason = "told by the spans that the mesh records")
    )]
    pub(super) fn attempts(&self) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        self.follow(|trail| attempts.clone_from(&trail.attempts));
        attempts
    }

    /// The way of the request so far.
    pub(super) fn trail(&self) -> Trail {
        let mut way = Trail::default();
        self.follow(|trail| way = std::mem::take(trail));
        way
    }

    fn follow(&self, note: impl FnOnce(&mut Trail)) {
        if let Some(trail) = &self.trail {
            let mut trail = trail.lock().unwrap_or_else(PoisonError::into_inner);
            // Retries are few, but nobody says so of steps.
            if trail.marks.len() < MOST_STEPS {
                note(&mut trail);
            }
        }
    }

    pub(super) fn decide(&self, decided: Decided) {
        // A request is judged once; were it twice, the first would be the one that let it through.
        let _ = self.decision.set(decided);
    }

    pub(super) fn decision(&self) -> Option<&Decided> {
        self.decision.get()
    }
}

impl Decided {
    /// `allow` or `deny`.
    pub(super) fn word(&self) -> &'static str {
        if self.allowed { "allow" } else { "deny" }
    }
}

/// The decision as the value of a response header: an Item with parameters (RFC 9651 §3.3).
///
/// `refused` is the reason of a refusal, whoever it came from.
pub(super) fn header(
    decided: Option<&Decided>,
    refused: Option<&str>,
    generation: u64,
) -> Option<HeaderValue> {
    use std::fmt::Write as _;

    // What was refused before it was judged was denied all the same.
    let mut text = decided.map_or("deny", Decided::word).to_owned();
    // Writing to a String cannot fail.
    if let Some(Decided {
        by,
        clause,
        inputs,
        cost,
        ..
    }) = decided
    {
        if let Some(by) = by {
            let _ = write!(
                text,
                ";policy={};rule={}",
                quoted(&by.policy.to_string()),
                by.rule
            );
        }
        for (name, value) in [("clause", clause), ("inputs", inputs)] {
            if !value.is_empty() {
                let _ = write!(text, ";{name}={}", quoted(value));
            }
        }
        let _ = write!(text, ";cost_ns={}", cost.as_nanos());
    }
    if let Some(reason) = refused {
        let _ = write!(text, ";refused={reason}");
    }
    let _ = write!(text, ";generation={generation}");
    HeaderValue::try_from(text).ok()
}

/// A String of RFC 9651: printable ASCII between quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{Kind, ResourceRef};

    #[test]
    fn a_decision_is_an_item_with_parameters() {
        let text = |decided: Option<&Decided>, refused| {
            let value = header(decided, refused, 7).unwrap();
            value.to_str().unwrap().to_owned()
        };
        let mut decided = Decided {
            allowed: true,
            by: None,
            clause: String::new(),
            inputs: String::new(),
            cost: Duration::from_nanos(312),
        };
        assert_eq!(text(Some(&decided), None), "allow;cost_ns=312;generation=7");
        assert_eq!(
            text(Some(&decided), Some("no_route")),
            "allow;cost_ns=312;refused=no_route;generation=7"
        );
        decided.allowed = false;
        decided.by = Some(RuleRef {
            policy: ResourceRef::new(Kind::AuthorizationPolicy, "shop", "a\"b"),
            rule: 2,
        });
        decided.clause = "from[0] to[1]".into();
        decided.inputs = "principal path".into();
        assert_eq!(
            text(Some(&decided), Some("denied")),
            "deny;policy=\"AuthorizationPolicy shop/a\\\"b\";rule=2;clause=\"from[0] to[1]\";\
             inputs=\"principal path\";cost_ns=312;refused=denied;generation=7"
        );
        assert_eq!(
            text(None, Some("unauthenticated")),
            "deny;refused=unauthenticated;generation=7"
        );
    }
}
