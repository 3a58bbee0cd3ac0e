//! `productpage`: the page a person sees, put together from what details and reviews answer.

use std::sync::Arc;

use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use inmesh::{Client, Mesh};
use serde::Deserialize;
use serde_json::{Value, json};

use super::hops::Behind;
use super::html::{self, Page};
use super::upstream::{self, Answer};
use super::{END_USER, PORT, hops, own_name, pod_name, product_id};

/// Names the sections of a page that could not be had, so that whoever measures need not read HTML.
pub const UNAVAILABLE: &str = "x-unavailable";

/// The session cookie: nothing but the name somebody signed in with, as the sample has no passwords either.
const COOKIE: &str = "user";
/// A longer name is not a name.
const MAX_NAME: usize = 64;

/// The one product of the shop.
const TITLE: &str = "The Comedy of Errors";

/// What the handlers share.
struct Shop {
    client: Client,
    pod: String,
}

/// Serves the page until told to stop.
///
/// # Errors
/// If the port cannot be bound.
pub async fn run(mesh: Mesh) -> anyhow::Result<()> {
    let name = own_name("productpage", "v1");
    let router = router(mesh.client(), &name);
    crate::serve(mesh, PORT, hops::signed(router, &name)).await
}

/// The service without its port.
pub fn router(client: Client, name: &str) -> Router {
    let shop = Arc::new(Shop {
        client,
        pod: pod_name(name),
    });
    Router::new()
        .route("/", get(async || Html(html::INDEX)))
        .route("/health", get(async || "Product page is healthy"))
        .route("/productpage", get(page))
        .route("/login", post(login))
        .route("/logout", get(logout))
        .route("/static/bookinfo.css", get(css))
        .route("/api/v1/products", get(async || Json(products())))
        .route("/api/v1/products/{id}", get(details))
        .route("/api/v1/products/{id}/reviews", get(reviews))
        .route("/api/v1/products/{id}/ratings", get(ratings))
        .with_state(shop)
}

async fn page(State(shop): State<Arc<Shop>>, incoming: HeaderMap) -> Response {
    let user = signed_in(&incoming);
    let upstream_headers = with_user(incoming, user.as_deref());
    let (details, reviews) = tokio::join!(
        upstream::get(&shop.client, "details", "/details/0", &upstream_headers),
        upstream::get(&shop.client, "reviews", "/reviews/0", &upstream_headers),
    );
    let missing = missing(&details, &reviews);
    let hops = [&details, &reviews]
        .into_iter()
        .flatten()
        .flat_map(|answer| answer.hops.clone())
        .collect();
    let page = Page {
        title: TITLE,
        user: user.as_deref(),
        details: details.as_ref().map(|answer| &answer.json),
        reviews: reviews.as_ref().map(|answer| &answer.json),
        pod: &shop.pod,
    };
    let mut response = Html(page.render()).into_response();
    response.extensions_mut().insert(Behind(hops));
    if !missing.is_empty() {
        response
            .headers_mut()
            .insert(UNAVAILABLE, HeaderValue::from_static(missing));
    }
    response
}

/// Which sections the page lacks.
fn missing(details: &anyhow::Result<Answer>, reviews: &anyhow::Result<Answer>) -> &'static str {
    let unrated = |answer: &Answer| answer.json.to_string().contains("\"rating\":{\"error\"");
    match (details, reviews) {
        (Err(_), Err(_)) => "details reviews",
        (Err(_), Ok(_)) => "details",
        (Ok(_), Err(_)) => "reviews",
        (Ok(_), Ok(reviews)) if unrated(reviews) => "ratings",
        (Ok(_), Ok(_)) => "",
    }
}

/// What the sign-in form sends.
#[derive(Deserialize)]
struct Login {
    username: String,
}

async fn login(Form(login): Form<Login>) -> Response {
    let name = login.username.trim();
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
        return (
            StatusCode::BAD_REQUEST,
            "a name has letters, digits, `-`, `_` and `.`",
        )
            .into_response();
    }
    set_user(&format!("{COOKIE}={name}; Path=/; HttpOnly; SameSite=Lax"))
}

async fn logout() -> Response {
    set_user(&format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"))
}

fn set_user(cookie: &str) -> Response {
    (
        AppendHeaders([(header::SET_COOKIE, cookie)]),
        Redirect::to("/productpage"),
    )
        .into_response()
}

/// Characters that need no escaping in a cookie or a header.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// The user of the session, if the request belongs to one.
fn signed_in(headers: &HeaderMap) -> Option<String> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, name) = pairs.find(|(key, _)| *key == COOKIE)?;
    (!name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_plain)).then(|| name.to_owned())
}

/// The session decides who the end user is; a header that a browser sends does not.
fn with_user(mut headers: HeaderMap, user: Option<&str>) -> HeaderMap {
    headers.remove(END_USER);
    if let Some(user) = user.and_then(|user| HeaderValue::from_str(user).ok()) {
        headers.insert(END_USER, user);
    }
    headers
}

async fn css() -> Response {
    (
        AppendHeaders([(header::CONTENT_TYPE, "text/css; charset=utf-8")]),
        html::CSS,
    )
        .into_response()
}

fn products() -> Value {
    json!([{
        "id": 0,
        "title": TITLE,
        "descriptionHtml": "A comedy by William Shakespeare: two pairs of twins, one town, and nobody knows who is who.",
    }])
}

async fn details(State(shop): State<Arc<Shop>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    relay(&shop, "details", "details", &id, headers).await
}

async fn reviews(State(shop): State<Arc<Shop>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    relay(&shop, "reviews", "reviews", &id, headers).await
}

async fn ratings(State(shop): State<Arc<Shop>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    relay(&shop, "ratings", "ratings", &id, headers).await
}

/// Another service's answer as our own.
async fn relay(shop: &Shop, service: &str, collection: &str, id: &str, headers: HeaderMap) -> Response {
    let id = match product_id(id) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let user = signed_in(&headers);
    let headers = with_user(headers, user.as_deref());
    match upstream::get(&shop.client, service, &format!("/{collection}/{id}"), &headers).await {
        Ok(Answer { json, hops }) => {
            let mut response = Json(json).into_response();
            response.extensions_mut().insert(Behind(hops));
            response
        }
        Err(error) => {
            eprintln!("{service}: {error:#}");
            let body = Json(json!({ "error": format!("{service} is currently unavailable") }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        headers
    }

    #[test]
    fn the_session_cookie_names_the_user() {
        assert_eq!(signed_in(&headers("a=b; user=jason")).as_deref(), Some("jason"));
        assert_eq!(signed_in(&headers("user=")), None);
        assert_eq!(signed_in(&headers("user=<b>")), None);
        assert_eq!(signed_in(&HeaderMap::new()), None);
    }

    #[test]
    fn a_browser_cannot_name_the_end_user_by_header() {
        let mut claimed = HeaderMap::new();
        claimed.insert(END_USER, HeaderValue::from_static("admin"));
        assert!(with_user(claimed.clone(), None).get(END_USER).is_none());
        assert_eq!(with_user(claimed, Some("jason"))[END_USER], "jason");
    }
}
