//! Policies as tests: what the configuration says of a request, without sockets, processes or certificates.
//!
//! * [`cases`] runs files of cases: policies, facts of the mesh, requests and what must come of them.
//! * [`Issuer`] makes tokens that a RequestAuthentication believes, and such that it must not.
//!
//! Everything is answered by the engines that answer requests.

pub mod cases;
mod issuer;

pub use issuer::{Issuer, TokenState};
