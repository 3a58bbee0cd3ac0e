//! What was measured: medians, ratios, and how they stand to what is expected.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::args::{Args, Shape};
use super::machine::{Cores, processor};
use super::shape::Sample;

/// A shape that could not be measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Skipped {
    pub(super) shape: &'static str,
    pub(super) why: String,
}

/// Everything measured.
#[derive(Debug)]
pub(super) struct Report {
    rounds: usize,
    seconds: f64,
    cores: Option<Cores>,
    samples: Vec<Sample>,
    skipped: Vec<Skipped>,
}

/// One shape at one concurrency: medians over the rounds.
#[derive(Debug, Serialize)]
struct Row {
    shape: &'static str,
    concurrency: usize,
    requests_per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    processes: Vec<Process>,
    failures: u64,
}

#[derive(Debug, Serialize)]
struct Process {
    process: &'static str,
    cpu_us_per_request: f64,
    resident_mib: f64,
}

/// A ratio, and what it should be at most (or at least).
#[derive(Debug)]
struct Ratio {
    name: String,
    value: f64,
    bar: Option<Bar>,
}

#[derive(Clone, Copy, Debug)]
enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub(super) fn new(
        args: &Args,
        cores: Option<Cores>,
        samples: Vec<Sample>,
        skipped: Vec<Skipped>,
    ) -> Self {
        Self {
            rounds: args.rounds(),
            seconds: args.window().as_secs_f64(),
            cores,
            samples,
            skipped,
        }
    }

    /// The first request that failed, if one did.
    pub(super) fn first_failure(&self) -> Option<&str> {
        self.samples.iter().find_map(|s| s.outcome.failure.as_deref())
    }

    pub(super) fn to_json(&self) -> Value {
        let ratios = self.ratios();
        let values: Map<_, _> = ratios
            .iter()
            .map(|r| (r.name.clone(), rounded(r.value)))
            .collect();
        let bars: Map<_, _> = ratios
            .iter()
            .filter_map(|ratio| {
                let bar = ratio.bar?;
                let (kind, limit) = match bar {
                    Bar::AtLeast(limit) => ("at_least", limit),
                    Bar::AtMost(limit) => ("at_most", limit),
                };
                Some((
                    ratio.name.clone(),
                    json!({kind: limit, "met": bar.is_met(ratio.value)}),
                ))
            })
            .collect();
        json!({
            "processor": processor(),
            "pinned": self.cores,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "runtime": RUNTIME,
            "rows": self.rows(),
            "ratios": values,
            "bars": bars,
            "skipped": self.skipped,
        })
    }

    fn of(&self, shape: Shape, concurrency: usize) -> impl Iterator<Item = &Sample> {
        self.samples
            .iter()
            .filter(move |s| s.shape == shape && s.concurrency == concurrency)
    }

    /// Every concurrency that was measured, in the order asked for.
    fn concurrencies(&self) -> Vec<usize> {
        let mut all = Vec::new();
        for sample in &self.samples {
            if !all.contains(&sample.concurrency) {
                all.push(sample.concurrency);
            }
        }
        all
    }

    fn rows(&self) -> Vec<Row> {
        let shapes = [Shape::Bare, Shape::Library, Shape::Waypoint, Shape::Envoy];
        self.concurrencies()
            .into_iter()
            .flat_map(|c| shapes.into_iter().filter_map(move |shape| self.row(shape, c)))
            .collect()
    }

    fn row(&self, shape: Shape, concurrency: usize) -> Option<Row> {
        let first = self.of(shape, concurrency).next()?;
        let of = |value: fn(&Sample) -> f64| median(self.of(shape, concurrency).map(value));
        let processes = (0..first.used.len())
            .map(|at| Process {
                process: first.used[at].process,
                cpu_us_per_request: median(self.of(shape, concurrency).map(|s| s.used[at].cpu)),
                resident_mib: median(self.of(shape, concurrency).map(|s| s.used[at].resident)),
            })
            .collect();
        Some(Row {
            shape: shape.title(),
            concurrency,
            requests_per_second: of(rate),
            p50_us: of(|s| s.outcome.p50),
            p90_us: of(|s| s.outcome.p90),
            p99_us: of(|s| s.outcome.p99),
            processes,
            failures: self.of(shape, concurrency).map(|s| s.outcome.failures).sum(),
        })
    }

    fn ratios(&self) -> Vec<Ratio> {
        let mut all = Vec::new();
        for c in self.concurrencies() {
            let mut add = |name: &str, of: Shape, to: Shape, value: fn(&Sample) -> f64, bar| {
                // Within a round the two were measured seconds apart, so a slow moment slows both.
                let each = self.of(of, c).filter_map(|sample| {
                    let other = self.of(to, c).find(|other| other.round == sample.round)?;
                    Some(value(sample) / value(other))
                });
                let value = median(each);
                if value.is_finite() {
                    let name = format!("{name}_c{c}");
                    all.push(Ratio { name, value, bar });
                }
            };
            let p50 = |s: &Sample| s.outcome.p50;
            let at_one = (c == 1).then_some(Bar::AtMost(1.8));
            let (bare, library) = (Shape::Bare, Shape::Library);
            add(
                "library_vs_bare_rps",
                library,
                bare,
                rate,
                Some(Bar::AtLeast(0.7)),
            );
            add("library_vs_bare_p50", library, bare, p50, at_one);
            add("library_vs_bare_cpu", library, bare, total_cpu, None);
            let (ours, envoy) = (Shape::Waypoint, Shape::Envoy);
            add(
                "waypoint_vs_envoy_cpu",
                ours,
                envoy,
                proxy_cpu,
                Some(Bar::AtMost(0.6)),
            );
            add("waypoint_vs_envoy_rps", ours, envoy, rate, None);
            add("waypoint_vs_envoy_p50", ours, envoy, p50, None);
            add("waypoint_vs_envoy_rss", ours, envoy, proxy_resident, None);
            add("library_vs_waypoint_rps", library, ours, rate, None);
            add("library_vs_envoy_rps", library, envoy, rate, None);
        }
        all
    }
}

/// Said with the numbers, because they mean nothing without it.
const RUNTIME: &str = "one tokio current-thread runtime in each of our processes, one worker in Envoy; \
                       mimalloc in ours; one mTLS connection from load to backend in a";

impl Bar {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, "at least {limit}"),
            Self::AtMost(limit) => write!(f, "at most {limit}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", processor())?;
        match self.cores {
            Some(Cores { ends, proxy }) => {
                writeln!(
                    f,
                    "pinned: load and backend on core {ends}, every proxy on core {proxy}"
                )?;
            }
            None => writeln!(f, "NOT pinned")?,
        }
        writeln!(f, "{RUNTIME}")?;
        writeln!(
            f,
            "medians of {} rounds of {} s each, shapes in turn",
            self.rounds, self.seconds
        )?;
        writeln!(
            f,
            "\n{:<12}{:>4}{:>11}{:>9}{:>9}{:>9}   {:<42}resident MiB",
            "shape", "c", "requests/s", "p50 µs", "p90 µs", "p99 µs", "CPU µs per request"
        )?;
        for row in self.rows() {
            self.write_row(f, &row)?;
        }
        for skipped in &self.skipped {
            writeln!(f, "SKIPPED {}: {}", skipped.shape, skipped.why)?;
        }
        writeln!(f, "\nratio of medians within each round")?;
        for Ratio { name, value, bar } in self.ratios() {
            write!(f, "{name:<30}{value:>8.3}")?;
            match bar {
                Some(bar) if bar.is_met(value) => writeln!(f, "   met: {bar}")?,
                Some(bar) => writeln!(f, "   NOT MET: {bar}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl Report {
    fn write_row(&self, f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
        let each = |value: fn(&Process) -> f64| {
            let words = row
                .processes
                .iter()
                .map(|p| format!("{} {:.1}", p.process, value(p)));
            words.collect::<Vec<_>>().join("  ")
        };
        write!(
            f,
            "{:<12}{:>4}{:>11.0}{:>9.1}{:>9.1}{:>9.1}   {:<42}{}",
            row.shape,
            row.concurrency,
            row.requests_per_second,
            row.p50_us,
            row.p90_us,
            row.p99_us,
            each(|p| p.cpu_us_per_request),
            each(|p| p.resident_mib),
        )?;
        match row.failures {
            0 => writeln!(f),
            some => writeln!(f, "   {some} FAILED"),
        }
    }
}

fn rate(sample: &Sample) -> f64 {
    sample.outcome.requests as f64 / sample.outcome.seconds
}

fn total_cpu(sample: &Sample) -> f64 {
    sample.used.iter().map(|used| used.cpu).sum()
}

fn proxy_cpu(sample: &Sample) -> f64 {
    sample.used.get(2).map_or(f64::NAN, |used| used.cpu)
}

fn proxy_resident(sample: &Sample) -> f64 {
    sample.used.get(2).map_or(f64::NAN, |used| used.resident)
}

/// The middle value; not a number where there is none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
