//! Requests to ask about.

use std::net::IpAddr;

use serde_json::Value;

/// A request to ask about: in plaintext and from nowhere in particular, unless it says otherwise.
#[derive(Clone, Debug)]
#[must_use]
pub struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) from: Option<String>,
    pub(super) from_ip: IpAddr,
    pub(super) claims: Option<Value>,
}

/// A GET for a path; a query may follow it.
pub fn get(path: &str) -> Request {
    request("GET", path)
}

/// A POST to a path; a query may follow it.
pub fn post(path: &str) -> Request {
    request("POST", path)
}

/// A request with any method.
pub fn request(method: &str, path: &str) -> Request {
    Request {
        method: method.to_owned(),
        path: path.to_owned(),
        host: None,
        port: None,
        headers: Vec::new(),
        from: None,
        from_ip: [10, 0, 0, 5].into(),
        claims: None,
    }
}

impl Request {
    /// Sent over mutual TLS by a workload with this identity: `cluster.local/ns/default/sa/curl`, with or without
    /// `spiffe://`.
    pub fn from(mut self, identity: &str) -> Self {
        self.from = Some(identity.to_owned());
        self
    }

    /// Sent from this address.
    pub fn from_addr(mut self, addr: IpAddr) -> Self {
        self.from_ip = addr;
        self
    }

    /// With this authority; the target's own name otherwise.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// To this port of the target: a workload's own, or a service's.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a token, as it is sent; [`Issuer`](super::Issuer) makes some.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// As if it had carried a token with these claims that was verified: for policies whose issuer's keys are not at hand.
    pub fn claims(mut self, claims: Value) -> Self {
        self.claims = Some(claims);
        self
    }
}

/// `GET /x from cluster.local/ns/default/sa/curl`.
impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let from = self.from.as_deref().unwrap_or("nobody (plaintext)");
        write!(f, "{} {} from {from}", self.method, self.path)
    }
}
