//! HTTP as it comes: large, streamed, with trailers, upgraded, gRPC.

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::TokioIo;
use inmesh_tests::cluster::{Cluster, Pod, identity, read, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Town {
    cluster: Cluster,
    curl: Pod,
    _server: Pod,
    _waypoint: Option<inmesh::Waypoint>,
}

/// A service `web` with an application of the test's own.
async fn town(with_waypoint: bool, protocol: &str, app: axum::Router) -> Result<Town> {
    let cluster = Cluster::new()?;
    let label = if with_waypoint {
        "istio.io/use-waypoint: waypoint"
    } else {
        ""
    };
    cluster.apply(
        "service-web",
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default, labels: {{{label}}}}}\nspec: {{selector: {{app: \
             web}}, ports: [{{name: {protocol}, port: 80, targetPort: 8080}}]}}\n"
        ),
    )?;
    let ip = cluster.address();
    let mesh = cluster.builder("web-1", "web", ip)?.start().await?;
    let whoami =
        async |peer: inmesh::PeerIdentity| peer.spiffe_id().map(ToString::to_string).unwrap_or_default();
    mesh.attach(8080, app.route("/whoami", axum::routing::get(whoami)))
        .await?;
    cluster.pod_object("web-1", "web", ip, "app: web")?;
    let waypoint = if with_waypoint {
        Some(cluster.waypoint().await?)
    } else {
        None
    };
    let curl = cluster.caller("curl").await?;
    let expected = identity(if with_waypoint { "waypoint" } else { "curl" });
    until("calls take the way they should", || async {
        let Ok(response) = curl.mesh.client().get("http://web/whoami").await else {
            return Ok(None);
        };
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(anyhow::Error::from_boxed)?
            .to_bytes();
        Ok((body == expected.as_str()).then_some(()))
    })
    .await?;
    Ok(Town {
        cluster,
        curl,
        _server: Pod {
            name: "web-1".into(),
            ip,
            mesh,
        },
        _waypoint: waypoint,
    })
}

#[tokio::test]
async fn large_bodies_stream_both_ways_and_trailers_pass() -> Result<()> {
    for with_waypoint in [false, true] {
        for protocol in ["http", "grpc"] {
            let app = axum::Router::new().route(
                "/echo",
                axum::routing::post(async |request: axum::extract::Request| {
                    axum::response::Response::new(request.into_body())
                }),
            );
            let town = town(with_waypoint, protocol, app).await?;
            let frames = (0..=255u8)
                .map(|at: u8| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(vec![at; 65_536]))));
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", "42".parse()?);
            let trailers = std::iter::once(Ok(http_body::Frame::trailers(trailers)));
            let body = StreamBody::new(futures_util::stream::iter(frames.chain(trailers)));
            let request = http::Request::post("http://web/echo")
                .header("te", "trailers")
                .header("trailer", "x-sum")
                .body(body)?;
            let response = town.curl.mesh.client().request(request).await?;
            assert_eq!(response.status(), 200);
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(anyhow::Error::from_boxed)?;
            if protocol == "grpc" {
                // Over HTTP/2 trailers need no announcement by the answerer.
                assert_eq!(
                    body.trailers()
                        .and_then(|it| it.get("x-sum"))
                        .map(|it| it.as_bytes()),
                    Some(&b"42"[..])
                );
            }
            let bytes = body.to_bytes();
            assert_eq!(bytes.len(), 16 << 20, "{protocol}, waypoint: {with_waypoint}");
            assert!(
                bytes
                    .chunks(65_536)
                    .enumerate()
                    .all(|(at, chunk)| chunk.iter().all(|byte| *byte == at as u8))
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_becomes_a_stream_of_bytes_in_both_shapes() -> Result<()> {
    for with_waypoint in [false, true] {
        let app = axum::Router::new().route(
            "/up",
            axum::routing::get(async |mut request: axum::extract::Request| {
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let mut io = TokioIo::new(upgraded.await.expect("it is upgraded"));
                    let mut buffer = [0; 5];
                    io.read_exact(&mut buffer).await.expect("five bytes");
                    buffer.reverse();
                    io.write_all(&buffer).await.expect("they are written");
                });
                let mut response = axum::response::Response::new(axum::body::Body::empty());
                *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
                response
                    .headers_mut()
                    .insert("connection", "upgrade".parse().expect("a value"));
                response
                    .headers_mut()
                    .insert("upgrade", "mirror".parse().expect("a value"));
                response
            }),
        );
        let town = town(with_waypoint, "http", app).await?;
        let request = http::Request::get("http://web/up")
            .header("connection", "upgrade")
            .header("upgrade", "mirror")
            .body(inmesh::Body::empty())?;
        let mut response = town.curl.mesh.client().request(request).await?;
        assert_eq!(response.status(), 101, "waypoint: {with_waypoint}");
        let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await?);
        io.write_all(b"hello").await?;
        let mut answer = [0; 5];
        io.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"olleh");
    }
    Ok(())
}

#[tokio::test]
async fn an_own_axum_serve_is_guarded_by_the_inbound_layers() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("web", "web", "")?;
    let ip = cluster.address();
    let mesh = cluster.builder("web-1", "web", ip)?.start().await?;
    let listener = mesh.listen(8080).await?;
    let app = axum::Router::new()
        .route(
            "/",
            axum::routing::get(async |peer: inmesh::PeerIdentity| {
                peer.spiffe_id().map(ToString::to_string).unwrap_or_default()
            }),
        )
        .layer(mesh.inbound(8080))
        .into_make_service_with_connect_info::<inmesh::PeerIdentity>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    cluster.pod_object("web-1", "web", ip, "app: web")?;
    let curl = cluster.caller("curl").await?;
    until("it answers", || async {
        Ok(curl.mesh.client().get("http://web/").await.ok())
    })
    .await?;
    cluster.apply(
        "policy",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: none, namespace: default}\nspec: {}\n",
    )?;
    until("allow-nothing is in force", || async {
        Ok((read(curl.mesh.client().get("http://web/").await?).await?.0 == 403).then_some(()))
    })
    .await
}

#[tokio::test]
async fn odd_heads_are_answered_not_dropped() -> Result<()> {
    for with_waypoint in [false, true] {
        let app = axum::Router::new().route("/", axum::routing::get(async || "hello"));
        let town = town(with_waypoint, "http", app).await?;
        let head = http::Request::head("http://web/").body(inmesh::Body::empty())?;
        let response = town.curl.mesh.client().request(head).await?;
        assert_eq!(
            (
                response.status().as_u16(),
                response.headers()["content-length"].as_bytes()
            ),
            (200, &b"5"[..])
        );
        // A head beyond every limit: 431 from whoever reads it first, and the connection's end is no panic.
        let huge = http::Request::get("http://web/")
            .header("x-huge", "a".repeat(600_000))
            .body(Full::new(Bytes::new()))?;
        match town.curl.mesh.client().request(huge).await {
            Ok(response) => assert!(
                matches!(response.status().as_u16(), 431 | 503),
                "{}",
                response.status()
            ),
            Err(refusal) => assert_eq!(refusal.status, 503),
        }
        let after = town.curl.mesh.client().get("http://web/").await?;
        assert_eq!(after.status(), 200);
        drop(town.cluster);
    }
    Ok(())
}
