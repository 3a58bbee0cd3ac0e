//! AuthorizationPolicy and PeerAuthentication, made into engines.
//!
//! ```text
//! every policy ──attached(target)──▶ those of one target ──engine(layer)──▶ AuthzEngine
//!                                                                └─ any of them invalid: deny_all
//! ```
//!
//! What a policy means on each [`Layer`](crate::policy::authz::Layer) is settled here, so that the engine only
//! compares. An invalid policy never disappears: every target that it attaches to denies everything.

mod attach;
mod convert;
mod engine;
mod peer;
#[cfg(test)]
mod tests;
mod validate;
mod values;
mod ztunnel;

pub use attach::{Attaches, GatewayTarget, PolicyInput, Registry, Target, attached};
pub use engine::{Asked, Authorizers, MeshSettings, engine};
pub use peer::{PeerInput, strict_ports, validate_peer};
pub use validate::validate;
pub(crate) use ztunnel::ztunnel;

pub(in crate::compile) use engine::rules_about_tokens;
pub(in crate::compile) use validate::Check;

use crate::config::Entry;

/// Why an object must not be trusted, if so.
pub(in crate::compile) fn broken(entry: &Entry) -> Option<&str> {
    entry.broken.as_deref()
}
