//! The three who ask: a workload, a waypoint, and Envoy.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use inmesh::snapshot::Via;
use inmesh::{Client, Mesh, Waypoint};
use inmesh_tests::envoy::{EnvoyFront, Front, FrontConfig};
use inmesh_tests::kit::Shape;
use inmesh_tests::kit::authorizer::{self, SAW, Saw};
use inmesh_tests::kit::cluster::{Cluster, Pod, gateway, namespace};
use inmesh_tests::kit::echo::{Echo, Seen};
use inmesh_tests::kit::plain::Plain;
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::wire::{Answered, exchange};
use serde_json::json;
use tokio::net::TcpStream;

use super::providers::{PROVIDERS, Provider};
use super::requests::Asked;

/// Where the authorizer listens.
const PORT: u16 = 9191;
const HOST: &str = "authz.example";

/// An authorizer process, a workload with a service for each provider, and in one shape a waypoint.
pub(super) struct Town {
    cluster: Cluster,
    authorizer: Process,
    /// Where it listens now, and the process that it was moved from.
    at: Ipv4Addr,
    moved: Option<Process>,
    curl: Client,
    _curl: Mesh,
    _pod: Pod,
    _waypoint: Option<Waypoint>,
}

/// An Envoy with a listener for each provider.
pub(super) struct EnvoyTown {
    envoy: EnvoyFront,
    _backend: Plain,
}

/// Who passes bytes on to the application, after asking.
pub(super) trait Asker {
    async fn send(&self, provider: &Provider, bytes: &[u8]) -> Result<Answered>;
}

/// What came of a request, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) status: u16,
    body: String,
    headers: BTreeMap<String, Vec<String>>,
    /// What the application saw: its path and headers.
    pub(super) app: Option<(String, BTreeMap<String, String>)>,
    /// What the authorizer was told.
    saw: Option<Saw>,
}

/// Headers of answers that are compared.
const ANSWERED: [&str; 6] = [
    "x-why",
    "x-other",
    "x-allowed",
    "location",
    "www-authenticate",
    "set-cookie",
];
/// Headers of requests that are compared.
const SENT: [&str; 9] = [
    "x-user",
    "x-new",
    "x-more",
    "x-told",
    "x-told-more",
    "x-besides",
    "cookie",
    "authorization",
    "x-envoy-auth-partial-body",
];
/// As told by gRPC.
const TOLD: [&str; 3] = [":path", ":method", ":authority"];

impl Town {
    pub(super) async fn start(shape: Shape) -> Result<Self> {
        let cluster = Cluster::new()?;
        let at = cluster.address();
        let authorizer = process(&cluster, at).await?;
        let pod = cluster.pod("things").label("app", "things");
        cluster.declare(&pod)?;
        let entry = authorizer::service_entry("authz", HOST, (at, PORT).into(), "TCP");
        cluster.apply("authorizer", &entry)?;
        let named: Vec<_> = PROVIDERS.iter().map(|it| it.mesh_config(HOST, PORT)).collect();
        let mesh = json!({"extensionProviders": named});
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": mesh.to_string()},
        });
        cluster.apply("mesh", &map.to_string())?;
        for provider in PROVIDERS {
            let (name, port) = (provider.name, provider.port());
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
                "spec": {"selector": {"app": "things"}, "ports": [{"name": "http", "port": port, "targetPort": port}]},
            });
            let policy = json!({
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "targetRefs": [{"group": "", "kind": "Service", "name": name}],
                    "action": "CUSTOM", "provider": {"name": name}, "rules": [{}],
                },
            });
            cluster.apply(&format!("service-{name}"), &service.to_string())?;
            cluster.apply(&format!("policy-{name}"), &policy.to_string())?;
        }
        let spec = cluster.waypoint_pod("default", "waypoint");
        let waypoint = match shape {
            Shape::InProcess => None,
            Shape::Waypoint => {
                cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
                cluster.apply(
                    "namespace",
                    &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
                )?;
                cluster.declare(&spec)?;
                Some(cluster.run_waypoint(&spec).await?)
            }
        };
        let pod = cluster.run(&pod).await?;
        for provider in PROVIDERS {
            pod.mesh.attach(provider.port(), pod.echo.clone()).await?;
        }
        let (mesh, curl) = cluster.client("curl").await?;
        until("the caller knows the way", || async {
            let view = mesh.snapshot();
            let mut clusters = view
                .clusters
                .iter()
                .filter(|it| it.host.as_str().starts_with("grpc."));
            clusters.any(|it| matches!(it.via, Via::Waypoint { .. }) == (shape == Shape::Waypoint))
        })
        .await;
        Ok(Self {
            authorizer,
            at,
            moved: None,
            curl,
            _curl: mesh,
            _pod: pod,
            _waypoint: waypoint,
            cluster,
        })
    }

    /// An Envoy that asks the same authorizer.
    pub(super) async fn envoy(&self, binary: &Path) -> Result<EnvoyTown> {
        let backend = Plain::http(self.cluster.address(), 0, Echo::new("things", None)).await?;
        let ip = self.cluster.address();
        let asked = |http2: bool| if http2 { "authz-grpc" } else { "authz-http" };
        let config = FrontConfig {
            fronts: PROVIDERS
                .iter()
                .map(|provider| Front {
                    name: provider.name.to_owned(),
                    listen: (ip, provider.port()).into(),
                    identity: None,
                    filters: vec![provider.filter(asked(!provider.http), HOST)],
                })
                .collect(),
            backend: backend.addr(),
            asked: [true, false]
                .map(|http2| (asked(http2).to_owned(), (self.at, PORT).into(), http2))
                .into(),
        };
        let binary = binary.to_owned();
        let envoy = tokio::task::spawn_blocking(move || EnvoyFront::start(&binary, &config)).await??;
        Ok(EnvoyTown {
            envoy,
            _backend: backend,
        })
    }

    /// Sends a request by way of somebody who asks.
    pub(super) async fn ask(&self, by: &impl Asker, provider: &Provider, request: &Asked) -> Result<Outcome> {
        Ok(Outcome::of(by.send(provider, &request.bytes()).await?, provider))
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        match self.moved.take() {
            Some(mut before) => before.kill(),
            None => self.authorizer.kill(),
        }
    }

    pub(super) async fn revive(&mut self) -> Result<()> {
        self.authorizer = process(&self.cluster, self.at).await?;
        Ok(())
    }

    /// Another process at another address; the one before it still runs.
    pub(super) async fn moved(&mut self) -> Result<()> {
        self.at = self.cluster.address();
        let next = process(&self.cluster, self.at).await?;
        self.moved = Some(std::mem::replace(&mut self.authorizer, next));
        let entry = authorizer::service_entry("authz", HOST, (self.at, PORT).into(), "TCP");
        self.cluster.apply("authorizer", &entry)
    }
}

async fn process(cluster: &Cluster, at: Ipv4Addr) -> Result<Process> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_test-authorizer"));
    command.args([at.to_string(), PORT.to_string()]);
    let process = Process::spawn(&mut command, &cluster.path().join("authorizer.log"))?;
    until("the authorizer listens", || async {
        TcpStream::connect((at, PORT)).await.is_ok()
    })
    .await;
    Ok(process)
}

impl Asker for Town {
    async fn send(&self, provider: &Provider, bytes: &[u8]) -> Result<Answered> {
        let target = format!("{}:{}", provider.name, provider.port());
        let stream = self
            .curl
            .connect(&target)
            .await
            .map_err(|error| anyhow!("{error}"))?;
        exchange(stream, bytes).await
    }
}

impl Asker for EnvoyTown {
    async fn send(&self, provider: &Provider, bytes: &[u8]) -> Result<Answered> {
        let addr: SocketAddr = self.envoy.addr(provider.name)?;
        let answered = exchange(TcpStream::connect(addr).await?, bytes).await;
        answered.with_context(|| self.envoy.process().log())
    }
}

impl Outcome {
    fn of(answered: Answered, provider: &Provider) -> Self {
        let seen = serde_json::from_str::<Seen>(&answered.body).ok();
        let headers = ANSWERED
            .iter()
            .map(|name| {
                (
                    (*name).to_owned(),
                    answered.all(name).into_iter().map(str::to_owned).collect(),
                )
            })
            .collect();
        let carried = seen
            .as_ref()
            .and_then(|seen| seen.headers.get(SAW).map(String::as_str));
        let saw = carried
            .or_else(|| answered.header(SAW))
            .and_then(|text| Saw::parse(text).ok());
        let app = seen.map(|seen| (seen.path, chosen(seen.headers, &[])));
        Self {
            status: answered.status,
            body: if app.is_some() {
                String::new()
            } else {
                answered.body
            },
            headers,
            app,
            saw: saw.map(|saw| Saw {
                headers: chosen(saw.headers, if provider.http { &[] } else { &TOLD }),
                // Whom Envoy took for the caller: it was asked in the clear.
                source: String::new(),
                // Envoy says how many bytes have come so far, which is by chance where it does not wait for them.
                size: if provider.body.is_some() || saw.method == "GET" {
                    saw.size
                } else {
                    0
                },
                ..saw
            }),
        }
    }
}

impl Outcome {
    /// The lines in which two outcomes differ.
    pub(super) fn beside(&self, other: &Self) -> String {
        let (ours, theirs) = (format!("{self:#?}"), format!("{other:#?}"));
        let only = |lines: &str, of: &str, mark: char| -> String {
            let found = lines.lines().filter(|line| !of.lines().any(|it| it == *line));
            found.map(|line| format!("\n  {mark} {}", line.trim())).collect()
        };
        only(&ours, &theirs, '<') + &only(&theirs, &ours, '>')
    }
}

fn chosen(headers: BTreeMap<String, String>, besides: &[&str]) -> BTreeMap<String, String> {
    let is_chosen = |name: &str| SENT.contains(&name) || besides.contains(&name);
    headers.into_iter().filter(|(name, _)| is_chosen(name)).collect()
}
