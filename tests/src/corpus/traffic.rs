//! Files of rows: what is configured and what a proxy then does, as inputs and outputs.

use anyhow::{Result, bail};
use serde_json::Value;

use super::Outcome;

/// Checks every row of a table; the table's id says which checker its rows are for.
pub(super) fn run(table: Value) -> Result<Vec<Outcome>> {
    let id = table.get("id").and_then(Value::as_str).unwrap_or_default();
    bail!("no checker for the rows of `{id}`")
}
