//! The layers by hand: one's own tower services between those of the mesh, on both sides.
//!
//! A relay for `hello`: whatever it is asked, it asks `hello`, and logs which endpoint the mesh has chosen. Start
//! hello-server first, then
//!
//! ```text
//! INMESH_CONFIG=examples/mesh/hello.yaml INMESH_CREDENTIALS=./credentials/default/curl POD_NAME=curl-1 \
//!   POD_IP=127.0.0.3 cargo run -p examples --bin compose
//! curl http://127.0.0.3:8080/
//! ```

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::Uri;
use inmesh::layer::Directed;
use inmesh::{Body, Mesh, PeerIdentity};
use tower::{Service, ServiceBuilder, ServiceExt};

const PORT: u16 = 8080;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = examples::telemetry()?;
    let mesh = Mesh::from_env().await?;

    // Out: route, retry and balance as configured; then our own layer, which sees every attempt; then the wire.
    let upstream = ServiceBuilder::new()
        .layer(mesh.outbound())
        .map_request(|attempt: Directed| {
            println!(
                "  attempt {} goes to {}",
                attempt.routed.attempt, attempt.endpoint.key.dial
            );
            attempt
        })
        .service(mesh.upstream());

    // In: our own router and server; the mesh's listener takes tunnels apart, its layers apply policy.
    let app = Router::new()
        .fallback(move |request| relay(request, upstream.clone()))
        .layer(mesh.inbound(PORT))
        .into_make_service_with_connect_info::<PeerIdentity>();
    Ok(axum::serve(mesh.listen(PORT).await?, app).await?)
}

async fn relay<S>(mut request: Request, upstream: S) -> Response
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = inmesh::Refusal>,
{
    let caller = request
        .extensions()
        .get::<PeerIdentity>()
        .and_then(PeerIdentity::spiffe_id);
    println!("{} {} for {caller:?}", request.method(), request.uri().path());
    *request.uri_mut() = Uri::from_static("http://hello:8080/");
    request.headers_mut().remove(http::header::HOST);
    match upstream.oneshot(request.map(Body::new)).await {
        Ok(response) => response.map(axum::body::Body::new),
        Err(refusal) => (refusal.status, refusal.to_string()).into_response(),
    }
}
