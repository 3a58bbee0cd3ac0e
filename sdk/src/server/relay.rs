//! Connections that are not HTTP: judged when they begin and whenever the configuration changes, relayed and counted.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;

use super::Draining;
use super::serve::Stream;
use crate::layer::Asker;
use crate::layer::labels::{self, Onward};
use crate::name::Peer;
use crate::policy::authz::Decision;
use crate::policy::{Caller, ConnectionHead};
use crate::snapshot::{Live, Place, Snapshot};
use crate::telemetry::access::Entry;
use crate::telemetry::{Counted, Meter, Protocol, TcpSeries};

/// A connection that somebody opened to a place.
pub(crate) struct Incoming {
    pub(crate) place: Place,
    pub(crate) peer: Arc<Peer>,
    pub(crate) live: Arc<Live>,
    pub(crate) meter: Meter,
    /// Through whom external authorizers are asked.
    pub(crate) asker: Asker,
}

impl Incoming {
    /// Where it is counted; `onward` is whom it is passed on to, where that is somebody else.
    pub(crate) fn series(&self, view: &Snapshot, onward: Option<Onward<'_>>) -> Arc<TcpSeries> {
        let labels = labels::received(view, &self.place, &self.peer, onward, Protocol::Tcp);
        let plan = view.metrics.received(&self.place);
        let head = self.head();
        let ends = [head.destination, self.peer.addr].map(Some);
        let identity = self.peer.identity.as_ref().map(|identity| identity.as_str());
        let sni = Some(head.sni).filter(|sni| !sni.is_empty());
        let tags = plan.tags(&Entry::of_connection(ends, identity, sni, &labels));
        self.meter.tcp_as(&labels, plan, &tags)
    }

    /// Judges it; a denial is answered with 401, as ztunnel does.
    pub(crate) async fn permit(&self, view: &Snapshot) -> Result<(), (StatusCode, String)> {
        self.consult(view)
            .await
            .map_err(|why| (StatusCode::UNAUTHORIZED, why))?;
        let Err((policy, why)) = self.judge(view) else {
            return Ok(());
        };
        self.meter.denied(policy.as_deref().unwrap_or("none"));
        let policy = policy.as_deref().unwrap_or("authorization");
        Err((StatusCode::UNAUTHORIZED, format!("{policy}: {why}")))
    }

    /// Asks external authorizers.
    #[cfg(feature = "extauthz")]
    async fn consult(&self, view: &Snapshot) -> Result<(), String> {
        let me = view.my_identity.as_ref();
        crate::layer::consult_connection(view, &self.place, &self.head(), me, &self.asker).await
    }

    /// Nobody can be asked: what must be asked about is denied by `judge`.
    #[cfg(not(feature = "extauthz"))]
    async fn consult(&self, _: &Snapshot) -> Result<(), String> {
        let _ = &self.asker;
        Ok(())
    }

    fn judge(&self, view: &Snapshot) -> Result<(), (Option<String>, String)> {
        let (place, head) = (&self.place, self.head());
        // Authorizers were asked when it began, where that is possible at all.
        let decision = match cfg!(feature = "extauthz") {
            true => view.authorize_consulted_connection(place, &head),
            false => view.authorize_connection(place, &head),
        };
        match decision {
            Decision::Allow { .. } => Ok(()),
            Decision::Deny { by, why } => Err((by.map(|rule| rule.policy.to_string()), why.to_owned())),
        }
    }

    fn head(&self) -> ConnectionHead<'_> {
        let Self { place, peer, .. } = self;
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

    /// Waits until a new configuration denies the connection.
    async fn denied(&self) {
        let mut generations = self.live.generations();
        while generations.changed().await.is_ok() {
            if let Err((_, why)) = self.judge(&self.live.pin()) {
                tracing::info!(
                    target: "inmesh::denied",
                    place = ?self.place, peer = ?self.peer.identity, why, "connection cut by a new policy",
                );
                return;
            }
        }
        std::future::pending().await
    }
}

/// Relays bytes until both ends are done, the grace is over, or a change of policy denies the connection.
pub(crate) async fn relayed<I: Stream, T: Stream>(
    mut onward: I,
    stream: T,
    incoming: Incoming,
    series: Arc<TcpSeries>,
    mut draining: Draining,
) {
    let mut stream = Counted::new(stream, series.open());
    let flags = tokio::select! {
        ended = tokio::io::copy_bidirectional(&mut stream, &mut onward) => match ended {
            Ok((received, sent)) => {
                tracing::trace!(received, sent, "relay ended");
                "-"
            }
            Err(error) => {
                tracing::debug!(%error, "relay broke");
                "CONNECT"
            }
        },
        () = incoming.denied() => "DENY",
        () = draining.reached(super::Stage::Over) => "-",
    };
    stream.account().ends_with(flags);
}
