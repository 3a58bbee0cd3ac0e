//! Who calls whom: the metrics, read back as a graph.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::telemetry::{Durations, Flow, Meter, PartyLabels, RequestLabels, Security, TcpFlow};

/// How many readings are kept: they come at most once a second.
const READINGS: usize = 12;
/// Readings nearer to each other than this tell nothing.
const APART: Duration = Duration::from_millis(900);
/// A reading that is older than this is of no use to anybody.
const STALE: Duration = Duration::from_secs(60);

/// Past readings of the metrics, so that rates can be told. There are none unless somebody asks.
#[derive(Debug, Default)]
pub(super) struct Readings(VecDeque<Reading>);

#[derive(Debug)]
struct Reading {
    at: Instant,
    flows: HashMap<Arc<RequestLabels>, Flow>,
    connections: HashMap<Arc<RequestLabels>, TcpFlow>,
}

/// Who calls whom.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Graph {
    /// Over how many seconds rates and quantiles are told; `None` if this is the first reading: then there are no rates,
    /// and quantiles are those of all that was ever counted.
    pub(crate) window_seconds: Option<f64>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
}

/// A workload, or a service.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    pub(crate) id: String,
    /// `workload`, `service` or `unknown`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) version: String,
    /// The SPIFFE id, if one was proved.
    pub(crate) identity: String,
}

/// That one calls another.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edge {
    pub(crate) source: String,
    pub(crate) target: String,
    /// `http`, `grpc` or `tcp`.
    pub(crate) protocol: &'static str,
    /// Who counted it: `source`, `destination` or `waypoint`.
    pub(crate) reporter: &'static str,
    /// Whether both ends proved who they are; `None` if the one who counted cannot tell.
    pub(crate) mtls: Option<bool>,
    pub(crate) source_identity: String,
    pub(crate) target_identity: String,
    /// All that were ever counted.
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) denied: u64,
    /// Per second, within the window.
    pub(crate) rate: Option<f64>,
    /// From 0 to 1, within the window; of all, without one.
    pub(crate) failed_share: f64,
    pub(crate) denied_share: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) connections: Option<Connections>,
}

/// What is told of connections that are not HTTP.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Connections {
    pub(crate) opened: u64,
    pub(crate) open: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
}

impl Readings {
    /// Reads the metrics, unless that was done a moment ago. If there is nothing yet that is as old as half a window of more
    /// than nothing, says how long to wait for it.
    pub(super) fn take(&mut self, meter: &Meter, window: Duration) -> Option<Duration> {
        let now = Instant::now();
        self.0.retain(|reading| now.duration_since(reading.at) < STALE);
        if self
            .0
            .back()
            .is_none_or(|last| now.duration_since(last.at) >= APART)
        {
            let flows = meter.flows().into_iter();
            let connections = meter.tcp_flows().into_iter();
            self.0.push_back(Reading {
                at: now,
                flows: flows.map(|flow| (Arc::clone(&flow.labels), flow)).collect(),
                connections: connections.map(|flow| (Arc::clone(&flow.labels), flow)).collect(),
            });
            if self.0.len() > READINGS {
                self.0.pop_front();
            }
        }
        let oldest = self.0.front()?;
        let wanted = (window / 2).max(APART);
        let age = now.duration_since(oldest.at);
        (!window.is_zero() && age < wanted).then(|| wanted - age)
    }

    /// The graph of the last reading, with rates since the one that is as old as the window.
    pub(super) fn graph(&self, window: Duration) -> Graph {
        let Some(last) = self.0.back() else {
            return Graph {
                window_seconds: None,
                nodes: Vec::new(),
                edges: Vec::new(),
            };
        };
        let window = if window.is_zero() {
            Duration::from_secs(10)
        } else {
            window
        };
        let age = |reading: &Reading| last.at.duration_since(reading.at);
        let base = self.0.iter().find(|reading| age(reading) <= window + APART);
        let base = base.filter(|base| !age(base).is_zero());
        let mut drawn = Drawn::default();
        for (labels, flow) in &last.flows {
            let before = base.and_then(|base| base.flows.get(labels));
            drawn.flow(flow, before);
        }
        for flow in last.connections.values() {
            drawn.connections(flow);
        }
        let seconds = base.map(|base| age(base).as_secs_f64());
        drawn.graph(seconds)
    }
}

/// Between whom, over what, as told by whom.
type Key = (String, String, &'static str, &'static str);

#[derive(Debug, Default)]
struct Drawn {
    nodes: BTreeMap<String, Node>,
    edges: BTreeMap<Key, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    mtls: Option<bool>,
    source_identity: String,
    target_identity: String,
    all: Count,
    lately: Count,
    durations: Durations,
    connections: Option<Connections>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    requests: u64,
    failed: u64,
    denied: u64,
}

impl Drawn {
    fn flow(&mut self, flow: &Flow, before: Option<&Flow>) {
        let count = |flow: &Flow| Count {
            requests: flow.requests,
            failed: flow.failed,
            denied: flow.denied,
        };
        let all = count(flow);
        let (lately, durations) = match before {
            Some(before) => (all.since(count(before)), flow.durations.since(&before.durations)),
            None => (all, flow.durations),
        };
        for key in self.keys(&flow.labels) {
            let sum = self.sum(key, &flow.labels);
            sum.all.add(all);
            sum.lately.add(lately);
            sum.durations.add(&durations);
        }
    }

    fn connections(&mut self, flow: &TcpFlow) {
        for key in self.keys(&flow.labels) {
            let sum = self.sum(key, &flow.labels);
            let told = sum.connections.get_or_insert_default();
            told.opened += flow.opened;
            told.open += flow.opened.saturating_sub(flow.closed);
            told.sent_bytes += flow.sent;
            told.received_bytes += flow.received;
        }
    }

    fn sum(&mut self, key: Key, labels: &RequestLabels) -> &mut Sum {
        let to_service = key.1.starts_with("service:");
        let from_service = key.0.starts_with("service:");
        let sum = self.edges.entry(key).or_default();
        let mtls = match labels.security {
            Security::MutualTls => Some(true),
            Security::None => Some(false),
            // A caller knows whom it had proved to it.
            Security::Unknown if !labels.destination.principal.is_empty() => Some(true),
            Security::Unknown => None,
        };
        // One call in the clear is what one wants to know of.
        sum.mtls = match (sum.mtls, mtls) {
            (Some(one), Some(other)) => Some(one && other),
            (one, other) => one.or(other),
        };
        if !from_service {
            sum.source_identity = labels.source.principal.to_string();
        }
        if !to_service {
            sum.target_identity = labels.destination.principal.to_string();
        }
        sum
    }

    /// The edges that calls with these labels belong to: from the caller to the service, and on to the workload.
    fn keys(&mut self, labels: &RequestLabels) -> Vec<Key> {
        let protocol = labels.protocol.as_str();
        let reporter = labels.reporter.as_str();
        let source = self.workload(&labels.source);
        let service = self.service(labels);
        let target = (!labels.destination.workload.is_empty()).then(|| self.workload(&labels.destination));
        match (service, target) {
            (Some(service), Some(target)) => vec![
                (source, service.clone(), protocol, reporter),
                (service, target, protocol, reporter),
            ],
            (Some(one), None) | (None, Some(one)) => vec![(source, one, protocol, reporter)],
            (None, None) => {
                let nowhere = self.node("unknown", "unknown", "nowhere", "", "", "");
                vec![(source, nowhere, protocol, reporter)]
            }
        }
    }

    fn service(&mut self, labels: &RequestLabels) -> Option<String> {
        let service = &labels.service;
        if service.host.is_empty() {
            return None;
        }
        let name = match &*service.name {
            "" => service.host.split('.').next().unwrap_or_default(),
            name => name,
        };
        let id = format!("service:{}", service.host);
        Some(self.node(&id, "service", name, &service.namespace, "", ""))
    }

    fn workload(&mut self, party: &PartyLabels) -> String {
        // Whoever is no workload that we know has at least proved a name, or has none.
        let account = party.principal.rsplit('/').next().unwrap_or_default();
        match (&*party.workload, account) {
            ("", "") => self.node("unknown", "unknown", "unknown", "", "", ""),
            ("", account) => {
                let id = format!("identity:{}", party.principal);
                self.node(&id, "workload", account, &party.namespace, "", &party.principal)
            }
            (workload, _) => {
                let id = format!("workload:{}/{workload}", party.namespace);
                self.node(
                    &id,
                    "workload",
                    workload,
                    &party.namespace,
                    &party.version,
                    &party.principal,
                )
            }
        }
    }

    fn node(
        &mut self,
        id: &str,
        kind: &'static str,
        name: &str,
        namespace: &str,
        version: &str,
        identity: &str,
    ) -> String {
        let node = self.nodes.entry(id.to_owned()).or_insert_with(|| Node {
            id: id.to_owned(),
            kind,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            version: version.to_owned(),
            identity: String::new(),
        });
        if !identity.is_empty() {
            identity.clone_into(&mut node.identity);
        }
        id.to_owned()
    }

    fn graph(self, seconds: Option<f64>) -> Graph {
        let edges = self.edges.into_iter();
        Graph {
            window_seconds: seconds,
            nodes: self.nodes.into_values().collect(),
            edges: edges.map(|(key, sum)| sum.edge(key, seconds)).collect(),
        }
    }
}

impl Count {
    fn add(&mut self, more: Self) {
        self.requests += more.requests;
        self.failed += more.failed;
        self.denied += more.denied;
    }

    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            failed: self.failed.saturating_sub(before.failed),
            denied: self.denied.saturating_sub(before.denied),
        }
    }
}

impl Sum {
    fn edge(self, (source, target, protocol, reporter): Key, seconds: Option<f64>) -> Edge {
        let share = |part: u64| match self.lately.requests {
            0 => 0.0,
            all => part as f64 / all as f64,
        };
        Edge {
            source,
            target,
            protocol,
            reporter,
            mtls: self.mtls,
            source_identity: self.source_identity,
            target_identity: self.target_identity,
            requests: self.all.requests,
            failed: self.all.failed,
            denied: self.all.denied,
            rate: seconds.map(|seconds| self.lately.requests as f64 / seconds),
            failed_share: share(self.lately.failed),
            denied_share: share(self.lately.denied),
            p50_ms: self.durations.quantile(0.5),
            p99_ms: self.durations.quantile(0.99),
            connections: self.connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Protocol, Reporter, Sample, ServiceLabels};

    fn labels(to: &str) -> RequestLabels {
        let mut labels = RequestLabels::new(Reporter::Waypoint);
        labels.source = PartyLabels {
            workload: "curl".into(),
            namespace: "default".into(),
            principal: "spiffe://cluster.local/ns/default/sa/curl".into(),
            ..PartyLabels::default()
        };
        labels.destination = PartyLabels {
            workload: to.into(),
            namespace: "default".into(),
            ..PartyLabels::default()
        };
        labels.service = ServiceLabels {
            host: "reviews.default.svc.cluster.local".into(),
            name: "reviews".into(),
            namespace: "default".into(),
        };
        labels.security = Security::MutualTls;
        labels.protocol = Protocol::Http;
        labels
    }

    fn sample(code: u16, millis: u64) -> Sample {
        Sample {
            response_code: code,
            flags: "-",
            grpc_status: None,
            duration: Duration::from_millis(millis),
            request_bytes: 0,
            response_bytes: 0,
            trace: None,
            http: None,
        }
    }

    #[test]
    fn calls_become_edges_to_the_service_and_on_to_its_workloads() {
        let meter = Meter::new();
        for _ in 0..9 {
            meter.requests(&labels("reviews-v1")).record(&sample(200, 3));
        }
        meter.requests(&labels("reviews-v2")).record(&sample(503, 300));
        meter.requests(&labels("")).record(&sample(403, 1));
        let mut readings = Readings::default();
        readings.take(&meter, Duration::ZERO);
        let graph = readings.graph(Duration::ZERO);
        let ids: Vec<_> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
        let service = "service:reviews.default.svc.cluster.local";
        assert_eq!(
            ids,
            [
                service,
                "workload:default/curl",
                "workload:default/reviews-v1",
                "workload:default/reviews-v2"
            ]
        );
        let edge = |from: &str, to: &str| {
            let found = graph.edges.iter().find(|it| it.source == from && it.target == to);
            found.unwrap().clone()
        };
        let all = edge("workload:default/curl", service);
        assert_eq!((all.requests, all.failed, all.denied), (11, 1, 1));
        assert_eq!(all.mtls, Some(true));
        assert_eq!(all.source_identity, "spiffe://cluster.local/ns/default/sa/curl");
        assert_eq!(all.rate, None);
        assert_eq!(edge(service, "workload:default/reviews-v1").requests, 9);
        assert_eq!(edge(service, "workload:default/reviews-v2").failed_share, 1.0);
        assert_eq!(graph.edges.len(), 3);
    }

    #[test]
    fn rates_are_of_what_came_in_between() {
        let meter = Meter::new();
        let series = meter.requests(&labels("reviews-v1"));
        (0..100).for_each(|_| series.record(&sample(500, 3)));
        let mut readings = Readings::default();
        readings.take(&meter, Duration::ZERO);
        readings.0[0].at -= Duration::from_secs(2);
        (0..20).for_each(|_| series.record(&sample(200, 30)));
        assert_eq!(readings.take(&meter, Duration::from_secs(2)), None);
        let graph = readings.graph(Duration::from_secs(2));
        let edge = &graph.edges[0];
        assert_eq!(edge.requests, 120);
        assert!((9.0..=10.0).contains(&edge.rate.unwrap()), "{edge:?}");
        assert_eq!(edge.failed_share, 0.0);
        assert!(edge.p50_ms.unwrap() > 25.0);
    }

    #[test]
    fn whoever_wants_a_rate_at_once_waits_for_a_second_reading() {
        let mut readings = Readings::default();
        let wait = readings.take(&Meter::new(), Duration::from_secs(4)).unwrap();
        assert!(wait <= Duration::from_secs(2) && wait > Duration::from_secs(1));
        assert_eq!(readings.take(&Meter::new(), Duration::ZERO), None);
    }
}
