//! Bookinfo, ported: a page about a book, put together by four services.
//!
//! ```text
//! browser ─▶ productpage ─▶ details
//!                        └▶ reviews v1 | v2 | v3 ─▶ ratings
//! ```
//!
//! The services answer what the sample's own answer, on the sample's own paths. On top they say in response
//! headers how the request came to them, which is what the demo looks at: see [`hops`].
//!
//! Nothing here copies trace headers from one request to the next: the library continues the trace by itself.

pub mod details;
pub mod health;
pub mod hops;
pub mod html;
pub mod productpage;
pub mod ratings;
pub mod reviews;
mod upstream;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The port that every bookinfo service has.
pub const PORT: u16 = 9080;

/// The header that names the user signed in on the page; services pass it on.
pub const END_USER: &str = "end-user";

/// A product id as it stands in a path, or the answer to something else.
fn product_id(text: &str) -> Result<u32, Box<Response>> {
    text.parse().map_err(|_| {
        let body = Json(json!({ "error": "please provide a numeric product id" }));
        Box::new((StatusCode::BAD_REQUEST, body).into_response())
    })
}

/// What a service calls itself: its pod's Deployment in the sample, `reviews-v2` for instance.
fn own_name(app: &str, default_version: &str) -> String {
    let version = std::env::var("SERVICE_VERSION").unwrap_or_else(|_| default_version.to_owned());
    format!("{app}-{version}")
}

/// The pod this process runs as, where it is one.
fn pod_name(otherwise: &str) -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| otherwise.to_owned())
}
