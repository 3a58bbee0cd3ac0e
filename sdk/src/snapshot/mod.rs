//! The waist: one immutable world per configuration generation, read once per request.

mod asks;
mod gate;
mod gateway;
mod inbound;
mod keys;
mod limits;
mod live;
mod mesh;
mod shedding;
pub(crate) mod tap;
mod told;
mod view;
mod way;

pub use crate::policy::authorizer::{Authorizer, BodyCheck, CheckProtocol, HttpCheck};
pub use asks::Asks;
pub use gate::{Gate, TokenGuard};
pub use gateway::{ClientTerms, GatewayView, ListenerView, Misfit, PassedOn, PortView, TlsTerms};
pub use inbound::{Claims, Findings, Passage, Passages, Place, Remark};
pub use keys::{KeyCell, KeySource};
pub use limits::{Context, GlobalLimit, Limiter, LimiterKind, Met, RateLimits, Scope, Setting};
pub use live::Live;
pub use mesh::{MeshFacts, ProxyHeaders, TraceFacts, TraceProvider};
pub use shedding::{Importance, Shedding, SheddingPolicy};
pub use tap::{Tap, Wanted};
pub use told::{ByService, MetricPlans};
pub use view::{
    AppProtocol, Cluster, InboundPolicy, Node, PodView, Role, ServiceGuard, ServiceId, ServicePortView,
    ServiceView, Snapshot, StrictPorts, Via, WaypointInbound, WaypointTarget, WorkloadInbound,
};
pub use way::{Astray, Way};
