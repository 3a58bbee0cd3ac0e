//! Who calls whom: what every process's live view says of its calls, joined with what their callees saw.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Shared;
use crate::kubelet::{ADMIN, Pod, Pods, Program};
use crate::plain;

/// How often every process is asked.
const EVERY: Duration = Duration::from_secs(2);
/// What is not to be seen for this long is not drawn any more.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// What is asked: rates of the last seconds.
const QUESTION: &str = "/live/graph?window=4";
/// Longer than the first answer takes, which waits for its window.
const PATIENCE: Duration = Duration::from_secs(8);

/// The graph as it was seen last.
#[derive(Default)]
pub(super) struct Graph(Mutex<Vec<Edge>>);

/// Calls from one workload to the next: a waypoint is a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Edge {
    from: String,
    to: String,
    /// Requests per second.
    rate: f64,
    /// Those of them that failed: 5xx, or no answer.
    failed: f64,
    /// Those of them that were refused: 401 and 403.
    denied: f64,
    /// The median and the 99th percentile of a request's time, in milliseconds.
    p50: Option<f64>,
    p99: Option<f64>,
    /// Whether the callee says that both ends proved who they are; nothing if it says nothing.
    mutual_tls: Option<bool>,
    /// The identities that caller and callee are known to have.
    caller: String,
    identity: String,
}

/// A process's live view, as far as it is read here.
#[derive(Debug, Default, Deserialize)]
struct Told {
    edges: Vec<Call>,
}

/// An edge of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    source: String,
    target: String,
    reporter: String,
    mtls: Option<bool>,
    source_identity: String,
    target_identity: String,
    rate: Option<f64>,
    failed_share: f64,
    denied_share: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// From and to.
type Ends = (String, String);

/// One look at all processes.
#[derive(Debug, Default)]
struct Look {
    calls: BTreeMap<Ends, Edge>,
    /// What callees saw: whether all that came from a caller was mutual TLS, and who that proved to be.
    seen: BTreeMap<Ends, (bool, String)>,
}

/// Looks at all processes again and again.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = BTreeMap::<Ends, Instant>::new();
    loop {
        ticks.tick().await;
        let pods = shared.town.kubelet.pods().borrow().clone();
        let edges = look(&pods).await.edges();
        let now = Instant::now();
        for edge in edges.iter().filter(|edge| edge.rate > 0.0) {
            last.insert((edge.from.clone(), edge.to.clone()), now);
        }
        last.retain(|_, at| now.duration_since(*at) < FORGOTTEN);
        let drawn = edges
            .into_iter()
            .filter(|edge| last.contains_key(&(edge.from.clone(), edge.to.clone())));
        *shared.graph.0.lock().unwrap_or_else(PoisonError::into_inner) = drawn.collect();
    }
}

impl Graph {
    /// The edges that carry requests.
    pub(super) fn edges(&self) -> Vec<Edge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asks every process; one that does not answer is left out.
async fn look(pods: &Pods) -> Look {
    let mut asked = JoinSet::new();
    for pod in pods.values() {
        let (admin, owner) = (format!("{}:{ADMIN}", pod.address), pod.spec.owner.clone());
        asked.spawn(async move {
            let answer = timeout(PATIENCE, plain::get(&admin, QUESTION)).await.ok()?.ok()?;
            Some((owner, serde_json::from_str::<Told>(&answer.body).ok()?))
        });
    }
    let mut look = Look::default();
    for (owner, told) in asked.join_all().await.into_iter().flatten() {
        look.read(pods, &owner, told);
    }
    look
}

impl Look {
    /// Reads what one process tells.
    fn read(&mut self, pods: &Pods, owner: &str, told: Told) {
        for call in told.edges {
            let (from, to) = (workload(pods, &call.source), workload(pods, &call.target));
            // What a process is sent it tells as the destination; a waypoint tells of both sides at once.
            if let (Some(from), None, "destination" | "waypoint") = (&from, &to, &*call.reporter) {
                let secured = call.mtls == Some(true);
                let seen = self.seen.entry((from.clone(), owner.to_owned()));
                let (all, who) = seen.or_insert((true, String::new()));
                *all &= secured;
                who.clone_from(&call.source_identity);
            }
            // What it sends leads on to a workload, from it or from the Service that it called.
            if let (Some(to), "source" | "waypoint") = (to, &*call.reporter) {
                let ends = (owner.to_owned(), to);
                self.calls.entry(ends).or_default().add(&call);
            }
        }
    }

    fn edges(mut self) -> Vec<Edge> {
        let seen = std::mem::take(&mut self.seen);
        let edges = self.calls.into_iter().map(|((from, to), mut edge)| {
            (edge.from, edge.to) = (from.clone(), to.clone());
            if let Some((secured, who)) = seen.get(&(from, to)) {
                edge.mutual_tls = Some(*secured);
                edge.caller.clone_from(who);
            }
            edge
        });
        edges.collect()
    }
}

/// A workload's name in the town, by its id in a live view; nothing for a Service. A pod that no Deployment made is named by
/// itself there.
fn workload(pods: &Pods, id: &str) -> Option<String> {
    let (_, name) = id.strip_prefix("workload:")?.split_once('/')?;
    let pod = pods.values().find(|pod| pod.spec.name == name);
    Some(pod.map_or_else(|| name.to_owned(), |pod| pod.spec.owner.clone()))
}

impl Edge {
    fn add(&mut self, call: &Call) {
        let rate = call.rate.unwrap_or(0.0);
        self.rate += rate;
        self.failed += rate * call.failed_share;
        self.denied += rate * call.denied_share;
        // Of several Services' calls together no quantile is known but that it is none of these's worst.
        for (worst, other) in [(&mut self.p50, call.p50_ms), (&mut self.p99, call.p99_ms)] {
            if rate > 0.0 && other > *worst {
                *worst = other;
            }
        }
        if !call.target_identity.is_empty() {
            self.identity.clone_from(&call.target_identity);
        }
    }
}

/// What a pod is in a picture.
pub(super) fn role(pod: &Pod) -> &'static str {
    match &pod.spec.program {
        Program::Gateway { http, .. } if http.is_empty() => "waypoint",
        Program::Gateway { .. } => "gateway",
        Program::Service(name) if name == "client" => "client",
        Program::Service(_) => "service",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SERVICE: &str = "service:reviews.bookinfo.svc.cluster.local";

    fn call(reporter: &str, source: &str, target: &str, more: &Value) -> Value {
        let mut call = json!({
            "source": source, "target": target, "protocol": "http", "reporter": reporter, "mtls": true,
            "sourceIdentity": "spiffe://td/c", "targetIdentity": "spiffe://td/r", "requests": 100, "failed": 0, "denied": 0,
            "rate": 10.0, "failedShare": 0.0, "deniedShare": 0.0, "p50Ms": 2.0, "p99Ms": 9.0, "connections": null,
        });
        let (whole, more) = (call.as_object_mut().unwrap(), more.as_object().unwrap());
        whole.extend(more.clone());
        call
    }

    fn told(calls: &[Value]) -> Told {
        serde_json::from_value(json!({ "generation": 1, "nodes": [], "edges": calls })).unwrap()
    }

    #[test]
    fn a_call_leads_from_its_process_to_whom_it_reached_and_is_secured_as_that_one_saw() {
        let mut look = Look::default();
        let pods = Pods::new();
        let calls = [
            call("source", "workload:default/curl", SERVICE, &json!({})),
            call(
                "source",
                SERVICE,
                "workload:bookinfo/reviews-v1",
                &json!({ "rate": 8.0, "failedShare": 0.25, "deniedShare": 0.5 }),
            ),
            call(
                "source",
                SERVICE,
                "workload:bookinfo/waypoint",
                &json!({ "rate": null }),
            ),
            // By its address.
            call(
                "source",
                "workload:default/curl",
                "workload:bookinfo/reviews-v1",
                &json!({ "rate": 2.0, "p99Ms": 11.0 }),
            ),
        ];
        look.read(&pods, "curl", told(&calls));
        let seen = call(
            "destination",
            "workload:default/curl",
            SERVICE,
            &json!({ "mtls": false }),
        );
        look.read(&pods, "reviews-v1", told(&[seen]));
        let edges = look.edges();
        assert_eq!(edges.len(), 2, "{edges:?}");
        let edge = &edges[0];
        assert_eq!((&*edge.from, &*edge.to), ("curl", "reviews-v1"));
        assert_eq!((edge.rate, edge.failed, edge.denied), (10.0, 2.0, 4.0));
        assert_eq!((edge.p50, edge.p99), (Some(2.0), Some(11.0)));
        assert_eq!((edge.mutual_tls, &*edge.identity), (Some(false), "spiffe://td/r"));
        assert_eq!(edge.caller, "spiffe://td/c");
        assert_eq!(
            (&*edges[1].to, edges[1].rate, edges[1].mutual_tls),
            ("waypoint", 0.0, None)
        );
    }

    #[test]
    fn a_waypoint_is_called_and_calls() {
        let mut look = Look::default();
        let pods = Pods::new();
        let calls = [
            call("waypoint", "workload:default/curl", SERVICE, &json!({})),
            call("waypoint", SERVICE, "workload:bookinfo/reviews-v2", &json!({})),
        ];
        look.read(&pods, "waypoint", told(&calls));
        let sent = call("source", SERVICE, "workload:bookinfo/waypoint", &json!({}));
        look.read(&pods, "curl", told(&[sent]));
        let edges = look.edges();
        let ends: Vec<(&str, &str)> = edges.iter().map(|edge| (&*edge.from, &*edge.to)).collect();
        assert_eq!(ends, [("curl", "waypoint"), ("waypoint", "reviews-v2")]);
        assert_eq!(edges[0].mutual_tls, Some(true));
    }
}
