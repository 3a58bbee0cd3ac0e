//! The admin endpoint of a participant, as those ask it who look after it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::wait::PATIENCE;

/// The port of everybody's admin endpoint.
pub const ADMIN: u16 = 15000;

/// An admin endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Admin(SocketAddr);

/// What it answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

/// Requests as they end.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    read: String,
}

impl Admin {
    /// Of the participant with this address.
    pub fn of(ip: impl Into<std::net::IpAddr>) -> Self {
        Self(SocketAddr::new(ip.into(), ADMIN))
    }

    /// Anywhere.
    pub fn at(addr: SocketAddr) -> Self {
        Self(addr)
    }

    /// Where it is.
    pub fn addr(self) -> SocketAddr {
        self.0
    }

    /// Sends a request as it is, but for `host`, which it gets if it has none.
    pub async fn send(self, mut request: Request<String>) -> Result<Answer> {
        if !request.headers().contains_key("host") {
            request.headers_mut().insert("host", self.0.to_string().parse()?);
        }
        let response = self.begin(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    async fn begin(self, request: Request<String>) -> Result<http::Response<Incoming>> {
        let stream = TcpStream::connect(self.0).await?;
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(sender
            .send_request(request.map(|body| Full::new(bytes::Bytes::from(body))))
            .await?)
    }

    /// Asks for a page.
    pub async fn get(self, path: &str) -> Result<Answer> {
        self.send(Request::get(path).body(String::new())?).await
    }

    /// Asks for a document.
    pub async fn json(self, path: &str) -> Result<Value> {
        let answer = self.get(path).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text);
        serde_json::from_str(&answer.text).with_context(|| format!("{path} is {}", answer.text))
    }

    /// Sends a document.
    pub async fn post(self, path: &str, body: &str) -> Result<Answer> {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request.body(body.to_owned())?).await
    }

    /// Looks on; returns once that is heard.
    pub async fn events(self, filter: &str) -> Result<Events> {
        let request = Request::get(format!("/live/stream?filter={filter}"))
            .header("host", self.0.to_string())
            .body(String::new())?;
        let response = self.begin(request).await?;
        ensure!(
            response.status() == 200,
            "the stream is answered {}",
            response.status()
        );
        let mut events = Events {
            body: response.into_body(),
            read: String::new(),
        };
        events.until(": watching").await?;
        Ok(events)
    }
}

impl Events {
    /// The next request.
    pub async fn next(&mut self) -> Result<Value> {
        let event = self.until("event: request").await?;
        let data = event.lines().find_map(|line| line.strip_prefix("data: "));
        Ok(serde_json::from_str(data.context("an event has data")?)?)
    }

    /// The next event that begins so.
    async fn until(&mut self, begins: &str) -> Result<String> {
        loop {
            while let Some((event, rest)) = self.read.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.read = rest;
                if event.lines().any(|line| line.starts_with(begins)) {
                    return Ok(event);
                }
            }
            let frame = tokio::time::timeout(PATIENCE + Duration::from_secs(5), self.body.frame()).await;
            let frame = frame
                .context("no event came")?
                .context("the stream has ended")??;
            if let Some(data) = frame.data_ref() {
                self.read.push_str(&String::from_utf8_lossy(data));
            }
        }
    }
}
