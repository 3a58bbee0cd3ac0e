//! What a rule does to requests and answers, in words.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::redact::{HIDDEN, is_secret};
use crate::policy::fault::{FaultPolicy, PerMillion};
use crate::policy::retry::RetryPolicy;
use crate::policy::route::Backend;
use crate::policy::route::{Carrier, HeaderEdits, Mirror, PathRewrite, Rewrite, RouteRule, Session};
use crate::snapshot::Snapshot;

/// Of a rule; `matched` is how much of the path its match covered.
pub(super) fn of_rule(rule: &RouteRule, view: &Snapshot, path: &str, matched: usize) -> Vec<String> {
    let mut words = edits("request", &rule.request);
    words.extend(edits("response", &rule.response));
    words.extend(
        rule.rewrite
            .iter()
            .flat_map(|rewrite| rewritten(rewrite, path, matched)),
    );
    words.extend(rule.mirrors.iter().map(|mirror| copied(mirror, view)));
    words.extend(
        rule.cors
            .as_ref()
            .map(|_| "cross-origin requests are judged (CORS)".to_owned()),
    );
    words.extend(rule.session.as_deref().map(kept_together));
    words.extend(rule.fault.iter().flat_map(inflicted));
    let limit = |what: &str, after: Option<Duration>| after.map(|after| format!("{what} within {after:?}"));
    words.extend(limit("answered", rule.timeouts.request));
    words.extend(limit("each attempt answered", rule.timeouts.per_try));
    words.extend(retried(&rule.retry));
    words
}

/// Of a backend.
pub(super) fn of_backend(backend: &Backend, view: &Snapshot, path: &str, matched: usize) -> Vec<String> {
    let mut words = edits("request", &backend.request);
    words.extend(edits("response", &backend.response));
    words.extend(
        backend
            .rewrite
            .iter()
            .flat_map(|rewrite| rewritten(rewrite, path, matched)),
    );
    words.extend(backend.mirrors.iter().map(|mirror| copied(mirror, view)));
    words.extend(
        backend
            .cors
            .as_ref()
            .map(|_| "cross-origin requests are judged (CORS)".to_owned()),
    );
    words.extend(backend.session.as_deref().map(kept_together));
    words
}

/// How sessions are kept.
pub(super) fn kept_together(session: &Session) -> String {
    match &session.carrier {
        Carrier::Cookie { name, .. } => format!("requests of a session stay together by cookie {name}"),
        Carrier::Header(name) => format!("requests of a session stay together by header {name}"),
    }
}

/// Faults, in the order in which they come.
fn inflicted(faults: &FaultPolicy) -> Vec<String> {
    let share = |share: PerMillion| f64::from(share.get()) / 10_000.0;
    let delay = faults
        .delay
        .map(|it| format!("delayed by {:?} (fault of {}%)", it.time, share(it.share)));
    let abort = faults.abort.map(|it| match it.grpc_status {
        Some(status) => format!(
            "answered with gRPC status {status} (fault of {}%)",
            share(it.share)
        ),
        None => format!(
            "answered with {} (fault of {}%)",
            it.status.as_u16(),
            share(it.share)
        ),
    });
    let by_header = faults
        .by_header
        .then(|| "callers of the mesh may ask for faults by header".to_owned());
    delay.into_iter().chain(abort).chain(by_header).collect()
}

fn edits(of: &str, edits: &HeaderEdits) -> Vec<String> {
    let pair = |verb: &str, (name, value): &(HeaderName, HeaderValue)| {
        let value = match is_secret(name.as_str()) {
            true => HIDDEN.into(),
            false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        format!("{of} header {name} {verb} {value}")
    };
    let set = edits.set.iter().map(|it| pair("set to", it));
    let add = edits.add.iter().map(|it| pair("gets", it));
    let remove = edits
        .remove
        .iter()
        .map(|name| format!("{of} header {name} removed"));
    set.chain(add).chain(remove).collect()
}

fn rewritten(rewrite: &Rewrite, path: &str, matched: usize) -> Vec<String> {
    let host = rewrite.host.as_ref().map(|host| format!("host becomes {host}"));
    let path = rewrite.path.as_ref().map(|rewrite: &PathRewrite| {
        let new = rewrite.apply(path, matched);
        format!("path becomes {new}")
    });
    host.into_iter().chain(path).collect()
}

fn copied(mirror: &Mirror, view: &Snapshot) -> String {
    let to = match view.cluster(mirror.to) {
        Some(cluster) => format!("{}:{}", cluster.service, cluster.port),
        None => "nobody".to_owned(),
    };
    format!("{} copied to {to}", mirror.share)
}

fn retried(policy: &RetryPolicy) -> Option<String> {
    (policy.attempts > 0).then(|| {
        let codes: Vec<_> = policy.codes.iter().map(http::StatusCode::as_str).collect();
        let codes = match codes.is_empty() {
            true => String::new(),
            false => format!(", {}", codes.join(", ")),
        };
        format!(
            "up to {} retries on {}{codes}",
            policy.attempts, policy.conditions
        )
    })
}
