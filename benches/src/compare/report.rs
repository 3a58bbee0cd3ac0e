//! What was measured: medians, ratios, and how they stand to what is expected.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::args::{Args, Shape};
use super::machine::{Cores, processor};
use super::shape::Sample;
use super::town::Town;

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

/// What is measured again in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    town: Town,
    changing: bool,
    shape: Shape,
    concurrency: usize,
}

impl Case {
    fn of(sample: &Sample) -> Self {
        Self {
            town: sample.town,
            changing: sample.changing,
            shape: sample.shape,
            concurrency: sample.concurrency,
        }
    }
}

/// One case: medians over the rounds.
#[derive(Debug, Serialize)]
struct Row {
    shape: &'static str,
    /// What the town is called, as behind the names of ratios.
    town: String,
    /// How many routes or policies there are.
    rules: usize,
    /// How often the configuration changed in each round.
    swaps: f64,
    concurrency: usize,
    requests_per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    max_us: f64,
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

    fn of(&self, case: Case) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| Case::of(sample) == case)
    }

    /// Every value of something that was measured, in the order in which that was done.
    fn every<T: PartialEq>(&self, of: impl Fn(&Sample) -> T) -> Vec<T> {
        let mut all = Vec::new();
        for sample in &self.samples {
            let value = of(sample);
            if !all.contains(&value) {
                all.push(value);
            }
        }
        all
    }

    fn rows(&self) -> Vec<Row> {
        let mut cases = self.every(Case::of);
        // Side by side what is to be compared.
        cases.sort_by_key(|it| (it.town.rules(), it.concurrency, it.shape, it.changing));
        cases.into_iter().filter_map(|case| self.row(case)).collect()
    }

    fn row(&self, case: Case) -> Option<Row> {
        let first = self.of(case).next()?;
        let of = |value: fn(&Sample) -> f64| median(self.of(case).map(value));
        let processes = (0..first.used.len())
            .map(|at| Process {
                process: first.used[at].process,
                cpu_us_per_request: median(self.of(case).map(|s| s.used[at].cpu)),
                resident_mib: median(self.of(case).map(|s| s.used[at].resident)),
            })
            .collect();
        Some(Row {
            shape: case.shape.title(),
            town: case.town.suffix(),
            rules: case.town.rules(),
            swaps: of(|s| s.outcome.swaps as f64),
            concurrency: case.concurrency,
            requests_per_second: of(rate),
            p50_us: of(|s| s.outcome.p50),
            p90_us: of(|s| s.outcome.p90),
            p99_us: of(|s| s.outcome.p99),
            max_us: of(|s| s.outcome.max),
            processes,
            failures: self.of(case).map(|s| s.outcome.failures).sum(),
        })
    }

    /// The median of what one case costs of another. Within a round the two were measured seconds apart, so a slow moment
    /// slows both.
    fn ratio(
        &self,
        name: String,
        of: Case,
        to: Case,
        value: fn(&Sample) -> f64,
        bar: Option<Bar>,
    ) -> Option<Ratio> {
        let each = self.of(of).filter_map(|sample| {
            let other = self.of(to).find(|other| other.round == sample.round)?;
            Some(value(sample) / value(other))
        });
        let value = median(each);
        value.is_finite().then_some(Ratio { name, value, bar })
    }

    fn ratios(&self) -> Vec<Ratio> {
        let mut all = Vec::new();
        for town in self.every(|sample| sample.town) {
            for concurrency in self.every(|sample| sample.concurrency) {
                self.between_shapes(town, concurrency, &mut all);
                self.of_growth(town, concurrency, &mut all);
                self.of_change(town, concurrency, &mut all);
            }
        }
        all
    }

    /// One shape against another.
    fn between_shapes(&self, town: Town, c: usize, all: &mut Vec<Ratio>) {
        let mut add = |name: &str, of: Shape, to: Shape, value: fn(&Sample) -> f64, bar| {
            let case = |shape| Case {
                town,
                changing: false,
                shape,
                concurrency: c,
            };
            let name = format!("{name}_c{c}{}", town.suffix());
            all.extend(self.ratio(name, case(of), case(to), value, bar));
        };
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
        let bar = Some(Bar::AtMost(0.6));
        add("waypoint_vs_envoy_cpu", ours, envoy, proxy_cpu, bar);
        add("waypoint_vs_envoy_rps", ours, envoy, rate, None);
        add("waypoint_vs_envoy_p50", ours, envoy, p50, None);
        add("waypoint_vs_envoy_rss", ours, envoy, proxy_resident, None);
        add("library_vs_waypoint_rps", library, ours, rate, None);
        add("library_vs_envoy_rps", library, envoy, rate, None);
    }

    /// Every shape against itself where there is less configured.
    fn of_growth(&self, town: Town, c: usize, all: &mut Vec<Ratio>) {
        let Some(smallest) = self
            .every(|sample| sample.town)
            .into_iter()
            .next()
            .filter(|it| *it != town)
        else {
            return;
        };
        let mut add = |name: &str, shape, value: fn(&Sample) -> f64| {
            let case = |town| Case {
                town,
                changing: false,
                shape,
                concurrency: c,
            };
            let name = format!("{name}_c{c}{}", town.suffix());
            all.extend(self.ratio(name, case(town), case(smallest), value, None));
        };
        add("library_growth_cpu", Shape::Library, total_cpu);
        add("waypoint_growth_cpu", Shape::Waypoint, proxy_cpu);
        add("envoy_growth_cpu", Shape::Envoy, proxy_cpu);
        add("library_growth_p50", Shape::Library, p50);
        add("waypoint_growth_p50", Shape::Waypoint, p50);
        add("envoy_growth_p50", Shape::Envoy, p50);
        add("waypoint_growth_rss", Shape::Waypoint, proxy_resident);
        add("envoy_growth_rss", Shape::Envoy, proxy_resident);
    }

    /// Every shape against itself where nothing changes meanwhile.
    fn of_change(&self, town: Town, c: usize, all: &mut Vec<Ratio>) {
        for shape in [Shape::Library, Shape::Waypoint] {
            let case = |changing| Case {
                town,
                changing,
                shape,
                concurrency: c,
            };
            let name = |what: &str| format!("{}_swapping_{what}_c{c}{}", shape.name(), town.suffix());
            all.extend(self.ratio(name("p50"), case(true), case(false), p50, None));
            all.extend(self.ratio(name("p99"), case(true), case(false), |s| s.outcome.p99, None));
        }
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
            "\n{:<28}{:>6}{:>6}{:>4}{:>11}{:>9}{:>9}{:>9}{:>10}   {:<42}resident MiB",
            "shape",
            "rules",
            "swaps",
            "c",
            "requests/s",
            "p50 µs",
            "p90 µs",
            "p99 µs",
            "max µs",
            "CPU µs per request"
        )?;
        for row in self.rows() {
            self.write_row(f, &row)?;
        }
        for skipped in &self.skipped {
            writeln!(f, "SKIPPED {}: {}", skipped.shape, skipped.why)?;
        }
        writeln!(f, "\nratio of medians within each round")?;
        for Ratio { name, value, bar } in self.ratios() {
            write!(f, "{name:<42}{value:>8.3}")?;
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
            "{:<28}{:>6}{:>6.0}{:>4}{:>11.0}{:>9.1}{:>9.1}{:>9.1}{:>10.1}   {:<42}{}",
            format!("{}{}", row.shape, row.town),
            row.rules,
            row.swaps,
            row.concurrency,
            row.requests_per_second,
            row.p50_us,
            row.p90_us,
            row.p99_us,
            row.max_us,
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

fn p50(sample: &Sample) -> f64 {
    sample.outcome.p50
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
