//! Local rate limits as we keep them beside a real Envoy's: the same filter, word by word, the same requests, and what each is
//! answered. Time has no part in it: buckets are filled once an hour.

use anyhow::Result;
use http::Method;
use inmesh_tests::envoy::{EnvoyFront, Front, FrontConfig, find_or_skip, http_filter};
use inmesh_tests::kit::Cluster;
use inmesh_tests::kit::echo::Echo;
use inmesh_tests::kit::plain::Plain;
use inmesh_tests::kit::wire::{exchange, head};
use inmesh_tests::kit::world::{request, text};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// A filter and what is asked of it: headers of each request.
struct Scenario {
    what: &'static str,
    fields: Value,
    requests: Vec<Vec<(&'static str, &'static str)>>,
}

/// A descriptor and what it holds; an empty value stands for any.
fn descriptor(entries: &[(&str, &str)], tokens: u32) -> Value {
    let entry = |(key, value): &(&str, &str)| match value.is_empty() {
        true => json!({"key": key}),
        false => json!({"key": key, "value": value}),
    };
    json!({
        "entries": entries.iter().map(entry).collect::<Vec<_>>(),
        "token_bucket": {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "3600s"},
    })
}

/// Descriptors of one header each: its name, and the key.
fn of_headers(pairs: &[(&str, &str)]) -> Value {
    let one = |(header, key): &(&str, &str)| json!({"actions": [{"request_headers": {"header_name": header, "descriptor_key": key}}]});
    pairs.iter().map(one).collect()
}

fn filter(tokens: u32, rate_limits: Value, descriptors: &[Value], more: Value) -> Value {
    let mut fields = json!({
        "stat_prefix": "limits",
        "token_bucket": {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "3600s"},
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}},
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "rate_limits": rate_limits,
        "descriptors": descriptors,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        fields[key] = value.clone();
    }
    fields
}

fn times(
    count: usize,
    headers: &[(&'static str, &'static str)],
) -> impl Iterator<Item = Vec<(&'static str, &'static str)>> {
    std::iter::repeat_n(headers.to_vec(), count)
}

fn scenarios() -> Vec<Scenario> {
    let a_and_b = || of_headers(&[("x-a", "a"), ("x-b", "b")]);
    vec![
        Scenario {
            what: "who is named has a bucket of its own, and not that of anybody too",
            fields: filter(
                50,
                of_headers(&[("x-a", "a")]),
                &[descriptor(&[("a", "")], 2), descriptor(&[("a", "vip")], 4)],
                json!({}),
            ),
            requests: times(6, &[("x-a", "vip")])
                .chain(times(3, &[("x-a", "x")]))
                .chain(times(3, &[("x-a", "y")]))
                .chain(times(2, &[]))
                .collect(),
        },
        Scenario {
            what: "the slowest is asked first",
            fields: filter(
                50,
                a_and_b(),
                &[descriptor(&[("b", "1")], 5), descriptor(&[("a", "1")], 2)],
                json!({}),
            ),
            requests: times(4, &[("x-a", "1"), ("x-b", "1")])
                .chain(times(5, &[("x-b", "1")]))
                .collect(),
        },
        Scenario {
            what: "each descriptor counts, also two of one kind",
            fields: filter(
                50,
                of_headers(&[("x-a", "k"), ("x-b", "k")]),
                &[descriptor(&[("k", "")], 3)],
                json!({}),
            ),
            requests: times(2, &[("x-a", "1"), ("x-b", "2")])
                .chain(times(2, &[("x-a", "1")]))
                .chain(times(2, &[("x-b", "2")]))
                .chain(times(3, &[("x-a", "3"), ("x-b", "3")]))
                .collect(),
        },
        Scenario {
            what: "all are told of their own bucket until that of all is empty",
            fields: filter(4, a_and_b(), &[descriptor(&[("a", "1")], 9)], json!({})),
            requests: times(3, &[("x-a", "1")])
                .chain(times(1, &[]))
                .chain(times(2, &[("x-a", "1")]))
                .chain(times(1, &[]))
                .collect(),
        },
        Scenario {
            what: "who has a bucket need not take from that of all",
            fields: filter(
                2,
                a_and_b(),
                &[descriptor(&[("a", "1")], 4)],
                json!({"always_consume_default_token_bucket": false}),
            ),
            requests: times(5, &[("x-a", "1")])
                .chain(times(3, &[("x-a", "2")]))
                .collect(),
        },
        Scenario {
            what: "a descriptor is the same from first to last, or it is none",
            fields: filter(
                50,
                json!([{"actions": [
                    {"generic_key": {"descriptor_value": "here"}},
                    {"request_headers": {"header_name": "x-a", "descriptor_key": "a"}},
                    {"request_headers": {"header_name": "x-b", "descriptor_key": "b", "skip_if_absent": true}},
                ]}]),
                &[
                    descriptor(&[("generic_key", "here"), ("a", "1"), ("b", "1")], 1),
                    descriptor(&[("generic_key", "here"), ("a", "1")], 2),
                    descriptor(&[("generic_key", "here"), ("a", ""), ("b", "2")], 1),
                ],
                json!({}),
            ),
            requests: times(2, &[("x-a", "1"), ("x-b", "1")])
                .chain(times(3, &[("x-a", "1")]))
                .chain(times(2, &[("x-a", "7"), ("x-b", "2")]))
                .chain(times(2, &[("x-a", "8"), ("x-b", "2")]))
                .chain(times(2, &[("x-b", "1")]))
                .collect(),
        },
        Scenario {
            what: "headers that match, and that do not",
            fields: filter(
                50,
                json!([
                    {"actions": [{"header_value_match": {"descriptor_value": "get", "headers": [
                        {"name": ":method", "string_match": {"exact": "GET"}}, {"name": "x-a", "string_match": {"prefix": "v"}},
                    ]}}]},
                    {"actions": [{"header_value_match": {"descriptor_value": "not", "expect_match": false, "headers": [
                        {"name": "x-b", "present_match": true},
                    ]}}]},
                ]),
                &[
                    descriptor(&[("header_match", "get")], 2),
                    descriptor(&[("header_match", "not")], 4),
                ],
                json!({}),
            ),
            requests: times(3, &[("x-a", "v1"), ("x-b", "1")])
                .chain(times(2, &[("x-a", "w"), ("x-b", "1")]))
                .chain(times(3, &[("x-a", "w")]))
                .chain(times(3, &[("x-a", "v2")]))
                .collect(),
        },
        Scenario {
            what: "a refusal in words of its own",
            fields: filter(
                1,
                json!([]),
                &[],
                json!({
                    "status": {"code": "ServiceUnavailable"},
                    "response_headers_to_add": [{"header": {"key": "x-limited", "value": "yes"}}],
                    "rate_limited_as_resource_exhausted": true,
                }),
            ),
            requests: times(2, &[])
                .chain(times(1, &[("content-type", "application/grpc")]))
                .collect(),
        },
    ]
}

/// What of an answer the limit has to do with.
fn seen<'a>(status: u16, header: impl Fn(&str) -> Option<&'a str>, body: &str) -> String {
    let names = [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-limited",
        "grpc-status",
        "grpc-message",
        "x-envoy-ratelimited",
    ];
    let told = names
        .iter()
        .filter_map(|name| Some(format!(" {name}={}", header(name)?)));
    // What the application says of a request is its own.
    let body = if status == 200 { "" } else { body };
    format!("{status}{} {body}", told.collect::<String>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_limited_as_envoy_limits_them() -> Result<()> {
    let Some(binary) = find_or_skip("local rate limits compared with Envoy's") else {
        return Ok(());
    };
    let cluster = Cluster::new()?;
    let backend = Plain::http(cluster.address(), 0, Echo::new("things", None)).await?;
    let ip = cluster.address();
    let scenarios = scenarios();
    let mut fronts = Vec::new();
    let mut pods = Vec::new();
    for (at, scenario) in scenarios.iter().enumerate() {
        let name = format!("limited-{at}");
        fronts.push(Front {
            name: name.clone(),
            listen: (ip, 9400 + at as u16).into(),
            identity: None,
            filters: vec![http_filter(
                "local_ratelimit",
                "LocalRateLimit",
                scenario.fields.clone(),
            )],
        });
        cluster.service(&name, &name, None)?;
        let ours = json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"workloadSelector": {"labels": {"app": name}}, "configPatches": [{
                "applyTo": "HTTP_FILTER", "match": {"context": "SIDECAR_INBOUND"},
                "patch": {"operation": "INSERT_BEFORE", "value": http_filter(
                    "local_ratelimit", "LocalRateLimit", scenario.fields.clone()
                )},
            }]},
        });
        cluster.apply(&format!("limits-{at}"), &ours.to_string())?;
        let spec = cluster.pod(&name).label("app", &name);
        // Before it runs, because a process that does not know its own labels is limited by what others are.
        cluster.declare(&spec)?;
        pods.push(cluster.run(&spec).await?);
    }
    let config = FrontConfig {
        fronts,
        backend: backend.addr(),
        asked: Vec::new(),
    };
    let envoy = tokio::task::spawn_blocking(move || EnvoyFront::start(&binary, &config)).await??;
    let (_mesh, client) = cluster.client("curl").await?;
    let mut differences = Vec::new();
    for (at, scenario) in scenarios.iter().enumerate() {
        let name = format!("limited-{at}");
        let url = format!("http://{name}:9080/");
        let listens = envoy.addr(&name)?;
        for (n, headers) in scenario.requests.iter().enumerate() {
            let ours = client.request(request(Method::GET, &url, headers)).await;
            let ours = ours.unwrap_or_else(|refusal| refusal.into_response(false));
            let (status, told) = (ours.status().as_u16(), ours.headers().clone());
            let body = text(ours).await?;
            let ours = seen(status, |name| told.get(name)?.to_str().ok(), &body);
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let asked = head("GET", "/", &name, &headers);
            let theirs = exchange(TcpStream::connect(listens).await?, asked.as_bytes()).await?;
            let theirs = seen(theirs.status, |name| theirs.header(name), &theirs.body);
            if ours != theirs {
                differences.push(format!(
                    "{}: request {n} {headers:?}: {ours} | Envoy: {theirs}",
                    scenario.what
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}
