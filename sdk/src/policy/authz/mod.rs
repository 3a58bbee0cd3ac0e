//! Authorization: may this caller do this here?
//!
//! ```text
//! AuthorizationPolicy ──compile──▶ EngineBuilder ──build──▶ AuthzEngine ──decide(&head)──▶ Decision
//!                                                             ├─ audit(&head)    which AUDIT rule matched
//!                                                             └─ shadow(&head)   what dry-run policies would say
//! ```
//!
//! An [`AuthzEngine`] holds the rules of all policies that attach to one target, for one of Istio's three
//! [`Layer`]s. Rules are filed under the rarest text that a request must have to match them, so that the cost of a
//! decision follows the number of rules that may match, not of those that exist.
//!
//! Where a rule cannot be judged (a header that must be compared as text is not text) the answer is "deny",
//! whether the rule opens or closes.

mod engine;
mod explain;
mod facts;
mod index;
mod rule;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;

pub use engine::{AuthzEngine, Decision, EngineBuilder, RuleRef};
pub use explain::{Alternative, Asked, Holds, RuleTold};
pub(in crate::policy) use facts::any_text;
pub use rule::{Action, AuthzRule, Clause, Condition, HeaderKey, Layer, Part, RequestPrincipal, Test};
