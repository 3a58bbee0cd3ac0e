//! Record: what is written down of one request, and how its answer gets its final form.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::header::{CONNECTION, HeaderValue};
use http::{HeaderMap, HeaderName, Request, Response, Version};
use tracing::Span;

use super::body::Watch;
use super::call::{Delayed, Served};
use super::flags::Flags;
use super::kept::Kept;
use super::line::{Ended, Line};
use super::messages::{Found, Sent};
use super::notes::{self, Decided, Notes};
use super::origin::{Answered, Caller, client_series};
use super::proxied;
use super::refusal::is_grpc;
use super::traced::{Traced, Whole};
use super::upgrade::Asked;
use super::{MeshBody, Origin, Reason, Refusal, Stage};
use crate::snapshot::{Live, Place, Snapshot, Wanted};
use crate::telemetry::{self, HttpFacts, Meter, RequestSeries, Sample, Tags, TraceContext, field};

/// Who counts a request.
#[derive(Debug)]
pub(super) enum Counted {
    Origin(Arc<Origin>),
    Client(Arc<Caller>),
}

impl Counted {
    /// Where the request came in, if it did.
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Origin(origin) => Some(&origin.place),
            Self::Client(_) => None,
        }
    }

    fn meter(&self) -> &Meter {
        match self {
            Self::Origin(origin) => origin.meter(),
            Self::Client(caller) => &caller.meter,
        }
    }
}

/// What is written down of one request; ends with the response's body.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) started: Instant,
    pub(super) span: Span,
    /// What is recorded of its trace.
    traced: Traced,
    pub(super) counted: Counted,
    pub(super) view: Arc<Snapshot>,
    grpc: bool,
    /// The answer must close an HTTP/1 connection: the process is going away, or who knows where the next request would
    /// begin.
    close: bool,
    /// What the caller understands of an upgrade.
    upgrade: Asked,
    received: Option<Arc<AtomicU64>>,
    /// The messages of a gRPC request.
    messages: Option<Arc<Sent>>,
    /// What OpenTelemetry's metrics tell of it.
    http: HttpFacts,
    /// The trace that it belongs to, if that is recorded.
    trace: Option<[u8; 16]>,
    /// For access logs and spans; only filled if there are any.
    line: Option<Box<Line>>,
    /// Whether somebody listens to access logs as events, too.
    told: bool,
    /// What layers further in write down; only there if somebody wants to know.
    pub(super) notes: Option<Arc<Notes>>,
    /// Whether the caller is told why it is answered so.
    explained: bool,
    /// For those who look on; only there if somebody may.
    pub(super) kept: Option<Box<Kept>>,
}

/// Where callers that the configuration trusts are told what was decided, and by what.
///
/// Not `Proxy-Status` (RFC 9209), which comes nearest: an origin server must not send that one, and in process it is the
/// origin server that decides; it is also what CDNs and gateways pass on to the world.
const DECISION: HeaderName = HeaderName::from_static("x-inmesh-decision");

impl Record {
    pub(super) fn start(
        request: &mut Request<MeshBody>,
        (span, traced): (Span, Traced),
        counted: Counted,
        live: &Arc<Live>,
        view: Arc<Snapshot>,
        is_clean: bool,
    ) -> Self {
        let wanted = live.tap().wants();
        let kept = (wanted > Wanted::Nothing).then(|| Box::new(Kept::of(request, live, wanted)));
        let grpc = is_grpc(request.headers());
        let messages = grpc.then(|| Arc::new(Sent::default()));
        let received = (!http_body::Body::is_end_stream(request.body())).then(|| {
            let counter = Arc::new(AtomicU64::new(0));
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = match body.bytes() {
                // At hand: its size is known and a retry may want to copy it, which a watcher would prevent.
                Some(bytes) => {
                    counter.store(bytes.len() as u64, Ordering::Relaxed);
                    if let Some(messages) = &messages {
                        messages.add(Found::default().read(bytes));
                    }
                    body
                }
                None => body.watched(Box::new(Received {
                    bytes: Arc::clone(&counter),
                    messages: messages.as_ref().map(|sent| (Found::default(), Arc::clone(sent))),
                })),
            };
            counter
        });
        let close = match &counted {
            Counted::Origin(origin) => {
                request.version() < Version::HTTP_2 && (!is_clean || origin.draining.now() >= Stage::LameDuck)
            }
            Counted::Client(_) => false,
        };
        let told = tracing::enabled!(target: "inmesh::access", tracing::Level::INFO);
        let origin = match &counted {
            Counted::Origin(origin) => Some(&**origin),
            Counted::Client(_) => None,
        };
        let logs = origin
            .map(|origin| view.logs.at(&origin.place))
            .filter(|logs| !logs.is_empty());
        let plan = match origin {
            Some(origin) => origin.plan(&view),
            None => &view.metrics.clients,
        };
        let tagged = plan.asks().then_some(plan);
        let line = (told || logs.is_some() || tagged.is_some() || traced.is_recorded()).then(|| {
            let mut line = Line::of(request, logs, tagged, &traced, origin, &view);
            line.traced(&span, &traced);
            line
        });
        let explained = match &counted {
            Counted::Origin(origin) => view.explains_to(origin.peer.identity.as_ref()),
            Counted::Client(_) => false,
        };
        let http = facts(request, origin);
        let watched = wanted == Wanted::All;
        let shown = (told || traced.is_recorded()) && matches!(counted, Counted::Origin(_));
        let recorded = traced.is_recorded();
        let noted = watched || explained || shown || recorded;
        Self {
            started: Instant::now(),
            notes: noted.then(|| {
                let notes = Notes::new(explained || watched);
                // Spans tell of attempts, too.
                let trailed = watched || recorded;
                Arc::new(if trailed { notes.with_trail() } else { notes })
            }),
            kept,
            explained,
            span,
            traced,
            counted,
            view,
            grpc,
            close,
            upgrade: Asked::of(request),
            received,
            messages,
            http,
            trace: None,
            line,
            told,
        }
    }

    /// Notes the trace that it belongs to.
    pub(super) fn belongs_to(&mut self, context: &TraceContext) {
        self.trace = context.sampled();
        if let Some(kept) = &mut self.kept {
            kept.trace = context.id();
        }
    }

    /// Whether the caller reads refusals as gRPC writes them.
    pub(super) fn is_grpc(&self) -> bool {
        self.grpc
    }

    /// Where layers further in write down what they know.
    pub(super) fn notes(&self) -> Option<Arc<Notes>> {
        self.notes.clone()
    }

    /// Tells the caller what was decided if it is trusted with that, and takes care that nobody else is told: whoever
    /// answered may have told us.
    fn explain(&self, response: &mut Response<MeshBody>, refused: Option<&str>) {
        if let Counted::Client(_) = self.counted {
            return;
        }
        let decided = self.notes.as_ref().and_then(|notes| notes.decision());
        let told = self
            .explained
            .then(|| notes::header(decided, refused, self.view.generation));
        match told.flatten() {
            Some(value) => drop(response.headers_mut().insert(DECISION, value)),
            None => drop(response.headers_mut().remove(DECISION)),
        }
    }

    /// Gives an answer its final form, to be counted at the end of its body.
    pub(super) fn answer(mut self, result: Result<Response<MeshBody>, Refusal>) -> Response<MeshBody> {
        if let Counted::Origin(origin) = &self.counted {
            origin.interim.close();
        }
        let grpc = self.grpc && !result.as_ref().is_err_and(is_denial);
        let mut from_nowhere = None;
        let (mut response, flags, refused) = match result {
            Ok(response) => {
                let flags = flags_of(&response);
                (response, flags, None)
            }
            Err(refusal) => {
                self.tell(&refusal);
                if let Some(kept) = &mut self.kept {
                    kept.refused(&refusal);
                }
                self.keep(&refusal);
                if let Counted::Client(caller) = &self.counted {
                    from_nowhere = Some(caller.refused_series(&self.view, &refusal, grpc));
                }
                let (flags, reason) = (refusal.flags(), refusal.reason);
                (refusal.into_response(self.grpc), flags, Some(reason))
            }
        };
        let unrouted = refused.is_none_or(|reason| reason == Reason::NoRoute);
        let refused = refused.map(Reason::as_str);
        self.explain(&mut response, refused);
        if let Some(place) = self.counted.place() {
            proxied::answer(&mut response, self.started.elapsed(), place, &self.view);
        }
        if let Some(line) = &mut self.line {
            line.answered(&response, self.started, self.counted.place());
            self.traced.answered(response.extensions().get::<Served>());
        }
        if let Some(kept) = &mut self.kept {
            kept.answered(&response);
        }
        if self.close {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let served = response.extensions().get::<Served>();
        let answered = match served {
            Some(served) => Answered::By(served),
            // No route, or one that answers by itself.
            None if unrouted => Answered::Unrouted,
            None => Answered::Here,
        };
        let series = match (&self.counted, served) {
            (Counted::Origin(origin), _) => origin.series(&self.view, answered, grpc),
            (Counted::Client(caller), Some(served)) => client_series(&caller.meter, &self.view, served, grpc),
            (Counted::Client(caller), None) => from_nowhere.unwrap_or_else(|| {
                // A route answered by itself.
                let refusal = Refusal::new(Reason::NoRoute, "");
                caller.refused_series(&self.view, &refusal, grpc)
            }),
        };
        if let (Counted::Client(_), Some(cluster)) =
            (&self.counted, served.and_then(|it| it.cluster.as_ref()))
        {
            self.http.port = cluster.port;
        }
        if !self.span.is_disabled() {
            self.span.record(field::HTTP_STATUS, response.status().as_u16());
            if response.status().is_server_error() {
                self.span.record(field::OTEL_STATUS, "error");
            }
            if let Some(served) = served {
                if let Some(rule) = &served.rule {
                    self.span.record(field::RULE, &**rule);
                }
                if let Counted::Client(_) = self.counted
                    && let Some(identity) = served.endpoint.identities.first()
                {
                    self.span.record(field::PEER, identity.as_str());
                }
            }
        }
        let upgrade = self.upgrade;
        let messages = match &self.messages {
            // What a Telemetry makes labels of is only known at the end.
            Some(sent) if grpc && !series.plan().asks() => {
                let messages = series.messages(&Tags::default());
                sent.tell(&messages);
                Some(messages)
            }
            _ => None,
        };
        let ending = Ending {
            code: response.status().as_u16(),
            grpc,
            grpc_status: grpc_status(response.headers()),
            flags,
            series,
            messages,
            found: Found::default(),
            responses: 0,
            record: self,
        };
        let mut response = response.map(|body| body.watched(Box::new(ending)));
        upgrade.settle(&mut response);
        response
    }

    /// Keeps of a refusal what is written of it.
    fn keep(&mut self, refusal: &Refusal) {
        if let Some(line) = &mut self.line {
            line.refused(refusal);
            self.traced.refused(refusal);
        }
    }

    /// Counts a refusal that stays an error.
    pub(super) fn refused(mut self, refusal: &Refusal) {
        self.tell(refusal);
        if let Some(kept) = &mut self.kept {
            kept.refused(refusal);
        }
        self.keep(refusal);
        let series = match &self.counted {
            Counted::Origin(origin) => origin.series(&self.view, Answered::Here, false),
            Counted::Client(caller) => caller.refused_series(&self.view, refusal, false),
        };
        self.span.record(field::HTTP_STATUS, refusal.status.as_u16());
        let ending = Ending {
            code: refusal.status.as_u16(),
            grpc: false,
            grpc_status: None,
            flags: refusal.flags(),
            series,
            messages: None,
            found: Found::default(),
            responses: 0,
            record: self,
        };
        Box::new(ending).ended(0, None, true);
    }

    /// Counts a request whose caller left before it was answered.
    pub(super) fn abandoned(self) {
        let Counted::Origin(origin) = &self.counted else {
            return;
        };
        let ending = Ending {
            code: 0,
            grpc: self.grpc,
            grpc_status: None,
            flags: "DC",
            series: origin.series(&self.view, Answered::Here, self.grpc),
            messages: None,
            found: Found::default(),
            responses: 0,
            record: self,
        };
        Box::new(ending).ended(0, None, false);
    }

    /// Says why, to the operator.
    #[cold]
    fn tell(&self, refusal: &Refusal) {
        self.span.record(field::ERROR_TYPE, refusal.reason.as_str());
        self.span.record(field::REASON, &*refusal.detail);
        if let Some(policy) = &refusal.policy {
            self.span.record(field::POLICY, tracing::field::display(policy));
        }
        let decided = self.notes.as_ref().and_then(|notes| notes.decision());
        let (at, peer) = match &self.counted {
            Counted::Origin(origin) => (Some(&*origin.place), Some(&*origin.peer)),
            Counted::Client(_) => (None, None),
        };
        tracing::info!(
            target: "inmesh::denied",
            reason = refusal.reason.as_str(),
            status = refusal.status.as_u16(),
            ?at,
            peer = ?peer.and_then(|peer| peer.identity.as_ref()),
            addr = ?peer.map(|peer| peer.addr),
            policy = refusal.policy.as_ref().map(tracing::field::display),
            rule = refusal.rule,
            cost_ns = decided.map(|decided| decided.cost.as_nanos() as u64),
            generation = self.view.generation,
            why = %super::chain(refusal),
            "request refused",
        );
    }
}

/// The flags of a request that was answered.
fn flags_of(response: &Response<MeshBody>) -> &'static str {
    let served = response.extensions().get::<Served>();
    Flags {
        cause: "-",
        delayed: response.extensions().get::<Delayed>().is_some(),
        exhausted: served.is_some_and(|served| served.exhausted),
    }
    .as_str()
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// Whether a request was refused before anybody looks for gRPC: Istio's statistics come after its policies, so a call that is
/// denied is told as plain HTTP.
fn is_denial(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason,
        Reason::Denied | Reason::Unauthenticated | Reason::Authorizer
    )
}

/// The gRPC status of an answer that does not say one, by its HTTP status (gRPC "HTTP to gRPC Status Code Mapping").
fn inferred(code: u16) -> Option<u16> {
    Some(match code {
        0 => return None,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    })
}

/// What OpenTelemetry's metrics tell of a request.
fn facts(request: &Request<MeshBody>, origin: Option<&Origin>) -> HttpFacts {
    let secure = origin.is_some_and(|origin| origin.peer.tls.is_some());
    HttpFacts {
        client: origin.is_none(),
        method: HttpFacts::method(request.method()),
        scheme: if secure { "https" } else { "http" },
        version: HttpFacts::version(request.version()),
        port: match origin.map(|origin| &*origin.place) {
            Some(
                Place::Workload { port }
                | Place::Service { port, .. }
                | Place::Pod { port, .. }
                | Place::Port { port, .. },
            ) => *port,
            _ => 0,
        },
    }
}

/// Counts the bytes of a request's body, and its messages.
struct Received {
    bytes: Arc<AtomicU64>,
    messages: Option<(Found, Arc<Sent>)>,
}

impl Watch for Received {
    fn passing(&mut self, data: &[u8]) {
        if let Some((found, sent)) = &mut self.messages {
            sent.add(found.read(data));
        }
    }

    fn ended(self: Box<Self>, bytes: u64, _: Option<&HeaderMap>, _: bool) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Counts a request when its response has been sent.
struct Ending {
    record: Record,
    series: Arc<RequestSeries>,
    code: u16,
    grpc: bool,
    grpc_status: Option<u16>,
    flags: &'static str,
    /// Where messages are counted, if that is known before the end.
    messages: Option<telemetry::Messages>,
    found: Found,
    /// The messages that wait for that.
    responses: u64,
}

impl Watch for Ending {
    fn passing(&mut self, data: &[u8]) {
        if !self.grpc {
            return;
        }
        let begun = self.found.read(data);
        match &self.messages {
            Some(messages) => messages.responded(begun),
            None => self.responses += begun,
        }
    }

    fn ended(mut self: Box<Self>, bytes: u64, trailers: Option<&HeaderMap>, complete: bool) {
        let traced = std::mem::take(&mut self.record.traced);
        let record = &self.record;
        // "DC": the caller left before it had everything.
        let flags = if complete { self.flags } else { "DC" };
        let status = || {
            let of_trailers = trailers.and_then(grpc_status);
            of_trailers.or(self.grpc_status).or_else(|| inferred(self.code))
        };
        let sample = Sample {
            response_code: self.code,
            flags,
            grpc_status: self.grpc.then(status).flatten(),
            duration: record.started.elapsed(),
            request_bytes: record
                .received
                .as_ref()
                .map_or(0, |bytes| bytes.load(Ordering::Relaxed)),
            response_bytes: bytes,
            trace: match record.span.is_disabled() {
                true => record.trace,
                false => telemetry::context_of(&record.span).sampled(),
            },
            http: Some(record.http),
        };
        let origin = match &record.counted {
            Counted::Origin(origin) => Some(&**origin),
            Counted::Client(_) => None,
        };
        let mut tags = Tags::default();
        if let Some(line) = &record.line {
            let ended = Ended {
                code: self.code,
                flags,
                grpc_status: sample.grpc_status,
                duration: sample.duration,
                received: sample.request_bytes,
                sent: bytes,
                trailers,
            };
            let meter = record.counted.meter();
            line.entry(&ended, self.series.labels(), origin, meter.hostname(), |entry| {
                line.write(entry, meter);
                tags = line.tags(entry);
                let whole = Whole {
                    origin,
                    view: &record.view,
                    notes: record.notes.as_deref(),
                    grpc: record.grpc,
                    started: record.started,
                };
                traced.finish(entry, &whole, &record.span, meter);
            });
        }
        self.series.record_tagged(&sample, &tags);
        let waiting = record
            .messages
            .as_ref()
            .filter(|_| self.grpc && self.messages.is_none());
        if let Some(sent) = waiting {
            let messages = self.series.messages(&tags);
            sent.tell(&messages);
            messages.responded(self.responses);
        }
        if let Some(kept) = &record.kept {
            kept.give(record, &self.series, &sample);
        }
        if let Some(line) = record.line.as_ref().filter(|_| record.told) {
            let decided = record.notes.as_ref().and_then(|notes| notes.decision());
            let by = decided.and_then(|decided| decided.by.as_ref());
            tracing::info!(
                target: "inmesh::access",
                parent: &record.span,
                method = %line.method,
                authority = line.authority(),
                path = line.path().split('?').next(),
                status = self.code,
                flags,
                duration_ms = sample.duration.as_secs_f64() * 1e3,
                received = sample.request_bytes,
                sent = bytes,
                decision = decided.map(Decided::word),
                policy = by.map(|by| tracing::field::display(&by.policy)),
                rule = by.map(|by| by.rule),
                cost_ns = decided.map(|decided| decided.cost.as_nanos() as u64),
                generation = record.view.generation,
            );
        }
    }
}
