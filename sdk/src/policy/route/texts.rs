//! Texts by their bytes, with shared beginnings stored once.

use std::collections::HashMap;

use crate::matcher::PrefixMap;

/// Whole texts, and beginnings of texts.
#[derive(Debug)]
pub(super) struct Texts<T> {
    exact: HashMap<Box<[u8]>, T>,
    prefixes: PrefixMap<T>,
}

/// Texts, while they are collected.
#[derive(Debug)]
pub(super) struct TextsBuilder<T> {
    exact: HashMap<Box<[u8]>, T>,
    prefixes: HashMap<Box<[u8]>, T>,
}

impl<T> Default for Texts<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            prefixes: PrefixMap::default(),
        }
    }
}

impl<T> Default for TextsBuilder<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            prefixes: HashMap::new(),
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
        self.prefixes.along(text).for_each(then);
    }
}

impl<T: Default> TextsBuilder<T> {
    /// The value of a whole text, made if need be.
    pub(super) fn exact(&mut self, text: &str) -> &mut T {
        self.exact.entry(text.as_bytes().into()).or_default()
    }

    /// The value of a beginning, made if need be.
    pub(super) fn prefix(&mut self, text: &str) -> &mut T {
        self.prefixes.entry(text.as_bytes().into()).or_default()
    }

    /// All of them, with these values instead.
    pub(super) fn build<U>(self, mut to: impl FnMut(T) -> U) -> Texts<U> {
        let mut value = |(text, value)| (text, to(value));
        Texts {
            exact: self.exact.into_iter().map(&mut value).collect(),
            prefixes: self.prefixes.into_iter().map(value).collect(),
        }
    }
}
