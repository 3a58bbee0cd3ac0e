//! `ListenerSet`: further listeners of a Gateway (GEP-1713).

use serde::Deserialize;

use super::Listener;
use crate::config::ObjectMeta;

/// `ListenerSet`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerSet {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: ListenerSetSpec,
}

/// `spec` of a ListenerSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerSetSpec {
    /// Whose listeners they are.
    pub parent_ref: ParentGatewayReference,
    /// Listeners; their names are told apart from those of the Gateway and of other sets.
    pub listeners: Vec<Listener>,
}

/// The Gateway that a ListenerSet belongs to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentGatewayReference {
    /// `gateway.networking.k8s.io` if absent.
    pub group: Option<String>,
    /// `Gateway` if absent.
    pub kind: Option<String>,
    /// The set's own if absent.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}
