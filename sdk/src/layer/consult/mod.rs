//! Consult: asks external authorizers where CUSTOM policies say so.
//!
//! ```text
//! CUSTOM rule matches ─▶ Authorizer ─┬ gRPC  envoy.service.auth.v3.Authorization/Check
//!                                    └ HTTP  a request like the one that is asked about
//!        200 / OK: go on, headers changed     anything else: the authorizer's own answer     nobody there: `failOpen`
//! ```
//!
//! It comes before tokens are verified and before DENY and ALLOW, so an authorizer can take access away and change
//! headers, and can never give access that policies do not. The authorizer is reached as any service is: through the
//! mesh's own outbound stack.

mod answer;
mod body;
mod grpc;
mod http;
mod message;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{HeaderMap, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use self::answer::{Answer, Changes};
pub(super) use self::answer::{few, may_change};
use self::body::Held;
use super::ahead::{AheadFuture, Passed};
use super::{Asker, Call, MeshBody, Reason, Refusal};
use crate::name::{ResourceRef, SpiffeId};
use crate::policy::ConnectionHead;
use crate::snapshot::tap::Phase;
use crate::snapshot::{Authorizer, CheckProtocol, Place, Snapshot};
use crate::telemetry::Meter;

/// How long an authorizer may take that names no timeout: Istio's own stand-in for "as long as the service allows".
const TIMEOUT: Duration = Duration::from_secs(600);

/// Makes [`Consult`].
#[derive(Clone, Debug)]
pub struct ConsultLayer {
    asker: Option<Asker>,
    meter: Meter,
}

impl ConsultLayer {
    /// Authorizers are asked through `asker`, denials are counted in `meter`. Without an asker nobody is asked, and what
    /// must be asked about is denied.
    pub fn new(asker: Option<Asker>, meter: Meter) -> Self {
        Self { asker, meter }
    }
}

impl<S> Layer<S> for ConsultLayer {
    type Service = Consult<S>;

    fn layer(&self, inner: S) -> Consult<S> {
        Consult {
            inner,
            asker: self.asker.clone(),
            meter: self.meter.clone(),
        }
    }
}

/// Asks external authorizers where CUSTOM policies say so.
#[derive(Clone, Debug)]
pub struct Consult<S> {
    inner: S,
    asker: Option<Asker>,
    meter: Meter,
}

impl<S> Service<Call> for Consult<S>
where
    S: Service<Call, Response = Response<MeshBody>, Error = Refusal> + Clone,
{
    type Response = S::Response;
    type Error = Refusal;
    type Future = AheadFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        // Who has not been asked is asked for by the engine, which denies.
        let Some(asker) = &self.asker else {
            return AheadFuture::inner(self.inner.call(call));
        };
        let asked = match asked(&call) {
            Some(asked) if !asked.is_empty() => asked,
            settled => {
                if settled.is_some() {
                    call.found.consulted();
                }
                return AheadFuture::inner(self.inner.call(call));
            }
        };
        call.mark(Phase::Consult);
        AheadFuture::Waiting {
            before: Box::pin(consult(call, asked, asker.clone(), self.meter.clone())),
            inner: self.inner.clone(),
        }
    }
}

/// Who must be asked, and which policy says so; `None` if that is nobody who can be asked: then the engine denies.
fn asked(call: &Call) -> Option<Vec<(Arc<Authorizer>, ResourceRef)>> {
    // Most processes ask nobody: then nothing of the request need be looked at.
    if !call.view.asks().authorizers {
        return Some(Vec::new());
    }
    let caller = call.peer.as_ref().and_then(|peer| peer.identity.as_ref());
    let passages = call
        .place
        .as_deref()
        .and_then(|place| call.view.passages(place, caller).ok())
        .unwrap_or_default();
    let head = call.head();
    let mut asked: Vec<(Arc<Authorizer>, ResourceRef)> = Vec::new();
    for passage in passages {
        let Some((by, _)) = passage.gate.authz.consult(&passage.head(&head)) else {
            continue;
        };
        let authorizer = passage.gate.authorizer.as_ref()?;
        if !asked.iter().any(|(known, _)| known.name == authorizer.name) {
            asked.push((Arc::clone(authorizer), by.policy.clone()));
        }
    }
    Some(asked)
}

async fn consult(
    mut call: Call,
    asked: Vec<(Arc<Authorizer>, ResourceRef)>,
    asker: Asker,
    meter: Meter,
) -> Result<Passed, Refusal> {
    let headers = vet(&mut call, asked, &asker, &meter).await?;
    call.found.consulted();
    Ok(Passed {
        call,
        headers,
        entered: Vec::new(),
    })
}

/// Asks authorizers about a call, each for the sake of a resource; gives the headers that the response gets.
///
/// # Errors
/// The first refusal.
pub(super) async fn vet(
    call: &mut Call,
    asked: Vec<(Arc<Authorizer>, ResourceRef)>,
    asker: &Asker,
    meter: &Meter,
) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    for (authorizer, policy) in asked {
        let held = body::hold(&mut call.request, authorizer.body)
            .await
            .map_err(|refusal| told(refusal, &policy, &authorizer, meter))?;
        let answer = match Question::of(call, held.as_ref(), &authorizer) {
            Ok(question) => in_time(&authorizer, question.ask(&authorizer, asker)).await,
            Err(why) => Err(why),
        };
        let settled = settle(answer, &authorizer).and_then(|changes| {
            let made = changes.apply(&mut call.request, &mut headers);
            // What cannot be changed as the authorizer wants it was not allowed as it is.
            made.or_else(|why| settle(Err(why), &authorizer).map(drop))
        });
        settled.map_err(|refusal| told(refusal, &policy, &authorizer, meter))?;
    }
    Ok(headers)
}

/// What is sent to an authorizer; made before anything waits, so that no request is held on to meanwhile.
enum Question {
    Grpc(message::CheckRequest),
    Http(Request<MeshBody>),
}

impl Question {
    fn of(call: &Call, held: Option<&Held>, authorizer: &Authorizer) -> Result<Self, String> {
        Ok(match &authorizer.protocol {
            CheckProtocol::Grpc { told } => {
                // Of every header, where none is named.
                let all = *told == Default::default();
                Self::Grpc(message::of_request(call, held, |name| all || told.matches(name)))
            }
            CheckProtocol::Http(check) => Self::Http(http::question(call, held, authorizer, check)?),
        })
    }

    async fn ask(self, authorizer: &Authorizer, asker: &Asker) -> Result<Answer, String> {
        match (self, &authorizer.protocol) {
            (Self::Http(request), CheckProtocol::Http(check)) => http::check(request, check, asker).await,
            (Self::Grpc(message), _) => grpc::check(message, authorizer, asker).await,
            (Self::Http(_), CheckProtocol::Grpc { .. }) => Err("asked by the wrong protocol".into()),
        }
    }
}

async fn in_time(
    authorizer: &Authorizer,
    asking: impl Future<Output = Result<Answer, String>>,
) -> Result<Answer, String> {
    let timeout = authorizer.timeout.unwrap_or(TIMEOUT);
    tokio::time::timeout(timeout, asking)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
}

/// What comes of an answer: changes to the request, or the refusal.
fn settle(answer: Result<Answer, String>, authorizer: &Authorizer) -> Result<Changes, Refusal> {
    match answer {
        Ok(Answer::Allowed(changes)) => Ok(changes),
        Ok(Answer::Denied {
            status,
            headers,
            body,
        }) => {
            let mut refusal = Refusal::new(
                Reason::Authorizer,
                format!("ext_authz_denied: {}", authorizer.name),
            )
            .status(status);
            refusal.body = body.into();
            Err(refusal.with_headers(headers))
        }
        Err(why) if authorizer.fail_open => {
            tracing::warn!(
                authorizer = &*authorizer.name,
                why,
                "not asked, and the request passes: failOpen"
            );
            Ok(Changes::default())
        }
        Err(why) => {
            let detail = format!("ext_authz_error: {}: {why}", authorizer.name);
            Err(Refusal::new(Reason::Authorizer, detail).status(authorizer.status_on_error))
        }
    }
}

fn told(mut refusal: Refusal, policy: &ResourceRef, authorizer: &Authorizer, meter: &Meter) -> Refusal {
    tracing::debug!(%policy, authorizer = &*authorizer.name, "the external authorizer did not allow the request");
    meter.denied(&policy.to_string());
    refusal.policy = Some(policy.clone());
    refusal
}

/// Asks about a connection where CUSTOM policies say so; only authorizers that speak gRPC know connections.
///
/// # Errors
/// Why the connection is denied.
pub(crate) async fn consult_connection(
    view: &Snapshot,
    place: &Place,
    head: &ConnectionHead<'_>,
    own: Option<&SpiffeId>,
    asker: &Asker,
) -> Result<(), String> {
    for authorizer in view.consults(place, head) {
        let message = message::of_connection(head, own);
        let answer = in_time(&authorizer, grpc::check(message, &authorizer, asker)).await;
        settle(answer, &authorizer).map_err(|refusal| refusal.detail.into_owned())?;
    }
    Ok(())
}

/// A status that an answer may have; 403 for anything else.
fn status_of(code: u32) -> StatusCode {
    u16::try_from(code)
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok())
        .filter(|status| status.as_u16() >= 200)
        .unwrap_or(StatusCode::FORBIDDEN)
}
