//! A server in the mesh, in ten lines.
//!
//! ```text
//! cargo run -p examples --bin dev-ca -- ./credentials default/hello default/curl
//! INMESH_CONFIG=examples/mesh/hello.yaml INMESH_CREDENTIALS=./credentials/default/hello POD_NAME=hello-1 \
//!   POD_IP=127.0.0.2 cargo run -p examples --bin hello-server
//! ```

use axum::{Extension, Router, routing::get};
use inmesh::{Mesh, PeerIdentity};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mesh = Mesh::from_env().await?; // identity, configuration, pools
    let app = Router::new().route("/", get(hello));
    Ok(mesh.serve(8080, app).await?) // HBONE on 15008, policy, then the app
}

async fn hello(Extension(caller): Extension<PeerIdentity>) -> String {
    match caller.spiffe_id() {
        Some(id) => format!("hello, {id}\n"),
        None => "hello, whoever you are\n".to_owned(),
    }
}
