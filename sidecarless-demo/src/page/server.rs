//! The page over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;

use super::bench::Action;
use super::{Shared, state, steps};
use crate::guard::{Guard, guard};

const PAGE: &str = include_str!("static/demo.html");
const STYLE: &str = include_str!("static/demo.css");
/// The scripts, by the names that the page loads them under.
const SCRIPTS: [(&str, &str); 3] = [
    ("/demo.js", include_str!("static/demo.js")),
    ("/plots.js", include_str!("static/plots.js")),
    ("/graph.js", include_str!("static/graph.js")),
];

/// The page loads and does what is its own: its scripts, its style, its state.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// What the page has already.
#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

/// Takes a free port of this machine.
pub(super) async fn bind() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

pub(super) async fn serve(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let protection = Guard {
        own: address,
        takes: "application/json",
        policy: POLICY,
    };
    let mut router = Router::new().route("/", get(async || Html(PAGE))).route(
        "/demo.css",
        get(async || ([(header::CONTENT_TYPE, "text/css")], STYLE)),
    );
    for (path, script) in SCRIPTS {
        let kind = [(header::CONTENT_TYPE, "text/javascript")];
        router = router.route(path, get(async move || (kind, script)));
    }
    let router = router
        .route("/api/state", get(show))
        .route("/api/steps/{id}", post(carry_out))
        // A manifest in JSON may be longer than itself by its escapes.
        .layer(DefaultBodyLimit::max(2 * steps::LARGEST))
        .layer(middleware::from_fn_with_state(protection, guard))
        .with_state(shared);
    if let Err(error) = axum::serve(listener, router).await {
        eprintln!("the demo's page: {error}");
    }
}

async fn show(State(shared): State<Arc<Shared>>, Query(Since { since }): Query<Since>) -> Json<Value> {
    Json(state::of(&shared, since))
}

async fn carry_out(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Json(action): Json<Action>,
) -> Response {
    match shared.bench.carry_out(&id, &action).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    }
}
