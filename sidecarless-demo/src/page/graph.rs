//! Who calls whom: the calls that every process says it made, joined with what their callees saw.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use super::exposition::{Point, points};
use crate::ca::identity;
use crate::kubelet::{Pod, Pods, Program};
use crate::observability::metrics_of;
use crate::plain;

/// How often every process is asked.
const EVERY: Duration = Duration::from_secs(2);
/// What is not to be seen for this long is not drawn any more.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// The graph as it was seen last.
#[derive(Default)]
pub(super) struct Graph(Mutex<Vec<Edge>>);

/// Calls from one workload to the next: a waypoint is a workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Edge {
    from: String,
    to: String,
    /// Requests per second.
    rate: f64,
    /// Those of them that failed: 5xx, or no answer.
    failed: f64,
    /// Those of them that were refused: 401 and 403.
    denied: f64,
    /// The mean time of a request, in milliseconds.
    millis: f64,
    /// Whether the callee says that both ends proved who they are; nothing if it says nothing.
    mutual_tls: Option<bool>,
    /// The identity that the callee is known to have.
    identity: String,
}

/// What was counted of one edge since its processes began.
#[derive(Clone, Debug, Default)]
struct Count {
    requests: f64,
    failed: f64,
    denied: f64,
    millis: f64,
    identity: String,
}

/// From and to.
type Ends = (String, String);

/// One look at all processes.
#[derive(Default)]
struct Look {
    calls: BTreeMap<Ends, Count>,
    /// What callees saw: workload and the caller's identity, and whether all of it was mutual TLS.
    seen: BTreeMap<Ends, bool>,
}

/// Looks at all processes again and again.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Instant, Look)> = None;
    let mut last = BTreeMap::<Ends, Instant>::new();
    loop {
        ticks.tick().await;
        let pods = shared.town.kubelet.pods().borrow().clone();
        let look = look(&pods).await;
        let now = Instant::now();
        if let Some((then, earlier)) = &before {
            let edges = edges(&pods, earlier, &look, now.duration_since(*then));
            for edge in edges.iter().filter(|edge| edge.rate > 0.0) {
                last.insert((edge.from.clone(), edge.to.clone()), now);
            }
            last.retain(|_, at| now.duration_since(*at) < FORGOTTEN);
            let drawn = edges
                .into_iter()
                .filter(|edge| last.contains_key(&(edge.from.clone(), edge.to.clone())));
            *shared.graph.0.lock().unwrap_or_else(PoisonError::into_inner) = drawn.collect();
        }
        before = Some((now, look));
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
        let ((authority, path), owner) = (metrics_of(pod), pod.spec.owner.clone());
        asked.spawn(async move {
            let answer = tokio::time::timeout(EVERY, plain::get(&authority, path)).await;
            Some((owner, answer.ok()?.ok()?.body))
        });
    }
    let mut look = Look::default();
    for (owner, text) in asked.join_all().await.into_iter().flatten() {
        look.read(pods, &owner, &text);
    }
    look
}

impl Look {
    /// Reads what one process exposes.
    fn read(&mut self, pods: &Pods, owner: &str, text: &str) {
        let counts = points(text, "istio_requests_total{");
        for point in counts.chain(points(text, "istio_request_duration_milliseconds_sum{")) {
            let label = |key: &str| point.labels.get(key).map_or("", String::as_str);
            if label("reporter") != "source" && point.name == "istio_requests_total" {
                let ends = (owner.to_owned(), label("source_principal").to_owned());
                *self.seen.entry(ends).or_insert(true) &= label("connection_security_policy") == "mutual_tls";
            }
            // What a process sends it reports as source; a waypoint reports both ends of a call at once.
            if label("reporter") == "destination" || label("destination_workload") == "unknown" {
                continue;
            }
            let to = workload(pods, label("destination_workload"));
            let count = self.calls.entry((owner.to_owned(), to)).or_default();
            count.add(&point);
        }
    }
}

/// A workload as the town calls it: a pod that no Deployment made is named by itself in metrics.
fn workload(pods: &Pods, name: &str) -> String {
    let pod = pods.values().find(|pod| pod.spec.name == name);
    pod.map_or_else(|| name.to_owned(), |pod| pod.spec.owner.clone())
}

impl Count {
    fn add(&mut self, point: &Point<'_>) {
        let label = |key: &str| point.labels.get(key).map_or("", String::as_str);
        match point.name {
            "istio_requests_total" => {
                self.requests += point.value;
                label("destination_principal").clone_into(&mut self.identity);
                match label("response_code") {
                    "401" | "403" => self.denied += point.value,
                    code if code == "0" || code.starts_with('5') => self.failed += point.value,
                    _ => {}
                }
            }
            "istio_request_duration_milliseconds_sum" => self.millis += point.value,
            _ => {}
        }
    }
}

/// What happened between two looks. A process that began in between is counted from its beginning.
fn edges(pods: &Pods, earlier: &Look, later: &Look, between: Duration) -> Vec<Edge> {
    let seconds = between.as_secs_f64().max(0.001);
    let none = Count::default();
    let identities: BTreeMap<&str, String> = pods
        .values()
        .map(|pod| (&*pod.spec.owner, own_identity(pod)))
        .collect();
    let edges = later.calls.iter().map(|((from, to), now)| {
        let then = earlier.calls.get(&(from.clone(), to.clone())).unwrap_or(&none);
        let then = if then.requests > now.requests { &none } else { then };
        let requests = now.requests - then.requests;
        let caller = identities.get(from.as_str());
        let seen = caller.and_then(|caller| later.seen.get(&(to.clone(), caller.clone())));
        Edge {
            from: from.clone(),
            to: to.clone(),
            rate: requests / seconds,
            failed: (now.failed - then.failed) / seconds,
            denied: (now.denied - then.denied) / seconds,
            millis: if requests > 0.0 {
                (now.millis - then.millis) / requests
            } else {
                0.0
            },
            mutual_tls: seen.copied(),
            identity: now.identity.clone(),
        }
    });
    edges.collect()
}

fn own_identity(pod: &Pod) -> String {
    identity(&pod.spec.namespace, &pod.spec.account)
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
    use super::*;

    fn line(name: &str, labels: &str, value: f64) -> String {
        format!("{name}{{{labels}}} {value}\n")
    }

    fn look(requests: f64, refused: f64) -> Look {
        let to =
            "reporter=\"source\",destination_workload=\"reviews-v1\",destination_principal=\"spiffe://td/r\"";
        let from = "reporter=\"destination\",source_principal=\"spiffe://td/c\",connection_security_policy=\"mutual_tls\"";
        let sent = line(
            "istio_requests_total",
            &format!("{to},response_code=\"200\""),
            requests,
        ) + &line(
            "istio_requests_total",
            &format!("{to},response_code=\"403\""),
            refused,
        ) + &line("istio_request_duration_milliseconds_sum", to, requests * 2.0);
        let mut look = Look::default();
        look.read(&Pods::new(), "curl", &sent);
        look.read(
            &Pods::new(),
            "reviews-v1",
            &line("istio_requests_total", from, requests),
        );
        look
    }

    #[test]
    fn an_edge_is_what_happened_between_two_looks() {
        let edges = edges(
            &Pods::new(),
            &look(10.0, 0.0),
            &look(30.0, 4.0),
            Duration::from_secs(2),
        );
        assert_eq!(edges.len(), 1);
        let edge = &edges[0];
        assert_eq!((edge.from.as_str(), edge.to.as_str()), ("curl", "reviews-v1"));
        assert_eq!((edge.rate, edge.denied, edge.failed), (12.0, 2.0, 0.0));
        assert!((edge.millis - 40.0 / 24.0).abs() < 1e-9);
        assert_eq!(edge.identity, "spiffe://td/r");
    }

    #[test]
    fn a_process_that_began_anew_is_counted_from_its_beginning() {
        let edges = edges(
            &Pods::new(),
            &look(100.0, 0.0),
            &look(6.0, 0.0),
            Duration::from_secs(2),
        );
        assert_eq!(edges[0].rate, 3.0);
    }
}
