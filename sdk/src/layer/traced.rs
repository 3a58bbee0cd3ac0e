//! What is done about a request's trace: what the plan of its place says.
//!
//! `untraced.rs` is the same room where feature `otlp` is off.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, Request};
use tracing::Span;

use super::call::Served;
use super::labels::{self, Onward};
use super::notes::{Decided, Notes};
use super::{MeshBody, Origin, Reason as Why, Refusal};
use crate::snapshot::tap::Attempt;
use crate::snapshot::{Place, Snapshot};
use crate::telemetry::access::{Entry, Wanted};
use crate::telemetry::recording::{
    Asked, Reason, Recording, RequestId, Side, Told, TracePlan, Tracing, Tried,
};
use crate::telemetry::{self, Meter, Protocol, TraceContext};

const FORCE: HeaderName = HeaderName::from_static("x-envoy-force-trace");
const CLIENT: HeaderName = HeaderName::from_static("x-client-trace-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is done about a request's trace; nothing for most.
#[derive(Debug, Default)]
pub(super) struct Traced(Option<Box<State>>);

#[derive(Debug)]
struct State {
    plan: Arc<TracePlan>,
    way: Way,
    served: Option<Served>,
    refused: Option<Refused>,
}

/// Who records the span.
#[derive(Debug)]
enum Way {
    Ours(Recording),
    /// An OpenTelemetry layer of the application's: it gets the tags that the plan has.
    Theirs,
}

#[derive(Debug)]
struct Refused {
    reason: Why,
    policy: Option<String>,
}

/// What becomes of a request's trace, before its span is opened.
pub(super) struct Opening {
    /// What the span below has as its parent, and whom it is to follow.
    pub(super) caller: TraceContext,
    plan: Option<Arc<TracePlan>>,
    side: Side,
}

impl Opening {
    /// For a request that comes in at `origin`: who called it, and whether it is recorded. Its id is seen to.
    pub(super) fn received(request: &mut Request<MeshBody>, origin: &Origin, view: &Snapshot) -> Self {
        let plan = view.traces.received.at(&origin.place);
        let headers = request.headers_mut();
        if plan.tracing != Tracing::Recorded {
            return Self {
                caller: TraceContext::extract_by(headers, &plan.propagation),
                plan: (plan.tracing == Tracing::Silent).then(|| Arc::clone(plan)),
                side: Side::Server,
            };
        }
        // At an edge anybody may call, and nobody there has a say in what is recorded.
        if matches!(*origin.place, Place::Port { .. } | Place::Listener { .. }) {
            headers.remove(FORCE);
        }
        let caller = TraceContext::extract_by(headers, &plan.propagation);
        Self {
            caller: decide(plan, caller, headers),
            plan: Some(Arc::clone(plan)),
            side: Side::Server,
        }
    }

    /// For a request that this process sends: whose it is, and whether it is recorded.
    pub(super) fn sent(request: &mut Request<MeshBody>, view: &Snapshot) -> Self {
        let plan = &view.traces.sent;
        if plan.tracing == Tracing::Unasked {
            return Self {
                caller: TraceContext::default(),
                plan: None,
                side: Side::Client,
            };
        }
        let mut caller = telemetry::current();
        if caller.is_none() {
            // Applications that know nothing of tracing copy headers from what they received, as Istio asks of them.
            caller = TraceContext::extract_by(request.headers(), &plan.propagation);
        }
        if plan.tracing == Tracing::Recorded {
            caller = decide(plan, caller, request.headers_mut());
        }
        Self {
            caller,
            plan: Some(Arc::clone(plan)),
            side: Side::Client,
        }
    }

    /// Whether the mesh's own `tracing` span is left out, too.
    pub(super) fn is_silent(&self) -> bool {
        self.plan
            .as_ref()
            .is_some_and(|plan| plan.tracing == Tracing::Silent)
    }

    /// Settles who records, now that `span` has its parent; and the context that applies from here on.
    pub(super) fn settle(self, span: &Span, meter: &Meter) -> (TraceContext, Traced) {
        let Some(plan) = self.plan.filter(|plan| plan.tracing == Tracing::Recorded) else {
            return (self.caller, Traced(None));
        };
        let theirs = telemetry::context_of(span);
        if !theirs.is_none() {
            let traced = theirs.is_sampled().then(|| State::new(plan, Way::Theirs));
            return (theirs, Traced(traced));
        }
        let sampled = self.caller.decided().unwrap_or(false);
        let (context, recording) = Recording::begin(&plan, &self.caller, sampled, self.side, meter);
        let traced = recording.map(|recording| State::new(plan, Way::Ours(recording)));
        (context, Traced(traced))
    }
}

/// Decides whether a trace is recorded, and writes down in the request's id why. A trace begins here if none has.
fn decide(plan: &TracePlan, caller: TraceContext, headers: &mut HeaderMap) -> TraceContext {
    let caller = caller.or_fresh();
    let parent = caller
        .decided()
        .or_else(|| TraceContext::hint(headers, &plan.propagation));
    let Some(sampled) = parent else {
        return decide_here(plan, caller, headers);
    };
    // Who follows a caller asks neither for wishes nor what the id says; it need only be there.
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, RequestId::fresh().value());
    }
    caller.settled(sampled)
}

fn decide_here(plan: &TracePlan, caller: TraceContext, headers: &mut HeaderMap) -> TraceContext {
    let forced = forced(headers);
    let known = headers.get(REQUEST_ID);
    let (is_new, id) = match known {
        Some(known) => (false, RequestId::parse(known)),
        None => (true, Some(RequestId::fresh())),
    };
    let (sampled, reason) = plan.sampling.decide(&Asked {
        parent: None,
        request_id: id,
        forced,
        trace: caller.trace_share(),
    });
    if let Some(id) = id {
        let marked = reason.filter(|_| plan.sampling.by_request_id && id.reason().is_none());
        match marked {
            Some(reason) => drop(headers.insert(REQUEST_ID, id.marked(Some(reason)).value())),
            None if is_new => drop(headers.insert(REQUEST_ID, id.value())),
            None => {}
        }
    }
    caller.settled(sampled)
}

/// Who wishes for a trace.
fn forced(headers: &HeaderMap) -> Option<Reason> {
    match (headers.contains_key(CLIENT), headers.contains_key(FORCE)) {
        (true, _) => Some(Reason::Client),
        (false, true) => Some(Reason::Forced),
        _ => None,
    }
}

impl State {
    fn new(plan: Arc<TracePlan>, way: Way) -> Box<Self> {
        Box::new(Self {
            plan,
            way,
            served: None,
            refused: None,
        })
    }
}

impl Traced {
    /// Whether a span is recorded, and so what it tells must be kept.
    pub(super) fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// What must be kept of the request.
    pub(super) fn wanted(&self) -> Option<&Wanted> {
        self.0.as_ref().map(|state| &state.plan.wanted)
    }

    /// The trace's id, where the span is ours.
    pub(super) fn trace_id(&self) -> Option<[u8; 16]> {
        match &self.0.as_ref()?.way {
            Way::Ours(recording) => Some(recording.trace_id()),
            Way::Theirs => None,
        }
    }

    /// Keeps of an answer who gave it.
    pub(super) fn answered(&mut self, served: Option<&Served>) {
        if let Some(state) = &mut self.0 {
            state.served = served.cloned();
        }
    }

    /// Keeps of a refusal what it was for.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        if let Some(state) = &mut self.0 {
            state.refused = Some(Refused {
                reason: refusal.reason,
                policy: refusal.policy.as_ref().map(ToString::to_string),
            });
        }
    }

    /// Ends the span.
    pub(super) fn finish(self, entry: &Entry<'_>, whole: &Whole<'_>, span: &Span, meter: &Meter) {
        let Some(state) = self.0 else { return };
        let State {
            plan,
            way,
            served,
            refused,
        } = *state;
        match way {
            Way::Ours(recording) => {
                let denied = refused.as_ref().is_some_and(|it| is_denial(it.reason));
                if !recording.tells(entry, denied) {
                    return;
                }
                let onward = served.as_ref().map(Onward::of);
                let protocol = if whole.grpc {
                    Protocol::Grpc
                } else {
                    Protocol::Http
                };
                let labels = match whole.origin {
                    Some(origin) => {
                        labels::received(whole.view, &origin.place, &origin.peer, onward, protocol)
                    }
                    None => labels::sent(whole.view, onward, protocol),
                };
                let path = whole.notes.and_then(|notes| notes.path());
                let to = destination(entry, whole.origin, served.as_ref(), &labels.service.host);
                let tried = whole.notes.map(|notes| notes.attempts()).unwrap_or_default();
                let told = Told {
                    name: format!("{to}{}", path.unwrap_or("/*")),
                    path,
                    attempts: attempts(&tried, whole.started),
                    labels: &labels,
                    reason: refused.as_ref().map(|it| it.reason.as_str()),
                    denied,
                    more: more(refused.as_ref(), whole.notes),
                    generation: whole.view.generation,
                };
                recording.finish(entry, &told, meter);
            }
            Way::Theirs => {
                for tag in &plan.tags {
                    if let Some(value) = tag.value(entry) {
                        telemetry::tag(span, tag.name(), &value);
                    }
                }
                for (name, value) in &*plan.own {
                    telemetry::tag(span, name, value);
                }
            }
        }
    }
}

/// What a span tells beside what its request's line would.
pub(super) struct Whole<'a> {
    pub(super) origin: Option<&'a Origin>,
    pub(super) view: &'a Snapshot,
    pub(super) notes: Option<&'a Notes>,
    pub(super) grpc: bool,
    /// When the request began.
    pub(super) started: Instant,
}

/// The destination with its port: what Istio's names of operations begin with (Istio `route.go`, "decorator"). The path of
/// the rule comes behind.
fn destination(entry: &Entry<'_>, origin: Option<&Origin>, served: Option<&Served>, service: &str) -> String {
    if let Some(cluster) = served.and_then(|served| served.cluster.as_deref()) {
        return format!("{}:{}", cluster.host, cluster.port);
    }
    match origin.map(|origin| &*origin.place) {
        Some(Place::Service { host, port }) => format!("{host}:{port}"),
        Some(Place::Workload { port }) if !service.is_empty() => format!("{service}:{port}"),
        Some(Place::Pod { ip, port }) => format!("{ip}:{port}"),
        _ => entry.authority.to_owned(),
    }
}

/// What is told of attempts: nothing where there was only one, which the request's own span tells.
fn attempts(tried: &[Attempt], started: Instant) -> Vec<Tried<'_>> {
    if tried.len() < 2 {
        return Vec::new();
    }
    let tried = tried.iter().map(|attempt| Tried {
        began: attempt.began.saturating_duration_since(started),
        took: attempt
            .ended
            .map(|ended| ended.saturating_duration_since(attempt.began)),
        endpoint: attempt.dialled,
        peer: attempt.endpoint.identities.first().map(|id| id.as_str()),
        status: attempt.status,
        failed: attempt.failed.as_deref(),
    });
    tried.collect()
}

fn is_denial(reason: Why) -> bool {
    matches!(reason, Why::Denied | Why::Unauthenticated | Why::Authorizer)
}

fn more(refused: Option<&Refused>, notes: Option<&Notes>) -> Vec<(&'static str, String)> {
    let mut more = Vec::new();
    if let Some(refused) = refused {
        more.push(("mesh.reason", refused.reason.as_str().to_owned()));
    }
    let decided: Option<&Decided> = notes.and_then(|notes| notes.decision());
    if let Some(decided) = decided {
        more.push(("mesh.decision", decided.word().to_owned()));
        more.push(("mesh.decision.cost_ns", decided.cost.as_nanos().to_string()));
    }
    let by = decided.and_then(|decided| decided.by.as_ref());
    if let Some(by) = by {
        more.push(("mesh.policy.rule", by.rule.to_string()));
    }
    let policy = by.map(|by| by.policy.to_string());
    if let Some(policy) = policy.or_else(|| refused.and_then(|it| it.policy.clone())) {
        more.push(("mesh.policy", policy));
    }
    more
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::{Duration, SystemTime};

    use opentelemetry::Context;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, Span as SdkSpan, SpanData, SpanProcessor};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::snapshot::Snapshot;
    use crate::telemetry::access::Fields;
    use crate::telemetry::recording::{Sampling, Tag, TracePlans};
    use crate::telemetry::{RequestSpan, client_span, current};

    /// The provider of an application: it keeps what it is told.
    #[derive(Clone, Debug, Default)]
    struct Told(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Told {
        fn on_start(&self, _: &mut SdkSpan, _: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    fn view(share: u16) -> Snapshot {
        let plan = TracePlan {
            tracing: Tracing::Recorded,
            sampling: Sampling {
                share,
                by_request_id: true,
            },
            tags: vec![Tag::literal("stage", "canary")],
            ..TracePlan::default()
        };
        Snapshot {
            traces: TracePlans {
                sent: Arc::new(plan.ready()),
                ..TracePlans::default()
            },
            ..Snapshot::default()
        }
    }

    fn request() -> Request<MeshBody> {
        Request::get("http://reviews:9080/r")
            .body(MeshBody::empty())
            .unwrap()
    }

    fn span(request: &Request<MeshBody>) -> Span {
        client_span(&RequestSpan {
            method: request.method(),
            authority: "reviews:9080",
            path: "/r",
            version: request.version(),
            peer: None,
            generation: 1,
        })
    }

    #[test]
    fn a_provider_of_the_applications_own_gets_the_one_span_and_its_tags() {
        let told = Told::default();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(told.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("application"));
        let subscriber = tracing_subscriber::registry().with(layer);
        let meter = Meter::new();
        tracing::subscriber::with_default(subscriber, || {
            let application = tracing::info_span!("render");
            let _in_application = application.enter();
            let (view, mut request) = (view(0), request());
            let opening = Opening::sent(&mut request, &view);
            let ours = span(&request);
            let (context, traced) = opening.settle(&ours, &meter);
            assert!(context.is_sampled(), "who records has decided so");
            assert_eq!(context.trace_id(), current().trace_id());
            assert!(traced.trace_id().is_none(), "it is not recorded twice");
            let whole = Whole {
                origin: None,
                view: &view,
                notes: None,
                grpc: false,
                started: Instant::now(),
            };
            let (fields, trailers) = (Fields::new(), HeaderMap::new());
            let entry = Entry {
                start: SystemTime::UNIX_EPOCH,
                duration: Duration::ZERO,
                answered: None,
                method: "GET",
                scheme: "http",
                authority: "reviews:9080",
                path: "/r",
                protocol: None,
                request: &fields,
                response: &fields,
                trailers: &trailers,
                code: 200,
                flags: "-",
                details: None,
                grpc_status: None,
                received: 0,
                sent: 0,
                upstream: None,
                cluster: None,
                attempts: 1,
                failure: None,
                local: None,
                remote: None,
                direct: None,
                peer: None,
                sni: None,
                route: None,
                trace: None,
                hostname: None,
                labels: None,
            };
            traced.finish(&entry, &whole, &ours, &meter);
        });
        let told = told.0.lock().unwrap();
        let named = |name: &str| told.iter().find(|span| span.name == name).unwrap();
        let (ours, application) = (named("mesh.client"), named("render"));
        assert_eq!(ours.parent_span_id, application.span_context.span_id());
        assert!(ours.attributes.iter().any(|it| it.key.as_str() == "stage"));
        assert_eq!(meter.outlets().counts().dropped(), 0, "nothing of ours was sent");
    }

    #[test]
    fn what_nobody_records_has_an_id_and_a_context_that_says_so() {
        let meter = Meter::new();
        for share in [0, 10_000] {
            let (view, mut request) = (view(share), request());
            let opening = Opening::sent(&mut request, &view);
            let id = RequestId::parse(&request.headers()[REQUEST_ID]).unwrap();
            assert_eq!(id.reason(), (share > 0).then_some(Reason::Sampled));
            let (context, traced) = opening.settle(&Span::none(), &meter);
            assert!(!traced.is_recorded(), "there is nowhere to send it");
            assert_eq!((context.is_none(), context.is_sampled()), (false, share > 0));
        }
    }

    #[test]
    fn an_application_that_copies_headers_is_understood() {
        let (view, mut request) = (view(0), request());
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        request
            .headers_mut()
            .insert("traceparent", parent.parse().unwrap());
        let opening = Opening::sent(&mut request, &view);
        assert_eq!(
            opening.caller.trace_id().as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        assert_eq!(opening.caller.decided(), Some(true));
        // Without a plan headers pass as they are.
        let opening = Opening::sent(&mut request, &Snapshot::default());
        assert!(opening.caller.is_none());
    }
}
