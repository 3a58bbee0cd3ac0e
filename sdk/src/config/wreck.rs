//! What can still be told of text that is not YAML: which resource it was meant to be.
//!
//! A policy that cannot be read must not vanish, so its target has to be guessed, and guessed wide.

use super::kinds::{self, Known};
use crate::name::Kind;

/// What a document seems to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wreck {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    /// How many policies of either kind the text seems to hold.
    pub(super) policies: Vec<Kind>,
}

impl Wreck {
    /// Looks over a document.
    pub(super) fn of(text: &str) -> Self {
        let mut wreck = Self {
            policies: policies(text),
            ..Self::default()
        };
        let mut metadata = None;
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            let Some((key, value)) = pair(line) else { continue };
            match (indent, key) {
                (0, "metadata") => metadata = Some(None),
                (0, _) => {
                    metadata = None;
                    match key {
                        "kind" => wreck.kind = wreck.kind.or(value),
                        "apiVersion" => wreck.api_version = wreck.api_version.or(value),
                        _ => {}
                    }
                }
                _ => {
                    let Some(level) = &mut metadata else { continue };
                    if *level.get_or_insert(indent) != indent {
                        continue;
                    }
                    match key {
                        "name" => wreck.name = wreck.name.or(value),
                        "namespace" => wreck.namespace = wreck.namespace.or(value),
                        _ => {}
                    }
                }
            }
        }
        wreck
    }
}

impl Wreck {
    /// Whether the text may be a Secret, alone or in a List.
    pub(super) fn may_be_secret(&self, text: &str) -> bool {
        match self.kind.as_deref() {
            Some(kind) if !kind.ends_with("List") => kind == "Secret",
            _ => text.contains("Secret"),
        }
    }

    /// Whether this is, for all that can be seen, something that we would not have read anyway.
    pub(super) fn is_foreign(&self) -> bool {
        match (&self.api_version, &self.kind) {
            (Some(api_version), Some(kind)) => {
                self.policies.is_empty()
                    && !kind.ends_with("List")
                    && matches!(kinds::dispatch(api_version, kind), Known::No)
            }
            _ => false,
        }
    }
}

/// A line's key and value, without quotes and comments.
fn pair(line: &str) -> Option<(&str, Option<String>)> {
    let (key, value) = line.trim().split_once(':')?;
    let value = value.split(" #").next().unwrap_or_default().trim();
    let value = value.trim_matches(['"', '\'']);
    Some((
        key.trim_matches(['"', '\'']),
        (!value.is_empty()).then(|| value.to_owned()),
    ))
}

/// The policies that are spelled out anywhere in the text: in block style, flow style, JSON or within a List.
fn policies(text: &str) -> Vec<Kind> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let bare: String = lines
        .flat_map(|line| line.chars().chain(['\n']))
        .filter(|c| !matches!(c, ' ' | '\t' | '\r' | '"' | '\''))
        .collect();
    [
        Kind::AuthorizationPolicy,
        Kind::PeerAuthentication,
        Kind::RequestAuthentication,
        Kind::BackendTLSPolicy,
    ]
    .into_iter()
    // Other projects have an AuthorizationPolicy too.
    .filter(|kind| !bare.contains("apiVersion:") || bare.contains(kind.group()))
    .flat_map(|kind| {
        let wanted = format!("kind:{kind}");
        let found = bare.match_indices(&wanted).filter(|(start, _)| {
            let rest = &bare[start + wanted.len()..];
            !rest.starts_with(|c: char| c.is_ascii_alphanumeric())
        });
        vec![kind; found.count()]
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_not_yaml_still_tells_its_name() {
        let wreck = Wreck::of(
            "apiVersion: security.istio.io/v1\nkind: \"AuthorizationPolicy\" # c\nmetadata:\n  labels:\n    \
             name: wrong\n  name: deny-all\n  namespace: shop\nspec:\n  rules: [\n  name: other\n",
        );
        assert_eq!(wreck.kind.as_deref(), Some("AuthorizationPolicy"));
        assert_eq!(wreck.name.as_deref(), Some("deny-all"));
        assert_eq!(wreck.namespace.as_deref(), Some("shop"));
        assert_eq!(wreck.policies, [Kind::AuthorizationPolicy]);
    }

    #[test]
    fn policies_are_found_in_any_style_and_only_ours() {
        for (text, found) in [
            (
                "{\"kind\": \"AuthorizationPolicy\", \"apiVersion\":\"security.istio.io/v1\", ",
                1,
            ),
            (
                "kind: List\nitems:\n- kind: PeerAuthentication\n- kind: AuthorizationPolicy\n[",
                2,
            ),
            ("# kind: AuthorizationPolicy\nkind: Service\n[", 0),
            ("kind: AuthorizationPolicyList\n[", 0),
            (
                "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\n[",
                0,
            ),
            ("kind: AuthorizationPolicy", 1),
        ] {
            assert_eq!(policies(text).len(), found, "{text}");
        }
    }
}
