//! The kubelet: a pod per replica of each Deployment, with an address of its own, running the echo backend.
//!
//! A pod is a workload of the mesh, except where its Deployment mounts a certificate: those serve TLS of their own and
//! stand outside of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use http::Request;
use inmesh::{Body, Mesh};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower_layer::Layer;
use tower_service::Service;

use super::case::Id;
use super::echo::{Door, Echo, Who, serve};
use super::fixture::Fixtures;
use super::ledger::Ledger;
use super::manifest::{Objects, name, namespace};
use super::mesh::Authority;
use crate::kit::block::Block;

/// Running pods; they end when this is dropped.
#[derive(Debug)]
pub struct Pods {
    plans: Vec<Plan>,
    /// Their servers and their participations in the mesh, which end with this.
    tasks: JoinSet<()>,
    meshes: Vec<Mesh>,
}

/// What a pod is to be.
#[derive(Clone, Debug)]
struct Plan {
    deployment: Id,
    pod: String,
    account: String,
    labels: Value,
    ip: Ipv4Addr,
    image: Image,
    /// The Secret whose certificate it serves TLS with.
    secret: Option<String>,
    grpc: bool,
}

/// Which of the suite's two backends a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Image {
    Basic,
    Advanced,
}

/// A port of a pod.
#[derive(Clone, Copy, Debug)]
struct Port {
    number: u16,
    tls: bool,
    http2_only: bool,
    grpc: bool,
}

impl Plan {
    fn all(objects: &Objects, block: &Block) -> Vec<Self> {
        objects
            .of_kind("Deployment")
            .flat_map(|it| Self::of(it, block))
            .collect()
    }

    /// The pods of a Deployment; none if it runs something else than an echo backend.
    fn of(deployment: &Value, block: &Block) -> Vec<Self> {
        let spec = &deployment["spec"];
        let template = &spec["template"];
        let container = &template["spec"]["containers"][0];
        let image = match container["image"].as_str().unwrap_or_default() {
            it if it.contains("/echo-basic:") => Image::Basic,
            it if it.contains("/echo-advanced:") => Image::Advanced,
            _ => return Vec::new(),
        };
        let set = |wanted: &str| {
            let variables = container["env"].as_array().into_iter().flatten();
            variables.clone().any(|it| it["name"] == wanted)
        };
        let volumes = template["spec"]["volumes"].as_array().into_iter().flatten();
        let mut secrets = volumes.filter_map(|it| it["secret"]["secretName"].as_str());
        let secret = secrets
            .next()
            .filter(|_| set("TLS_SERVER_CERT"))
            .map(str::to_owned);
        let account = template["spec"]["serviceAccountName"]
            .as_str()
            .unwrap_or("default");
        let replicas = spec["replicas"].as_u64().unwrap_or(1);
        let pod = |number| Self {
            deployment: Id {
                namespace: namespace(deployment).to_owned(),
                name: name(deployment).to_owned(),
            },
            pod: format!("{}-{number}", name(deployment)),
            account: account.to_owned(),
            labels: template["metadata"]["labels"].clone(),
            ip: block.address(),
            image,
            secret: secret.clone(),
            grpc: image == Image::Advanced || set("GRPC_ECHO_SERVER"),
        };
        (1..=replicas).map(pod).collect()
    }

    fn ports(&self) -> Vec<Port> {
        let port = |number| Port {
            number,
            tls: false,
            http2_only: false,
            grpc: self.grpc,
        };
        match self.image {
            Image::Advanced => vec![port(8080), port(7070)],
            Image::Basic => {
                let mut ports = vec![
                    port(3000),
                    Port {
                        http2_only: true,
                        ..port(3001)
                    },
                ];
                ports.extend(self.secret.is_some().then(|| Port {
                    tls: true,
                    ..port(8443)
                }));
                ports
            }
        }
    }

    fn in_mesh(&self) -> bool {
        self.secret.is_none()
    }

    fn object(&self) -> Value {
        let mut labels = self.labels.clone();
        if self.in_mesh() {
            labels["networking.istio.io/tunnel"] = json!("http");
        }
        let mut object = pod(&self.deployment.namespace, &self.pod, &self.account, self.ip);
        object["metadata"]["labels"] = labels;
        object["spec"]["containers"] = json!([{ "name": "echo", "image": "echo" }]);
        object
    }
}

/// A Pod object that is ready.
pub fn pod(namespace: &str, name: &str, account: &str, ip: Ipv4Addr) -> Value {
    let ip = ip.to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "serviceAccountName": account, "containers": [{ "name": "main", "image": "main" }] },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{ "ip": ip }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

/// What pods are started with.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'g> {
    /// Who issues their credentials.
    pub authority: &'g Authority,
    /// Where they note what they see.
    pub ledger: &'g Ledger,
    /// What some of them mount.
    pub fixtures: &'g Fixtures,
    /// Where their addresses come from.
    pub block: &'g Block,
}

impl Pods {
    /// Starts the pods of all Deployments. What they know of the world are these objects and each other.
    ///
    /// # Errors
    /// If an address cannot be bound, or a mesh does not start.
    pub async fn start(objects: &Objects, ground: Ground<'_>) -> Result<Self> {
        let mut pods = Self {
            plans: Plan::all(objects, ground.block),
            meshes: Vec::new(),
            tasks: JoinSet::new(),
        };
        let known = objects.iter().cloned().chain(pods.objects());
        let known: Vec<String> = known
            .map(|it| serde_saphyr::to_string(&it))
            .collect::<Result<_, _>>()?;
        let known = known.join("---\n");
        for plan in &pods.plans {
            let echo = Echo::new(
                Who {
                    namespace: plan.deployment.namespace.clone(),
                    deployment: plan.deployment.name.clone(),
                    pod: plan.pod.clone(),
                },
                ground.ledger.clone(),
            );
            if plan.in_mesh() {
                let source = inmesh::source::text("pods", &known);
                let mesh = ground
                    .authority
                    .participant(&plan.deployment.namespace, &plan.account, source)?
                    .pod(&plan.pod)
                    .address(IpAddr::V4(plan.ip))
                    .start()
                    .await?;
                for port in plan.ports() {
                    serve_in_mesh(&mesh, &echo, plan, port, &mut pods.tasks).await?;
                }
                pods.meshes.push(mesh);
            } else {
                for port in plan.ports() {
                    serve_plain(&echo, plan, port, ground.fixtures, &mut pods.tasks).await?;
                }
            }
        }
        Ok(pods)
    }

    /// The Pod objects.
    pub fn objects(&self) -> Vec<Value> {
        self.plans.iter().map(Plan::object).collect()
    }

    /// The addresses of a Deployment's pods.
    pub fn addresses(&self, deployment: &Id) -> Vec<Ipv4Addr> {
        self.plans
            .iter()
            .filter(|it| it.deployment == *deployment)
            .map(|it| it.ip)
            .collect()
    }

    /// The service account of a Deployment's pods.
    pub fn account(&self, deployment: &Id) -> Option<&str> {
        self.plans
            .iter()
            .find(|it| it.deployment == *deployment)
            .map(|it| &*it.account)
    }
}

fn door(plan: &Plan, port: Port) -> Door {
    Door {
        port: port.number,
        http2_only: port.http2_only,
        grpc: port.grpc,
        any_method: plan.image == Image::Advanced,
        sni: None,
    }
}

async fn serve_in_mesh(
    mesh: &Mesh,
    echo: &Echo,
    plan: &Plan,
    port: Port,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let mut listener = mesh.listen(port.number).await?;
    let inbound = mesh.inbound(port.number).layer(echo.at(door(plan, port)));
    tasks.spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await;
            let inbound = inbound.clone();
            let service = Introduced { inner: inbound, peer };
            tokio::spawn(serve(stream, service));
        }
    });
    Ok(())
}

/// Puts the peer of a connection on its requests, as the inbound layers want it.
#[derive(Clone)]
struct Introduced<S> {
    inner: S,
    peer: inmesh::PeerIdentity,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Introduced<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.inner.call(request)
    }
}

async fn serve_plain(
    echo: &Echo,
    plan: &Plan,
    port: Port,
    fixtures: &Fixtures,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let addr = SocketAddr::from((plan.ip, port.number));
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("binding {addr}"))?;
    let tls = match &plan.secret {
        Some(secret) if port.tls => Some(TlsAcceptor::from(fixtures.server(secret)?)),
        _ => None,
    };
    let (echo, door) = (echo.clone(), door(plan, port));
    tasks.spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let (echo, mut door, tls) = (echo.clone(), door.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, Unwrapped(echo.at(door))).await,
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else {
                            return;
                        };
                        door.sni = stream.get_ref().1.server_name().map(str::to_owned);
                        serve(stream, Unwrapped(echo.at(door))).await;
                    }
                }
            });
        }
    });
    Ok(())
}

/// The echo as a service of what hyper receives.
#[derive(Clone)]
struct Unwrapped(Echo);

impl Service<Request<hyper::body::Incoming>> for Unwrapped {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = <Echo as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        self.0.call(request.map(Body::from))
    }
}

/// Writes the addresses of pods into EndpointSlices, as their controller would.
///
/// # Errors
/// If there is no such slice.
pub fn fill(objects: &mut Objects, slice: &Id, addresses: &[Ipv4Addr]) -> Result<()> {
    let object = objects
        .iter_mut()
        .find(|it| {
            it["kind"] == "EndpointSlice" && name(it) == slice.name && namespace(it) == slice.namespace
        })
        .with_context(|| format!("there is no EndpointSlice {slice}"))?;
    // The harness has addresses of one family only; a slice of the other stays as empty as it would be on such a node.
    let endpoints: Vec<Value> = match object["addressType"].as_str() {
        Some("IPv4") => addresses
            .iter()
            .map(|ip| {
                json!({
                    "addresses": [ip.to_string()],
                    "conditions": { "ready": true, "serving": true, "terminating": false },
                })
            })
            .collect(),
        _ => Vec::new(),
    };
    object["endpoints"] = json!(endpoints);
    Ok(())
}
