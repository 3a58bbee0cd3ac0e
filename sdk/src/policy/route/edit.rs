//! Edits of headers.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Edits of a message's headers: `remove`, then `set`, then `add`, as Envoy does.
///
/// Gateway API and Istio leave the order among the three open; it only shows if one header is in several lists.
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
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            // An error means that the map is full, which is the message's doing and no reason to fail.
            let _ = headers.try_insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            let _ = headers.try_append(name.clone(), value.clone());
        }
    }

    /// These edits and then those, as one.
    #[must_use]
    pub fn then(&self, after: &Self) -> Self {
        let undone =
            |name: &HeaderName| after.remove.contains(name) || after.set.iter().any(|(set, _)| set == name);
        let kept = |list: &[(HeaderName, HeaderValue)], more: &[(HeaderName, HeaderValue)]| {
            let before = list.iter().filter(|(name, _)| !undone(name));
            before.chain(more).cloned().collect()
        };
        Self {
            set: kept(&self.set, &after.set),
            add: kept(&self.add, &after.add),
            remove: self.remove.iter().chain(&after.remove).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_removed_then_set_then_added() {
        let name = |text: &'static str| HeaderName::from_static(text);
        let value = |text: &'static str| HeaderValue::from_static(text);
        let edits = HeaderEdits {
            set: vec![(name("a"), value("1"))],
            add: vec![(name("a"), value("2")), (name("b"), value("3"))],
            remove: vec![name("c"), name("b")],
        };
        let mut headers = HeaderMap::new();
        headers.append("A", value("x"));
        headers.append("a", value("y"));
        headers.append("b", value("z"));
        headers.append("c", value("gone"));
        edits.apply(&mut headers);
        let all = |name: &str| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(all("a"), ["1", "2"]);
        assert_eq!(all("b"), ["3"]);
        assert!(all("c").is_empty());
        assert!(HeaderEdits::default().is_empty());
    }

    proptest::proptest! {
        #[test]
        fn edits_one_after_the_other_are_one_edit(
            lists in proptest::collection::vec(proptest::collection::vec(0_usize..3, 0..3), 6),
            sent in proptest::collection::vec(0_usize..3, 0..4),
        ) {
            const NAMES: [HeaderName; 3] =
                [HeaderName::from_static("a"), HeaderName::from_static("b"), HeaderName::from_static("c")];
            let edits = |at: usize| HeaderEdits {
                set: lists[at].iter().map(|it| (NAMES[*it].clone(), (at * 10).into())).collect(),
                add: lists[at + 1].iter().map(|it| (NAMES[*it].clone(), (at * 10 + 1).into())).collect(),
                remove: lists[at + 2].iter().map(|it| NAMES[*it].clone()).collect(),
            };
            let (first, second) = (edits(0), edits(3));
            let mut apart: HeaderMap = sent.iter().map(|it| (NAMES[*it].clone(), 99.into())).collect();
            let mut together = apart.clone();
            first.apply(&mut apart);
            second.apply(&mut apart);
            first.then(&second).apply(&mut together);
            proptest::prop_assert_eq!(apart, together);
        }
    }
}
