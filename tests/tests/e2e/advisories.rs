//! Advisories against policy points like ours, each tried on real sockets; those about paths, hosts and headers are in
//! `hygiene`, those about tokens in `tokens`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::status;
use inmesh_tests::kit::{Door, House, Shape, World};

in_both_shapes!(
    row_30_a_dot_in_a_service_account_is_a_dot_cve_2026_39350,
    row_33_a_pattern_that_would_take_for_ever_takes_no_time,
    row_39_what_is_not_known_in_a_policy_closes_cve_2022_21679,
);

at_every_door!(row_31_a_star_in_a_path_is_no_way_round_a_template_cve_2025_46821);

const URL: &str = "http://reviews:9080/";

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: reviews}}]\n  {spec}\n"
    )
}

async fn row_30_a_dot_in_a_service_account_is_a_dot_cve_2026_39350(shape: Shape) -> Result<()> {
    let allow = policy(
        "allow",
        "rules: [{from: [{source: {serviceAccounts: [default/cert-manager.io]}}]}]",
    );
    let world = World::start(shape, &[("policy", &allow)]).await?;
    let (_dotted_mesh, dotted) = world.cluster.client("cert-manager.io").await?;
    let (_other_mesh, other) = world.cluster.client("cert-managerxio").await?;
    assert_eq!(status(dotted.get(URL).await), 200);
    assert_eq!(status(other.get(URL).await), 403);
    // The other way round: what is denied to one is not denied to the other, and not allowed to it by a star.
    let deny = policy(
        "allow",
        "action: DENY\n  rules: [{from: [{source: {notServiceAccounts: [default/cert-manager.io]}}]}]",
    );
    world.cluster.apply("policy", &deny)?;
    until("everybody else is denied", || async {
        status(dotted.get(URL).await) == 200 && status(other.get(URL).await) == 403
    })
    .await;
    Ok(())
}

async fn row_31_a_star_in_a_path_is_no_way_round_a_template_cve_2025_46821(door: Door) -> Result<()> {
    let target = match door {
        Door::Gateway => "{group: gateway.networking.k8s.io, kind: Gateway, name: ingress}",
        Door::Workload | Door::Waypoint => "{group: '', kind: Service, name: reviews}",
    };
    let deny = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: deny, namespace: default}}\nspec:\n  \
         targetRefs: [{target}]\n  action: DENY\n  rules: [{{to: [{{operation: {{paths: ['/admin/{{*}}', '/all/{{**}}']}}}}]}}]\n"
    );
    let house = House::build(door, &[("policy", &deny)]).await?;
    let ask = async |path: &str| {
        Ok::<_, anyhow::Error>(
            house
                .ask(&format!("GET {path} HTTP/1.1\nhost: reviews:9080"))
                .await?
                .status,
        )
    };
    for path in ["/admin/x", "/admin/a*b", "/admin/*", "/all/a/b*c", "/admin/%2a"] {
        assert_eq!(ask(path).await?, 403, "{path}");
    }
    assert_eq!(house.served(), 0);
    for path in ["/admin", "/admin/a/b*c", "/other/a*b"] {
        assert_eq!(ask(path).await?, 200, "{path}");
    }
    Ok(())
}

/// Patterns match in time that grows with the text, and one that would need too much memory is refused when it is read.
async fn row_33_a_pattern_that_would_take_for_ever_takes_no_time(shape: Shape) -> Result<()> {
    let route = |pattern: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: bomb, namespace: default}}\nspec:\n  \
             parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  - matches: [{{path: {{type: RegularExpression, \
             value: '{pattern}'}}}}]\n    backendRefs: [{{name: reviews-v1, port: 9080}}]\n  - backendRefs: [{{name: reviews-v2, port: 9080}}]\n"
        )
    };
    let world = World::start(shape, &[("route", &route("/(a+)+(a|aa)*b"))]).await?;
    let began = Instant::now();
    let long = format!("{URL}{}", "a".repeat(8_000));
    assert_eq!(status(world.curl.get(&long).await), 200);
    ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // As large as a pattern may not become: it is said, and everything else goes on.
    world.cluster.apply("route", &route("/((a{1000}){1000}){1000}"))?;
    let judge = match &world.waypoint {
        None => world.meshes()[0].clone(),
        Some(waypoint) => waypoint.mesh().clone(),
    };
    until("the pattern is refused", || async {
        let status = judge.status();
        let problems = std::sync::Arc::clone(&status.borrow().problems);
        problems
            .iter()
            .any(|problem| problem.place.file.contains("route.yaml"))
    })
    .await;
    ensure!(status(world.curl.get(&long).await) != 0);
    Ok(())
}

async fn row_39_what_is_not_known_in_a_policy_closes_cve_2022_21679(shape: Shape) -> Result<()> {
    for (what, spec) in [
        (
            "an action of tomorrow",
            "action: LIMIT\n  rules: [{to: [{operation: {paths: [/x]}}]}]",
        ),
        (
            "a field of tomorrow",
            "action: DENY\n  rules: [{to: [{operation: {paths: [/x], bodies: [evil]}}]}]",
        ),
        (
            "a key of tomorrow",
            "action: DENY\n  rules: [{when: [{key: request.body, values: [evil]}]}]",
        ),
    ] {
        let world = World::start(shape, &[("policy", &policy("new", spec))]).await?;
        assert_eq!(status(world.curl.get(URL).await), 403, "{what}");
        assert_eq!(world.v1.echo.served() + world.v2.echo.served(), 0, "{what}");
    }
    Ok(())
}
