//! Metrics: which of Istio's are told, and with which labels.
//!
//! Telemetries override what is told, from the mesh's down to a service's own: overrides apply in order, to one metric or to
//! all, on the side of whoever receives (`SERVER`, which a waypoint is too) or sends (`CLIENT`). Unlike Istio's proxies, which
//! tell nothing until `defaultProviders` or a Telemetry names a provider, metrics are there from the beginning: who scrapes
//! asks for them. A Telemetry that names only providers that metrics cannot be told to does take them away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::telemetry::{Seat, Telemetries};
use crate::config::istio::telemetry::{Metrics, MetricsOverrides, TagOverride};
use crate::config::istio::{GoDuration, Telemetry};
use crate::config::{Entry, Problem, Severity};
use crate::snapshot::{MeshFacts, MetricPlans};
use crate::telemetry::cel::{Expression, NodeFacts};
use crate::telemetry::{Metric, MetricPlan, is_standard_label};

/// The provider that there is without being declared.
pub(super) const PROMETHEUS: &str = "prometheus";

/// On which side of a request metrics are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

/// What becomes of one metric.
#[derive(Clone, Debug, Default)]
struct Override {
    disabled: bool,
    /// The value of each label; `None` leaves it out.
    tags: BTreeMap<String, Option<Expression>>,
}

/// What is asked about which metrics are told.
pub(super) struct Counting<'s, 'a> {
    telemetries: &'s Telemetries<'s, 'a>,
    facts: Option<&'s MeshFacts>,
}

impl<'s, 'a> Counting<'s, 'a> {
    pub(super) fn new(telemetries: &'s Telemetries<'s, 'a>, facts: Option<&'s MeshFacts>) -> Self {
        Self { telemetries, facts }
    }

    pub(super) fn plans(&self, seat: Seat<'_, '_>) -> MetricPlans {
        let levels = self.telemetries.levels(seat);
        MetricPlans {
            servers: self
                .telemetries
                .by_service(seat, |levels| Arc::new(self.plan(levels, Side::Server))),
            clients: Arc::new(self.plan(&levels, Side::Client)),
        }
    }

    fn is_known(&self, provider: &str) -> bool {
        provider == PROMETHEUS || self.facts.is_some_and(|facts| facts.metrics.contains(provider))
    }

    /// What the levels come to, wider ones first.
    fn plan(&self, levels: &[&Telemetry], side: Side) -> MetricPlan {
        let mut told: BTreeMap<Metric, Override> = BTreeMap::new();
        let mut has_provider = true;
        for telemetry in levels {
            let entries = &telemetry.spec.metrics;
            let mut named = entries.iter().flat_map(|it| &it.providers).peekable();
            if named.peek().is_some() {
                // A nearer level's providers take the place of those before.
                has_provider = named.any(|it| self.is_known(&it.name));
            }
            for entry in entries {
                let is_ours =
                    entry.providers.is_empty() || entry.providers.iter().any(|it| self.is_known(&it.name));
                for it in entry.overrides.iter().filter(|it| is_ours && is_of(it, side)) {
                    for metric in metrics(it) {
                        apply(told.entry(metric).or_default(), it, &self.telemetries.facts);
                    }
                }
            }
        }
        let mut plan = MetricPlan::default();
        for (metric, it) in told {
            for (label, value) in it.tags {
                match value {
                    Some(expression) => plan.set(metric, &label, expression),
                    None => plan.remove(metric, &label),
                }
            }
            if it.disabled {
                plan.disable(metric, true);
            }
        }
        if !has_provider {
            Metric::ALL
                .into_iter()
                .for_each(|metric| plan.disable(metric, true));
        }
        plan
    }

    /// What is wrong with what Telemetries say of metrics, wherever they apply.
    pub(super) fn report(&self, problems: &mut Vec<Problem>) {
        for it in self.telemetries.iter() {
            for (index, metrics) in it.policy.spec.metrics.iter().enumerate() {
                self.check(it.entry, metrics, &format!("spec.metrics[{index}]"), problems);
            }
        }
    }

    fn check(&self, entry: &Arc<Entry>, metrics: &Metrics, at: &str, problems: &mut Vec<Problem>) {
        let mut tell = |severity, field: String, text: String, remedy: &'static str| {
            problems.push(entry.problem(severity, field, text, remedy));
        };
        for (index, provider) in metrics.providers.iter().enumerate() {
            if !self.is_known(&provider.name) {
                tell(
                    Severity::Error,
                    format!("{at}.providers[{index}].name"),
                    format!(
                        "there is no provider `{}` that metrics can be told to",
                        provider.name
                    ),
                    "name prometheus, or a provider of that kind among extensionProviders",
                );
            }
        }
        // Bytes are counted as they pass: what is shown is never older than an interval, whichever it is.
        let interval = metrics.reporting_interval.as_deref().unwrap_or("5s");
        match GoDuration::parse(interval) {
            Some(GoDuration(Duration::ZERO)) => tell(
                Severity::Ignored,
                format!("{at}.reportingInterval"),
                "connections are counted as their bytes pass, not at their end".to_owned(),
                "remove it",
            ),
            Some(_) => {}
            None => tell(
                Severity::Error,
                format!("{at}.reportingInterval"),
                format!("`{interval}` is not a duration like 5s or 500ms, so it has no effect"),
                "write one",
            ),
        }
        for (index, it) in metrics.overrides.iter().enumerate() {
            let at = format!("{at}.overrides[{index}]");
            let selects = it.selects.clone().unwrap_or_default();
            if let Some(name) = &selects.metric
                && name != "ALL_METRICS"
                && Metric::named(name).is_none()
            {
                tell(
                    Severity::Error,
                    format!("{at}.match.metric"),
                    format!("`{name}` is no metric, so it has no effect"),
                    "use one of Istio's, such as REQUEST_COUNT, or ALL_METRICS",
                );
            }
            if let Some(name) = &selects.custom_metric {
                tell(
                    Severity::Ignored,
                    format!("{at}.match.customMetric"),
                    format!("there is no metric `{name}` here: extensions are not run"),
                    "remove it",
                );
            }
            if let Some(mode) = selects.mode.as_deref()
                && !["CLIENT_AND_SERVER", "CLIENT", "SERVER"].contains(&mode)
            {
                tell(
                    Severity::Error,
                    format!("{at}.match.mode"),
                    format!("`{mode}` is no mode, so it has no effect"),
                    "use SERVER, CLIENT or CLIENT_AND_SERVER",
                );
            }
            for (label, tag) in &it.tag_overrides {
                if let Err((severity, text)) = judge(label, tag, &self.telemetries.facts) {
                    let remedy = "see docs/metrics.md for what labels can be made of";
                    tell(severity, format!("{at}.tagOverrides.{label}"), text, remedy);
                }
            }
        }
    }
}

/// Whether an override speaks of this side.
fn is_of(it: &MetricsOverrides, side: Side) -> bool {
    let mode = it.selects.as_ref().and_then(|it| it.mode.as_deref());
    match mode {
        None | Some("CLIENT_AND_SERVER") => true,
        Some("SERVER") => side == Side::Server,
        Some("CLIENT") => side == Side::Client,
        Some(_) => false,
    }
}

/// The metrics that an override speaks of.
fn metrics(it: &MetricsOverrides) -> BTreeSet<Metric> {
    let selects = it.selects.as_ref();
    match selects.and_then(|it| it.metric.as_deref()) {
        _ if selects.is_some_and(|it| it.custom_metric.is_some()) => BTreeSet::new(),
        None | Some("ALL_METRICS") => Metric::ALL.into(),
        Some(name) => Metric::named(name).into_iter().collect(),
    }
}

fn apply(told: &mut Override, it: &MetricsOverrides, node: &NodeFacts) {
    if let Some(disabled) = it.disabled {
        told.disabled = disabled;
    }
    for (label, tag) in &it.tag_overrides {
        match judge(label, tag, node) {
            Ok(value) => drop(told.tags.insert(label.clone(), value)),
            // As Istio's: what cannot be read leaves a standard label without a value.
            Err(_) if is_standard_label(label) && !is_removal(tag) => {
                drop(told.tags.insert(label.clone(), None))
            }
            Err(_) => {}
        }
    }
}

fn is_removal(tag: &TagOverride) -> bool {
    tag.operation.as_deref() == Some("REMOVE")
}

/// The value of a label, `None` if it is left out; or why it has no effect.
fn judge(label: &str, tag: &TagOverride, node: &NodeFacts) -> Result<Option<Expression>, (Severity, String)> {
    match tag.operation.as_deref() {
        Some("REMOVE") if is_standard_label(label) => Ok(None),
        Some("REMOVE") => {
            let text = format!("`{label}` is none of Istio's labels, so there is nothing to remove");
            Err((Severity::Warning, text))
        }
        None | Some("UPSERT") if !is_label(label) => {
            let text = format!("`{label}` is no name of a label, so it has no effect");
            Err((Severity::Error, text))
        }
        None | Some("UPSERT") => match Expression::parse_by(&tag.value, node) {
            Ok(expression) => Ok(Some(expression)),
            Err(error) => {
                let left = match is_standard_label(label) {
                    true => "the label is left out",
                    false => "it has no effect",
                };
                Err((Severity::Error, format!("{error}; {left}")))
            }
        },
        Some(other) => Err((
            Severity::Error,
            format!("`{other}` is no operation, so it has no effect"),
        )),
    }
}

/// Whether Prometheus takes it for the name of a label, and not one of those that it keeps for itself.
fn is_label(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_word)
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !name.starts_with("__")
        && name != "le"
}
