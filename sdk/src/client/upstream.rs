//! Upstream: sends a directed request over a warm or a new connection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;
use tracing::{Instrument, Span};

use super::connection::{Io, Raw, SendError, Spoken, Stream};
use super::http1::Http1;
use super::http2::{Http2, Seated};
use super::introduce::OnBehalf;
use super::lane::{Lane, Terms};
use super::lifetime::Lifetime;
use super::room::{Berth, Making, Sharing, Turn, turn};
use super::translate::{from_upstream, to_http1, to_http2};
use super::{socket, tls};
use crate::hbone::{self, ConnectHead, TunnelPool, TunnelTarget};
use crate::identity::Introducer;
use crate::layer::call::{Destination, Directed, Served};
use crate::layer::refusal::is_grpc;
use crate::layer::upgrade::{self, Offer};
use crate::layer::{Interim, MeshBody, Reason, Refusal, Stalled};
use crate::policy::Outcome;
use crate::policy::balance::{Draw, Endpoint, Tried};
use crate::policy::tls::Origination;
use crate::policy::traffic::{ConnectionPolicy, Counter, TrafficPolicy, Upgrade};
use crate::snapshot::{AppProtocol, Cluster, Snapshot};
use crate::telemetry::{self, TcpAccount, TraceContext, field};

/// What applies to a workload that is addressed itself: no destination says anything.
static UNSAID: LazyLock<Arc<TrafficPolicy>> = LazyLock::new(Arc::default);

/// The wires of one mesh participant: its tunnels and what it says of itself on them.
#[derive(Clone, Debug)]
pub struct Wire(Arc<Wires>);

#[derive(Clone, Debug)]
struct Wires {
    tunnels: TunnelPool,
    /// The epoch of the newest credential; whoever watches credentials keeps it.
    epoch: Arc<AtomicU64>,
    introducer: Option<Introducer>,
}

impl Wire {
    /// Wires that use these tunnels; `epoch` is that of the newest credential.
    pub fn new(tunnels: TunnelPool, epoch: Arc<AtomicU64>) -> Self {
        Self(Arc::new(Wires {
            tunnels,
            epoch,
            introducer: None,
        }))
    }

    /// Introduces to each destination the caller that a request is sent on for.
    #[must_use]
    pub fn introducing(mut self, introducer: Introducer) -> Self {
        Arc::make_mut(&mut self.0).introducer = Some(introducer);
        self
    }

    pub(super) fn introducer(&self) -> Option<&Introducer> {
        self.0.introducer.as_ref()
    }

    /// The epoch of the newest credential: connections made under an older one are not used again.
    pub(crate) fn epoch(&self) -> u64 {
        // Relaxed: a late view only costs or saves one connection.
        self.0.epoch.load(Ordering::Relaxed)
    }

    /// The tunnels.
    pub fn tunnels(&self) -> &TunnelPool {
        &self.0.tunnels
    }

    /// Opens a byte stream to one of a destination's endpoints, trying another if one cannot be reached; says which it
    /// is.
    pub(crate) async fn connect(
        &self,
        view: &Snapshot,
        to: &Destination,
    ) -> Result<(Opened, Arc<Endpoint>), Refusal> {
        let mut tried = Tried::default();
        loop {
            let (endpoint, cluster) = match to {
                Destination::Endpoint(endpoint) => (Arc::clone(endpoint), None),
                Destination::Cluster(cluster) => match cluster.endpoints.pick(&draw(), &tried) {
                    Some(endpoint) => (endpoint, Some(&**cluster)),
                    None => {
                        let detail = format!("{cluster} has no endpoint that is ready");
                        return Err(Refusal::new(Reason::NoEndpoint, detail));
                    }
                },
            };
            let berth = berth(&endpoint, cluster)?;
            match self.open(view, &endpoint, cluster, Spoken::Bytes, berth).await {
                Err(refusal)
                    if tried.endpoints.len() < 2 && refusal.outcome == Some(Outcome::ConnectFailure) =>
                {
                    tracing::debug!(%refusal, "trying another endpoint");
                    tried.endpoints.push(endpoint.key.clone());
                }
                opened => {
                    let lifetime = Lifetime::of(&policy(cluster).connections);
                    return Ok((Opened::new(opened?, lifetime), endpoint));
                }
            }
        }
    }

    /// Opens a byte stream to an endpoint, over TLS where that is demanded.
    async fn open(
        &self,
        view: &Snapshot,
        endpoint: &Endpoint,
        service: Option<&Cluster>,
        spoken: Spoken,
        berth: Berth,
    ) -> Result<Io, Refusal> {
        let connections = &policy(service).connections;
        let within = connections.connect_timeout;
        let origin = match &endpoint.tls {
            Origination::None => None,
            Origination::Tls(origin) => Some(origin),
            Origination::Refused(why) => return Err(Refusal::new(Reason::Misconfigured, why.to_string())),
        };
        let raw = match &endpoint.key.authority {
            None => plain(endpoint, connections).await?,
            // Whoever is at the other end connects in turn, which has its own limits: more than Istio's default in all.
            Some(authority) if within == ConnectionPolicy::CONNECT_TIMEOUT => {
                self.tunnelled(view, endpoint, authority, service).await?
            }
            Some(authority) => {
                let opening = self.tunnelled(view, endpoint, authority, service);
                match tokio::time::timeout(within, opening).await {
                    Ok(opened) => opened?,
                    Err(_) => return Err(late(endpoint.key.dial, within)),
                }
            }
        };
        let Some(origin) = origin else {
            return Ok(Io::new(Stream::Raw(raw), berth));
        };
        let failed = |detail| Refusal::new(Reason::Identity, detail).outcome(Outcome::ConnectFailure);
        match tokio::time::timeout(within, tls::originate(origin, spoken, raw)).await {
            Ok(Ok(stream)) => Ok(Io::new(Stream::Tls(Box::new(stream)), berth)),
            Ok(Err(error)) => Err(failed(format!(
                "TLS with {} as {} failed: {}",
                endpoint.addr,
                origin.server_name,
                crate::layer::chain(&error)
            ))
            .caused_by(error)),
            Err(_) => Err(failed(format!(
                "TLS with {} took longer than {within:?}",
                endpoint.addr
            ))),
        }
    }

    async fn tunnelled(
        &self,
        view: &Snapshot,
        endpoint: &Endpoint,
        authority: &str,
        service: Option<&Cluster>,
    ) -> Result<Raw, Refusal> {
        let target = TunnelTarget::new(endpoint.key.dial, Arc::clone(&endpoint.identities));
        let parsed = hbone::Authority::parse(authority).map_err(|error| {
            Refusal::new(
                Reason::Misconfigured,
                format!("`{authority}` cannot be asked for: {error}"),
            )
        })?;
        let mut head = ConnectHead::new(parsed);
        head.baggage = view.baggage.clone();
        head.forwarded = service.and_then(|cluster| {
            HeaderValue::try_from(format!("for=\"{}\";host={}", view.my_addr(), cluster.host)).ok()
        });
        head.traceparent = telemetry::current().traceparent();
        match self.0.tunnels.open(&target, head).await {
            Ok(stream) => Ok(Raw::Tunnel(stream)),
            Err(error) => {
                let detail = crate::layer::chain(&error);
                if error.is_final() {
                    return Err(Refusal::new(Reason::Connect, detail).caused_by(error));
                }
                let (reason, outcome) = if error.is_identity() {
                    (Reason::Identity, Outcome::ConnectFailure)
                } else if error.is_refused_stream() {
                    (Reason::Reset, Outcome::RefusedStream)
                } else {
                    // A refused CONNECT is a connection that was not made.
                    (Reason::Connect, Outcome::ConnectFailure)
                };
                Err(Refusal::new(reason, detail).outcome(outcome).caused_by(error))
            }
        }
    }
}

/// How a destination wants to be called.
fn policy(cluster: Option<&Cluster>) -> &Arc<TrafficPolicy> {
    cluster.map_or(&UNSAID, |cluster| cluster.endpoints.policy())
}

/// A place for a connection that is not shared and for which nobody waits.
fn berth(endpoint: &Endpoint, cluster: Option<&Cluster>) -> Result<Berth, Refusal> {
    let ticket = match cluster {
        None => None,
        Some(cluster) => {
            let limit = cluster.endpoints.policy().limits.connections;
            let ticket = cluster.endpoints.cell().enter(Counter::Connections, limit);
            Some(ticket.ok_or_else(|| {
                let detail = format!(
                    "{}:{} has {limit} connections, as many as its connectionPool allows",
                    cluster.host, cluster.port
                );
                Refusal::new(Reason::Overloaded, detail).outcome(Outcome::Overflow)
            })?)
        }
    };
    Ok(Berth::new(lane(endpoint)?.room(), ticket))
}

fn lane(endpoint: &Endpoint) -> Result<&Lane, Refusal> {
    endpoint.cell.connections(Lane::default).ok_or_else(|| {
        Refusal::new(
            Reason::Misconfigured,
            "the endpoint's cell belongs to another sender",
        )
    })
}

async fn plain(endpoint: &Endpoint, connections: &ConnectionPolicy) -> Result<Raw, Refusal> {
    let (to, within) = (endpoint.key.dial, connections.connect_timeout);
    match tokio::time::timeout(within, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => {
            if let Err(error) = socket::prepare(&stream, connections.keepalive.as_ref()) {
                tracing::debug!(%error, %to, "the socket cannot be prepared");
            }
            Ok(Raw::Plain(stream))
        }
        Ok(Err(error)) => {
            let detail = format!("connecting to {to} failed: {error}");
            Err(Refusal::new(Reason::Connect, detail)
                .outcome(Outcome::ConnectFailure)
                .caused_by(error))
        }
        Err(_) => Err(late(to, within)),
    }
}

fn late(to: SocketAddr, within: Duration) -> Refusal {
    let detail = format!("connecting to {to} took longer than {within:?}");
    Refusal::new(Reason::Connect, detail).outcome(Outcome::ConnectFailure)
}

fn draw() -> Draw {
    Draw::new(fastrand::u64(..), std::time::Instant::now())
}

/// An open byte stream to an endpoint.
#[derive(Debug)]
pub(crate) struct Opened {
    io: Io,
    /// Where its bytes are counted.
    account: Option<TcpAccount>,
    /// How long it may last, where that is limited.
    lifetime: Option<Box<Lifetime>>,
}

impl Opened {
    fn new(io: Io, lifetime: Option<Lifetime>) -> Self {
        Self {
            io,
            account: None,
            lifetime: lifetime.map(Box::new),
        }
    }

    /// Whether it is still to be used; asked at every turn, so that somebody is woken when it is not.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        match &mut self.lifetime {
            None => Ok(()),
            Some(lifetime) => lifetime.check(cx),
        }
    }

    fn moved(&mut self) {
        if let Some(lifetime) = &mut self.lifetime {
            lifetime.moved();
        }
    }

    /// Counts what passes: what is written here is what the caller sends.
    pub(super) fn counted(mut self, account: TcpAccount) -> Self {
        self.account = Some(account);
        self
    }
}

impl tokio::io::AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_pending() {
            self.poll_over(cx)?;
        }
        ready!(polled)?;
        self.moved();
        if let Some(account) = &self.account {
            account.sent((buf.filled().len() - before) as u64);
        }
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Opened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if polled.is_pending() {
            self.poll_over(cx)?;
        }
        let written = ready!(polled)?;
        self.moved();
        if let Some(account) = &self.account {
            account.received(written as u64);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

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
    type Future = Pin<Box<dyn Future<Output = Result<Response<MeshBody>, Refusal>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, directed: Directed) -> Self::Future {
        let wire = self.wire.clone();
        let trace = telemetry::current();
        // The first attempt that nobody records needs no span of its own: the request's says it all.
        if directed.routed.attempt == 1 && !trace.is_sampled() {
            Box::pin(exchange(wire, directed, trace))
        } else {
            Box::pin(recorded(wire, directed))
        }
    }
}

/// An attempt in a span of its own.
async fn recorded(wire: Wire, directed: Directed) -> Result<Response<MeshBody>, Refusal> {
    let endpoint = &directed.endpoint;
    let number = directed.routed.attempt - 1;
    let span = telemetry::attempt_span(number, &endpoint.addr, endpoint.identities.first());
    let trace = span.in_scope(telemetry::current);
    let result = exchange(wire, directed, trace).instrument(span.clone()).await;
    if !span.is_disabled() {
        tell(&span, &result);
    }
    result
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

async fn exchange(
    wire: Wire,
    directed: Directed,
    trace: TraceContext,
) -> Result<Response<MeshBody>, Refusal> {
    let Directed { mut routed, endpoint } = directed;
    let behalf = OnBehalf::of(&mut routed.call, &endpoint);
    let cluster = match &routed.to {
        Destination::Cluster(cluster) => Some(Arc::clone(cluster)),
        Destination::Endpoint(_) => None,
    };
    let view = Arc::clone(&routed.call.view);
    let mut request = routed.call.request;
    let protocol = spoken(&request, cluster.as_deref());
    let lane = lane(&endpoint)?;
    trace.inject(request.headers_mut());
    // Set by hyper's server where the request was received rather than made here: then both halves of an upgrade end
    // in this process and are joined. It stays with the request too, which may come back for another attempt.
    let received = request.extensions().get::<OnUpgrade>().cloned();
    if protocol == AppProtocol::Http1
        && let Some(interim) = request.extensions_mut().remove::<Interim>()
    {
        interim.listen(&mut request);
    }
    let served = |attempts| Served {
        endpoint: Arc::clone(&endpoint),
        cluster: cluster.clone(),
        rule: routed
            .rule
            .as_ref()
            .and_then(|won| won.rule())
            .map(|rule| Arc::clone(&rule.origin.label)),
        attempts,
        exhausted: false,
    };
    let way = Way {
        wire: &wire,
        view: &view,
        endpoint: &endpoint,
        cluster: cluster.as_deref(),
        behalf,
    };
    let scheme = match endpoint.tls {
        Origination::None => Scheme::HTTP,
        Origination::Tls(_) | Origination::Refused(_) => Scheme::HTTPS,
    };
    let result = if protocol == AppProtocol::Http2 {
        match to_http2(&mut request, scheme) {
            Ok(offer) => Box::pin(send_http2(&way, lane, request, offer)).await,
            Err(refusal) => Err(refusal),
        }
    } else {
        match to_http1(&mut request) {
            Ok(()) => send_http1(&way, lane, request).await,
            Err(refusal) => Err(refusal),
        }
    };
    match result {
        Ok(mut response) => {
            from_upstream(&mut response);
            if response.status() == StatusCode::SWITCHING_PROTOCOLS
                && let Some(received) = received
            {
                join(received, hyper::upgrade::on(&mut response));
            }
            response.extensions_mut().insert(served(routed.attempt));
            Ok(response)
        }
        Err(refusal) => Err(refusal.at(&endpoint.key)),
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

/// How to get a new connection to an endpoint.
struct Way<'w> {
    wire: &'w Wire,
    view: &'w Snapshot,
    endpoint: &'w Arc<Endpoint>,
    cluster: Option<&'w Cluster>,
    behalf: Option<OnBehalf>,
}

impl Way<'_> {
    /// Boxed, because it is rare and large: the future of every request would carry its size.
    fn open(
        &self,
        spoken: Spoken,
        berth: Berth,
    ) -> Pin<Box<dyn Future<Output = Result<Io, Refusal>> + Send + '_>> {
        Box::pin(
            self.wire
                .open(self.view, self.endpoint, self.cluster, spoken, berth),
        )
    }

    fn terms(&self) -> Terms {
        Terms::new(Arc::clone(policy(self.cluster)))
    }

    fn introduce(&self, request: &mut Request<MeshBody>, epoch: Option<u64>) {
        if let Some(behalf) = &self.behalf {
            behalf.introduce(request, self.wire, epoch);
        }
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

async fn send_http1(
    way: &Way<'_>,
    lane: &Lane,
    mut request: Box<Request<MeshBody>>,
) -> Result<Response<MeshBody>, Refusal> {
    let epoch = way.wire.epoch();
    let policy = policy(way.cluster);
    let making = loop {
        let connection = match lane.take(epoch, policy) {
            Some(connection) => connection,
            // Boxed for the same reason as a new connection: few requests come here.
            None => match Box::pin(turn(lane, way.cluster, Sharing::Alone, || {
                lane.take(epoch, policy)
            }))
            .await?
            {
                Turn::Use(connection) => connection,
                Turn::Make(making) => break making,
            },
        };
        way.introduce(&mut request, connection.epoch());
        match connection.send(request, way.endpoint).await {
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
        Err(error) => return Err(failed(error, Some(request))),
    };
    drop(waiting);
    way.introduce(&mut request, connection.epoch());
    match connection.send(request, way.endpoint).await {
        Ok(response) => Ok(response),
        Err(SendError { error, unsent }) => Err(failed(error, unsent)),
    }
}

async fn send_http2(
    way: &Way<'_>,
    lane: &Lane,
    mut request: Box<Request<MeshBody>>,
    offer: Option<Offer>,
) -> Result<Response<MeshBody>, Refusal> {
    let epoch = way.wire.epoch();
    let policy = policy(way.cluster);
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
    let seated = match turn(lane, way.cluster, Sharing::Shared, || lane.http2(epoch, policy)).await? {
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
                Err(error) => return Err(failed(error, Some(request))),
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
fn failed(error: hyper::Error, unsent: Option<Box<Request<MeshBody>>>) -> Refusal {
    if caused_by::<Stalled>(&error).is_some() {
        let detail = format!(
            "the caller stopped in the middle of its body: {}",
            crate::layer::chain(&error)
        );
        return Refusal::new(Reason::Timeout, detail)
            .status(StatusCode::REQUEST_TIMEOUT)
            .caused_by(error);
    }
    let reset = caused_by::<h2::Error>(&error).and_then(h2::Error::reason);
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
    let refusal = Refusal::new(reason, format!("{detail}: {}", crate::layer::chain(&error)))
        .outcome(outcome)
        .caused_by(error);
    match unsent {
        Some(request) => refusal.giving_back(request),
        None => refusal,
    }
}

/// The first cause of this kind behind an error.
fn caused_by<E: std::error::Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<E>() {
            return Some(error);
        }
        source = error.source();
    }
    None
}
