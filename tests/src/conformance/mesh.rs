//! How everybody in a run takes part in the mesh: one authority, and a folder per test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use inmesh::identity::dev_ca::DevCa;
use inmesh::source::Source;
use inmesh::{Mesh, MeshBuilder, identity};
use tempfile::TempDir;

use super::manifest::Folder;
use crate::kit::cluster::spiffe;

/// How long certificates last.
const TTL: Duration = Duration::from_secs(3600);

/// The certificate authority of a run, and the place for its files.
#[derive(Debug)]
pub struct Authority {
    ca: DevCa,
    dir: TempDir,
    folders: AtomicUsize,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// If there is no place for temporary files.
    pub fn new() -> Result<Self> {
        Ok(Self {
            ca: DevCa::new_in_memory()?,
            dir: tempfile::Builder::new().prefix("inmesh-conformance-").tempdir()?,
            folders: AtomicUsize::new(0),
        })
    }

    /// A participant in this process that is not started.
    ///
    /// # Errors
    /// If no credential can be issued to it.
    pub fn participant(
        &self,
        namespace: &str,
        account: &str,
        source: impl Source + 'static,
    ) -> Result<MeshBuilder> {
        let credential = self.ca.issue(&spiffe(namespace, account), TTL)?.credential()?;
        Ok(Mesh::builder()
            .credentials(identity::fixed(credential))
            .source(source)
            .namespace(namespace))
    }

    /// A folder with a credential, for a participant that is a process.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn credentials(&self, folder: &Folder, namespace: &str, account: &str) -> Result<PathBuf> {
        let dir = folder.root().join("credentials").join(namespace).join(account);
        self.ca.write_workload(&dir, &spiffe(namespace, account), TTL)?;
        Ok(dir)
    }

    /// A new folder.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(&self) -> Result<Folder> {
        let number = self.folders.fetch_add(1, Ordering::Relaxed);
        Folder::create(self.dir.path().join(number.to_string()))
    }
}
