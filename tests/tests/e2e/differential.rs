//! The same configuration, the same requests: our engines beside a real Envoy. Skipped, and said so, where there is none.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inmesh::compile::traffic::outlier;
use inmesh::config::istio::destination_rule::OutlierDetection;
use inmesh::policy::Outcome;
use inmesh::policy::balance::{
    Algorithm, Draw, Endpoint, EndpointCell, EndpointKey, EndpointSet, Rank, Tried, Workload, hash_of,
};
use inmesh::policy::retry::{RetryOn, RetryPolicy};
use inmesh::policy::traffic::TrafficPolicy;
use inmesh_tests::envoy::{EnvoyRouter, backends, find_or_skip};
use inmesh_tests::kit::block::Block;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// Endpoints of ours at these addresses.
fn endpoints(of: &[(SocketAddr, u32)], policy: TrafficPolicy) -> EndpointSet {
    let one = |(addr, weight): &(SocketAddr, u32)| {
        Arc::new(Endpoint {
            key: EndpointKey {
                dial: *addr,
                authority: None,
            },
            addr: *addr,
            identities: Arc::new([]),
            tls: inmesh::policy::tls::Origination::None,
            weight: *weight,
            rank: Rank::default(),
            workload: Arc::new(Workload::default()),
            cell: Arc::new(EndpointCell::default()),
        })
    };
    EndpointSet::with(of.iter().map(one).collect(), Arc::new(policy), Arc::default())
}

/// Backends that say who they are, and do what the path says: `/status/CODE`, with the header `NAME: VALUE` of
/// `?NAME=VALUE`; `/close` closes without an answer, `/sleep` gives one too late.
async fn servers(block: &Block, count: usize) -> Result<Vec<SocketAddr>> {
    let mut all = Vec::new();
    for _ in 0..count {
        let listener = TcpListener::bind(SocketAddr::from((block.address(), 8080))).await?;
        let addr = listener.local_addr()?;
        all.push(addr);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, addr));
                    // `/close` ends with an error, as it should.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
    }
    Ok(all)
}

async fn answer(
    request: Request<Incoming>,
    own: SocketAddr,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let path = request.uri().path();
    let (_, what) = path.rsplit_once("/do/").unwrap_or(("", path));
    if what == "close" {
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    if what == "sleep" {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let mut response = Response::new(Full::new(Bytes::from(own.to_string())));
    if let Some(code) = what.strip_prefix("status/").and_then(|it| it.parse().ok()) {
        *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    }
    for (name, value) in request
        .uri()
        .query()
        .into_iter()
        .flat_map(|it| it.split('&'))
        .filter_map(|it| it.split_once('='))
    {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// A connection to Envoy.
async fn connect(to: SocketAddr) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TokioIo::new(TcpStream::connect(to).await?);
    let (sender, driver) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(driver);
    Ok(sender)
}

async fn get(
    to: &mut SendRequest<Empty<Bytes>>,
    target: &str,
    key: &str,
) -> Result<(StatusCode, HeaderMap, String)> {
    to.ready().await?;
    let request = Request::get(target)
        .header("host", "a")
        .header("x-key", key)
        .body(Empty::new())?;
    let (parts, body) = to.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok((
        parts.status,
        parts.headers,
        String::from_utf8_lossy(&body).into_owned(),
    ))
}

fn start(
    binary: std::path::PathBuf,
    routes: Vec<Value>,
    clusters: Vec<Value>,
) -> tokio::task::JoinHandle<Result<EnvoyRouter>> {
    tokio::task::spawn_blocking(move || EnvoyRouter::start(&binary, &routes, &clusters))
}

const KEYS: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_goes_where_envoy_sends_it() -> Result<()> {
    let Some(binary) = find_or_skip("ring hash and Maglev beside Envoy's") else {
        return Ok(());
    };
    let block = Block::take()?;
    let even: Vec<_> = servers(&block, 7)
        .await?
        .into_iter()
        .map(|addr| (addr, 1))
        .collect();
    let weighted: Vec<_> = even
        .iter()
        .zip([1, 1, 2, 3, 5, 1, 10])
        .map(|((addr, _), weight)| (*addr, weight))
        .collect();
    let ring = |min: u64| {
        (
            Algorithm::RingHash { min },
            json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": min}}),
        )
    };
    let maglev = |size: u64| {
        (
            Algorithm::Maglev { size },
            json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": size}}),
        )
    };
    let cases = [
        ("ring", &even, ring(1024)),
        ("ring-small", &even, ring(100)),
        ("ring-weighted", &weighted, ring(1024)),
        ("maglev", &even, maglev(65_537)),
        ("maglev-small", &even, maglev(503)),
        ("maglev-weighted", &weighted, maglev(65_537)),
    ];
    let route = |(name, ..): &(&str, _, _)| {
        let hash = json!([{"header": {"header_name": "x-key"}}]);
        json!({"match": {"prefix": format!("/{name}/")}, "route": {"cluster": name, "hash_policy": hash}})
    };
    let routes = cases.iter().map(route).collect();
    let clusters = cases
        .iter()
        .map(|(name, of, (_, fields))| backends(name, of, fields.clone()))
        .collect();
    let envoy = start(binary, routes, clusters).await??;
    let mut to = connect(envoy.addr()?).await?;
    let mut differ = BTreeMap::<&str, usize>::new();
    for (name, of, (algorithm, _)) in &cases {
        let mut policy = TrafficPolicy::default();
        policy.balance.algorithm = *algorithm;
        let ours = endpoints(of, policy);
        for n in 0..KEYS {
            let key = format!("user-{n}");
            let draw = Draw {
                random: 0,
                hash: Some(hash_of(&key)),
                now: Instant::now(),
            };
            let our = ours
                .pick(&draw, &Tried::default())
                .context("nobody")?
                .addr
                .to_string();
            let (_, _, theirs) = get(&mut to, &format!("/{name}/"), &key).await?;
            if our != theirs {
                *differ.entry(name).or_default() += 1;
            }
        }
    }
    assert!(differ.is_empty(), "of {KEYS} keys go elsewhere: {differ:?}");
    Ok(())
}

/// What may come of an attempt: what is asked for, and what we call it.
fn outcomes() -> Vec<(String, Outcome, HeaderMap)> {
    let mut all = Vec::new();
    let mut response = |code: u16, headers: &[(&'static str, String)]| {
        let query: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let map: HeaderMap = headers
            .iter()
            .filter_map(|(name, value)| {
                Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
            })
            .collect();
        let status = StatusCode::from_u16(code).unwrap_or_default();
        all.push((
            format!("status/{code}?{}", query.join("&")),
            Outcome::response(status, &map),
            map,
        ));
    };
    for code in [
        200, 301, 400, 404, 408, 409, 418, 429, 499, 500, 501, 502, 503, 504, 505, 599,
    ] {
        response(code, &[]);
        response(code, &[("x-envoy-ratelimited", "true".into())]);
    }
    for grpc in 0..=16 {
        response(200, &[("grpc-status", grpc.to_string())]);
    }
    all.push(("close".into(), Outcome::Reset, HeaderMap::new()));
    all.push(("sleep".into(), Outcome::PerTryTimeout, HeaderMap::new()));
    all
}

const CONDITIONS: [&str; 17] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "5xx,envoy-ratelimited",
    "retriable-4xx,gateway-error",
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_repeated_where_envoy_repeats_them() -> Result<()> {
    let Some(binary) = find_or_skip("retry conditions beside Envoy's") else {
        return Ok(());
    };
    let block = Block::take()?;
    let server = servers(&block, 1).await?;
    let nobody = SocketAddr::from((block.address(), 8080));
    let codes = [418_u32, 500];
    let mut routes = Vec::new();
    for (at, on) in CONDITIONS.iter().enumerate() {
        let policy = json!({
            "retry_on": on, "num_retries": 1, "per_try_timeout": "0.15s", "retriable_status_codes": codes,
            "retry_back_off": {"base_interval": "0.001s"},
        });
        for (prefix, cluster) in [("live", "live"), ("dead", "dead")] {
            routes.push(json!({
                "match": {"prefix": format!("/{prefix}/{at}/")},
                "route": {"cluster": cluster, "retry_policy": policy, "timeout": "5s"},
            }));
        }
    }
    let clusters = vec![
        backends("live", &[(server[0], 1)], json!({})),
        backends("dead", &[(nobody, 1)], json!({})),
    ];
    let envoy = start(binary, routes, clusters).await??;
    let mut to = connect(envoy.addr()?).await?;
    let mut differ = Vec::new();
    let mut compared = 0;
    for (at, on) in CONDITIONS.iter().enumerate() {
        let read = RetryOn::parse(on);
        let policy = RetryPolicy {
            attempts: 1,
            conditions: read.conditions,
            codes: codes
                .iter()
                .filter_map(|it| StatusCode::from_u16(*it as u16).ok())
                .collect(),
            ..RetryPolicy::istio_default()
        };
        let mut all: Vec<_> = outcomes().into_iter().map(|it| ("live", it)).collect();
        all.push(("dead", (String::new(), Outcome::ConnectFailure, HeaderMap::new())));
        for (cluster, (what, outcome, headers)) in all {
            let answered = matches!(outcome, Outcome::Response { .. }).then_some(&headers);
            let ours = policy.should_retry(&outcome, answered, 0);
            let (_, seen, _) = get(&mut to, &format!("/{cluster}/{at}/do/{what}"), "").await?;
            let attempts = seen.get("x-envoy-attempt-count").context("no count")?.to_str()?;
            compared += 1;
            if ours != (attempts == "2") {
                differ.push(format!("{on}: {cluster} {what}: Envoy made {attempts} attempts"));
            }
        }
    }
    println!(
        "{compared} rows of the truth table agree but for {}",
        differ.len()
    );
    assert!(differ.is_empty(), "{differ:#?}");
    Ok(())
}

/// How many endpoints Envoy has ejected; its main thread hears of it from the others, a moment after the answer.
async fn ejected(envoy: &EnvoyRouter, scenario: usize, expected: u64) -> Result<u64> {
    let name = format!("s{scenario}");
    for _ in 0..100 {
        let found = envoy.ejected(&name)?;
        if found == expected {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(envoy.ejected(&name)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_ejected_when_envoy_ejects_them() -> Result<()> {
    const SCENARIOS: usize = 60;
    let Some(binary) = find_or_skip("outlier detection beside Envoy's") else {
        return Ok(());
    };
    let block = Block::take()?;
    let servers = servers(&block, 4).await?;
    let mut rng = fastrand::Rng::with_seed(23);
    let mut scenarios = Vec::new();
    for _ in 0..SCENARIOS {
        let mut pick = |of: &[u32]| of[rng.usize(..of.len())];
        let config = json!({
            "consecutive5xxErrors": pick(&[0, 1, 2, 3, 5]),
            "consecutiveGatewayErrors": pick(&[0, 1, 2, 3]),
            "splitExternalLocalOriginErrors": pick(&[0, 1]) == 1,
            "consecutiveLocalOriginFailures": pick(&[1, 2, 3]),
            "maxEjectionPercent": pick(&[10, 24, 25, 50, 100]),
        });
        let steps: Vec<&str> = (0..10)
            .map(|_| {
                [
                    "status/200",
                    "status/404",
                    "status/500",
                    "status/502",
                    "status/503",
                    "status/504",
                    "close",
                    "sleep",
                ][rng.usize(..8)]
            })
            .collect();
        scenarios.push((config, steps));
    }
    let all: Vec<_> = servers.iter().map(|addr| (*addr, 1)).collect();
    let theirs = |at: usize, config: &Value| {
        let split = config["splitExternalLocalOriginErrors"] == true;
        let number = |name: &str| config[name].as_u64().unwrap_or(0);
        // As Istio writes it: zero switches a detector off by not enforcing it.
        let enforced = |count: u64| if count == 0 { 0 } else { 100 };
        backends(
            &format!("s{at}"),
            &all,
            json!({
                "lb_policy": "RING_HASH",
                // By default Envoy's workers hear of a second ejection within a second only when that is over.
                "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}, "update_merge_window": "0s"},
                "outlier_detection": {
                    "interval": "3600s", "base_ejection_time": "3600s",
                    "consecutive_5xx": number("consecutive5xxErrors"),
                    "enforcing_consecutive_5xx": enforced(number("consecutive5xxErrors")),
                    "consecutive_gateway_failure": number("consecutiveGatewayErrors"),
                    "enforcing_consecutive_gateway_failure": enforced(number("consecutiveGatewayErrors")),
                    "enforcing_success_rate": 0,
                    "split_external_local_origin_errors": split,
                    "consecutive_local_origin_failure": number("consecutiveLocalOriginFailures"),
                    "enforcing_consecutive_local_origin_failure": 100,
                    "enforcing_local_origin_success_rate": 0,
                    "max_ejection_percent": number("maxEjectionPercent"),
                },
            }),
        )
    };
    let clusters = scenarios
        .iter()
        .enumerate()
        .map(|(at, (config, _))| theirs(at, config))
        .collect();
    let route = |at: usize| {
        json!({
            "match": {"prefix": format!("/s{at}/")},
            "route": {"cluster": format!("s{at}"), "hash_policy": [{"header": {"header_name": "x-key"}}], "timeout": "0.15s"},
        })
    };
    let routes = (0..SCENARIOS).map(route).collect();
    let envoy = start(binary, routes, clusters).await??;
    let mut to = connect(envoy.addr()?).await?;
    let (mut total, mut alone) = (0, 0);
    for (at, (config, steps)) in scenarios.iter().enumerate() {
        let written: OutlierDetection = serde_json::from_value(config.clone())?;
        let mut policy = TrafficPolicy {
            outlier: Some(outlier(&written)),
            ..TrafficPolicy::default()
        };
        policy.balance.algorithm = Algorithm::RING;
        let ours = endpoints(&all, policy);
        let mut ejections = 0;
        let mut asked = Vec::new();
        let draw = Draw {
            random: 0,
            hash: Some(hash_of("one")),
            now: Instant::now(),
        };
        for (step, what) in steps.iter().enumerate() {
            // The same key asks the same endpoint until that is ejected, and then the next on a ring of those who are left.
            let Some(endpoint) = ours.pick(&draw, &Tried::default()) else {
                let (status, _, body) = get(&mut to, &format!("/s{at}/do/{what}"), "one").await?;
                assert_eq!(
                    (status.as_u16(), body.as_str()),
                    (503, "no healthy upstream"),
                    "scenario {at}"
                );
                alone += 1;
                break;
            };
            let outcome = match *what {
                "close" => Outcome::Reset,
                "sleep" => Outcome::Timeout,
                code => {
                    let code = code.trim_start_matches("status/").parse()?;
                    Outcome::response(StatusCode::from_u16(code)?, &HeaderMap::new())
                }
            };
            ours.report(&endpoint, &outcome, Instant::now());
            let (_, _, who) = get(&mut to, &format!("/s{at}/do/{what}"), "one").await?;
            asked.push(endpoint.addr.ip());
            if what.starts_with("status/") {
                assert_eq!(
                    who,
                    endpoint.addr.to_string(),
                    "scenario {at}, step {step} of {steps:?} under {config}: whom Envoy asks; we asked {asked:?}"
                );
            }
            let now = u64::from(ours.cell().ejected());
            let theirs = ejected(&envoy, at, now).await?;
            assert_eq!(
                now, theirs,
                "scenario {at}, step {step} of {steps:?} under {config}"
            );
            ejections = now;
        }
        total += ejections;
    }
    println!("{SCENARIOS} scenarios, {total} ejections, all at the same step; {alone} ended with nobody");
    assert!(total > 30 && alone > 0, "the scenarios say something");
    Ok(())
}
