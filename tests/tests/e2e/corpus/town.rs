//! A target, its callers and what stands between them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use inmesh::snapshot::{Role, Via};
use inmesh::testing::cases::{Decisions, World};
use inmesh::{Mesh, SpiffeId, Waypoint};
use inmesh_tests::kit::authorizer::{self, Authorizer};
use inmesh_tests::kit::cluster::{Cluster, PodSpec, gateway, namespace};
use inmesh_tests::kit::echo::{Echo, Seen};
use inmesh_tests::kit::plain::Plain;
use inmesh_tests::kit::wait::{PATIENCE, until};
use inmesh_tests::kit::wire::{self, exchange};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Answer;
use super::plan::{Check, Form};

/// Where an edge listens.
const EDGE: u16 = 8000;
/// Where authorizers listen.
const AUTHORIZER: u16 = 9191;

/// A target and its callers.
pub(super) struct Town {
    cluster: Cluster,
    form: Form,
    /// Who is called, where it is not a service.
    pod: PodSpec,
    /// Whether callers take the pod's address.
    is_direct: bool,
    host: String,
    edge: Option<PodSpec>,
    callers: HashMap<SpiffeId, Mesh>,
    server: Option<Mesh>,
    waypoint: Option<Waypoint>,
    _plain: Vec<Plain>,
}

/// Names of a town, out of its case.
struct Names {
    home: String,
    service: String,
    gateway: String,
    is_outside: bool,
}

impl Names {
    fn of(case: &Decisions) -> Self {
        let target = &case.target;
        let (home, service, registry) = match target.services.first() {
            Some(it) => (it.namespace.clone(), it.name.clone(), &*it.registry),
            None => (target.namespace.clone(), "svc".to_owned(), "Kubernetes"),
        };
        let gateway = match &*target.gateway {
            "" => "waypoint",
            name => name,
        };
        Self {
            home,
            service,
            gateway: gateway.to_owned(),
            is_outside: registry != "Kubernetes",
        }
    }

    fn host(&self) -> String {
        match self.is_outside {
            true => format!("{}.outside.example", self.service),
            false => format!("{}.{}.svc.cluster.local", self.service, self.home),
        }
    }
}

impl Town {
    pub(super) async fn start(world: &World, checks: &[&Check], form: Form) -> Result<Self> {
        let case = world.case();
        let names = Names::of(case);
        let cluster = Cluster::new()?;
        let ports: BTreeSet<u16> = checks.iter().map(|check| check.request.dst_port).collect();
        // A waypoint's policies count at the workload only where there is a waypoint: it is declared, and passed by.
        let is_direct = case.target.kind == "waypoint" && !form.is_through() || form == Form::Direct;
        let has_waypoint = form.is_through() || case.target.kind == "waypoint";
        let mut pod = cluster
            .pod("target-1")
            .namespace(&names.home)
            .account("target")
            .label("role", "target");
        for (key, value) in case.target.labels.iter().filter(|(key, _)| !key.contains('/')) {
            pod = pod.label(key, value);
        }
        cluster.declare(&pod)?;
        cluster.apply("service", &names.service(&pod, &ports, form))?;
        let mut plain = providers(&cluster, case).await?;
        for (index, policy) in policies(world, &names, form).into_iter().enumerate() {
            cluster.apply(&format!("policy-{index}"), &policy.to_string())?;
        }
        let mut spec = cluster.waypoint_pod(&case.target.namespace, &names.gateway);
        if has_waypoint {
            let bound = [
                ("istio.io/use-waypoint", &*names.gateway),
                ("istio.io/use-waypoint-namespace", &*spec.namespace),
            ];
            cluster.apply(
                "gateway",
                &open(&gateway(&spec.namespace, &names.gateway, "service")),
            )?;
            cluster.apply("namespace", &namespace(&names.home, &bound))?;
            cluster.declare(&spec)?;
        }
        if form == Form::Edge {
            for (key, value) in &case.target.labels {
                spec = spec.label(key, value);
            }
            cluster.apply("edge", &names.edge(&spec))?;
            cluster.declare(&spec)?;
        }
        let waypoint = match form.is_through() || form == Form::Edge {
            true => Some(gateway_at(&cluster, case, &spec).await?),
            false => None,
        };
        let server = match names.is_outside {
            true => {
                plain.push(Plain::http(pod.ip, 8080, Echo::new("target", None)).await?);
                None
            }
            false => Some(serve(&cluster, case, &pod, &ports, form, &mut plain).await?),
        };
        let mut callers = HashMap::new();
        for id in checks.iter().filter_map(|check| check.caller(form)) {
            let id = SpiffeId::parse(id)?;
            if let Entry::Vacant(vacant) = callers.entry(id) {
                let mesh = participant(&cluster, case, vacant.key())?.start().await?;
                vacant.insert(mesh);
            }
        }
        let town = Self {
            host: names.host(),
            edge: (form == Form::Edge).then_some(spec),
            cluster,
            form,
            pod,
            is_direct,
            callers,
            server,
            waypoint,
            _plain: plain,
        };
        town.settled().await;
        Ok(town)
    }

    /// Waits until every caller knows the way that the form has, and an edge is there.
    async fn settled(&self) {
        for mesh in self.callers.values().filter(|_| !self.is_direct) {
            until("callers know the way", || async {
                let view = mesh.snapshot();
                let cluster = view
                    .clusters
                    .iter()
                    .find(|cluster| cluster.host.as_str() == self.host);
                cluster.is_some_and(|cluster| {
                    let through = matches!(cluster.via, Via::Waypoint { .. });
                    through == self.form.is_through()
                })
            })
            .await;
        }
        if let Some(edge) = &self.edge {
            until("the edge listens", || async {
                TcpStream::connect((edge.ip, EDGE)).await.is_ok()
            })
            .await;
        }
    }

    pub(super) async fn ask(&self, world: &World, check: &Check) -> Result<Answer> {
        let request = &check.request;
        let target = match self.is_direct {
            true => self.pod.ip.to_string(),
            false => self.host.clone(),
        };
        let target = format!("{target}:{}", request.dst_port);
        let caller = match check.caller(self.form) {
            None => None,
            Some(id) => Some(
                self.callers
                    .get(&SpiffeId::parse(id)?)
                    .context("every caller is there")?,
            ),
        };
        if self.form.is_bytes() {
            let caller = caller.context("connections have callers")?;
            return bytes(caller, &target).await;
        }
        let (headers, path) = world.sent(request)?;
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned())))
            .collect::<Result<_>>()?;
        let head = wire::head(&request.method, &path, &request.host, &headers);
        let answered = match (caller, &self.edge) {
            (Some(mesh), _) => {
                let stream = mesh.client().connect(&target).await;
                exchange(stream.map_err(|error| anyhow!("{error}"))?, head.as_bytes()).await?
            }
            (None, Some(edge)) => {
                exchange(TcpStream::connect((edge.ip, EDGE)).await?, head.as_bytes()).await?
            }
            (None, None) => {
                let stream = TcpStream::connect((self.pod.ip, request.dst_port)).await?;
                match exchange(stream, head.as_bytes()).await {
                    Ok(answered) => answered,
                    // Where mutual TLS is demanded the connection is reset.
                    Err(error) if is_reset(&error) => return Ok(word("deny")),
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(Answer {
            path: serde_json::from_str::<Seen>(&answered.body)
                .ok()
                .map(|seen| seen.path),
            ..word(match answered.status {
                200 => "allow",
                400 => "bad_request",
                401 => "unauthorized",
                403 => "deny",
                other => bail!("answered with {other}: {answered:?}"),
            })
        })
    }

    pub(super) async fn stop(self) {
        for mesh in self.callers.values() {
            mesh.shutdown(Duration::ZERO).await;
        }
        if let Some(waypoint) = &self.waypoint {
            waypoint.shutdown(Duration::ZERO).await;
        }
        if let Some(server) = &self.server {
            server.shutdown(Duration::ZERO).await;
        }
        drop(self.cluster);
    }
}

fn word(word: &'static str) -> Answer {
    Answer { word, path: None }
}

fn is_reset(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("reset") || text.contains("no answer: \"\"") || text.contains("pipe")
}

/// What becomes of bytes that a caller sends.
async fn bytes(caller: &Mesh, target: &str) -> Result<Answer> {
    let mut stream = match caller.client().connect(target).await {
        Ok(stream) => stream,
        // As ztunnel answers; anything else is no decision.
        Err(refusal)
            if refusal
                .to_string()
                .contains("answered 401 Unauthorized to CONNECT") =>
        {
            return Ok(word("deny"));
        }
        Err(refusal) => bail!("{refusal}"),
    };
    ping(&mut stream).await
}

async fn ping<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I) -> Result<Answer> {
    let mut back = [0; 4];
    let asked = async {
        io.write_all(b"\x00hey").await?;
        io.read_exact(&mut back).await
    };
    Ok(word(match timeout(PATIENCE, asked).await? {
        Ok(_) if back == *b"\x00hey" => "allow",
        Ok(_) => bail!("{back:?} came back"),
        Err(_) => "deny",
    }))
}

async fn serve(
    cluster: &Cluster,
    case: &Decisions,
    pod: &PodSpec,
    ports: &BTreeSet<u16>,
    form: Form,
    plain: &mut Vec<Plain>,
) -> Result<Mesh> {
    let id = format!(
        "spiffe://{}/ns/{}/sa/target",
        case.mesh.trust_domain, pod.namespace
    );
    let server = participant(cluster, case, &SpiffeId::parse(&id)?)?
        .pod(&pod.name)
        .address(IpAddr::V4(pod.ip))
        .start()
        .await?;
    if !form.is_bytes() {
        for port in ports {
            server.attach(*port, Echo::new("target", None)).await?;
        }
        return Ok(server);
    }
    let bytes = Plain::bytes(cluster.address(), 0).await?;
    for port in ports {
        server.relay(*port, bytes.addr()).await?;
    }
    plain.push(bytes);
    Ok(server)
}

async fn gateway_at(cluster: &Cluster, case: &Decisions, spec: &PodSpec) -> Result<Waypoint> {
    let role = Role::Gateway {
        namespace: spec.namespace.as_str().into(),
        name: spec.account.as_str().into(),
    };
    let id = format!(
        "spiffe://{}/ns/{}/sa/{}",
        case.mesh.trust_domain, spec.namespace, spec.account
    );
    let mesh = participant(cluster, case, &SpiffeId::parse(&id)?)?
        .pod(&spec.name)
        .address(IpAddr::V4(spec.ip))
        .role(role);
    Ok(Waypoint::start(mesh.start().await?, HashMap::new()).await?)
}

fn participant(cluster: &Cluster, case: &Decisions, id: &SpiffeId) -> Result<inmesh::MeshBuilder> {
    let dir = cluster
        .path()
        .join("ids")
        .join(id.as_str().replace(['/', ':'], "_"));
    cluster.ca().write_workload(&dir, id, Duration::from_secs(3600))?;
    Ok(Mesh::builder()
        .credentials_dir(dir)
        .namespace(id.namespace())
        .root_namespace(&case.mesh.root_namespace)
        .source(inmesh::source::dir(cluster.folder()).namespace("default"))
        .handover(Duration::from_millis(50), Duration::from_secs(10)))
}

/// Every authorizer of the case with its fixed answer, and the mesh configuration that names them.
async fn providers(cluster: &Cluster, case: &Decisions) -> Result<Vec<Plain>> {
    let mut servers = Vec::new();
    let mut named = Vec::new();
    for (name, provider) in &case.providers {
        let server = Authorizer::new(provider.decision == "allow")
            .start(cluster.address(), AUTHORIZER)
            .await?;
        let host = format!("{name}.authz.example");
        let (field, protocol) = match &*provider.kind {
            "grpc" => ("envoyExtAuthzGrpc", "GRPC"),
            _ => ("envoyExtAuthzHttp", "HTTP"),
        };
        let entry = authorizer::service_entry(name, &host, server.addr(), protocol);
        cluster.apply(&format!("provider-{name}"), &entry)?;
        named.push(json!({"name": name, field: {"service": host, "port": AUTHORIZER}}));
        servers.push(server);
    }
    let facts = &case.mesh;
    let mesh = json!({
        "trustDomain": facts.trust_domain,
        "trustDomainAliases": facts.trust_domain_aliases,
        "pathNormalization": {"normalization": facts.path_normalization},
        "defaultConfig": {"gatewayTopology": {"numTrustedProxies": facts.num_trusted_proxies}},
        "extensionProviders": named,
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": facts.root_namespace},
        "data": {"mesh": mesh.to_string()},
    });
    cluster.apply("mesh", &map.to_string())?;
    Ok(servers)
}

impl Names {
    fn service(&self, pod: &PodSpec, ports: &BTreeSet<u16>, form: Form) -> String {
        if self.is_outside {
            let entry = json!({
                "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                "metadata": {"name": self.service, "namespace": self.home},
                "spec": {
                    "hosts": [self.host()], "location": "MESH_EXTERNAL", "resolution": "STATIC",
                    "ports": [{"number": 8080, "name": "http", "protocol": "HTTP"}],
                    "endpoints": [{"address": pod.ip.to_string()}],
                },
            });
            return entry.to_string();
        }
        let speaks = if form.is_bytes() { "tcp" } else { "http" };
        let ports: Vec<_> = ports
            .iter()
            .map(|port| json!({"name": format!("{speaks}-{port}"), "port": port, "targetPort": port}))
            .collect();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": self.service, "namespace": self.home},
            "spec": {"selector": {"role": "target"}, "ports": ports},
        });
        service.to_string()
    }

    /// A Gateway with an HTTP listener that leads to the service.
    fn edge(&self, spec: &PodSpec) -> String {
        let (namespace, name) = (&spec.namespace, &self.gateway);
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             gatewayClassName: istio\n  listeners: [{{name: http, port: {EDGE}, protocol: HTTP}}]\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: edge, namespace: {namespace}}}\nspec:\n  \
             parentRefs: [{{name: {name}}}]\n  rules: [{{backendRefs: [{{name: {service}, port: 8080}}]}}]\n",
            service = self.service,
        )
    }
}

/// A waypoint that serves every namespace.
fn open(gateway: &str) -> String {
    format!("{gateway}    allowedRoutes: {{namespaces: {{from: All}}}}\n")
}

/// The case's policies as the form needs them.
fn policies(world: &World, names: &Names, form: Form) -> Vec<Value> {
    let case = world.case();
    let on_service = case.target.kind == "workload" && (form.is_through() || form == Form::Connection);
    world
        .policies()
        .filter_map(|policy| match &*case.target.kind {
            "workload" if on_service => moved(policy, case, names),
            // The workload behind a waypoint is not what the case is about: it has no policies of its own.
            "waypoint" => policy["spec"].get("targetRefs").is_some().then_some(policy),
            _ => Some(policy),
        })
        .collect()
}

/// A policy that attaches to the case's workload, on its Service.
fn moved(mut policy: Value, case: &Decisions, names: &Names) -> Option<Value> {
    let from = policy["metadata"]["namespace"].as_str()?.to_owned();
    let spec = policy["spec"].as_object_mut();
    let targeted = spec
        .as_ref()
        .is_some_and(|spec| spec.contains_key("targetRefs") || spec.contains_key("targetRef"));
    let wanted: BTreeMap<String, Value> = match policy["spec"]["selector"]["matchLabels"].as_object() {
        Some(labels) => labels.clone().into_iter().collect(),
        None => BTreeMap::new(),
    };
    let is_selected = wanted
        .iter()
        .all(|(key, value)| case.target.labels.get(key).map(String::as_str) == value.as_str());
    if targeted || !is_selected || (from != names.home && from != case.mesh.root_namespace) {
        return None;
    }
    let name = format!("{from}-{}", policy["metadata"]["name"].as_str()?);
    policy["metadata"]["name"] = name.into();
    policy["metadata"]["namespace"] = names.home.as_str().into();
    if !policy["spec"].is_object() {
        policy["spec"] = json!({});
    }
    let spec = policy["spec"].as_object_mut()?;
    spec.remove("selector");
    let target = json!([{"group": "", "kind": "Service", "name": names.service}]);
    spec.insert("targetRefs".into(), target);
    Some(policy)
}
