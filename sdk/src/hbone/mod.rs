//! A secure pipe between two identities: HBONE, which is TCP in HTTP/2 `CONNECT` in mutual TLS.
//!
//! One TCP connection with TLS 1.3 and HTTP/2 is a *tunnel*; each `CONNECT` in it is a [`TunnelStream`], a stream of
//! bytes to one destination. Which destination the peer allows, and who may connect, is not decided here: this room
//! proves identities and moves bytes.
//!
//! ```text
//!  TunnelPool::open(target, head)                    Acceptor::handshake(tcp) ─▶ Inbound
//!        │  one dial per (credential, identities, address)        │ next()
//!        ▼                                                        ▼
//!  TunnelStream ◀═══ CONNECT ═══ HTTP/2 ═══ TLS 1.3 ═══▶ Incoming.accept() ─▶ TunnelStream
//! ```
//!
//! The numbers in [`Settings`] are ztunnel's, so that two peers of different make see the same behaviour.

mod accept;
mod authority;
mod baggage;
mod carrier;
mod coalesce;
mod connect;
mod dial;
mod error;
mod keepalive;
mod linger;
mod open;
mod pool;
mod relay;
mod settings;
mod silence;
mod stream;

pub use accept::{Acceptor, Inbound, Incoming};
pub use authority::{Authority, AuthorityError};
pub use baggage::Baggage;
pub use connect::ConnectHead;
pub use error::Error;
pub use pool::{PoolStats, TunnelPool, TunnelTarget};
pub use relay::relay;
pub use settings::Settings;
pub use stream::{TunnelHandle, TunnelStream};

/// The port on which workloads, waypoints and gateways speak HBONE.
pub const HBONE_PORT: u16 = 15008;

#[cfg(test)]
mod tests;
