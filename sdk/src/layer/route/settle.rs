//! Settle: from a call to where it goes, by way of the rule that decides.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};

use super::reply::{self, Reply, Sitting};
use super::scope::{Scope, scope};
use super::{Answer, Directory, refuse};
use crate::layer::call::{Call, Destination, Routed, Won};
use crate::layer::refusal::is_grpc;
use crate::layer::{MeshBody, Reason, Refusal};
use crate::policy::authorizer::Authorizer;
use crate::policy::balance::Endpoint;
use crate::policy::fault::Fault;
use crate::policy::route::{
    Action, Backend, Backends, Cors, CorsVerdict, Found, Redirect, Rewrite, RouteRule, Session, Target, Token,
};
use crate::snapshot::Cluster;

/// A request on its way, and what is still to be done when its answer comes.
pub(super) struct Settled {
    pub(super) routed: Routed,
    pub(super) reply: Option<Box<Reply>>,
}

/// A call of which is known what decides.
pub(super) struct Decided {
    call: Call,
    by: By,
}

enum By {
    /// No rule: it goes there, perhaps with others of its session.
    Nothing(Destination, Option<Arc<Session>>),
    Rule(Won, Found),
}

/// Finds what decides.
pub(super) fn decide<D: Directory>(call: Call, directory: &D) -> Result<Decided, Answer> {
    let (table, what) = match scope(&call, directory)? {
        Scope::Direct(to) => return Ok(unruled(call, to, None)),
        Scope::Service {
            routes,
            otherwise,
            session,
        } if routes.is_empty() => return Ok(unruled(call, otherwise, session)),
        Scope::Service { routes, .. } => (routes, "no route of the service matches"),
        Scope::Listener(routes) => (routes, "no route of the listener matches"),
    };
    let Some(found) = table.find(&call.head()) else {
        return refuse(Reason::NoRoute, what);
    };
    let won = Won {
        table,
        id: found.rule,
        backend: 0,
    };
    Ok(Decided {
        call,
        by: By::Rule(won, found),
    })
}

fn unruled(call: Call, to: Destination, session: Option<Arc<Session>>) -> Decided {
    Decided {
        call,
        by: By::Nothing(to, session),
    }
}

impl Decided {
    /// What is done to the request before anything else, if anything is.
    pub(super) fn fault(&self) -> Option<Fault> {
        let By::Rule(won, _) = &self.by else { return None };
        let faults = won.rule()?.fault.as_ref()?;
        let trusted = self.call.is_from_mesh();
        let faults = faults.applying(self.call.request.headers(), trusted);
        let drawn = faults.draw(fastrand::u64(..), fastrand::u64(..));
        (!drawn.is_nothing()).then_some(drawn)
    }

    /// Chooses the backend, by the request as it came; a preflight is answered right here.
    pub(super) fn choose(self) -> Result<Choice, Answer> {
        let Self { call, by } = self;
        let (mut won, found) = match by {
            By::Nothing(to, session) => return Ok(Choice::Unruled { call, to, session }),
            By::Rule(won, found) => (won, found),
        };
        let table = Arc::clone(&won.table);
        let Some(rule) = table.rule(won.id) else {
            return refuse(Reason::Misconfigured, "the route table lost a rule");
        };
        let mut origin = rule.cors.as_ref().map_or(Ok(None), |cors| judge(cors, &call))?;
        let mut pinned = None;
        if let Action::Forward(backends) = &rule.action {
            pinned = Pin::find(rule, backends, &call);
            won.backend = match &pinned {
                Some(pin) => pin.backend,
                None => backends.pick_index(fastrand::u64(..)),
            };
            if let Some(cors) = backends.get(won.backend).and_then(|it| it.cors.as_ref()) {
                origin = judge(cors, &call)?;
            }
        }
        Ok(Choice::Ruled(Chosen {
            call,
            won,
            found,
            origin,
            pin: pinned,
        }))
    }
}

/// Where a call is to go.
pub(super) enum Choice {
    /// Where it was sent: no rule says otherwise.
    Unruled {
        call: Call,
        to: Destination,
        session: Option<Arc<Session>>,
    },
    /// Where its rule sends it.
    Ruled(Chosen),
}

impl Choice {
    /// Whether somebody must allow the call before it goes anywhere.
    pub(super) fn is_asked_about(&self) -> bool {
        match self {
            Self::Unruled { .. } => false,
            Self::Ruled(chosen) => chosen.authorizers().next().is_some(),
        }
    }

    /// Settles where the call goes, or what it is answered with right here. Its response gets the headers that were
    /// `granted` on the way.
    pub(super) fn settle(self, granted: HeaderMap) -> Result<Settled, Answer> {
        match self {
            Self::Unruled { call, to, session } => Ok(undecided(call, to, session)),
            Self::Ruled(chosen) => chosen.settle(granted),
        }
    }
}

/// A call with the rule and the backend that were chosen for it.
pub(super) struct Chosen {
    pub(super) call: Call,
    won: Won,
    found: Found,
    origin: Origin,
    pin: Option<Pin>,
}

/// Whether a request came from another origin, and from which if that one may.
type Origin = Option<Option<HeaderValue>>;

impl Chosen {
    /// Who must allow the call: whom the rule names, and whom the backend does.
    pub(super) fn authorizers(&self) -> impl Iterator<Item = &Arc<Authorizer>> {
        let of_rule = self.won.rule().and_then(|rule| rule.authorizer.as_ref());
        let of_backend = self.won.backend().and_then(|it| it.authorizer.as_ref());
        of_rule.into_iter().chain(of_backend)
    }

    /// The resource for whose sake they are asked.
    #[cfg(feature = "extauthz")]
    pub(super) fn resource(&self) -> Option<&crate::name::ResourceRef> {
        self.won.rule().map(|rule| &rule.origin.resource)
    }

    /// A refusal of this call, so that a page may read it.
    pub(super) fn refused(self, refusal: Refusal) -> Refusal {
        match Reply::new(&self.won, self.origin, None) {
            Some(reply) => reply.refused(refusal),
            None => refusal,
        }
    }

    fn settle(self, granted: HeaderMap) -> Result<Settled, Answer> {
        let Self {
            call,
            won,
            found,
            origin,
            pin,
        } = self;
        let table = Arc::clone(&won.table);
        let Some(rule) = table.rule(won.id) else {
            return refuse(Reason::Misconfigured, "the route table lost a rule");
        };
        let winner = Winner {
            rule,
            won: &won,
            found,
        };
        let (call, cluster, sitting) = winner.settle(call, &origin, pin.as_ref())?;
        let mut reply = Reply::new(&won, origin, sitting);
        if !granted.is_empty() {
            reply = Some(Reply::granting(reply, &won, granted));
        }
        let mut routed = Routed::new(call, Some(won), Destination::Cluster(cluster));
        routed.pinned = pin.map(|pin| pin.endpoint);
        Ok(Settled { routed, reply })
    }
}

/// The rule that decides.
struct Winner<'t> {
    rule: &'t RouteRule,
    won: &'t Won,
    found: Found,
}

impl Winner<'_> {
    fn settle(
        &self,
        call: Call,
        origin: &Origin,
        pin: Option<&Pin>,
    ) -> Result<(Call, Arc<Cluster>, Option<Sitting>), Answer> {
        let backend = match &self.rule.action {
            Action::Forward(backends) => backends.get(self.won.backend),
            Action::Redirect(redirect) => return Err(self.redirect(redirect, &call, origin)),
            Action::Respond { status, body } => return Err(self.respond(*status, body, &call, origin)),
            Action::Fail { why } => return Err(self.refusal(Reason::RuleFailed, why, origin)),
        };
        let Some(backend) = backend else {
            return Err(self.refusal(Reason::Misconfigured, "no backend", origin));
        };
        let cluster = match &backend.cluster {
            Target::Cluster(id) => call.view.cluster(*id).cloned(),
            Target::Redirect(redirect) => return Err(self.redirect(redirect, &call, origin)),
            Target::Invalid(why) => return Err(self.refusal(Reason::Misconfigured, why, origin)),
        };
        let Some(cluster) = cluster else {
            let why = "the backend is not in the snapshot";
            return Err(self.refusal(Reason::Misconfigured, why, origin));
        };
        let session = self.rule.session.as_ref().or(backend.session.as_ref());
        let matched = call.head().path.get(..self.found.matched).unwrap_or_default();
        let sitting = session.map(|session| Sitting::new(session, &call, matched, pin));
        Ok((self.edit(call, backend)?, cluster, sitting))
    }

    /// What of the request the backend sees otherwise than it came.
    fn edit(&self, mut call: Call, backend: &Backend) -> Result<Call, Answer> {
        for edits in [&self.rule.request, &backend.request] {
            if !edits.is_empty() {
                edits.apply(call.request.headers_mut());
            }
        }
        let rewrites = [backend.rewrite.as_ref(), self.rule.rewrite.as_ref()];
        if rewrites.iter().any(Option::is_some) {
            rewrite_request(&mut call, rewrites, &self.found)?;
        }
        Ok(call)
    }

    fn redirect(&self, redirect: &Redirect, call: &Call, origin: &Origin) -> Answer {
        let (status, location) = redirect.location(&call.head(), self.found.matched);
        let mut response = Response::new(MeshBody::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, location);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        if let Some(reply) = Reply::new(self.won, origin.clone(), None) {
            reply.finish(&mut response);
        }
        Box::new(Ok(response))
    }

    /// The answer that the rule itself gives. To gRPC it is a status, like every answer that no upstream gave.
    fn respond(&self, status: StatusCode, body: &Bytes, call: &Call, origin: &Origin) -> Answer {
        let mut response = if is_grpc(call.request.headers()) {
            let text = String::from_utf8_lossy(body).into_owned();
            let refusal = Refusal::new(Reason::Application, "").status(status).body(text);
            refusal.into_response(true)
        } else {
            let mut response = Response::new(MeshBody::from(body.clone()));
            *response.status_mut() = status;
            let length = HeaderValue::from(body.len());
            response.headers_mut().insert(header::CONTENT_LENGTH, length);
            if !body.is_empty() {
                let text = HeaderValue::from_static("text/plain");
                response.headers_mut().insert(header::CONTENT_TYPE, text);
            }
            response
        };
        if let Some(reply) = Reply::new(self.won, origin.clone(), None) {
            reply.finish(&mut response);
        }
        Box::new(Ok(response))
    }

    /// The answer where the rule, or the backend chosen, cannot be carried out as written.
    fn refusal(&self, reason: Reason, why: &str, origin: &Origin) -> Answer {
        let detail = format!("{}: {why}", self.rule.origin.label);
        let refusal = Refusal::new(reason, detail).status(self.rule.failure());
        Box::new(Err(match Reply::new(self.won, origin.clone(), None) {
            Some(reply) => reply.refused(refusal),
            None => refusal,
        }))
    }
}

/// What a policy on other origins says of a call; a preflight is answered here, whatever the rule does with requests.
fn judge(cors: &Cors, call: &Call) -> Result<Origin, Answer> {
    match cors.judge(call.request.method(), call.request.headers()) {
        CorsVerdict::SameOrigin => Ok(None),
        CorsVerdict::Actual(origin) => Ok(Some(origin)),
        CorsVerdict::Preflight(headers) => {
            let mut response = Response::new(MeshBody::empty());
            *response.headers_mut() = headers;
            let length = HeaderValue::from_static("0");
            response.headers_mut().insert(header::CONTENT_LENGTH, length);
            Err(Box::new(Ok(response)))
        }
    }
}

/// Sends a call where it was sent.
fn undecided(call: Call, to: Destination, session: Option<Arc<Session>>) -> Settled {
    let Some(session) = session else {
        return Settled {
            routed: Routed::new(call, None, to),
            reply: None,
        };
    };
    let pin = match &to {
        Destination::Cluster(cluster) => {
            let token = session.read(call.request.headers(), reply::now());
            token.and_then(|token| Pin::at(0, cluster, token))
        }
        Destination::Endpoint(_) => None,
    };
    let sitting = Sitting::new(&session, &call, "", pin.as_ref());
    let mut routed = Routed::new(call, None, to);
    routed.pinned = pin.map(|pin| pin.endpoint);
    Settled {
        routed,
        reply: Some(Box::new(Reply::unruled(sitting))),
    }
}

/// Where a session was before.
pub(super) struct Pin {
    pub(super) token: Token,
    backend: usize,
    endpoint: Arc<Endpoint>,
}

impl Pin {
    /// The endpoint of a request's session, if it still is one of the rule's. Weights do not matter any more.
    ///
    /// Where the rule leaves sessions to its backends, each has those of its own; of several that a client has had, the
    /// one counts that it used last.
    fn find(rule: &RouteRule, backends: &Backends, call: &Call) -> Option<Self> {
        let headers = call.request.headers();
        let at = |(backend, it): (usize, &Backend), token| match it.cluster {
            Target::Cluster(id) => Self::at(backend, call.view.cluster(id)?, token),
            _ => None,
        };
        let mut all = backends.iter().enumerate();
        if let Some(session) = &rule.session {
            let token = session.read(headers, reply::now())?;
            return all.find_map(|it| at(it, token));
        }
        let own = all.filter_map(|it| at(it, it.1.session.as_ref()?.read(headers, reply::now())?));
        own.max_by_key(|pin| pin.token.used)
    }

    fn at(backend: usize, cluster: &Cluster, token: Token) -> Option<Self> {
        if reply::backend_digest(cluster) != token.backend {
            return None;
        }
        let endpoint = Arc::clone(cluster.endpoints.by_digest(token.endpoint)?);
        Some(Self {
            token,
            backend,
            endpoint,
        })
    }
}

/// Where the path was before it was rewritten, as Envoy tells backends.
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// Rewrites host and path, each as the first of the rewrites says that says something of it.
fn rewrite_request(call: &mut Call, rewrites: [Option<&Rewrite>; 2], found: &Found) -> Result<(), Answer> {
    let uri = call.request.uri();
    let rewrites = rewrites.into_iter().flatten();
    let of_path = rewrites.clone().find(|it| it.path.is_some());
    let target = of_path.map_or(Ok(None), |it| it.target(uri.path(), uri.query(), found.matched));
    let target = match target {
        Ok(target) => target,
        Err(error) => {
            return refuse(
                Reason::Misconfigured,
                format!("the rewritten path is no path: {error}"),
            );
        }
    };
    let mut parts = uri.clone().into_parts();
    if let Some(target) = target {
        let before = parts.path_and_query.replace(target);
        let before = before.and_then(|before| HeaderValue::from_bytes(before.as_str().as_bytes()).ok());
        if let Some(before) = before {
            call.request.headers_mut().insert(ORIGINAL_PATH, before);
        }
    }
    if let Some(host) = rewrites.clone().find_map(|it| it.host.as_ref()) {
        if let Ok(value) = HeaderValue::from_str(host.as_str()) {
            call.request.headers_mut().insert(header::HOST, value);
        }
        if parts.authority.is_some() {
            parts.authority = Some(host.clone());
        }
    }
    match Uri::from_parts(parts) {
        Ok(uri) => *call.request.uri_mut() = uri,
        Err(_) => return refuse(Reason::Misconfigured, "the rewritten request has no URI"),
    }
    Ok(())
}
