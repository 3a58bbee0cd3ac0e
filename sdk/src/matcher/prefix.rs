//! Values by prefix: one walk along a text finds those of all its prefixes.

use std::collections::VecDeque;

/// Values filed under prefixes, as a radix tree: what a look-up costs follows the length of the text and how many
/// prefixes it has, not how many there are.
///
/// For suffixes, file the reversed bytes and walk the text backwards.
#[derive(Clone, Debug)]
pub struct PrefixMap<V> {
    /// The root is the first; the children of each node stand side by side.
    nodes: Vec<Node>,
    /// What the nodes say, in their order: a label, then the byte that leads to each child.
    bytes: Vec<u8>,
    values: Vec<V>,
}

/// Small, so that many nodes fit into a processor's caches: with thousands of prefixes, waiting for memory is most of
/// what a look-up costs.
#[derive(Clone, Debug)]
struct Node {
    /// Where in `bytes` its label begins: what the text must go on with to get here, after the byte that chose this child.
    label: u32,
    /// Where the label ends, and the bytes of the children begin.
    branches: u32,
    /// How many children there are.
    fanout: u16,
    /// The first of them.
    children: u32,
    /// Its value; [`NONE`] if it has none.
    value: u32,
}

/// No value has this position.
const NONE: u32 = u32::MAX;

/// Which way a text is walked.
#[derive(Clone, Copy, Debug)]
enum Walk {
    Forwards,
    Backwards,
}

/// The walk of [`PrefixMap::along`].
#[derive(Debug)]
pub struct Along<'m, 't, V> {
    map: &'m PrefixMap<V>,
    at: Option<u32>,
    rest: &'t [u8],
    walk: Walk,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            bytes: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl<V> PrefixMap<V> {
    /// Whether nothing is filed.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The values of all prefixes of the text, the shortest first; the text itself and nothing are prefixes too.
    pub fn along<'t>(&self, text: &'t [u8]) -> Along<'_, 't, V> {
        self.walk(text, Walk::Forwards)
    }

    /// As [`PrefixMap::along`], of the text with its bytes reversed.
    pub fn along_reversed<'t>(&self, text: &'t [u8]) -> Along<'_, 't, V> {
        self.walk(text, Walk::Backwards)
    }

    fn walk<'t>(&self, text: &'t [u8], walk: Walk) -> Along<'_, 't, V> {
        Along {
            map: self,
            at: (!self.is_empty()).then_some(0),
            rest: text,
            walk,
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
        let mut map = Self::default();
        // Each entry is a node to be: the keys below it, and how many of their bytes lead there.
        let mut open = VecDeque::new();
        if !keys.is_empty() {
            open.push_back((0..keys.len(), 0));
        }
        while let Some((mut below, from)) = open.pop_front() {
            // In a sorted list, what the first and the last have in common, all have.
            let common = common(&keys[below.start], &keys[below.end - 1]);
            let label = map.bytes.len();
            map.bytes.extend_from_slice(&keys[below.start][from..common]);
            let mut own = None;
            while below.start < below.end && keys[below.start].len() == common {
                own = values[below.start].take();
                below.start += 1;
            }
            let value = own.map_or(NONE, |value| {
                map.values.push(value);
                position(map.values.len() - 1)
            });
            let branches = map.bytes.len();
            let children = map.nodes.len() + 1 + open.len();
            while below.start < below.end {
                let byte = keys[below.start][common];
                let same = keys[below.clone()].partition_point(|key| key[common] == byte);
                open.push_back((below.start..below.start + same, common + 1));
                below.start += same;
                map.bytes.push(byte);
            }
            map.nodes.push(Node {
                label: position(label),
                branches: position(branches),
                // Bytes differ, so there are 256 at most.
                fanout: (map.bytes.len() - branches) as u16,
                children: position(children),
                value,
            });
        }
        map
    }
}

/// A position as it is kept. Texts of four gigabytes are nothing that configuration has: what lies beyond is not found.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}

fn common(left: &[u8], right: &[u8]) -> usize {
    left.iter()
        .zip(right)
        .take_while(|(left, right)| left == right)
        .count()
}

impl<V> Along<'_, '_, V> {
    /// Goes past a label, if the text goes on with it.
    fn pass(&mut self, label: &[u8]) -> Option<()> {
        self.rest = match self.walk {
            Walk::Forwards => self.rest.strip_prefix(label)?,
            Walk::Backwards => {
                let (rest, end) = self.rest.split_at(self.rest.len().checked_sub(label.len())?);
                end.iter().rev().eq(label).then_some(rest)?
            }
        };
        Some(())
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (byte, rest) = match self.walk {
            Walk::Forwards => self.rest.split_first()?,
            Walk::Backwards => self.rest.split_last()?,
        };
        self.rest = rest;
        Some(*byte)
    }
}

impl<'m, V> Iterator for Along<'m, '_, V> {
    type Item = &'m V;

    fn next(&mut self) -> Option<&'m V> {
        loop {
            let map = self.map;
            let node = map.nodes.get(self.at.take()? as usize)?;
            let (label, branches) = (node.label as usize, node.branches as usize);
            self.pass(map.bytes.get(label..branches)?)?;
            if node.fanout > 0 {
                let bytes = map.bytes.get(branches..branches + node.fanout as usize)?;
                self.at = self.next_byte().and_then(|byte| {
                    let child = bytes.iter().position(|at| *at == byte)?;
                    Some(node.children + child as u32)
                });
            }
            if node.value != NONE {
                return map.values.get(node.value as usize);
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
        let found: Vec<_> = map.along(b"/a/b/d").collect();
        assert_eq!(found, ["", "/a", "/a/b"]);
    }

    #[test]
    fn nothing_is_found_in_an_empty_map() {
        assert_eq!(map(&[]).along(b"a").next(), None);
    }

    #[test]
    fn a_node_may_have_a_child_for_every_byte() {
        let keys = (0..=u8::MAX).map(|byte| (Box::from([byte, byte]), byte));
        let map: PrefixMap<u8> = keys.chain([(Box::default(), 7)]).collect();
        for byte in 0..=u8::MAX {
            assert!(map.along(&[byte, byte, 1]).eq(&[7, byte]));
        }
    }

    proptest::proptest! {
        #[test]
        fn the_walk_finds_what_a_loop_finds(keys in proptest::collection::vec("[ab]{0,5}", 0..12), text in "[abc]{0,7}") {
            let map: PrefixMap<String> = keys.iter().map(|key| (key.as_bytes().into(), key.clone())).collect();
            let found: Vec<_> = map.along(text.as_bytes()).cloned().collect();
            let reversed: String = text.chars().rev().collect();
            let backwards: Vec<_> = map.along_reversed(reversed.as_bytes()).cloned().collect();
            let mut naive: Vec<_> = keys.into_iter().filter(|key| text.starts_with(&**key)).collect();
            naive.sort();
            naive.dedup();
            proptest::prop_assert_eq!(&found, &naive);
            proptest::prop_assert_eq!(backwards, naive);
        }
    }
}
