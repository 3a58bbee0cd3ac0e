//! Who calls whom, and how.

use anyhow::Result;
use inmesh_tests::cluster::{Cluster, PORT, identity, read, until};
use serde_json::json;

#[tokio::test]
async fn calls_are_tunnelled_between_proved_identities() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    let _server = town.server("web-1", "web").await?;
    let curl = town.caller("curl").await?;
    let (status, said) = until("web answers", || async {
        let answer = read(curl.mesh.client().get("http://web/hello?a=b").await?).await?;
        Ok((answer.0 == 200).then_some(answer))
    })
    .await?;
    assert_eq!(status, 200);
    assert_eq!(said["peer"], identity("curl").as_str());
    assert_eq!(said["path"], "/hello?a=b");
    assert_eq!(said["headers"]["host"], "web");
    for host in [
        "web.default",
        "web.default.svc",
        "web.default.svc.cluster.local",
        "WEB.default.",
    ] {
        let (status, _) = read(curl.mesh.client().get(format!("http://{host}/")).await?).await?;
        assert_eq!(status, 200, "{host}");
    }
    Ok(())
}

#[tokio::test]
async fn a_waypoint_passes_calls_under_its_own_identity() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "istio.io/use-waypoint: waypoint")?;
    let server = town.server("web-1", "web").await?;
    let _waypoint = town.waypoint().await?;
    let curl = town.caller("curl").await?;
    let seen = until("the waypoint is used", || async {
        // The caller may hear of the waypoint before the waypoint has heard of the service.
        let Ok(answer) = curl.mesh.client().get("http://web/").await else {
            return Ok(None);
        };
        let (_, said) = read(answer).await?;
        Ok((said["peer"] == identity("waypoint").as_str()).then_some(said))
    })
    .await?;
    assert_eq!(seen["by"], "web-1");
    // Who asks for the pod itself is not sent through the service's waypoint.
    let (_, direct) = read(
        curl.mesh
            .client()
            .get(format!("http://{}:{PORT}/", server.ip))
            .await?,
    )
    .await?;
    assert_eq!(direct["peer"], identity("curl").as_str());
    Ok(())
}

#[tokio::test]
async fn plaintext_is_refused_under_strict_and_answered_under_permissive() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    let server = town.server("web-1", "web").await?;
    let plain = || async move {
        let stream = tokio::net::TcpStream::connect((server.ip, PORT)).await?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let request = http::Request::get("/")
            .header("host", "web")
            .body(String::new())?;
        let response = sender.send_request(request).await?;
        read(response.map(inmesh::Body::new)).await
    };
    let server_mesh = server.mesh.clone();
    let (status, said) = plain().await?;
    assert_eq!((status, &said["peer"]), (200, &json!(null)));
    let strict = |mode: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: default}}\nspec: {{mtls: \
             {{mode: {mode}}}}}\n"
        )
    };
    town.apply("peers", &strict("STRICT"))?;
    until("plaintext is refused", || async {
        Ok(plain().await.is_err().then_some(()))
    })
    .await?;
    town.apply("peers", &strict("DISABLE"))?;
    until("DISABLE is taken for PERMISSIVE", || async {
        Ok(plain().await.ok())
    })
    .await?;
    let problems = server_mesh.status().borrow().problems.clone();
    assert!(
        problems
            .iter()
            .any(|problem| problem.to_string().contains("DISABLE")),
        "{problems:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_host_that_is_not_of_the_mesh_is_an_error_that_says_so() -> Result<()> {
    let town = Cluster::new()?;
    let curl = town.caller("curl").await?;
    let refusal = curl
        .mesh
        .client()
        .get("http://example.com/")
        .await
        .expect_err("there is no such service");
    assert_eq!(refusal.status.as_u16(), 404);
    assert!(refusal.to_string().contains("example.com"), "{refusal}");
    Ok(())
}
