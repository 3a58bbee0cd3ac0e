//! That the configurations work, against hand-made HBONE peers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::pki::{PemFiles, Root};
use crate::tls;

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/default/sa/server";

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// An HBONE server that answers HTTP/1.1 inside each tunnel with the authority of the CONNECT.
async fn hbone_echo(files: &PemFiles) -> SocketAddr {
    let acceptor = TlsAcceptor::from(tls::server(files).unwrap());
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let tls = acceptor.accept(tcp).await?;
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(tls), service_fn(connect))
                    .await?;
                anyhow::Ok(())
            });
        }
    });
    addr
}

async fn connect(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>> {
    assert_eq!(request.method(), Method::CONNECT);
    let authority = Bytes::from(request.uri().authority().unwrap().to_string());
    tokio::spawn(async move {
        let tunnel = TokioIo::new(TokioIo::new(hyper::upgrade::on(request).await?));
        let answer = service_fn(move |_: Request<Incoming>| {
            let authority = authority.clone();
            async move { anyhow::Ok(Response::new(Full::new(authority))) }
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(tunnel, answer)
            .await?;
        anyhow::Ok(())
    });
    Ok(Response::new(Empty::new()))
}

/// One request over HTTP/1.1 on a stream that is already there.
async fn ask<T>(stream: T, method: Method, path: &str) -> (StatusCode, String)
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "server");
    let response = sender
        .send_request(request.body(Empty::<Bytes>::new()).unwrap())
        .await
        .unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Opens a tunnel to `authority` at the HBONE server `addr`.
async fn tunnel(
    addr: SocketAddr,
    files: &PemFiles,
    authority: &str,
) -> Result<TokioIo<TokioIo<hyper::upgrade::Upgraded>>> {
    let connector = TlsConnector::from(tls::client(files)?);
    let tcp = TcpStream::connect(addr).await?;
    let tls = connector.connect(ServerName::from(addr.ip()), tcp).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(authority)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status() == StatusCode::OK, "{}", response.status());
    Ok(TokioIo::new(TokioIo::new(hyper::upgrade::on(response).await?)))
}

async fn start<T: Send + 'static>(start: impl FnOnce() -> Result<T> + Send + 'static) -> Arc<T> {
    Arc::new(tokio::task::spawn_blocking(start).await.unwrap().unwrap())
}

#[tokio::test]
async fn a_waypoint_carries_a_request_from_tunnel_to_tunnel_and_enforces_its_policy() {
    let Some(binary) = find_or_skip("Envoy as waypoint") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new().unwrap();
    let client = root.issue(dir.path(), "default", "client").unwrap();
    let intruder = root.issue(dir.path(), "default", "intruder").unwrap();
    let backend = hbone_echo(&root.issue(dir.path(), "default", "server").unwrap()).await;
    let config = WaypointConfig {
        identity: root.issue(dir.path(), "default", "waypoint").unwrap(),
        listen: loopback(0),
        services: vec![VirtualService {
            address: SocketAddr::from(([127, 10, 0, 1], 80)),
            endpoints: vec![loopback(8080)],
        }],
        upstream: Upstream::Hbone { port: backend.port() },
        allow_get: vec![CLIENT.into()],
        routes: 10,
    };
    let envoy = start(move || EnvoyWaypoint::start(&binary, &config)).await;
    let addr = envoy.addr().unwrap();

    let through = tunnel(addr, &client, "127.10.0.1:80").await.unwrap();
    let (status, body) = ask(through, Method::GET, "/hello").await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, "127.0.0.1:8080"),
        "{}",
        envoy.process().log()
    );

    let through = tunnel(addr, &client, "127.10.0.1:80").await.unwrap();
    assert_eq!(
        ask(through, Method::POST, "/hello").await.0,
        StatusCode::FORBIDDEN
    );
    let through = tunnel(addr, &intruder, "127.10.0.1:80").await.unwrap();
    assert_eq!(ask(through, Method::GET, "/hello").await.0, StatusCode::FORBIDDEN);
    assert_eq!(
        envoy
            .process()
            .stat("cluster.connect_originate.upstream_cx_total")
            .unwrap(),
        Some(1)
    );
}

#[tokio::test]
async fn a_client_carries_a_plain_connection_through_a_tunnel() {
    let Some(binary) = find_or_skip("Envoy as HBONE client") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new().unwrap();
    let server = hbone_echo(&root.issue(dir.path(), "default", "server").unwrap()).await;
    let config = |server_identity: &str| ClientConfig {
        identity: root.issue(dir.path(), "default", "client").unwrap(),
        listen: loopback(0),
        dial: server,
        authority: "127.10.0.2:9080".into(),
        server: server_identity.into(),
    };
    let right = config(SERVER);
    let envoy = {
        let binary = binary.clone();
        start(move || EnvoyClient::start(&binary, &right)).await
    };
    let tcp = TcpStream::connect(envoy.addr().unwrap()).await.unwrap();
    let (status, body) = ask(TokioIo::new(tcp), Method::GET, "/").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "127.10.0.2:9080"));

    let wrong = config("spiffe://cluster.local/ns/default/sa/other");
    let envoy = start(move || EnvoyClient::start(&binary, &wrong)).await;
    let mut tcp = TcpStream::connect(envoy.addr().unwrap()).await.unwrap();
    let mut answer = Vec::new();
    // Closed or reset, as it comes; what counts is that nothing came through.
    let _ = tcp.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[test]
fn envoy_outlives_the_thread_that_started_it_and_not_its_handle() {
    let Some(binary) = find_or_skip("the end of Envoy") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = ClientConfig {
        identity: Root::new()
            .unwrap()
            .issue(dir.path(), "default", "client")
            .unwrap(),
        listen: loopback(0),
        dial: loopback(1),
        authority: "127.10.0.2:9080".into(),
        server: SERVER.into(),
    };
    let started = std::thread::spawn(move || EnvoyClient::start(&binary, &config).unwrap());
    let envoy = started.join().unwrap();
    assert_eq!(
        envoy
            .process()
            .stat("listener_manager.listener_create_success")
            .unwrap(),
        Some(1)
    );
    let addr = envoy.addr().unwrap();
    drop(envoy);
    assert!(std::net::TcpStream::connect(addr).is_err());
}
