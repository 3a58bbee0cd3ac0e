//! What all tests of a run share: the authority, the backends of each base, and the ledger they write.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use super::fixture::Fixtures;
use super::gateway::Program;
use super::ledger::Ledger;
use super::manifest::Objects;
use super::mesh::Authority;
use super::pods::{Ground, Pods};
use crate::kit::block::Block;

/// What all tests of a run share.
#[derive(Debug)]
pub struct Town {
    manifests: Vec<PathBuf>,
    /// The waypoint as a program.
    pub waypoint: Program,
    /// Who issues credentials.
    pub authority: Authority,
    /// What is not in YAML.
    pub fixtures: Fixtures,
    /// What backends have seen.
    pub ledger: Ledger,
    bases: Mutex<HashMap<String, Arc<OnceCell<Base>>>>,
}

/// The pods of one file of base manifests.
///
/// They are shared because nothing that a test adds concerns them: routes act on callers and waypoints.
#[derive(Debug)]
pub struct Base {
    /// The pods.
    pub pods: Pods,
    _block: Block,
}

impl Town {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// If certificates cannot be made, or there is no place for files.
    pub fn new(manifests: Vec<PathBuf>, waypoint: Program) -> Result<Self> {
        Ok(Self {
            manifests,
            waypoint,
            authority: Authority::new()?,
            fixtures: Fixtures::new()?,
            ledger: Ledger::default(),
            bases: Mutex::default(),
        })
    }

    /// Where a manifest is.
    ///
    /// # Errors
    /// If it is in none of the folders.
    pub fn manifest(&self, file: &str) -> Result<PathBuf> {
        let mut paths = self.manifests.iter().map(|folder| folder.join(file));
        paths.find(|path| path.is_file()).with_context(|| {
            let folders: Vec<_> = self.manifests.iter().map(|it| it.display().to_string()).collect();
            format!("there is no {file} in {}", folders.join(" or "))
        })
    }

    /// The cell of a base's pods; whoever comes first starts them.
    pub fn base(&self, file: &str) -> Arc<OnceCell<Base>> {
        let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(bases.entry(file.to_owned()).or_default())
    }

    /// Starts the pods of a base.
    ///
    /// # Errors
    /// If the file cannot be read, or a pod does not start.
    pub async fn start_base(&self, file: &str) -> Result<Base> {
        let mut objects = Objects::read(&[self.manifest(file)?])?;
        objects.retain(|it| it["kind"] != "Gateway");
        let block = Block::take()?;
        let pods = Pods::start(&objects, self.ground(&block)).await?;
        Ok(Base { pods, _block: block })
    }

    /// What pods at addresses of a block are started with.
    pub fn ground<'g>(&'g self, block: &'g Block) -> Ground<'g> {
        Ground {
            authority: &self.authority,
            ledger: &self.ledger,
            fixtures: &self.fixtures,
            block,
        }
    }
}
