//! Which application answers which port of a workload.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderValue, StatusCode};
use tokio::net::TcpStream;

use super::Draining;
use super::hbone::{Admission, Arrival, Dispatch};
use super::serve::{BoxFuture, Stream};
use crate::hbone::Authority;
use crate::layer::Asker;
use crate::name::Peer;
use crate::policy::authz::Decision;
use crate::policy::{Caller, ConnectionHead};
use crate::snapshot::{InboundPolicy, Live, Place, Snapshot};
use crate::telemetry::Meter;

/// An application that speaks HTTP, whatever its type: dispatched once per connection.
pub(crate) trait App: Send + Sync + 'static {
    /// Serves one connection to the end.
    fn serve(&self, io: Box<dyn Stream>, peer: Arc<Peer>, draining: Draining) -> BoxFuture<'static, ()>;

    /// Serves one tunnelled connection to the end: as `serve`, without a virtual call per read.
    fn serve_tunnel(
        &self,
        io: crate::hbone::TunnelStream,
        peer: Arc<Peer>,
        draining: Draining,
    ) -> BoxFuture<'static, ()>;
}

/// What answers a port.
#[derive(Clone)]
pub(crate) enum End {
    /// An application in this process.
    App(Arc<dyn App>),
    /// Bytes to this address; judged once, at the CONNECT.
    Relay(SocketAddr),
}

/// The ports of this workload.
#[derive(Clone, Default)]
pub(crate) struct Ports(Arc<ArcSwap<HashMap<u16, End>>>);

impl Ports {
    /// Puts something behind a port; `false` if something is there already.
    pub(crate) fn register(&self, port: u16, end: End) -> bool {
        let mut fresh = false;
        self.0.rcu(|old| {
            let mut ports = HashMap::clone(old);
            fresh = !ports.contains_key(&port);
            if fresh {
                ports.insert(port, end.clone());
            }
            ports
        });
        fresh
    }

    pub(crate) fn get(&self, port: u16) -> Option<End> {
        self.0.load().get(&port).cloned()
    }
}

/// Answers CONNECTs at a workload.
pub(crate) struct WorkloadDispatch {
    pub(crate) live: Arc<Live>,
    pub(crate) ports: Ports,
    pub(crate) meter: Meter,
    pub(crate) asker: Asker,
    /// The workload's own address: CONNECTs for any other are refused, this is no relay. `None`: the address that
    /// the tunnel came in on.
    pub(crate) addr: Option<IpAddr>,
}

impl WorkloadDispatch {
    /// The local port that an authority means.
    fn port(&self, view: &Snapshot, authority: &Authority, peer: &Peer) -> Result<u16, (StatusCode, String)> {
        let own = self.addr.unwrap_or_else(|| peer.local.ip()).to_canonical();
        match authority {
            Authority::Addr(addr) if addr.ip().to_canonical() == own => Ok(addr.port()),
            Authority::Addr(addr) => Err((
                StatusCode::BAD_REQUEST,
                format!("{addr} is not this workload's address ({own})"),
            )),
            Authority::Name { host, port } => {
                let service = view
                    .service_by_host(host)
                    .and_then(|id| view.service(id))
                    .ok_or_else(|| {
                        (
                            StatusCode::BAD_REQUEST,
                            format!("{host} is no service of the mesh"),
                        )
                    })?;
                let InboundPolicy::Workload(policy) = &view.inbound else {
                    return Err((
                        StatusCode::SERVICE_UNAVAILABLE,
                        "no configuration has been loaded yet".into(),
                    ));
                };
                policy
                    .ports
                    .iter()
                    .find(|(_, guards)| {
                        guards
                            .iter()
                            .any(|guard| guard.service == service.name && guard.port == *port)
                    })
                    .map(|(local, _)| *local)
                    .ok_or_else(|| {
                        (
                            StatusCode::SERVICE_UNAVAILABLE,
                            format!("{host}:{port} does not stand for this workload"),
                        )
                    })
            }
        }
    }
}

impl Dispatch for WorkloadDispatch {
    fn admit(self: Arc<Self>, arrival: Arrival, draining: Draining) -> BoxFuture<'static, Admission> {
        Box::pin(async move {
            let view = self.live.pin();
            let Arrival { authority, peer } = arrival;
            let port = self.port(&view, &authority, &peer)?;
            match self.ports.get(port) {
                Some(End::App(app)) => {
                    Ok(Box::new(move |stream| app.serve_tunnel(stream, peer, draining))
                        as super::hbone::Serve)
                }
                Some(End::Relay(to)) => {
                    let place = Place::Workload { port };
                    permit(&view, &place, &peer, &self.meter, &self.asker).await?;
                    let onward = TcpStream::connect(to).await.map_err(|error| {
                        (
                            StatusCode::SERVICE_UNAVAILABLE,
                            format!("connecting to {to} failed: {error}"),
                        )
                    })?;
                    onward.set_nodelay(true).ok();
                    let live = Arc::clone(&self.live);
                    Ok(Box::new(move |stream| {
                        Box::pin(relayed(onward, stream, live, place, peer, draining))
                            as BoxFuture<'static, ()>
                    }) as super::hbone::Serve)
                }
                None => Err((
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("nothing serves port {port} here"),
                )),
            }
        })
    }

    fn baggage(&self) -> Option<HeaderValue> {
        self.live.pin().baggage.clone()
    }
}

/// Judges a connection; a denial is answered with 401, as ztunnel does.
pub(crate) async fn permit(
    view: &Snapshot,
    place: &Place,
    peer: &Peer,
    meter: &Meter,
    asker: &Asker,
) -> Result<(), (StatusCode, String)> {
    let head = connection_head(place, peer);
    consult(view, place, &head, asker)
        .await
        .map_err(|why| (StatusCode::UNAUTHORIZED, why))?;
    match judge_asked(view, place, &head) {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny { by, why } => {
            let by = by.map(|rule| rule.policy.to_string());
            meter.denied(by.as_deref().unwrap_or("none"));
            Err((
                StatusCode::UNAUTHORIZED,
                format!("{}: {why}", by.as_deref().unwrap_or("authorization")),
            ))
        }
    }
}

/// Asks external authorizers about a connection.
async fn consult(
    view: &Snapshot,
    place: &Place,
    head: &ConnectionHead<'_>,
    asker: &Asker,
) -> Result<(), String> {
    #[cfg(feature = "extauthz")]
    return crate::layer::consult_connection(view, place, head, view.my_identity.as_ref(), asker).await;
    #[cfg(not(feature = "extauthz"))]
    {
        let _ = (view, place, head, asker);
        Ok(())
    }
}

/// Judges a connection about which external authorizers were asked when it began, where that is possible at all.
fn judge_asked<'s>(view: &'s Snapshot, place: &Place, head: &ConnectionHead<'_>) -> Decision<'s> {
    match cfg!(feature = "extauthz") {
        true => view.authorize_consulted_connection(place, head),
        false => view.authorize_connection(place, head),
    }
}

pub(crate) fn connection_head<'a>(place: &Place, peer: &'a Peer) -> ConnectionHead<'a> {
    let addr = peer.addr.ip().to_canonical();
    let port = match place {
        Place::Workload { port } | Place::Service { port, .. } | Place::Pod { port, .. } => *port,
        Place::Port { .. } | Place::Listener { .. } => peer.local.port(),
    };
    ConnectionHead {
        caller: Caller {
            identity: peer.identity.as_ref(),
            addr,
            remote: addr,
        },
        destination: SocketAddr::new(peer.local.ip().to_canonical(), port),
        sni: peer.sni(),
    }
}

/// Relays bytes until both ends are done, the grace is over, or a change of policy denies the connection.
pub(crate) async fn relayed<I: Stream, T: Stream>(
    mut onward: I,
    mut stream: T,
    live: Arc<Live>,
    place: Place,
    peer: Arc<Peer>,
    mut draining: Draining,
) {
    let denied = async {
        let mut generations = live.generations();
        while generations.changed().await.is_ok() {
            let view = live.pin();
            if let Decision::Deny { why, .. } = judge_asked(&view, &place, &connection_head(&place, &peer)) {
                tracing::info!(target: "inmesh::denied", ?place, peer = ?peer.identity, why, "connection cut by a new policy");
                return;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = tokio::io::copy_bidirectional(&mut stream, &mut onward) => match ended {
            Ok((received, sent)) => tracing::trace!(received, sent, "relay ended"),
            Err(error) => tracing::debug!(%error, "relay broke"),
        },
        () = denied => {}
        () = draining.reached(super::Stage::Over) => {}
    }
}
