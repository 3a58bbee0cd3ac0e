//! A client in the mesh, in ten lines.
//!
//! ```text
//! INMESH_CONFIG=examples/mesh/hello.yaml INMESH_CREDENTIALS=./credentials/default/curl POD_NAME=curl-1 \
//!   POD_IP=127.0.0.3 cargo run -p examples --bin hello-client
//! ```

use http_body_util::BodyExt;
use inmesh::Mesh;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mesh = Mesh::from_env().await?;
    let response = mesh.client().get("http://hello:8080/").await?;
    println!("{}", response.status());
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(anyhow::Error::from_boxed)?
        .to_bytes();
    print!("{}", String::from_utf8_lossy(&body));
    Ok(())
}
