//! An explanation says what really happens, names who decided and what was asked of whom, and shows no secrets.

use anyhow::{Context, Result};
use inmesh::explain::{Explanation, Outcome, Question};
use inmesh_tests::kit::cluster::spiffe;
use inmesh_tests::kit::world::{request, seen, status};
use inmesh_tests::kit::{Shape, World};

in_both_shapes!(
    an_explanation_and_the_request_agree,
    every_other_candidate_has_its_reason,
    secrets_are_not_shown,
    the_rule_its_clause_and_what_it_rests_on_are_told,
    the_admin_endpoint_gives_the_same_answer,
);

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - name: jason
    matches: [{headers: [{name: end-user, value: jason}]}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-tester, value: 'yes'}], remove: [x-debug]}}]
    backendRefs: [{name: reviews-v2, port: 9080}]
  - matches: [{path: {value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
  - matches: [{headers: [{name: authorization, value: Bearer abc}], queryParams: [{name: access_token, value: t0p}]}]
    backendRefs: [{name: reviews-v2, port: 9080}]
  - backendRefs: [{name: reviews-v1, port: 9080, weight: 3}, {name: missing, port: 9080, weight: 1}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  action: DENY
  rules: [{to: [{operation: {paths: [/nowhere]}}]}, {to: [{operation: {paths: [/admin*]}}]}]
";

/// What the process that routes says of a request by `curl`.
fn explain(world: &World, question: Question) -> Explanation {
    match &world.waypoint {
        None => world.meshes()[0].explain(&question),
        Some(waypoint) => waypoint.mesh().explain(&question.from(spiffe("default", "curl"))),
    }
}

fn get(path: &str, headers: &[(&str, &str)]) -> Result<Question> {
    let mut question = Question::new("GET", &format!("http://reviews:9080{path}"))?;
    for (name, value) in headers {
        question = question.header(name, value)?;
    }
    Ok(question)
}

async fn an_explanation_and_the_request_agree(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("route", ROUTE)]).await?;
    let told = explain(&world, get("/x", &[("end-user", "jason")])?);
    let hop = told.hops.first().context("a hop")?;
    let routing = hop.routing.as_ref().context("it is routed")?;
    let rule = routing.rule.as_ref().context("a rule decides")?;
    assert_eq!(
        (rule.resource.as_str(), rule.index),
        ("HTTPRoute default/reviews", 0)
    );
    assert_eq!(rule.name.as_deref(), Some("jason"));
    assert!(
        rule.filters
            .contains(&"request header x-tester set to yes".to_owned()),
        "{:?}",
        rule.filters
    );
    assert!(
        rule.filters
            .contains(&"request header x-debug removed".to_owned()),
        "{:?}",
        rule.filters
    );
    let [backend] = &routing.backends[..] else {
        anyhow::bail!("one backend: {told}")
    };
    assert_eq!(backend.service.as_deref(), Some("default/reviews-v2:9080"));
    assert_eq!(backend.via.as_deref(), Some("direct"));
    assert_eq!(backend.endpoints[0].workload, "default/reviews-v2");
    assert!(backend.endpoints[0].tunnelled);
    assert_eq!(
        backend.endpoints[0].identity.as_deref(),
        Some("spiffe://cluster.local/ns/default/sa/reviews")
    );
    assert!(hop.generation > 0 && told.outcome == Outcome::Allowed, "{told}");
    let asked = request(
        http::Method::GET,
        "http://reviews:9080/x",
        &[("end-user", "jason"), ("x-debug", "1")],
    );
    let seen = seen(world.curl.request(asked).await).await?;
    assert_eq!(seen.pod, "reviews-v2");
    assert_eq!(seen.headers.get("x-tester").map(String::as_str), Some("yes"));

    // A share of nobody's, a redirect, a denial.
    let told = explain(&world, get("/y", &[])?);
    assert_eq!(told.outcome, Outcome::Mixed, "{told}");
    let backends = &told.hops[0].routing.as_ref().context("it is routed")?.backends;
    let shares: Vec<_> = backends.iter().map(|it| (it.share, it.error.is_some())).collect();
    assert_eq!(shares, [(0.75, false), (0.25, true)]);

    let told = explain(&world, get("/old/a", &[])?);
    let Outcome::Redirected {
        status: code,
        location,
    } = &told.outcome
    else {
        anyhow::bail!("{told}")
    };
    assert_eq!((*code, location.as_str()), (302, "http://reviews:9080/new/a"));
    let url = "http://reviews:9080/public/../admin/x?access_token=t0p";
    match shape {
        Shape::InProcess => {
            // Who calls does not judge; who is called does.
            let told = world.v1.mesh.explain(
                &Question::new("GET", url)?
                    .from(spiffe("default", "curl"))
                    .arriving_at(inmesh::snapshot::Place::Workload { port: 9080 }),
            );
            denied(&told)?;
        }
        Shape::Waypoint => denied(&explain(&world, Question::new("GET", url)?))?,
    }
    // As jason, so that the share of nobody's is out of the way.
    let admin = request(
        http::Method::GET,
        "http://reviews:9080/public/../admin/x",
        &[("end-user", "jason")],
    );
    assert_eq!(status(world.curl.request(admin).await), 403);
    Ok(())
}

fn denied(told: &Explanation) -> Result<()> {
    let decided = told.hops[0].authorization.as_ref().context("somebody judges")?;
    assert!(!decided.allowed, "{told}");
    assert_eq!(
        decided.policy.as_deref(),
        Some("AuthorizationPolicy default/no-admin")
    );
    assert_eq!(decided.rule, Some(1));
    assert!(
        matches!(told.outcome, Outcome::Refused { status: 403, .. }),
        "{told}"
    );
    assert_eq!(told.request.path, "/admin/x?access_token=(hidden)");
    Ok(())
}

async fn every_other_candidate_has_its_reason(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("route", ROUTE)]).await?;
    let told = explain(&world, get("/x", &[("end-user", "mary")])?);
    let candidates = &told.hops[0].routing.as_ref().context("it is routed")?.candidates;
    assert_eq!(candidates.iter().filter(|it| it.decides).count(), 1);
    let of = |rule: u32| {
        let label = format!("default/reviews/{rule}");
        candidates
            .iter()
            .find(move |it| it.rule == label)
            .context("a candidate")
    };
    let jason = of(0)?;
    assert_eq!(jason.verdict, "header end-user differs");
    let missed: Vec<_> = jason.asks.iter().filter(|it| !it.holds).collect();
    assert_eq!(missed.len(), 1);
    assert_eq!(
        (
            missed[0].of.as_str(),
            missed[0].asked.as_str(),
            missed[0].given.as_deref()
        ),
        ("header end-user", "= jason", Some("mary"))
    );
    assert_eq!(of(1)?.verdict, "path differs");
    assert!(of(3)?.decides);
    let told = explain(&world, get("/old", &[("end-user", "jason")])?);
    let candidates = &told.hops[0].routing.as_ref().context("it is routed")?.candidates;
    let outranked = candidates
        .iter()
        .filter(|it| it.verdict == "matches, but ranks lower")
        .count();
    assert_eq!(outranked, 2, "{told}");
    Ok(())
}

async fn secrets_are_not_shown(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("route", ROUTE)]).await?;
    let question = get(
        "/x?access_token=t0p&page=2",
        &[("authorization", "Bearer abc"), ("cookie", "sid=q")],
    )?;
    let told = explain(&world, question);
    let json = serde_json::to_string(&told)?;
    for text in [json, told.to_string()] {
        for secret in ["abc", "t0p", "sid=q"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        assert!(text.contains("page=2") && text.contains("(hidden)"), "{text}");
    }
    Ok(())
}

/// Where `reviews` is judged.
fn arriving(world: &World, question: Question) -> Explanation {
    let question = question.from(spiffe("default", "curl"));
    match &world.waypoint {
        None => world
            .v1
            .mesh
            .explain(&question.arriving_at(inmesh::snapshot::Place::Workload { port: 9080 })),
        Some(waypoint) => waypoint.mesh().explain(&question),
    }
}

const RULES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tenants, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - to: [{operation: {methods: [DELETE]}}, {operation: {paths: ['/store/{*}/items']}}]
  - from: [{source: {namespaces: [other]}}, {source: {principals: [cluster.local/ns/default/sa/curl]}}]
    when: [{key: 'request.headers[x-tenant]', values: [acme]}, {key: 'request.headers[x-api-key]', values: [s3cr3t]}]
";

async fn the_rule_its_clause_and_what_it_rests_on_are_told(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("rules", RULES)]).await?;
    let headers = [("x-tenant", "acme"), ("x-api-key", "s3cr3t")];
    let told = arriving(&world, get("/x", &headers)?);
    let decided = told.hops[0].authorization.as_ref().context("somebody judges")?;
    assert!(decided.allowed, "{told}");
    assert_eq!(
        decided.policy.as_deref(),
        Some("AuthorizationPolicy default/tenants")
    );
    assert_eq!((decided.rule, decided.rule_count), (Some(1), 2));
    assert_eq!(decided.clause, ["from[1]", "when[0]", "when[1]"]);
    let inputs: Vec<_> = decided
        .inputs
        .iter()
        .map(|it| (it.name.as_str(), it.value.as_deref()))
        .collect();
    assert_eq!(
        inputs,
        [
            ("principal", Some("cluster.local/ns/default/sa/curl")),
            ("request.headers[x-tenant]", Some("(hidden)")),
            ("request.headers[x-api-key]", Some("(hidden)")),
        ]
    );
    assert!(decided.cost_ns > 0);
    // Why not the other: each of its alternatives, in the words of its YAML.
    let other = &decided.rules[0];
    assert_eq!(
        (other.action, other.matches, other.decides),
        ("ALLOW", Some(false), false)
    );
    let asks: Vec<_> = other
        .asks
        .iter()
        .map(|it| {
            (
                it.clause.as_str(),
                it.of.as_str(),
                it.asked.as_str(),
                it.given.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        asks,
        [
            ("to[0]", "method", "`DELETE`", Some("GET")),
            ("to[1]", "path", "`/store/{*}/items`", Some("/x")),
        ]
    );
    // Values only on demand, and those of secrets not even then.
    let told = arriving(&world, get("/x", &headers)?.with_values());
    let text = format!("{told}{}", serde_json::to_string(&told)?);
    assert!(text.contains("acme") && !text.contains("s3cr3t"), "{text}");
    let told = arriving(&world, get("/x", &headers)?);
    let decided = told.hops[0].authorization.as_ref().context("somebody judges")?;
    let shown = serde_json::to_string(&decided.inputs)?;
    assert!(!shown.contains("acme"), "{shown}");
    // And without a match, nothing decides.
    let told = arriving(&world, get("/x", &headers[..1])?);
    let decided = told.hops[0].authorization.as_ref().context("somebody judges")?;
    assert_eq!(
        (decided.allowed, decided.rule, decided.clause.len()),
        (false, None, 0)
    );
    let missed = &decided.rules[1].asks;
    assert_eq!(missed.len(), 1, "{told}");
    assert_eq!(
        (missed[0].clause.as_str(), missed[0].given.as_deref()),
        ("when[1]", None)
    );
    Ok(())
}

async fn the_admin_endpoint_gives_the_same_answer(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("rules", RULES)]).await?;
    let ip = world.cluster.address();
    // One more participant that sees the same, with an admin endpoint.
    let mut builder = match shape {
        Shape::InProcess => world.cluster.participant("default", "reviews")?.pod("reviews-v1"),
        Shape::Waypoint => world
            .cluster
            .participant("default", "waypoint")?
            .pod("waypoint-0")
            .role(inmesh::snapshot::Role::Gateway {
                namespace: "default".into(),
                name: "waypoint".into(),
            }),
    };
    builder = builder.admin((ip, 15000).into());
    let mesh = builder.start().await?;
    let at = match shape {
        Shape::InProcess => r#", "at": "workload:9080""#,
        Shape::Waypoint => "",
    };
    let question = format!(
        r#"{{"method": "GET", "url": "http://reviews:9080/x", "headers": [["x-tenant", "acme"]],
            "from": "spiffe://cluster.local/ns/default/sa/curl"{at}}}"#
    );
    let (code, body) = post(ip, "application/json", &question).await?;
    assert_eq!(code, 200, "{body}");
    let mut answer: serde_json::Value = serde_json::from_str(&body)?;
    let mut expected = serde_json::to_value(mesh.explain(&serde_json::from_str(&question)?))?;
    for told in [&mut answer, &mut expected] {
        // How long it took differs from one time to the next.
        told["hops"][0]["authorization"]["costNs"] = 0.into();
    }
    assert_eq!(answer, expected);
    assert_eq!(answer["hops"][0]["authorization"]["allowed"], false);
    assert_eq!(answer["outcome"]["status"], 403);

    for (kind, question, expected) in [
        ("text/plain", question.as_str(), 415),
        ("application/json", "{", 400),
        (
            "application/json",
            r#"{"method": "GET", "url": "http://a/", "form": 1}"#,
            400,
        ),
        ("application/json", &format!("\"{}\"", "x".repeat(70_000)), 400),
    ] {
        let (code, body) = post(ip, kind, question).await?;
        assert_eq!(code, expected, "{body}");
    }
    Ok(())
}

/// Asks the admin endpoint.
async fn post(ip: std::net::Ipv4Addr, kind: &str, body: &str) -> Result<(u16, String)> {
    let stream = tokio::net::TcpStream::connect((ip, 15000)).await?;
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let request = http::Request::post("/explain")
        .header("host", "localhost")
        .header("content-type", kind)
        .body(body.to_owned())?;
    let response = sender.send_request(request).await?;
    let code = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await?
        .to_bytes();
    Ok((code, String::from_utf8_lossy(&body).into_owned()))
}
