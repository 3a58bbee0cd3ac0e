//! `details`: facts about the book.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use inmesh::Mesh;
use serde_json::{Value, json};

use super::{PORT, hops, own_name, product_id};

/// Serves details until told to stop.
///
/// # Errors
/// If the port cannot be bound.
pub async fn run(mesh: Mesh) -> anyhow::Result<()> {
    crate::serve(mesh, PORT, hops::signed(router(), &own_name("details", "v1"))).await
}

/// The service without its port.
pub fn router() -> Router {
    Router::new()
        .route(
            "/health",
            get(async || Json(json!({ "status": "Details is healthy" }))),
        )
        .route("/details/{id}", get(details))
}

async fn details(Path(id): Path<String>) -> Response {
    match product_id(&id) {
        Ok(id) => Json(book(id)).into_response(),
        Err(refusal) => *refusal,
    }
}

fn book(id: u32) -> Value {
    json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn details_answer_for_numbers_only() {
        let ask = |path: &str| router().oneshot(Request::get(path).body(Body::empty()).unwrap());
        let answer = ask("/details/0").await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let book: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&book["id"], &book["year"]), (&json!(0), &json!(1595)));
        assert_eq!(ask("/details/x").await.unwrap().status(), StatusCode::BAD_REQUEST);
    }
}
