//! Route: finds the rule that decides, applies its filters, and settles where the request goes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Response, StatusCode, Uri, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::call::{Call, Destination, Routed, Won};
use super::{MeshBody, Reason, Refusal};
use crate::name::{Host, split_authority};
use crate::policy::route::{Action, Found, HeaderEdits, Rewrite, RouteTable, Target};
use crate::snapshot::{Place, Snapshot};

/// Finds the way to a workload that is addressed by its own address. Kept outside the layers because the live state
/// of such endpoints is the sending end's.
pub trait Directory: Clone {
    /// The endpoint for `ip:port`, or why there is none.
    ///
    /// # Errors
    /// If nothing in the mesh has that address.
    fn pod(&self, view: &Snapshot, ip: std::net::IpAddr, port: u16) -> Result<Destination, Refusal>;
}

/// Makes [`Route`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteLayer<D> {
    directory: D,
}

impl<D> RouteLayer<D> {
    /// Pod-addressed requests are looked up in `directory`.
    pub fn new(directory: D) -> Self {
        Self { directory }
    }
}

impl<S, D: Directory> Layer<S> for RouteLayer<D> {
    type Service = Route<S, D>;

    fn layer(&self, inner: S) -> Route<S, D> {
        Route {
            inner,
            directory: self.directory.clone(),
        }
    }
}

/// Finds the rule that decides, applies its filters, and settles where the request goes.
#[derive(Clone, Debug)]
pub struct Route<S, D> {
    inner: S,
    directory: D,
}

impl<S, D> Service<Call> for Route<S, D>
where
    S: Service<Routed, Response = Response<MeshBody>, Error = Refusal>,
    D: Directory,
{
    type Response = S::Response;
    type Error = Refusal;
    type Future = RouteFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        match settle(call, &self.directory) {
            Ok(routed) => {
                let edits = routed
                    .rule
                    .clone()
                    .filter(|won| edits_of(won).any(|edits| !edits.is_empty()));
                RouteFuture::Inner {
                    future: self.inner.call(routed),
                    edits,
                }
            }
            Err(answer) => RouteFuture::Answered {
                answer: Some(*answer),
            },
        }
    }
}

/// An answer that needs no upstream: a redirect, or a refusal. Boxed because it is the rare case.
type Answer = Box<Result<Response<MeshBody>, Refusal>>;

fn refuse<T>(reason: Reason, detail: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, Answer> {
    Err(Box::new(Err(Refusal::new(reason, detail))))
}

/// Where the table for a call is found, and where a call without a rule goes.
enum Scope {
    Service {
        routes: Arc<RouteTable>,
        otherwise: Destination,
    },
    Listener(Arc<RouteTable>),
    Direct(Destination),
}

fn settle<D: Directory>(mut call: Call, directory: &D) -> Result<Routed, Answer> {
    let (table, otherwise) = match scope(&call, directory)? {
        Scope::Direct(to) => {
            return Ok(Routed {
                call,
                rule: None,
                to,
                tried: Vec::new(),
                attempt: 1,
            });
        }
        Scope::Service { routes, otherwise } if routes.is_empty() => {
            return Ok(Routed {
                call,
                rule: None,
                to: otherwise,
                tried: Vec::new(),
                attempt: 1,
            });
        }
        Scope::Service { routes, otherwise } => (routes, Some(otherwise)),
        Scope::Listener(routes) => (routes, None),
    };
    let Some(found) = table.find(&call.head()) else {
        let what = if otherwise.is_some() {
            "no route of the service matches"
        } else {
            "no route of the listener matches"
        };
        return refuse(Reason::NoRoute, what);
    };
    let Some(rule) = table.rule(found.rule) else {
        return refuse(Reason::Misconfigured, "the route table lost a rule");
    };
    let backends = match &rule.action {
        Action::Forward(backends) => backends,
        Action::Redirect(redirect) => {
            let (status, location) = redirect.location(&call.head(), found.matched);
            let mut response = Response::new(MeshBody::empty());
            *response.status_mut() = status;
            response.headers_mut().insert(header::LOCATION, location);
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            rule.response.apply(response.headers_mut());
            return Err(Box::new(Ok(response)));
        }
        Action::Fail { status, why } => {
            let detail = format!("{}: {why}", rule.origin.label);
            return Err(Box::new(Err(
                Refusal::new(Reason::Misconfigured, detail).status(*status)
            )));
        }
    };
    let chosen = backends.pick_index(fastrand::u64(..));
    let Some(backend) = backends.get(chosen) else {
        return refuse(
            Reason::Misconfigured,
            format!("{}: no backend", rule.origin.label),
        );
    };
    let cluster = match &backend.cluster {
        Target::Cluster(id) => call.view.cluster(*id).cloned(),
        Target::Invalid(why) => {
            let detail = format!("{}: {why}", rule.origin.label);
            return Err(Box::new(Err(
                Refusal::new(Reason::Misconfigured, detail).status(StatusCode::INTERNAL_SERVER_ERROR)
            )));
        }
    };
    let Some(cluster) = cluster else {
        return refuse(
            Reason::Misconfigured,
            format!("{}: the backend is not in the snapshot", rule.origin.label),
        );
    };
    for edits in [&rule.request, &backend.request] {
        if !edits.is_empty() {
            edits.apply(call.request.headers_mut());
        }
    }
    if let Some(rewrite) = backend.rewrite.as_ref().or(rule.rewrite.as_ref()) {
        rewrite_request(&mut call, rewrite, &found)?;
    }
    let won = Won {
        id: found.rule,
        backend: chosen,
        table: Arc::clone(&table),
    };
    Ok(Routed {
        call,
        rule: Some(won),
        to: Destination::Cluster(cluster),
        tried: Vec::new(),
        attempt: 1,
    })
}

fn scope<D: Directory>(call: &Call, directory: &D) -> Result<Scope, Answer> {
    let view = &call.view;
    let (id, port) = match call.place.as_deref() {
        Some(Place::Listener { name }) => {
            return match view.listeners.iter().find(|listener| listener.name == *name) {
                Some(listener) => Ok(Scope::Listener(Arc::clone(&listener.routes))),
                None => refuse(
                    Reason::NoRoute,
                    format!("the Gateway has no listener `{name}` any more"),
                ),
            };
        }
        Some(Place::Pod { ip, port }) => {
            return directory
                .pod(view, *ip, *port)
                .map(Scope::Direct)
                .map_err(|refusal| Box::new(Err(refusal)));
        }
        Some(Place::Service { host, port }) => (view.service_by_host(host), *port),
        Some(Place::Workload { .. }) => return refuse(Reason::Misconfigured, "a workload does not forward"),
        None => {
            let authority = super::call::authority(&call.request);
            let unusable =
                |error| Refusal::new(Reason::BadRequest, format!("the authority is unusable: {error}"));
            let (name, port) = split_authority(authority).map_err(|error| Box::new(Err(unusable(error))))?;
            let default = if call.request.uri().scheme_str() == Some("https") {
                443
            } else {
                80
            };
            let port = port.unwrap_or(default);
            // Nearly every caller writes the host as the table has it; only others pay for bringing it into that form.
            match view.hosts.get(name) {
                Some(id) => (Some(*id), port),
                None => {
                    let host = Host::parse(name).map_err(|error| Box::new(Err(unusable(error))))?;
                    let id = view.service_by_host(&host);
                    if id.is_none()
                        && let Some(ip) = host.ip()
                    {
                        return directory
                            .pod(view, ip, port)
                            .map(Scope::Direct)
                            .map_err(|refusal| Box::new(Err(refusal)));
                    }
                    (id, port)
                }
            }
        }
    };
    let Some(service) = id.and_then(|id| view.service(id)) else {
        let authority = super::call::authority(&call.request);
        return refuse(
            Reason::NoRoute,
            format!(
                "`{authority}` is no service of the mesh (generation {})",
                view.generation
            ),
        );
    };
    let Some(port) = service.port(port) else {
        return refuse(
            Reason::NoRoute,
            format!("service {} has no port {port}", service.name),
        );
    };
    match view.cluster(port.cluster) {
        Some(cluster) => Ok(Scope::Service {
            routes: Arc::clone(&port.routes),
            otherwise: Destination::Cluster(Arc::clone(cluster)),
        }),
        None => refuse(
            Reason::Misconfigured,
            format!("service {} lost its cluster", service.name),
        ),
    }
}

fn rewrite_request(call: &mut Call, rewrite: &Rewrite, found: &Found) -> Result<(), Answer> {
    let uri = call.request.uri();
    let target = match rewrite.target(uri.path(), uri.query(), found.matched) {
        Ok(target) => target,
        Err(error) => {
            return refuse(
                Reason::Misconfigured,
                format!("the rewritten path is no path: {error}"),
            );
        }
    };
    let mut parts = uri.clone().into_parts();
    if target.is_some() {
        parts.path_and_query = target;
    }
    if let Some(host) = &rewrite.host {
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

fn edits_of(won: &Won) -> impl Iterator<Item = &HeaderEdits> {
    let rule = won.rule().map(|rule| &rule.response);
    let backend = won.backend().map(|backend| &backend.response);
    [backend, rule].into_iter().flatten()
}

pin_project! {
    /// The future of [`Route`].
    #[project = RouteProjection]
    #[allow(missing_docs)] // the variants are not for callers
    pub enum RouteFuture<F> {
        Inner { #[pin] future: F, edits: Option<Won> },
        Answered { answer: Option<Result<Response<MeshBody>, Refusal>> },
    }
}

impl<F> Future for RouteFuture<F>
where
    F: Future<Output = Result<Response<MeshBody>, Refusal>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            RouteProjection::Inner { future, edits } => future.poll(cx).map_ok(|mut response| {
                if let Some(won) = edits {
                    edits_of(won).for_each(|edits| edits.apply(response.headers_mut()));
                }
                response
            }),
            RouteProjection::Answered { answer } => Poll::Ready(
                answer
                    .take()
                    .unwrap_or_else(|| Err(Refusal::new(Reason::NoRoute, "polled after completion"))),
            ),
        }
    }
}
