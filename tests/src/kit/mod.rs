//! One cluster per test, in either shape.
//!
//! A [`Cluster`] is a folder of YAML, a certificate authority and a block of loopback addresses of its own; in it run
//! [`Pod`]s and waypoints, in this process or as processes. A [`World`] is the cluster most tests want, in one of two
//! [`Shape`]s: the policy in the workloads themselves, or in a waypoint.

pub mod admin;
pub mod authorizer;
pub mod block;
pub mod browser;
pub mod cluster;
pub mod collector;
pub mod counted;
pub mod door;
pub mod echo;
pub mod frames;
pub mod gatekeeper;
pub mod idp;
pub mod limiter;
pub mod load;
pub mod metrics;
pub mod plain;
pub mod process;
pub mod secure;
pub mod sockets;
pub mod town;
pub mod visitor;
pub mod wait;
pub mod wire;
pub mod world;

pub use admin::Admin;
pub use browser::Browser;
pub use cluster::{Cluster, Pod, PodSpec};
pub use door::{DOORS, Door, House};
pub use load::{Load, Tally};
pub use visitor::Visitor;
pub use world::{Shape, World};
