//! The run: every shape set up once, then measured in turn, round after round.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use inmesh_tests::kit::collector::{Collector, Mood};
use inmesh_tests::pki::Root;

use super::args::{Args, Shape};
use super::load::Order;
use super::machine::cores;
use super::report::{Report, Skipped};
use super::shape::{Ground, Running, Sample};

/// Runs everything that was asked for and prints it.
///
/// # Errors
/// If nothing could be measured, or a request failed.
pub(super) fn run(args: &Args) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("inmesh-compare-").tempdir()?;
    let root = Root::new()?;
    let cores = cores();
    if cores.is_none() {
        eprintln!("NOT PINNED: this takes two cores and Linux; ratios against the proxies mean little");
    }
    // Ends with the program. What it takes in is one request in a hundred, where any is sent at all.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let collector = runtime.block_on(Collector::start(Ipv4Addr::LOCALHOST, Mood::Takes))?;
    let mut skipped = Vec::new();
    let mut running = Vec::new();
    let mut shapes = args.shape.clone();
    shapes.sort_unstable();
    shapes.dedup();
    for (town, shape) in args
        .towns()
        .into_iter()
        .flat_map(|town| shapes.iter().map(move |shape| (town, *shape)))
    {
        // Nothing of a town is in it.
        if shape == Shape::Bare && !town.suffix().is_empty() {
            continue;
        }
        let ground = Ground {
            dir: dir.path(),
            root: &root,
            cores,
            town,
            collector: collector.addr(),
        };
        match Running::start(shape, &ground) {
            Ok(set_up) => running.push(set_up),
            Err(error) => {
                eprintln!("SKIPPED: {}{}: {error:#}", shape.title(), town.suffix());
                skipped.push(Skipped {
                    shape: shape.name(),
                    why: format!("{error:#}"),
                });
            }
        }
    }
    if running.is_empty() {
        bail!("there is nothing to measure");
    }
    let samples = measure(args, &mut running)?;
    let report = Report::new(args, cores, samples, skipped);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report.to_json())?);
    } else {
        print!("{report}");
    }
    match report.first_failure() {
        Some(why) => bail!("requests failed: {why}"),
        None => Ok(()),
    }
}

fn measure(args: &Args, running: &mut [Running]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 0..args.rounds() {
        for &concurrency in &args.concurrency {
            for shape in running.iter_mut() {
                let order = Order {
                    concurrency,
                    warm_up: args.warm_up(),
                    window: args.window(),
                };
                let changes = args.changes().filter(|_| shape.is_changeable());
                for changes in [Some(None), changes.map(Some)].into_iter().flatten() {
                    let sample = shape
                        .measure(order, round, changes)
                        .with_context(|| format!("measuring {}", shape.shape.title()))?;
                    if !args.json {
                        progress(args, &sample);
                    }
                    samples.push(sample);
                }
            }
        }
    }
    Ok(samples)
}

fn progress(args: &Args, sample: &Sample) {
    eprintln!(
        "round {} of {}: {}{}{} at {}: {:.0} requests/s",
        sample.round + 1,
        args.rounds(),
        sample.shape.title(),
        sample.town.suffix(),
        if sample.changing { ", changing" } else { "" },
        sample.concurrency,
        sample.outcome.requests as f64 / sample.outcome.seconds,
    );
}
