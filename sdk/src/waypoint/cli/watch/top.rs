//! `waypoint top`: what is called most, worst and slowest, for as long as one looks.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::graph::name;
use super::shown::{millis, rate, share, table};
use crate::mesh::Error;
use crate::waypoint::cli::{FINE, Output, runtime};

#[derive(Debug, Args)]
pub(in crate::waypoint::cli) struct Top {
    #[command(flatten)]
    endpoint: Endpoint,

    /// What comes first.
    #[arg(short, long, value_enum, default_value_t)]
    sort: Sort,

    /// How many are shown.
    #[arg(short, long, default_value_t = 30, value_name = "COUNT")]
    limit: usize,

    /// Show it once instead of again and again; always so with another output than text, and where that is no terminal.
    #[arg(long)]
    once: bool,

    /// Seconds from one to the next.
    #[arg(short, long, default_value_t = 2.0, value_name = "SECONDS")]
    interval: f64,

    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Sort {
    #[default]
    Rate,
    Failed,
    Denied,
    P99,
}

impl Top {
    pub(in crate::waypoint::cli) fn main(self) -> Result<u8, Error> {
        runtime(1)?.block_on(self.run())
    }

    async fn run(self) -> Result<u8, Error> {
        let mut graph = self.endpoint.get("/live/graph?window=2").await?;
        if self.output != Output::Text {
            self.output
                .print(&json!({ "windowSeconds": graph["windowSeconds"], "called": self.rows(&graph) }))?;
            return Ok(FINE);
        }
        let mut stdout = std::io::stdout();
        let once = self.once || !stdout.is_terminal();
        let pause = Duration::try_from_secs_f64(self.interval).unwrap_or(Duration::from_secs(2));
        loop {
            let shown = self.text(&graph);
            // From the top of an empty screen. A terminal that is gone has nobody to tell.
            let written = match once {
                true => write!(stdout, "{shown}"),
                false => write!(stdout, "\u{1b}[2J\u{1b}[H{shown}"),
            };
            if once || written.and_then(|()| stdout.flush()).is_err() {
                return Ok(FINE);
            }
            tokio::time::sleep(pause.max(Duration::from_millis(200))).await;
            graph = self.endpoint.get("/live/graph").await?;
        }
    }

    fn text(&self, graph: &Value) -> String {
        let called = self.rows(graph);
        let rows: Vec<Vec<String>> = called
            .iter()
            .map(|it| {
                vec![
                    it["name"].as_str().unwrap_or_default().to_owned(),
                    rate(&it["rate"]),
                    share(&it["failedShare"]),
                    share(&it["deniedShare"]),
                    millis(&it["p50Ms"]),
                    millis(&it["p99Ms"]),
                    it["callers"].to_string(),
                ]
            })
            .collect();
        let window = graph["windowSeconds"].as_f64();
        let window = window.map_or_else(
            || "since the beginning".to_owned(),
            |it| format!("over {it:.0} s"),
        );
        let heads = ["CALLED", "RATE", "FAILED", "DENIED", "P50", "P99", "CALLERS"];
        format!(
            "generation {}, {window}\n\n{}",
            graph["generation"],
            table(&heads, &rows)
        )
    }

    /// What is called, by whom together how often and how well.
    fn rows(&self, graph: &Value) -> Vec<Value> {
        let mut called: BTreeMap<String, Called> = BTreeMap::new();
        for edge in graph["edges"].as_array().into_iter().flatten() {
            // A call counts once: on its way to the service, not on from there.
            let from_service = edge["source"]
                .as_str()
                .is_some_and(|id| id.starts_with("service:"));
            if !from_service {
                called.entry(name(graph, &edge["target"])).or_default().add(edge);
            }
        }
        let mut rows: Vec<(f64, Value)> = called
            .into_iter()
            .map(|(name, it)| (it.rank(self.sort), it.row(&name)))
            .collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        rows.into_iter().take(self.limit).map(|(_, row)| row).collect()
    }
}

#[derive(Debug, Default)]
struct Called {
    callers: u32,
    rate: Option<f64>,
    requests: f64,
    failed: f64,
    denied: f64,
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Called {
    fn add(&mut self, edge: &Value) {
        let number = |field: &str| edge[field].as_f64();
        let weight = number("rate").unwrap_or_else(|| number("requests").unwrap_or(0.0));
        let worst = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        self.callers += 1;
        self.requests += weight;
        self.failed += weight * number("failedShare").unwrap_or(0.0);
        self.denied += weight * number("deniedShare").unwrap_or(0.0);
        self.rate = number("rate")
            .map(|rate| rate + self.rate.unwrap_or(0.0))
            .or(self.rate);
        // Of callers together no quantile is known but that it is none of these's worst.
        self.p50 = worst(self.p50, number("p50Ms"));
        self.p99 = worst(self.p99, number("p99Ms"));
    }

    fn rank(&self, sort: Sort) -> f64 {
        match sort {
            Sort::Rate => self.requests,
            Sort::Failed => self.failed,
            Sort::Denied => self.denied,
            Sort::P99 => self.p99.unwrap_or(0.0),
        }
    }

    fn row(&self, name: &str) -> Value {
        let share = |part: f64| {
            if self.requests > 0.0 {
                part / self.requests
            } else {
                0.0
            }
        };
        json!({
            "name": name,
            "callers": self.callers,
            "rate": self.rate,
            "failedShare": share(self.failed),
            "deniedShare": share(self.denied),
            "p50Ms": self.p50,
            "p99Ms": self.p99,
        })
    }
}
