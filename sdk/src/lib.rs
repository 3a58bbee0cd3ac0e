//! inmesh — the service mesh, in process.
//!
//! Written intent is compiled into one immutable [`snapshot::Snapshot`]; every request reads that snapshot once and walks
//! one stack of layers; the three programs (server, client, waypoint) differ only in what is fastened to the stack's two
//! ends.
//!
//! ```text
//! client     ObserveClient ─ Route ─ Retry ─ Balance ─ Upstream
//! server     HBONE ─ Observe ─ Authorize ─ application
//! waypoint   HBONE ─ Observe ─ Authorize ─ Route ─ Retry ─ Balance ─ Upstream
//! ```
//!
//! Start with [`Mesh`]. The rooms, from the ground up: [`name`] · [`matcher`], [`telemetry`], [`identity`], [`config`] ·
//! [`source`], [`policy`], [`hbone`] · [`snapshot`] · [`compile`], [`layer`] · [`control`], [`client`], [`server`] ·
//! [`mesh`] · [`waypoint`]. Imports only ever point down; `tests/tests/house.rs` sees to it.
//!
//! # Features
//!
//! | feature | brings | default |
//! | --- | --- | --- |
//! | `otel` | OpenTelemetry's trace context and the bridge from `tracing`; the application owns its SDK | yes |
//! | `otlp` | OTLP export that we set up ([`telemetry::export`](crate::telemetry)) | no |
//! | `axum` | `axum::serve` on a mesh listener, [`PeerIdentity`] as an extractor | no |
//! | `dev-ca` | a certificate authority for demos and tests | no |
//! | `jwt` | RequestAuthentication | no |
//! | `extauthz` | `CUSTOM` authorization | no |
//! | `testing` | policies as tests: `inmesh::testing` | no |
//! | `cli` | the `waypoint` binary | no |
//!
//! Features only add. The long-form guide is in [`docs`].

pub mod client;
pub mod compile;
pub mod config;
pub mod control;
pub mod docs;
pub mod explain;
pub mod hbone;
pub mod identity;
pub mod layer;
pub mod matcher;
pub mod mesh;
pub mod name;
pub mod policy;
pub mod server;
pub mod snapshot;
pub mod source;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod watch;
pub mod waypoint;

pub use client::Client;
pub use layer::{Idempotency, MeshBody as Body, Reason, Refusal, ReplayMemory};
pub use mesh::{Error, ErrorKind, Mesh, MeshBuilder};
pub use name::{IntroducedBy, Original, Peer, PeerIdentity, SpiffeId, TrustDomain};
pub use waypoint::Waypoint;

/// The programs of the README, compiled.
#[cfg(all(doctest, feature = "axum", feature = "testing"))]
#[doc = include_str!("../../README.md")]
pub struct Readme;
