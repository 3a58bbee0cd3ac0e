//! A request at three degrees of knowledge. What a layer takes says what must be settled before it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::header::HOST;
use http::uri::Authority;
use http::{Request, Uri};

use super::MeshBody;
use super::notes::Notes;
use crate::name::{Peer, field};
use crate::policy::balance::{Endpoint, Tried};
use crate::policy::forwarded::remote_addr;
use crate::policy::route::{Action, Backend, Mirror, RouteRule, RouteTable, RuleId};
use crate::policy::timeout::Limit;
use crate::policy::{Caller, RequestHead};
use crate::snapshot::tap::Phase;
use crate::snapshot::{Cluster, Findings, Place, Snapshot};

/// A request and the world it is judged in: nothing decided yet.
#[derive(Debug)]
pub struct Call {
    /// The request; its path is in normal form. Boxed, because it is handed from layer to layer and is large.
    pub request: Box<Request<MeshBody>>,
    /// The snapshot, pinned for the request's life.
    pub view: Arc<Snapshot>,
    /// Where it came in; `None` where this process itself is the caller.
    pub place: Option<Arc<Place>>,
    /// Who sent it; `None` where this process itself is the caller.
    pub peer: Option<Arc<Peer>>,
    /// What this process dials as the caller, where that is not the host that the request names.
    pub dialled: Option<Authority>,
    /// What was found out about it on the way here.
    pub found: Findings,
    /// What is written down of it, where somebody wants to know.
    pub(crate) notes: Option<Arc<Notes>>,
}

impl Call {
    /// A request that this process makes itself.
    pub fn outgoing(request: Request<MeshBody>, view: Arc<Snapshot>) -> Self {
        Self {
            request: Box::new(request),
            view,
            place: None,
            peer: None,
            dialled: None,
            found: Findings::default(),
            notes: None,
        }
    }

    /// The borrowed view that engines judge.
    pub fn head(&self) -> RequestHead<'_> {
        const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let request = &self.request;
        let uri = request.uri();
        let mut head = RequestHead::unsent(
            request.method(),
            authority(request),
            uri.path(),
            uri.query(),
            request.headers(),
        );
        if let Some(peer) = &self.peer {
            head.sni = peer.sni();
            if peer.tls.is_some() {
                head.scheme = "https";
            }
            let addr = peer.addr.ip().to_canonical();
            // Only at an edge does somebody count the proxies in front (Envoy `use_remote_address`).
            let edge = self.place.as_deref().and_then(|place| self.view.edge(place));
            head.caller = Caller {
                identity: peer.identity.as_ref(),
                addr,
                remote: remote_addr(request.headers(), addr, edge),
            };
            head.destination = match self.place.as_deref() {
                Some(Place::Workload { port } | Place::Service { port, .. } | Place::Pod { port, .. }) => {
                    SocketAddr::new(peer.local.ip().to_canonical(), *port)
                }
                Some(Place::Port { .. } | Place::Listener { .. }) => peer.local,
                None => NOWHERE,
            };
        }
        head.claims = self.found.claims(0).map(|claims| &**claims);
        head
    }
}

impl Call {
    /// Notes where the request is now, where somebody wants to know.
    pub(crate) fn mark(&self, phase: Phase) {
        if let Some(notes) = &self.notes {
            notes.mark(phase);
        }
    }

    /// Whether this process itself makes the call, or somebody who proved an identity of the mesh: who may steer what
    /// becomes of it.
    pub(super) fn is_from_mesh(&self) -> bool {
        self.peer.as_ref().is_none_or(|peer| peer.identity.is_some())
    }

    /// The authority that the caller dials: where the request goes, whatever host it names.
    pub(super) fn dialled(&self) -> &str {
        match &self.dialled {
            Some(dialled) => dialled.as_str(),
            None => authority(&self.request),
        }
    }
}

/// The authority a request names: of its URI, else its `Host` header; empty if neither says.
pub(crate) fn authority<B>(request: &Request<B>) -> &str {
    match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => field(request.headers(), &HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default(),
    }
}

/// Tells what a caller dials from the host that its request names.
///
/// As with hyper's own client, a URI says where a request goes, and a `Host` header beside it what the server is told.
/// From here on the request has one authority, the latter; the former is returned.
pub(super) fn dialled(request: &mut Request<MeshBody>) -> Option<Authority> {
    let dialled = request.uri().authority()?;
    let host = field(request.headers(), &HOST)?;
    if host.as_bytes().eq_ignore_ascii_case(dialled.as_str().as_bytes()) {
        return None;
    }
    let host = Authority::try_from(host.as_bytes()).ok()?;
    let dialled = dialled.clone();
    let mut parts = request.uri().clone().into_parts();
    parts.authority = Some(host);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    Some(dialled)
}

/// A request whose rule and destination are settled.
#[derive(Debug)]
pub struct Routed {
    /// The request, filters applied.
    pub call: Call,
    /// The rule that won; `None` where none was needed.
    pub rule: Option<Won>,
    /// Where it goes.
    pub to: Destination,
    /// The endpoint of the request's session: asked before any other.
    pub pinned: Option<Arc<Endpoint>>,
    /// What the request is hashed to, where its destination balances by hash.
    pub hash: Option<u64>,
    /// Where it has been before, to be avoided.
    pub tried: Tried,
    /// When the attempt began: what comes after need not look at the clock again.
    pub at: Instant,
    /// When this attempt must be over, and by which limit.
    pub until: Option<(Instant, Limit)>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

impl Routed {
    /// A first attempt.
    pub fn new(call: Call, rule: Option<Won>, to: Destination) -> Self {
        Self {
            call,
            rule,
            to,
            pinned: None,
            hash: None,
            tried: Tried::default(),
            at: tokio::time::Instant::now().into_std(),
            until: None,
            attempt: 1,
        }
    }
}

/// A rule in the table of the pinned snapshot.
#[derive(Clone, Debug)]
pub struct Won {
    /// The table.
    pub table: Arc<RouteTable>,
    /// The rule.
    pub id: RuleId,
    /// The backend's index in the rule.
    pub backend: usize,
}

impl Won {
    /// The rule.
    pub fn rule(&self) -> Option<&RouteRule> {
        self.table.rule(self.id)
    }

    /// The backend.
    pub fn backend(&self) -> Option<&Backend> {
        match &self.rule()?.action {
            Action::Forward(backends) => backends.get(self.backend),
            _ => None,
        }
    }

    /// Who gets copies: by the rule, and by the backend.
    pub fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        let of_rule = self.rule().into_iter().flat_map(|rule| &rule.mirrors);
        of_rule.chain(self.backend().into_iter().flat_map(|backend| &backend.mirrors))
    }
}

/// Where a routed request goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To one of a cluster's endpoints.
    Cluster(Arc<Cluster>),
    /// To this workload and no other.
    Endpoint(Arc<Endpoint>),
}

/// A request with the endpoint that will be asked.
#[derive(Debug)]
pub struct Directed {
    /// The routed request.
    pub routed: Routed,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
}

/// Who answered, as an extension of responses that came from an upstream.
#[derive(Clone, Debug)]
pub struct Served {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// The cluster it belongs to; `None` for a workload that was addressed directly.
    pub cluster: Option<Arc<Cluster>>,
    /// The label of the rule that won, if one did.
    pub rule: Option<Arc<str>>,
    /// How many attempts it took.
    pub attempts: u32,
    /// Whether the retry policy would have had it sent again, had it allowed for more attempts.
    pub exhausted: bool,
}

/// Marks a response, by its extensions, whose request a fault delayed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delayed;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, host: Option<&str>) -> Request<MeshBody> {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.body(MeshBody::empty()).unwrap()
    }

    #[test]
    fn what_is_dialled_is_the_uris_authority_and_what_is_named_is_the_host_header() {
        let mut apart = request("http://10.96.0.1:80/a?b", Some("reviews"));
        assert_eq!(dialled(&mut apart).unwrap(), "10.96.0.1:80");
        assert_eq!(apart.uri().to_string(), "http://reviews/a?b");
        for (uri, host) in [
            ("http://reviews/", None),
            ("http://reviews/", Some("Reviews")),
            ("/", Some("reviews")),
        ] {
            let mut same = request(uri, host);
            assert_eq!(dialled(&mut same), None);
            assert_eq!(same.uri().to_string(), uri);
        }
    }
}
