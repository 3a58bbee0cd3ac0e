//! The bookinfo service `productpage`, configured by its environment as a pod's would be. The demo starts all of them
//! (`cargo run --release -p sidecarless-demo`); by hand, with YAML in `./mesh`:
//!
//! ```text
//! cargo run -p examples --bin dev-ca -- ./credentials bookinfo/bookinfo-productpage
//! INMESH_CONFIG=bookinfo=./mesh INMESH_CREDENTIALS=./credentials/bookinfo/bookinfo-productpage POD_NAME=productpage-1 \
//!   POD_NAMESPACE=bookinfo POD_IP=127.0.0.2 cargo run -p examples --bin productpage
//! ```

use examples::bookinfo::productpage;
use inmesh::Mesh;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = examples::telemetry()?;
    productpage::run(Mesh::from_env().await?).await
}
