//! Routes of connections that are not HTTP, or not to be opened: by what a TLS client says before anything is secret,
//! and by nothing else.
//!
//! ```text
//! bytes ─▶ HelloReader ─▶ Opening ─▶ ConnectionTable ─▶ ConnectionRule ─▶ a cluster, by weight
//! ```

mod hello;
mod table;
#[cfg(test)]
mod tests;

pub use hello::{Heard, HelloReader, LONGEST_HELLO};
pub use table::{ConnectionRule, ConnectionTable, ConnectionTableBuilder, Opening, Opens};
