//! The bookinfo service `ratings`, configured by its environment as a pod's would be. The demo starts all of them
//! (`cargo run --release -p sidecarless-demo`); by hand, with YAML in `./mesh`:
//!
//! ```text
//! cargo run -p examples --bin dev-ca -- ./credentials bookinfo/bookinfo-ratings
//! INMESH_CONFIG=bookinfo=./mesh INMESH_CREDENTIALS=./credentials/bookinfo/bookinfo-ratings POD_NAME=ratings-1 \
//!   POD_NAMESPACE=bookinfo POD_IP=127.0.0.2 cargo run -p examples --bin ratings
//! ```

use examples::bookinfo::ratings;
use inmesh::Mesh;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = examples::telemetry()?;
    ratings::run(Mesh::from_env().await?).await
}
