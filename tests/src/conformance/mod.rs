//! The Gateway API conformance suite's own cases, without Kubernetes.
//!
//! A file of cases ([`case`]) says what the suite sends and expects. Its manifests ([`manifest`]) become a watched folder;
//! Gateways stay or become Services ([`mapping`]); each Deployment's pods run the echo backend ([`pods`], [`echo`]) as
//! workloads of the mesh; Gateways and waypoints run in this process or as processes ([`gateway`]). [`run`] sends with
//! real clients ([`client`]) and compares ([`compare`], [`status`]).
//!
//! ```text
//! case ─▶ Site (manifests ─▶ mapping ─▶ folder; gateways; clients) ─▶ probe ─▶ client ─▶ … mesh … ─▶ echo ─▶ ledger
//!                                                                                   │                     │
//! report ◀──────────────────────────── compare ◀───────────────────────────── answer┴────────────── seen ─┘
//! ```

pub mod args;
pub mod case;
pub mod client;
pub mod compare;
pub mod echo;
pub mod fixture;
pub mod gateway;
pub mod ledger;
pub mod manifest;
pub mod mapping;
pub mod mesh;
pub mod pods;
pub mod probe;
pub mod report;
pub mod run;
pub mod shape;
pub mod site;
pub mod status;
pub mod town;
