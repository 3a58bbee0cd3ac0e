//! Families: the cells of one metric by their labels, so many and no more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::read::{Reading, Sink, Source};
use super::{Counter, Gauge, Histogram, LabelSet, Text};
use crate::telemetry::labels::OVERFLOW;

/// The cells of one metric. Clones share them.
#[derive(Debug)]
pub(in crate::telemetry) struct Family<C>(Arc<Shared<C>>);

#[derive(Debug)]
struct Shared<C> {
    make: fn() -> C,
    limit: usize,
    full: AtomicBool,
    /// Label sets that found no room.
    refused: Counter,
    series: RwLock<Series<C>>,
}

#[derive(Debug)]
struct Series<C> {
    /// At most so many as the limit says.
    cells: HashMap<LabelSet, C>,
    /// What stands in for all others; few by the way their labels are made.
    overflow: HashMap<LabelSet, C>,
}

/// What a family can hold.
pub(in crate::telemetry) trait Cell: Clone + Send + Sync {
    /// Whether anybody but the family has it.
    fn is_kept(&self) -> bool;
    fn reading(&self) -> Reading;
}

/// Counters that differ in one label, of which the values are words of ours or names in the configuration.
#[derive(Debug)]
pub(in crate::telemetry) struct ByWord(Arc<Words>);

#[derive(Debug)]
struct Words {
    label: &'static str,
    limit: usize,
    counts: RwLock<HashMap<Arc<str>, Counter>>,
}

// ===== impl Family =====

impl<C: Cell> Family<C> {
    pub(in crate::telemetry) fn new(limit: usize, make: fn() -> C) -> Self {
        Self(Arc::new(Shared {
            make,
            limit,
            full: AtomicBool::new(limit == 0),
            refused: Counter::default(),
            series: RwLock::new(Series {
                cells: HashMap::new(),
                overflow: HashMap::new(),
            }),
        }))
    }

    /// Whether what is not there yet finds no room.
    pub(in crate::telemetry) fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    /// The cell of a label set; `None` if there is no room for another.
    ///
    /// Takes a lock: ask once and keep it. While it is kept it is not forgotten.
    pub(in crate::telemetry) fn get(&self, labels: &LabelSet) -> Option<C> {
        let mut series = self.0.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = series.cells.get(labels) {
            return Some(cell.clone());
        }
        if series.cells.len() >= self.0.limit {
            self.0.refused.inc();
            return None;
        }
        let cell = (self.0.make)();
        series.cells.insert(labels.clone(), cell.clone());
        self.0
            .full
            .store(series.cells.len() >= self.0.limit, Ordering::Relaxed);
        Some(cell)
    }

    /// The cell of a label set that stands in for others. There must be few of them.
    pub(in crate::telemetry) fn overflow(&self, labels: &LabelSet) -> C {
        let mut series = self.0.series.write().unwrap_or_else(PoisonError::into_inner);
        let cell = series.overflow.entry(labels.clone());
        cell.or_insert_with(self.0.make).clone()
    }

    /// Forgets the series that nobody keeps.
    pub(in crate::telemetry) fn sweep(&self) {
        let mut series = self.0.series.write().unwrap_or_else(PoisonError::into_inner);
        // A cell that only the family has can be had by nobody else as long as the lock is held.
        series.cells.retain(|_, cell| cell.is_kept());
        series.cells.shrink_to_fit();
        self.0
            .full
            .store(series.cells.len() >= self.0.limit, Ordering::Relaxed);
    }

    pub(in crate::telemetry) fn len(&self) -> usize {
        let series = self.0.series.read().unwrap_or_else(PoisonError::into_inner);
        series.cells.len() + series.overflow.len()
    }

    /// How many label sets found no room.
    pub(in crate::telemetry) fn refused(&self) -> u64 {
        self.0.refused.get()
    }
}

impl<C> Clone for Family<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Cell> Source for Family<C> {
    fn read(&self, sink: &mut dyn Sink) {
        // A copy of the handles, so that nobody who needs a new series waits for the reader.
        let all: Vec<(LabelSet, C)> = {
            let series = self.0.series.read().unwrap_or_else(PoisonError::into_inner);
            let both = series.cells.iter().chain(&series.overflow);
            both.map(|(labels, cell)| (labels.clone(), cell.clone()))
                .collect()
        };
        for (labels, cell) in all {
            sink.sample(&labels, cell.reading());
        }
    }
}

impl Cell for Counter {
    fn is_kept(&self) -> bool {
        Self::is_kept(self)
    }

    fn reading(&self) -> Reading {
        Reading::Count(self.get())
    }
}

impl Cell for Gauge {
    fn is_kept(&self) -> bool {
        Self::is_kept(self)
    }

    fn reading(&self) -> Reading {
        Reading::Number(self.get())
    }
}

impl Cell for Histogram {
    fn is_kept(&self) -> bool {
        Self::is_kept(self)
    }

    fn reading(&self) -> Reading {
        Reading::Histogram(self.clone())
    }
}

// ===== impl ByWord =====

impl ByWord {
    pub(in crate::telemetry) fn new(label: &'static str, limit: usize) -> Self {
        Self(Arc::new(Words {
            label,
            limit,
            counts: RwLock::default(),
        }))
    }

    /// Counts one of a word; of `_overflow` once there are too many words.
    pub(in crate::telemetry) fn inc(&self, word: &str) {
        {
            let counts = self.0.counts.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(counter) = counts.get(word) {
                return counter.inc();
            }
        }
        self.counter(word).inc();
    }

    /// The counter of a word, to be kept.
    pub(in crate::telemetry) fn counter(&self, word: &str) -> Counter {
        let mut counts = self.0.counts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = counts.get(word) {
            return counter.clone();
        }
        let has_room = counts.len() < self.0.limit;
        let word = if has_room { word } else { OVERFLOW };
        counts.entry(word.into()).or_default().clone()
    }
}

impl Clone for ByWord {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Source for ByWord {
    fn read(&self, sink: &mut dyn Sink) {
        let counts = self.0.counts.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = counts.iter().collect();
        all.sort_by_key(|(word, _)| *word);
        for (word, counter) in all {
            let labels = LabelSet::of(self.0.label, Text::from(word));
            sink.sample(&labels, Reading::Count(counter.get()));
        }
    }
}
