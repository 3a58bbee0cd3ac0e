//! Texts by their bytes, with shared beginnings stored once.

use std::collections::HashMap;

/// Whole texts, and beginnings of texts.
#[derive(Debug)]
pub(super) struct Texts<T> {
    exact: HashMap<Box<[u8]>, T>,
    prefixes: Trie<T>,
}

impl<T> Default for Texts<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            prefixes: Trie::default(),
        }
    }
}

impl<T> Texts<T> {
    /// Whether it holds no text.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// Calls with the value of the text, and of every text that it begins with.
    pub(super) fn of(&self, text: &[u8], mut then: impl FnMut(&T)) {
        if let Some(value) = self.exact.get(text) {
            then(value);
        }
        self.prefixes.along(text, then);
    }

    /// The same texts with other values.
    pub(super) fn map<U>(self, mut to: impl FnMut(T) -> U) -> Texts<U> {
        Texts {
            exact: self
                .exact
                .into_iter()
                .map(|(text, value)| (text, to(value)))
                .collect(),
            prefixes: self.prefixes.map(to),
        }
    }
}

impl<T: Default> Texts<T> {
    /// The value of a whole text, made if need be.
    pub(super) fn exact(&mut self, text: &str) -> &mut T {
        self.exact.entry(text.as_bytes().into()).or_default()
    }

    /// The value of a beginning, made if need be.
    pub(super) fn prefix(&mut self, text: &str) -> &mut T {
        self.prefixes.at(text.as_bytes())
    }
}

/// A map from texts to values that finds the values of all texts that a given one begins with.
#[derive(Debug)]
struct Trie<T> {
    /// The first is the empty text.
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    /// What the text adds to the parent's.
    label: Box<[u8]>,
    /// By first byte of their labels, sorted.
    children: Vec<(u8, u32)>,
    value: Option<T>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(Box::default(), None)],
        }
    }
}

impl<T> Node<T> {
    fn new(label: Box<[u8]>, value: Option<T>) -> Self {
        Self {
            label,
            children: Vec::new(),
            value,
        }
    }
}

impl<T> Trie<T> {
    fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes[0].value.is_none()
    }

    /// Calls with the value of every text that `text` begins with, the shortest first.
    fn along(&self, text: &[u8], mut then: impl FnMut(&T)) {
        let (mut at, mut rest) = (0, text);
        loop {
            let node = &self.nodes[at];
            if let Some(value) = &node.value {
                then(value);
            }
            let Some((first, _)) = rest.split_first() else {
                return;
            };
            let Some(child) = node.child(*first) else { return };
            match rest.strip_prefix(&*self.nodes[child].label) {
                Some(after) => (at, rest) = (child, after),
                None => return,
            }
        }
    }

    fn map<U>(self, mut to: impl FnMut(T) -> U) -> Trie<U> {
        let node = |node: Node<T>| Node {
            label: node.label,
            children: node.children,
            value: node.value.map(&mut to),
        };
        Trie {
            nodes: self.nodes.into_iter().map(node).collect(),
        }
    }
}

impl<T> Node<T> {
    fn child(&self, first: u8) -> Option<usize> {
        let found = self.children.binary_search_by_key(&first, |(byte, _)| *byte);
        found.ok().map(|at| self.children[at].1 as usize)
    }
}

impl<T: Default> Trie<T> {
    /// The value of a text, made if need be.
    fn at(&mut self, text: &[u8]) -> &mut T {
        let (mut at, mut rest) = (0, text);
        while let Some((first, _)) = rest.split_first() {
            at = match self.nodes[at].child(*first) {
                None => self.grow(at, std::mem::take(&mut rest)),
                Some(child) => {
                    let label = &self.nodes[child].label;
                    let shared = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
                    rest = &rest[shared..];
                    if shared == label.len() {
                        child
                    } else {
                        self.split(at, child, shared)
                    }
                }
            };
        }
        self.nodes[at].value.get_or_insert_default()
    }

    /// Adds a leaf.
    fn grow(&mut self, parent: usize, label: &[u8]) -> usize {
        let leaf = self.nodes.len();
        self.nodes.push(Node::new(label.into(), None));
        let children = &mut self.nodes[parent].children;
        let at = children.partition_point(|(byte, _)| *byte < label[0]);
        children.insert(at, (label[0], leaf as u32));
        leaf
    }

    /// Puts a node between a parent and its child, that far into the child's label.
    fn split(&mut self, parent: usize, child: usize, shared: usize) -> usize {
        let middle = self.nodes.len();
        let label = std::mem::take(&mut self.nodes[child].label);
        let (above, below) = label.split_at(shared);
        self.nodes[child].label = below.into();
        let mut node = Node::new(above.into(), None);
        node.children.push((below[0], child as u32));
        self.nodes.push(node);
        if let Some((_, to)) = self.nodes[parent]
            .children
            .iter_mut()
            .find(|(byte, _)| *byte == above[0])
        {
            *to = middle as u32;
        }
        middle
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(trie: &Trie<Vec<usize>>, text: &str) -> Vec<usize> {
        let mut found = Vec::new();
        trie.along(text.as_bytes(), |values| found.extend(values));
        found.sort_unstable();
        found
    }

    #[test]
    fn every_beginning_is_found() {
        let mut trie = Trie::<Vec<usize>>::default();
        assert!(trie.is_empty());
        for (index, text) in ["/api", "/api/users", "/apple", "", "/api"].iter().enumerate() {
            trie.at(text.as_bytes()).push(index);
        }
        assert!(!trie.is_empty());
        assert_eq!(found(&trie, "/api/users/1"), [0, 1, 3, 4]);
        assert_eq!(found(&trie, "/apiary"), [0, 3, 4]);
        assert_eq!(found(&trie, "/app"), [3]);
        assert_eq!(found(&trie, ""), [3]);
        let doubled = trie.map(|values| values.iter().map(|it| it * 2).collect());
        assert_eq!(found(&doubled, "/apple"), [4, 6]);
    }

    proptest! {
        #[test]
        fn a_trie_finds_what_a_loop_finds(
            texts in proptest::collection::vec("[ab/é]{0,6}", 0..24),
            text in "[ab/é]{0,8}",
        ) {
            let mut trie = Trie::<Vec<usize>>::default();
            for (index, text) in texts.iter().enumerate() {
                trie.at(text.as_bytes()).push(index);
            }
            let looped: Vec<usize> = (0..texts.len()).filter(|at| text.starts_with(&texts[*at])).collect();
            prop_assert_eq!(found(&trie, &text), looped);
        }
    }
}
