//! HTTPRoutes and GRPCRoutes that want the same requests: exactly one of two is accepted (GRPCRouteSpec.hostnames).

use super::route::RouteInput;
use crate::name::Kind;

/// Those of `routes` that are accepted where any two may overlap: the older of two kinds that do, then the first by
/// `namespace/name`. Routes of one kind never exclude each other.
pub(crate) fn accepted<'a>(
    mut routes: Vec<RouteInput<'a>>,
    overlap: &dyn Fn(&RouteInput<'_>, &RouteInput<'_>) -> bool,
) -> Vec<RouteInput<'a>> {
    let mut kinds = routes.iter().map(|it| it.route.kind());
    let first = kinds.next();
    if kinds.all(|kind| Some(kind) == first) {
        return routes;
    }
    routes.sort_by_key(|it| {
        let meta = it.route.metadata();
        let created = it.route.created().unwrap_or(u64::MAX);
        (created, meta.namespace.clone(), meta.name.clone())
    });
    let mut accepted: Vec<RouteInput<'a>> = Vec::with_capacity(routes.len());
    for route in routes {
        let loses = accepted
            .iter()
            .any(|other| exclude(other.route.kind(), route.route.kind()) && overlap(other, &route));
        if !loses {
            accepted.push(route);
        }
    }
    accepted
}

/// TCPRoutes and TLSRoutes stand beside each other: a connection is asked for its server name first.
fn exclude(one: Kind, other: Kind) -> bool {
    matches!(
        (one, other),
        (Kind::HTTPRoute, Kind::GRPCRoute) | (Kind::GRPCRoute, Kind::HTTPRoute)
    )
}

/// Routes of a Service port share every request: host names mean nothing there.
pub(crate) fn always(_: &RouteInput<'_>, _: &RouteInput<'_>) -> bool {
    true
}
