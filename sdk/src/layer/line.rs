//! The line of one request: what must be kept of it until its answer has been sent.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use tracing::Span;

use super::call::Served;
use super::labels;
use super::proxied::UPSTREAM_SERVICE_TIME;
use super::traced::Traced;
use super::{MeshBody, Origin, Reason, Refusal};
use crate::policy::forwarded::remote_addr;
use crate::snapshot::{Cluster, Place, Snapshot};
use crate::telemetry::access::{AccessLogs, Entry, Fields, Name, Wanted};
use crate::telemetry::{self, Meter, MetricPlan, RequestLabels, Tags, TraceContext};

/// What is kept of a request for its line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) method: Method,
    /// As it came: what is kept of it is shared, not copied.
    uri: Uri,
    /// The host that it named, where its URI does not say.
    host: Option<HeaderValue>,
    logs: Option<Arc<AccessLogs>>,
    /// What metrics make labels of.
    tagged: Option<Arc<MetricPlan>>,
    /// What the span asks for, if one is recorded.
    span: Option<Wanted>,
    start: SystemTime,
    scheme: &'static str,
    version: Version,
    request: Fields,
    response: Fields,
    addresses: Option<Addresses>,
    trace: Option<[u8; 16]>,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
struct Addresses {
    local: SocketAddr,
    remote: SocketAddr,
    direct: SocketAddr,
}

/// How a request was answered.
#[derive(Debug, Default)]
struct Answer {
    stage: Stage,
    /// How long its head took, if anybody asks.
    after: Option<Duration>,
    details: Option<Cow<'static, str>>,
    failure: Option<String>,
    upstream: Option<SocketAddr>,
    /// Which of the snapshot's it came from.
    cluster: Option<Arc<Cluster>>,
    attempts: u32,
    /// The label of the rule.
    rule: Option<Arc<str>>,
}

/// How far a request has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Begun,
    Refused,
    Answered,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended<'a> {
    pub(super) code: u16,
    pub(super) flags: &'a str,
    pub(super) grpc_status: Option<u16>,
    pub(super) duration: Duration,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) trailers: Option<&'a HeaderMap>,
}

impl Line {
    /// Keeps of a request what its logs and its span ask for. `origin` is where it came from, unless this process sends
    /// it.
    pub(super) fn of(
        request: &Request<MeshBody>,
        logs: Option<&Arc<AccessLogs>>,
        tagged: Option<&Arc<MetricPlan>>,
        span: &Traced,
        origin: Option<&Origin>,
        view: &Snapshot,
    ) -> Box<Self> {
        let wanted = [
            logs.map(|logs| logs.wanted()),
            tagged.map(|plan| plan.wanted()),
            span.wanted(),
        ];
        let traced = logs.is_some_and(|logs| logs.wanted().trace);
        let context = traced.then(|| TraceContext::extract(request.headers()));
        let mut line = Box::new(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: match request.uri().authority() {
                Some(_) => None,
                None => request.headers().get(HOST).cloned(),
            },
            start: SystemTime::now(),
            scheme: match origin {
                Some(origin) if origin.peer.tls.is_some() => "https",
                _ => "http",
            },
            version: request.version(),
            request: Fields::new(),
            response: Fields::new(),
            addresses: origin.map(|origin| addresses(request.headers(), origin, view)),
            trace: context.and_then(|context| context.id()),
            answer: Answer::default(),
            tagged: tagged.cloned(),
            span: span.wanted().cloned(),
            logs: logs.cloned(),
        });
        for wanted in wanted.into_iter().flatten() {
            line.request.keep(request.headers(), &wanted.request);
        }
        line
    }

    /// Which host it is for.
    pub(super) fn authority(&self) -> &str {
        let host = || self.host.as_ref()?.to_str().ok();
        match self.uri.authority() {
            Some(authority) => authority.as_str(),
            None => host().unwrap_or_default(),
        }
    }

    /// With its query.
    pub(super) fn path(&self) -> &str {
        match self.uri.path_and_query() {
            Some(path) => path.as_str(),
            None => self.uri.path(),
        }
    }

    fn wants_trace(&self) -> bool {
        self.logs.as_ref().is_some_and(|logs| logs.wanted().trace)
    }

    /// Says to which trace the request belongs, if its span knows that better than its headers.
    pub(super) fn traced(&mut self, span: &Span, recorded: &Traced) {
        if !self.wants_trace() && !recorded.is_recorded() {
            return;
        }
        let known = recorded.trace_id().or_else(|| telemetry::context_of(span).id());
        if known.is_some() {
            self.trace = known;
        }
    }

    /// Whether anybody reads what is kept.
    fn is_read(&self) -> bool {
        self.logs.is_some() || self.span.is_some() || self.tagged.is_some()
    }

    /// Keeps of an answer what its logs and its span ask for. `place` is where the request came in, if it did.
    pub(super) fn answered(
        &mut self,
        response: &Response<MeshBody>,
        started: Instant,
        place: Option<&Place>,
    ) {
        if !self.is_read() {
            return;
        }
        let served = response.extensions().get::<Served>();
        let wanted = [
            self.logs.as_ref().map(|logs| logs.wanted()),
            self.tagged.as_ref().map(|plan| plan.wanted()),
            self.span.as_ref(),
        ];
        let wanted = wanted.into_iter().flatten();
        for wanted in wanted.clone() {
            self.response.keep(response.headers(), &wanted.response);
        }
        // A waypoint says how long its upstream took in the answer; a caller itself has nobody to tell.
        let untold = served.is_some() && place.is_none();
        let is_wanted =
            |wanted: &Wanted| wanted.answered || untold && wanted.response.contains(&UPSTREAM_SERVICE_TIME);
        let after = wanted.clone().any(is_wanted).then(|| started.elapsed());
        let by_application = matches!(place, Some(Place::Workload { .. }));
        let details = match by_application || served.is_some() {
            true => "via_upstream",
            false => "direct_response",
        };
        self.answer.stage = Stage::Answered;
        self.answer.after = after;
        self.answer.details.get_or_insert(Cow::Borrowed(details));
        self.answer.attempts = u32::from(by_application);
        if let Some(served) = served {
            self.answer.upstream = Some(served.endpoint.addr);
            self.answer.attempts = served.attempts;
            self.answer.rule = served.rule.clone();
            if let Some(after) = after.filter(|_| untold) {
                let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                self.response
                    .or_keep(UPSTREAM_SERVICE_TIME, HeaderValue::from(millis));
            }
        }
        self.answer.cluster = served.and_then(|served| served.cluster.clone());
    }

    /// Keeps of a refusal why it is one.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        if !self.is_read() {
            return;
        }
        self.answer.details = Some(refusal.response_code_details().into_owned().into());
        self.answer.upstream = refusal.endpoint.as_ref().map(|endpoint| endpoint.dial);
        self.answer.stage = Stage::Refused;
        if matches!(refusal.reason, Reason::Connect | Reason::Identity) {
            let why = super::chain(refusal).to_string();
            self.answer.failure = Some(why.replace(['"', '\n'], "'"));
        }
    }

    /// What metrics make labels of.
    pub(super) fn tags(&self, entry: &Entry<'_>) -> Tags {
        match &self.tagged {
            Some(plan) => plan.tags(entry),
            None => Tags::default(),
        }
    }

    /// Writes the line.
    pub(super) fn write(&self, entry: &Entry<'_>, meter: &Meter) {
        if let Some(logs) = &self.logs {
            logs.write(entry, meter);
        }
    }

    /// As Istio names clusters: a waypoint's by the service, a workload's own by its port.
    fn cluster<'a>(&'a self, origin: Option<&'a Origin>) -> Option<Name<'a>> {
        if self.answer.stage == Stage::Begun {
            return None;
        }
        let cluster = self.answer.cluster.as_deref();
        let name = |kind, port, protocol, host| Name::Cluster {
            kind,
            port,
            protocol,
            subset: cluster.and_then(|cluster| cluster.subset.as_deref()),
            host,
        };
        Some(match (origin.map(|origin| &*origin.place), cluster) {
            (Some(Place::Workload { port }), _) => name("inbound", *port, "", ""),
            (None | Some(Place::Port { .. } | Place::Listener { .. }), Some(cluster)) => {
                name("outbound", cluster.port, "", cluster.host.as_str())
            }
            (_, Some(cluster)) => name("inbound-vip", cluster.port, "http", cluster.host.as_str()),
            (Some(Place::Service { host, port }), None) => name("inbound-vip", *port, "http", host.as_str()),
            _ => return None,
        })
    }

    fn route(&self) -> Option<Name<'_>> {
        match &self.answer.rule {
            Some(rule) => Some(Name::Rule(rule)),
            None => (self.answer.stage == Stage::Answered).then_some(Name::Said("default")),
        }
    }

    /// Shows what is known of the request, now that it has ended.
    pub(super) fn entry<T>(
        &self,
        ended: &Ended<'_>,
        labels: &RequestLabels,
        origin: Option<&Origin>,
        hostname: Option<&str>,
        show: impl FnOnce(&Entry<'_>) -> T,
    ) -> T {
        let none = HeaderMap::new();
        let trace = self.trace.map(|id| {
            let mut digits = [0; 32];
            telemetry::hex(&id, &mut digits);
            digits
        });
        let peer = origin.map(|origin| &*origin.peer);
        let sni = peer.map(|peer| peer.sni()).filter(|sni| !sni.is_empty());
        let answer = &self.answer;
        show(&Entry {
            start: self.start,
            duration: ended.duration,
            answered: answer.after,
            method: self.method.as_str(),
            scheme: self.scheme,
            authority: self.authority(),
            path: self.path(),
            protocol: match self.version {
                Version::HTTP_10 => Some("HTTP/1.0"),
                Version::HTTP_11 => Some("HTTP/1.1"),
                Version::HTTP_2 => Some("HTTP/2"),
                _ => None,
            },
            request: &self.request,
            response: &self.response,
            trailers: ended.trailers.unwrap_or(&none),
            code: ended.code,
            flags: ended.flags,
            details: match ended.flags {
                "DC" => Some("downstream_remote_disconnect"),
                _ => answer.details.as_deref(),
            },
            grpc_status: ended.grpc_status,
            received: ended.received,
            sent: ended.sent,
            upstream: answer.upstream,
            // As metrics have it.
            cluster: labels::of_no_service(labels)
                .map(Name::Said)
                .or_else(|| self.cluster(origin)),
            attempts: answer.attempts,
            failure: answer.failure.as_deref(),
            local: self.addresses.map(|it| it.local),
            remote: self.addresses.map(|it| it.remote),
            direct: self.addresses.map(|it| it.direct),
            peer: peer.and_then(|peer| peer.identity.as_ref()).map(|id| id.as_str()),
            sni,
            route: self.route(),
            trace: trace.as_ref().and_then(|trace| str::from_utf8(trace).ok()),
            hostname,
            labels: Some(labels),
        })
    }
}

fn addresses(headers: &HeaderMap, origin: &Origin, view: &Snapshot) -> Addresses {
    let direct = SocketAddr::new(origin.peer.addr.ip().to_canonical(), origin.peer.addr.port());
    let local = origin.peer.local.ip().to_canonical();
    let local = match &*origin.place {
        Place::Workload { port } | Place::Service { port, .. } => SocketAddr::new(local, *port),
        Place::Pod { ip, port } => SocketAddr::new(*ip, *port),
        Place::Port { .. } | Place::Listener { .. } => origin.peer.local,
    };
    let remote = remote_addr(headers, direct.ip(), view.edge(&origin.place));
    Addresses {
        local,
        // What a header says has no port.
        remote: match remote == direct.ip() {
            true => direct,
            false => SocketAddr::new(remote, 0),
        },
        direct,
    }
}
