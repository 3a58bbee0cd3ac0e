//! Load balancing: endpoints, their live cells, and the choice among them.

mod endpoint;
mod set;

pub use endpoint::{Endpoint, EndpointCell, EndpointKey, InFlight, Workload};
pub use set::EndpointSet;
