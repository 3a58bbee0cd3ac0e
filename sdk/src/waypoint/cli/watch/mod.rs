//! The commands that ask a running participant, a waypoint or an application, over its admin endpoint.

mod dump;
mod endpoint;
mod graph;
mod log;
mod shown;
mod tap;
mod top;

pub(super) use dump::Dump;
pub(super) use graph::Graph;
pub(super) use log::Log;
pub(super) use tap::Tap;
pub(super) use top::Top;
