//! Faults that are asked for.

use anyhow::Result;
use inmesh::compile::traffic::fault as compiled;
use inmesh::config::istio::virtual_service::HTTPFaultInjection;
use inmesh::layer::Refusal;
use inmesh::policy::fault::PerMillion;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::reply::answer;
use super::{Row, Seen, read};

/// A percentage, to millionths.
pub(super) fn percentage(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        percentage: f64,
        numerator_per_million: u32,
    }
    let case: Case = read(row)?;
    Ok(Seen::new(
        case.numerator_per_million,
        PerMillion::percent(case.percentage).get(),
    ))
}

/// `fault` of a route, to what every request meets.
pub(super) fn fault(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        fault: Value,
        #[serde(default)]
        request: Request,
        result: Value,
    }
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Request {
        content_type: Option<String>,
    }
    let mut case: Case = read(row)?;
    // The rows write a number where the API has `{value: ...}`.
    for part in ["delay", "abort"] {
        if let Some(percentage) = case.fault.pointer_mut(&format!("/{part}/percentage"))
            && percentage.is_number()
        {
            *percentage = json!({"value": percentage.clone()});
        }
    }
    let written: HTTPFaultInjection = serde_json::from_value(case.fault)?;
    let policy = compiled(&written).unwrap_or_default();
    // Of all or of nobody: any draw will do.
    let drawn = policy.draw(u64::MAX / 3, u64::MAX / 5);
    let mut observed = Map::new();
    let mut flags = Vec::new();
    if let Some(delay) = drawn.delay {
        observed.insert("delay_ms".into(), (delay.as_millis() as u64).into());
        flags.push("DI".to_owned());
    }
    match drawn.abort {
        None => {
            observed.insert("then".into(), "passthrough".into());
        }
        Some((status, grpc)) => {
            let is_grpc = case
                .request
                .content_type
                .is_some_and(|it| it.starts_with("application/grpc"));
            let refusal = Refusal::fault(status, grpc);
            flags.push(refusal.flags().to_owned());
            observed.extend(answer(refusal, is_grpc)?);
        }
    }
    observed.insert("flag".into(), flags.join(",").into());
    if case.result == "passthrough" {
        let observed = match (drawn.delay, drawn.abort) {
            (None, None) => "passthrough".to_owned(),
            _ => super::shown(&observed),
        };
        return Ok(Seen::new("passthrough", observed));
    }
    Ok(Seen::fields(&case.result, &observed))
}
