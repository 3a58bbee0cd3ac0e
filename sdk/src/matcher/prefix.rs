//! Values by prefix: one walk along a text finds those of all its prefixes.

use std::collections::VecDeque;

/// Values filed under prefixes, as a radix tree: what a look-up costs follows the length of the text and how many
/// prefixes it has, not how many there are.
///
/// For suffixes, file the reversed bytes and walk along the reversed text.
#[derive(Clone, Debug)]
pub struct PrefixMap<V> {
    /// The root is the first; the children of each node stand side by side.
    nodes: Vec<Node<V>>,
}

#[derive(Clone, Debug)]
struct Node<V> {
    /// What the text must go on with to get here, after the byte that chose this child.
    label: Box<[u8]>,
    value: Option<V>,
    /// The byte that leads to each child.
    bytes: Box<[u8]>,
    /// Where the children begin.
    children: u32,
}

/// The walk of [`PrefixMap::along`].
#[derive(Debug)]
pub struct Along<'m, V, B> {
    nodes: &'m [Node<V>],
    at: Option<usize>,
    text: B,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self { nodes: Vec::new() }
    }
}

impl<V> PrefixMap<V> {
    /// Whether nothing is filed.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The values of all prefixes of the text, the shortest first; the text itself and nothing are prefixes too.
    pub fn along<B: Iterator<Item = u8>>(&self, text: B) -> Along<'_, V, B> {
        Along {
            nodes: &self.nodes,
            at: (!self.nodes.is_empty()).then_some(0),
            text,
        }
    }
}

/// Of equal prefixes the last one's value stays.
impl<V> FromIterator<(Box<[u8]>, V)> for PrefixMap<V> {
    fn from_iter<I: IntoIterator<Item = (Box<[u8]>, V)>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        let (keys, mut values): (Vec<_>, Vec<_>) =
            entries.into_iter().map(|(key, value)| (key, Some(value))).unzip();
        let mut nodes = Vec::new();
        // Each entry is a node to be: the keys below it, and how many of their bytes lead there.
        let mut open = VecDeque::new();
        if !keys.is_empty() {
            open.push_back((0..keys.len(), 0));
        }
        while let Some((mut below, from)) = open.pop_front() {
            // In a sorted list, what the first and the last have in common, all have.
            let common = common(&keys[below.start], &keys[below.end - 1]);
            let label = keys[below.start][from..common].into();
            let mut value = None;
            while below.start < below.end && keys[below.start].len() == common {
                value = values[below.start].take();
                below.start += 1;
            }
            let mut bytes = Vec::new();
            let children = nodes.len() + 1 + open.len();
            while below.start < below.end {
                let byte = keys[below.start][common];
                let same = keys[below.clone()].partition_point(|key| key[common] == byte);
                open.push_back((below.start..below.start + same, common + 1));
                below.start += same;
                bytes.push(byte);
            }
            nodes.push(Node {
                label,
                value,
                bytes: bytes.into(),
                children: u32::try_from(children).unwrap_or(u32::MAX),
            });
        }
        Self { nodes }
    }
}

fn common(left: &[u8], right: &[u8]) -> usize {
    left.iter()
        .zip(right)
        .take_while(|(left, right)| left == right)
        .count()
}

impl<'m, V, B: Iterator<Item = u8>> Iterator for Along<'m, V, B> {
    type Item = &'m V;

    fn next(&mut self) -> Option<&'m V> {
        loop {
            let node = self.nodes.get(self.at.take()?)?;
            if !node.label.iter().all(|byte| self.text.next() == Some(*byte)) {
                return None;
            }
            self.at = self.text.next().and_then(|byte| {
                let child = node.bytes.iter().position(|at| *at == byte)?;
                Some(node.children as usize + child)
            });
            if let Some(value) = &node.value {
                return Some(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: &[&str]) -> PrefixMap<String> {
        keys.iter()
            .map(|key| (key.as_bytes().into(), (*key).to_owned()))
            .collect()
    }

    #[test]
    fn all_prefixes_of_a_text_are_found_shortest_first() {
        let map = map(&["/a/b", "", "/a", "/ab", "/a/b/c", "/b"]);
        let found: Vec<_> = map.along(b"/a/b/d".iter().copied()).collect();
        assert_eq!(found, ["", "/a", "/a/b"]);
    }

    #[test]
    fn nothing_is_found_in_an_empty_map() {
        assert_eq!(map(&[]).along(b"a".iter().copied()).next(), None);
    }

    proptest::proptest! {
        #[test]
        fn the_walk_finds_what_a_loop_finds(keys in proptest::collection::vec("[ab]{0,5}", 0..12), text in "[abc]{0,7}") {
            let map: PrefixMap<String> = keys.iter().map(|key| (key.as_bytes().into(), key.clone())).collect();
            let found: Vec<_> = map.along(text.bytes()).cloned().collect();
            let mut naive: Vec<_> = keys.into_iter().filter(|key| text.starts_with(&**key)).collect();
            naive.sort();
            naive.dedup();
            proptest::prop_assert_eq!(found, naive);
        }
    }
}
