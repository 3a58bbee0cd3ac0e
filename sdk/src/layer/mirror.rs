//! Mirror: sends copies of requests, whose answers nobody sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::BodyExt;
use tower_service::Service;

use super::call::{Call, Destination, Routed, Won, authority};
use super::tee::tee;
use super::{MeshBody, Refusal, upgrade};
use crate::policy::route::{Mirror as Rule, shadow_host};
use crate::snapshot::{Cluster, Findings};
use crate::telemetry::{self, Meter};

/// How many copies may be under way in one stack; what is beyond is not sent. Together with what may wait for a copy
/// this bounds the memory that copies take.
const UNDER_WAY: usize = 1_024;

/// How long a copy may take where its rule has no limit for requests.
const PATIENCE: Duration = Duration::from_secs(300);

/// How much of a copy's answer is read so that its connection can be used again.
const ANSWER: usize = 64 << 10;

/// Sends copies of requests beside them, as the rules say that won. The requests pass as if there were none: nothing
/// that happens to a copy is seen by the caller, and nothing waits for it.
///
/// A copy is not retried. An upgrade is not copied: there is nobody to talk to.
#[derive(Clone, Debug)]
pub struct Mirror<S, C> {
    inner: S,
    copies: C,
    meter: Meter,
    under_way: Arc<AtomicUsize>,
}

impl<S, C> Mirror<S, C> {
    /// Requests go to `inner`, copies to `copies`.
    pub fn new(inner: S, copies: C, meter: Meter) -> Self {
        Self {
            inner,
            copies,
            meter,
            under_way: Arc::default(),
        }
    }
}

impl<S, C> Service<Routed> for Mirror<S, C>
where
    S: Service<Routed>,
    C: Service<Routed, Response = Response<MeshBody>, Error = Refusal> + Clone + Send + 'static,
    C::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut routed: Routed) -> S::Future {
        let wanted = routed.rule.as_ref().map(|won| self.draw(won, &routed.call));
        if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
            self.send(&mut routed, wanted);
        }
        self.inner.call(routed)
    }
}

impl<S, C> Mirror<S, C>
where
    C: Service<Routed, Response = Response<MeshBody>, Error = Refusal> + Clone + Send + 'static,
    C::Future: Send,
{
    /// Who gets a copy of this request. Does not allocate if the answer is nobody.
    fn draw(&self, won: &Won, call: &Call) -> Vec<(Arc<Cluster>, bool)> {
        let mirrors = won
            .mirrors()
            .filter(|mirror| mirror.share.holds(fastrand::u64(..)));
        let target = |mirror: &Rule| Some((Arc::clone(call.view.cluster(mirror.to)?), mirror.shadow_host));
        let drawn: Vec<_> = mirrors.filter_map(target).collect();
        if upgrade::requested(call.request.headers()).is_some() {
            return Vec::new();
        }
        drawn
    }

    fn send(&self, routed: &mut Routed, wanted: Vec<(Arc<Cluster>, bool)>) {
        let request = &mut routed.call.request;
        let (body, bodies) = tee(std::mem::take(request.body_mut()), wanted.len());
        *request.body_mut() = body;
        let limit = routed.rule.as_ref().and_then(|won| won.rule()?.timeouts.request);
        for ((cluster, shadow), body) in wanted.into_iter().zip(bodies) {
            let Some(place) = UnderWay::enter(&self.under_way) else {
                self.meter.mirrored("overflow");
                continue;
            };
            let copy = copy(&routed.call, body, cluster, shadow);
            let (mut copies, meter) = (self.copies.clone(), self.meter.clone());
            // Whoever follows the trace wants the request, not its copies.
            let context = telemetry::current().unsampled();
            // Nobody owns the task: it ends by itself within its time, and there are not more than `UNDER_WAY`.
            tokio::spawn(context.scope(async move {
                let answer = tokio::time::timeout(limit.unwrap_or(PATIENCE), async {
                    let response = copies.call(copy).await?;
                    discard(response.into_body()).await;
                    Ok::<_, Refusal>(())
                });
                match answer.await {
                    Ok(Ok(())) => meter.mirrored("sent"),
                    Ok(Err(refusal)) => {
                        tracing::debug!(%refusal, "the copy of a request was lost");
                        meter.mirrored("failed");
                    }
                    Err(_) => meter.mirrored("timeout"),
                }
                drop(place);
            }));
        }
    }
}

/// The copy as it goes out: filters applied like the request's, since it is made after them.
fn copy(call: &Call, body: MeshBody, cluster: Arc<Cluster>, shadow: bool) -> Routed {
    let original = &call.request;
    let mut request = Request::new(body);
    *request.method_mut() = original.method().clone();
    *request.uri_mut() = original.uri().clone();
    *request.version_mut() = original.version();
    *request.headers_mut() = original.headers().clone();
    if shadow {
        rename(&mut request);
    }
    let call = Call {
        request: Box::new(request),
        view: Arc::clone(&call.view),
        place: call.place.clone(),
        peer: call.peer.clone(),
        dialled: None,
        found: Findings::default(),
        notes: None,
    };
    Routed::new(call, None, Destination::Cluster(cluster))
}

/// Says in the host that the request is a copy; leaves a host alone that cannot be said so.
fn rename(request: &mut Request<MeshBody>) {
    let host = shadow_host(authority(request));
    let (Ok(value), Ok(named)) = (HeaderValue::try_from(&host), Authority::try_from(host.as_str())) else {
        return;
    };
    if request.uri().authority().is_some() {
        let mut parts = request.uri().clone().into_parts();
        parts.authority = Some(named);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    if request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, value);
    }
}

async fn discard(mut body: MeshBody) {
    let mut left = ANSWER;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
        if left == 0 {
            return;
        }
    }
}

/// One of the copies under way.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn enter(under_way: &Arc<AtomicUsize>) -> Option<Self> {
        // Relaxed: a count, nothing is published through it.
        let admit = |count: usize| (count < UNDER_WAY).then_some(count + 1);
        let entered = under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit);
        entered.ok().map(|_| Self(Arc::clone(under_way)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::layer::Reason;
    use crate::name::{Host, Kind, ResourceRef, ServiceName};
    use crate::policy::balance::EndpointSet;
    use crate::policy::route::{Action, ClusterId, RouteRule, RouteTableBuilder, RuleId, RuleOrigin, Share};
    use crate::snapshot::{AppProtocol, Snapshot, Via};
    use crate::telemetry::Meter;

    /// Remembers who was called with which host, and never answers.
    #[derive(Clone)]
    struct Seen(mpsc::UnboundedSender<(String, Option<HeaderValue>)>);

    impl Service<Routed> for Seen {
        type Response = Response<MeshBody>;
        type Error = Refusal;
        type Future = std::future::Ready<Result<Response<MeshBody>, Refusal>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, routed: Routed) -> Self::Future {
            let name = match &routed.to {
                Destination::Cluster(cluster) => cluster.host.to_string(),
                Destination::Endpoint(_) => String::new(),
            };
            let host = routed.call.request.headers().get(HOST).cloned();
            let _ = self.0.send((name, host));
            std::future::ready(Err(Refusal::new(Reason::NoEndpoint, "nobody is there")))
        }
    }

    fn cluster(host: &str) -> Arc<Cluster> {
        Arc::new(Cluster {
            service: ServiceName::new("ns", host),
            host: Host::parse(host).unwrap(),
            port: 80,
            subset: None,
            protocol: AppProtocol::Http1,
            via: Via::Direct,
            endpoints: EndpointSet::new(Vec::new()),
        })
    }

    /// A request that a rule with these mirrors won, on its way to `main`.
    fn routed(mirrors: &[Rule], headers: &[(&'static str, &str)]) -> Routed {
        let origin = RuleOrigin::new(ResourceRef::new(Kind::HTTPRoute, "ns", "r"), 0, None);
        let mut table = RouteTableBuilder::default();
        table.rule(
            RouteRule {
                mirrors: mirrors.into(),
                ..RouteRule::new(origin, Action::fail("not asked"))
            },
            None,
        );
        let won = Won {
            table: Arc::new(table.build()),
            id: RuleId(0),
            backend: 0,
        };
        let mut request = Request::new(MeshBody::full("body"));
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let call = Call {
            request: Box::new(request),
            view: Arc::new(Snapshot {
                clusters: vec![cluster("one"), cluster("two")],
                ..Snapshot::default()
            }),
            place: None,
            peer: None,
            dialled: None,
            found: Findings::default(),
            notes: None,
        };
        Routed::new(call, Some(won), Destination::Cluster(cluster("main")))
    }

    fn to(cluster: u32, share: Share, shadow_host: bool) -> Rule {
        Rule {
            to: ClusterId(cluster),
            share,
            shadow_host,
        }
    }

    /// Who was asked for what, the request itself included.
    async fn asked(routed: Routed, count: usize) -> Vec<(String, String)> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let seen = Seen(sender);
        let mut mirror = Mirror::new(seen.clone(), seen, Meter::default());
        let _ = mirror.call(routed).await;
        drop(mirror);
        let mut all = Vec::new();
        while let Some((name, host)) = receiver.recv().await {
            let host = host.map_or_else(String::new, |host| host.to_str().unwrap().to_owned());
            all.push((name, host));
        }
        assert_eq!(all.len(), count);
        all.sort();
        all
    }

    fn pair(name: &str, host: &str) -> (String, String) {
        (name.to_owned(), host.to_owned())
    }

    #[tokio::test]
    async fn every_mirror_gets_its_copy_and_says_so_where_asked_to() {
        let mirrors = [to(0, Share::ALL, false), to(1, Share::ALL, true)];
        let all = asked(routed(&mirrors, &[("host", "shop:80")]), 3).await;
        assert_eq!(
            all,
            [
                pair("main", "shop:80"),
                pair("one", "shop:80"),
                pair("two", "shop-shadow:80")
            ]
        );
    }

    #[tokio::test]
    async fn nobody_who_is_not_drawn_and_no_upgrade() {
        let none = Share::new(0, 100).unwrap();
        let all = asked(routed(&[to(0, none, false), to(9, Share::ALL, false)], &[]), 1).await;
        assert_eq!(all, [pair("main", "")]);
        let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
        asked(routed(&[to(0, Share::ALL, false)], &upgrade), 1).await;
    }

    #[tokio::test]
    async fn copies_under_way_are_bounded() {
        let full = Arc::new(AtomicUsize::new(0));
        let places: Vec<_> = (0..UNDER_WAY).map(|_| UnderWay::enter(&full).unwrap()).collect();
        assert!(UnderWay::enter(&full).is_none());
        drop(places);
        assert!(UnderWay::enter(&full).is_some());
    }
}
