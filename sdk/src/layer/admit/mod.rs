//! Admit: lets in as many requests as rate limits allow.
//!
//! ```text
//! descriptors of the request ─┬▶ local: a token of each bucket that it counts in
//!                             ├▶ global: a service is asked (envoy.service.ratelimit.v3), the one case in which it waits
//! how important it is ────────┴▶ adaptive: a place among those under way, as many as latency allows
//! ```
//!
//! It comes after authorization, so that nobody uses up what is meant for others, and stands before the application, or
//! before routing in a waypoint or gateway: whoever calls cannot go around it.

#[cfg(feature = "extauthz")]
mod global;
#[cfg(feature = "extauthz")]
mod message;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use smallvec::SmallVec;
use tower_layer::Layer;
use tower_service::Service;

use super::ahead::{AheadFuture, Passed};
use super::{Asker, Call, MeshBody, Reason, Refusal};
use crate::name::ResourceRef;
use crate::policy::limit::{Around, Descriptor, Entered, LocalLimit, Taken};
use crate::snapshot::tap::Phase;
use crate::snapshot::{GlobalLimit, LimiterKind, Met, Place, Shedding};
use crate::telemetry::Meter;

/// Makes [`Admit`].
#[derive(Clone, Debug)]
pub struct AdmitLayer {
    asker: Option<Asker>,
    meter: Meter,
}

impl AdmitLayer {
    /// Services that keep limits are asked through `asker`; without one they count as not to be reached.
    pub fn new(asker: Option<Asker>, meter: Meter) -> Self {
        Self { asker, meter }
    }
}

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit {
            inner,
            asker: self.asker.clone(),
            meter: self.meter.clone(),
        }
    }
}

/// Lets in as many requests as rate limits allow.
#[derive(Clone, Debug)]
pub struct Admit<S> {
    inner: S,
    asker: Option<Asker>,
    meter: Meter,
}

impl<S> Service<Call> for Admit<S>
where
    S: Service<Call, Response = Response<MeshBody>, Error = Refusal> + Clone,
{
    type Response = S::Response;
    type Error = Refusal;
    type Future = AheadFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        if call.view.limits.is_empty() {
            return AheadFuture::inner(self.inner.call(call));
        }
        call.mark(Phase::Admit);
        let judged = match judge(&call, &self.meter) {
            Ok(judged) => judged,
            Err(refusal) => return AheadFuture::refused(*refusal),
        };
        if judged.asked.is_empty() {
            return AheadFuture::Inner {
                future: self.inner.call(call),
                headers: judged.headers,
                entered: judged.entered,
            };
        }
        AheadFuture::Waiting {
            before: Box::pin(ask(call, judged, self.asker.clone(), self.meter.clone())),
            inner: self.inner.clone(),
        }
    }
}

/// What is known of a request once this process has counted it.
#[derive(Debug, Default)]
struct Judged {
    /// What its response says besides.
    headers: HeaderMap,
    /// Who must be asked about it, and about what.
    asked: Vec<Asked>,
    /// What counts it as under way.
    entered: Vec<Entered>,
}

#[derive(Debug)]
struct Asked {
    by: ResourceRef,
    limit: Arc<GlobalLimit>,
    descriptors: Vec<Vec<(String, String)>>,
}

/// Counts a request in this process, and says who else must be asked.
fn judge(call: &Call, meter: &Meter) -> Result<Judged, Box<Refusal>> {
    let mut judged = Judged::default();
    let Some(place) = call.place.as_deref() else {
        return Ok(judged);
    };
    let head = call.head();
    let met: Met<'_> = call.view.limits_at(place, &head);
    let described = !met.describes.is_empty();
    let (source, destination) = match described {
        true => call.view.around(place),
        false => Default::default(),
    };
    let around = Around {
        source_cluster: &source,
        destination_cluster: &destination,
    };
    let of_stage = |stage: u32| -> SmallVec<[Descriptor<'_>; 2]> {
        let describes = met.describes.iter().filter(|it| it.stage == stage);
        describes.filter_map(|it| it.of(&head, &around)).collect()
    };
    for limiter in &met.limiters {
        match &limiter.kind {
            LimiterKind::Local(own) => {
                let Some(limit) = met.local.or(own.as_ref()) else {
                    continue;
                };
                let descriptors = of_stage(limit.policy().stage);
                local(limit, &descriptors, &limiter.by, &mut judged.headers, meter)?;
            }
            LimiterKind::Adaptive(shedding) => {
                judged
                    .entered
                    .push(enter(shedding, call, place, &limiter.by, meter)?);
            }
            LimiterKind::Global(limit) => {
                let owned = |it: &Descriptor<'_>| {
                    it.iter()
                        .map(|(key, value)| ((*key).to_owned(), value.to_string()))
                        .collect()
                };
                let descriptors: Vec<_> = of_stage(limit.stage).iter().map(owned).collect();
                // What counts as nothing is nobody's business (Envoy).
                if !descriptors.is_empty() {
                    judged.asked.push(Asked {
                        by: limiter.by.clone(),
                        limit: Arc::clone(limit),
                        descriptors,
                    });
                }
            }
        }
    }
    Ok(judged)
}

/// Takes a token for a request.
fn local(
    limit: &LocalLimit,
    descriptors: &[Descriptor<'_>],
    by: &ResourceRef,
    headers: &mut HeaderMap,
    meter: &Meter,
) -> Result<(), Box<Refusal>> {
    let policy = limit.policy();
    if !policy.enabled.takes(fastrand::u64(..)) {
        return Ok(());
    }
    let Some(taken) = limit.take(descriptors, Instant::now()) else {
        return Ok(());
    };
    if policy.tells {
        tell(Quota::from(&taken), headers);
    }
    if taken.allowed {
        return Ok(());
    }
    if !policy.enforced.takes(fastrand::u64(..)) {
        meter.rate_limited("not_enforced");
        return Ok(());
    }
    meter.rate_limited("local");
    let mut refusal =
        Refusal::new(Reason::Limited, format!("{by} allows no more requests")).status(policy.status);
    refusal.policy = Some(by.clone());
    refusal.grpc_status = policy.exhausted.then_some(RESOURCE_EXHAUSTED);
    let mut more = std::mem::take(headers);
    for (name, value) in &policy.headers {
        more.append(name.clone(), value.clone());
    }
    Err(Box::new(refusal.with_headers(more)))
}

/// Lets a request in beside those under way, if it is important enough.
fn enter(
    shedding: &Shedding,
    call: &Call,
    place: &Place,
    by: &ResourceRef,
    meter: &Meter,
) -> Result<Entered, Box<Refusal>> {
    let policy = shedding.policy();
    let criticality = policy.importance.of(call.request.headers(), call.is_from_mesh());
    let limit = shedding.at(place);
    limit.enter(criticality, Instant::now()).ok_or_else(|| {
        meter.shed(criticality.as_str());
        let detail = format!(
            "{by}: {} requests are under way of {} at once, which leaves no room for what is {}",
            limit.in_flight(),
            limit.limit(),
            criticality.as_str(),
        );
        let mut refusal = Refusal::new(Reason::Shed, detail).status(policy.status);
        refusal.policy = Some(by.clone());
        Box::new(refusal)
    })
}

/// gRPC's status for what is used up.
const RESOURCE_EXHAUSTED: u16 = 8;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What callers are told of a limit.
#[derive(Clone, Debug)]
struct Quota {
    /// How much there is, and, of a service that is asked, of which limits.
    limit: HeaderValue,
    /// How much is left.
    remaining: u32,
    /// In how many seconds there is more.
    reset: u64,
    /// Whether the request is one too many.
    over: bool,
}

impl From<&Taken> for Quota {
    fn from(taken: &Taken) -> Self {
        let seconds = taken.reset.as_millis().div_ceil(1_000);
        Self {
            limit: taken.limit.into(),
            remaining: taken.remaining,
            reset: u64::try_from(seconds).unwrap_or(u64::MAX),
            over: !taken.allowed,
        }
    }
}

/// Says what is left (draft-polli-ratelimit-headers-03, as Envoy writes it).
fn tell(quota: Quota, headers: &mut HeaderMap) {
    // Of several limits the one that leaves least is told.
    let told = headers
        .get(REMAINING)
        .and_then(|it| it.to_str().ok()?.parse::<u32>().ok());
    if !quota.over && told.is_some_and(|told| told <= quota.remaining) {
        return;
    }
    headers.insert(LIMIT, quota.limit);
    headers.insert(REMAINING, quota.remaining.into());
    headers.insert(RESET, quota.reset.into());
}

/// Asks those who keep limits, one after the other.
async fn ask(call: Call, judged: Judged, asker: Option<Asker>, meter: Meter) -> Result<Passed, Refusal> {
    let Judged {
        mut headers,
        asked,
        entered,
    } = judged;
    let mut call = call;
    for asked in asked {
        let limit = Arc::clone(&asked.limit);
        let answer = question(&asked, asker.as_ref()).await;
        match answer {
            Ok(answer) => {
                if let Some(quota) = answer.quota.filter(|_| limit.tells) {
                    tell(quota, &mut headers);
                }
                if !answer.over {
                    answer.request.into_iter().for_each(|(name, value)| {
                        call.request.headers_mut().append(name, value);
                    });
                    answer.response.into_iter().for_each(|(name, value)| {
                        headers.append(name, value);
                    });
                    continue;
                }
                meter.rate_limited("global");
                let detail = format!("{}: {} allows no more requests", asked.by, limit.host);
                let mut refusal = Refusal::new(Reason::Limited, detail)
                    .status(limit.status)
                    .body(answer.body);
                refusal.policy = Some(asked.by);
                refusal.grpc_status = limit.exhausted.then_some(RESOURCE_EXHAUSTED);
                if limit.marks {
                    headers.insert("x-envoy-ratelimited", HeaderValue::from_static("true"));
                }
                headers.extend(answer.response);
                return Err(refusal.with_headers(headers));
            }
            Err(why) if !limit.deny => {
                tracing::warn!(by = %asked.by, service = %limit.host, why, "not asked, and the request passes");
                meter.rate_limited("error_allowed");
            }
            Err(why) => {
                meter.rate_limited("error_denied");
                let detail = format!("{}: {} cannot be asked: {why}", asked.by, limit.host);
                let mut refusal = Refusal::new(Reason::Limiter, detail).status(limit.status_on_error);
                refusal.policy = Some(asked.by);
                return Err(refusal.with_headers(headers));
            }
        }
    }
    Ok(Passed {
        call,
        headers,
        entered,
    })
}

/// What a service says of a request.
#[derive(Debug, Default)]
struct Answer {
    over: bool,
    /// What is left, where it says so.
    quota: Option<Quota>,
    request: Vec<(HeaderName, HeaderValue)>,
    response: Vec<(HeaderName, HeaderValue)>,
    body: String,
}

#[cfg(feature = "extauthz")]
async fn question(asked: &Asked, asker: Option<&Asker>) -> Result<Answer, String> {
    let asker = asker.ok_or("nobody can be asked from here")?;
    let timeout = asked.limit.timeout;
    let asking = global::ask(&asked.limit, &asked.descriptors, asker);
    tokio::time::timeout(timeout, asking)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
}

#[cfg(not(feature = "extauthz"))]
async fn question(asked: &Asked, _: Option<&Asker>) -> Result<Answer, String> {
    let descriptors = asked.descriptors.len();
    Err(format!(
        "built without feature `extauthz`, which asking about {descriptors} descriptors needs"
    ))
}
