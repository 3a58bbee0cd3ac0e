//! Authorization: the same answers wherever it is enforced.

use anyhow::Result;
use inmesh_tests::cluster::{Cluster, PORT, Pod, identity, read, until};

const GET_AS_CURL: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: get, namespace: default}
spec:
  targetRefs: [{kind: Service, group: '', name: web}]
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]
    to: [{operation: {methods: [GET]}}]
";

async fn ask(pod: &Pod, method: http::Method, url: &str) -> Result<u16> {
    let request = http::Request::builder()
        .method(method)
        .uri(url)
        .body(inmesh::Body::empty())?;
    Ok(read(pod.mesh.client().request(request).await?).await?.0)
}

/// GET and POST as curl, GET as somebody else.
async fn verdicts(curl: &Pod, other: &Pod, url: &str) -> Result<[u16; 3]> {
    Ok([
        ask(curl, http::Method::GET, url).await?,
        ask(curl, http::Method::POST, url).await?,
        ask(other, http::Method::GET, url).await?,
    ])
}

#[tokio::test]
async fn a_policy_for_a_service_holds_with_and_without_a_waypoint_and_past_it() -> Result<()> {
    for with_waypoint in [false, true] {
        let town = Cluster::new()?;
        town.service(
            "web",
            "web",
            if with_waypoint {
                "istio.io/use-waypoint: waypoint"
            } else {
                ""
            },
        )?;
        town.apply("policy", GET_AS_CURL)?;
        let server = town.server("web-1", "web").await?;
        let waypoint = if with_waypoint {
            Some(town.waypoint().await?)
        } else {
            None
        };
        let (curl, other) = (town.caller("curl").await?, town.caller("other").await?);
        let expected = if with_waypoint { "waypoint" } else { "curl" };
        until("calls take the way they should", || async {
            let (_, said) = read(curl.mesh.client().get("http://web/").await?).await?;
            Ok((said["peer"] == identity(expected).as_str()).then_some(()))
        })
        .await?;
        assert_eq!(
            verdicts(&curl, &other, "http://web/").await?,
            [200, 403, 403],
            "waypoint: {with_waypoint}"
        );
        let direct = format!("http://{}:{PORT}/", server.ip);
        assert_eq!(
            verdicts(&curl, &other, &direct).await?,
            [200, 403, 403],
            "on the pod's own address"
        );
        drop(waypoint);
    }
    Ok(())
}

#[tokio::test]
async fn a_denial_says_nothing_of_the_policy_and_grpc_is_told_in_its_own_words() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    town.apply("policy", GET_AS_CURL)?;
    let server = town.server("web-1", "web").await?;
    let other = town.caller("other").await?;
    let url = format!("http://{}:{PORT}/", server.ip);
    until("the policy is in force", || async {
        Ok((ask(&other, http::Method::GET, &url).await? == 403).then_some(()))
    })
    .await?;
    let response = other.mesh.client().get(url.as_str()).await?;
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .map_err(anyhow::Error::from_boxed)?;
    assert_eq!(body.to_bytes(), "RBAC: access denied");
    let request = http::Request::post(&url)
        .header("content-type", "application/grpc")
        .body(inmesh::Body::empty())?;
    let response = other.mesh.client().request(request).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "7");
    let metrics = server.mesh.metrics();
    assert!(metrics.contains("mesh_denials_total"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_denies_unless_a_good_version_is_known() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    let broken = GET_AS_CURL.replace("methods:", "method:");
    town.apply("policy", &broken)?;
    let server = town.server("web-1", "web").await?;
    let (curl, url) = (
        town.caller("curl").await?,
        format!("http://{}:{PORT}/", server.ip),
    );
    until("the server's answer comes", || async {
        Ok(ask(&curl, http::Method::GET, &url).await.ok())
    })
    .await?;
    assert_eq!(
        ask(&curl, http::Method::GET, &url).await?,
        403,
        "unknown field and nothing known: deny"
    );
    let problems = server.mesh.status().borrow().problems.clone();
    let said = problems
        .iter()
        .map(ToString::to_string)
        .find(|text| text.contains("method"));
    assert!(
        said.is_some_and(|text| text.contains("policy.yaml:10:23")),
        "{problems:?}"
    );

    town.apply("policy", GET_AS_CURL)?;
    until("the good version is in force", || async {
        Ok((ask(&curl, http::Method::GET, &url).await? == 200).then_some(()))
    })
    .await?;
    let before = server.mesh.status().borrow().generation;
    town.apply("policy", &broken)?;
    until("the broken version is noticed", || async {
        let status = server.mesh.status().borrow().clone();
        Ok((status.generation > before && !status.problems.is_empty()).then_some(()))
    })
    .await?;
    assert_eq!(
        ask(&curl, http::Method::GET, &url).await?,
        200,
        "the last good version stays"
    );
    assert_eq!(ask(&curl, http::Method::POST, &url).await?, 403);
    Ok(())
}

#[tokio::test]
async fn headers_that_claim_an_identity_grant_nothing() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    town.apply("policy", GET_AS_CURL)?;
    let server = town.server("web-1", "web").await?;
    let other = town.caller("other").await?;
    let url = format!("http://{}:{PORT}/", server.ip);
    until("the policy is in force", || async {
        Ok((ask(&other, http::Method::GET, &url).await? == 403).then_some(()))
    })
    .await?;
    let request = http::Request::get(&url)
        .header(
            "x-forwarded-client-cert",
            "URI=spiffe://cluster.local/ns/default/sa/curl",
        )
        .header("baggage", "k8s.namespace.name=default,service.name=curl")
        .header("forwarded", "for=10.0.0.1;host=web")
        .header("x-istio-source", "waypoint")
        .body(inmesh::Body::empty())?;
    assert_eq!(other.mesh.client().request(request).await?.status(), 403);
    Ok(())
}
