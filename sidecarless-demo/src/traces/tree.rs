//! Spans, and the tree they form.

use std::collections::{BTreeMap, HashMap, HashSet};

/// One span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    /// Its id.
    pub(crate) id: String,
    /// Its parent's; empty for a root.
    pub(crate) parent: String,
    /// The process that made it.
    pub(crate) service: String,
    /// Its name.
    pub(crate) name: String,
    /// `client`, `server` or `internal`.
    pub(crate) kind: &'static str,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    /// Nanoseconds since 1970.
    pub(crate) end: u64,
    /// Attributes, as text.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// The spans of one trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    spans: Vec<Span>,
}

impl Trace {
    /// A trace of these spans.
    pub(super) fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_by_key(|span| span.start);
        Self { spans }
    }

    /// The spans, in the order they began.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The spans without a parent.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(|span| span.parent.is_empty())
    }

    /// Spans whose parent has not been seen.
    pub(crate) fn orphans(&self) -> Vec<&Span> {
        let ids: HashSet<&str> = self.spans.iter().map(|span| span.id.as_str()).collect();
        let lost = |span: &&Span| !span.parent.is_empty() && !ids.contains(span.parent.as_str());
        self.spans.iter().filter(lost).collect()
    }

    /// The spans directly below one.
    pub(crate) fn children<'a>(&'a self, parent: &'a Span) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |span| span.parent == parent.id)
    }

    /// The span above one, if it has been seen.
    pub(crate) fn parent(&self, child: &Span) -> Option<&Span> {
        self.spans.iter().find(|span| span.id == child.parent)
    }

    /// The processes that a request passed before it came to `service`, nearest first, each named once in a row.
    pub(crate) fn path_to(&self, service: &str) -> Option<Vec<&str>> {
        let by_id: HashMap<&str, &Span> = self.spans.iter().map(|span| (span.id.as_str(), span)).collect();
        let mut at = self
            .spans
            .iter()
            .find(|span| span.service == service && span.kind == "server")?;
        let mut path: Vec<&str> = Vec::new();
        for _ in 0..self.spans.len() {
            if path.last() != Some(&at.service.as_str()) {
                path.push(&at.service);
            }
            match by_id.get(at.parent.as_str()) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        path.remove(0);
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: &str, service: &str, kind: &'static str) -> Span {
        Span {
            id: id.into(),
            parent: parent.into(),
            service: service.into(),
            kind,
            ..Span::default()
        }
    }

    #[test]
    fn the_path_names_each_process_once() {
        let trace = Trace::new(vec![
            span("1", "", "curl", "client"),
            span("2", "1", "waypoint", "server"),
            span("3", "2", "waypoint", "client"),
            span("4", "3", "reviews-v1", "server"),
        ]);
        assert_eq!(trace.path_to("reviews-v1"), Some(vec!["waypoint", "curl"]));
        assert_eq!(trace.path_to("ratings-v1"), None);
        assert!(trace.orphans().is_empty());
        assert_eq!(trace.roots().count(), 1);
    }

    #[test]
    fn a_span_whose_parent_never_came_is_an_orphan() {
        let trace = Trace::new(vec![span("2", "1", "waypoint", "server")]);
        assert_eq!(trace.orphans().len(), 1);
    }
}
