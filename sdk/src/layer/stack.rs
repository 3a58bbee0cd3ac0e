//! The table of contents of the request path.
//!
//! ```text
//! client     ObserveClient ─ Route ─ Mirror ─ Retry ─ Balance ─ Upstream
//! server     Observe ─ Consult ─ Authenticate ─ Authorize ─ Admit ─ application
//! waypoint   Observe ─ Consult ─ Authenticate ─ Authorize ─ Admit ─ Route ─ Mirror ─ Retry ─ Balance ─ Upstream
//! ```
//!
//! `Consult` and `Authenticate` are there with features `extauthz` and `jwt`, and pass straight through where no policy asks
//! for them.

use std::sync::Arc;

use tower_layer::Layer;

use super::{
    Admit, AdmitLayer, Asker, Authorize, AuthorizeLayer, Balance, BalanceLayer, Directory, Mirror, Observe,
    ObserveClient, Origin, Retry, RetryLayer, Route, RouteLayer,
};
use crate::snapshot::Live;
use crate::telemetry::Meter;

/// What a server puts in front of its application.
pub type Inbound<S> = Observe<Consulted<Authenticated<Authorize<Admit<S>>>>>;

#[cfg(feature = "extauthz")]
type Consulted<S> = super::Consult<S>;
#[cfg(not(feature = "extauthz"))]
type Consulted<S> = S;

#[cfg(feature = "jwt")]
type Authenticated<S> = super::Authenticate<S>;
#[cfg(not(feature = "jwt"))]
type Authenticated<S> = S;

/// What a client sends its requests through.
pub type Outbound<D, S> = ObserveClient<Forward<D, S>>;

/// The outbound layers without the observation, as a waypoint uses them behind its inbound half.
pub type Forward<D, S> = Route<Mirror<Retry<Balance<S>>, Balance<S>>, D>;

/// Observe → Consult → Authenticate → Authorize → Admit → `next`.
pub fn inbound<S>(origin: Arc<Origin>, next: S) -> Inbound<S> {
    let stack = AdmitLayer::new(origin.asker(), origin.meter().clone()).layer(next);
    let stack = AuthorizeLayer::new(origin.meter().clone()).layer(stack);
    #[cfg(feature = "jwt")]
    let stack = super::AuthenticateLayer::new(origin.meter().clone()).layer(stack);
    #[cfg(feature = "extauthz")]
    let stack = super::ConsultLayer::new(origin.asker(), origin.meter().clone()).layer(stack);
    Observe::new(origin, stack)
}

/// ObserveClient → Route → Mirror → Retry → Balance → `next`.
pub fn outbound<D: Directory, S: Clone>(
    live: Arc<Live>,
    meter: Meter,
    retry: &RetryLayer,
    directory: D,
    asker: Option<Asker>,
    next: S,
) -> Outbound<D, S> {
    ObserveClient::new(live, meter.clone(), forward(meter, retry, directory, asker, next))
}

/// Route → Mirror → Retry → Balance → `next`; copies go straight from Mirror to Balance.
pub fn forward<D: Directory, S: Clone>(
    meter: Meter,
    retry: &RetryLayer,
    directory: D,
    asker: Option<Asker>,
    next: S,
) -> Forward<D, S> {
    let balance = BalanceLayer::new(meter.clone()).layer(next);
    let retry = retry.layer(balance.clone());
    RouteLayer::new(directory, meter.clone())
        .asking(asker)
        .layer(Mirror::new(retry, balance, meter))
}
