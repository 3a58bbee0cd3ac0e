//! The engines: pure, synchronous, total. They take a borrowed view of a request and answer; they do no I/O
//! and have no clock, no randomness and no Kubernetes types of their own.

pub mod authorizer;
pub mod authz;
pub mod balance;
#[cfg(test)]
pub(crate) mod cases;
pub mod connection;
mod digest;
pub mod fault;
pub mod forwarded;
mod head;
pub mod limit;
pub mod normalize;
mod outcome;
pub mod outlier;
pub mod retry;
pub mod route;
pub mod timeout;
pub mod tls;
#[cfg(feature = "jwt")]
pub mod token;
pub mod traffic;

pub use digest::digest;
pub use head::{Caller, ConnectionHead, RequestHead};
pub use outcome::Outcome;
pub use retry::RetryPolicy;
