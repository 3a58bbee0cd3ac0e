//! What is written otherwise than before, field by field.

use super::Entry;
use super::node::{Node, Value};
use crate::name::Kind;

/// A field that is written otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The field, as a dotted path such as `spec.rules[0].backendRefs[1].weight`.
    pub field: String,
    /// What was written; `None` if nothing was. What may be a secret is not told.
    pub before: Option<String>,
    /// What is written; `None` if nothing is.
    pub after: Option<String>,
}

/// How many fields of one resource are told of.
const MOST: usize = 50;
/// How much of a value is told.
const LONGEST: usize = 120;
/// Documents that are longer than this are not compared field by field.
const LONGEST_DOCUMENT: usize = 256 * 1024;
/// Parts of fields whose values are nobody's business, or may not be.
const SECRETS: [&str; 8] = [
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "apikey",
    "privatekey",
    "env",
];

impl Entry {
    /// How this version of a resource differs from another; at most fifty fields. Nothing if either was not read from a text.
    pub fn differences(&self, older: &Self) -> Vec<Difference> {
        let mut differ = Differ {
            hidden: self.resource.kind() == Kind::Secret,
            found: Vec::new(),
        };
        if let (Some(before), Some(after)) = (older.root(), self.root()) {
            differ.compare(&mut String::new(), Some(before), Some(after));
        }
        differ.found
    }

    fn root(&self) -> Option<&Node> {
        // A list of thousands would be read anew for each that changes in it.
        if self.document_length() > LONGEST_DOCUMENT {
            return None;
        }
        let tree = self.tree()?;
        let Some(index) = self.within().strip_prefix("items[") else {
            return Some(tree);
        };
        let index: usize = index.strip_suffix(']')?.parse().ok()?;
        match &tree.get("items")?.value {
            Value::List(items) => items.get(index),
            _ => None,
        }
    }
}

struct Differ {
    /// Whether no value is told at all.
    hidden: bool,
    found: Vec<Difference>,
}

impl Differ {
    fn compare(&mut self, path: &mut String, before: Option<&Node>, after: Option<&Node>) {
        if self.found.len() >= MOST {
            return;
        }
        let (old, new) = (before.map(|node| &node.value), after.map(|node| &node.value));
        match (old, new) {
            (Some(Value::Map(old)), Some(Value::Map(new))) => {
                let gone = old
                    .iter()
                    .filter(|field| !new.iter().any(|it| it.key == field.key));
                for field in new.iter().chain(gone) {
                    let node =
                        |fields: &[super::node::Field]| fields.iter().position(|it| it.key == field.key);
                    let (was, is) = (
                        node(old).map(|at| &old[at].node),
                        node(new).map(|at| &new[at].node),
                    );
                    let length = path.len();
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(&field.key);
                    self.compare(path, was, is);
                    path.truncate(length);
                }
            }
            (Some(Value::List(old)), Some(Value::List(new))) => {
                for index in 0..old.len().max(new.len()) {
                    let length = path.len();
                    path.push_str(&format!("[{index}]"));
                    self.compare(path, old.get(index), new.get(index));
                    path.truncate(length);
                }
            }
            (old, new) if same(old, new) => {}
            (old, new) => {
                let told = |value: Option<&Value>| value.map(|value| self.told(path, value));
                let (before, after) = (told(old), told(new));
                self.found.push(Difference {
                    field: path.clone(),
                    before,
                    after,
                });
            }
        }
    }

    fn told(&self, path: &str, value: &Value) -> String {
        let path = path.to_ascii_lowercase().replace(['-', '_'], "");
        if self.hidden || SECRETS.iter().any(|secret| path.contains(secret)) {
            return "(hidden)".to_owned();
        }
        let mut text = String::new();
        write(value, &mut text);
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

/// Whether two scalars say the same.
fn same(old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old, new) {
        (Some(Value::Null), Some(Value::Null)) | (None, None) => true,
        (Some(Value::Bool(old)), Some(Value::Bool(new))) => old == new,
        (Some(Value::Int(old)), Some(Value::Int(new))) => old == new,
        (Some(Value::Uint(old)), Some(Value::Uint(new))) => old == new,
        (Some(Value::Float(old)), Some(Value::Float(new))) => old == new,
        (Some(Value::Text(old)), Some(Value::Text(new))) => old == new,
        _ => false,
    }
}

/// As flow style has it, no longer than anybody reads.
fn write(value: &Value, text: &mut String) {
    if text.len() > 4 * LONGEST {
        return;
    }
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(&value.to_string()),
        Value::Int(value) => text.push_str(&value.to_string()),
        Value::Uint(value) => text.push_str(&value.to_string()),
        Value::Float(value) => text.push_str(&value.to_string()),
        Value::Text(value) => text.push_str(value),
        Value::List(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write(&item.value, text);
            }
            text.push(']');
        }
        Value::Map(fields) => {
            text.push('{');
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                text.push_str(&field.key);
                text.push_str(": ");
                let hidden = SECRETS
                    .iter()
                    .any(|it| field.key.to_ascii_lowercase().contains(it));
                match hidden {
                    true => text.push_str("(hidden)"),
                    false => write(&field.node.value, text),
                }
            }
            text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::yaml;

    fn differences(before: &str, after: &str) -> Vec<(String, Option<String>, Option<String>)> {
        let entry = |text: &str| yaml::read("a.yaml", text, Some("default")).entries.remove(0);
        let found = entry(after).differences(&entry(before));
        found
            .into_iter()
            .map(|it| (it.field, it.before, it.after))
            .collect()
    }

    #[test]
    fn fields_are_told_by_their_paths() {
        let route = |weight: u32, more: &str| {
            format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: a}}\nspec:\n  rules:\n  - backendRefs:\n    \
                 - {{name: v1, port: 80, weight: {weight}}}\n{more}"
            )
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(differences(&route(90, ""), &route(90, "")), []);
        assert_eq!(
            differences(&route(90, ""), &route(50, "    - {name: v2, port: 80}\n")),
            [
                (
                    "spec.rules[0].backendRefs[0].weight".to_owned(),
                    some("90"),
                    some("50")
                ),
                (
                    "spec.rules[0].backendRefs[1]".to_owned(),
                    None,
                    some("{name: v2, port: 80}")
                ),
            ]
        );
    }

    #[test]
    fn no_secret_is_told() {
        let secret = |value: &str| {
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData: {{tls.key: {value}}}\n")
        };
        let found = differences(&secret("one"), &secret("other"));
        assert_eq!(found[0].0, "stringData.tls.key");
        assert_eq!(found[0].2.as_deref(), Some("(hidden)"));
    }
}
