//! Telemetry: what telling of one request costs, all together and each part left out in turn.
//!
//! | world | what is told of a request |
//! | --- | --- |
//! | `all` | Istio's and OpenTelemetry's metrics, a line of the access log, a span of which one in a hundred is recorded |
//! | `all but …` | the same without that |
//! | `istio` | Istio's metrics alone |
//! | `new path each` | Istio's metrics with the path as a label, which is new each time, once there is no more room |
//!
//! The number is how many series there are already. The collector of the spans is one that takes nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use http::{HeaderMap, Method, Version};
use inmesh::telemetry::access::{AccessLog, AccessLogs, Entry, Fields, Format, Name};
use inmesh::telemetry::cel::Expression;
use inmesh::telemetry::export::{self, OtlpSettings, Sampling};
use inmesh::telemetry::{
    HttpFacts, Meter, Metric, MetricLimits, MetricPlan, Reporter, RequestLabels, RequestSeries, RequestSpan,
    Sample, server_span,
};

use super::harness::Harness;

/// How many series there are before anything is timed.
const SERIES: [usize; 2] = [10, 1_000];

/// What is told.
#[derive(Clone, Copy)]
struct Told {
    istio: bool,
    otel: bool,
    log: bool,
    span: bool,
}

const ALL: Told = Told {
    istio: true,
    otel: true,
    log: true,
    span: true,
};

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    let mut settings = OtlpSettings::new("http://127.0.0.1:9");
    settings.sampling = Sampling {
        ratio: 0.01,
        parent_based: true,
    };
    for series in SERIES {
        let world = World::new(series);
        for (name, told) in [
            ("all", ALL),
            ("all but otel", Told { otel: false, ..ALL }),
            ("all but log", Told { log: false, ..ALL }),
            ("all but span", Told { span: false, ..ALL }),
            (
                "span",
                Told {
                    istio: false,
                    otel: false,
                    log: false,
                    span: true,
                },
            ),
            (
                "log",
                Told {
                    istio: false,
                    otel: false,
                    log: true,
                    span: false,
                },
            ),
            (
                "istio and otel",
                Told {
                    log: false,
                    span: false,
                    ..ALL
                },
            ),
            (
                "istio",
                Told {
                    otel: false,
                    log: false,
                    span: false,
                    ..ALL
                },
            ),
        ] {
            if told.span {
                // The guard is made anew for each, so that no queue is full from the one before.
                let (subscriber, guard) = export::subscriber(&settings)?;
                tracing::subscriber::with_default(subscriber, || {
                    harness.operation(("telemetry", name, series), |_| world.tell(told));
                });
                guard.shutdown(Duration::ZERO);
            } else {
                harness.operation(("telemetry", name, series), |_| world.tell(told));
            }
        }
    }
    let plan = with_paths();
    let meter = Meter::with_limits(MetricLimits {
        series: 1_000,
        ..MetricLimits::default()
    });
    let series = meter.requests_as(&labels(0), &plan);
    let (fields, trailers) = (Fields::new(), HeaderMap::new());
    let ask_for = |n: usize| {
        let path = format!("/items/{n}");
        let tags = plan.tags(&entry(&path, (&fields, &trailers), series.labels()));
        series.record_tagged(&sample(false), &tags);
    };
    // Until there is no more room: from then on it is always so.
    (0..=1_000).for_each(ask_for);
    harness.operation(("telemetry", "new path each", 1_000), |n| ask_for(1_001 + n));
    Ok(())
}

/// How much memory series take: requests of so many workloads, counted once each.
pub(crate) fn fill(series: usize) -> Meter {
    let meter = Meter::with_limits(MetricLimits {
        series: series + 1,
        ..MetricLimits::default()
    });
    for n in 0..series {
        meter.requests(&labels(n)).record(&sample(false));
    }
    meter
}

struct World {
    meter: Meter,
    series: Arc<RequestSeries>,
    logs: AccessLogs,
    fields: Fields,
    trailers: HeaderMap,
}

impl World {
    fn new(series: usize) -> Self {
        let meter = fill(series);
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", http::HeaderValue::from_static("bench/1"));
        let log = AccessLog::new(Format::istio(), "/dev/null");
        Self {
            series: meter.requests(&labels(0)),
            meter,
            logs: AccessLogs::new(vec![(Arc::new(log), None)]),
            fields: Fields::from(&headers),
            trailers: HeaderMap::new(),
        }
    }

    fn tell(&self, told: Told) {
        let _span = told.span.then(|| {
            server_span(&RequestSpan {
                method: &Method::GET,
                authority: "reviews:9080",
                path: "/reviews/0",
                version: Version::HTTP_11,
                peer: None,
                generation: 7,
            })
        });
        if told.log {
            let entry = entry("/reviews/0", (&self.fields, &self.trailers), self.series.labels());
            self.logs.write(&entry, &self.meter);
        }
        if told.istio {
            self.series.record(&sample(told.otel));
        }
    }
}

fn with_paths() -> Arc<MetricPlan> {
    let mut plan = MetricPlan::default();
    if let Ok(path) = Expression::parse("request.path") {
        plan.set(Metric::RequestCount, "path", path);
    }
    Arc::new(plan)
}

fn labels(n: usize) -> RequestLabels {
    let mut labels = RequestLabels::new(Reporter::Waypoint);
    labels.source.workload = format!("productpage-{n}").into();
    labels.source.namespace = "default".into();
    labels.source.principal = format!("spiffe://cluster.local/ns/default/sa/productpage-{n}").into();
    labels.source.app = "productpage".into();
    labels.source.version = "v1".into();
    labels.destination = labels.source.clone();
    labels.service.host = "reviews.default.svc.cluster.local".into();
    labels.service.namespace = "default".into();
    labels
}

fn sample(otel: bool) -> Sample {
    Sample {
        response_code: 200,
        flags: "-",
        grpc_status: None,
        duration: Duration::from_micros(1_500),
        request_bytes: 0,
        response_bytes: 1_024,
        trace: None,
        http: otel.then_some(HttpFacts {
            client: false,
            method: "GET",
            scheme: "http",
            version: "1.1",
            port: 9080,
        }),
    }
}

fn entry<'a>(
    path: &'a str,
    (fields, trailers): (&'a Fields, &'a HeaderMap),
    labels: &'a RequestLabels,
) -> Entry<'a> {
    Entry {
        start: SystemTime::UNIX_EPOCH,
        duration: Duration::from_micros(1_500),
        answered: Some(Duration::from_micros(1_400)),
        method: "GET",
        scheme: "http",
        authority: "reviews:9080",
        path,
        protocol: Some("HTTP/1.1"),
        request: fields,
        response: fields,
        trailers,
        code: 200,
        flags: "-",
        details: Some("via_upstream"),
        grpc_status: None,
        received: 0,
        sent: 1_024,
        upstream: None,
        cluster: Some(Name::Said(
            "inbound-vip|9080|http|reviews.default.svc.cluster.local",
        )),
        attempts: 1,
        failure: None,
        local: None,
        remote: None,
        direct: None,
        peer: None,
        sni: None,
        route: Some(Name::Said("default")),
        trace: None,
        hostname: None,
        labels: Some(labels),
    }
}
