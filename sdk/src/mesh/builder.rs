//! Starting a mesh participant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderName;
use tokio::sync::watch;

use super::admin::Access;
use super::{Error, ErrorKind, Mesh, Parts};
use crate::client::{PodDirectory, sweep};
use crate::control::{self, ControlSettings};
use crate::hbone::{Settings, TunnelPool};
use crate::identity::{Credential, CredentialProvider, Trust, pem_dir};
use crate::layer::{ReplayMemory, RetryLayer};
use crate::name::TrustDomain;
use crate::policy::normalize::PathNormalization;
use crate::policy::retry::GrpcMethods;
use crate::snapshot::{Live, Node, Role, Snapshot};
use crate::source::{BoxSource, Source};
use crate::telemetry::{Direction, LogFilter, Meter, MetricLimits, Propagation};

/// How long [`MeshBuilder::start`] waits for credential and configuration.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

/// Configures a [`Mesh`]. At least one source and credentials are required.
#[must_use]
pub struct MeshBuilder {
    sources: Vec<BoxSource>,
    credentials: Option<Credentials>,
    namespace: Option<String>,
    pod: Option<String>,
    addr: Option<IpAddr>,
    labels: BTreeMap<String, String>,
    root_namespace: String,
    cluster_domain: String,
    cluster_id: String,
    paths: PathNormalization,
    aliases: Vec<TrustDomain>,
    strict: bool,
    role: Role,
    admin: Option<SocketAddr>,
    access: Access,
    log_filter: Option<LogFilter>,
    hbone: Settings,
    replay: ReplayMemory,
    definitions: Vec<Vec<u8>>,
    deadline: Option<HeaderName>,
    handover: Option<(Duration, Duration)>,
    propagation: Propagation,
    metrics: MetricLimits,
    timeout: Duration,
}

enum Credentials {
    Dir(PathBuf),
    Given(Box<dyn CredentialProvider>),
}

impl MeshBuilder {
    /// Nothing configured yet.
    pub fn new() -> Self {
        Self {
            sources: Vec::new(),
            credentials: None,
            namespace: None,
            pod: None,
            addr: None,
            labels: BTreeMap::new(),
            root_namespace: "istio-system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            paths: PathNormalization::default(),
            aliases: Vec::new(),
            strict: false,
            role: Role::Workload,
            admin: None,
            access: Access::default(),
            log_filter: None,
            hbone: Settings::default(),
            replay: ReplayMemory::default(),
            definitions: Vec::new(),
            deadline: None,
            handover: None,
            propagation: Propagation::default(),
            metrics: MetricLimits::default(),
            timeout: START_TIMEOUT,
        }
    }

    /// As the environment says:
    ///
    /// | variable | meaning |
    /// | --- | --- |
    /// | `INMESH_CONFIG` | directories or files with YAML, comma separated; `NAMESPACE=PATH` gives a default namespace |
    /// | `INMESH_CREDENTIALS` | directory with `cert-chain.pem`, `key.pem`, `root-cert.pem` |
    /// | `POD_NAME`, `POD_NAMESPACE`, `POD_IP` | who we are (downward API) |
    /// | `INMESH_TRUST_DOMAIN_ALIASES` | further trust domains, comma separated |
    /// | `INMESH_ROOT_NAMESPACE` | `istio-system` if absent |
    /// | `INMESH_STRICT` | `true` refuses configuration that is not enforced in full |
    /// | `INMESH_DEADLINE_HEADER` | see [`MeshBuilder::deadline_header`]; none if absent |
    /// | `INMESH_TUNNEL_KEEPALIVE_INTERVAL`, `INMESH_TUNNEL_KEEPALIVE_TIMEOUT` | [`Settings::ping_every`] and [`Settings::ping_timeout`], in seconds; 10 and 20 if absent |
    /// | `INMESH_ADMIN` | address of the admin endpoint; none if absent |
    /// | `OTEL_PROPAGATORS` | which headers carry traces: [`Propagation::named`]; `tracecontext,baggage` if absent |
    ///
    /// # Errors
    /// If a required variable is missing, or one is malformed.
    pub fn from_env() -> Result<Self, Error> {
        super::env::read(|name| std::env::var(name).ok())
    }

    /// Which headers carry the contexts of traces, where no provider of the mesh configuration says so; W3C's if not given.
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        self
    }

    /// How much metrics may hold.
    pub fn metrics(mut self, limits: MetricLimits) -> Self {
        self.metrics = limits;
        self
    }

    /// How much of request bodies is kept for retries: per request, and by this participant in all.
    pub fn replay(mut self, memory: ReplayMemory) -> Self {
        self.replay = memory;
        self
    }

    /// Tells by the definitions of gRPC services which of their methods may be called twice: those with
    /// `option idempotency_level = IDEMPOTENT`, or `NO_SIDE_EFFECTS`, count as
    /// [`Idempotency::Idempotent`](crate::Idempotency) where a call says nothing itself.
    ///
    /// `set` is a `google.protobuf.FileDescriptorSet`: what `protoc --descriptor_set_out` writes, and the build scripts of
    /// prost and tonic by `file_descriptor_set_path`. It may be called again for others; [`MeshBuilder::start`] fails if
    /// one is malformed.
    pub fn grpc_definitions(mut self, set: impl Into<Vec<u8>>) -> Self {
        self.definitions.push(set.into());
        self
    }

    /// Carries deadlines from hop to hop in this header, in milliseconds: what a caller gives a request is taken off what
    /// its route allows, each attempt is told what is left of it, and a request with nothing left is refused at once.
    /// gRPC has `grpc-timeout` for it, which needs no name.
    pub fn deadline_header(mut self, name: HeaderName) -> Self {
        self.deadline = Some(name);
        self
    }

    /// Adds a source of configuration.
    pub fn source(mut self, source: impl Source + 'static) -> Self {
        self.sources.push(BoxSource::new(source));
        self
    }

    /// Takes credentials from a provider.
    pub fn credentials(mut self, provider: impl CredentialProvider) -> Self {
        self.credentials = Some(Credentials::Given(Box::new(provider)));
        self
    }

    /// Takes credentials from a directory with `cert-chain.pem`, `key.pem` and `root-cert.pem`, re-read on change.
    pub fn credentials_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.credentials = Some(Credentials::Dir(dir.into()));
        self
    }

    /// Our namespace; the credential's if not given.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Our pod's name, by which the configuration knows us.
    pub fn pod(mut self, name: impl Into<String>) -> Self {
        self.pod = Some(name.into());
        self
    }

    /// Our address: what is listened on, and by which the configuration knows us where there is no pod name.
    pub fn address(mut self, addr: IpAddr) -> Self {
        self.addr = Some(addr);
        self
    }

    /// Our labels, for as long as no Pod object says them.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Istio's root namespace; `istio-system` if not given.
    pub fn root_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.root_namespace = namespace.into();
        self
    }

    /// DNS suffix of services; `cluster.local` if not given.
    pub fn cluster_domain(mut self, domain: impl Into<String>) -> Self {
        self.cluster_domain = domain.into();
        self
    }

    /// How far the paths of requests are normalized before routes and policies see them, where the mesh configuration
    /// does not say; [`PathNormalization::Default`] if not given.
    pub fn path_normalization(mut self, mode: PathNormalization) -> Self {
        self.paths = mode;
        self
    }

    /// Accepts callers of one more trust domain, beside those that the mesh configuration names.
    ///
    /// # Errors
    /// If it is not a trust domain.
    pub fn trust_domain_alias(mut self, domain: &str) -> Result<Self, Error> {
        let domain = TrustDomain::parse(domain).map_err(|error| {
            Error::new(ErrorKind::Settings, format!("`{domain}` is not a trust domain")).caused_by(error)
        })?;
        self.aliases.push(domain);
        Ok(self)
    }

    /// Strict: whatever is configured and not enforced is refused instead of reported.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// What this process is; a workload if not given.
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Serves the admin endpoint on this address, in plaintext: readiness and metrics to whoever can reach it; the live view,
    /// the configuration and what is logged to this machine alone ([`crate::docs::live_view`]).
    pub fn admin(mut self, addr: SocketAddr) -> Self {
        self.admin = Some(addr);
        self
    }

    /// Serves all of the admin endpoint to whoever can reach it, not to this machine alone. It shows who calls whom, paths of
    /// requests and names of policies, and asks for no proof of anybody: something in front of it should.
    pub fn admin_remote(mut self, remote: bool) -> Self {
        self.access.remote = remote;
        self
    }

    /// Lets the admin endpoint show and change what the application logs. The library logs by `tracing` and sets up no
    /// subscriber; the application that does knows how to change what it lets through.
    pub fn log_filter(mut self, filter: LogFilter) -> Self {
        self.log_filter = Some(filter);
        self
    }

    /// Windows, limits and times of tunnels.
    pub fn hbone(mut self, settings: Settings) -> Self {
        self.hbone = settings;
        self
    }

    /// How long a new waypoint binding is known before callers use it, and how long a removed one is still honoured by
    /// destinations: long enough for everybody to have read the change.
    pub fn handover(mut self, settle: Duration, linger: Duration) -> Self {
        self.handover = Some((settle, linger));
        self
    }

    /// How long [`MeshBuilder::start`] waits; 30 seconds if not given.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts: reads the credential, waits until every source has told what it has, compiles, and publishes.
    ///
    /// # Errors
    /// If something required is missing, the credential is unusable, a source cannot be read or does not sync in time,
    /// or strict mode refuses the first configuration.
    ///
    /// # Cancel safety
    /// Dropping the future stops what it has started.
    pub async fn start(self) -> Result<Mesh, Error> {
        let methods = self
            .definitions
            .iter()
            .try_fold(GrpcMethods::default(), |all, set| {
                GrpcMethods::read(set).map(|more| all.and(&more))
            });
        let methods = methods.map_err(|malformed| {
            Error::new(ErrorKind::Settings, "definitions of gRPC services cannot be read")
                .caused_by(malformed)
        })?;
        if self.sources.is_empty() {
            return Err(Error::new(
                ErrorKind::Settings,
                "no source of configuration; add one with `source`, for instance `inmesh::source::dir(\"./mesh\")`",
            ));
        }
        let credentials: Box<dyn CredentialProvider> = match self.credentials {
            None => {
                return Err(Error::new(
                    ErrorKind::Settings,
                    "no credentials; add them with `credentials_dir` or `credentials`",
                ));
            }
            Some(Credentials::Given(provider)) => provider,
            Some(Credentials::Dir(dir)) => {
                let shown = dir.display().to_string();
                let started = pem_dir(dir).wait(self.timeout).start().await.map_err(|error| {
                    Error::new(ErrorKind::Credential, format!("no usable credential in {shown}"))
                        .caused_by(error)
                })?;
                Box::new(started)
            }
        };
        let credential = credentials.subscribe();
        let identity = credential.borrow().id().clone();
        let mut trust = Trust::own();
        for alias in &self.aliases {
            trust = trust.alias(alias.clone());
        }
        let domains =
            std::iter::once(identity.trust_domain()).chain(self.aliases.iter().map(TrustDomain::as_str));
        let node = Node {
            namespace: self
                .namespace
                .as_deref()
                .unwrap_or_else(|| identity.namespace())
                .into(),
            pod: self.pod.map(Into::into),
            addr: self.addr,
            labels: self.labels,
            role: self.role,
            root_namespace: self.root_namespace.into(),
            trust_domains: domains.map(Into::into).collect(),
            cluster_domain: self.cluster_domain.into(),
            cluster_id: self.cluster_id.into(),
            identity: Some(identity),
            propagation: self.propagation,
            paths: self.paths,
        };
        let live = Arc::new(Live::new(Snapshot::default()));
        let meter = Meter::with_limits(self.metrics);
        #[cfg(feature = "otlp")]
        if let Some(counts) = crate::telemetry::export::counts_in_force() {
            meter.watch_spans(counts);
        }
        let mut hbone = self.hbone.clone();
        // Pods that share a machine's loopback are told apart by their addresses only if they dial from them; elsewhere the
        // system does so by itself.
        hbone.dial_from = hbone.dial_from.or_else(|| self.addr.filter(IpAddr::is_loopback));
        let tunnels = TunnelPool::metered(
            credential.clone(),
            hbone,
            meter.tunnels(Direction::Outbound).clone(),
        );
        let epoch = Arc::new(AtomicU64::new(credential.borrow().epoch()));
        let directory = PodDirectory::default();
        let mut settings = ControlSettings::new(node);
        settings.strict = self.strict;
        if let Some((settle, linger)) = self.handover {
            settings.settle = settle;
            settings.linger = linger;
        }
        let retire = tunnels.clone();
        let published = meter.clone();
        let accepted = trust.clone();
        let control = control::spawn(
            self.sources,
            settings,
            Arc::clone(&live),
            move |_, new, report| {
                published
                    .config()
                    .published(new.generation, report.problems, report.compile);
                retire_tunnels(&retire, new);
                accepted.tell(mesh_domains(new));
            },
        );
        synced(&control, self.timeout).await?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(follow_credential(
            credential.clone(),
            Arc::clone(&epoch),
            meter.clone(),
        ));
        tasks.spawn(follow_problems(control.status(), meter.clone()));
        tasks.spawn(sweep_series(meter.clone()));
        tasks.spawn(sweep_idle(
            Arc::clone(&live),
            directory.clone(),
            Arc::clone(&epoch),
        ));
        let retry = RetryLayer::new(meter.clone())
            .memory(self.replay)
            .methods(methods)
            .deadline(self.deadline);
        let mesh = Mesh::assemble(Parts {
            live,
            meter,
            credential,
            credentials,
            tunnels,
            epoch,
            directory,
            retry,
            control,
            trust,
            settings: self.hbone,
            addr: self.addr,
            log_filter: self.log_filter,
            tasks,
        });
        #[cfg(feature = "jwt")]
        mesh.spawn(control::keep_keys(
            Arc::clone(mesh.live()),
            super::fetch::fetcher(mesh.client(), Arc::clone(mesh.live())),
        ));
        if let Some(addr) = self.admin {
            super::admin::listen(&mesh, addr, self.access).await?;
        }
        Ok(mesh)
    }
}

impl Default for MeshBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MeshBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshBuilder")
            .field("sources", &self.sources.len())
            .field("namespace", &self.namespace)
            .field("pod", &self.pod)
            .field("addr", &self.addr)
            .field("role", &self.role)
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}

async fn synced(control: &control::ControlHandle, timeout: Duration) -> Result<(), Error> {
    let mut status = control.status();
    let waited = tokio::time::timeout(
        timeout,
        status.wait_for(|status| status.synced || status.failed.is_some()),
    )
    .await;
    match waited {
        Ok(Ok(status)) => match &status.failed {
            None => Ok(()),
            Some(failed) => Err(Error::new(
                if failed.strict {
                    ErrorKind::Strict
                } else {
                    ErrorKind::Source
                },
                failed.text.clone(),
            )),
        },
        Ok(Err(_)) => Err(Error::new(
            ErrorKind::Source,
            "the control loop ended before the first configuration",
        )),
        Err(_) => Err(Error::new(
            ErrorKind::Source,
            format!("the sources were not synced within {timeout:?}"),
        )),
    }
}

/// Tunnels to addresses that are no longer in the configuration take no new streams.
fn retire_tunnels(tunnels: &TunnelPool, view: &Snapshot) {
    let known: std::collections::HashSet<SocketAddr> = view
        .endpoints()
        .map(|endpoint| endpoint.key.dial)
        .chain(view.pods.iter().flat_map(|(ip, pod)| {
            let own = SocketAddr::new(*ip, crate::hbone::HBONE_PORT);
            let waypoints = pod
                .waypoint
                .iter()
                .flat_map(|targets| targets.iter().map(|target| target.addr));
            std::iter::once(own).chain(waypoints)
        }))
        .collect();
    tunnels.retire(|target| known.contains(&target.addr));
}

/// The trust domains that the mesh configuration names: its own, and the aliases.
fn mesh_domains(view: &Snapshot) -> BTreeSet<TrustDomain> {
    let facts = view.mesh.iter();
    facts
        .flat_map(|facts| facts.trust_domain.iter().chain(&facts.trust_domain_aliases))
        .filter_map(|domain| TrustDomain::parse(domain).ok())
        .collect()
}

/// Keeps the epoch that idle connections are checked against, and the expiry metric.
async fn follow_credential(
    mut credential: watch::Receiver<Arc<Credential>>,
    epoch: Arc<AtomicU64>,
    meter: Meter,
) {
    loop {
        {
            let now = credential.borrow_and_update();
            epoch.store(now.epoch(), Ordering::Relaxed);
            meter.certificate_expiry(now.not_after());
        }
        if credential.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps the count of problems, also of a configuration that is not put in force.
async fn follow_problems(mut status: watch::Receiver<Arc<control::Status>>, meter: Meter) {
    loop {
        let problems = status.borrow_and_update().problems.len();
        meter.config().problems(problems);
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Forgets series that are no longer counted in.
async fn sweep_series(meter: Meter) {
    let mut every = tokio::time::interval(meter.limits().idle.max(Duration::from_millis(1)));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first is at once.
    every.tick().await;
    loop {
        every.tick().await;
        meter.sweep();
    }
}

async fn sweep_idle(live: Arc<Live>, directory: PodDirectory, epoch: Arc<AtomicU64>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        sweep(&live.pin(), &directory, epoch.load(Ordering::Relaxed));
    }
}
