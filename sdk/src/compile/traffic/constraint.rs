//! XBackendTrafficPolicies: which one applies to a service.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compile::memo::Same;
use crate::config::gateway::{RetryConstraint, XBackendTrafficPolicy};
use crate::config::{Entry, Problem, ResourceStore, Severity};
use crate::name::{Kind, ServiceName};
use crate::policy::timeout::parse_duration;

/// The retry constraint of each service that has one.
#[derive(Debug, Default)]
pub(crate) struct Constraints<'a>(HashMap<(&'a str, &'a str), (&'a RetryConstraint, &'a Arc<Entry>)>);

impl<'a> Constraints<'a> {
    /// Reads all policies; of two for one service the older counts.
    pub(crate) fn read(store: &'a ResourceStore, problems: &mut Vec<Problem>) -> Self {
        let mut all: Vec<_> = store.backend_traffic_policies().collect();
        all.sort_by_key(|(it, _)| {
            let created = it.metadata.creation_timestamp.as_deref();
            (
                created.is_none(),
                created,
                &it.metadata.namespace,
                &it.metadata.name,
            )
        });
        let mut constraints = Self::default();
        for (policy, entry) in all {
            check(policy, entry, problems);
            constraints.add(policy, entry, problems);
        }
        constraints
    }

    fn add(&mut self, policy: &'a XBackendTrafficPolicy, entry: &'a Arc<Entry>, problems: &mut Vec<Problem>) {
        for (at, target) in policy.spec.target_refs.iter().enumerate() {
            let field = format!("spec.targetRefs[{at}]");
            let core = matches!(&*target.group, "" | "core");
            if !core || target.kind != "Service" {
                problems.push(entry.problem(
                    Severity::Error,
                    field,
                    format!("{} {} cannot be a target", target.kind, target.name),
                    "name Services of the policy's own namespace",
                ));
                continue;
            }
            let Some(written) = &policy.spec.retry_constraint else {
                continue;
            };
            let key = (&*policy.metadata.namespace, target.name.as_str());
            if self.0.contains_key(&key) {
                problems.push(entry.problem(
                    Severity::Warning,
                    field,
                    format!(
                        "an older policy already says how Service {} is retried",
                        target.name
                    ),
                    "keep one policy for each Service",
                ));
                continue;
            }
            self.0.insert(key, (written, entry));
        }
    }

    pub(crate) fn of(&self, kind: Kind, name: &ServiceName) -> Option<&'a RetryConstraint> {
        Some(self.get(kind, name)?.0)
    }

    /// Where it is written.
    pub(crate) fn written(&self, kind: Kind, name: &ServiceName) -> Option<Same<Entry>> {
        Some(Same::of(self.get(kind, name)?.1))
    }

    fn get(&self, kind: Kind, name: &ServiceName) -> Option<(&'a RetryConstraint, &'a Arc<Entry>)> {
        if kind != Kind::Service || self.0.is_empty() {
            return None;
        }
        self.0.get(&(&*name.namespace, &*name.name)).copied()
    }
}

/// Reports what of a policy's retry constraint cannot be carried out as written.
pub(crate) fn check(policy: &XBackendTrafficPolicy, entry: &Entry, problems: &mut Vec<Problem>) {
    let Some(written) = &policy.spec.retry_constraint else {
        return;
    };
    let mut report = |field: &str, text: String, remedy: &str| {
        let field = format!("spec.retryConstraint.{field}");
        problems.push(entry.problem(Severity::Error, field, text, remedy));
    };
    let budget = written.budget.as_ref();
    if let Some(percent) = budget.and_then(|it| it.percent).filter(|it| *it > 100) {
        report(
            "budget.percent",
            format!("{percent} is no percentage; 100 is used"),
            "use 0 to 100",
        );
    }
    let durations = [
        ("budget.interval", budget.and_then(|it| it.interval.as_deref())),
        (
            "minRetryRate.interval",
            written
                .min_retry_rate
                .as_ref()
                .and_then(|it| it.interval.as_deref()),
        ),
    ];
    for (field, text) in durations {
        match text.map(parse_duration) {
            Some(Err(error)) => report(
                field,
                format!("{error}; the default is used"),
                "write it like 10s, 500ms or 1m30s (GEP-2257)",
            ),
            Some(Ok(it)) if it.is_zero() => report(
                field,
                "an interval of nothing; the default is used".into(),
                "write a duration of a second or more",
            ),
            _ => {}
        }
    }
}
