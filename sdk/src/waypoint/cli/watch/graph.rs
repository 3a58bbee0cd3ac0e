//! `waypoint graph`: who calls whom.

use clap::Args;
use serde_json::Value;

use super::endpoint::Endpoint;
use super::shown::{millis, rate, share, table, text};
use crate::mesh::Error;
use crate::waypoint::cli::{FINE, Output, runtime};

#[derive(Debug, Args)]
pub(in crate::waypoint::cli) struct Graph {
    #[command(flatten)]
    endpoint: Endpoint,

    /// Over how many seconds rates are told, at most 30.
    #[arg(short, long, default_value_t = 4.0, value_name = "SECONDS")]
    window: f64,

    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Graph {
    pub(in crate::waypoint::cli) fn main(self) -> Result<u8, Error> {
        let path = format!("/live/graph?window={}", self.window);
        let graph = runtime(1)?.block_on(self.endpoint.get(&path))?;
        match self.output {
            Output::Text => print!("{}", lines(&graph)),
            output => output.print(&graph)?,
        }
        Ok(FINE)
    }
}

fn lines(graph: &Value) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut edges: Vec<&Value> = graph["edges"].as_array().into_iter().flatten().collect();
    edges.sort_by(|a, b| {
        let rate = |edge: &Value| edge["rate"].as_f64().unwrap_or(0.0);
        rate(b).total_cmp(&rate(a))
    });
    for edge in edges {
        let connections = &edge["connections"];
        let calls = match connections["open"].as_u64() {
            Some(open) => format!("{open} open"),
            None => rate(&edge["rate"]),
        };
        rows.push(vec![
            name(graph, &edge["source"]),
            name(graph, &edge["target"]),
            text(edge, "protocol"),
            calls,
            share(&edge["failedShare"]),
            share(&edge["deniedShare"]),
            millis(&edge["p50Ms"]),
            millis(&edge["p99Ms"]),
            match edge["mtls"].as_bool() {
                Some(true) => "mTLS".to_owned(),
                Some(false) => "PLAIN".to_owned(),
                None => "?".to_owned(),
            },
        ]);
    }
    match rows.is_empty() {
        true => "no call has been counted yet\n".to_owned(),
        false => table(
            &[
                "FROM", "TO", "PROTOCOL", "CALLS", "FAILED", "DENIED", "P50", "P99", "SECURED",
            ],
            &rows,
        ),
    }
}

/// What people call a node.
pub(super) fn name(graph: &Value, id: &Value) -> String {
    let nodes = graph["nodes"].as_array().into_iter().flatten();
    let node = nodes.into_iter().find(|node| node["id"] == *id);
    let Some(node) = node else {
        return super::shown::clean(id.as_str().unwrap_or_default());
    };
    let (namespace, name) = (text(node, "namespace"), text(node, "name"));
    let name = match namespace.is_empty() {
        true => name,
        false => format!("{namespace}/{name}"),
    };
    match node["kind"] == "service" {
        true => format!("{name} (service)"),
        false => name,
    }
}
