//! `reviews`: what two readers thought. v1 shows no stars, v2 black ones, v3 red ones.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use inmesh::{Client, Mesh};
use serde_json::{Value, json};

use super::hops::Behind;
use super::{PORT, health, hops, own_name, pod_name, product_id, upstream};

/// What the handlers share.
struct Reviews {
    client: Client,
    /// The colour of the stars; a version without one does not ask for ratings.
    color: Option<&'static str>,
    pod: String,
}

/// Serves reviews until told to stop. `SERVICE_VERSION` chooses the version; `v1` if it is not set.
///
/// # Errors
/// If the port cannot be bound.
pub async fn run(mesh: Mesh) -> anyhow::Result<()> {
    let name = own_name("reviews", "v1");
    let router = router(mesh.client(), &name);
    crate::serve(mesh, PORT, hops::signed(router, &name)).await
}

/// The service without its port; `name` is `reviews-v1`, `reviews-v2` or `reviews-v3`.
pub fn router(client: Client, name: &str) -> Router {
    let color = match name {
        "reviews-v2" => Some("black"),
        "reviews-v3" => Some("red"),
        _ => None,
    };
    let state = Arc::new(Reviews {
        client,
        color,
        pod: pod_name(name),
    });
    Router::new()
        .route(
            "/health",
            get(async || Json(json!({ "status": "Reviews is healthy" }))),
        )
        .route(health::CHECK, post(health::check))
        .route("/reviews/{id}", get(reviews))
        .with_state(state)
}

async fn reviews(State(me): State<Arc<Reviews>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let id = match product_id(&id) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let (ratings, hops) = match me.color {
        Some(color) => stars(&me.client, color, id, &headers).await,
        None => (None, Vec::new()),
    };
    let rated = |reviewer: &str, text: &str| review(reviewer, text, ratings.as_ref());
    let body = json!({
        "id": id.to_string(),
        "podname": me.pod,
        "clustername": Value::Null,
        "reviews": [
            rated("Reviewer1", "A play to laugh at from the first scene to the last; the confusion is a delight."),
            rated("Reviewer2", "Light and funny, and yet it lacks the depth that his later plays have."),
        ],
    });
    let mut response = Json(body).into_response();
    response.extensions_mut().insert(Behind(hops));
    response
}

/// The ratings of a product in `color`, or why there are none; and the hops behind them.
async fn stars(client: &Client, color: &str, id: u32, headers: &HeaderMap) -> (Option<Value>, Vec<String>) {
    match upstream::get(client, "ratings", &format!("/ratings/{id}"), headers).await {
        Ok(answer) => (
            Some(json!({ "color": color, "stars": answer.json["ratings"] })),
            answer.hops,
        ),
        Err(error) => {
            eprintln!("ratings: {error:#}");
            (
                Some(json!({ "error": "Ratings service is currently unavailable" })),
                Vec::new(),
            )
        }
    }
}

/// One review, with its rating where this version shows them.
fn review(reviewer: &str, text: &str, ratings: Option<&Value>) -> Value {
    let mut review = json!({ "reviewer": reviewer, "text": text });
    if let Some(ratings) = ratings {
        review["rating"] = match ratings.get("error") {
            Some(error) => json!({ "error": error }),
            None => json!({ "stars": ratings["stars"][reviewer], "color": ratings["color"] }),
        };
    }
    review
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_has_stars_an_excuse_or_neither() {
        assert!(review("Reviewer1", "t", None).get("rating").is_none());
        let stars = json!({ "color": "red", "stars": { "Reviewer1": 5 } });
        assert_eq!(
            review("Reviewer1", "t", Some(&stars))["rating"],
            json!({ "stars": 5, "color": "red" })
        );
        let excuse = json!({ "error": "unavailable" });
        assert_eq!(review("Reviewer1", "t", Some(&excuse))["rating"], excuse);
    }
}
