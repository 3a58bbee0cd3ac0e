//! Local rate limits.

use std::time::Duration;

use anyhow::Result;
use inmesh::layer::{Reason, Refusal};
use inmesh::policy::limit::{BucketPolicy, TokenBucket};
use serde::Deserialize;
use serde_json::Value;

use super::reply::answer;
use super::{Row, Seen, read};

/// A bucket and when requests come, to which of them pass.
pub(super) fn bucket(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Bucket {
        max_tokens: u32,
        tokens_per_fill: Option<u32>,
        fill_interval_ms: u64,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        bucket: Bucket,
        arrivals_ms: Vec<u64>,
        allowed: Vec<bool>,
    }
    let case: Case = read(row)?;
    let policy = BucketPolicy {
        max: case.bucket.max_tokens,
        fill: case.bucket.tokens_per_fill.unwrap_or(1),
        every: Duration::from_millis(case.bucket.fill_interval_ms),
    };
    let bucket = TokenBucket::new(&policy);
    let taken = |at: &u64| bucket.take(&policy, Duration::from_millis(*at)).taken;
    let allowed: Vec<bool> = case.arrivals_ms.iter().map(taken).collect();
    Ok(Seen::new(format!("{:?}", case.allowed), format!("{allowed:?}")))
}

/// What a request that does not pass is answered with.
pub(super) fn denied(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        denied: Value,
    }
    let case: Case = read(row)?;
    let refusal = Refusal::new(Reason::Limited, "");
    let flag = refusal.flags();
    let mut observed = answer(refusal, false)?;
    observed.insert("flag".into(), flag.into());
    Ok(Seen::fields(&case.denied, &observed))
}
