//! The admin endpoint, asked.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::mesh::{Error, ErrorKind};

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take to begin; rates over half a minute take as long.
const ANSWER: Duration = Duration::from_secs(40);

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub(super) struct Endpoint {
    /// Where the admin endpoint of the waypoint or application is.
    #[arg(
        short,
        long,
        env = "INMESH_ADMIN_ADDRESS",
        default_value = "127.0.0.1:15000",
        value_name = "ADDRESS[:PORT]"
    )]
    admin: String,
}

impl Endpoint {
    /// A document.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Error> {
        let response = self.send(Method::GET, path, String::new()).await?;
        self.read(path, response).await
    }

    /// What comes of a document that is sent.
    pub(super) async fn post(&self, path: &str, document: &Value) -> Result<Value, Error> {
        let response = self.send(Method::POST, path, document.to_string()).await?;
        self.read(path, response).await
    }

    /// An answer without an end.
    pub(super) async fn stream(&self, path: &str) -> Result<Incoming, Error> {
        let response = self.send(Method::GET, path, String::new()).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        self.read(path, response).await.map(|_| ())?;
        Err(self.failed("it does not tell of requests"))
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Response<Incoming>, Error> {
        let address = self.address();
        let unreachable = |error: std::io::Error| {
            let text = format!(
                "nobody answers at {address}; is a waypoint or an application with an admin endpoint running there? Say where \
                 it is with --admin"
            );
            Error::new(ErrorKind::Source, text).caused_by(error)
        };
        let stream = match tokio::time::timeout(PATIENCE, TcpStream::connect(&address)).await {
            Ok(stream) => stream.map_err(unreachable)?,
            Err(_) => return Err(unreachable(std::io::ErrorKind::TimedOut.into())),
        };
        let http = |error: hyper::Error| self.failed("it does not speak HTTP").caused_by(error);
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        tokio::spawn(driver);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.failed("it cannot be asked so").caused_by(error))?;
        match tokio::time::timeout(ANSWER, sender.send_request(request)).await {
            Ok(response) => response.map_err(http),
            Err(_) => Err(self.failed("it does not answer")),
        }
    }

    async fn read(&self, path: &str, response: Response<Incoming>) -> Result<Value, Error> {
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| self.failed("its answer broke off").caused_by(error))?;
        let body = body.to_bytes();
        if !status.is_success() {
            let said = String::from_utf8_lossy(&body);
            let said = said.lines().next().unwrap_or_default();
            return Err(self.failed(&format!(
                "{path} is answered {}: {}",
                status.as_u16(),
                super::shown::clean(said)
            )));
        }
        serde_json::from_slice(&body).map_err(|error| {
            self.failed(&format!("{path} is no document of an inmesh admin endpoint"))
                .caused_by(error)
        })
    }

    fn failed(&self, text: &str) -> Error {
        Error::new(ErrorKind::Source, format!("{}: {text}", self.address()))
    }

    fn address(&self) -> String {
        let admin = self.admin.trim_start_matches("http://").trim_end_matches('/');
        let has_port = match admin.rsplit_once(':') {
            Some((host, _)) => host.ends_with(']') || !host.contains(':'),
            None => false,
        };
        match has_port {
            true => admin.to_owned(),
            false if admin.contains(':') && !admin.starts_with('[') => format!("[{admin}]:15000"),
            false => format!("{admin}:15000"),
        }
    }
}

/// Text as part of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        for (given, expected) in [
            ("127.0.0.1", "127.0.0.1:15000"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("http://localhost:9/", "localhost:9"),
            ("::1", "[::1]:15000"),
            ("[::1]", "[::1]:15000"),
            ("[::1]:9", "[::1]:9"),
        ] {
            let endpoint = Endpoint {
                admin: given.to_owned(),
            };
            assert_eq!(endpoint.address(), expected, "{given}");
        }
        assert_eq!(encoded("status>=400 a"), "status%3E%3D400%20a");
    }
}
