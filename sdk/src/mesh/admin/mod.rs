//! The admin endpoint: readiness, metrics, what is configured, why a request is treated as it is, and the process while it
//! runs. Shows no key and no token, and changes nothing but what is logged.

mod guard;
mod live;
mod page;
mod show;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Error, Mesh};
use crate::explain::Question;
use crate::layer::MeshBody;
use crate::server::bind;
use crate::telemetry::Exposition;
use crate::watch::Watch;
pub(crate) use guard::Access;
#[cfg(feature = "cli")]
pub(crate) use show::problem;

/// What an admin endpoint needs of a mesh; holds it weakly, so that the endpoint does not keep it alive.
#[derive(Clone)]
struct Admin {
    mesh: std::sync::Weak<super::Inner>,
    access: Access,
}

/// Serves the admin endpoint on an address for as long as the mesh lives.
pub(crate) async fn listen(mesh: &Mesh, addr: SocketAddr, access: Access) -> Result<(), Error> {
    let listener = bind(addr).await.map_err(Error::bind)?;
    mesh.inner.watch.get_or_init(|| {
        let watch = Watch::new(Arc::clone(mesh.live()), mesh.meter().clone());
        mesh.spawn(watch.clone().collect());
        watch
    });
    mesh.spawn(serve(
        listener,
        Admin {
            mesh: Arc::downgrade(&mesh.inner),
            access,
        },
    ));
    Ok(())
}

async fn serve(listener: TcpListener, admin: Admin) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                tracing::warn!(%error, "accepting on the admin endpoint failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let admin = admin.clone();
                async move {
                    let mut response = admin.answer(request, peer).await;
                    page::harden(&mut response);
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
}

const INDEX: &str = "inmesh admin; a browser is shown the live view at /\n\n\
    for whoever can reach this port:\n\
    /ready                  200 once requests should be sent here (also /healthz/ready)\n\
    /metrics                Prometheus metrics (also /stats/prometheus)\n\n\
    from this machine only:\n\
    /status                 generation, readiness, identity, problems, the status of each resource\n\
    /problems               what is wrong with the configuration, a line each\n\
    /conditions             the status of each resource alone, as Kubernetes shapes it\n\
    /config_dump            the configuration in force\n\
    /explain                why a request would be treated as it would: POST a question as JSON,\n\
                            {\"method\": \"GET\", \"url\": \"http://reviews:9080/\", \"headers\": [[\"end-user\", \"jason\"]],\n\
                            \"from\": \"spiffe://cluster.local/ns/default/sa/curl\", \"at\": \"workload:9080\"}\n\
    /logging                what is logged; POST {\"module\": \"inmesh::control\", \"level\": \"debug\"}, without a module for all\n\
                            others, or {\"reset\": true}\n\
    /live/graph             who calls whom, how often and how well; ?window=SECONDS\n\
    /live/requests          the last requests; ?filter=from=curl+status>=400&limit=100&watch=SECONDS\n\
    /live/requests/ID       one of them: where its time went, and why it was treated as it was\n\
    /live/stream            requests as they end, as server-sent events; ?filter=\n\
    /live/summary           generation, readiness, how much is wrong: a few figures\n\
    /live/config            the configuration in force, with all that is wrong with it\n\
    /live/generations       what changed when; /live/generations/N field by field\n\
    /live/certificates      certificates, and until when they are valid\n";

/// How long a question may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any question needs.
const LONGEST_QUESTION: usize = 64 * 1024;

/// What shall be logged.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Logging {
    module: Option<String>,
    level: Option<String>,
    #[serde(default)]
    reset: bool,
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<MeshBody> {
        if let Err((status, why)) = self.access.check(&request, peer) {
            return text(status, why);
        }
        let Some(inner) = self.mesh.upgrade() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the mesh is gone\n");
        };
        let mesh = Mesh { inner };
        if request.method() == Method::POST {
            return match request.uri().path() {
                "/explain" => explain(mesh, request, peer).await,
                "/logging" => change_logging(mesh, request).await,
                _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
            };
        }
        show(mesh, &request).await
    }
}

async fn show(mesh: Mesh, request: &Request<Incoming>) -> Response<MeshBody> {
    match request.uri().path() {
        "/help" => text(StatusCode::OK, INDEX),
        "/" if !wants_page(request) => text(StatusCode::OK, INDEX),
        "/ready" | "/healthz/ready" | "/readyz" => match mesh.is_ready() {
            true => text(StatusCode::OK, "LIVE\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "NOT READY\n"),
        },
        "/metrics" | "/stats/prometheus" => {
            let accepted = request.headers().get_all(header::ACCEPT).iter();
            let accepted: Vec<&str> = accepted.filter_map(|it| it.to_str().ok()).collect();
            let format = Exposition::negotiate(Some(&accepted.join(",")));
            let mut response = text(StatusCode::OK, mesh.metrics_as(format));
            let kind = header::HeaderValue::from_static(format.content_type());
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/status" => document(&show::status(&mesh)),
        "/problems" => {
            let problems = &mesh.status().borrow().problems.clone();
            let mut lines: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
            for (listener, why) in mesh.unserved().borrow().iter() {
                lines.push_str(&format!("error: listener {listener} cannot be served: {why}\n"));
            }
            text(StatusCode::OK, lines)
        }
        "/conditions" => document(&json!(mesh.statuses())),
        "/config_dump" => document(&show::dump(&mesh.snapshot())),
        "/explain" => text(StatusCode::METHOD_NOT_ALLOWED, "POST a question as JSON\n"),
        "/logging" => logging(&mesh),
        path => match page::file(path) {
            Some(file) => file,
            None => match live::answer(&mesh, request.uri()).await {
                Some(answer) => answer,
                None => text(StatusCode::NOT_FOUND, INDEX),
            },
        },
    }
}

/// Whether a browser asks, rather than a person with curl.
fn wants_page<B>(request: &Request<B>) -> bool {
    let accepted = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|it| it.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

/// Answers a question as [`Mesh::explain`] does. Rules are told of in full, so only who is on this machine may ask, whoever
/// else is let in.
async fn explain(mesh: Mesh, request: Request<Incoming>, peer: IpAddr) -> Response<MeshBody> {
    if !peer.is_loopback() {
        return text(StatusCode::FORBIDDEN, "only from this machine\n");
    }
    match read::<Question>(request).await {
        Ok(question) => document(&json!(mesh.explain(&question))),
        Err(answer) => *answer,
    }
}

async fn change_logging(mesh: Mesh, request: Request<Incoming>) -> Response<MeshBody> {
    let wanted: Logging = match read(request).await {
        Ok(wanted) => wanted,
        Err(answer) => return *answer,
    };
    let Some(filter) = &mesh.inner.log_filter else {
        return logging(&mesh);
    };
    let changed = match (&wanted.level, wanted.reset) {
        (Some(level), false) => filter.set_level(wanted.module.as_deref(), level),
        (None, true) if wanted.module.is_none() => filter.reset(),
        _ => return text(StatusCode::BAD_REQUEST, "either a level, or a reset\n"),
    };
    match changed {
        Ok(()) => {
            tracing::info!(directives = filter.directives(), "logging changed");
            logging(&mesh)
        }
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn logging(mesh: &Mesh) -> Response<MeshBody> {
    match &mesh.inner.log_filter {
        Some(filter) => document(&json!({ "directives": filter.directives() })),
        None => text(
            StatusCode::NOT_IMPLEMENTED,
            "the application logs as it likes: it gave the mesh no filter (MeshBuilder::log_filter)\n",
        ),
    }
}

/// Reads what was sent, as JSON.
async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Box<Response<MeshBody>>> {
    let body = Limited::new(request.into_body(), LONGEST_QUESTION).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            return Err(Box::new(text(
                StatusCode::BAD_REQUEST,
                format!("no question: {error}\n"),
            )));
        }
        Err(_) => return Err(Box::new(text(StatusCode::REQUEST_TIMEOUT, "no question came\n"))),
    };
    serde_json::from_slice(&body)
        .map_err(|error| Box::new(text(StatusCode::BAD_REQUEST, format!("no question: {error}\n"))))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<MeshBody> {
    let mut response = Response::new(MeshBody::full(body));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn document(value: &Value) -> Response<MeshBody> {
    let mut response = text(StatusCode::OK, format!("{value:#}\n"));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}
