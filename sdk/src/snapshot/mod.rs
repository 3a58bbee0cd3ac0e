//! The waist: one immutable world per configuration generation, read once per request.

mod inbound;
mod live;
mod view;

pub use inbound::{Place, Remark};
pub use live::Live;
pub use view::{
    AppProtocol, Cluster, InboundPolicy, ListenerView, Node, PodView, Role, ServiceGuard, ServiceId,
    ServicePortView, ServiceView, Snapshot, StrictPorts, Via, WaypointInbound, WaypointTarget,
    WorkloadInbound,
};
