//! The three places at which bytes from outside meet the policy, and how to knock at each by hand.

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use inmesh::Waypoint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wait::PATIENCE;
use super::{Shape, World};

/// Where the policy point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A workload, in an HBONE tunnel.
    Workload,
    /// A waypoint, in an HBONE tunnel.
    Waypoint,
    /// A Gateway's own listener, over plain TCP.
    Gateway,
}

/// Every door.
pub const DOORS: [Door; 3] = [Door::Workload, Door::Waypoint, Door::Gateway];

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A [`World`] with one door in it.
#[derive(Debug)]
pub struct House {
    /// What is behind the door.
    pub world: World,
    /// Which door.
    pub door: Door,
    gateway: Option<(Waypoint, std::net::SocketAddr)>,
}

const PORT: u16 = 8000;

impl House {
    /// Builds it; `files` are there from the beginning.
    pub async fn build(door: Door, files: &[(&str, &str)]) -> Result<Self> {
        let shape = match door {
            Door::Workload | Door::Gateway => Shape::InProcess,
            Door::Waypoint => Shape::Waypoint,
        };
        let world = World::start(shape, files).await?;
        let gateway = match door {
            Door::Workload | Door::Waypoint => None,
            Door::Gateway => Some(gateway(&world).await?),
        };
        let house = Self { world, door, gateway };
        if door == Door::Gateway {
            // Its listener is bound with its first configuration, which has been read; binding itself is not awaited.
            super::wait::until("the gateway listens", || async { house.knock().await.is_ok() }).await;
        }
        Ok(house)
    }

    /// Opens a stream of bytes to the policy point; what is spoken there is HTTP to `reviews:9080`.
    pub async fn knock(&self) -> Result<Box<dyn Stream>> {
        self.knock_at(9080).await
    }

    /// As [`House::knock`], for another port of the service; a Gateway has but one.
    pub async fn knock_at(&self, port: u16) -> Result<Box<dyn Stream>> {
        Ok(match &self.gateway {
            None => {
                let to = format!("reviews:{port}");
                let stream = self.world.curl.connect(&to).await;
                Box::new(stream.map_err(|refusal| anyhow!("{refusal}"))?)
            }
            Some((_, addr)) => Box::new(TcpStream::connect(addr).await?),
        })
    }

    /// Sends bytes and reads whatever comes until the other side closes.
    pub async fn say(&self, bytes: &[u8]) -> Result<String> {
        let mut stream = self.knock().await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        // A reset after the answer is as good as an end.
        let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(
            ended.is_ok(),
            "the {:?} does not close; it said {answer:?}",
            self.door
        );
        Ok(answer)
    }

    /// Sends one HTTP/1.1 head (lines without their ends) that asks to close afterwards, and reads the answer.
    pub async fn ask(&self, head: &str) -> Result<Answer> {
        let head: String = head
            .lines()
            .map(|line| format!("{}\r\n", line.trim_start()))
            .collect();
        let text = self
            .say(format!("{head}connection: close\r\n\r\n").as_bytes())
            .await?;
        Answer::parse(&text).with_context(|| format!("{:?} answers {head:?} with {text:?}", self.door))
    }

    /// HTTP/2 by hand: the sender, and the connection driven by a task.
    pub async fn h2(&self, port: u16) -> Result<h2::client::SendRequest<Bytes>> {
        let (sender, connection) = h2::client::handshake(self.knock_at(port).await?).await?;
        tokio::spawn(connection);
        Ok(sender.ready().await?)
    }

    /// How many requests have reached an application.
    pub fn served(&self) -> usize {
        self.world.v1.echo.served() + self.world.v2.echo.served()
    }
}

async fn gateway(world: &World) -> Result<(Waypoint, std::net::SocketAddr)> {
    let cluster = &world.cluster;
    cluster.apply(
        "ingress",
        &format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: ingress, namespace: default}}\nspec:\n  \
             gatewayClassName: istio\n  listeners: [{{name: http, port: {PORT}, protocol: HTTP}}]\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: ingress, namespace: default}}\nspec:\n  \
             parentRefs: [{{name: ingress}}]\n  rules: [{{backendRefs: [{{name: reviews, port: 9080}}]}}]\n"
        ),
    )?;
    let spec = cluster.waypoint_pod("default", "ingress");
    cluster.declare(&spec)?;
    let waypoint = cluster.run_waypoint(&spec).await?;
    Ok((waypoint, (spec.ip, PORT).into()))
}

/// An HTTP/1 answer, taken apart.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, lower-cased.
    pub head: String,
    /// Everything after the head, chunk sizes included.
    pub body: String,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some(Self {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        })
    }

    /// What the application saw, where it answered.
    pub fn seen(&self) -> Result<super::echo::Seen> {
        let json = self.body.find('{').zip(self.body.rfind('}'));
        let (from, to) = json.with_context(|| format!("{} {}", self.status, self.body))?;
        Ok(serde_json::from_str(&self.body[from..=to])?)
    }
}
