//! The table, the growth from 10 to 10,000 rules, and the bars.

use anyhow::Result;
use serde_json::json;

use super::harness::Row;

/// What a decision about a route may cost at 100 rules, in nanoseconds.
const MOST_FOR_ROUTES: f64 = 2_000.0;
/// What a decision about authorization may cost at 100 rules, in nanoseconds.
const MOST_FOR_AUTHZ: f64 = 1_000.0;
/// How much more 10,000 rules may cost than the fewest.
const MOST_GROWTH: f64 = 2.0;

/// One expectation and what came of it.
struct Bar {
    name: String,
    value: f64,
    at_most: f64,
}

/// Prints everything.
///
/// # Errors
/// If a decision allocates.
pub(super) fn print(rows: &[Row], as_json: bool) -> Result<()> {
    let bars = bars(rows);
    let broken: Vec<_> = bars
        .iter()
        // Allocations are exact; times are the machine's too, and are told without failing the run.
        .filter(|bar| bar.name.ends_with("allocations at 100 rules") && bar.value > bar.at_most)
        .map(|bar| bar.name.as_str())
        .collect();
    if as_json {
        let bars: Vec<_> = bars
            .iter()
            .map(|bar| json!({"name": bar.name, "value": bar.value, "at_most": bar.at_most, "met": bar.value <= bar.at_most}))
            .collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({"rows": rows, "bars": bars}))?
        );
    } else {
        table(rows);
        println!();
        for bar in &bars {
            let word = if bar.value <= bar.at_most {
                "met"
            } else {
                "NOT MET"
            };
            println!(
                "{:<58}{:>10.2}   {word}: at most {}",
                bar.name, bar.value, bar.at_most
            );
        }
    }
    anyhow::ensure!(broken.is_empty(), "not met: {}", broken.join(", "));
    Ok(())
}

fn table(rows: &[Row]) {
    println!(
        "{:<11}{:<18}{:>7}{:>14}{:>14}{:>13}{:>14}{:>9}",
        "engine", "world", "rules", "median ns", "fastest ns", "allocations", "naive ns", "naive ×"
    );
    for row in rows {
        print!(
            "{:<11}{:<18}{:>7}{:>14.1}{:>14.1}{:>13.2}",
            row.engine, row.world, row.rules, row.median_ns, row.min_ns, row.allocations
        );
        match row.naive_ns {
            Some(naive) => println!("{naive:>14.1}{:>9.1}", naive / row.median_ns),
            None => println!(),
        }
    }
}

fn bars(rows: &[Row]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for row in rows.iter().filter(|row| row.barred) {
        let what = format!("{}, {}", row.engine, row.world);
        if row.rules == 100 {
            bars.push(Bar {
                name: format!("{what}: ns at 100 rules"),
                value: row.median_ns,
                at_most: if matches!(row.engine, "route" | "list") {
                    MOST_FOR_ROUTES
                } else {
                    MOST_FOR_AUTHZ
                },
            });
            bars.push(Bar {
                name: format!("{what}: allocations at 100 rules"),
                value: row.allocations,
                at_most: 0.0,
            });
        }
        let same = rows
            .iter()
            .filter(|other| (other.engine, other.world) == (row.engine, row.world));
        let least = same.min_by_key(|other| other.rules);
        if let (10_000, Some(least)) = (row.rules, least) {
            bars.push(Bar {
                name: format!("{what}: 10,000 rules against {}", least.rules),
                // The fastest batches: growth is a property of the engine, noise one of the machine.
                value: row.min_ns / least.min_ns,
                at_most: MOST_GROWTH,
            });
        }
    }
    bars
}
