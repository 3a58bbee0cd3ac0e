//! The admin endpoint: readiness, metrics, what is configured, and why a request is treated as it is. Shows no key, no token
//! and no certificate, and changes nothing.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Error, Mesh};
use crate::explain::Question;
use crate::layer::Stage;
use crate::server::bind;
use crate::snapshot::{InboundPolicy, Snapshot, Via};

/// What an admin endpoint needs of a mesh; holds it weakly, so that the endpoint does not keep it alive.
#[derive(Clone)]
struct Admin(std::sync::Weak<super::Inner>);

/// Serves the admin endpoint on an address for as long as the mesh lives.
pub(crate) async fn listen(mesh: &Mesh, addr: SocketAddr) -> Result<(), Error> {
    let listener = bind(addr).await.map_err(Error::bind)?;
    mesh.spawn(serve(listener, Admin(Arc::downgrade(&mesh.inner))));
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
                async move { Ok::<_, Infallible>(admin.answer(request, peer).await) }
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

const INDEX: &str = "inmesh admin\n\n\
    /ready            200 once requests should be sent here (also /healthz/ready)\n\
    /metrics          Prometheus metrics (also /stats/prometheus)\n\
    /status           generation, readiness, identity, problems, the status of each resource\n\
    /problems         what is wrong with the configuration, a line each\n\
    /conditions       the status of each resource alone, as Kubernetes shapes it\n\
    /config_dump      the configuration in force\n\
    /explain          why a request would be treated as it would: POST a question as JSON, from this machine only;\n\
                      {\"method\": \"GET\", \"url\": \"http://reviews:9080/\", \"headers\": [[\"end-user\", \"jason\"]],\n\
                      \"from\": \"spiffe://cluster.local/ns/default/sa/curl\", \"at\": \"workload:9080\"}\n";

/// How long a question may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any question needs.
const LONGEST_QUESTION: usize = 64 * 1024;

impl Admin {
    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
        if request.uri().path() == "/explain" {
            return self.explain(request, peer).await;
        }
        let Some(inner) = self.0.upgrade() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the mesh is gone\n");
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        let mesh = Mesh { inner };
        match request.uri().path() {
            "/" | "/help" => text(StatusCode::OK, INDEX),
            "/ready" | "/healthz/ready" | "/readyz" => match mesh.is_ready() {
                true => text(StatusCode::OK, "LIVE\n"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "NOT READY\n"),
            },
            "/metrics" | "/stats/prometheus" => {
                let mut response = text(StatusCode::OK, mesh.metrics());
                let kind = header::HeaderValue::from_static(crate::telemetry::CONTENT_TYPE);
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            "/status" => document(&status(&mesh)),
            "/problems" => {
                let problems = &mesh.status().borrow().problems.clone();
                let mut lines: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
                for (listener, why) in mesh.unserved().borrow().iter() {
                    lines.push_str(&format!("error: listener {listener} cannot be served: {why}\n"));
                }
                text(StatusCode::OK, lines)
            }
            "/conditions" => document(&json!(mesh.statuses())),
            "/config_dump" => document(&dump(&mesh.snapshot())),
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    /// Answers a question as [`Mesh::explain`] does. Rules are told of in full, so only who is on this machine may ask;
    /// and only as JSON, which a web page cannot send here without asking first.
    async fn explain(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
        if !peer.is_loopback() {
            return text(StatusCode::FORBIDDEN, "only from this machine\n");
        }
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "POST a question as JSON\n");
        }
        let kind = request.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
            return text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content-type must be application/json\n",
            );
        }
        let body = Limited::new(request.into_body(), LONGEST_QUESTION).collect();
        let body = match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return text(StatusCode::BAD_REQUEST, format!("no question: {error}\n")),
            Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "no question came\n"),
        };
        let question: Question = match serde_json::from_slice(&body) {
            Ok(question) => question,
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("no question: {error}\n")),
        };
        match self.0.upgrade() {
            Some(inner) => document(&json!(Mesh { inner }.explain(&question))),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the mesh is gone\n"),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn document(value: &Value) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, format!("{value:#}\n"));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn status(mesh: &Mesh) -> Value {
    let status = mesh.status().borrow().clone();
    let seconds = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH)
            .map(|since| since.as_secs())
            .unwrap_or(0)
    };
    json!({
        "ready": mesh.is_ready(),
        "draining": *mesh.inner.drain.stage().borrow() != Stage::Serving,
        "generation": status.generation,
        "identity": mesh.identity().as_str(),
        "certificateExpiry": seconds(mesh.certificate_expiry()),
        "problems": status.problems.iter().map(problem).collect::<Vec<_>>(),
        "resources": mesh.statuses(),
    })
}

/// One problem.
pub(crate) fn problem(problem: &crate::config::Problem) -> Value {
    json!({
        "severity": problem.severity.as_str(),
        "place": problem.place.to_string(),
        "resource": problem.resource.as_ref().map(ToString::to_string),
        "field": problem.field,
        "text": problem.text,
        "remedy": problem.remedy,
    })
}

/// The configuration in force, as compiled.
fn dump(view: &Snapshot) -> Value {
    let services: Vec<Value> = view.services.iter().map(|service| json!({
        "name": service.name.to_string(),
        "host": service.host.as_str(),
        "ports": service.ports.iter().map(|port| json!({
            "port": port.number,
            "protocol": format!("{:?}", port.protocol),
            "rules": port.routes.rules().map(|(_, rule)| rule.origin.label.to_string()).collect::<Vec<_>>(),
            "cluster": port.cluster.0,
        })).collect::<Vec<_>>(),
    })).collect();
    let clusters: Vec<Value> = view.clusters.iter().map(|cluster| json!({
        "service": cluster.service.to_string(),
        "port": cluster.port,
        "subset": cluster.subset.as_deref(),
        "via": match &cluster.via {
            Via::Direct => "direct".to_owned(),
            Via::Waypoint { namespace, name } => format!("waypoint {namespace}/{name}"),
        },
        "endpoints": cluster.endpoints.endpoints().iter().map(|endpoint| json!({
            "workload": format!("{}/{}", endpoint.workload.namespace, endpoint.workload.name),
            "dial": endpoint.key.dial.to_string(),
            "authority": endpoint.key.authority.as_deref(),
            "identities": endpoint.identities.iter().map(|identity| identity.as_str()).collect::<Vec<_>>(),
            "inFlight": endpoint.cell.in_flight(),
        })).collect::<Vec<_>>(),
    })).collect();
    let inbound = match &view.inbound {
        InboundPolicy::DenyAll => json!({ "denyAll": "no configuration has been loaded yet" }),
        InboundPolicy::Workload(policy) => json!({
            "workload": {
                "strict": policy.strict.default,
                "strictPorts": policy.strict.ports.iter().map(|(port, strict)| (port.to_string(), json!(strict)))
                    .collect::<serde_json::Map<_, _>>(),
                "restricted": policy.http.authz.restricts(),
                "ports": policy.ports.iter().map(|(port, guards)| (port.to_string(), guards.iter().map(guard).collect()))
                    .collect::<serde_json::Map<_, _>>(),
            }
        }),
        InboundPolicy::Waypoint(policy) => json!({
            "gateway": policy.gateway.to_string(),
            "services": policy.services.values().flatten().map(guard).collect::<Vec<_>>(),
            "workloads": policy.workloads.keys().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    };
    json!({
        "generation": view.generation,
        "services": services,
        "clusters": clusters,
        "inbound": inbound,
        "listeners": view.gateway.listeners().map(|listener| json!({
            "name": &*listener.name,
            "port": listener.port,
            "host": listener.host.to_string(),
            "certificates": listener.tls.iter().flat_map(|tls| &tls.certificates)
                .map(|certificate| certificate.source.to_string()).collect::<Vec<_>>(),
            "rules": listener.routes.rules().map(|(_, rule)| rule.origin.label.to_string()).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn guard(guard: &crate::snapshot::ServiceGuard) -> Value {
    json!({
        "service": guard.service.to_string(),
        "port": guard.port,
        "restricted": guard.http.authz.restricts(),
        "waypoints": guard.waypoints.iter().map(|identity| identity.as_str()).collect::<Vec<_>>(),
    })
}
