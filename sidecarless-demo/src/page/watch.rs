//! Requests that never stop, and what each second of them showed.
//!
//! `curl` asks for the page, for reviews, and for details twice: by the Service's name, which a waypoint may stand
//! before, and by the pod's address, which a waypoint for services does not. So a waypoint's share of the time is
//! measured against the same workload at the same time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use crate::acts::stage::{PAGE, REVIEWS};
use crate::ca::identity;
use crate::caller::{Sample, Samples, Stream};
use crate::town::Town;

/// How many seconds are kept.
const SECONDS: usize = 600;
/// How many requests for the page are listed.
const LISTED: usize = 12;
/// How many of the failures are told one by one.
const TOLD: usize = 20;

/// What was seen so far.
#[derive(Default)]
pub(super) struct Watch(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    seconds: VecDeque<Second>,
    pages: VecDeque<Request>,
    totals: Totals,
}

/// One second.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Second {
    /// When it ended, in milliseconds since 1970.
    at: u64,
    /// How many requests for reviews each version answered.
    split: BTreeMap<String, u32>,
    /// The weights that were configured then; none if reviews was not split by weight.
    weights: Option<BTreeMap<String, u32>>,
    /// Times of requests for details that went straight to the workload.
    direct: Option<Spread>,
    /// Times of those that passed a waypoint.
    through: Option<Spread>,
    /// How many requests of all kinds failed.
    failed: u32,
}

/// How long requests took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    count: usize,
    p50: u64,
    p90: u64,
    p99: u64,
}

/// One request for the page.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Request {
    at: u64,
    served_by: String,
    peer: String,
    trace: String,
    micros: u64,
    fault: Option<String>,
}

/// Since the page was started.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Totals {
    requests: u64,
    failed: u64,
    /// The last of those, the newest first.
    failures: VecDeque<Failure>,
}

/// One request that failed.
#[derive(Clone, Debug, Serialize)]
struct Failure {
    at: u64,
    /// What it asked for.
    stream: String,
    /// How it failed.
    fault: String,
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Starts the requests, and looks at them every second.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    let mut weights = None;
    let mut process = None;
    loop {
        ticks.tick().await;
        let fingerprint = shared.town.folder.fingerprint();
        if known.as_ref() != Some(&fingerprint) {
            weights = configured(&shared.town);
            known = Some(fingerprint);
        }
        match shared.town.pod("default/curl-1").map(|pod| pod.process) {
            // A caller that was started anew has forgotten what it was asked to do.
            Ok(now) if now != process => match start(&shared.town).await {
                Ok(()) => process = now,
                Err(error) => eprintln!("starting requests: {error:#}"),
            },
            Ok(_) => {
                let Ok(curl) = shared.town.caller("curl") else {
                    continue;
                };
                if let Ok(samples) = curl.samples().await {
                    shared.watch.add(samples, weights.clone());
                }
            }
            Err(_) => {}
        }
    }
}

async fn start(town: &Town) -> anyhow::Result<()> {
    let details = format!("http://{}:9080/details/0", town.address("bookinfo/details-v1-1")?);
    let streams = [
        ("page", PAGE, 250),
        ("reviews", REVIEWS, 20),
        ("details", "http://details.bookinfo:9080/details/0", 40),
        ("details by address", &details, 40),
    ];
    let streams = streams.map(|(name, url, pause)| Stream {
        name: name.to_owned(),
        url: url.to_owned(),
        pause,
    });
    town.caller("curl")?.stream(&streams).await
}

/// The weights by which reviews is split now.
fn configured(town: &Town) -> Option<BTreeMap<String, u32>> {
    let routes = town
        .folder
        .objects()
        .into_iter()
        .filter(|object| object.kind == "HTTPRoute");
    routes
        .filter(|route| {
            let mut parents = route.value["spec"]["parentRefs"].as_array().into_iter().flatten();
            parents.any(|parent| parent["kind"] == "Service" && parent["name"] == "reviews")
        })
        .find_map(|route| weights_of(&route.value))
}

/// The weights of a manifest's only rule, if it is a route of one rule for all requests.
pub(super) fn weights(yaml: &str) -> Option<BTreeMap<String, u32>> {
    weights_of(&serde_saphyr::from_str(yaml).ok()?)
}

fn weights_of(route: &Value) -> Option<BTreeMap<String, u32>> {
    let [rule] = route["spec"]["rules"].as_array()?.as_slice() else {
        return None;
    };
    if rule.get("matches").is_some() {
        return None;
    }
    let backends = rule["backendRefs"].as_array()?.iter();
    backends
        .map(|backend| {
            let weight = backend.get("weight").map_or(Some(1), Value::as_u64)?;
            Some((backend["name"].as_str()?.to_owned(), u32::try_from(weight).ok()?))
        })
        .collect()
}

impl Watch {
    /// The seconds after `since`, oldest first; all if it is zero.
    pub(super) fn seconds(&self, since: u64) -> Vec<Second> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.seconds
            .iter()
            .filter(|second| second.at > since)
            .cloned()
            .collect()
    }

    /// The newest requests for the page, newest first.
    pub(super) fn pages(&self) -> Vec<Request> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.pages.iter().rev().cloned().collect()
    }

    pub(super) fn totals(&self) -> Totals {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .totals
            .clone()
    }

    fn add(&self, samples: Samples, weights: Option<BTreeMap<String, u32>>) {
        let at = now();
        let mut second = Second {
            at,
            weights,
            ..Second::default()
        };
        let curl = identity("default", "curl");
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (stream, samples) in samples {
            for sample in samples {
                seen.totals.requests += 1;
                if let Some(fault) = &sample.fault {
                    second.failed += 1;
                    seen.totals.failed += 1;
                    seen.totals.failures.truncate(TOLD - 1);
                    seen.totals.failures.push_front(Failure {
                        at,
                        stream: stream.clone(),
                        fault: fault.clone(),
                    });
                }
                match stream.as_str() {
                    "page" => seen.page(at, sample),
                    _ if sample.fault.is_some() => {}
                    "reviews" => *second.split.entry(sample.served_by).or_default() += 1,
                    _ if sample.peer == curl => direct.push(sample.micros),
                    _ => through.push(sample.micros),
                }
            }
        }
        second.direct = Spread::of(direct);
        second.through = Spread::of(through);
        if seen.seconds.len() == SECONDS {
            seen.seconds.pop_front();
        }
        seen.seconds.push_back(second);
    }
}

impl Seen {
    fn page(&mut self, at: u64, sample: Sample) {
        if self.pages.len() == LISTED {
            self.pages.pop_front();
        }
        self.pages.push_back(Request {
            at,
            served_by: sample.served_by,
            peer: sample.peer,
            trace: sample.trace,
            micros: sample.micros,
            fault: sample.fault,
        });
    }
}

impl Spread {
    fn of(mut micros: Vec<u64>) -> Option<Self> {
        micros.sort_unstable();
        let last = micros.len().checked_sub(1)?;
        let at = |percent: usize| micros[last * percent / 100];
        Some(Self {
            count: micros.len(),
            p50: at(50),
            p90: at(90),
            p99: at(99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests;

    #[test]
    fn weights_are_those_of_the_one_rule_there_is() {
        let expected = BTreeMap::from([("reviews-v1".to_owned(), 90), ("reviews-v2".to_owned(), 10)]);
        assert_eq!(weights(manifests::ROUTE), Some(expected));
        assert_eq!(weights(manifests::POLICY), None);
        assert_eq!(
            weights("spec: {rules: [{backendRefs: [{name: a}]}]}"),
            Some(BTreeMap::from([("a".to_owned(), 1)]))
        );
        assert_eq!(
            weights("spec: {rules: [{matches: [], backendRefs: [{name: a}]}]}"),
            None
        );
        assert_eq!(weights("spec: {rules: [{}, {}]}"), None);
        assert_eq!(weights("not: [yaml"), None);
    }

    #[test]
    fn a_spread_is_of_what_there_is() {
        assert_eq!(Spread::of(Vec::new()), None);
        let spread = Spread::of((1..=101).rev().collect()).unwrap();
        assert_eq!(
            (spread.count, spread.p50, spread.p90, spread.p99),
            (101, 51, 91, 100)
        );
    }

    #[test]
    fn a_sample_is_filed_by_what_it_proves() {
        let sample = |peer: String, fault: Option<&str>| Sample {
            served_by: "reviews-v2".to_owned(),
            peer,
            trace: String::new(),
            micros: 500,
            fault: fault.map(str::to_owned),
        };
        let curl = || identity("default", "curl");
        let watch = Watch::default();
        let details = vec![
            sample(curl(), None),
            sample(identity("bookinfo", "waypoint"), None),
        ];
        let reviews = vec![sample(curl(), None), sample(curl(), Some("status 503"))];
        watch.add(
            Samples::from([("details".to_owned(), details), ("reviews".to_owned(), reviews)]),
            None,
        );
        let seconds = watch.seconds(0);
        assert_eq!(seconds[0].split["reviews-v2"], 1);
        assert_eq!(seconds[0].direct.unwrap().count, 1);
        assert_eq!(seconds[0].through.unwrap().count, 1);
        let totals = watch.totals();
        assert_eq!((totals.requests, totals.failed), (4, 1));
        let failure = &totals.failures[0];
        assert_eq!((&*failure.stream, &*failure.fault), ("reviews", "status 503"));
    }
}
