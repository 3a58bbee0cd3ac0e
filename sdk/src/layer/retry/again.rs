//! Again: what another attempt is made of.

use std::sync::Arc;

use http::{Extensions, HeaderMap, Method, Request, Uri, Version};
use tokio::time::Instant;

use super::replay::{Replay, ReplayMemory};
use crate::layer::MeshBody;
use crate::layer::call::{Call, Destination, Routed, Won};
use crate::layer::notes::Notes;
use crate::layer::refusal::is_grpc;
use crate::name::Peer;
use crate::policy::balance::{Endpoint, EndpointKey, Tried};
use crate::policy::retry::RetryPolicy;
use crate::snapshot::{AppProtocol, Findings, Place, Snapshot};

/// What another attempt is made of.
#[derive(Debug)]
pub(super) struct Again {
    view: Arc<Snapshot>,
    place: Option<Arc<Place>>,
    peer: Option<Arc<Peer>>,
    rule: Option<Won>,
    to: Destination,
    pinned: Option<Arc<Endpoint>>,
    hash: Option<u64>,
    tried: Tried,
    /// Priorities that attempts went to, as bits.
    priorities: u64,
    avoid_endpoints: bool,
    avoid_priorities: bool,
    notes: Option<Arc<Notes>>,
    /// A faithful copy of the request, where the policy may want one.
    copy: Option<Box<Copy>>,
}

#[derive(Debug)]
struct Copy {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    /// What an upgrade's two ends are joined by, and what its answer must look like.
    extensions: Extensions,
    body: Kept,
}

/// How a body is sent again.
#[derive(Debug)]
enum Kept {
    /// It is at hand.
    Whole(MeshBody),
    /// From what was kept while it was sent.
    Streamed(Replay),
}

/// Istio's `update_frequency`: after so many attempts the priorities that they went to are left out.
const UPDATE_FREQUENCY: u32 = 2;

impl Again {
    /// Takes down what an attempt is made of, and if need be puts a body into its place that is kept while it is read.
    pub(super) fn new(routed: &mut Routed, policy: &RetryPolicy, memory: &ReplayMemory) -> Self {
        let (http2, hashed) = match &routed.to {
            Destination::Cluster(cluster) => (
                cluster.protocol == AppProtocol::Http2,
                cluster.endpoints.policy().balance.algorithm.is_consistent(),
            ),
            Destination::Endpoint(_) => (false, false),
        };
        let http2 = http2 || is_grpc(routed.call.request.headers());
        // Over HTTP/1 the default policy only ever repeats what was not sent: no copy needed.
        let copy = policy
            .repeats_sent(http2)
            .then(|| Box::new(Copy::of(&mut routed.call.request, memory)));
        Self {
            view: Arc::clone(&routed.call.view),
            place: routed.call.place.clone(),
            peer: routed.call.peer.clone(),
            rule: routed.rule.clone(),
            to: routed.to.clone(),
            pinned: routed.pinned.clone(),
            hash: routed.hash,
            tried: routed.tried.clone(),
            priorities: 0,
            avoid_endpoints: policy.avoids_previous(hashed),
            avoid_priorities: policy.avoid_previous_priorities,
            notes: routed.call.notes.clone(),
            copy,
        }
    }

    /// The next attempt, with the request that came back unsent or a copy of it; or why there is neither.
    pub(super) fn routed(
        &mut self,
        unsent: Option<Box<Request<MeshBody>>>,
        tried: Option<&EndpointKey>,
        attempt: u32,
    ) -> Result<Routed, &'static str> {
        let request = match (unsent, &self.copy) {
            (Some(request), _) => request,
            (None, Some(copy)) => Box::new(copy.request()?),
            (None, None) => return Err("body_sent"),
        };
        if let Some(tried) = tried {
            self.avoid(tried, attempt);
        }
        let call = Call {
            request,
            view: Arc::clone(&self.view),
            place: self.place.clone(),
            peer: self.peer.clone(),
            dialled: None,
            // Authorization, which asks for them, is behind us.
            found: Findings::default(),
            notes: self.notes.clone(),
        };
        Ok(Routed {
            call,
            rule: self.rule.clone(),
            to: self.to.clone(),
            pinned: self.pinned.clone(),
            hash: self.hash,
            tried: self.tried.clone(),
            at: Instant::now().into_std(),
            until: None,
            attempt,
        })
    }

    fn avoid(&mut self, tried: &EndpointKey, attempt: u32) {
        if self.avoid_priorities
            && let Destination::Cluster(cluster) = &self.to
        {
            let was = cluster.endpoints.endpoints().iter().find(|it| it.key == *tried);
            let bit = was.and_then(|it| 1_u64.checked_shl(it.rank.priority));
            self.priorities |= bit.unwrap_or(0);
            if (attempt - 1).is_multiple_of(UPDATE_FREQUENCY) {
                self.tried.priorities = self.priorities;
            }
        }
        if self.avoid_endpoints {
            self.tried.endpoints.push(tried.clone());
        }
    }
}

impl Copy {
    fn of(request: &mut Request<MeshBody>, memory: &ReplayMemory) -> Self {
        let body = match request.body().try_clone() {
            Some(body) => Kept::Whole(body),
            None => {
                let replay = Replay::new(std::mem::take(request.body_mut()), memory.clone());
                // Nothing has been read, hence nothing lost.
                *request.body_mut() = replay.body().unwrap_or_default();
                Kept::Streamed(replay)
            }
        };
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            extensions: request.extensions().clone(),
            body,
        }
    }

    fn request(&self) -> Result<Request<MeshBody>, &'static str> {
        let body = match &self.body {
            Kept::Whole(body) => body.try_clone().ok_or("body_sent")?,
            Kept::Streamed(replay) => replay.body().map_err(|lost| lost.as_str())?,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = self.extensions.clone();
        Ok(request)
    }
}
