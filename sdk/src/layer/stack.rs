//! The table of contents of the request path.
//!
//! ```text
//! client     ObserveClient ─ Route ─ Retry ─ Balance ─ Upstream
//! server     Observe ─ Authenticate ─ Authorize ─ application
//! waypoint   Observe ─ Authenticate ─ Authorize ─ Route ─ Retry ─ Balance ─ Upstream
//! ```
//!
//! `Authenticate` is there with feature `jwt`, and passes straight through where no policy asks about tokens.

use std::sync::Arc;

use tower_layer::Layer;

use super::{
    Authorize, AuthorizeLayer, Balance, BalanceLayer, Directory, Observe, ObserveClient, Origin, Retry,
    RetryLayer, Route, RouteLayer,
};
use crate::snapshot::Live;
use crate::telemetry::Meter;

/// What a server puts in front of its application.
pub type Inbound<S> = Observe<Authenticated<Authorize<S>>>;

#[cfg(feature = "jwt")]
type Authenticated<S> = super::Authenticate<S>;
#[cfg(not(feature = "jwt"))]
type Authenticated<S> = S;

/// What a client sends its requests through.
pub type Outbound<D, S> = ObserveClient<Forward<D, S>>;

/// The outbound layers without the observation, as a waypoint uses them behind its inbound half.
pub type Forward<D, S> = Route<Retry<Balance<S>>, D>;

/// Observe → Authenticate → Authorize → `next`.
pub fn inbound<S>(origin: Arc<Origin>, next: S) -> Inbound<S> {
    let stack = AuthorizeLayer::new(origin.meter().clone()).layer(next);
    #[cfg(feature = "jwt")]
    let stack = super::AuthenticateLayer::new(origin.meter().clone()).layer(stack);
    Observe::new(origin, stack)
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
