//! Request authentication: whose tokens are believed, and what becomes of a request that carries one.
//!
//! ```text
//! RequestAuthentication ──compile──▶ TokenRules ──judge(&head, now, &keys)──▶ Verdict
//!                                                                              ├─ Absent     nobody showed a token
//!                                                                              ├─ Accepted   claims, and edits of the request
//!                                                                              ├─ Refused    401, or 403 for the audience
//!                                                                              └─ Wait       for keys that are being fetched
//! ```
//!
//! Everything here is pure: keys come from a [`KeyRing`], the time is an argument. The order of the checks and the words
//! of the refusals are Envoy's (`jwt_authn`), which is what clients of Istio know. Stricter on purpose: every token that
//! stands at a place that is looked at must be valid, repetitions included; members of header and payload are unique;
//! symmetric algorithms are not believed, since whoever can read a key set could then sign; `crit` is refused.

mod cache;
mod edit;
mod json;
mod jws;
mod keys;
mod location;
mod reject;
mod rules;
#[cfg(test)]
mod tests;

pub use cache::TokenCache;
pub use jws::{Claims, MAX_TOKEN, Token};
pub use keys::{Algorithm, KeySet, KeySetError};
pub use location::Location;
pub use reject::Reject;
pub use rules::{ClaimHeader, KeyRing, Lookup, TokenRule, TokenRules, Verdict};
