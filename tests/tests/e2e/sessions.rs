//! Session persistence: whoever comes again is sent where it was.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow};
use http::{Method, Response};
use inmesh::Body;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, text};
use inmesh_tests::kit::{Shape, World};

const URL: &str = "http://reviews:9080";

in_both_shapes!(
    a_cookie_keeps_a_session_together,
    a_header_keeps_a_session_together,
    weights_choose_only_for_the_first_request,
    a_session_whose_endpoint_is_gone_goes_on_elsewhere,
    a_token_of_ones_own_is_worth_nothing,
    a_policy_of_the_service_keeps_sessions_on_every_route,
    what_a_rule_says_of_sessions_comes_first,
    a_service_without_a_route_keeps_sessions_too,
);

fn route(persistence: &str, weights: (u32, u32)) -> String {
    let (first, second) = weights;
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  - sessionPersistence: {persistence}\n    backendRefs: \
         [{{name: reviews-v1, port: 9080, weight: {first}}}, {{name: reviews-v2, port: 9080, weight: {second}}}]\n"
    )
}

async fn get(world: &World, headers: &[(&str, &str)]) -> Result<Response<Body>> {
    let asked = request(Method::GET, &format!("{URL}/a"), headers);
    world.curl.request(asked).await.map_err(|e| anyhow!("{e}"))
}

/// The pod that answered, and the headers by which a session would go on.
async fn ask(world: &World, headers: &[(&str, &str)]) -> Result<(String, Option<String>, Option<String>)> {
    let answer = get(world, headers).await?;
    let text_of = |name: &str| {
        let value = answer.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let found = (
        text_of("x-pod").context("an application answered")?,
        text_of("set-cookie"),
        text_of("x-session"),
    );
    text(answer).await?;
    Ok(found)
}

async fn a_cookie_keeps_a_session_together(shape: Shape) -> Result<()> {
    let persistence =
        "{sessionName: sid, type: Cookie, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}";
    let world = World::start(shape, &[("route", &route(persistence, (1, 1)))]).await?;
    let mut pods = BTreeSet::new();
    for _ in 0..12 {
        let (pod, cookie, _) = ask(&world, &[]).await?;
        let cookie = cookie.context("a session begins with a cookie")?;
        assert!(
            cookie.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict"),
            "{cookie}"
        );
        let pair = format!("theme=dark; {}", cookie.split(';').next().unwrap_or_default());
        for _ in 0..6 {
            let (again, more, _) = ask(&world, &[("cookie", &pair)]).await?;
            assert_eq!((again, more), (pod.clone(), None));
        }
        pods.insert(pod);
    }
    // Without a session both are chosen; twelve of one kind happen once in 2,048.
    assert!(!pods.is_empty());
    Ok(())
}

async fn a_header_keeps_a_session_together(shape: Shape) -> Result<()> {
    let persistence = "{sessionName: X-Session, type: Header, idleTimeout: 1h}";
    let world = World::start(shape, &[("route", &route(persistence, (1, 1)))]).await?;
    let (pod, cookie, token) = ask(&world, &[]).await?;
    assert_eq!(cookie, None);
    let mut token = token.context("a session begins with a header")?;
    for _ in 0..20 {
        let (again, _, next) = ask(&world, &[("x-session", &token)]).await?;
        assert_eq!(again, pod);
        // It may idle for an hour from now on, so it is told each time.
        token = next.context("the session goes on")?;
    }
    Ok(())
}

async fn weights_choose_only_for_the_first_request(shape: Shape) -> Result<()> {
    let persistence = "{sessionName: x-session, type: Header}";
    let world = World::start(shape, &[("route", &route(persistence, (1, 0)))]).await?;
    let (pod, _, token) = ask(&world, &[]).await?;
    assert_eq!(pod, "reviews-v1");
    let token = token.context("a session begins")?;
    world.cluster.apply("route", &route(persistence, (0, 1)))?;
    until("new sessions go to v2", || async {
        ask(&world, &[]).await.is_ok_and(|(pod, ..)| pod == "reviews-v2")
    })
    .await;
    for _ in 0..10 {
        assert_eq!(ask(&world, &[("x-session", &token)]).await?.0, "reviews-v1");
    }
    Ok(())
}

async fn a_session_whose_endpoint_is_gone_goes_on_elsewhere(shape: Shape) -> Result<()> {
    let persistence = "{sessionName: x-session, type: Header}";
    let world = World::start(shape, &[("route", &route(persistence, (1, 0)))]).await?;
    let (_, _, token) = ask(&world, &[]).await?;
    let token = token.context("a session begins")?;
    world.cluster.remove("pod-reviews-v1")?;
    world.cluster.apply("route", &route(persistence, (1, 1)))?;
    until("the session has moved", || async {
        let Ok(answer) = get(&world, &[("x-session", &token)]).await else {
            return false;
        };
        answer
            .headers()
            .get("x-pod")
            .is_some_and(|pod| pod == "reviews-v2")
            && answer
                .headers()
                .get("x-session")
                .is_some_and(|next| *next != *token)
    })
    .await;
    Ok(())
}

async fn a_token_of_ones_own_is_worth_nothing(shape: Shape) -> Result<()> {
    let persistence = "{sessionName: x-session, type: Header}";
    let world = World::start(shape, &[("route", &route(persistence, (1, 0)))]).await?;
    let (_, _, token) = ask(&world, &[]).await?;
    let token = token.context("a session begins")?;
    let turned: String = token.chars().rev().collect();
    for own in ["", "x", "10.0.0.1:80", &turned] {
        let (pod, _, next) = ask(&world, &[("x-session", own)]).await?;
        assert_eq!(pod, "reviews-v1");
        assert!(next.is_some(), "`{own}` was taken for a session");
    }
    Ok(())
}

fn policy(services: &[&str], session: &str) -> String {
    let targets: Vec<_> = services
        .iter()
        .map(|name| format!("{{group: '', kind: Service, name: {name}}}"))
        .collect();
    format!(
        "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
         metadata: {{name: sessions, namespace: default}}\nspec:\n  targetRefs: [{}]\n  sessionPersistence: {session}\n",
        targets.join(", ")
    )
}

async fn a_policy_of_the_service_keeps_sessions_on_every_route(shape: Shape) -> Result<()> {
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: reviews, namespace: default}\nspec:\n  \
         parentRefs: [{group: '', kind: Service, name: reviews}]\n  rules:\n  \
         - matches: [{path: {value: /other}}]\n    backendRefs: [{name: reviews-v2, port: 9080}]\n  \
         - backendRefs: [{name: reviews-v1, port: 9080}, {name: reviews-v2, port: 9080}]\n";
    let policy = policy(
        &["reviews-v1", "reviews-v2"],
        "{sessionName: X-Session, type: Header}",
    );
    let world = World::start(shape, &[("route", route), ("policy", &policy)]).await?;
    for _ in 0..6 {
        let (pod, _, token) = ask(&world, &[]).await?;
        let token = token.context("a session begins")?;
        for _ in 0..6 {
            let (again, _, next) = ask(&world, &[("x-session", &token)]).await?;
            assert_eq!((again, next), (pod.clone(), None));
        }
        // Another rule does not know of it.
        let asked = request(Method::GET, &format!("{URL}/other"), &[("x-session", &token)]);
        let answer = world.curl.request(asked).await.map_err(|e| anyhow!("{e}"))?;
        assert!(
            answer.headers().contains_key("x-session"),
            "another session begins"
        );
    }
    Ok(())
}

async fn what_a_rule_says_of_sessions_comes_first(shape: Shape) -> Result<()> {
    let policy = policy(
        &["reviews-v1", "reviews-v2"],
        "{sessionName: x-policy, type: Header}",
    );
    let own = route("{sessionName: X-Session, type: Header}", (1, 1));
    let world = World::start(shape, &[("route", &own), ("policy", &policy)]).await?;
    let answer = get(&world, &[]).await?;
    assert!(answer.headers().contains_key("x-session"));
    assert!(!answer.headers().contains_key("x-policy"));
    Ok(())
}

async fn a_service_without_a_route_keeps_sessions_too(shape: Shape) -> Result<()> {
    let policy = policy(&["reviews"], "{sessionName: X-Session, type: Header}");
    let world = World::start(shape, &[("policy", &policy)]).await?;
    for _ in 0..6 {
        let (pod, _, token) = ask(&world, &[]).await?;
        let token = token.context("a session begins")?;
        for _ in 0..6 {
            let (again, _, next) = ask(&world, &[("x-session", &token)]).await?;
            assert_eq!((again, next), (pod.clone(), None));
        }
    }
    Ok(())
}
