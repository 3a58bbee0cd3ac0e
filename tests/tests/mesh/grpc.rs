//! gRPC by tonic, server and stub, over the mesh's own channel: the stub's service is the mesh's client.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::{Buf, BufMut};
use inmesh_tests::cluster::{Cluster, identity, until};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Response, Status};

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

#[tokio::test]
async fn a_tonic_service_and_a_tonic_stub_talk_through_both_shapes() -> Result<()> {
    for with_waypoint in [false, true] {
        let town = Cluster::new()?;
        let label = if with_waypoint {
            "istio.io/use-waypoint: waypoint"
        } else {
            ""
        };
        town.apply(
            "service-greeter",
            &format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: greeter, namespace: default, labels: {{{label}}}}}\nspec: {{selector: \
                 {{app: greeter}}, ports: [{{name: grpc, port: 80, targetPort: 8080}}]}}\n"
            ),
        )?;
        let ip = town.address();
        let mesh = town.builder("greeter-1", "greeter", ip)?.start().await?;
        mesh.attach(8080, tonic::service::Routes::new(Greeter)).await?;
        town.pod_object("greeter-1", "greeter", ip, "app: greeter")?;
        let _waypoint = if with_waypoint {
            Some(town.waypoint().await?)
        } else {
            None
        };
        let curl = town.caller("curl").await?;

        let ask = |name: &'static str| {
            let origin = http::Uri::from_static("http://greeter");
            let mut stub = tonic::client::Grpc::with_origin(curl.mesh.client(), origin);
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
        let expected = format!(
            "hello you from {}",
            identity(if with_waypoint { "waypoint" } else { "curl" })
        );
        until("the greeter greets the right one", || async {
            Ok(ask("you").await.ok().filter(|said| *said == expected))
        })
        .await?;
        let status = ask("nobody").await.expect_err("nobody is not found");
        assert_eq!(
            (status.code(), status.message()),
            (Code::NotFound, "nobody is not here")
        );

        town.apply(
            "policy",
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: none, namespace: default}\nspec:\n  targetRefs: \
             [{kind: Service, group: '', name: greeter}]\n",
        )?;
        let denied = until("allow-nothing is in force", || async {
            Ok(ask("you").await.err())
        })
        .await?;
        assert_eq!(
            (denied.code(), denied.message()),
            (Code::PermissionDenied, "RBAC: access denied")
        );
    }
    Ok(())
}
