//! The mesh ends: an inmesh server, an inmesh client, and our waypoint.

use std::convert::Infallible;
use std::ffi::OsString;
use std::task::{Context as Cx, Poll};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use inmesh::{Body, Client, Mesh, source};

use super::bare::BODY;
use super::load::{ANSWER, Caller};
use super::town::View;
use super::world::{TARGET_PORT, World};

/// A participant that is what its name says.
async fn join(world: &World, who: &str) -> Result<Mesh> {
    let mut mesh = Mesh::builder()
        .source(source::dir(world.mesh()))
        .credentials_dir(world.identity(who))
        .pod(format!("{who}-1"))
        .address(world.ip(who));
    if world.town.told().view != View::Absent {
        mesh = mesh.admin(world.admin(who));
    }
    let mesh = mesh
        .start()
        .await
        .with_context(|| format!("starting the {who}"))?;
    Ok(mesh)
}

/// Serves until the process is ended; `ready` is called once it listens.
pub(super) async fn serve(world: &World, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let mesh = join(world, "server").await?;
    mesh.attach(TARGET_PORT, Answer).await?;
    ready()?;
    mesh.finished().await;
    Ok(())
}

/// The backend's application: as little as bare hyper's.
#[derive(Clone, Copy)]
struct Answer;

impl tower_service::Service<Request<Body>> for Answer {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Response::new(Full::new(Bytes::from_static(&BODY)))))
    }
}

/// An application that calls through the library.
#[derive(Clone)]
pub(super) struct MeshCaller {
    client: Client,
    mesh: Mesh,
}

impl MeshCaller {
    pub(super) async fn start(world: &World) -> Result<Self> {
        let mesh = join(world, "client").await?;
        Ok(Self {
            client: mesh.client(),
            mesh,
        })
    }
}

impl Caller for MeshCaller {
    fn generation(&self) -> u64 {
        self.mesh.snapshot().generation
    }

    fn call(&mut self) -> impl Future<Output = Result<()>> + Send {
        let client = &self.client;
        async move {
            let response = client.get("http://server:80/").await?;
            let status = response.status();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(anyhow::Error::from_boxed)?
                .to_bytes();
            ensure!(
                status == StatusCode::OK && body.len() == ANSWER,
                "{status} with {} bytes",
                body.len()
            );
            Ok(())
        }
    }
}

/// The command line of our waypoint in this world.
pub(super) fn waypoint_args(world: &World) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["waypoint", "run", "--gateway", "default/waypoint", "--config"]
        .map(Into::into)
        .into();
    args.push(world.mesh().into());
    args.push("--credentials".into());
    args.push(world.identity("waypoint").into());
    args.push("--address".into());
    args.push(world.ip("waypoint").to_string().into());
    args.extend(["--pod".into(), "waypoint-1".into()]);
    args
}
