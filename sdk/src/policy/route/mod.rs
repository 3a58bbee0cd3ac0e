//! Routing: which rule of a service decides, and which backend gets the request.
//!
//! A [`RouteTable`] is a list of alternatives in one total order, fixed when the table is built, and an index over
//! it. [`RouteTable::find`] gives the first alternative whose predicates hold; nothing is compared at request time.
//! It comes in sections, since Gateway API ranks matches by what they ask and Istio by where they stand (see
//! [`listed`]).
//!
//! ```text
//! host ──► exact host ─┐
//!      ├─► *.suffixes ─┼─► exact path ─► prefixes, longest first ─► expressions ─► catch-alls
//!      └─► any host ───┘
//! ```

mod backend;
mod bucket;
mod builder;
mod cors;
mod edit;
mod explain;
mod expressions;
mod index;
pub mod listed;
mod mirror;
mod redirect;
mod rewrite;
mod rule;
mod session;
mod share;
mod table;
#[cfg(test)]
mod tests;
mod texts;
mod windows;

pub use backend::{Backend, Backends, Target};
pub use builder::{Alternative, Predicates, RouteTableBuilder};
pub use cors::{Cors, CorsVerdict, Listed, OriginHost, OriginPattern, UnmatchedPreflight};
pub use edit::HeaderEdits;
pub use explain::{Ask, Candidate, Property, Verdict};
pub use mirror::{Mirror, shadow_host};
pub use redirect::{Redirect, RedirectPort};
pub use rewrite::{PathRewrite, Rewrite};
pub use rule::{Action, PathName, RouteRule, RuleOrigin};
pub use session::{Carrier, CookiePath, Session, Token};
pub use share::Share;
pub use table::{Found, RouteTable};

pub use super::timeout::Timeouts;

/// Index of a [`Cluster`](crate::snapshot::Cluster) in the pinned snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// Index of a rule in its route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);
