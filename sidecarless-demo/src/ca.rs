//! Certificates for pods, from the library's development CA.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use inmesh::identity::dev_ca::DevCa;
use inmesh::name::SpiffeId;

/// The trust domain of the town.
pub(crate) const TRUST_DOMAIN: &str = "cluster.local";

/// How long a certificate lasts: longer than anybody looks at a demo.
const TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The town's CA and the folders it fills.
#[derive(Debug)]
pub(crate) struct Ca {
    root: PathBuf,
    authority: DevCa,
}

impl Ca {
    /// A CA that keeps everything under `root`.
    pub(crate) fn create(root: PathBuf) -> anyhow::Result<Self> {
        let authority = DevCa::open_or_create(root.join("ca")).context("making a certificate authority")?;
        Ok(Self { root, authority })
    }

    /// Writes a certificate for a service account into a folder of the pod's own, and says where.
    pub(crate) fn issue(&self, namespace: &str, account: &str, pod: &str) -> anyhow::Result<PathBuf> {
        let dir = self.root.join(namespace).join(pod);
        let id = SpiffeId::parse(&identity(namespace, account))?;
        self.authority
            .write_workload(&dir, &id, TTL)
            .with_context(|| format!("issuing a certificate for {id}"))?;
        Ok(dir)
    }
}

/// The identity of a service account.
pub(crate) fn identity(namespace: &str, account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}")
}
