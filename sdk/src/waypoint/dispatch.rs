//! Answers CONNECTs at a waypoint: which service or workload is meant, and whether it is ours to serve.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::sniff::{Spoken, sniff};
use crate::client::Opened;
use crate::hbone::{Authority, TunnelStream};
use crate::layer::labels::Onward;
use crate::layer::{Destination, Directory, Draining, Refusal, lead};
use crate::name::{Host, Peer};
use crate::policy::connection::{Heard, Opening};
use crate::server::{
    Admission, Arrival, BoxFuture, Dispatch, Incoming, Serve, Stage, Stream, hear, relayed, serve_http,
};
use crate::snapshot::{AppProtocol, Place, ServicePortView, Snapshot};
use crate::telemetry::TcpSeries;

pub(super) struct WaypointDispatch {
    shared: Arc<Shared>,
    /// Room for those who wait for what is not served yet.
    waiting: Semaphore,
}

impl WaypointDispatch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            waiting: Semaphore::new(WAITING),
        }
    }
}

impl Dispatch for WaypointDispatch {
    fn admit(self: Arc<Self>, arrival: Arrival, draining: Draining) -> BoxFuture<'static, Admission> {
        Box::pin(async move {
            let Arrival { authority, peer } = arrival;
            let (view, place, protocol) = self.served(&authority, &draining).await?;
            let shared = Arc::clone(&self.shared);
            match protocol {
                AppProtocol::Http1 | AppProtocol::Http2 => {
                    let stack = shared.stack(peer, Arc::new(place), &draining);
                    Ok(Box::new(move |stream| {
                        Box::pin(serve_http(stream, stack, draining)) as BoxFuture<'static, ()>
                    }) as Serve)
                }
                AppProtocol::Tcp if wants_opening(&view, &place) => Ok(Box::new(move |stream| {
                    Box::pin(heard(shared, stream, place, peer, draining)) as BoxFuture<'static, ()>
                }) as Serve),
                AppProtocol::Tcp => {
                    // 200 shall mean that somebody is there, as from a ztunnel.
                    let incoming = shared.incoming(place, peer);
                    let (onward, series) = onward(&shared, &view, &incoming, Opening::Plain).await?;
                    Ok(Box::new(move |stream| {
                        Box::pin(relayed(onward, stream, incoming, series, draining))
                            as BoxFuture<'static, ()>
                    }) as Serve)
                }
                AppProtocol::Unknown => Ok(Box::new(move |stream| {
                    Box::pin(sniffed(shared, stream, place, peer, draining)) as BoxFuture<'static, ()>
                }) as Serve),
            }
        })
    }

    fn baggage(&self) -> Option<HeaderValue> {
        self.shared.live.pin().baggage.clone()
    }
}

/// How long a caller is kept waiting for us to hear of a binding that it has heard of already. Everybody reads a change at
/// a time of their own; callers give the others a moment, which on a busy machine may be too short.
const LATE: Duration = Duration::from_secs(3);

/// How many wait at once. Whoever asks for what is not served, and never will be, must not keep others from streams.
const WAITING: usize = 256;

impl WaypointDispatch {
    /// The place that an authority means, in the first view that serves it: the one in force, or one that comes soon.
    async fn served(
        &self,
        authority: &Authority,
        draining: &Draining,
    ) -> Result<(Arc<Snapshot>, Place, AppProtocol), (StatusCode, String)> {
        let (live, mut waits) = (&self.shared.live, None);
        let (mut generations, mut draining) = (live.generations(), draining.clone());
        let deadline = Instant::now() + LATE;
        loop {
            generations.mark_unchanged();
            let view = live.pin();
            let refused = match place(&view, authority) {
                Ok((place, protocol)) if view.serves(&place) => return Ok((view, place, protocol)),
                // Envoy would accept and then reset; a status says more.
                Ok(_) => (
                    StatusCode::NOT_FOUND,
                    format!("{authority} is not served by this waypoint"),
                ),
                Err(refused) => refused,
            };
            if waits.is_none() {
                waits = self.waiting.try_acquire().ok();
            }
            if waits.is_none() {
                return Err(refused);
            }
            tokio::select! {
                changed = generations.changed() => if changed.is_err() { return Err(refused) },
                // Whoever leaves hears of nothing any more.
                () = draining.reached(Stage::GoingAway) => return Err(refused),
                () = sleep_until(deadline) => return Err(refused),
            }
        }
    }
}

/// The place that an authority means.
fn place(view: &Snapshot, authority: &Authority) -> Result<(Place, AppProtocol), (StatusCode, String)> {
    let service = match authority {
        Authority::Addr(addr) => view.vips.get(&addr.ip()).copied(),
        Authority::Name { host, .. } => view.service_by_host(host),
    };
    if let Some(service) = service.and_then(|id| view.service(id)) {
        let number = authority.port();
        let port = service.port(number).ok_or_else(|| {
            (
                StatusCode::NOT_FOUND,
                format!("service {} has no port {number}", service.name),
            )
        })?;
        return Ok((
            Place::Service {
                host: service.host.clone(),
                port: number,
            },
            port.protocol,
        ));
    }
    match authority {
        // What a workload speaks is not declared anywhere: the first bytes tell.
        Authority::Addr(addr) if view.pods.contains_key(&addr.ip()) => Ok((
            Place::Pod {
                ip: addr.ip(),
                port: addr.port(),
            },
            AppProtocol::Unknown,
        )),
        _ => Err((
            StatusCode::NOT_FOUND,
            format!("{authority} is neither a service nor a workload of the mesh"),
        )),
    }
}

/// Judges a connection that is not HTTP and connects it onwards; says where it is to be counted.
async fn onward(
    shared: &Shared,
    view: &Snapshot,
    incoming: &Incoming,
    opening: Opening<'_>,
) -> Result<(Opened, Arc<TcpSeries>), (StatusCode, String)> {
    let failed = |flags| incoming.series(view, None).failed(flags);
    incoming.permit(view).await.inspect_err(|_| failed("-"))?;
    let unreachable = |refusal: Refusal| {
        failed(refusal.flags());
        (StatusCode::SERVICE_UNAVAILABLE, refusal.to_string())
    };
    // As the routes will have it, not for want of somebody to ask: another instance would say the same.
    let astray = |refusal: Refusal| {
        failed(refusal.flags());
        (StatusCode::INTERNAL_SERVER_ERROR, refusal.to_string())
    };
    let to = match &incoming.place {
        Place::Pod { ip, port } => shared.directory.pod(view, *ip, *port).map_err(unreachable)?,
        Place::Service { host, port } => {
            let port = service_port(view, host, *port)
                .ok_or_else(|| (StatusCode::NOT_FOUND, format!("{host}:{port} is gone")))?;
            lead(view, &port.connections, Some(port.cluster), opening).map_err(astray)?
        }
        Place::Listener { name } => {
            let listener = view.gateway.listener(name);
            let passed = listener.and_then(|it| it.connections.as_ref());
            let passed = passed.ok_or_else(|| (StatusCode::NOT_FOUND, format!("listener {name} is gone")))?;
            lead(view, &passed.routes, None, opening).map_err(astray)?
        }
        Place::Workload { .. } | Place::Port { .. } => {
            return Err((StatusCode::NOT_FOUND, "nothing to connect to".into()));
        }
    };
    let (onward, endpoint) = shared.wire.connect(view, &to).await.map_err(unreachable)?;
    let cluster = match &to {
        Destination::Cluster(cluster) => Some(&**cluster),
        Destination::Endpoint(_) => None,
    };
    let endpoint = &*endpoint;
    Ok((onward, incoming.series(view, Some(Onward { endpoint, cluster }))))
}

/// Serves a stream of which only the first bytes say what it speaks.
async fn sniffed(
    shared: Arc<Shared>,
    stream: TunnelStream,
    place: Place,
    peer: Arc<Peer>,
    draining: Draining,
) {
    let (spoken, stream) = match sniff(stream).await {
        Ok(sniffed) => sniffed,
        Err(error) => return tracing::debug!(%error, "the stream ended before it said anything"),
    };
    match spoken {
        Spoken::Http => {
            let stack = shared.stack(peer, Arc::new(place), &draining);
            serve_http(stream, stack, draining).await;
        }
        Spoken::Other if wants_opening(&shared.live.pin(), &place) => {
            heard(shared, stream, place, peer, draining).await;
        }
        Spoken::Other => pass_on(&shared, stream, place, peer, &Heard::Plain, draining).await,
    }
}

fn service_port<'s>(view: &'s Snapshot, host: &Host, port: u16) -> Option<&'s ServicePortView> {
    view.service(view.service_by_host(host)?)?.port(port)
}

/// Whether it depends on the first bytes of a connection where it leads.
fn wants_opening(view: &Snapshot, place: &Place) -> bool {
    let port = match place {
        Place::Service { host, port } => service_port(view, host, *port),
        _ => None,
    };
    port.is_some_and(|port| port.connections.wants_opening())
}

/// Serves a stream whose first bytes say where it leads.
async fn heard(shared: Arc<Shared>, stream: impl Stream, place: Place, peer: Arc<Peer>, draining: Draining) {
    match hear(stream).await {
        Ok((heard, stream)) => pass_on(&shared, stream, place, peer, &heard, draining).await,
        Err(error) => tracing::debug!(%error, ?place, "the stream ended before it said whom it is for"),
    }
}

/// Passes on a connection that is not HTTP, as far as is allowed and as routes lead it. Dropping it is a reset.
pub(super) async fn pass_on(
    shared: &Shared,
    stream: impl Stream,
    place: Place,
    peer: Arc<Peer>,
    heard: &Heard,
    draining: Draining,
) {
    let view = shared.live.pin();
    // Policies may ask for the server name, as they do where TLS is opened.
    let peer = match heard {
        Heard::Tls(name) => Arc::new(Peer::clone(&peer).greeted(name.clone())),
        Heard::More | Heard::Plain => peer,
    };
    let incoming = shared.incoming(place, peer);
    match onward(shared, &view, &incoming, heard.as_opening()).await {
        Ok((onward, series)) => relayed(onward, stream, incoming, series, draining).await,
        Err((status, why)) => {
            let (place, peer) = (&incoming.place, &incoming.peer.identity);
            tracing::info!(target: "inmesh::denied", %status, ?place, ?peer, %why, "connection refused");
        }
    }
}
