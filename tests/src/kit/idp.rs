//! An issuer that publishes its keys, as well or badly as it is told to.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Result;
use http::{Request, Response, StatusCode};
use inmesh::Body;
use inmesh::identity::dev_ca::Pems;
use inmesh::testing::Issuer;
use serde_json::{Value, json};

use super::plain::Plain;

/// Where the keys are.
pub const KEYS: &str = "/keys";

/// A running issuer.
#[derive(Debug)]
pub struct Idp {
    app: App,
    server: Plain,
}

#[derive(Clone, Debug)]
struct App {
    state: Arc<Mutex<State>>,
    fetched: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
struct State {
    url: String,
    jwks: String,
    status: StatusCode,
    pause: Duration,
}

impl Idp {
    /// Starts it with the keys of an issuer of tokens; port 0 takes a free one.
    pub async fn start(ip: impl Into<IpAddr>, port: u16, issuer: &Issuer) -> Result<Self> {
        let app = App::new(issuer);
        let server = Plain::http(ip, port, app.clone()).await?;
        app.change(|state| state.url = format!("http://{}", server.addr()));
        Ok(Self { app, server })
    }

    /// Starts it as `https://localhost` on a free port, with this certificate.
    pub async fn start_secure(issuer: &Issuer, pems: &Pems) -> Result<Self> {
        let app = App::new(issuer);
        let server = Plain::https(Ipv4Addr::LOCALHOST, 0, app.clone(), pems).await?;
        app.change(|state| state.url = format!("https://localhost:{}", server.addr().port()));
        Ok(Self { app, server })
    }

    /// Its URL: the issuer's name where keys are discovered.
    pub fn url(&self) -> String {
        let state = self.app.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.url.clone()
    }

    /// Where its keys are.
    pub fn keys_url(&self) -> String {
        format!("{}{KEYS}", self.url())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Publishes the keys of these issuers from now on.
    pub fn publish(&self, issuers: &[&Issuer]) {
        let keys = issuers.iter().flat_map(|issuer| keys_of(issuer));
        let set = json!({"keys": keys.collect::<Vec<_>>()});
        self.app.change(|state| state.jwks = set.to_string());
    }

    /// Publishes this text from now on.
    pub fn publish_text(&self, text: String) {
        self.app.change(|state| state.jwks = text);
    }

    /// Answers with this status from now on.
    pub fn status(&self, status: StatusCode) {
        self.app.change(|state| state.status = status);
    }

    /// Takes this long for every answer from now on.
    pub fn pause(&self, pause: Duration) {
        self.app.change(|state| state.pause = pause);
    }

    /// How often its keys were asked for.
    pub fn fetched(&self) -> usize {
        self.app.fetched.load(Ordering::SeqCst)
    }
}

/// The keys that an issuer publishes.
pub fn keys_of(issuer: &Issuer) -> Vec<Value> {
    let set: Value = serde_json::from_str(&issuer.jwks()).unwrap_or_default();
    set["keys"].as_array().cloned().unwrap_or_default()
}

impl App {
    fn new(issuer: &Issuer) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                url: String::new(),
                jwks: issuer.jwks(),
                status: StatusCode::OK,
                pause: Duration::ZERO,
            })),
            fetched: Arc::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::time::sleep(state.pause).await;
        let text = match request.uri().path() {
            KEYS => {
                self.fetched.fetch_add(1, Ordering::SeqCst);
                state.jwks
            }
            "/.well-known/openid-configuration" => {
                json!({"issuer": state.url, "jwks_uri": format!("{}{KEYS}", state.url)}).to_string()
            }
            _ => String::new(),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = state.status;
        response
    }
}

impl tower_service::Service<Request<Body>> for App {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let app = self.clone();
        Box::pin(async move { Ok(app.answer(request).await) })
    }
}
