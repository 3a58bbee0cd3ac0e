//! The table of contents of the request path.
//!
//! ```text
//! client     ObserveClient ─ Route ─ Retry ─ Balance ─ Upstream
//! server     Observe ─ Authorize ─ application
//! waypoint   Observe ─ Authorize ─ Route ─ Retry ─ Balance ─ Upstream
//! ```

use std::sync::Arc;

use tower_layer::Layer;

use super::{
    Authorize, AuthorizeLayer, Balance, BalanceLayer, Directory, Observe, ObserveClient, Origin, Retry,
    RetryLayer, Route, RouteLayer,
};
use crate::snapshot::Live;
use crate::telemetry::Meter;

/// What a server puts in front of its application.
pub type Inbound<S> = Observe<Authorize<S>>;

/// What a client sends its requests through.
pub type Outbound<D, S> = ObserveClient<Forward<D, S>>;

/// The outbound layers without the observation, as a waypoint uses them behind its inbound half.
pub type Forward<D, S> = Route<Retry<Balance<S>>, D>;

/// Observe → Authorize → `next`.
pub fn inbound<S>(origin: Arc<Origin>, next: S) -> Inbound<S> {
    let authorize = AuthorizeLayer::new(origin.meter().clone()).layer(next);
    Observe::new(origin, authorize)
}

/// ObserveClient → Route → Retry → Balance → `next`.
pub fn outbound<D: Directory, S>(live: Arc<Live>, meter: Meter, directory: D, next: S) -> Outbound<D, S> {
    ObserveClient::new(live, meter.clone(), forward(meter, directory, next))
}

/// Route → Retry → Balance → `next`.
pub fn forward<D: Directory, S>(meter: Meter, directory: D, next: S) -> Forward<D, S> {
    let balance = BalanceLayer::new(meter.clone()).layer(next);
    let retry = RetryLayer::new(meter).layer(balance);
    RouteLayer::new(directory).layer(retry)
}
