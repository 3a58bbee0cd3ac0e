//! The long-form guide: one page per module, without code.

#[doc = include_str!("access-logs.md")]
pub mod access_logs {}

#[doc = include_str!("compile.md")]
pub mod compile {}

#[doc = include_str!("conformance.md")]
pub mod conformance {}

#[doc = include_str!("connections.md")]
pub mod connections {}

#[doc = include_str!("enforcement.md")]
pub mod enforcement {}

#[doc = include_str!("envoy.md")]
pub mod envoy {}

#[doc = include_str!("filters.md")]
pub mod filters {}

#[doc = include_str!("hardening.md")]
pub mod hardening {}

#[doc = include_str!("identity.md")]
pub mod identity {}

#[doc = include_str!("live-view.md")]
pub mod live_view {}

#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("routing.md")]
pub mod routing {}

#[doc = include_str!("runbook.md")]
pub mod runbook {}

#[doc = include_str!("status.md")]
pub mod status {}

#[doc = include_str!("tracing.md")]
pub mod tracing {}

#[doc = include_str!("traffic.md")]
pub mod traffic {}

#[doc = include_str!("virtual-service.md")]
pub mod virtual_service {}
