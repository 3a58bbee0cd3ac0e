//! What compiling costs: time, and memory at its peak.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use inmesh::compile::{Compiled, Compiler, Handover, compile};
use inmesh::config::{ResourceStore, yaml};
use inmesh::name::{Kind, ResourceRef};
use serde::Serialize;
use serde_json::json;

use crate::engines::compile::{node, read, services, world};
use crate::engines::telemetry::fill;

/// Compiles worlds of growing size: time, and memory at its peak.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// How many rules or services.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000])]
    pub sizes: Vec<usize>,
    /// How often each step is done; medians are reported.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
}

/// The allocator, as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    /// What is allocated.
    pub now: fn() -> usize,
    /// The most that was since the reset.
    pub peak: fn() -> usize,
    /// Begins anew.
    pub reset: fn(),
}

/// One step in one world.
#[derive(Clone, Debug, Serialize)]
struct Row {
    world: &'static str,
    size: usize,
    step: &'static str,
    milliseconds: f64,
    /// What was allocated at most, besides what was there before.
    peak_mib: f64,
    /// What is left of it: the result.
    kept_mib: f64,
}

/// A change to one resource of the world.
const CHANGED: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: route-0, namespace: default}\n\
     spec:\n  parentRefs: [{group: '', kind: Service, name: NAME, port: 80}]\n  rules:\n  \
     - matches: [{path: {type: PathPrefix, value: /changed}}]\n    backendRefs: [{name: NAME, port: 80}]\n";

/// Measures and prints everything.
///
/// # Errors
/// If a world cannot be read.
pub fn main(args: &Args, meter: &Meter) -> Result<()> {
    let mut rows = Vec::new();
    for &size in &args.sizes {
        rows.extend(measure(
            args,
            meter,
            "route rules",
            size,
            &world(size, 0)?,
            "server",
        )?);
        rows.extend(measure(
            args,
            meter,
            "policies",
            size,
            &world(0, size)?,
            "server",
        )?);
        rows.extend(measure(
            args,
            meter,
            "services",
            size,
            &services(size)?,
            "service-0",
        )?);
        rows.extend(changes(args, meter, size)?);
        // Not compiled, but of the same question: what it takes to keep so many.
        let filled = taken(args, meter, || Ok(fill(size)))?;
        rows.push(Row {
            world: "metrics",
            size,
            step: "count in so many series",
            milliseconds: filled.milliseconds,
            peak_mib: filled.peak as f64 / MIB,
            kept_mib: filled.kept as f64 / MIB,
        });
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!({"rows": rows}))?);
        return Ok(());
    }
    println!(
        "{:<13}{:>7}  {:<26}{:>11}{:>11}{:>11}",
        "world", "size", "step", "ms", "peak MiB", "kept MiB"
    );
    for row in rows {
        println!(
            "{:<13}{:>7}  {:<26}{:>11.2}{:>11.2}{:>11.2}",
            row.world, row.size, row.step, row.milliseconds, row.peak_mib, row.kept_mib
        );
    }
    Ok(())
}

fn measure(
    args: &Args,
    meter: &Meter,
    world: &'static str,
    size: usize,
    text: &str,
    service: &str,
) -> Result<Vec<Row>> {
    let row = |step, taken: Taken| Row {
        world,
        size,
        step,
        milliseconds: taken.milliseconds,
        peak_mib: taken.peak as f64 / MIB,
        kept_mib: taken.kept as f64 / MIB,
    };
    let again = |store: &ResourceStore, previous: Option<&Compiled>| {
        let previous = previous.map(|it| &it.snapshot);
        compile(store, &node(), &Handover::default(), previous)
    };
    let store = read(text)?;
    let first = again(&store, None);
    let mut changed = store.clone();
    for entry in yaml::read("changed.yaml", &CHANGED.replace("NAME", service), None).entries {
        changed.apply(entry);
    }
    Ok(vec![
        row("read the YAML", taken(args, meter, || read(text))?),
        row("compile", taken(args, meter, || Ok(again(&store, None)))?),
        row(
            "compile after one change",
            taken(args, meter, || Ok(again(&changed, Some(&first))))?,
        ),
    ])
}

/// What a resource becomes, and what it becomes after that; nothing is its end.
struct Turn {
    what: &'static str,
    resource: ResourceRef,
    texts: [Option<String>; 2],
}

fn turns() -> [Turn; 6] {
    let turn = |what, kind, name: &str, texts: [Option<&str>; 2], rest: &dyn Fn(&str) -> String| Turn {
        what,
        resource: match kind {
            Kind::Namespace => ResourceRef::new(kind, "", name),
            Kind::ConfigMap => ResourceRef::new(kind, "istio-system", name),
            kind => ResourceRef::new(kind, "default", name),
        },
        texts: texts.map(|it| it.map(rest)),
    };
    [
        turn(
            "one pod not ready",
            Kind::Pod,
            "service-0-0",
            [Some("False"), Some("True")],
            &|ready| {
                format!(
                    "apiVersion: v1\nkind: Pod\nmetadata: {{name: service-0-0, namespace: default, labels: {{app: service-0, \
                     networking.istio.io/tunnel: http}}}}\nspec: {{serviceAccountName: service-0}}\nstatus: {{phase: Running, \
                     podIP: 10.0.0.1, conditions: [{{type: Ready, status: '{ready}'}}]}}\n"
                )
            },
        ),
        turn(
            "one route",
            Kind::HTTPRoute,
            "route-0",
            [Some("/changed"), Some("/api")],
            &|path| CHANGED.replace("NAME", "service-0").replace("/changed", path),
        ),
        turn(
            "one policy",
            Kind::AuthorizationPolicy,
            "policy",
            [Some("GET"), Some("POST")],
            &|method| {
                format!(
                    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: policy, namespace: default}}\n\
                     spec: {{rules: [{{to: [{{operation: {{methods: [{method}]}}}}]}}]}}\n"
                )
            },
        ),
        turn(
            "one namespace's label",
            Kind::Namespace,
            "default",
            [Some("one"), Some("another")],
            &|team| {
                format!(
                    "apiVersion: v1\nkind: Namespace\nmetadata: {{name: default, labels: {{team: {team}}}}}\n"
                )
            },
        ),
        turn(
            "one service added or gone",
            Kind::Service,
            "another",
            [Some("another"), None],
            &|name| {
                format!(
                    "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
                     spec: {{clusterIP: 10.97.0.1, selector: {{app: service-0}}, ports: [{{name: http, port: 80}}]}}\n"
                )
            },
        ),
        turn(
            "the mesh configuration",
            Kind::ConfigMap,
            "istio",
            [Some("one.local"), Some("another.local")],
            &|domain| {
                format!(
                    "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
                     data: {{mesh: 'trustDomain: {domain}'}}\n"
                )
            },
        ),
    ]
}

/// What one change costs who has compiled before, in the world of so many services.
fn changes(args: &Args, meter: &Meter, size: usize) -> Result<Vec<Row>> {
    let mut store = read(&services(size)?)?;
    let mut compiler = Compiler::default();
    let mut rows = Vec::new();
    let mut row = |step, taken: Taken| {
        rows.push(Row {
            world: "services",
            size,
            step,
            milliseconds: taken.milliseconds,
            peak_mib: taken.peak as f64 / MIB,
            kept_mib: taken.kept as f64 / MIB,
        });
    };
    let mut last = compiler.compile(&store, &node(), &Handover::default(), None);
    let nothing = taken(args, meter, || {
        Ok(compiler.compile(&store, &node(), &Handover::default(), Some(&last.snapshot)))
    })?;
    row("nothing", nothing);
    for turn in turns() {
        let mut texts = turn.texts.iter().cycle();
        let taken = taken(args, meter, || {
            match texts.next().into_iter().flatten().next() {
                None => drop(store.delete(&turn.resource)),
                Some(text) => {
                    let entries = yaml::read("changed.yaml", text, None).entries;
                    entries.into_iter().for_each(|it| store.apply(it));
                }
            }
            let next = compiler.compile(&store, &node(), &Handover::default(), Some(&last.snapshot));
            Ok(std::mem::replace(&mut last, next))
        })?;
        row(turn.what, taken);
    }
    // What it keeps is what is let go of with it.
    let before = (meter.now)();
    drop(compiler);
    let kept = before.saturating_sub((meter.now)());
    row(
        "kept for the next time",
        Taken {
            milliseconds: 0.0,
            peak: kept,
            kept,
        },
    );
    Ok(rows)
}

const MIB: f64 = (1 << 20) as f64;

/// Medians.
struct Taken {
    milliseconds: f64,
    peak: usize,
    kept: usize,
}

fn taken<T>(args: &Args, meter: &Meter, mut step: impl FnMut() -> Result<T>) -> Result<Taken> {
    let mut all = Vec::new();
    for _ in 0..args.rounds.max(1) {
        let before = (meter.now)();
        (meter.reset)();
        let start = Instant::now();
        let made = step()?;
        all.push(Taken {
            milliseconds: start.elapsed().as_secs_f64() * 1e3,
            peak: (meter.peak)().saturating_sub(before),
            kept: (meter.now)().saturating_sub(before),
        });
        drop(made);
    }
    all.sort_by(|a, b| a.milliseconds.total_cmp(&b.milliseconds));
    let middle = all.len() / 2;
    all.into_iter().nth(middle).context("nothing was measured")
}
