//! The cluster most tests want, in either shape.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use inmesh::{Body, Client, Mesh, Waypoint};

use super::cluster::{Cluster, Pod, gateway, namespace};
use super::echo::Seen;
use super::wait::{PATIENCE, until};

/// Where the policy is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In the two programs that talk.
    InProcess,
    /// In a waypoint between them.
    Waypoint,
}

/// `reviews` in two versions, two callers, and in one shape a waypoint before it all.
#[derive(Debug)]
pub struct World {
    /// Where it runs.
    pub cluster: Cluster,
    /// Its shape.
    pub shape: Shape,
    /// `reviews-v1`, service account `reviews`.
    pub v1: Pod,
    /// `reviews-v2`, service account `reviews`.
    pub v2: Pod,
    /// The client with the service account `curl`.
    pub curl: Client,
    /// The client with the service account `other`.
    pub other: Client,
    /// The waypoint, where there is one.
    pub waypoint: Option<Waypoint>,
    meshes: Vec<Mesh>,
    settled: AtomicUsize,
}

impl World {
    /// Starts it; `files` are there from the beginning.
    pub async fn start(shape: Shape, files: &[(&str, &str)]) -> Result<Self> {
        let cluster = Cluster::new()?;
        cluster.service("reviews", "reviews", None)?;
        cluster.service("reviews-v1", "reviews", Some("v1"))?;
        cluster.service("reviews-v2", "reviews", Some("v2"))?;
        let plan = |version: &str| {
            let name = format!("reviews-{version}");
            cluster
                .pod(&name)
                .account("reviews")
                .label("app", "reviews")
                .label("version", version)
        };
        let (v1, v2) = (plan("v1"), plan("v2"));
        cluster.declare(&v1)?;
        cluster.declare(&v2)?;
        for (name, yaml) in files {
            cluster.apply(name, yaml)?;
        }
        let spec = cluster.waypoint_pod("default", "waypoint");
        if shape == Shape::Waypoint {
            cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
            cluster.apply(
                "namespace",
                &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
            )?;
            cluster.declare(&spec)?;
        }
        // Everything was declared before anything starts: nobody has to hear of a change first.
        let waypoint = match shape {
            Shape::InProcess => None,
            Shape::Waypoint => Some(cluster.run_waypoint(&spec).await?),
        };
        let (v1, v2) = (cluster.run(&v1).await?, cluster.run(&v2).await?);
        let (curl_mesh, curl) = cluster.client("curl").await?;
        let (other_mesh, other) = cluster.client("other").await?;
        Ok(Self {
            meshes: vec![curl_mesh, other_mesh, v1.mesh.clone(), v2.mesh.clone()],
            cluster,
            shape,
            v1,
            v2,
            curl,
            other,
            waypoint,
            settled: AtomicUsize::new(0),
        })
    }

    /// The participants, the waypoint not among them.
    pub fn meshes(&self) -> &[Mesh] {
        &self.meshes
    }

    /// The participants and the waypoint.
    pub fn everybody(&self) -> impl Iterator<Item = &Mesh> {
        self.meshes.iter().chain(self.waypoint.iter().map(Waypoint::mesh))
    }

    /// Waits until everybody goes by all that is written now. Each hears of it when it does: that one of them acts on
    /// it says nothing of the others.
    pub async fn settled(&self) -> Result<()> {
        // A file that is gone counts as gone at the second look: the first may have met a replacement under way.
        for _ in 0..2 {
            let name = format!("settled-{}", self.settled.fetch_add(1, Ordering::Relaxed));
            self.cluster.apply(&name, &namespace(&name, &[]))?;
            for mesh in self.everybody() {
                let mut status = mesh.status();
                let heard = status.wait_for(|status| {
                    let changes = status.history.iter().flat_map(|generation| &generation.changes);
                    changes.into_iter().any(|change| *change.resource.name == *name)
                });
                let heard = tokio::time::timeout(PATIENCE, heard).await;
                heard.with_context(|| format!("{} did not hear of {name}", mesh.identity()))??;
            }
        }
        Ok(())
    }

    /// Writes a file and waits until `url`, asked by `curl`, answers with `status`.
    pub async fn apply_until(&self, name: &str, yaml: &str, url: &str, status: u16) -> Result<()> {
        self.cluster.apply(name, yaml)?;
        self.until(url, status).await;
        Ok(())
    }

    /// Waits until `url`, asked by `curl`, answers with `status`.
    pub async fn until(&self, url: &str, status: u16) {
        until(&format!("GET {url} is answered with {status}"), || async {
            self::status(self.curl.get(url).await) == status
        })
        .await;
    }
}

/// The status that a proxy would have answered with.
pub fn status(result: Result<Response<Body>, inmesh::Refusal>) -> u16 {
    match result {
        Ok(response) => response.status().as_u16(),
        Err(refusal) => refusal.status.as_u16(),
    }
}

/// What the application saw, where it answered 200.
pub async fn seen(result: Result<Response<Body>, inmesh::Refusal>) -> Result<Seen> {
    let response = result.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let status = response.status();
    let body = text(response).await?;
    anyhow::ensure!(status == StatusCode::OK, "{status}: {body}");
    serde_json::from_str(&body).with_context(|| format!("the answer is {body}"))
}

/// The body as text.
pub async fn text(response: Response<Body>) -> Result<String> {
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// A request without a body.
pub fn request(method: Method, url: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Body::empty())
        .expect("a test's request is well-formed")
}
