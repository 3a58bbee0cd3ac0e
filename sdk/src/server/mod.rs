//! The inbound end: accepts tunnels and plain connections, and serves what is spoken inside through the stack.

mod ahead;
mod app;
#[cfg(feature = "axum")]
mod axum;
mod hbone;
mod hear;
mod introductions;
mod listener;
mod mutual;
mod patient;
mod plain;
mod ports;
mod relay;
mod serve;
mod tls;

pub use crate::layer::{Drain, Draining, Stage};
pub(crate) use ahead::Ahead;
pub(crate) use app::HttpApp;
pub use app::{Application, ApplicationFuture};
pub(crate) use hbone::{Admission, Arrival, Dispatch, Serve, serve_hbone};
pub(crate) use hear::hear;
pub(crate) use listener::listener;
pub use listener::{Accepted, InboundFuture, InboundLayer, InboundService, Listener};
pub(crate) use mutual::MutualTls;
pub(crate) use plain::{Own, Plain, serve_own, serve_plain};
pub(crate) use ports::{App, End, Ports, WorkloadDispatch};
pub(crate) use relay::{Incoming, relayed};
pub(crate) use serve::{BoxFuture, Stream, bind, serve_http};
pub(crate) use tls::{greet, refuse, terminate, usable};
