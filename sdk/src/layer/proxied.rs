//! What a proxy says of itself in the headers of what it passes on: a waypoint and a Gateway do, the application's own
//! stack is no proxy.

use std::time::Duration;

use http::header::SERVER;
use http::{HeaderName, HeaderValue, Request, Response};

use super::call::Served;
use super::{MeshBody, Origin};
use crate::policy::forwarded;
use crate::snapshot::{Place, Snapshot};

pub(super) const UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// Writes down where a request came from, before anybody judges it.
pub(super) fn receive(request: &mut Request<MeshBody>, origin: &Origin, view: &Snapshot) {
    if matches!(*origin.place, Place::Workload { .. }) {
        return;
    }
    let (peer, edge) = (&origin.peer, view.edge(&origin.place));
    forwarded::receive(request.headers_mut(), peer.addr.ip(), peer.tls.is_some(), edge);
}

/// Says how long the upstream took, in milliseconds, and who answered, as the mesh's `proxyHeaders` want it.
pub(super) fn answer(response: &mut Response<MeshBody>, after: Duration, place: &Place, view: &Snapshot) {
    if matches!(place, Place::Workload { .. }) {
        return;
    }
    let headers = view.mesh.as_ref().map(|mesh| &mesh.proxy_headers);
    if response.extensions().get::<Served>().is_some() && headers.is_none_or(|it| !it.untimed) {
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let headers = response.headers_mut();
        headers.insert(UPSTREAM_SERVICE_TIME, HeaderValue::from(millis));
    }
    if let Some(server) = headers.and_then(|it| it.server.as_ref()) {
        response.headers_mut().insert(SERVER, server.clone());
    }
}
