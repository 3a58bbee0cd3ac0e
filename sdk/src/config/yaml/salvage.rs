//! Documents that cannot be read: what they were meant to be is guessed, so that no policy vanishes with them.

use std::sync::Arc;

use super::{DEFAULT_NAMESPACE, Parsed, Reader, unnamed};
use crate::config::entry::{Document, Entry};
use crate::config::kinds::{self, Known};
use crate::config::node::Mark;
use crate::config::split::documents;
use crate::config::wreck::Wreck;
use crate::config::{ObjectMeta, Problem, Severity, broken};
use crate::name::ResourceRef;

/// What can be told of a text that must not be read (too large, not UTF-8): the policies it seems to hold, broken.
pub(crate) fn salvage(file: &str, text: &str, default_namespace: Option<&str>, reason: &str) -> Parsed {
    let mut reader = Reader::new(file, default_namespace);
    for chunk in documents(text) {
        let origin = Arc::new(Document::new(reader.file.clone(), chunk.offset, ""));
        reader.wreck(&origin, &chunk.text, first_line(&chunk.text), reason);
    }
    let mut parsed = reader.finish();
    // The reader of the file says once what these would say again and again.
    parsed.problems.clear();
    parsed.lost = true;
    parsed
}

impl Reader<'_> {
    /// A document that is not YAML.
    pub(super) fn wreck(&mut self, origin: &Arc<Document>, text: &str, at: Mark, why: &str) {
        let wreck = Wreck::of(text);
        // The words of the YAML library may quote what it stumbled over.
        let why = match wreck.may_be_secret(text) {
            true => "its YAML is malformed",
            false => why,
        };
        let place = origin.place(at);
        let mut problem = |resource: Option<ResourceRef>| {
            self.parsed.problems.push(Problem {
                severity: Severity::Error,
                place: place.clone(),
                resource,
                field: String::new(),
                text: format!("this document cannot be read: {why}"),
                remedy: "mend the YAML here; the other documents of the file are not affected".to_owned(),
            });
        };
        let known = match kinds::dispatch(
            wreck.api_version.as_deref().unwrap_or_default(),
            wreck.kind.as_deref().unwrap_or_default(),
        ) {
            Known::Yes(kind) | Known::Policy(kind) => wreck.name.as_deref().map(|name| (kind, name)),
            Known::No => None,
        };
        let given = wreck.namespace.as_deref().or(self.default_namespace);
        if let Some((kind, name)) = known
            && wreck.policies.len() <= 1
        {
            let namespace = match kind {
                kind if kind.is_cluster_scoped() => "",
                // Where it applies is not certain: everywhere.
                kind if kind.is_security() => given.unwrap_or_default(),
                _ => given.unwrap_or(DEFAULT_NAMESPACE),
            };
            let reference = ResourceRef::new(kind, namespace, name);
            problem(Some(reference.clone()));
            self.parsed.failed.push(reference.clone());
            if kind.is_security() {
                self.push_wreck(origin, at, reference, why);
            }
            return;
        }
        problem(None);
        if wreck.is_foreign() {
            return;
        }
        self.parsed.lost = true;
        // Of several policies none can be told apart from the others: their namespace is not certain either.
        let namespace = if wreck.policies.len() == 1 {
            given.unwrap_or_default()
        } else {
            ""
        };
        for (index, kind) in wreck.policies.into_iter().enumerate() {
            let name = unnamed(place.line, u32::try_from(index).unwrap_or(u32::MAX));
            self.push_wreck(origin, at, ResourceRef::new(kind, namespace, name), why);
        }
    }

    fn push_wreck(&mut self, origin: &Arc<Document>, at: Mark, reference: ResourceRef, why: &str) {
        let ResourceRef {
            kind,
            namespace,
            name,
        } = reference;
        let resource = broken::blank(
            kind,
            ObjectMeta {
                name,
                namespace,
                ..ObjectMeta::default()
            },
        );
        let reason = format!("it cannot be read: {why}");
        self.parsed.entries.push(Entry::new(
            resource,
            Some(reason),
            origin.clone(),
            String::new(),
            at,
        ));
    }
}

/// Where a document's first line that holds something is.
pub(super) fn first_line(text: &str) -> Mark {
    let holds = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let line = text.lines().position(holds).unwrap_or(0);
    Mark {
        line: u32::try_from(line + 1).unwrap_or(0),
        column: 1,
    }
}
