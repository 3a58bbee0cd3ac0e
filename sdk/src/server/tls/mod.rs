//! TLS of a Gateway's listeners: which listener a client wants, and termination under that listener's terms.
//!
//! ```text
//! TCP ─ greet (reads the ClientHello: server name) ─ listener by server name ─ terminate ─ HTTP/2 or HTTP/1.1
//! ```

mod clients;
mod config;
mod greet;
#[cfg(test)]
mod tests;

pub(crate) use config::{terminate, usable};
pub(crate) use greet::{greet, refuse};
