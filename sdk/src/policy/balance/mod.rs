//! Load balancing: endpoints, their live cells, and the choice among them.
//!
//! ```text
//! EndpointSet ── Picks (rebuilt when somebody is ejected or comes back) ── Level by priority ── Group by locality
//!                                                                                                │
//!                                  least request · peak EWMA · round robin · random · ring hash · Maglev ────┘
//! ```
//!
//! All that can be known beforehand is prepared: a choice reads one pointer, draws, and compares at most two counters.

mod alias;
mod cell;
mod endpoint;
mod group;
mod hash;
mod health;
mod latency;
mod locality;
mod maglev;
mod picks;
mod policy;
mod ring;
mod set;
mod stride;
#[cfg(test)]
mod tests;
mod warmup;

pub use cell::{EndpointCell, InFlight};
pub use endpoint::{Endpoint, EndpointKey, Rank, Workload};
pub use hash::{HashCookie, HashKey, Hashed, hash_of};
pub use locality::{Locality, NETWORK, compact, label_priority};
pub use maglev::is_prime;
pub use policy::{Algorithm, BalancePolicy};
pub use set::{Draw, EndpointSet, Tried};
pub use warmup::Warmup;

/// Maps 32 random bits onto `0..count`.
fn reduce(random: u32, count: usize) -> usize {
    ((u64::from(random) * count as u64) >> 32) as usize
}

/// Another random number made of one (the finalizer of SplitMix64).
fn mix(random: u64) -> u64 {
    let mut z = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
