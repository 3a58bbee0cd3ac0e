//! What a layer does with a call that has to wait before it may go on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{HeaderMap, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Call, MeshBody, Reason, Refusal, Watch};
use crate::policy::limit::Entered;

/// A call that may go on, and what its response gets besides.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) call: Call,
    /// Headers that are set on the response.
    pub(super) headers: HeaderMap,
    /// What counts it as under way until its response has ended.
    pub(super) entered: Vec<Entered>,
}

/// Tells limits how long a request took, if it was answered to its end.
struct Told(Vec<Entered>);

impl Watch for Told {
    fn ended(self: Box<Self>, _: u64, _: Option<&HeaderMap>, complete: bool) {
        if complete {
            let now = Instant::now();
            self.0.into_iter().for_each(|entered| entered.answered(now));
        }
    }
}

#[cfg(feature = "jwt")]
impl From<Call> for Passed {
    fn from(call: Call) -> Self {
        Self {
            call,
            headers: HeaderMap::new(),
            entered: Vec::new(),
        }
    }
}

/// What comes before a call goes on.
pub(super) type Before = Pin<Box<dyn Future<Output = Result<Passed, Refusal>> + Send>>;

pin_project! {
    /// A call that goes on at once, later, or not at all.
    #[project = AheadProjection]
    #[allow(missing_docs)] // the variants are not for callers
    pub enum AheadFuture<S: Service<Call>> {
        Waiting { before: Before, inner: S },
        Calling { passed: Option<Passed>, inner: S },
        Inner { #[pin] future: S::Future, headers: HeaderMap, entered: Vec<Entered> },
        Refused { refusal: Option<Refusal> },
    }
}

impl<S: Service<Call>> AheadFuture<S> {
    pub(super) fn inner(future: S::Future) -> Self {
        Self::Inner {
            future,
            headers: HeaderMap::new(),
            entered: Vec::new(),
        }
    }

    pub(super) fn refused(refusal: Refusal) -> Self {
        Self::Refused {
            refusal: Some(refusal),
        }
    }
}

impl<S> Future for AheadFuture<S>
where
    S: Service<Call, Response = Response<MeshBody>, Error = Refusal> + Clone,
{
    type Output = Result<S::Response, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let again = || Refusal::new(Reason::Denied, "polled after completion");
        loop {
            let next = match self.as_mut().project() {
                AheadProjection::Waiting { before, inner } => Self::Calling {
                    passed: Some(ready!(before.as_mut().poll(cx))?),
                    inner: inner.clone(),
                },
                AheadProjection::Calling { passed, inner } => {
                    ready!(inner.poll_ready(cx))?;
                    let Passed {
                        call,
                        headers,
                        entered,
                    } = passed.take().ok_or_else(again)?;
                    Self::Inner {
                        future: inner.call(call),
                        headers,
                        entered,
                    }
                }
                AheadProjection::Inner {
                    future,
                    headers,
                    entered,
                } => {
                    let mut response = ready!(future.poll(cx))?;
                    for (name, value) in headers.iter() {
                        response.headers_mut().insert(name, value.clone());
                    }
                    if !entered.is_empty() {
                        let told = Told(std::mem::take(entered));
                        response = response.map(|body| body.watched(Box::new(told)));
                    }
                    return Poll::Ready(Ok(response));
                }
                AheadProjection::Refused { refusal } => {
                    return Poll::Ready(Err(refusal.take().unwrap_or_else(again)));
                }
            };
            self.set(next);
        }
    }
}
