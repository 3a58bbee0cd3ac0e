//! Response headers that say how a request came here: who served it, and on whose proof.
//!
//! | header | example |
//! | --- | --- |
//! | `x-served-by` | `reviews-v2` |
//! | `x-mesh-peer` | `spiffe://cluster.local/ns/bookinfo/sa/bookinfo-productpage`, or `plaintext` |
//! | `x-mesh-hops` | `reviews-v2=spiffe://…/sa/bookinfo-productpage, ratings-v1=spiffe://…/sa/bookinfo-reviews` |
//! | `x-trace-id` | the trace that the request belongs to |
//!
//! The peer is what the library proved by the caller's certificate, not what any header claims.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use inmesh::PeerIdentity;

/// Who answered.
pub const SERVED_BY: &str = "x-served-by";
/// The identity the caller proved.
pub const PEER: &str = "x-mesh-peer";
/// All hops behind this answer, outermost first, as `service=peer`.
pub const HOPS: &str = "x-mesh-hops";
/// The trace id.
pub const TRACE_ID: &str = "x-trace-id";

/// What stands for a peer that proved nothing.
const PLAINTEXT: &str = "plaintext";

/// The hops behind an answer's own; a handler puts them into the response's extensions.
#[derive(Clone, Debug, Default)]
pub struct Behind(pub Vec<String>);

/// Adds the headers to every answer of `router`.
pub fn signed(router: Router, name: &str) -> Router {
    router.layer(middleware::from_fn_with_state(name.to_owned(), sign))
}

/// The hops that an upstream's answer reports.
pub fn of(headers: &HeaderMap) -> Vec<String> {
    let list = headers.get(HOPS).and_then(|value| value.to_str().ok());
    list.map(|list| list.split(", ").map(str::to_owned).collect())
        .unwrap_or_default()
}

async fn sign(State(name): State<String>, request: Request, next: Next) -> Response {
    let peer = peer_of(&request);
    let trace = inmesh::telemetry::current().trace_id();
    let mut response = next.run(request).await;
    let mut hops = vec![format!("{name}={peer}")];
    hops.extend(response.extensions_mut().remove::<Behind>().unwrap_or_default().0);
    let headers = response.headers_mut();
    set(headers, SERVED_BY, &name);
    set(headers, PEER, &peer);
    set(headers, HOPS, &hops.join(", "));
    if let Some(trace) = trace {
        set(headers, TRACE_ID, &trace);
    }
    response
}

fn peer_of(request: &Request) -> String {
    let peer = request.extensions().get::<PeerIdentity>();
    peer.and_then(PeerIdentity::spiffe_id)
        .map_or_else(|| PLAINTEXT.to_owned(), ToString::to_string)
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_names_its_hops_outermost_first() {
        let handler = async || {
            let mut response = Response::new(Body::empty());
            let behind = Behind(vec!["ratings-v1=spiffe://td/ns/a/sa/b".to_owned()]);
            response.extensions_mut().insert(behind);
            response
        };
        let router = signed(Router::new().route("/", get(handler)), "reviews-v2");
        let request = Request::get("/").body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.headers()[SERVED_BY], "reviews-v2");
        assert_eq!(answer.headers()[PEER], PLAINTEXT);
        let hops = ["reviews-v2=plaintext", "ratings-v1=spiffe://td/ns/a/sa/b"];
        assert_eq!(of(answer.headers()), hops);
    }
}
