//! From text to resources, and to what is wrong with the text.

mod salvage;

use std::sync::Arc;

use super::entry::Document;
pub use super::entry::Entry;
use super::idle;
use super::inert::{is_inert, may_be_empty, must_be_known};
use super::kinds::{self, Known};
use super::node::{Mark, Node, Value};
use super::split::documents;
use super::{ObjectMeta, Place, Problem, Severity, broken, check};
use crate::name::{Kind, ResourceRef};

use salvage::first_line;
pub(crate) use salvage::salvage;

/// The namespace of what names none, as for `kubectl apply` without `-n`.
const DEFAULT_NAMESPACE: &str = "default";
/// Problems kept of one file; one line says how many more there were.
const MAX_PROBLEMS: usize = 1_000;

/// What a text held.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The resources, in the order of the text.
    pub entries: Vec<Entry>,
    /// What is wrong, in the order of the text.
    pub problems: Vec<Problem>,
    /// Resources that are written in the text but cannot be used: an earlier version of theirs should stay.
    pub failed: Vec<ResourceRef>,
    /// Whether something could not be read of which not even kind and name are known: any resource that the
    /// text held earlier may still be meant by it.
    pub lost: bool,
}

/// Reads all documents of a YAML or JSON text. Whatever the text, the good documents in it are read.
///
/// `file` is the name to show. Resources that name no namespace get the given one, or else `default`.
pub fn read(file: &str, text: &str, default_namespace: Option<&str>) -> Parsed {
    let mut reader = Reader::new(file, default_namespace);
    for chunk in documents(text) {
        reader.document(chunk.offset, &chunk.text);
    }
    reader.finish()
}

struct Reader<'a> {
    file: Arc<str>,
    default_namespace: Option<&'a str>,
    parsed: Parsed,
}

/// An object in its document.
struct Object<'a> {
    origin: &'a Arc<Document>,
    within: String,
    node: &'a Node,
}

impl<'a> Reader<'a> {
    fn new(file: &str, default_namespace: Option<&'a str>) -> Self {
        Self {
            file: file.into(),
            default_namespace,
            parsed: Parsed::default(),
        }
    }

    fn finish(mut self) -> Parsed {
        let problems = &mut self.parsed.problems;
        if let Some(more) = problems.len().checked_sub(MAX_PROBLEMS).filter(|more| *more > 0) {
            // The worst stay, whatever their place.
            problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
            let severity = problems[MAX_PROBLEMS].severity;
            problems.truncate(MAX_PROBLEMS);
            problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
            problems.push(Problem {
                severity,
                place: Place {
                    file: self.file,
                    line: 0,
                    column: 0,
                },
                resource: None,
                field: String::new(),
                text: format!("{more} more problems"),
                remedy: "mend those above first".to_owned(),
            });
        }
        self.parsed
    }

    fn document(&mut self, offset: u32, text: &str) {
        let origin = Arc::new(Document::new(self.file.clone(), offset, text));
        match Node::parse(text) {
            // `---` and then only something like `~`.
            Ok(Node {
                value: Value::Null, ..
            }) => {}
            Ok(node) => self.object(
                &Object {
                    origin: &origin,
                    within: String::new(),
                    node: &node,
                },
                None,
            ),
            Err(unreadable) => {
                let at = if unreadable.at.line > 0 {
                    unreadable.at
                } else {
                    first_line(text)
                };
                self.wreck(&origin, text, at, &unreadable.text);
            }
        }
    }

    /// Reads an object; `listed` is the apiVersion and kind that a typed List lends its items.
    fn object(&mut self, object: &Object<'_>, listed: Option<(&str, &str)>) {
        let text = |key: &str| object.node.get(key).and_then(Node::as_str);
        let kind = text("kind").or_else(|| listed.map(|(_, kind)| kind));
        let api_version = text("apiVersion").or_else(|| listed.map(|(api_version, _)| api_version));
        let Some(kind) = kind else {
            let what = match &object.node.value {
                Value::Map(_) => "this object has no kind".to_owned(),
                other => format!("expected a resource, found {other}"),
            };
            self.refuse(
                object,
                "kind",
                None,
                what,
                "give it an apiVersion, a kind and metadata",
            );
            self.parsed.lost = true;
            return;
        };
        if let Some(of) = kind.strip_suffix("List")
            && let Some(Node {
                value: Value::List(items),
                ..
            }) = object.node.get("items")
        {
            let listed = api_version
                .filter(|_| !of.is_empty())
                .map(|api_version| (api_version, of));
            for (index, node) in items.iter().enumerate() {
                let step = format!("items[{index}]");
                let within = match &*object.within {
                    "" => step,
                    within => format!("{within}.{step}"),
                };
                self.object(
                    &Object {
                        origin: object.origin,
                        within,
                        node,
                    },
                    listed,
                );
            }
            return;
        }
        match kinds::dispatch(api_version.unwrap_or_default(), kind) {
            Known::Yes(kind) => self.known(object, kind),
            Known::Policy(kind) => {
                let what = format!(
                    "apiVersion `{}` is not known",
                    api_version.unwrap_or_default().escape_debug()
                );
                self.broken(
                    object,
                    kind,
                    "apiVersion",
                    object.node.find("apiVersion"),
                    what,
                    &format!("use {}", kind.api_version()),
                );
            }
            Known::No => {
                let field = if api_version.is_none() {
                    "apiVersion"
                } else {
                    "kind"
                };
                let what = format!(
                    "{} of {} is not supported and has no effect",
                    kind.escape_debug(),
                    api_version.unwrap_or("no apiVersion").escape_debug()
                );
                self.remark(
                    object,
                    Severity::Ignored,
                    None,
                    field,
                    object.node.find(field),
                    what,
                    "",
                );
            }
        }
    }

    fn known(&mut self, object: &Object<'_>, kind: Kind) {
        let (result, mut remarks) = kinds::read(kind, object.node);
        remarks
            .unknown
            .retain(|field| !is_inert(kind, &field.field, field.text.as_deref()));
        remarks.empty.retain(|field| !may_be_empty(&field.field));
        let mut resource = match result {
            Ok(resource) => resource,
            Err(misfit) => {
                let (field, at, remedy) = (misfit.field.clone(), misfit.at, misfit.remedy);
                let what = match kind {
                    Kind::Secret => misfit.discreet(),
                    _ => misfit.to_string(),
                };
                return self.unfit(object, kind, &field, at, what, remedy);
            }
        };
        self.settle(kind, resource.metadata_mut());
        let (errors, warnings): (Vec<_>, Vec<_>) = check::faults(&resource)
            .into_iter()
            .partition(|fault| fault.severity == Severity::Error);
        let reference = resource.reference();
        let mut told = warnings;
        let mut errors = errors.into_iter();
        let fatal = errors.next();
        told.extend(errors);
        for fault in told {
            let at = object.node.find(&fault.field);
            self.remark(
                object,
                fault.severity,
                Some(&reference),
                &fault.field,
                at,
                fault.text,
                fault.remedy,
            );
        }
        if let Some(fault) = fatal {
            let at = object.node.find(&fault.field);
            return self.unfit(object, kind, &fault.field, at, fault.text, fault.remedy);
        }
        if kind.is_security()
            && let Some(field) = remarks.unknown.first()
        {
            let what = "this field is not known, so the policy cannot be enforced as written".to_owned();
            return self.broken(
                object,
                kind,
                &field.field,
                field.at,
                what,
                "check its spelling, or remove it",
            );
        }
        if let Some(field) = remarks.unknown.iter().find(|it| must_be_known(kind, &it.field)) {
            let what =
                "this field is not known, and without it others could be let in than are meant".to_owned();
            return self.unfit(
                object,
                kind,
                &field.field,
                field.at,
                what,
                "check its spelling, or remove it",
            );
        }
        for (field, at) in idle::present(kind, object.node) {
            let what = "this field is not enforced and has no effect".to_owned();
            self.remark(
                object,
                Severity::Ignored,
                Some(&reference),
                &field,
                at,
                what,
                "remove it",
            );
        }
        for field in remarks.unknown {
            let what = "this field is not supported and has no effect".to_owned();
            let remedy = "check its spelling, or remove it";
            self.remark(
                object,
                Severity::Ignored,
                Some(&reference),
                &field.field,
                field.at,
                what,
                remedy,
            );
        }
        for field in remarks.empty {
            let what = "this field has no value and counts as absent".to_owned();
            let remedy = "give it a value, or remove it";
            self.remark(
                object,
                Severity::Warning,
                Some(&reference),
                &field.field,
                field.at,
                what,
                remedy,
            );
        }
        self.push(object, resource, None);
    }

    /// A resource of a known kind that cannot be used.
    fn unfit(&mut self, object: &Object<'_>, kind: Kind, field: &str, at: Mark, what: String, remedy: &str) {
        if broken::must_stay(kind, object.node) {
            return self.broken(object, kind, field, at, what, remedy);
        }
        let mut metadata = broken::metadata(object.node);
        self.settle(kind, &mut metadata);
        let known =
            (!metadata.name.is_empty()).then(|| ResourceRef::new(kind, metadata.namespace, metadata.name));
        self.remark(object, Severity::Error, known.as_ref(), field, at, what, remedy);
        match known {
            Some(reference) => self.parsed.failed.push(reference),
            None => self.parsed.lost = true,
        }
    }

    /// A policy that cannot be enforced as written.
    fn broken(&mut self, object: &Object<'_>, kind: Kind, field: &str, at: Mark, what: String, remedy: &str) {
        let mut resource = broken::remains(kind, object.node);
        let metadata = resource.metadata_mut();
        self.settle(kind, metadata);
        if metadata.name.is_empty() {
            let place = object.origin.place(object.node.at);
            metadata.name = unnamed(place.line, place.column);
            self.parsed.lost = true;
        }
        let reference = resource.reference();
        let reason = match field {
            "" => what.clone(),
            field => format!("{field}: {what}"),
        };
        self.remark(object, Severity::Error, Some(&reference), field, at, what, remedy);
        self.parsed.failed.push(reference);
        self.push(object, resource, Some(reason));
    }

    fn push(&mut self, object: &Object<'_>, resource: super::Resource, broken: Option<String>) {
        let at = object.node.at;
        self.parsed.entries.push(Entry::new(
            resource,
            broken,
            object.origin.clone(),
            object.within.clone(),
            at,
        ));
    }

    /// Puts the object where it belongs if it does not say so itself.
    fn settle(&self, kind: Kind, metadata: &mut ObjectMeta) {
        if kind.is_cluster_scoped() {
            metadata.namespace = Arc::default();
        } else if metadata.namespace.is_empty() {
            metadata.namespace = self.default_namespace.unwrap_or(DEFAULT_NAMESPACE).into();
        }
    }

    fn refuse(
        &mut self,
        object: &Object<'_>,
        field: &str,
        resource: Option<&ResourceRef>,
        what: String,
        remedy: &str,
    ) {
        self.remark(
            object,
            Severity::Error,
            resource,
            field,
            object.node.at,
            what,
            remedy,
        );
    }

    #[allow(clippy::too_many_arguments)] // the parts of a problem
    fn remark(
        &mut self,
        object: &Object<'_>,
        severity: Severity,
        resource: Option<&ResourceRef>,
        field: &str,
        at: Mark,
        text: String,
        remedy: &str,
    ) {
        self.parsed.problems.push(Problem {
            severity,
            place: object.origin.place(at),
            resource: resource.cloned(),
            field: field.to_owned(),
            text,
            remedy: remedy.to_owned(),
        });
    }
}

/// A name for a policy whose own is not known, unlike every real one and unlike that of another such policy.
fn unnamed(line: u32, column: u32) -> Arc<str> {
    format!("(unnamed, {line}:{column})").into()
}

#[cfg(test)]
mod tests;
