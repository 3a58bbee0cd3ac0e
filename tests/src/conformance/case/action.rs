//! Changes of the configuration between cases.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{Id, Object};

/// A change of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionCase {
    /// `Test/NN`.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What is done.
    #[serde(rename = "do")]
    pub act: Act,
}

/// What is done.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// An object goes.
    Delete(Object),
    /// Fields of an object change.
    Patch(Patch),
    /// An object comes.
    Create(Create),
}

/// Fields that change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The object's kind.
    pub kind: String,
    /// Its name.
    pub id: Id,
    /// New values by dotted path.
    pub set: BTreeMap<String, Value>,
}

/// An object that comes.
#[derive(Clone, Debug, Deserialize)]
pub struct Create {
    /// Its kind.
    pub kind: String,
    id: Option<Id>,
    /// The rest of it: `spec`, `data`, …
    #[serde(flatten)]
    pub fields: BTreeMap<String, Value>,
}

impl Create {
    /// Its name: as an id, or in `metadata`, where manifests have it.
    ///
    /// # Errors
    /// If it is in neither.
    pub fn id(&self) -> Result<Id> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let metadata = self.fields.get("metadata");
        let field = |name| metadata.and_then(|it| it.get(name)?.as_str()).map(str::to_owned);
        Ok(Id {
            namespace: field("namespace").context("a case creates an object without a namespace")?,
            name: field("name").context("a case creates an object without a name")?,
        })
    }
}
