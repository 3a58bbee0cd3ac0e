//! The bookinfo service `reviews`, configured by its environment as a pod's would be. The demo starts all of them
//! (`cargo run --release -p sidecarless-demo`); by hand, with YAML in `./mesh`:
//!
//! ```text
//! cargo run -p examples --bin dev-ca -- ./credentials bookinfo/bookinfo-reviews
//! INMESH_CONFIG=bookinfo=./mesh INMESH_CREDENTIALS=./credentials/bookinfo/bookinfo-reviews POD_NAME=reviews-1 \
//!   POD_NAMESPACE=bookinfo POD_IP=127.0.0.2 SERVICE_VERSION=v2 cargo run -p examples --bin reviews
//! ```

use examples::bookinfo::reviews;
use inmesh::Mesh;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = examples::telemetry()?;
    reviews::run(Mesh::from_env().await?).await
}
