//! `v1 Secret` and `v1 ConfigMap`: bytes under names, which other resources refer to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::config::ObjectMeta;

/// `v1 Secret`. Whatever shows a Secret (`Debug`, problems, dumps) shows the names of its entries and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// `Opaque` if absent; `kubernetes.io/tls` for a certificate and its key.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Entries in base64.
    pub data: BTreeMap<String, Blob>,
    /// Entries in plain text; they count before `data`.
    pub string_data: BTreeMap<String, Hidden>,
}

impl Secret {
    /// What is kept under a name.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let text = self.string_data.get(key).map(|text| text.0.as_bytes());
        text.or_else(|| self.data.get(key).map(Blob::as_bytes))
    }

    /// The secret bytes with their names: for digests, in which a change of them must show.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let texts = self
            .string_data
            .iter()
            .map(|(key, text)| (key.as_str(), text.0.as_bytes()));
        texts.chain(
            self.data
                .iter()
                .map(|(key, blob)| (key.as_str(), blob.as_bytes())),
        )
    }
}

/// `v1 ConfigMap`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMap {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Entries that are text.
    pub data: BTreeMap<String, String>,
    /// Entries in base64.
    pub binary_data: BTreeMap<String, Blob>,
}

impl ConfigMap {
    /// What is kept under a name.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let text = self.data.get(key).map(String::as_bytes);
        text.or_else(|| self.binary_data.get(key).map(Blob::as_bytes))
    }
}

/// Bytes that are written in base64. `Debug` does not show them: they may be a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(Arc<[u8]>);

impl Blob {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

// By hand, so that the error does not quote the value.
impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        // `kubectl create` folds long values; the API server's decoder skips line breaks, and so does this.
        text.retain(|c| !matches!(c, '\n' | '\r'));
        match STANDARD.decode(text) {
            Ok(bytes) => Ok(Self(bytes.into())),
            Err(_) => Err(D::Error::custom("expected base64 with padding")),
        }
    }
}

/// Text that `Debug` does not show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
