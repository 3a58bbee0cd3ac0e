//! The last good version of everything a file held, under what it holds now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::{Entry, Parsed};
use crate::name::{Kind, ResourceRef};

/// What counts of a file: its resources as they are now; as they were where they cannot be read now.
pub(super) fn merge(before: Vec<Arc<Entry>>, now: Parsed) -> Vec<Arc<Entry>> {
    let written: BTreeSet<ResourceRef> = now.entries.iter().map(Entry::reference).collect();
    let failed: BTreeSet<ResourceRef> = now.failed.into_iter().collect();
    let mut good: BTreeMap<ResourceRef, Arc<Entry>> = before
        .into_iter()
        .filter(|entry| !entry.is_unnamed())
        .map(|entry| (entry.reference(), entry))
        .filter(|(reference, _)| now.lost || written.contains(reference) || failed.contains(reference))
        .collect();
    // A policy whose name cannot be read is one of those known before, as far as there are as many of these.
    let mut known: BTreeMap<Kind, usize> = BTreeMap::new();
    for (reference, entry) in &good {
        if entry.broken.is_none() && !written.contains(reference) {
            *known.entry(reference.kind).or_default() += 1;
        }
    }
    let mut entries = Vec::with_capacity(now.entries.len());
    for entry in now.entries {
        if entry.is_unnamed()
            && let Some(count) = known.get_mut(&entry.resource.kind()).filter(|count| **count > 0)
        {
            *count -= 1;
            continue;
        }
        // Taken out only once: a second entry of the same name is a duplicate and stays one.
        match good.remove(&entry.reference()) {
            Some(before) if entry.broken.is_some() && before.broken.is_none() => entries.push(before),
            _ => entries.push(Arc::new(entry)),
        }
    }
    entries.extend(good.into_values());
    entries
}
