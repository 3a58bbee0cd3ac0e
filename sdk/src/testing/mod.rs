//! Policies as tests: what the configuration says of a request, without sockets, processes or certificates.
//!
//! ```
//! use inmesh::testing::{Policies, get, post};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # std::fs::write(folder.path().join("readers.yaml"), "
//! # apiVersion: security.istio.io/v1
//! # kind: AuthorizationPolicy
//! # metadata: {name: readers, namespace: default}
//! # spec:
//! #   selector: {matchLabels: {app: productpage}}
//! #   rules:
//! #   - from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]
//! #     to: [{operation: {methods: [GET]}}]
//! #   - to: [{operation: {paths: [/healthz]}}]
//! # ").unwrap();
//! # let path = folder.path();
//! # /*
//! let path = "policies/"; // the YAML that the cluster gets
//! # */
//! let policies = Policies::load(path).unwrap();
//! let productpage = policies.workload("productpage", "default");
//! let curl = "cluster.local/ns/default/sa/curl";
//!
//! productpage.request(get("/x").from(curl)).assert_allowed().assert_by("default/readers", 0);
//! productpage.request(post("/x").from(curl)).assert_denied();
//! productpage.request(get("/x").from("cluster.local/ns/default/sa/other")).assert_denied();
//!
//! // What no test has reached is not tested.
//! let coverage = policies.coverage();
//! assert_eq!((coverage.reached(), coverage.rules().len()), (1, 2));
//! let missed: Vec<_> = coverage.unreached().map(|rule| rule.to_string()).collect();
//! assert!(missed[0].ends_with("AuthorizationPolicy default/readers rule 1"), "{missed:?}");
//! ```
//!
//! * [`Policies`] are what the YAML says, to be asked in a plain `#[test]`.
//! * [`cases`] runs files of cases: policies, facts of the mesh, requests and what must come of them; `waypoint test` is
//!   the same for people without Rust.
//! * [`Issuer`] makes tokens that a RequestAuthentication believes, and such that it must not.
//!
//! Everything is answered by the engines that answer requests.

pub mod cases;
mod coverage;
mod issuer;
mod judge;
mod policies;
mod request;
mod target;
#[cfg(test)]
mod tests;
mod verdict;

pub use coverage::{Coverage, Covered};
pub use issuer::{Issuer, TokenState};
pub use policies::{LoadError, Policies};
pub use request::{Request, get, post, request};
pub use target::Target;
pub use verdict::{Answer, Verdict};

/// Makes every random choice on this thread follow from a number: shares of backends, faults and copies, jitter, the
/// endpoints of a balancer.
///
/// In tokio's current-thread runtime with its time paused, a test that begins with this sees the same every time.
pub fn seed(seed: u64) {
    fastrand::seed(seed);
}
