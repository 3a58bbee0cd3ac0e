//! Spans that the mesh records itself, as the mesh configuration and Telemetries say.
//!
//! ```text
//! headers ─▶ TracePlan: follow the caller, or Sampling::decide ─▶ Recording ─ finish(&Entry) ─▶ queue of the provider
//!                                                   └ not sampled, but Keep asks ─▶ LocalTrace, until its root has ended
//! ```
//!
//! No subscriber is needed for that and none is set. Where the application has an OpenTelemetry layer, which records the
//! mesh's `tracing` spans anyway, that is left to it: a request has one span, not two.
//!
//! A plan is made when configuration is compiled. A request whose trace is not recorded pays for the decision, and for
//! handing on the context that says so.

#[cfg(feature = "otlp")]
mod attributes;
#[cfg(feature = "otlp")]
mod keep;
mod plan;
mod request_id;
mod sampling;
#[cfg(feature = "otlp")]
mod span;
mod tag;

#[cfg(test)]
#[cfg(feature = "otlp")]
mod tests;

#[cfg(feature = "otlp")]
pub(crate) use keep::{LocalTrace, Room};
pub use plan::{Keep, Outlet, SpanProtocol, SpanTarget, TracePlan, TracePlans, Tracing};
pub use request_id::{Reason, RequestId};
pub use sampling::{Asked, Sampling};
#[cfg(feature = "otlp")]
pub(crate) use span::{Recording, Side, Told, Tried};
pub use tag::Tag;
