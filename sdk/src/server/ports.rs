//! Which application answers which port of a workload.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderValue, StatusCode};
use tokio::net::TcpStream;

use super::Draining;
use super::hbone::{Admission, Arrival, Dispatch};
use super::relay::{Incoming, relayed};
use super::serve::{BoxFuture, Stream};
use crate::hbone::Authority;
use crate::layer::Asker;
use crate::name::Peer;
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
                    let incoming = Incoming {
                        place: Place::Workload { port },
                        peer,
                        live: Arc::clone(&self.live),
                        meter: self.meter.clone(),
                        asker: self.asker.clone(),
                    };
                    let series = incoming.series(&view, None);
                    incoming
                        .permit(&view)
                        .await
                        .inspect_err(|_| series.failed("DENY"))?;
                    let onward = TcpStream::connect(to).await.map_err(|error| {
                        series.failed("CONNECT");
                        (
                            StatusCode::SERVICE_UNAVAILABLE,
                            format!("connecting to {to} failed: {error}"),
                        )
                    })?;
                    onward.set_nodelay(true).ok();
                    Ok(Box::new(move |stream| {
                        Box::pin(relayed(onward, stream, incoming, series, draining))
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
