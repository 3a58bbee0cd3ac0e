//! The nouns every other room speaks with: identities, hosts, resources, peers.
//!
//! Nothing here does more than parse, display, compare and order.

mod chain;
mod field;
mod host;
mod peer;
mod resource;
mod spiffe;

pub(crate) use chain::chain;
pub(crate) use field::field;
pub use host::{Host, HostError};
pub(crate) use host::{check_authority, check_host, split_authority, with_lower_host};
pub(crate) use peer::{FORWARDED_CLIENT_CERT, INTRODUCTION};
pub use peer::{Greeting, IntroducedBy, Original, Peer, PeerIdentity};
pub use resource::{Kind, ResourceRef, ServiceName, WorkloadName};
pub use spiffe::{SpiffeError, SpiffeId, TrustDomain};
