//! The demo as a person has it: real processes, real sockets, and real programs that look at them.
//!
//! What needs a program of another package says so, and is skipped, where that is missing.

mod browser;
mod check;
mod dashboards;
mod screenshots;
mod town;

/// The demo's own way to ask over HTTP.
#[path = "../../src/plain.rs"]
#[allow(dead_code)] // the demo reads more of an answer than its tests
mod plain;
