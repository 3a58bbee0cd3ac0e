//! Files of rows: what is configured and what a proxy then does, as inputs and outputs.
//!
//! A row is told by its keys, not by the file it stands in: each file here knows one kind of row, and asks the engine
//! that a request would meet, by way of the compiler where the row holds configuration.

mod admission;
mod balance;
mod bucket;
mod budget;
mod exchange;
mod fault;
mod hash;
mod locality;
mod outlier;
mod reply;
mod retry;
mod route;
mod timeout;
mod world;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Outcome;

/// A file of rows.
#[derive(Debug, Deserialize)]
struct Table {
    id: String,
    checks: Vec<Row>,
}

/// What a row says, without what it says about itself.
type Row = Map<String, Value>;

/// What a row expects, and what came.
struct Seen {
    expected: String,
    observed: String,
}

impl Seen {
    fn new(expected: impl ToString, observed: impl ToString) -> Self {
        Self {
            expected: expected.to_string(),
            observed: observed.to_string(),
        }
    }

    /// Compares the fields that are expected with those observed; others do not count.
    fn fields(expected: &Value, observed: &Map<String, Value>) -> Self {
        let Some(expected) = expected.as_object() else {
            return Self::new(expected, Value::from(observed.clone()));
        };
        let observed: Map<String, Value> = expected
            .keys()
            .map(|key| (key.clone(), observed.get(key).cloned().unwrap_or(Value::Null)))
            .collect();
        Self::new(shown(expected), shown(&observed))
    }
}

/// Fields in the order of their names; whole numbers alike, however they are written.
fn shown(fields: &Map<String, Value>) -> String {
    let mut sorted: Vec<String> = fields
        .iter()
        .map(|(key, value)| match value.as_f64() {
            Some(number) => format!("{key}: {number}"),
            None => format!("{key}: {value}"),
        })
        .collect();
    sorted.sort();
    sorted.join(", ")
}

type Check = fn(Row) -> Result<Seen>;

/// Which keys tell a kind of row: all of them must be there.
const KINDS: &[(&[&str], Check)] = &[
    (&["retry_on", "retry"], retry::condition),
    (&["effective", "retries"], retry::virtual_service),
    (&["effective", "rule"], retry::http_route),
    (&["base_ms", "max_exclusive_ms"], retry::backoff),
    (&["budget", "admit"], budget::admit),
    (&["resource", "effective"], budget::resource),
    (&["config", "results"], outlier::consecutive),
    (&["may_eject"], outlier::percent),
    (&["min_health_percent", "panic"], outlier::panic),
    (&["xxh64_of"], balance::xxhash),
    (&["hosts", "key", "host"], balance::table),
    (&["consistentHash", "key"], hash::key),
    (&["numerator_per_million"], fault::percentage),
    (&["fault", "result"], fault::fault),
    (&["http", "grpc"], reply::grpc),
    (&["cause"], reply::local),
    (&["parsed_ms"], timeout::parsed),
    (&["per_try_effective_ms"], timeout::per_try),
    (&["effective_ms"], timeout::effective),
    (&["connectionPool", "effective"], admission::effective),
    (&["limits", "new_request"], admission::admit),
    (&["bucket", "arrivals_ms"], bucket::bucket),
    (&["denied"], bucket::denied),
    (&["trafficDistribution", "priority"], locality::priority),
    (&["match", "matched"], route::matched),
    // Whatever else a route does, by what it does.
    (&["headers"], route::effect),
    (&["redirect"], route::effect),
    (&["rewrite"], route::effect),
    (&["directResponse"], route::effect),
    (&["mirror"], route::effect),
    (&["mirrors"], route::effect),
    (&["corsPolicy"], route::effect),
    (&["cors"], route::effect),
];

/// Checks every row of a table.
pub(super) fn run(table: Value) -> Result<Vec<Outcome>> {
    let table: Table = serde_json::from_value(table)?;
    let outcome = |row: Row| {
        let id = row.get("id").and_then(Value::as_str).unwrap_or("?");
        let name = format!("{}/{id}", table.id);
        let why = row
            .get("why")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        match check(row) {
            Ok(seen) => Outcome::of(name, seen.expected, seen.observed).because(why),
            Err(error) => Outcome::failed(name, format!("{error:#}")),
        }
    };
    Ok(table.checks.into_iter().map(outcome).collect())
}

fn check(mut row: Row) -> Result<Seen> {
    for about in ["id", "why", "conf", "src", "note", "doubtful", "title", "tags"] {
        row.remove(about);
    }
    let kind = KINDS
        .iter()
        .find(|(keys, _)| keys.iter().all(|key| row.contains_key(*key)));
    match kind {
        Some((_, check)) => check(row),
        None => bail!("nobody knows rows of {:?}", row.keys().collect::<Vec<_>>()),
    }
}

/// A row as its shape; keys that the shape does not have are errors.
fn read<T: DeserializeOwned>(row: Row) -> Result<T> {
    serde_json::from_value(Value::Object(row)).context("the row does not fit its kind")
}
