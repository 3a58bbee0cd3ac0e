//! Upstream: sends a directed request over a warm or a new connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;
use tracing::{Instrument, Span};

use super::connection::{Io, Raw, SendError, Spoken};
use super::http1::Http1;
use super::http2::Http2;
use super::introduce::OnBehalf;
use super::lane::Lane;
use super::tls;
use super::translate::{from_upstream, to_http1, to_http2};
use crate::hbone::{self, ConnectHead, TunnelPool, TunnelTarget};
use crate::identity::Introducer;
use crate::layer::call::{Destination, Directed, Served};
use crate::layer::refusal::is_grpc;
use crate::layer::upgrade::{self, Offer};
use crate::layer::{Interim, MeshBody, Reason, Refusal, Stalled};
use crate::policy::Outcome;
use crate::policy::balance::{Draw, Endpoint, Tried};
use crate::policy::tls::Origination;
use crate::snapshot::{AppProtocol, Cluster, Snapshot};
use crate::telemetry::{self, TcpAccount, TraceContext, field};

/// How long a plain TCP connection may take; Istio's `connectTimeout` default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
            match self.open(view, &endpoint, cluster, Spoken::Bytes).await {
                Err(refusal)
                    if tried.endpoints.len() < 2 && refusal.outcome == Some(Outcome::ConnectFailure) =>
                {
                    tracing::debug!(%refusal, "trying another endpoint");
                    tried.endpoints.push(endpoint.key.clone());
                }
                opened => return Ok((opened?, endpoint)),
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
    ) -> Result<Opened, Refusal> {
        let origin = match &endpoint.tls {
            Origination::None => None,
            Origination::Tls(origin) => Some(origin),
            Origination::Refused(why) => return Err(Refusal::new(Reason::Misconfigured, why.to_string())),
        };
        let raw = match &endpoint.key.authority {
            None => self.plain(endpoint).await?,
            Some(authority) => self.tunnelled(view, endpoint, authority, service).await?,
        };
        let Some(origin) = origin else {
            return Ok(Opened::new(Io::Raw(raw)));
        };
        let failed = |detail| Refusal::new(Reason::Identity, detail).outcome(Outcome::ConnectFailure);
        match tokio::time::timeout(CONNECT_TIMEOUT, tls::originate(origin, spoken, raw)).await {
            Ok(Ok(stream)) => Ok(Opened::new(Io::Tls(Box::new(stream)))),
            Ok(Err(error)) => Err(failed(format!(
                "TLS with {} as {} failed: {}",
                endpoint.addr,
                origin.server_name,
                crate::layer::chain(&error)
            ))
            .caused_by(error)),
            Err(_) => Err(failed(format!(
                "TLS with {} took longer than {CONNECT_TIMEOUT:?}",
                endpoint.addr
            ))),
        }
    }

    async fn plain(&self, endpoint: &Endpoint) -> Result<Raw, Refusal> {
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint.key.dial)).await;
        let refusal = |detail| Refusal::new(Reason::Connect, detail).outcome(Outcome::ConnectFailure);
        match dialled {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).ok();
                Ok(Raw::Plain(stream))
            }
            Ok(Err(error)) => {
                Err(refusal(format!("connecting to {} failed: {error}", endpoint.key.dial)).caused_by(error))
            }
            Err(_) => Err(refusal(format!(
                "connecting to {} took longer than {CONNECT_TIMEOUT:?}",
                endpoint.key.dial
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

fn draw() -> Draw {
    Draw::new(fastrand::u64(..), std::time::Instant::now())
}

/// An open byte stream to an endpoint.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) io: Io,
    /// Where its bytes are counted.
    account: Option<TcpAccount>,
}

impl Opened {
    fn new(io: Io) -> Self {
        Self { io, account: None }
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
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
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
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
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
    // gRPC is spoken over HTTP/2, whatever the port declares.
    let protocol = match cluster.as_deref().map(|cluster| cluster.protocol) {
        Some(AppProtocol::Http2) => AppProtocol::Http2,
        _ if is_grpc(request.headers()) => AppProtocol::Http2,
        _ => AppProtocol::Http1,
    };
    let Some(lane) = endpoint.cell.connections(Lane::default) else {
        return Err(Refusal::new(
            Reason::Misconfigured,
            "the endpoint's cell belongs to another sender",
        ));
    };
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
    fn open(&self, spoken: Spoken) -> Pin<Box<dyn Future<Output = Result<Opened, Refusal>> + Send + '_>> {
        Box::pin(self.wire.open(self.view, self.endpoint, self.cluster, spoken))
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
    while let Some(connection) = lane.take(epoch) {
        way.introduce(&mut request, connection.epoch());
        match connection.send(request, way.endpoint).await {
            Ok(response) => return Ok(response),
            // It was closed under our hands before anything was written: the next one, or a new one.
            Err(SendError {
                unsent: Some(back), ..
            }) => request = back,
            Err(SendError { error, unsent: None }) => return Err(failed(error, None)),
        }
    }
    let io = match way.open(Spoken::Http1).await {
        Ok(opened) => opened.io,
        Err(refusal) => return Err(refusal.giving_back(request)),
    };
    let connection = match Http1::handshake(io).await {
        Ok(connection) => connection,
        Err(error) => return Err(failed(error, Some(request))),
    };
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
    if let Some(connection) = lane.http2(epoch) {
        way.introduce(&mut request, connection.epoch());
        match over_http2(&connection, request, &offer).await {
            Ok(response) => return Ok(answered(response, offer)),
            Err(mut refusal) => match refusal.take_unsent() {
                Some(back) if refusal.outcome == Some(Outcome::ConnectFailure) => request = back,
                _ => return Err(refusal),
            },
        }
    }
    let dialling = lane.dialling.lock().await;
    let connection = match lane.http2(epoch) {
        Some(connection) => connection,
        None => {
            let io = match way.open(Spoken::Http2).await {
                Ok(opened) => opened.io,
                Err(refusal) => return Err(refusal.giving_back(request)),
            };
            match Http2::handshake(io).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    lane.share(Arc::clone(&connection));
                    connection
                }
                Err(error) => return Err(failed(error, Some(request))),
            }
        }
    };
    drop(dialling);
    way.introduce(&mut request, connection.epoch());
    let response = over_http2(&connection, request, &offer).await?;
    Ok(answered(response, offer))
}

async fn over_http2(
    connection: &Http2,
    request: Box<Request<MeshBody>>,
    offer: &Option<Offer>,
) -> Result<Response<MeshBody>, Refusal> {
    if offer.is_some() && !connection.takes_upgrades().await {
        let detail = "the upstream speaks HTTP/2 and takes no extended CONNECT (RFC 8441)";
        return Err(Refusal::new(Reason::Misconfigured, detail).status(StatusCode::SERVICE_UNAVAILABLE));
    }
    let sent = connection.send(request).await;
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
