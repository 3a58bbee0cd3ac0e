//! The kit of the end-to-end tests: what they need beside the library itself.

pub mod conformance;
pub mod corpus;
pub mod envoy;
pub mod kit;
pub mod pki;
pub mod tls;
