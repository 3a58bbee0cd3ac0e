//! Where things stand in a YAML text of any shape.

use super::node::Node;

/// The lines of a text's fields.
#[derive(Debug)]
pub(crate) struct Lines(Option<Node>);

impl Lines {
    /// Of one document; a text that is none has no lines.
    pub(crate) fn of(text: &str) -> Self {
        Self(Node::parse(text).ok())
    }

    /// The line of a field, such as `requests[3]`, or of its nearest parent; `None` if the text is no document.
    pub(crate) fn line(&self, field: &str) -> Option<u32> {
        let at = self.0.as_ref()?.find(field);
        (at.line > 0).then_some(at.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_or_its_parent_has_a_line() {
        let lines = Lines::of("id: x\nrequests:\n- id: a\n- id: b\n  path: /\n");
        assert_eq!(lines.line("requests[1]"), Some(4));
        assert_eq!(lines.line("requests[1].path"), Some(5));
        assert_eq!(lines.line("requests[7]"), Some(2));
        assert_eq!(Lines::of(": [").line("id"), None);
    }
}
