//! Upstream: sends a directed request over a warm or a new connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::uri::Scheme;
use http::{Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tower_service::Service;
use tracing::{Instrument, Span};

use super::connection::{Io, SendError, Spoken};
use super::http1::Http1;
use super::http2::{Http2, Seated};
use super::introduce::OnBehalf;
use super::lane::Terms;
use super::room::{Berth, Making, Sharing, Turn, turn};
use super::translate::{from_upstream, to_http1, to_http2};
use super::wire::{Wire, lane, policy};
use crate::layer::call::{Destination, Directed, Served, Won};
use crate::layer::refusal::is_grpc;
use crate::layer::upgrade::{self, Offer};
use crate::layer::{BoxError, MeshBody, Notes, Reason, Refusal, Stalled};
use crate::policy::Outcome;
use crate::policy::balance::Endpoint;
use crate::policy::tls::Origination;
use crate::policy::traffic::Upgrade;
use crate::snapshot::tap::Phase;
use crate::snapshot::{AppProtocol, Cluster, Snapshot};
use crate::telemetry::{self, TraceContext, field};

/// A request on its way.
type Sending = Pin<Box<dyn Future<Output = Result<Response<MeshBody>, Refusal>> + Send>>;

/// Sends a directed request; the innermost service of the outbound stack.
///
/// # Cancel safety
/// Dropping the future closes the inner connection that carried the request (an HTTP/2 stream is reset); the tunnel
/// below stays.
#[derive(Clone, Debug)]
pub struct Upstream {
    wire: Wire,
}

impl Upstream {
    /// Sends over these wires.
    pub fn new(wire: Wire) -> Self {
        Self { wire }
    }
}

impl Service<Directed> for Upstream {
    type Response = Response<MeshBody>;
    type Error = Refusal;
    type Future = Sending;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, directed: Directed) -> Sending {
        let wire = self.wire.clone();
        let trace = telemetry::current();
        let number = directed.routed.attempt;
        // The first attempt that nobody records needs no span of its own: the request's says it all.
        if number == 1 && !trace.is_sampled() {
            return exchange(wire, directed, &trace);
        }
        let endpoint = &directed.endpoint;
        let span = telemetry::attempt_span(number - 1, &endpoint.addr, endpoint.identities.first());
        let sending = span.in_scope(|| exchange(wire, directed, &telemetry::current()));
        Box::pin(async move {
            let result = sending.instrument(span.clone()).await;
            if !span.is_disabled() {
                tell(&span, &result);
            }
            result
        })
    }
}

/// Writes down how an attempt ended.
fn tell(span: &Span, result: &Result<Response<MeshBody>, Refusal>) {
    let status = match result {
        Ok(response) => response.status(),
        Err(refusal) => {
            span.record(field::ERROR_TYPE, refusal.reason.as_str());
            span.record(field::REASON, &*refusal.detail);
            refusal.status
        }
    };
    span.record(field::HTTP_STATUS, status.as_u16());
    if status.is_server_error() {
        span.record(field::OTEL_STATUS, "error");
    }
}

/// All that need not wait is done at once, so that the future carries no more than what it needs.
fn exchange(wire: Wire, directed: Directed, trace: &TraceContext) -> Sending {
    let Directed { mut routed, endpoint } = directed;
    let behalf = OnBehalf::of(&mut routed.call, &endpoint);
    let cluster = match routed.to {
        Destination::Cluster(cluster) => Some(cluster),
        Destination::Endpoint(_) => None,
    };
    let mut request = routed.call.request;
    let protocol = spoken(&request, cluster.as_deref());
    if !trace.is_none() {
        let propagation = routed.call.view.propagation(routed.call.place.as_deref());
        trace.inject_by(request.headers_mut(), propagation);
    }
    // Set by hyper's server where the request was received rather than made here: then both halves of an upgrade end
    // in this process and are joined. It stays with the request too, which may come back for another attempt.
    let received = request.extensions().get::<OnUpgrade>().cloned();
    let rule = routed.rule.as_ref().and_then(Won::rule);
    if let (Some(notes), Some(rule)) = (&routed.call.notes, rule) {
        notes.won(&rule.origin);
    }
    let way = Way {
        wire,
        view: routed.call.view,
        notes: routed.call.notes,
        behalf,
        received,
        served: Served {
            endpoint,
            cluster,
            rule: rule.map(|rule| Arc::clone(&rule.origin.label)),
            attempts: routed.attempt,
            exhausted: false,
        },
    };
    let scheme = match way.endpoint().tls {
        Origination::None => Scheme::HTTP,
        Origination::Tls(_) | Origination::Refused(_) => Scheme::HTTPS,
    };
    if protocol == AppProtocol::Http2 {
        match to_http2(&mut request, scheme) {
            Ok(offer) => Box::pin(async move {
                let sent = send_http2(&way, request, offer).await;
                way.settle(sent)
            }),
            Err(refusal) => way.refuse(refusal),
        }
    } else {
        match to_http1(&mut request) {
            Ok(()) => Box::pin(async move {
                let sent = send_http1(&way, request).await;
                way.settle(sent)
            }),
            Err(refusal) => way.refuse(refusal),
        }
    }
}

/// What is spoken to a destination: what its port declares, unless its policy says otherwise. gRPC is spoken over HTTP/2
/// in any case.
fn spoken(request: &Request<MeshBody>, cluster: Option<&Cluster>) -> AppProtocol {
    let declared = cluster.map(|cluster| cluster.protocol);
    let http2 = match policy(cluster).connections.upgrade {
        Upgrade::Declared => declared == Some(AppProtocol::Http2),
        Upgrade::Http2 => true,
        Upgrade::Caller => request.version() >= Version::HTTP_2,
    };
    match http2 || is_grpc(request.headers()) {
        true => AppProtocol::Http2,
        false => AppProtocol::Http1,
    }
}

/// How to get a request to an endpoint, and who has answered it then.
struct Way {
    wire: Wire,
    view: Arc<Snapshot>,
    notes: Option<Arc<Notes>>,
    behalf: Option<OnBehalf>,
    received: Option<OnUpgrade>,
    served: Served,
}

impl Way {
    fn endpoint(&self) -> &Arc<Endpoint> {
        &self.served.endpoint
    }

    fn cluster(&self) -> Option<&Cluster> {
        self.served.cluster.as_deref()
    }

    /// Boxed, because it is rare and large: the future of every request would carry its size.
    fn open(
        &self,
        spoken: Spoken,
        berth: Berth,
    ) -> Pin<Box<dyn Future<Output = Result<Io, Refusal>> + Send + '_>> {
        self.mark(Phase::Connect);
        Box::pin(
            self.wire
                .open(&self.view, self.endpoint(), self.cluster(), spoken, berth),
        )
    }

    fn terms(&self) -> Terms {
        Terms::new(Arc::clone(policy(self.cluster())))
    }

    fn mark(&self, phase: Phase) {
        if let Some(notes) = &self.notes {
            notes.mark(phase);
        }
    }

    /// The last thing before it is sent.
    fn introduce(&self, request: &mut Request<MeshBody>, epoch: Option<u64>) {
        self.mark(Phase::Exchange);
        if let Some(behalf) = &self.behalf {
            behalf.introduce(request, &self.wire, epoch);
        }
    }

    /// What became of the request.
    fn settle(self, sent: Result<Response<MeshBody>, Refusal>) -> Result<Response<MeshBody>, Refusal> {
        match sent {
            Ok(mut response) => {
                from_upstream(&mut response);
                if response.status() == StatusCode::SWITCHING_PROTOCOLS
                    && let Some(received) = self.received
                {
                    join(received, hyper::upgrade::on(&mut response));
                }
                response.extensions_mut().insert(self.served);
                Ok(response)
            }
            Err(refusal) => Err(refusal.at(&self.endpoint().key)),
        }
    }

    fn refuse(self, refusal: Refusal) -> Sending {
        Box::pin(std::future::ready(self.settle(Err(refusal))))
    }
}

/// Joins the two halves of an upgraded connection until both ends are done.
fn join(from: OnUpgrade, to: OnUpgrade) {
    tokio::spawn(async move {
        let (from, to) = match tokio::try_join!(from, to) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "upgrade failed"),
        };
        let (mut from, mut to) = (TokioIo::new(from), TokioIo::new(to));
        if let Err(error) = tokio::io::copy_bidirectional(&mut from, &mut to).await {
            tracing::debug!(%error, "upgraded connection failed");
        }
    });
}

async fn send_http1(way: &Way, mut request: Box<Request<MeshBody>>) -> Result<Response<MeshBody>, Refusal> {
    let lane = lane(way.endpoint())?;
    let epoch = way.wire.epoch();
    let policy = policy(way.cluster());
    let making = loop {
        let connection = match lane.take(epoch, policy) {
            Some(connection) => connection,
            // Boxed for the same reason as a new connection: few requests come here.
            None => match Box::pin(turn(lane, way.cluster(), Sharing::Alone, || {
                lane.take(epoch, policy)
            }))
            .await?
            {
                Turn::Use(connection) => connection,
                Turn::Make(making) => break making,
            },
        };
        way.introduce(&mut request, connection.epoch());
        match connection.send(request, way.endpoint()).await {
            Ok(response) => return Ok(response),
            // It was closed under our hands before anything was written: the next one, or a new one.
            Err(SendError {
                unsent: Some(back), ..
            }) => request = back,
            Err(SendError { error, unsent: None }) => return Err(failed(error, None)),
        }
    };
    let Making { berth, waiting, .. } = making;
    let io = match way.open(Spoken::Http1, berth).await {
        Ok(io) => io,
        Err(refusal) => return Err(refusal.giving_back(request)),
    };
    let connection = match Http1::handshake(io, way.terms()).await {
        Ok(connection) => connection,
        Err(error) => return Err(failed(error.into(), Some(request))),
    };
    drop(waiting);
    way.introduce(&mut request, connection.epoch());
    match connection.send(request, way.endpoint()).await {
        Ok(response) => Ok(response),
        Err(SendError { error, unsent }) => Err(failed(error, unsent)),
    }
}

async fn send_http2(
    way: &Way,
    mut request: Box<Request<MeshBody>>,
    offer: Option<Offer>,
) -> Result<Response<MeshBody>, Refusal> {
    let lane = lane(way.endpoint())?;
    let epoch = way.wire.epoch();
    let policy = policy(way.cluster());
    if let Some(seated) = lane.http2(epoch, policy) {
        way.introduce(&mut request, seated.connection.epoch());
        match over_http2(seated, request, &offer).await {
            Ok(response) => return Ok(answered(response, offer)),
            Err(mut refusal) => match refusal.take_unsent() {
                Some(back) if refusal.outcome == Some(Outcome::ConnectFailure) => request = back,
                _ => return Err(refusal),
            },
        }
    }
    let seated = match turn(lane, way.cluster(), Sharing::Shared, || lane.http2(epoch, policy)).await? {
        Turn::Use(seated) => seated,
        Turn::Make(Making {
            berth,
            waiting,
            alone,
        }) => {
            let io = match way.open(Spoken::Http2, berth).await {
                Ok(io) => io,
                Err(refusal) => return Err(refusal.giving_back(request)),
            };
            let connection = match Http2::handshake(io, way.terms()).await {
                Ok(connection) => Arc::new(connection),
                Err(error) => return Err(failed(error.into(), Some(request))),
            };
            let Some(seated) = connection.seat(policy, lane.room()) else {
                return Err(Refusal::new(
                    Reason::Misconfigured,
                    "a new connection carries nothing",
                ));
            };
            lane.share(connection);
            drop((waiting, alone));
            seated
        }
    };
    way.introduce(&mut request, seated.connection.epoch());
    let response = over_http2(seated, request, &offer).await?;
    Ok(answered(response, offer))
}

async fn over_http2(
    seated: Seated,
    request: Box<Request<MeshBody>>,
    offer: &Option<Offer>,
) -> Result<Response<MeshBody>, Refusal> {
    if offer.is_some() && !seated.connection.takes_upgrades().await {
        let detail = "the upstream speaks HTTP/2 and takes no extended CONNECT (RFC 8441)";
        return Err(Refusal::new(Reason::Misconfigured, detail).status(StatusCode::SERVICE_UNAVAILABLE));
    }
    let sent = seated.send(request).await;
    sent.map_err(|SendError { error, unsent }| failed(error, unsent))
}

fn answered(mut response: Response<MeshBody>, offer: Option<Offer>) -> Response<MeshBody> {
    if let Some(offer) = offer {
        upgrade::answer_offered(&mut response, offer);
    }
    response
}

/// What a failed exchange means to a caller and to the retry policy.
#[cold]
fn failed(error: BoxError, unsent: Option<Box<Request<MeshBody>>>) -> Refusal {
    if caused_by::<Stalled>(&*error).is_some() {
        let detail = format!(
            "the caller stopped in the middle of its body: {}",
            crate::layer::chain(&*error)
        );
        return Refusal::new(Reason::Timeout, detail)
            .status(StatusCode::REQUEST_TIMEOUT)
            .caused_by(error);
    }
    let reset = caused_by::<h2::Error>(&*error).and_then(h2::Error::reason);
    let (reason, outcome, detail) = if unsent.is_some() {
        (
            Reason::Reset,
            Outcome::ConnectFailure,
            "the connection closed before the request was sent",
        )
    } else if reset == Some(h2::Reason::REFUSED_STREAM) {
        (Reason::Reset, Outcome::RefusedStream, "the stream was refused")
    } else {
        (
            Reason::Reset,
            Outcome::Reset,
            "the connection ended before the response began",
        )
    };
    let refusal = Refusal::new(reason, format!("{detail}: {}", crate::layer::chain(&*error)))
        .outcome(outcome)
        .caused_by(error);
    match unsent {
        Some(request) => refusal.giving_back(request),
        None => refusal,
    }
}

/// The first cause of this kind behind an error.
fn caused_by<'e, E: std::error::Error + 'static>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e E> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<E>() {
            return Some(error);
        }
        source = error.source();
    }
    None
}
