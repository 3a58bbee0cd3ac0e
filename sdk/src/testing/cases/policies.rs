//! Policies out of a case, read as those of a file are.

use std::sync::Arc;

use serde_json::Value;

use super::CaseError;
use crate::config::{Entry, Problem, yaml};

/// Reads one policy; what is wrong with it comes with it, as for a file.
pub(super) fn read(policy: &Value) -> Result<(Arc<Entry>, Vec<Problem>), CaseError> {
    let parsed = yaml::read("case.yaml", &policy.to_string(), None);
    let said = || {
        parsed
            .problems
            .iter()
            .map(|one| one.text.as_str())
            .collect::<Vec<_>>()
            .join("; ")
    };
    match parsed.entries.as_slice() {
        [one] if one.resource.kind().is_security() => Ok((Arc::new(one.clone()), parsed.problems.clone())),
        _ => Err(CaseError(format!(
            "{} is no policy that is read: {}",
            policy["kind"],
            said()
        ))),
    }
}

/// Puts a key set where the policy wants one.
pub(super) fn with_keys(value: &Value, keys: &str) -> Value {
    match value {
        Value::String(text) if text == "{TEST_JWKS}" => keys.into(),
        Value::Array(items) => items.iter().map(|item| with_keys(item, keys)).collect(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), with_keys(value, keys)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}
