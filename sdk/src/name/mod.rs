//! The nouns every other room speaks with: identities, hosts, resources, peers.
//!
//! Nothing here does more than parse, display, compare and order.

mod chain;
mod host;
mod peer;
mod resource;
mod spiffe;

pub(crate) use chain::chain;
pub(crate) use host::split_authority;
pub use host::{Host, HostError};
pub use peer::{Peer, PeerIdentity};
pub use resource::{Kind, ResourceRef, ServiceName, WorkloadName};
pub use spiffe::{SpiffeError, SpiffeId, TrustDomain};
