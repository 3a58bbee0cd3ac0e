//! The handle that an application holds.

pub(crate) mod admin;
mod builder;
#[cfg(feature = "otlp")]
mod deliver;
mod env;
mod error;
#[cfg(feature = "jwt")]
mod fetch;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::sync::{OnceCell, watch};
use tower_service::Service;

pub use builder::MeshBuilder;
#[cfg(feature = "cli")]
pub(crate) use env::{dir_of, propagation};
pub use error::{Error, ErrorKind};

use crate::client::{Client, PodDirectory, Upstream, Wire};
use crate::compile::{Statuses, status};
use crate::control::{ControlHandle, Status};
use crate::hbone::{Acceptor, HBONE_PORT, Settings, TunnelPool};
use crate::identity::{Credential, CredentialProvider, Introducer, Trust};
use crate::layer::{Asker, BoxError, Drain, Draining, MeshBody, RetryLayer, Stage, stack};
use crate::name::SpiffeId;
use crate::server::{App, Dispatch, End, HttpApp, InboundLayer, Listener, MutualTls, Own, Ports};
use crate::server::{WorkloadDispatch, bind, listener, serve_hbone, serve_own};
use crate::snapshot::{InboundPolicy, Live, Place, Snapshot};
use crate::telemetry::{Direction, LogFilter, Meter};
use crate::watch::Watch;

/// A participant in the mesh: an identity, a live configuration, and the connections made under them.
///
/// Cheap to clone. Dropping the last clone stops everything at once; [`Mesh::shutdown`] lets what is under way finish.
///
/// ```no_run
/// # async fn run(app: axum::Router) -> Result<(), inmesh::Error> {
/// let mesh = inmesh::Mesh::from_env().await?; // identity, configuration, pools
/// mesh.serve(9080, app).await // HBONE :15008 → policy → app
/// # }
/// ```
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

/// Listeners of the Gateway that this process is, which cannot be served, and why.
pub(crate) type Unserved = std::collections::BTreeMap<Arc<str>, status::Unserved>;

struct Inner {
    live: Arc<Live>,
    meter: Meter,
    status: watch::Receiver<Arc<Status>>,
    credential: watch::Receiver<Arc<Credential>>,
    wire: Wire,
    retry: RetryLayer,
    directory: PodDirectory,
    client: Client,
    /// Through whom authorizers are asked that routes name.
    asker: Asker,
    ports: Ports,
    drain: Arc<Drain>,
    trust: Trust,
    settings: Settings,
    addr: Option<IpAddr>,
    listening: OnceCell<()>,
    unserved: watch::Sender<Unserved>,
    /// What those see who look on; nothing is collected before there is an admin endpoint.
    watch: OnceLock<Watch>,
    /// How many have requests told of as they end.
    streams: Arc<AtomicUsize>,
    log_filter: Option<LogFilter>,
    /// Kept so that it goes on watching.
    _credentials: Box<dyn CredentialProvider>,
    control: ControlHandle,
    tasks: std::sync::Mutex<tokio::task::JoinSet<()>>,
}

/// A participant that is nobody in particular: for checking and explaining without running.
#[cfg(feature = "cli")]
pub(crate) fn node_for_check(namespace: &str, root_namespace: &str) -> crate::snapshot::Node {
    crate::snapshot::Node {
        namespace: namespace.into(),
        pod: None,
        addr: None,
        labels: std::collections::BTreeMap::new(),
        identity: None,
        role: crate::snapshot::Role::Workload,
        root_namespace: root_namespace.into(),
        trust_domains: vec![crate::name::TrustDomain::default().as_str().into()],
        cluster_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
        propagation: Default::default(),
        paths: Default::default(),
    }
}

/// What the builder has prepared.
pub(crate) struct Parts {
    pub(crate) live: Arc<Live>,
    pub(crate) meter: Meter,
    pub(crate) credential: watch::Receiver<Arc<Credential>>,
    pub(crate) credentials: Box<dyn CredentialProvider>,
    pub(crate) tunnels: TunnelPool,
    pub(crate) epoch: Arc<AtomicU64>,
    pub(crate) directory: PodDirectory,
    pub(crate) retry: RetryLayer,
    pub(crate) control: ControlHandle,
    pub(crate) trust: Trust,
    pub(crate) settings: Settings,
    pub(crate) addr: Option<IpAddr>,
    pub(crate) log_filter: Option<LogFilter>,
    pub(crate) tasks: tokio::task::JoinSet<()>,
}

/// How long a collector may take for the last of what is told.
#[cfg(feature = "otlp")]
const LAST_SPANS: Duration = Duration::from_secs(2);

impl Mesh {
    /// Configures a participant.
    pub fn builder() -> MeshBuilder {
        MeshBuilder::new()
    }

    /// Starts with what the environment says; [`MeshBuilder::from_env`] lists the variables.
    ///
    /// # Errors
    /// If a variable is missing or malformed, and as [`MeshBuilder::start`].
    pub async fn from_env() -> Result<Self, Error> {
        MeshBuilder::from_env()?.start().await
    }

    pub(crate) fn assemble(parts: Parts) -> Self {
        let introducer = Introducer::new(parts.credential.clone());
        let wire = Wire::new(parts.tunnels, parts.epoch).introducing(introducer);
        let client = |asker| {
            let stack = stack::outbound(
                Arc::clone(&parts.live),
                parts.meter.clone(),
                &parts.retry,
                parts.directory.clone(),
                asker,
                Upstream::new(wire.clone()),
            );
            Client::new(
                stack,
                Arc::clone(&parts.live),
                parts.directory.clone(),
                wire.clone(),
                parts.meter.clone(),
            )
        };
        // Who asks an authorizer for a route's sake is not asked about by another: that would have no end.
        let asker = Asker::new(client(None));
        let client = client(Some(asker.clone()));
        let inner = Inner {
            status: parts.control.status(),
            client,
            asker,
            live: parts.live,
            meter: parts.meter,
            retry: parts.retry,
            credential: parts.credential,
            wire,
            directory: parts.directory,
            ports: Ports::default(),
            drain: Arc::new(Drain::new()),
            trust: parts.trust,
            settings: parts.settings,
            addr: parts.addr,
            listening: OnceCell::new(),
            unserved: watch::Sender::default(),
            watch: OnceLock::new(),
            streams: Arc::default(),
            log_filter: parts.log_filter,
            _credentials: parts.credentials,
            control: parts.control,
            tasks: std::sync::Mutex::new(parts.tasks),
        };
        let inner = Arc::new(inner);
        #[cfg(feature = "otlp")]
        inner.meter.outlets().deliver_by(
            deliver::carrier(Arc::downgrade(&inner)),
            tokio::runtime::Handle::current(),
        );
        Self { inner }
    }

    /// The client: routes, retries and authenticates as the configuration says.
    pub fn client(&self) -> Client {
        self.inner.client.clone()
    }

    /// The innermost outbound service: sends a request that has an endpoint.
    pub fn upstream(&self) -> Upstream {
        Upstream::new(self.inner.wire.clone())
    }

    /// The outbound layers, to be put around a service that takes [`Directed`](crate::layer::Directed) requests, such
    /// as [`Mesh::upstream`] or one's own in between.
    pub fn outbound(&self) -> OutboundLayer {
        OutboundLayer { mesh: self.clone() }
    }

    /// Our own identity, as of the newest credential.
    pub fn identity(&self) -> SpiffeId {
        self.inner.credential.borrow().id().clone()
    }

    /// Until when the credential in force is valid.
    pub fn certificate_expiry(&self) -> std::time::SystemTime {
        self.inner.credential.borrow().not_after()
    }

    /// The state of the configuration, to read or to watch.
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.inner.status.clone()
    }

    /// What the status of each resource should say: what the configuration comes to ([`Status::statuses`]), and which
    /// listeners of this process's own Gateway cannot be served on this machine.
    pub fn statuses(&self) -> Statuses {
        let mut statuses = Statuses::clone(&self.inner.status.borrow().statuses);
        let unserved = self.inner.unserved.borrow();
        if let InboundPolicy::Waypoint(policy) = &self.inner.live.pin().inbound {
            for (listener, why) in unserved.iter() {
                statuses.unserved(&policy.gateway, listener, why);
            }
        }
        statuses
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.live.pin()
    }

    /// Why a request is treated here as it is, by the engines that would treat it: as one that this process sends, or, if
    /// the question says where it arrives (or this is a waypoint), as one that it receives.
    pub fn explain(&self, question: &crate::explain::Question) -> crate::explain::Explanation {
        crate::explain::here(&self.inner.live.pin(), question)
    }

    /// Metrics in the OpenMetrics text format; the content type is [`crate::telemetry::CONTENT_TYPE`].
    pub fn metrics(&self) -> String {
        self.metrics_as(crate::telemetry::Exposition::OpenMetrics)
    }

    /// Metrics in one of Prometheus' text formats.
    pub fn metrics_as(&self, format: crate::telemetry::Exposition) -> String {
        let expiry = self.inner.credential.borrow().not_after();
        self.inner.meter.certificate_expiry(expiry);
        self.inner.meter.exposition_as(format)
    }

    /// The metrics themselves, for exporters (`telemetry::export::metrics`).
    pub fn metered(&self) -> Meter {
        self.inner.meter.clone()
    }

    /// Whether requests should be sent here: configuration is loaded, the credential is valid, and nobody has asked to
    /// shut down.
    pub fn is_ready(&self) -> bool {
        let now = std::time::SystemTime::now();
        self.inner.status.borrow().synced
            && self.inner.credential.borrow().not_after() > now
            && *self.inner.drain.stage().borrow() == Stage::Serving
    }

    /// Puts an HTTP application behind a port and returns once it listens: in tunnels on 15008, and in plaintext on the
    /// port itself for as long as `PeerAuthentication` permits that.
    ///
    /// The application is any cloneable [`tower_service::Service`]: an `axum::Router`, tonic's `Routes`, one's own. Every
    /// request it sees has passed the policy of this workload and carries a
    /// [`PeerIdentity`](crate::PeerIdentity) extension.
    ///
    /// # Errors
    /// If an address cannot be bound, the port is taken already, or the mesh is shutting down.
    pub async fn attach<A, B>(&self, port: u16, app: A) -> Result<(), Error>
    where
        A: Service<Request<MeshBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        A::Error: Into<BoxError>,
        A::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.attach_app(
            port,
            Arc::new(HttpApp {
                app,
                live: Arc::clone(&self.inner.live),
                meter: self.inner.meter.clone(),
                place: Arc::new(Place::Workload { port }),
                asker: Asker::new(self.client()),
                introductions: Arc::default(),
            }),
        )
        .await
    }

    async fn attach_app(&self, port: u16, app: Arc<dyn App>) -> Result<(), Error> {
        let plain = bind(SocketAddr::new(self.bind_ip(), port))
            .await
            .map_err(Error::bind)?;
        self.register(port, End::App(Arc::clone(&app))).await?;
        let draining = self.hold()?;
        let mutual = MutualTls::new(self.inner.credential.clone(), self.inner.trust.clone());
        self.spawn(serve_own(
            Own {
                listener: plain,
                live: Arc::clone(&self.inner.live),
                port,
                mutual: Arc::new(mutual),
                serve: Arc::new(move |stream, peer, draining| app.serve(stream, peer, draining)),
            },
            draining,
        ));
        Ok(())
    }

    /// As [`Mesh::attach`], and waits until the mesh has been shut down.
    ///
    /// # Errors
    /// As [`Mesh::attach`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the application attached.
    pub async fn serve<A, B>(&self, port: u16, app: A) -> Result<(), Error>
    where
        A: Service<Request<MeshBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        A::Error: Into<BoxError>,
        A::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.attach(port, app).await?;
        self.finished().await;
        Ok(())
    }

    /// The streams that callers open to a port, for a server of one's own: with feature `axum` it is an
    /// `axum::serve::Listener`. Requests must be passed through [`Mesh::inbound`].
    ///
    /// # Errors
    /// As [`Mesh::attach`].
    pub async fn listen(&self, port: u16) -> Result<Listener, Error> {
        let (listener, feeder) = listener(port);
        self.attach_app(port, Arc::new(feeder)).await?;
        Ok(listener)
    }

    /// The inbound layers for a port: what [`Mesh::serve`] puts in front of an application.
    pub fn inbound(&self, port: u16) -> InboundLayer {
        let Inner {
            live, meter, drain, ..
        } = &*self.inner;
        InboundLayer::new(
            Arc::clone(live),
            meter.clone(),
            port,
            drain.watch(),
            Asker::new(self.client()),
        )
    }

    /// Relays tunnelled connections for a port, whatever they speak, to an address such as a database on localhost.
    /// Each is judged by L4 policy when it begins and again whenever the configuration changes.
    ///
    /// # Errors
    /// As [`Mesh::attach`].
    pub async fn relay(&self, port: u16, to: SocketAddr) -> Result<(), Error> {
        self.register(port, End::Relay(to)).await
    }

    /// Waits until [`Mesh::shutdown`] has begun to turn callers away.
    pub async fn finished(&self) {
        let mut stage = self.inner.drain.stage();
        // The sender lives as long as `self`.
        let _ = stage.wait_for(|stage| *stage >= Stage::GoingAway).await;
    }

    /// Stops without losing a request: not ready, then GOAWAY to callers, then what is under way finishes, at most until
    /// `grace` is over. Returns whether everything finished by itself.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        // Callers learn of the end from the configuration, and that takes them a moment.
        let lame_duck = (grace / 4).min(Duration::from_secs(1));
        let finished = self.inner.drain.run(lame_duck, grace).await;
        // Spans of the last requests, through tunnels that are still there; a collector that is not is left behind.
        #[cfg(feature = "otlp")]
        self.inner.meter.outlets().close(LAST_SPANS.min(grace)).await;
        self.inner.wire.tunnels().drain(Duration::from_millis(200)).await;
        self.inner.control.stop();
        let meter = self.inner.meter.clone();
        // Blocks for as long as lines are written; whether it was interrupted changes nothing.
        let _ = tokio::task::spawn_blocking(move || meter.flush_logs(Duration::from_secs(1))).await;
        finished
    }

    /// Opens the files of access logs anew, after somebody moved them away. They notice by themselves within a second or so
    /// of the next request.
    pub fn reopen_logs(&self) {
        self.inner.meter.reopen_logs();
    }

    /// Everything that the admin endpoint shows.
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.inner.live
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.inner.wire
    }

    pub(crate) fn retry(&self) -> &RetryLayer {
        &self.inner.retry
    }

    pub(crate) fn directory(&self) -> &PodDirectory {
        &self.inner.directory
    }

    pub(crate) fn asker(&self) -> Asker {
        self.inner.asker.clone()
    }

    pub(crate) fn bind_ip(&self) -> IpAddr {
        self.inner
            .addr
            .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }

    /// Where it is noted which listeners cannot be served.
    pub(crate) fn unserved(&self) -> watch::Sender<Unserved> {
        self.inner.unserved.clone()
    }

    pub(crate) fn hold(&self) -> Result<Draining, Error> {
        self.inner.drain.hold().ok_or_else(Error::shutting_down)
    }

    /// Runs a task for as long as the mesh lives.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner
            .tasks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .spawn(task);
    }

    async fn register(&self, port: u16, end: End) -> Result<(), Error> {
        if !self.inner.ports.register(port, end) {
            return Err(Error::port_taken(port));
        }
        let dispatch = Arc::new(WorkloadDispatch {
            live: Arc::clone(&self.inner.live),
            ports: self.inner.ports.clone(),
            meter: self.inner.meter.clone(),
            asker: Asker::new(self.client()),
            addr: self.inner.addr,
        });
        self.listen_hbone(dispatch).await
    }

    /// Starts the HBONE listener, the first time.
    pub(crate) async fn listen_hbone(&self, dispatch: Arc<dyn Dispatch>) -> Result<(), Error> {
        self.inner
            .listening
            .get_or_try_init(|| async {
                let listener = bind(SocketAddr::new(self.bind_ip(), HBONE_PORT))
                    .await
                    .map_err(Error::bind)?;
                let acceptor = Acceptor::new(
                    self.inner.credential.clone(),
                    self.inner.trust.clone(),
                    self.inner.settings.clone(),
                )
                .metered(self.inner.meter.tunnels(Direction::Inbound).clone());
                let draining = self.hold()?;
                self.spawn(serve_hbone(listener, acceptor, dispatch, draining));
                Ok(())
            })
            .await
            .copied()
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh")
            .field("identity", &self.identity())
            .field("addr", &self.inner.addr)
            .field("generation", &self.inner.live.pin().generation)
            .finish_non_exhaustive()
    }
}

/// Makes the outbound stack around a sending service; see [`Mesh::outbound`].
#[derive(Clone, Debug)]
pub struct OutboundLayer {
    mesh: Mesh,
}

impl<S: Clone> tower_layer::Layer<S> for OutboundLayer {
    type Service = stack::Outbound<PodDirectory, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let Inner {
            live,
            meter,
            retry,
            directory,
            asker,
            ..
        } = &*self.mesh.inner;
        stack::outbound(
            Arc::clone(live),
            meter.clone(),
            retry,
            directory.clone(),
            Some(asker.clone()),
            inner,
        )
    }
}
