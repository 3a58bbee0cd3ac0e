//! What every Kubernetes object carries.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// `metadata` of any object: the parts that matter here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// The name.
    pub name: Arc<str>,
    /// The namespace; filled in with the source's default where the object names none.
    pub namespace: Arc<str>,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// RFC 3339 time at which the object was made; decides ties between routes and policies.
    pub creation_timestamp: Option<String>,
    /// Counts the versions of the specification; the API server's to write.
    pub generation: Option<i64>,
    /// Set while the object is being deleted.
    pub deletion_timestamp: Option<String>,
}

/// A label selector: all of `match_labels` and all of `match_expressions` must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must be present with these values.
    pub match_labels: Labels,
    /// Further requirements.
    pub match_expressions: Vec<LabelRequirement>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: LabelOperator,
    /// The values for `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

/// The operators of Kubernetes' set-based selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)] // named as upstream
pub enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// Whether the labels satisfy the selector. An empty selector selects everything.
    pub fn matches(&self, labels: &Labels) -> bool {
        contains(labels, &self.match_labels)
            && self.match_expressions.iter().all(|requirement| {
                let value = labels.get(&requirement.key);
                let listed = || value.is_some_and(|value| requirement.values.contains(value));
                match requirement.operator {
                    LabelOperator::In => listed(),
                    LabelOperator::NotIn => !listed(),
                    LabelOperator::Exists => value.is_some(),
                    LabelOperator::DoesNotExist => value.is_none(),
                }
            })
    }
}

/// Whether `labels` holds every pair of `wanted`.
pub(crate) fn contains(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
