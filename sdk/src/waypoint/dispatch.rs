//! Answers CONNECTs at a waypoint: which service or workload is meant, and whether it is ours to serve.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::Shared;
use super::sniff::{Spoken, sniff};
use crate::client::Connection;
use crate::hbone::{Authority, TunnelStream};
use crate::layer::labels::Onward;
use crate::layer::{Destination, Directory, Draining, Refusal};
use crate::name::Peer;
use crate::server::{Admission, Arrival, BoxFuture, Dispatch, Incoming, Serve, relayed, serve_http};
use crate::snapshot::{AppProtocol, Place, Snapshot};
use crate::telemetry::TcpSeries;

pub(super) struct WaypointDispatch {
    pub(super) shared: Arc<Shared>,
}

impl Dispatch for WaypointDispatch {
    fn admit(self: Arc<Self>, arrival: Arrival, draining: Draining) -> BoxFuture<'static, Admission> {
        Box::pin(async move {
            let view = self.shared.live.pin();
            let Arrival { authority, peer } = arrival;
            let (place, protocol) = place(&view, &authority)?;
            if !view.serves(&place) {
                // Envoy would accept and then reset; a status says more.
                return Err((
                    StatusCode::NOT_FOUND,
                    format!("{authority} is not served by this waypoint"),
                ));
            }
            let shared = Arc::clone(&self.shared);
            match protocol {
                AppProtocol::Http1 | AppProtocol::Http2 => {
                    let stack = shared.stack(peer, Arc::new(place), &draining);
                    Ok(Box::new(move |stream| {
                        Box::pin(serve_http(stream, stack, draining)) as BoxFuture<'static, ()>
                    }) as Serve)
                }
                AppProtocol::Tcp => {
                    // 200 shall mean that somebody is there, as from a ztunnel.
                    let incoming = shared.incoming(place, peer);
                    let (onward, series) = onward(&shared, &view, &incoming).await?;
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
) -> Result<(Connection, Arc<TcpSeries>), (StatusCode, String)> {
    let failed = |flags| incoming.series(view, None).failed(flags);
    incoming.permit(view).await.inspect_err(|_| failed("-"))?;
    let unreachable = |refusal: Refusal| {
        failed(refusal.flags());
        (StatusCode::SERVICE_UNAVAILABLE, refusal.to_string())
    };
    let to = match &incoming.place {
        Place::Pod { ip, port } => shared.directory.pod(view, *ip, *port).map_err(unreachable)?,
        Place::Service { host, port } => view
            .service_by_host(host)
            .and_then(|id| view.service(id))
            .and_then(|service| service.port(*port))
            .and_then(|port| view.cluster(port.cluster))
            .map(|cluster| Destination::Cluster(Arc::clone(cluster)))
            .ok_or_else(|| (StatusCode::NOT_FOUND, format!("{host}:{port} is gone")))?,
        Place::Workload { .. } | Place::Port { .. } | Place::Listener { .. } => {
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
        Spoken::Other => {
            let view = shared.live.pin();
            let incoming = shared.incoming(place, peer);
            match onward(&shared, &view, &incoming).await {
                Ok((onward, series)) => relayed(onward, stream, incoming, series, draining).await,
                Err((status, why)) => {
                    let (place, peer) = (&incoming.place, &incoming.peer.identity);
                    tracing::info!(target: "inmesh::denied", %status, ?place, ?peer, %why, "connection refused");
                }
            }
        }
    }
}
