//! Retries that an HTTPRoute asks for (GEP-1731).

use std::time::{Duration, Instant};

use anyhow::Result;
use inmesh_tests::kit::world::{seen, status};
use inmesh_tests::kit::{Shape, World};

const URL: &str = "http://reviews:9080";

in_both_shapes!(
    listed_codes_are_retried_and_others_are_not,
    the_last_answer_is_given_when_attempts_are_used_up,
    an_attempt_that_takes_too_long_is_retried,
);

fn route(rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  - backendRefs: [{{name: reviews-v1, port: 9080}}]\n{rule}"
    )
}

async fn listed_codes_are_retried_and_others_are_not(shape: Shape) -> Result<()> {
    let rule = "    retry: {codes: [500, 502], attempts: 2, backoff: 10ms}\n";
    let world = World::start(shape, &[("route", &route(rule))]).await?;
    for code in [500, 502] {
        let url = format!("{URL}/fail/{code}/2/x");
        assert_eq!(seen(world.curl.get(&*url).await).await?.pod, "reviews-v1");
    }
    assert_eq!(world.v1.echo.served(), 6);
    assert_eq!(status(world.curl.get(format!("{URL}/fail/503/1/x")).await), 503);
    assert_eq!(world.v1.echo.served(), 7);
    Ok(())
}

async fn the_last_answer_is_given_when_attempts_are_used_up(shape: Shape) -> Result<()> {
    let rule = "    retry: {codes: [503], attempts: 1, backoff: 200ms}\n";
    let world = World::start(shape, &[("route", &route(rule))]).await?;
    let began = Instant::now();
    assert_eq!(status(world.curl.get(format!("{URL}/fail/503/9/x")).await), 503);
    assert_eq!(world.v1.echo.served(), 2);
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "the back-off is a minimum"
    );
    Ok(())
}

async fn an_attempt_that_takes_too_long_is_retried(shape: Shape) -> Result<()> {
    let rule =
        "    timeouts: {request: 10s, backendRequest: 300ms}\n    retry: {attempts: 2, backoff: 1ms}\n";
    let world = World::start(shape, &[("route", &route(rule))]).await?;
    assert_eq!(status(world.curl.get(format!("{URL}/sleep/15000")).await), 504);
    assert_eq!(world.v1.echo.served(), 3);
    Ok(())
}
