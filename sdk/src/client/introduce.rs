//! Whom a request is sent on for: what a waypoint tells the destination of its caller.

use http::{HeaderMap, HeaderValue, Request};

use super::Wire;
use crate::layer::{Call, MeshBody};
use crate::name::{FORWARDED_CLIENT_CERT, INTRODUCTION, SpiffeId};
use crate::policy::balance::Endpoint;
use crate::snapshot::{InboundPolicy, Snapshot};

/// The caller that a request is sent on for, and to whom.
#[derive(Clone, Debug)]
pub(super) struct OnBehalf {
    caller: SpiffeId,
    audience: SpiffeId,
}

impl OnBehalf {
    /// Takes off what the caller of a received request says of itself, and finds out what is to be said instead.
    ///
    /// A request that this process makes itself is nobody else's.
    pub(super) fn of(call: &mut Call, endpoint: &Endpoint) -> Option<Self> {
        call.place.as_ref()?;
        let headers = call.request.headers_mut();
        headers.remove(INTRODUCTION);
        headers.remove(FORWARDED_CLIENT_CERT);
        let caller = call.peer.as_ref()?.identity.clone()?;
        forward_client_cert(headers, &call.view, &caller);
        let audience = endpoint.identities.first()?.clone();
        Some(Self { caller, audience })
    }

    /// Introduces the caller on a connection that was made with the credential of `epoch`.
    pub(super) fn introduce(&self, request: &mut Request<MeshBody>, wire: &Wire, epoch: Option<u64>) {
        let (Some(introducer), Some(epoch)) = (wire.introducer(), epoch) else {
            return;
        };
        match introducer.introduce(&self.caller, &self.audience, epoch) {
            Some(words) => {
                request.headers_mut().insert(INTRODUCTION, words);
            }
            None => {
                request.headers_mut().remove(INTRODUCTION);
            }
        }
    }
}

/// As Istio's waypoints do it where the Gateway asks for it.
fn forward_client_cert(headers: &mut HeaderMap, view: &Snapshot, caller: &SpiffeId) {
    let InboundPolicy::Waypoint(waypoint) = &view.inbound else {
        return;
    };
    if !waypoint.forwards_client_cert {
        return;
    }
    let by = view.my_identity.as_ref().map_or("", SpiffeId::as_str);
    if let Ok(value) = HeaderValue::try_from(format!("By={by};URI={caller}")) {
        headers.insert(FORWARDED_CLIENT_CERT, value);
    }
}
