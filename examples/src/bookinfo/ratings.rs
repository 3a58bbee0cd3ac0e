//! `ratings`: how many stars each reviewer gave. Kept in memory; a POST changes them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use inmesh::Mesh;
use serde_json::json;

use super::{PORT, hops, own_name, product_id};

/// Stars by reviewer.
type Stars = BTreeMap<String, u8>;

/// Ratings that were posted, by product.
type Posted = Arc<RwLock<BTreeMap<u32, Stars>>>;

/// How many products may have ratings of their own: a service that forgets nothing needs a bound.
const MAX_PRODUCTS: usize = 1_000;

/// Serves ratings until told to stop.
///
/// # Errors
/// If the port cannot be bound.
pub async fn run(mesh: Mesh) -> anyhow::Result<()> {
    crate::serve(mesh, PORT, hops::signed(router(), &own_name("ratings", "v1"))).await
}

/// The service without its port.
pub fn router() -> Router {
    Router::new()
        .route(
            "/health",
            get(async || Json(json!({ "status": "Ratings is healthy" }))),
        )
        .route("/ratings/{id}", get(ratings).post(rate))
        .with_state(Posted::default())
}

async fn ratings(State(posted): State<Posted>, Path(id): Path<String>) -> Response {
    let id = match product_id(&id) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let posted = posted.read().unwrap_or_else(PoisonError::into_inner);
    let stars = posted.get(&id).cloned().unwrap_or_else(first_impressions);
    Json(json!({ "id": id, "ratings": stars })).into_response()
}

async fn rate(State(posted): State<Posted>, Path(id): Path<String>, Json(stars): Json<Stars>) -> Response {
    let id = match product_id(&id) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    if stars.len() > 100 || !stars.values().all(|stars| (1..=5).contains(stars)) {
        return refuse("a rating is between 1 and 5 stars");
    }
    let mut posted = posted.write().unwrap_or_else(PoisonError::into_inner);
    if posted.len() >= MAX_PRODUCTS && !posted.contains_key(&id) {
        return refuse("no room for another product");
    }
    posted.insert(id, stars.clone());
    Json(json!({ "id": id, "ratings": stars })).into_response()
}

fn refuse(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response()
}

fn first_impressions() -> Stars {
    Stars::from([("Reviewer1".to_owned(), 5), ("Reviewer2".to_owned(), 4)])
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, header};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    async fn stars_of(router: &Router, id: u32) -> Value {
        let request = Request::get(format!("/ratings/{id}"))
            .body(Body::empty())
            .unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()["ratings"].clone()
    }

    async fn post(router: &Router, stars: Value) -> StatusCode {
        let request = Request::post("/ratings/7").header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(stars.to_string())).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_posted_rating_replaces_the_first_impression() {
        let router = router();
        assert_eq!(
            stars_of(&router, 7).await,
            json!({ "Reviewer1": 5, "Reviewer2": 4 })
        );
        assert_eq!(post(&router, json!({ "Reviewer1": 1 })).await, StatusCode::OK);
        assert_eq!(stars_of(&router, 7).await, json!({ "Reviewer1": 1 }));
        assert_eq!(
            post(&router, json!({ "Reviewer1": 6 })).await,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(
            stars_of(&router, 8).await,
            json!({ "Reviewer1": 5, "Reviewer2": 4 })
        );
    }
}
