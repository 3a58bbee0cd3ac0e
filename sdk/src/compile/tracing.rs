//! Traces: which requests are recorded, what their spans tell, and where they go.
//!
//! From the mesh's down to a service's own Telemetry, field by field: of what is said nearer the last counts; providers and
//! tags are replaced whole. Where no Telemetry says anything, the mesh configuration does (Istio `telemetry.go`).

use std::sync::Arc;
use std::time::Duration;

use super::inbound::Own;
use super::labels;
use super::telemetry::{Seat, Telemetries};
use super::trace_tag::tags;
use crate::config::istio::Telemetry;
use crate::config::istio::telemetry::Tracing as Entry;
use crate::config::{Entry as Source, Problem, Severity};
use crate::snapshot::{ByService, MeshFacts, Node, TraceFacts, TraceProvider};
use crate::telemetry::Propagation;
use crate::telemetry::recording::{Keep, Outlet, Sampling, SpanTarget, Tag, TracePlan, TracePlans, Tracing};

/// How long the path in a span may be (Envoy `max_path_tag_length`).
const LONGEST: usize = 256;

/// What is asked about traces.
pub(super) struct Traces<'s, 'a> {
    pub(super) telemetries: &'s Telemetries<'s, 'a>,
    pub(super) facts: Option<&'s MeshFacts>,
    pub(super) node: &'s Node,
    pub(super) own: &'s Own,
}

/// Which side of requests an entry must speak of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

/// What the levels come to.
#[derive(Default)]
struct Stated {
    any: bool,
    provider: Option<Arc<str>>,
    share: Option<u16>,
    silent: bool,
    tags: Option<Vec<Tag>>,
    by_request_id: Option<bool>,
    istio_tags: Option<bool>,
    mute: bool,
    keep: Option<Keep>,
}

impl Traces<'_, '_> {
    /// The plans of a process.
    pub(super) fn plans(&self, seat: Seat<'_, '_>) -> TracePlans<ByService<TracePlan>> {
        let received = self
            .telemetries
            .by_service(seat, |levels| Arc::new(self.plan(levels, Side::Server)));
        // What a Gateway sends it has received: that is one span, as of Envoy. Else it asks on its own behalf.
        let sent = match seat.gateway {
            Some(_) => Arc::default(),
            None => Arc::new(self.plan(&self.telemetries.levels(seat), Side::Client)),
        };
        TracePlans { received, sent }
    }

    fn plan(&self, levels: &[&Telemetry], side: Side) -> TracePlan {
        let nothing = TraceFacts::default();
        let facts = self.facts.map_or(&nothing, |facts| &facts.tracing);
        let stated = self.stated(levels, side, facts);
        if !cfg!(feature = "otlp") || !stated.any {
            return TracePlan {
                propagation: self.node.propagation,
                ..TracePlan::default()
            };
        }
        let provider = stated
            .provider
            .as_ref()
            .and_then(|name| facts.providers.get(name));
        let provider = provider.and_then(|provider| provider.as_ref().ok());
        // Zipkin's says so itself; any other has what is usual here.
        let own = provider
            .map(|it| it.propagation)
            .filter(|it| *it != Propagation::default());
        let mut propagation = own.unwrap_or(self.node.propagation);
        if stated.mute || stated.silent {
            propagation = propagation.mute();
        }
        let default = Sampling::default();
        let longest = provider.and_then(|it| it.longest).or(facts.longest);
        TracePlan {
            tracing: match stated.silent {
                true => Tracing::Silent,
                false => Tracing::Recorded,
            },
            outlet: provider.map(|it| Arc::new(Outlet::new(self.target(it)))),
            sampling: Sampling {
                share: stated.share.or(facts.share).unwrap_or(default.share),
                by_request_id: stated.by_request_id.unwrap_or(default.by_request_id),
            },
            propagation,
            tags: stated.tags.unwrap_or_else(|| facts.tags.clone()),
            own: self.own_tags(stated.istio_tags.or(facts.istio_tags).unwrap_or(true)),
            longest: longest.unwrap_or(LONGEST),
            keep: stated.keep.filter(|keep| *keep != Keep::default()),
            ..TracePlan::default()
        }
        .ready()
    }

    fn stated(&self, levels: &[&Telemetry], side: Side, facts: &TraceFacts) -> Stated {
        let mut stated = Stated {
            any: facts.default.is_some(),
            provider: facts.default.clone(),
            ..Stated::default()
        };
        for telemetry in levels {
            let keep = telemetry.metadata.annotations.get(labels::KEEP_TRACES);
            if let Some(keep) = keep.and_then(|text| read_keep(text).ok()) {
                stated.keep = Some(keep);
            }
            let entries = telemetry.spec.tracing.iter();
            for it in entries.filter(|it| speaks_of(it, side)) {
                stated.any = true;
                if let Some(first) = it.providers.first() {
                    stated.provider = Some(first.name.as_str().into());
                }
                let share = it.random_sampling_percentage.and_then(Sampling::of_percentage);
                stated.share = share.or(stated.share);
                stated.silent = it.disable_span_reporting.unwrap_or(stated.silent);
                if let Some(custom) = &it.custom_tags {
                    stated.tags = Some(tags(custom, |_, _| {}));
                }
                stated.by_request_id = it.use_request_id_for_trace_sampling.or(stated.by_request_id);
                stated.istio_tags = it.enable_istio_tags.or(stated.istio_tags);
                stated.mute = it.disable_context_propagation.unwrap_or(stated.mute);
            }
        }
        stated
    }

    /// Where spans go, with who we are.
    fn target(&self, provider: &TraceProvider) -> SpanTarget {
        let mut target = provider.target.clone();
        let name = match provider.by_conventions {
            true => self.conventional_name(),
            false => self.canonical_name(),
        };
        let me = &self.own.workload;
        for (key, value) in [
            ("service.name", &*name),
            ("k8s.namespace.name", &*self.node.namespace),
            ("k8s.pod.name", &*me.name),
        ] {
            let is_given = target.resource.iter().any(|(given, _)| **given == *key);
            if !value.is_empty() && !is_given {
                target.resource.push((key.into(), value.into()));
            }
        }
        target
    }

    /// As Istio names proxies: a waypoint by its account, a workload by its canonical service.
    fn canonical_name(&self) -> String {
        let namespace = &self.node.namespace;
        let account = self.node.identity.as_ref().map(|id| id.service_account());
        match (&self.node.role, account) {
            (crate::snapshot::Role::Gateway { .. }, Some(account)) => format!("{account}.{namespace}"),
            (_, account) => match &*self.own.workload.canonical_service {
                "" => format!("{}.{namespace}", account.unwrap_or("unknown")),
                service => format!("{service}.{namespace}"),
            },
        }
    }

    /// As OpenTelemetry's conventions for Kubernetes name services.
    fn conventional_name(&self) -> String {
        let label = |key: &str| self.own.labels.get(key).map(String::as_str);
        let me = &self.own.workload;
        let found = label("app.kubernetes.io/instance")
            .or_else(|| label("app.kubernetes.io/name"))
            .or_else(|| Some(&*me.owner).filter(|it| !it.is_empty()))
            .or_else(|| Some(&*me.name).filter(|it| !it.is_empty()));
        found.unwrap_or("unknown_service").to_owned()
    }

    /// Tags that are the same in every span.
    fn own_tags(&self, with_istio: bool) -> Arc<[(Arc<str>, Arc<str>)]> {
        let (node, me) = (self.node, &self.own.workload);
        let or = |value: &Arc<str>, other: &str| match &**value {
            "" => Arc::from(other),
            value => Arc::from(value),
        };
        let id = Arc::clone(&self.telemetries.facts.id);
        let mut tags: Vec<(Arc<str>, Arc<str>)> = vec![("node_id".into(), id)];
        if with_istio {
            let mesh = node.trust_domains.first().cloned().unwrap_or_default();
            tags.extend([
                (
                    "istio.canonical_revision".into(),
                    or(&me.canonical_revision, "latest"),
                ),
                (
                    "istio.canonical_service".into(),
                    or(&me.canonical_service, "unknown"),
                ),
                ("istio.cluster_id".into(), or(&node.cluster_id, "unknown")),
                ("istio.mesh_id".into(), or(&mesh, "unknown")),
                ("istio.namespace".into(), or(&node.namespace, "default")),
            ]);
        }
        tags.into()
    }

    /// What is wrong with Telemetries, wherever they apply.
    pub(super) fn report(&self, problems: &mut Vec<Problem>) {
        for it in self.telemetries.iter() {
            let entries = &it.policy.spec.tracing;
            for (index, tracing) in entries.iter().enumerate() {
                self.check(it.entry, tracing, &format!("spec.tracing[{index}]"), problems);
            }
            if !cfg!(feature = "otlp") && !entries.is_empty() {
                let text = "this program was built without feature `otlp`, so it has no effect";
                problems.push(it.entry.problem(
                    Severity::Ignored,
                    "spec.tracing",
                    text,
                    "build it with the feature",
                ));
            }
        }
    }

    fn check(&self, entry: &Arc<Source>, tracing: &Entry, at: &str, problems: &mut Vec<Problem>) {
        let mut say = |severity, field: &str, text: String, remedy: &'static str| {
            problems.push(entry.problem(severity, format!("{at}.{field}"), text, remedy));
        };
        for (index, provider) in tracing.providers.iter().enumerate() {
            let field = format!("providers[{index}].name");
            let known = self
                .facts
                .and_then(|facts| facts.tracing.providers.get(provider.name.as_str()));
            if index > 0 {
                let text = "of several providers of traces the first counts".to_owned();
                say(Severity::Ignored, &field, text, "name one");
            } else if known.is_none() {
                let text = format!(
                    "there is no provider `{}` that spans can be sent to",
                    provider.name
                );
                let remedy =
                    "declare it as opentelemetry or zipkin among the mesh configuration's extensionProviders";
                say(Severity::Error, &field, text, remedy);
            }
        }
        if let Some(percentage) = tracing.random_sampling_percentage
            && Sampling::of_percentage(percentage).is_none()
        {
            let text = format!("{percentage} is no percentage, so it has no effect");
            say(
                Severity::Error,
                "randomSamplingPercentage",
                text,
                "write a number from 0 to 100",
            );
        }
        if let Some(custom) = &tracing.custom_tags {
            tags(custom, |name, why| {
                let text = format!("the tag is left out: {why}");
                say(Severity::Error, &format!("customTags.{name}"), text, "mend it");
            });
        }
        match tracing.selects.as_ref().and_then(|it| it.mode.as_deref()) {
            None | Some("CLIENT_AND_SERVER" | "SERVER" | "CLIENT") => {}
            Some(other) => {
                let text = format!("`{other}` is no mode, so it has no effect");
                say(
                    Severity::Error,
                    "match.mode",
                    text,
                    "use CLIENT, SERVER or CLIENT_AND_SERVER",
                );
            }
        }
    }
}

fn speaks_of(entry: &Entry, side: Side) -> bool {
    match entry.selects.as_ref().and_then(|it| it.mode.as_deref()) {
        None | Some("CLIENT_AND_SERVER") => true,
        Some("SERVER") => side == Side::Server,
        Some("CLIENT") => side == Side::Client,
        Some(_) => false,
    }
}

/// Reads the annotation `inmesh.io/keep-traces`.
fn read_keep(text: &str) -> Result<Keep, String> {
    let mut keep = Keep::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            None if part == "failed" => keep.failed = true,
            None if part == "denied" => keep.denied = true,
            Some(("slow", limit)) => keep.slow = Some(duration(limit)?),
            _ => return Err(format!("`{part}` says of no trace that it is kept")),
        }
    }
    Ok(keep)
}

/// What is wrong with the annotation.
pub(super) fn judge_keep(entry: &Arc<Source>, field: &str, value: &str, problems: &mut Vec<Problem>) {
    if let Err(why) = read_keep(value) {
        let remedy = "list failed, denied and slow=DURATION, separated by commas";
        problems.push(entry.problem(Severity::Error, field, why, remedy));
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::istio::GoDuration::parse(text)
        .map(|duration| duration.0)
        .ok_or_else(|| format!("`{text}` is not a duration like 1.5s or 250ms"))
}
