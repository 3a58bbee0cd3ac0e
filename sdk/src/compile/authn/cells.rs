//! The live keys of one compilation: those of the previous snapshot where a source has not changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::snapshot::{KeyCell, KeySource, Snapshot};

/// Live keys by source.
#[derive(Debug, Default)]
pub(in crate::compile) struct KeyCells {
    #[cfg_attr(not(feature = "jwt"), allow(dead_code))] // nothing to carry then
    previous: BTreeMap<KeySource, Arc<KeyCell>>,
    used: BTreeMap<KeySource, Arc<KeyCell>>,
}

impl KeyCells {
    #[cfg(feature = "jwt")]
    pub(in crate::compile) fn carried(previous: Option<&Snapshot>) -> Self {
        let cells = previous.into_iter().flat_map(|it| &it.keys);
        Self {
            previous: cells
                .map(|cell| (cell.source().clone(), Arc::clone(cell)))
                .collect(),
            used: BTreeMap::new(),
        }
    }

    #[cfg(not(feature = "jwt"))]
    pub(in crate::compile) fn carried(_: Option<&Snapshot>) -> Self {
        Self::default()
    }

    /// The cell of a source.
    #[cfg(feature = "jwt")]
    pub(super) fn of(&mut self, source: KeySource) -> Arc<KeyCell> {
        let previous = &self.previous;
        let cell = self.used.entry(source).or_insert_with_key(|source| {
            let known = previous.get(source).cloned();
            known.unwrap_or_else(|| Arc::new(KeyCell::new(source.clone())))
        });
        Arc::clone(cell)
    }

    /// All that was asked for.
    pub(in crate::compile) fn used(self) -> Vec<Arc<KeyCell>> {
        self.used.into_values().collect()
    }
}
