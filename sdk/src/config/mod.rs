//! The shapes of Kubernetes, Gateway API and Istio resources, as YAML gives them.
//!
//! A field is declared in a shape only if inmesh enforces it, if it is known to have no effect on traffic (listed in
//! `inert.rs`), or if nothing enforces it yet (listed in `idle.rs`, and reported). Everything else that a file holds is
//! reported as ignored with its place, which is how "if it is parsed, it is enforced, refused or reported" is kept by
//! construction.

mod broken;
mod check;
pub mod core;
mod differ;
mod entry;
pub mod gateway;
mod idle;
mod inert;
pub mod istio;
mod kinds;
mod lines;
mod meta;
mod node;
mod problem;
mod resource;
mod split;
mod store;
mod typed;
mod wreck;
pub mod yaml;

pub use differ::Difference;
pub use entry::Entry;
pub(crate) use lines::Lines;
pub(crate) use meta::contains;
pub use meta::{LabelSelector, Labels, ObjectMeta};
pub use problem::{Place, Problem, Severity};
pub use resource::Resource;
pub use store::ResourceStore;
pub use yaml::Parsed;
