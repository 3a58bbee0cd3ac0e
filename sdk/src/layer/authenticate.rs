//! Authenticate: verifies the tokens that RequestAuthentication asks about.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Response;
use smallvec::SmallVec;
use tower_layer::Layer;
use tower_service::Service;

use super::ahead::{AheadFuture, Passed};
use super::call::authority;
use super::{Call, MeshBody, Refusal};
use crate::name::SpiffeId;
use crate::policy::token::{Reject, Token, TokenRule, Verdict};
use crate::snapshot::tap::Phase;
use crate::snapshot::{Claims, Findings, KeyCell, KeySource, Snapshot};
use crate::telemetry::Meter;

/// Makes [`Authenticate`].
#[derive(Clone, Debug)]
pub struct AuthenticateLayer {
    meter: Meter,
}

impl AuthenticateLayer {
    /// Refusals are counted in `meter`.
    pub fn new(meter: Meter) -> Self {
        Self { meter }
    }
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Authenticate<S> {
        Authenticate {
            inner,
            meter: self.meter.clone(),
        }
    }
}

/// Verifies the tokens that RequestAuthentication asks about: a request with a bad one is refused, the claims of a good
/// one become known to policy.
///
/// A request without a token passes; asking for one is authorization's part. It waits only where keys have not been
/// fetched yet, or where a token is signed with a key that nobody has seen.
#[derive(Clone, Debug)]
pub struct Authenticate<S> {
    inner: S,
    meter: Meter,
}

/// A token that a gate believes.
struct Accepted<'v> {
    gate: usize,
    rule: &'v TokenRule,
    token: Arc<Token>,
}

/// What the gates say.
enum Judged<'v> {
    /// The request may go on.
    Passed(Findings, SmallVec<[Accepted<'v>; 1]>),
    Refused(Reject, Option<Arc<KeyCell>>),
    Wait(Arc<KeyCell>),
}

impl<S> Service<Call> for Authenticate<S>
where
    S: Service<Call, Response = Response<MeshBody>, Error = Refusal> + Clone,
{
    type Response = S::Response;
    type Error = Refusal;
    type Future = AheadFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        if !asks(&call) {
            return AheadFuture::inner(self.inner.call(call));
        }
        call.mark(Phase::Authenticate);
        let view = Arc::clone(&call.view);
        sanitize(&view, &mut call);
        match judge(&view, &call) {
            Judged::Passed(found, accepted) => {
                settle(&mut call, found, accepted);
                AheadFuture::inner(self.inner.call(call))
            }
            Judged::Refused(why, None) => AheadFuture::refused(refuse(&call, why, &self.meter)),
            Judged::Refused(_, Some(_)) | Judged::Wait(_) => AheadFuture::Waiting {
                before: Box::pin(wait(call, self.meter.clone())),
                inner: self.inner.clone(),
            },
        }
    }
}

/// Whether any gate on the way looks at tokens.
fn asks(call: &Call) -> bool {
    let Some(place) = call.place.as_deref().filter(|_| call.view.asks().tokens) else {
        return false;
    };
    let passages = call.view.passages(place, caller(call));
    passages.is_ok_and(|passages| passages.iter().any(|passage| passage.gate.tokens.is_some()))
}

/// Removes headers that only a verified token may set.
fn sanitize(view: &Snapshot, call: &mut Call) {
    let passages = call
        .place
        .as_deref()
        .map(|place| view.passages(place, caller(call)));
    for passage in passages.and_then(Result::ok).unwrap_or_default() {
        if let Some(tokens) = &passage.gate.tokens {
            tokens.rules.sanitize(call.request.headers_mut());
        }
    }
}

fn caller(call: &Call) -> Option<&SpiffeId> {
    call.peer.as_ref()?.identity.as_ref()
}

/// Asks every gate. All judge the request as it came, so that one gate's edits hide nothing from another.
fn judge<'v>(view: &'v Snapshot, call: &Call) -> Judged<'v> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let head = call.head();
    // What authorizers were asked stays known.
    let (mut found, mut accepted) = (call.found.clone(), SmallVec::new());
    let passages = call
        .place
        .as_deref()
        .map(|place| view.passages(place, head.caller.identity));
    for (gate, passage) in passages
        .and_then(Result::ok)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let Some(tokens) = &passage.gate.tokens else {
            found.push(None);
            continue;
        };
        let cell = |source: usize| tokens.keys.get(source).cloned();
        match tokens.rules.judge(&head, now, tokens) {
            Verdict::Absent => found.push(None),
            Verdict::Accepted { rule, token, claims } => {
                found.push(Some(claims));
                accepted.push(Accepted { gate, rule, token });
            }
            Verdict::Refused { why, stale } => return Judged::Refused(why, stale.and_then(cell)),
            Verdict::Wait(source) => {
                return cell(source).map_or(Judged::Refused(Reject::Fetch, None), Judged::Wait);
            }
        }
    }
    Judged::Passed(found, accepted)
}

/// Writes down what was found, for policy and for the application.
fn settle(call: &mut Call, found: Findings, accepted: SmallVec<[Accepted<'_>; 1]>) {
    if let Some(claims) = accepted.first().and_then(|first| found.claims(first.gate)) {
        call.request
            .extensions_mut()
            .insert(TokenClaims(Arc::clone(claims)));
    }
    for Accepted { rule, token, .. } in accepted {
        let (mut parts, body) = std::mem::take(&mut *call.request).into_parts();
        rule.edit(&token, &mut parts);
        *call.request = http::Request::from_parts(parts, body);
    }
    call.found = found;
}

/// Waits for keys, at most as long as fetching them may take, and judges again.
async fn wait(mut call: Call, meter: Meter) -> Result<Passed, Refusal> {
    let view = Arc::clone(&call.view);
    // Every source is waited for at most twice: for its first keys, and for newer ones.
    for _ in 0..8 {
        match judge(&view, &call) {
            Judged::Passed(found, accepted) => {
                settle(&mut call, found, accepted);
                return Ok(call.into());
            }
            Judged::Wait(cell) => {
                let mut answers = cell.answers();
                let pending = matches!(cell.lookup(), crate::policy::token::Lookup::Pending);
                let waited = tokio::time::timeout(patience(cell.source()), answers.changed());
                if pending && !matches!(waited.await, Ok(Ok(()))) {
                    return Err(refuse(&call, Reject::Fetch, &meter));
                }
            }
            Judged::Refused(why, stale) => {
                let Some((cell, mut answers)) = stale.and_then(|cell| Some((cell.clone(), cell.ask()?)))
                else {
                    return Err(refuse(&call, why, &meter));
                };
                // Whether in time or not: what is known then decides.
                let _ = tokio::time::timeout(patience(cell.source()), answers.changed()).await;
            }
        }
    }
    Err(refuse(&call, Reject::Fetch, &meter))
}

fn patience(source: &KeySource) -> Duration {
    match source {
        KeySource::Inline(_) => Duration::ZERO,
        KeySource::Url { timeout, .. } | KeySource::Discovery { timeout, .. } => *timeout,
    }
}

/// The answer to a request whose token is not believed, as Envoy gives it.
fn refuse(call: &Call, why: Reject, meter: &Meter) -> Refusal {
    meter.denied("RequestAuthentication");
    Refusal::unauthenticated(why.details(), &realm(call))
        .status(why.status())
        .body(why.to_string())
}

/// What was asked for. The query is left out: there may be a token in it.
fn realm(call: &Call) -> String {
    const LONGEST: usize = 256;
    let uri = call.request.uri();
    let path = uri.path().get(..LONGEST).unwrap_or_else(|| uri.path());
    format!(
        "{}://{}{path}",
        uri.scheme_str().unwrap_or("http"),
        authority(&call.request)
    )
}

/// The claims of the verified token, as an extension of requests that carried one.
///
/// It is there only if a RequestAuthentication accepted the token: nothing that a caller merely says is in it.
#[derive(Clone, PartialEq)]
pub struct TokenClaims(pub Arc<Claims>);

/// Claims are about people: only the issuer is shown.
impl std::fmt::Debug for TokenClaims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenClaims")
            .field("iss", &self.0.get("iss"))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::future::{Ready, ready};

    use super::*;
    use crate::layer::Reason;
    use crate::name::{Kind, Peer, ResourceRef};
    use crate::policy::authz::{self, Action, AuthzEngine, AuthzRule, EngineBuilder};
    use crate::policy::token::TokenRules;
    use crate::snapshot::{Gate, InboundPolicy, Place, StrictPorts, TokenGuard, WorkloadInbound};

    /// Answers what policies allow.
    #[derive(Clone)]
    struct Judge;

    impl Service<Call> for Judge {
        type Response = Response<MeshBody>;
        type Error = Refusal;
        type Future = Ready<Result<Self::Response, Refusal>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, call: Call) -> Self::Future {
            let place = call.place.as_deref().unwrap();
            let decision = call.view.authorize_found(place, &call.head(), &call.found);
            ready(match decision.is_allowed() {
                true => Ok(Response::new(MeshBody::empty())),
                false => Err(Refusal::new(Reason::Denied, "denied")),
            })
        }
    }

    /// A request to a port where both an authorizer and tokens are asked for.
    fn call(consulted: bool) -> Call {
        let ask = ResourceRef::new(Kind::AuthorizationPolicy, "default", "ask");
        let authz = EngineBuilder::new(authz::Layer::Http)
            .policy(ask, Action::Custom, false, [(0, AuthzRule::default())])
            .authorizer(Ok("opa".into()))
            .build();
        let gate = Gate {
            authz: Arc::new(authz),
            tokens: Some(TokenGuard {
                rules: TokenRules::new(Vec::new()),
                keys: Vec::new(),
            }),
            authorizer: None,
        };
        let inbound = WorkloadInbound {
            http: Arc::new(gate),
            l4: Arc::new(AuthzEngine::allow_all()),
            ports: HashMap::new(),
            strict: StrictPorts::default(),
            waypoints: Vec::new(),
        };
        let address = "127.0.0.1:9080".parse().unwrap();
        let mut found = Findings::default();
        if consulted {
            found.consulted();
        }
        Call {
            request: Box::new(http::Request::new(MeshBody::empty())),
            view: Arc::new(Snapshot {
                inbound: InboundPolicy::Workload(Arc::new(inbound)),
                ..Snapshot::default()
            }),
            place: Some(Arc::new(Place::Workload { port: 9080 })),
            peer: Some(Arc::new(Peer::new(None, address, address))),
            dialled: None,
            found,
            notes: None,
        }
    }

    #[tokio::test]
    async fn that_an_authorizer_was_asked_is_not_forgotten() {
        let mut layer = AuthenticateLayer::new(Meter::new()).layer(Judge);
        assert!(layer.call(call(true)).await.is_ok());
        assert!(layer.call(call(false)).await.is_err());
    }
}
