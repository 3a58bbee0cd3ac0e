//! Certificates for trying things out, from a development CA kept in a folder.
//!
//! ```text
//! cargo run -p examples --bin dev-ca -- ./credentials default/hello default/curl
//! ```
//!
//! writes `./credentials/default/hello/{cert-chain,key,root-cert}.pem` and the same for `curl`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use inmesh::identity::dev_ca::DevCa;
use inmesh::name::SpiffeId;

/// A day is long enough to try things out.
const TTL: Duration = Duration::from_secs(24 * 3600);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(
        arguments
            .next()
            .context("usage: dev-ca FOLDER NAMESPACE/ACCOUNT …")?,
    );
    let ca = DevCa::open_or_create(root.join("ca"))?;
    for account in arguments {
        let (namespace, name) = account.split_once('/').context("an account is NAMESPACE/NAME")?;
        let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/{namespace}/sa/{name}"))?;
        let dir = root.join(namespace).join(name);
        ca.write_workload(&dir, &id, TTL)?;
        println!("{id}  {}", dir.display());
    }
    Ok(())
}
