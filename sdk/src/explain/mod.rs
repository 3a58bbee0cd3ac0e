//! Why a request is treated as it is: the engines' own answers, for a request that need not be sent.
//!
//! A request meets a policy point after the other: the caller's routes, perhaps a waypoint, the workload. What happens at
//! one of them is a [`Hop`]; [`hop`] asks the snapshot that is in force there the same questions as the layers do.
//!
//! ```no_run
//! # fn ask(mesh: &inmesh::Mesh) -> Result<(), inmesh::explain::Malformed> {
//! use inmesh::explain::Question;
//!
//! let question = Question::new("GET", "http://reviews:9080/reviews/0")?.header("end-user", "jason")?;
//! println!("{}", mesh.explain(&question));
//! # Ok(())
//! # }
//! ```
//!
//! Every type here serializes to JSON, and a [`Question`] is read from it, as the admin endpoint takes it:
//!
//! ```
//! use inmesh::explain::Question;
//!
//! let question: Question = serde_json::from_str(r#"{
//!     "method": "GET", "url": "http://reviews:9080/reviews/0", "headers": [["end-user", "jason"]],
//!     "from": "spiffe://cluster.local/ns/default/sa/curl", "at": "workload:9080"
//! }"#).unwrap();
//! ```
//!
//! A connection that is not HTTP is asked about as `CONNECT tcp://redis:6379`, one that opens with TLS of its own as
//! `CONNECT tls://db:5432` ([`Question::server_name`] says whom it asks for).
//!
//! # What is shown
//!
//! Values that are likely secrets (`authorization`, cookies, anything called a token or a key) are never shown, only that
//! they are there. Of headers and claims that policies judge, no value is shown unless the question says so
//! ([`Question::with_values`]): they may be about people.

mod answer;
mod authorization;
mod connection;
mod filter;
mod hop;
mod question;
#[cfg(feature = "cli")]
mod reach;
mod redact;
mod text;

pub use answer::{
    Ask, Authorization, Backend, Candidate, Condition, Endpoint, Explanation, Hop, Input, Judged, Outcome,
    Request, Routing, Rule,
};
#[cfg(feature = "testing")]
pub(crate) use authorization::decision;
pub use hop::hop;
pub(crate) use hop::{arrival, here};
pub use question::{Malformed, Question};
#[cfg(feature = "cli")]
pub(crate) use reach::clusters;
pub(crate) use redact::query as hide_secrets;
