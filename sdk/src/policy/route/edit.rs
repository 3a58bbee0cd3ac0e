//! Edits of headers.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Edits of a message's headers: `set`, then `add`, then `remove`.
///
/// Gateway API leaves the order among the three open; it only shows if one header is in several lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Replace all values.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Append a value.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Delete all values.
    pub remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Edits the headers. What would exceed the most headers a map can hold (32,768) is left out.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            // An error means that the map is full, which is the message's doing and no reason to fail.
            let _ = headers.try_insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            let _ = headers.try_append(name.clone(), value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_set_then_added_then_removed() {
        let name = |text: &'static str| HeaderName::from_static(text);
        let value = |text: &'static str| HeaderValue::from_static(text);
        let edits = HeaderEdits {
            set: vec![(name("a"), value("1"))],
            add: vec![(name("a"), value("2")), (name("b"), value("3"))],
            remove: vec![name("c")],
        };
        let mut headers = HeaderMap::new();
        headers.append("A", value("x"));
        headers.append("a", value("y"));
        headers.append("b", value("z"));
        headers.append("c", value("gone"));
        edits.apply(&mut headers);
        let all = |name: &str| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(all("a"), ["1", "2"]);
        assert_eq!(all("b"), ["z", "3"]);
        assert!(all("c").is_empty());
        assert!(HeaderEdits::default().is_empty());
    }
}
