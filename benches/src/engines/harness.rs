//! Timing: batches long enough for the clock, many of them, medians.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

/// What one decision costs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// What was asked: `route`, `authz`, ….
    pub(super) engine: &'static str,
    /// Of which world.
    pub(super) world: &'static str,
    pub(super) rules: usize,
    /// The median of all batches.
    pub(super) median_ns: f64,
    /// The fastest batch.
    pub(super) min_ns: f64,
    pub(super) allocations: f64,
    /// The median of the naive twin, where there is one.
    pub(super) naive_ns: Option<f64>,
    /// Whether the bars hold here: those for decisions on the path of a request.
    pub(super) barred: bool,
}

/// Times and keeps what it timed.
#[derive(Debug)]
pub(super) struct Harness {
    pub(super) rows: Vec<Row>,
    samples: usize,
    quick: bool,
    allocations: fn() -> usize,
}

/// What a batch should last, so that reading the clock does not count.
const BATCH: Duration = Duration::from_micros(100);
/// How long something that takes long is repeated.
const ENOUGH: Duration = Duration::from_secs(2);
/// What is run before anything is timed.
const WARM_UP: Duration = Duration::from_millis(50);

impl Harness {
    pub(super) fn new(quick: bool, allocations: fn() -> usize) -> Self {
        Self {
            rows: Vec::new(),
            samples: if quick { 50 } else { 500 },
            quick,
            allocations,
        }
    }

    /// Times `op`, which is told how often it was called before: `(median, fastest, allocations)` of one call.
    fn time<T>(&self, mut op: impl FnMut(usize) -> T) -> (f64, f64, f64) {
        let mut calls = 0;
        let mut batch = |size: usize| {
            let start = Instant::now();
            for _ in 0..size {
                black_box(op(calls));
                calls = calls.wrapping_add(1);
            }
            start.elapsed()
        };
        let begin = Instant::now();
        let (mut size, mut spent) = (1, batch(1));
        while begin.elapsed() < WARM_UP {
            if spent < BATCH {
                size *= 2;
            }
            spent = batch(size);
        }
        let mut each: Vec<f64> = (0..self.samples)
            .map(|_| batch(size).as_nanos() as f64 / size as f64)
            .collect();
        each.sort_by(f64::total_cmp);
        let counted = size.max(1_000);
        let before = (self.allocations)();
        batch(counted);
        let allocations = ((self.allocations)() - before) as f64 / counted as f64;
        (each[each.len() / 2], each[0], allocations)
    }

    /// Keeps a row, and says on standard error how far this is.
    fn keep(&mut self, row: Row) {
        eprintln!(
            "{}, {}, {}: {:.0} ns",
            row.engine, row.world, row.rules, row.median_ns
        );
        self.rows.push(row);
    }

    /// Times a decision and its naive twin over the same requests.
    pub(super) fn decision<R, A, B>(
        &mut self,
        (engine, world, rules): (&'static str, &'static str, usize),
        requests: &[R],
        ask: impl Fn(&R) -> A,
        naive: impl Fn(&R) -> B,
    ) {
        let (median_ns, min_ns, allocations) = self.time(|n| ask(&requests[n % requests.len()]));
        let (naive_ns, ..) = self.time(|n| naive(&requests[n % requests.len()]));
        self.keep(Row {
            engine,
            world,
            rules,
            median_ns,
            min_ns,
            allocations,
            naive_ns: Some(naive_ns),
            barred: true,
        });
    }

    /// Times something that stands for itself.
    pub(super) fn operation<T>(
        &mut self,
        (engine, world, rules): (&'static str, &'static str, usize),
        op: impl FnMut(usize) -> T,
    ) {
        let (median_ns, min_ns, allocations) = self.time(op);
        self.keep(Row {
            engine,
            world,
            rules,
            median_ns,
            min_ns,
            allocations,
            naive_ns: None,
            barred: false,
        });
    }

    /// Times something that takes long, a few times only.
    pub(super) fn once<T>(
        &mut self,
        (engine, world, rules): (&'static str, &'static str, usize),
        op: impl Fn() -> T,
    ) {
        let rounds = if self.quick { 1 } else { 9 };
        let (begin, before) = (Instant::now(), (self.allocations)());
        let mut each: Vec<f64> = Vec::new();
        while each.is_empty() || (each.len() < rounds && begin.elapsed() < ENOUGH) {
            let start = Instant::now();
            let made = black_box(op());
            each.push(start.elapsed().as_nanos() as f64);
            drop(made);
        }
        let allocations = ((self.allocations)() - before) as f64 / each.len() as f64;
        each.sort_by(f64::total_cmp);
        self.keep(Row {
            engine,
            world,
            rules,
            median_ns: each[each.len() / 2],
            min_ns: each[0],
            allocations,
            naive_ns: None,
            barred: false,
        });
    }
}

/// Positions to ask for: spread over all rules and in no order, the same in every run.
pub(super) fn spread(rules: usize, count: usize) -> impl Iterator<Item = usize> {
    // A step that shares no factor with any of the sizes visits them evenly.
    (0..count).map(move |n| (n * 7_919 + 13) % rules)
}
