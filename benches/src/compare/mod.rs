//! Whole requests through four shapes of the same call: GET, answered with 64 bytes.
//!
//! ```text
//! a bare       load ══ HTTP/2, mTLS ══ backend              hyper and rustls, nothing of ours
//! b library    load ══ HBONE ══ backend                     inmesh on both sides
//! c waypoint   load ══ HBONE ══ waypoint ══ HBONE ══ backend
//! d envoy      load ══ HBONE ══ Envoy ══ HBONE ══ backend
//!              └──── one core ───── the other ──── one core
//! ```
//!
//! Every box is a process of its own with one thread that serves requests. The program starts itself again for
//! each of them; rounds of all shapes are interleaved, and a ratio is the median of the ratios
//! within each round, because machines are noisy.

mod args;
mod bare;
mod child;
mod load;
mod machine;
mod mesh;
mod report;
mod role;
mod run;
mod shape;
mod town;
mod world;

pub use args::{Args, Shape};

/// Runs the comparison, or the role of one process in it.
pub fn main(args: Args) -> anyhow::Result<()> {
    match &args.role {
        Some(role) => role::play(role),
        None => run::run(&args),
    }
}
