//! One rule of a route.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::filter::{Filters, Purpose};
use super::input::{Matches, Rule};
use super::{Backends, RouteInput, Unresolved, backend, matching, session};
use crate::compile::findings::{Findings, Ill};
use crate::config::gateway::BackendObjectReference;
use crate::config::{Entry, Problem, Severity};
use crate::matcher::{HostPattern, PathPattern};
use crate::name::{Host, ResourceRef};
use crate::policy::retry::RetryPolicy;
use crate::policy::route::{
    Action, ClusterId, CookiePath, PathName, Predicates, RouteRule, RouteTableBuilder, RuleOrigin,
};
use crate::policy::timeout::{Timeouts, parse_duration};

/// Adds a route's rules to a table, for the given hosts.
pub(super) fn add(
    builder: &mut RouteTableBuilder,
    input: &RouteInput<'_>,
    hosts: &[HostPattern],
    parent_port: u16,
    resolve: &mut dyn Backends,
    problems: &mut Vec<Problem>,
) {
    let created = input.route.created();
    let rules = input.route.rules();
    if rules.is_empty() {
        // Attached all the same: what it does not match is not let through.
        let origin = RuleOrigin::new(input.entry.reference(), 0, None);
        builder.rule(
            RouteRule::new(origin, Action::fail("the route has no rules")),
            created,
        );
        problems.push(input.entry.problem(
            Severity::Warning,
            "spec.rules",
            "the route has no rules, so nothing matches",
            "add a rule",
        ));
    }
    for (index, rule) in rules.iter().enumerate() {
        let mut findings = Findings::new(input.entry, problems, format!("spec.rules[{index}]"));
        let matches = matching::compile(rule.matches, &mut findings);
        let place = Place {
            index: index as u32,
            scope: scope(&rules, index, input.entry),
            parent_port,
        };
        let compiled = compile(rule, &place, &matches, resolve, &mut findings);
        let id = builder.rule(compiled, created);
        for (match_index, predicates) in matches {
            builder.matching(id, match_index, hosts, predicates);
        }
    }
}

/// What is wrong with the rules of a route as they are written, whatever they refer to: the index of each such rule, and
/// what the first fault of it is.
pub(crate) fn ills(input: &RouteInput<'_>) -> Vec<(usize, Ill, String)> {
    let rules = input.route.rules();
    let mut ills = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut problems = Vec::new();
        let mut findings = Findings::new(input.entry, &mut problems, format!("spec.rules[{index}]"));
        let matches = matching::compile(rule.matches, &mut findings);
        let place = Place {
            index: index as u32,
            scope: String::new(),
            parent_port: 80,
        };
        compile(rule, &place, &matches, &mut Anything, &mut findings);
        if let Some(ill) = findings.fault {
            let said = problems.iter().find(|it| it.severity == Severity::Error);
            ills.push((index, ill, said.map_or_else(String::new, |it| it.text.clone())));
        }
    }
    ills
}

/// Where every reference leads somewhere: what is asked is only whether the rest makes sense.
struct Anything;

impl Backends for Anything {
    fn resolve(&mut self, _: &ResourceRef, _: &BackendObjectReference) -> Result<ClusterId, Unresolved> {
        Ok(ClusterId(0))
    }

    fn address(&mut self, _: ClusterId) -> Option<(Host, u16)> {
        Some((Host::parse("anything").ok()?, 80))
    }
}

/// Where a rule stands.
struct Place {
    index: u32,
    /// What tells its sessions from those of all others.
    scope: String,
    /// Port of listener or service.
    parent_port: u16,
}

/// By the rule's name where there is one of its own: sessions then survive a rule that is put before.
fn scope(rules: &[Rule<'_>], index: usize, entry: &Entry) -> String {
    let (before, name) = (&rules[..index], rules[index].name);
    match name.filter(|_| before.iter().all(|it| it.name != name)) {
        Some(name) => format!("{} {name}", entry.reference()),
        None => format!("{}/{index}", entry.reference()),
    }
}

fn compile(
    rule: &Rule<'_>,
    place: &Place,
    matches: &[(u32, Predicates)],
    resolve: &mut dyn Backends,
    findings: &mut Findings<'_>,
) -> RouteRule {
    let purpose = Purpose {
        parent_port: place.parent_port,
        only_prefixes: matches
            .iter()
            .all(|(_, predicates)| matches!(predicates.path, PathPattern::Prefix(_))),
        grpc: matches!(rule.matches, Matches::Grpc(_)),
    };
    let mut filters = Filters::compile(rule.filters, purpose, resolve, findings);
    let timeouts = timeouts(rule, findings);
    let retry = retry(rule, findings);
    let origin = RuleOrigin::new(findings.route(), place.index, rule.name.map(Arc::from))
        .paths(matches.iter().map(|(_, predicates)| named(&predicates.path)));
    let session = rule
        .session
        .and_then(|written| session::compile(written, &place.scope, CookiePath::Matched, findings));
    let action = match filters.redirect.take() {
        Some(redirect) => {
            if !rule.backend_refs.is_empty() {
                findings.report(
                    Severity::Ignored,
                    "backendRefs",
                    "a rule that redirects sends nothing to its backends",
                    "remove backendRefs or the RequestRedirect",
                );
            }
            Action::Redirect(redirect)
        }
        None => backend::compile(rule.backend_refs, purpose, resolve, findings),
    };
    let action = match findings.broken.take() {
        Some(why) => Action::fail(why),
        None => action,
    };
    RouteRule {
        request: filters.request,
        response: filters.response,
        rewrite: filters.rewrite,
        timeouts,
        retry: Arc::new(retry),
        mirrors: filters.mirrors.into(),
        cors: filters.cors,
        authorizer: filters.authorizer,
        session: session.map(Arc::new),
        ..RouteRule::new(origin, action)
    }
}

fn named(path: &PathPattern) -> PathName<'_> {
    match path {
        PathPattern::Prefix(prefix) => PathName::Prefix(prefix),
        PathPattern::Exact(path) => PathName::Exact(path),
        PathPattern::Regex(regex) => PathName::Regex(regex.as_str()),
        // Of whatever service: Envoy has an expression there.
        PathPattern::Method(_) => PathName::Any,
    }
}

fn timeouts(rule: &Rule<'_>, findings: &mut Findings<'_>) -> Timeouts {
    let Some(written) = rule.timeouts else {
        return Timeouts::default();
    };
    let mut timeouts = Timeouts {
        request: duration(written.request.as_deref(), "timeouts.request", findings),
        per_try: duration(
            written.backend_request.as_deref(),
            "timeouts.backendRequest",
            findings,
        ),
    };
    if let (Some(request), Some(per_try)) = (timeouts.request, timeouts.per_try)
        && per_try > request
    {
        findings.report(
            Severity::Warning,
            "timeouts.backendRequest",
            "one attempt may take longer than the whole request, so this limit has no effect",
            "make it shorter than timeouts.request",
        );
    }
    if rule.retry.is_none() {
        // Nobody asked for another attempt, so there is one, and its limit is that of the request: what Istio's default
        // retries repeat of it are connections that were not made.
        let one = timeouts.per_try.take();
        timeouts.request = timeouts.request.into_iter().chain(one).min();
    }
    timeouts
}

/// A duration; `None` if there is none, or it is zero, which is how Gateway API switches a limit off.
pub(super) fn duration(text: Option<&str>, field: &str, findings: &mut Findings<'_>) -> Option<Duration> {
    match parse_duration(text?) {
        Ok(duration) => (!duration.is_zero()).then_some(duration),
        Err(error) => {
            findings.error(
                field,
                error.to_string(),
                "write it like 10s, 500ms or 1h30m (GEP-2257)",
            );
            None
        }
    }
}

fn retry(rule: &Rule<'_>, findings: &mut Findings<'_>) -> RetryPolicy {
    let Some(written) = rule.retry else {
        return RetryPolicy::istio_default();
    };
    let mut codes = Vec::with_capacity(written.codes.len());
    for (index, code) in written.codes.iter().enumerate() {
        match StatusCode::from_u16(*code) {
            Ok(status) if (400..600).contains(code) => codes.push(status),
            _ => findings.error(
                &format!("retry.codes[{index}]"),
                format!("{code} is not a status that can be retried"),
                "use a status from 400 to 599",
            ),
        }
    }
    let backoff = duration(written.backoff.as_deref(), "retry.backoff", findings);
    RetryPolicy::gateway_api(written.attempts, codes.into(), backoff)
}
