//! Something by host pattern, of which the most specific is wanted.

use std::collections::HashMap;

use super::HostPattern;

/// Values by [`HostPattern`]. A lookup costs one hash per label of the host, however many patterns there are.
#[derive(Clone, Debug)]
pub struct HostMap<T> {
    exact: HashMap<Box<str>, T>,
    /// By suffix, its leading dot included.
    suffixes: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            any: None,
        }
    }
}

impl<T> HostMap<T> {
    /// Adds a value; of two with one pattern the first stays.
    pub fn add(&mut self, pattern: &HostPattern, value: T) {
        match pattern {
            HostPattern::Exact(host) => {
                self.exact.entry(host.as_str().into()).or_insert(value);
            }
            HostPattern::Suffix(suffix) => {
                self.suffixes.entry(suffix.clone()).or_insert(value);
            }
            HostPattern::Any => {
                self.any.get_or_insert(value);
            }
        }
    }

    /// The value of the most specific pattern that covers the host: exact before wildcards, wildcards with more labels
    /// before those with fewer, what covers every host last. The host is in lower case, without port; it may be empty.
    pub fn best(&self, host: &str) -> Option<&T> {
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        if !self.suffixes.is_empty() {
            // The first byte cannot be a suffix' dot: a wildcard stands for at least one label.
            for (dot, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                if let Some(found) = self.suffixes.get(&host[dot..]) {
                    return Some(found);
                }
            }
        }
        self.any.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern() -> impl Strategy<Value = HostPattern> {
        "(\\*\\.)?(a|b)(\\.(a|b)){0,3}|\\*".prop_map(|text| HostPattern::parse(&text).unwrap())
    }

    proptest! {
        #[test]
        fn the_best_is_the_first_in_order_that_matches(
            patterns in proptest::collection::vec(pattern(), 0..8),
            host in "|(a|b)(\\.(a|b)){0,4}",
        ) {
            let mut map = HostMap::default();
            for (at, pattern) in patterns.iter().enumerate() {
                map.add(pattern, at);
            }
            let mut covering: Vec<usize> = (0..patterns.len()).filter(|at| patterns[*at].matches(&host)).collect();
            covering.sort_by_key(|at| (patterns[*at].order(), *at));
            prop_assert_eq!(map.best(&host), covering.first());
        }
    }
}
