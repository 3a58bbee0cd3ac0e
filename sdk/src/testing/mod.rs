//! Policies as tests: what the configuration says of a request, without sockets, processes or certificates.
//!
//! * [`cases`] runs files of cases: policies, facts of the mesh, requests and what must come of them.
//! * [`Issuer`] makes tokens that a RequestAuthentication believes, and such that it must not.
//!
//! Everything is answered by the engines that answer requests.

pub mod cases;
mod issuer;

pub use issuer::{Issuer, TokenState};

/// Makes every random choice on this thread follow from a number: shares of backends, faults and copies, jitter, the
/// endpoints of a balancer.
///
/// In tokio's current-thread runtime with its time paused, a test that begins with this sees the same every time.
pub fn seed(seed: u64) {
    fastrand::seed(seed);
}
