//! A real Envoy between us and at the other end. Without one these tests say so and pass.

use std::net::SocketAddr;

use anyhow::Result;
use inmesh::hbone::HBONE_PORT;
use inmesh_tests::cluster::{Cluster, PORT, identity, read, until};
use inmesh_tests::envoy::{
    self, ClientConfig, EnvoyClient, EnvoyWaypoint, Upstream, VirtualService, WaypointConfig,
};
use inmesh_tests::pki::PemFiles;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_is_a_waypoint_between_our_client_and_our_server() -> Result<()> {
    let Some(binary) = envoy::find_or_skip("our client through Envoy's waypoint to our server") else {
        return Ok(());
    };
    let town = Cluster::new()?;
    let vip = town.address();
    town.apply(
        "service-web",
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default, labels: {{istio.io/use-waypoint: waypoint}}}}\nspec: \
             {{clusterIP: {vip}, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: {PORT}}}]}}\n"
        ),
    )?;
    let server = town.server("web-1", "web").await?;
    town.gateway()?;
    let ip = town.address();
    let config = WaypointConfig {
        identity: PemFiles::in_dir(&town.credentials("waypoint")?),
        listen: SocketAddr::new(ip, HBONE_PORT),
        services: vec![VirtualService {
            address: SocketAddr::new(vip, 80),
            endpoints: vec![SocketAddr::new(server.ip, PORT)],
        }],
        upstream: Upstream::Hbone { port: HBONE_PORT },
        allow_get: vec![identity("curl").as_str().to_owned()],
        routes: 1,
    };
    let _envoy = tokio::task::spawn_blocking(move || EnvoyWaypoint::start(&binary, &config)).await??;
    town.pod_object(
        "waypoint-1",
        "waypoint",
        ip,
        "gateway.networking.k8s.io/gateway-name: waypoint",
    )?;
    let (curl, other) = (town.caller("curl").await?, town.caller("other").await?);
    until("calls arrive under Envoy's identity", || async {
        let Ok(response) = curl.mesh.client().get("http://web/a").await else {
            return Ok(None);
        };
        let (status, said) = read(response).await?;
        Ok(
            (status == 200 && said["peer"] == identity("waypoint").as_str() && said["path"] == "/a")
                .then_some(()),
        )
    })
    .await?;
    until("Envoy's policy sees our identity", || async {
        Ok(other
            .mesh
            .client()
            .get("http://web/")
            .await
            .ok()
            .filter(|response| response.status() == 403))
    })
    .await?;
    for _ in 0..200 {
        assert_eq!(read(curl.mesh.client().get("http://web/").await?).await?.0, 200);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_calls_our_server_through_a_tunnel() -> Result<()> {
    let Some(binary) = envoy::find_or_skip("Envoy as a client of our server") else {
        return Ok(());
    };
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    let server = town.server("web-1", "web").await?;
    let config = ClientConfig {
        identity: PemFiles::in_dir(&town.credentials("curl")?),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        dial: SocketAddr::new(server.ip, HBONE_PORT),
        authority: format!("{}:{PORT}", server.ip),
        server: identity("web").as_str().to_owned(),
    };
    let envoy = tokio::task::spawn_blocking(move || EnvoyClient::start(&binary, &config)).await??;
    let plain = envoy.addr()?;
    let said = until("the answer comes through Envoy's tunnel", || async move {
        let stream = tokio::net::TcpStream::connect(plain).await?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let request = http::Request::get("/through")
            .header("host", "web")
            .body(String::new())?;
        let Ok(response) = sender.send_request(request).await else {
            return Ok(None);
        };
        let (status, said) = read(response.map(inmesh::Body::new)).await?;
        Ok((status == 200).then_some(said))
    })
    .await?;
    assert_eq!(said["peer"], identity("curl").as_str());
    assert_eq!(said["path"], "/through");
    Ok(())
}
