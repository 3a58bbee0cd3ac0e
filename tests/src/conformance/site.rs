//! One test's own world: its configuration, its Gateways, and the clients that call.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use inmesh::{Mesh, source};
use tokio::sync::{Mutex, OnceCell};

use super::case::{Act, Case, From, Id, Mode, Object, Test, Traffic};
use super::client::Way;
use super::gateway::{Instance, Plan};
use super::manifest::{Folder, Objects, name, namespace};
use super::mapping;
use super::pods::{self, Pods};
use super::shape::Shape;
use super::status::Statuses;
use super::town::{Base, Town};
use crate::kit::block::Block;

/// How long a change of the configuration may take to be known everywhere.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a process is asked whether it knows.
const PACE: Duration = Duration::from_millis(15);

/// One test's own world; everything in it ends when it is dropped.
#[derive(Debug)]
pub struct Site<'t> {
    town: &'t Town,
    mode: Mode,
    shape: Shape,
    folder: Folder,
    objects: Mutex<Objects>,
    base: Arc<OnceCell<Base>>,
    own: Pods,
    gateways: Vec<Instance>,
    /// By namespace and service account.
    clients: Mutex<HashMap<(String, String), Mesh>>,
    _block: Block,
}

impl<'t> Site<'t> {
    /// Writes the configuration and starts what serves it.
    ///
    /// # Errors
    /// If the manifests cannot be read, or something does not start.
    pub async fn start(town: &'t Town, test: &Test, shape: Shape) -> Result<Self> {
        let mode = test.mesh_mapping.mode;
        let block = Block::take()?;
        let base = town.base(&test.manifests.base);
        base.get_or_try_init(|| town.start_base(&test.manifests.base))
            .await?;
        let files = std::iter::once(&test.manifests.base).chain(&test.manifests.test);
        let files = files
            .map(|file| town.manifest(file))
            .collect::<Result<Vec<_>>>()?;
        let mut objects = Objects::read(&files)?;
        let mut additions = Objects::read(&files[1..])?;
        additions.retain(|it| it["kind"] == "Deployment");
        let own = Pods::start(&additions, town.ground(&block)).await?;
        for object in town.fixtures.objects() {
            let known = objects.iter().any(|it| {
                it["kind"] == object["kind"]
                    && name(it) == name(&object)
                    && namespace(it) == namespace(&object)
            });
            if !known
                && objects
                    .iter()
                    .any(|it| it["kind"] == "Namespace" && name(it) == namespace(&object))
            {
                objects.add(object)?;
            }
        }
        let mut site = Self {
            town,
            mode,
            shape,
            folder: town.authority.folder()?,
            objects: Mutex::default(),
            base,
            own,
            gateways: Vec::new(),
            clients: Mutex::default(),
            _block: block,
        };
        for fixture in &test.fixtures {
            let addresses = site.addresses(&fixture.from_pods_of);
            for slice in &fixture.fill_endpoint_slices {
                pods::fill(&mut objects, slice, &addresses)?;
            }
        }
        let served = site.map(test, shape, &mut objects)?;
        mapping::allocate(&mut objects);
        let mut plans = Vec::new();
        for id in served {
            let gateway = objects
                .get("Gateway", &id)
                .with_context(|| format!("there is no Gateway {id}"))?;
            let plan = Plan::of(gateway, id, site._block.address());
            objects.add(plan.object())?;
            plans.push(plan);
        }
        for pods in site.all_pods() {
            pods.objects().into_iter().try_for_each(|it| objects.add(it))?;
        }
        // Everything is there before anybody looks: nobody has to hear of a change first.
        site.folder.write(objects.iter())?;
        for plan in plans {
            site.gateways.push(
                plan.start(shape, &town.authority, &site.folder, &town.waypoint)
                    .await?,
            );
        }
        site.objects = Mutex::new(objects);
        Ok(site)
    }

    /// Carries the objects to the mesh and says which Gateways must be served.
    fn map(&self, test: &Test, shape: Shape, objects: &mut Objects) -> Result<Vec<Id>> {
        let traffic = || test.cases.iter().filter_map(|it| it.traffic());
        match self.mode {
            Mode::StatusOnly => Ok(Vec::new()),
            Mode::Facade => {
                let named = traffic().filter_map(|it| it.to.gateway.clone());
                let waited = test
                    .preconditions
                    .iter()
                    .flat_map(|it| [Some(&it.object), it.parent.as_ref()]);
                let asked = test.cases.iter().filter_map(|it| match it {
                    Case::Status(it) => Some([Some(&it.object), it.parent.as_ref()]),
                    _ => None,
                });
                let waited = waited
                    .chain(asked.flatten())
                    .flatten()
                    .filter(|it| it.kind == "Gateway" && objects.get("Gateway", &it.id).is_some())
                    .map(|it| it.id.clone());
                let all: BTreeSet<Id> = named.chain(waited).collect();
                Ok(all.into_iter().collect())
            }
            Mode::Native | Mode::Rewrite => {
                if self.mode == Mode::Rewrite {
                    mapping::rewrite(objects)?;
                }
                let called = traffic().filter_map(|it| it.to.service.as_ref().or(it.to.gateway.as_ref()));
                let namespaces: BTreeSet<String> = called.map(|it| it.namespace.clone()).collect();
                match shape {
                    Shape::Library => Ok(Vec::new()),
                    Shape::Waypoint => mapping::bind(objects, &namespaces),
                }
            }
        }
    }

    fn all_pods(&self) -> impl Iterator<Item = &Pods> {
        self.base.get().map(|it| &it.pods).into_iter().chain([&self.own])
    }

    fn addresses(&self, deployment: &Id) -> Vec<std::net::Ipv4Addr> {
        self.all_pods().flat_map(|it| it.addresses(deployment)).collect()
    }

    /// The way from the caller of a case to where it sends.
    ///
    /// # Errors
    /// If there is no such caller or no such target.
    pub async fn way(&self, traffic: &Traffic) -> Result<Way> {
        let to = &traffic.to;
        if let (Mode::Facade, Some(gateway)) = (self.mode, &to.gateway) {
            let instance = self.gateways.iter().find(|it| it.id() == gateway);
            let dial = instance
                .and_then(|it| it.address(to.port))
                .with_context(|| format!("nobody serves port {} of Gateway {gateway}", to.port))?;
            let trusted = self.town.fixtures.certificates()?;
            return Ok(Way::Socket { dial, trusted });
        }
        let (dial, home) = match (&to.service, &to.gateway, &to.pod) {
            (Some(id), ..) | (None, Some(id), _) => (self.cluster_ip(id).await?, &id.namespace),
            (None, None, Some(pod)) => {
                let deployment = deployment(pod);
                let addresses = self.addresses(&deployment);
                let ip = addresses
                    .first()
                    .with_context(|| format!("{deployment} has no pod"))?;
                (IpAddr::V4(*ip), &pod.namespace)
            }
            (None, None, None) => bail!("the case names no target"),
        };
        let (namespace, account) = match &traffic.from {
            Some(from) => {
                let deployment = deployment(from);
                let account = self.all_pods().find_map(|it| it.account(&deployment));
                (
                    &from.namespace,
                    account.with_context(|| format!("there is no Deployment {deployment}"))?,
                )
            }
            None => (home, "default"),
        };
        let client = self.participant(namespace, account).await?.client();
        Ok(Way::Mesh {
            client,
            dial: SocketAddr::new(dial, to.port),
        })
    }

    async fn cluster_ip(&self, service: &Id) -> Result<IpAddr> {
        let objects = self.objects.lock().await;
        let object = objects
            .get("Service", service)
            .with_context(|| format!("there is no Service {service}"))?;
        let text = object["spec"]["clusterIP"].as_str().unwrap_or_default();
        text.parse()
            .with_context(|| format!("Service {service} has no address to dial"))
    }

    /// A participant that only calls; the same one whenever the same is asked for.
    async fn participant(&self, namespace: &str, account: &str) -> Result<Mesh> {
        let mut clients = self.clients.lock().await;
        let key = (namespace.to_owned(), account.to_owned());
        if let Some(mesh) = clients.get(&key) {
            return Ok(mesh.clone());
        }
        let source = source::dir(self.folder.watched()).namespace("default");
        let mesh = self
            .town
            .authority
            .participant(namespace, account, source)?
            .start()
            .await?;
        clients.insert(key, mesh.clone());
        Ok(mesh)
    }

    /// What the statuses of all objects say: asked of a participant, or of the program.
    ///
    /// # Errors
    /// If nobody can be asked.
    pub async fn status(&self) -> Result<Statuses> {
        let reported = match self.shape {
            Shape::Library => {
                let mesh = self.participant("default", "observer").await?;
                let status = mesh.status().borrow().clone();
                serde_json::to_value(&*status.statuses)?
            }
            Shape::Waypoint => self.town.waypoint.check(&self.folder).await?,
        };
        let objects = self.objects.lock().await.clone();
        Ok(Statuses { reported, objects })
    }

    /// Where Gateways have become Services, what is said of a Gateway is said of its Service.
    pub fn translate(&self, object: &mut Object) {
        if self.mode == Mode::Rewrite && object.kind == "Gateway" {
            "Service".clone_into(&mut object.kind);
        }
    }

    /// Changes the configuration and waits until everybody knows.
    ///
    /// # Errors
    /// If the change is impossible, or somebody does not hear of it.
    pub async fn act(&self, act: &Act) -> Result<()> {
        let before = self.generations().await?;
        let changed = {
            let mut objects = self.objects.lock().await;
            match act {
                Act::Delete(object) => {
                    let file = objects.delete(&object.kind, &object.id)?;
                    self.folder.remove(&file)?;
                    true
                }
                Act::Create(create) => {
                    let object = objects.create(&create.kind, &create.id()?, &create.fields)?;
                    self.folder.write([object])?;
                    true
                }
                Act::Patch(patch) => {
                    let (changed, object) = objects.patch(&patch.kind, &patch.id, &patch.set)?;
                    self.folder.write([object])?;
                    changed
                }
            }
        };
        if changed {
            self.known(&before).await
        } else {
            Ok(())
        }
    }

    /// How many configurations everybody has seen.
    async fn generations(&self) -> Result<Vec<u64>> {
        let mut all = Vec::new();
        for mesh in self.clients.lock().await.values() {
            all.push(mesh.status().borrow().generation);
        }
        for gateway in &self.gateways {
            all.push(gateway.generation().await?);
        }
        Ok(all)
    }

    async fn known(&self, before: &[u64]) -> Result<()> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.generations().await?;
            if now.iter().zip(before).all(|(now, before)| now > before) {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                bail!("not everybody heard of the change within {PATIENCE:?}");
            }
            tokio::time::sleep(PACE).await;
        }
    }
}

fn deployment(from: &From) -> Id {
    Id {
        namespace: from.namespace.clone(),
        name: from.deployment.clone(),
    }
}
