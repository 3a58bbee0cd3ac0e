//! Wire: opens byte streams to endpoints, through tunnels or without.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpStream;

use super::connection::{Io, Raw, Spoken, Stream};
use super::lane::Lane;
use super::lifetime::Lifetime;
use super::room::Berth;
use super::{socket, tls};
use crate::hbone::{self, ConnectHead, TunnelPool, TunnelTarget};
use crate::identity::Introducer;
use crate::layer::call::Destination;
use crate::layer::{Reason, Refusal};
use crate::policy::Outcome;
use crate::policy::balance::{Draw, Endpoint, Tried};
use crate::policy::tls::Origination;
use crate::policy::traffic::{ConnectionPolicy, Counter, TrafficPolicy};
use crate::snapshot::{Cluster, Snapshot};
use crate::telemetry::{self, TcpAccount};

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
    pub(super) async fn open(
        &self,
        view: &Snapshot,
        endpoint: &Endpoint,
        service: Option<&Cluster>,
        spoken: Spoken,
        berth: Berth,
    ) -> Result<Io, Refusal> {
        let connections = &policy(service).connections;
        let within = connections.connect_within();
        let origin = match &endpoint.tls {
            Origination::None => None,
            Origination::Tls(origin) => Some(origin),
            Origination::Refused(why) => return Err(Refusal::new(Reason::Misconfigured, why.to_string())),
        };
        let raw = match &endpoint.key.authority {
            None => plain(endpoint, connections).await?,
            // Whoever is at the other end connects in turn, which has its own limits: more than Istio's default in all.
            Some(authority) if connections.connect_timeout.is_none() => {
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
        // From its first stream on the endpoint is left out by whoever chooses when that peer falls silent.
        endpoint.cell.heed(|| self.0.tunnels.silence(&target));
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
pub(super) fn policy(cluster: Option<&Cluster>) -> &Arc<TrafficPolicy> {
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

pub(super) fn lane(endpoint: &Endpoint) -> Result<&Lane, Refusal> {
    endpoint.cell.connections(Lane::default).ok_or_else(|| {
        Refusal::new(
            Reason::Misconfigured,
            "the endpoint's cell belongs to another sender",
        )
    })
}

async fn plain(endpoint: &Endpoint, connections: &ConnectionPolicy) -> Result<Raw, Refusal> {
    let (to, within) = (endpoint.key.dial, connections.connect_within());
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
