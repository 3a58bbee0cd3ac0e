//! What changed from generation to generation, as far back as is remembered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::{Difference, Entry, Place, Problem, ResourceStore};
use crate::name::ResourceRef;

/// How many generations are remembered.
const GENERATIONS: usize = 50;
/// How many changed resources of one generation are told of by name.
const CHANGES: usize = 100;
/// How many problems that came or went with one generation are told of.
const PROBLEMS: usize = 100;

/// One generation, and how it differs from the one before.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// When it was put in force.
    pub published: SystemTime,
    /// How long compiling took.
    pub compile: Duration,
    /// How many resources it was compiled from.
    pub resources: usize,
    /// How many problems there were.
    pub problems: usize,
    /// What is new, changed or gone: at most a hundred of them.
    pub changes: Vec<Change>,
    /// How many there are.
    pub change_count: usize,
    /// Problems that came, at most a hundred of them.
    pub appeared: Vec<Problem>,
    /// Problems that went, at most a hundred of them.
    pub resolved: Vec<Problem>,
}

/// A resource that is new, changed or gone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Change {
    /// The resource.
    pub resource: ResourceRef,
    /// Where it is written, or was.
    pub place: Place,
    /// What became of it.
    pub kind: ChangeKind,
    /// Which of its fields are written otherwise: at most fifty of them.
    pub fields: Vec<Difference>,
}

/// What became of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It says something else.
    Changed,
    /// It is not there any more.
    Removed,
}

impl ChangeKind {
    /// `added`, `changed` or `removed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// The last generations.
#[derive(Debug, Default)]
pub(super) struct History {
    store: ResourceStore,
    problems: Arc<Vec<Problem>>,
    past: VecDeque<Arc<Generation>>,
}

impl History {
    /// Notes a generation that was just put in force.
    pub(super) fn add(
        &mut self,
        number: u64,
        compile: Duration,
        store: ResourceStore,
        problems: Arc<Vec<Problem>>,
    ) {
        let (changes, change_count) = changes(&self.store, &store);
        let beyond = |one: &Vec<Problem>, other: &Vec<Problem>| {
            let new = one.iter().filter(|it| other.binary_search(it).is_err());
            new.take(PROBLEMS).cloned().collect()
        };
        self.past.push_back(Arc::new(Generation {
            number,
            published: SystemTime::now(),
            compile,
            resources: store.len(),
            problems: problems.len(),
            changes,
            change_count,
            appeared: beyond(&problems, &self.problems),
            resolved: beyond(&self.problems, &problems),
        }));
        if self.past.len() > GENERATIONS {
            self.past.pop_front();
        }
        self.store = store;
        self.problems = problems;
    }

    /// The newest first.
    pub(super) fn told(&self) -> Arc<[Arc<Generation>]> {
        self.past.iter().rev().cloned().collect()
    }
}

/// The changes from one set of resources to another, and how many there are.
fn changes(old: &ResourceStore, new: &ResourceStore) -> (Vec<Change>, usize) {
    let (mut changes, mut count) = (Vec::new(), 0);
    let mut note = |entry: &Entry, kind, was: Option<&Entry>| {
        count += 1;
        if changes.len() < CHANGES {
            changes.push(Change {
                resource: entry.reference(),
                place: entry.place.clone(),
                kind,
                fields: was.map(|was| entry.differences(was)).unwrap_or_default(),
            });
        }
    };
    for (was, is) in new.changes_since(old) {
        match (was, is) {
            (None, Some(is)) => note(is, ChangeKind::Added, None),
            (Some(was), None) => note(was, ChangeKind::Removed, None),
            (Some(was), Some(is)) if was.hash() != is.hash() => note(is, ChangeKind::Changed, Some(was)),
            // Only moved, or written otherwise.
            _ => {}
        }
    }
    (changes, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn store(text: &str) -> ResourceStore {
        let mut store = ResourceStore::default();
        for entry in yaml::read("mesh/a.yaml", text, Some("default")).entries {
            store.apply(entry);
        }
        store
    }

    #[test]
    fn what_is_new_changed_and_gone_is_told() {
        let service = |name: &str, port: u16| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n"
            )
        };
        let mut history = History::default();
        let time = Duration::from_millis(1);
        history.add(
            1,
            time,
            store(&(service("a", 80) + &service("b", 80))),
            Arc::default(),
        );
        history.add(
            2,
            time,
            store(&(service("a", 81) + &service("c", 80))),
            Arc::default(),
        );
        let told = history.told();
        let kinds: Vec<_> = told[0]
            .changes
            .iter()
            .map(|it| (it.resource.name.to_string(), it.kind.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [
                ("a".to_owned(), "changed"),
                ("b".to_owned(), "removed"),
                ("c".to_owned(), "added")
            ]
        );
        assert_eq!(told[0].changes[0].fields[0].field, "spec.ports[0].port");
        assert_eq!(told[0].changes[0].place.to_string(), "mesh/a.yaml:1:1");
        assert_eq!(told[1].change_count, 2);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut history = History::default();
        for number in 1..=60 {
            history.add(number, Duration::ZERO, ResourceStore::default(), Arc::default());
        }
        let told = history.told();
        assert_eq!((told.len(), told[0].number), (GENERATIONS, 60));
    }
}
