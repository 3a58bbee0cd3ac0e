//! Cases that send something: who, where to, and what.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Expect, Id};

/// A case that sends something.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// `Test/NN`.
    pub id: String,
    /// The suite's name of it.
    pub name: String,
    /// The calling pod.
    pub from: Option<From>,
    /// Where to.
    pub to: To,
    /// What is sent.
    pub request: Request,
    /// How often.
    pub send: Option<Send>,
    /// WebSocket messages.
    pub frames: Option<Vec<Frame>>,
    /// What must come of it.
    pub expect: Expect,
}

/// A calling pod.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct From {
    /// Its namespace.
    pub namespace: String,
    /// Its Deployment.
    pub deployment: String,
}

/// Where something is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct To {
    /// A Gateway's port.
    pub gateway: Option<Id>,
    /// The listeners that the suite waited for.
    #[serde(default)]
    pub listeners: Vec<String>,
    /// A Service's address and port.
    pub service: Option<Id>,
    /// A pod's address and port.
    pub pod: Option<From>,
    /// The port.
    pub port: u16,
}

/// What is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is spoken.
    pub protocol: Protocol,
    /// With or without TLS.
    pub scheme: Scheme,
    /// The method.
    pub method: Option<String>,
    /// Path and query.
    pub path: Option<String>,
    /// Full path of the RPC; `None` is any unary one.
    pub grpc_method: Option<String>,
    /// Header fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// `Host` or `:authority`; `None` is one that no manifest names.
    pub host: Option<String>,
    /// TLS server name.
    pub sni: Option<String>,
    /// The body.
    pub body: Option<String>,
    /// What the backend must put on its answer.
    #[serde(default)]
    pub backend_adds_response_headers: BTreeMap<String, String>,
    /// A query parameter that makes each probe unique.
    pub unique_query_param: Option<String>,
    /// Placeholders of the path.
    #[serde(default)]
    pub template: BTreeMap<String, String>,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2 over TLS.
    #[serde(rename = "h2")]
    H2,
    /// HTTP/2 with prior knowledge.
    #[serde(rename = "h2c")]
    H2c,
    /// gRPC, over `h2c`.
    #[serde(rename = "grpc")]
    Grpc,
    /// An upgrade.
    #[serde(rename = "websocket")]
    Websocket,
}

/// With or without TLS.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the schemes
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// How often something is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// So often.
    pub total: usize,
    /// So many at a time.
    #[serde(default = "one")]
    pub concurrency: usize,
    /// A header that about half of the requests carry, with a random number.
    pub jitter_header: Option<String>,
}

fn one() -> usize {
    1
}

/// A WebSocket message.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// What is sent.
    pub send: Message,
    /// Whether the same must come back.
    pub expect_echo: bool,
}

/// A WebSocket message's content.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Message {
    /// Text.
    #[serde(rename = "text")]
    Text(String),
    /// Bytes in hexadecimal.
    #[serde(rename = "binary_hex")]
    Binary(String),
}
