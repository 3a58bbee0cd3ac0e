//! The bookinfo service `details`, configured by its environment as a pod's would be. The demo starts all of them
//! (`cargo run --release -p sidecarless-demo`); by hand, with YAML in `./mesh`:
//!
//! ```text
//! cargo run -p examples --bin dev-ca -- ./credentials bookinfo/bookinfo-details
//! INMESH_CONFIG=bookinfo=./mesh INMESH_CREDENTIALS=./credentials/bookinfo/bookinfo-details POD_NAME=details-1 \
//!   POD_NAMESPACE=bookinfo POD_IP=127.0.0.2 cargo run -p examples --bin details
//! ```

use examples::bookinfo::details;
use inmesh::Mesh;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = examples::telemetry()?;
    details::run(Mesh::from_env().await?).await
}
