//! Inside applications as they are written: gRPC by tonic, server and stub, and an `axum::serve` of one's own.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::{Buf, BufMut};
use inmesh_tests::kit::cluster::{PORT, spiffe};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{status, text};
use inmesh_tests::kit::{PodSpec, Shape, World};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Response, Status};

in_both_shapes!(
    a_tonic_service_and_a_tonic_stub_talk,
    an_axum_serve_of_ones_own_is_guarded,
);

/// Whoever asks for the Service `app` is denied.
const NOBODY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: default}
spec: {targetRefs: [{kind: Service, group: '', name: app}]}
";

/// Text as a message: what is tested is not Protocol Buffers.
#[derive(Clone, Copy, Debug, Default)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        String::from_utf8(bytes.to_vec())
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// A greeter as tonic's generated code would be.
#[derive(Clone, Copy)]
struct Greeter;

impl tonic::server::NamedService for Greeter {
    const NAME: &'static str = "test.Greeter";
}

struct Greet;

impl tonic::server::UnaryService<String> for Greet {
    type Response = String;
    type Future = std::future::Ready<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let peer = request.extensions().get::<inmesh::PeerIdentity>();
        let peer = peer
            .and_then(|peer| peer.spiffe_id())
            .map(ToString::to_string)
            .unwrap_or_default();
        std::future::ready(match request.get_ref().as_str() {
            "nobody" => Err(Status::not_found("nobody is not here")),
            name => Ok(Response::new(format!("hello {name} from {peer}"))),
        })
    }
}

impl tower_service::Service<http::Request<tonic::body::Body>> for Greeter {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move { Ok(tonic::server::Grpc::new(Text).unary(Greet, request).await) })
    }
}

/// A Service `app`, and a participant that is to be its only pod.
async fn plan(world: &World) -> Result<(PodSpec, inmesh::Mesh)> {
    world.cluster.service("app", "app", None)?;
    let spec = world.cluster.pod("app").label("app", "app");
    let builder = world.cluster.participant("default", "app")?;
    let mesh = builder.pod(&spec.name).address(spec.ip.into()).start().await?;
    Ok((spec, mesh))
}

/// Whom the application has to do with.
fn caller(shape: Shape) -> inmesh::SpiffeId {
    spiffe(
        "default",
        match shape {
            Shape::InProcess => "curl",
            Shape::Waypoint => "waypoint",
        },
    )
}

async fn a_tonic_service_and_a_tonic_stub_talk(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let (spec, mesh) = plan(&world).await?;
    mesh.attach(PORT, tonic::service::Routes::new(Greeter)).await?;
    world.cluster.declare(&spec)?;

    let ask = |name: &'static str| {
        let origin = http::Uri::from_static("http://app:9090");
        let mut stub = tonic::client::Grpc::with_origin(world.curl.clone(), origin);
        async move {
            let path = http::uri::PathAndQuery::from_static("/test.Greeter/Greet");
            stub.ready()
                .await
                .map_err(|error| Status::unknown(error.to_string()))?;
            stub.unary(Request::new(name.to_owned()), path, Text)
                .await
                .map(Response::into_inner)
        }
    };
    let expected = format!("hello you from {}", caller(shape));
    until("the greeter greets the right one", || async {
        ask("you").await.is_ok_and(|said| said == expected)
    })
    .await;
    let status = ask("nobody").await.expect_err("nobody is not found");
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "nobody is not here")
    );

    world.cluster.apply("nobody", NOBODY)?;
    until("nobody is greeted any more", || async {
        ask("you").await.is_err()
    })
    .await;
    let denied = ask("you").await.expect_err("it is denied");
    assert_eq!(
        (denied.code(), denied.message()),
        (Code::PermissionDenied, "RBAC: access denied")
    );
    Ok(())
}

async fn an_axum_serve_of_ones_own_is_guarded(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let (spec, mesh) = plan(&world).await?;
    let listener = mesh.listen(PORT).await?;
    let who =
        async |peer: inmesh::PeerIdentity| peer.spiffe_id().map(ToString::to_string).unwrap_or_default();
    let app = axum::Router::new()
        .route("/", axum::routing::get(who))
        .layer(mesh.inbound(PORT))
        .into_make_service_with_connect_info::<inmesh::PeerIdentity>();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    world.cluster.declare(&spec)?;
    until("it sees who calls", || async {
        match world.curl.get("http://app:9080/").await {
            Ok(answer) => text(answer)
                .await
                .is_ok_and(|said| said == caller(shape).as_str()),
            Err(_) => false,
        }
    })
    .await;
    world.cluster.apply("nobody", NOBODY)?;
    until("it serves nobody any more", || async {
        status(world.curl.get("http://app:9080/").await) == 403
    })
    .await;
    // Not by the pod's own address either.
    let direct = format!("http://{}:{PORT}/", spec.ip);
    until("the pod's own address is no way round", || async {
        status(world.curl.get(direct.as_str()).await) == 403
    })
    .await;
    serving.abort();
    Ok(())
}
