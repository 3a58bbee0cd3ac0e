//! Consistent hashing: the hash itself, and who owns a key.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use inmesh::policy::balance::{Algorithm, Draw, Tried, hash_of};
use inmesh::policy::traffic::TrafficPolicy;
use serde::Deserialize;

use super::world::endpoints;
use super::{Row, Seen, read};

/// xxHash64.
pub(super) fn xxhash(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        xxh64_of: String,
        value: String,
    }
    let case: Case = read(row)?;
    Ok(Seen::new(case.value, format!("{:016x}", hash_of(case.xxh64_of))))
}

/// Endpoints and a key, to the endpoint.
pub(super) fn table(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        hosts: Vec<SocketAddr>,
        minimum_ring_size: Option<u64>,
        maglev_table_size: Option<u64>,
        table_size: Option<u64>,
        ring_entries: Option<usize>,
        key: String,
        key_hash: Option<String>,
        host: SocketAddr,
    }
    let case: Case = read(row)?;
    let mut policy = TrafficPolicy::default();
    policy.balance.algorithm = match case.maglev_table_size.or(case.table_size) {
        Some(size) => Algorithm::Maglev { size },
        None => Algorithm::RingHash {
            min: case.minimum_ring_size.unwrap_or(1_024),
        },
    };
    let set = endpoints(&case.hosts, policy);
    let hash = hash_of(&case.key);
    let draw = Draw {
        random: 0,
        hash: Some(hash),
        now: Instant::now(),
    };
    let host = set.pick(&draw, &Tried::default());
    let hashed = format!("{hash:016x}");
    let points = set.points();
    ensure!(
        case.key_hash.as_ref().is_none_or(|it| *it == hashed),
        "the key is hashed to {hashed}"
    );
    ensure!(
        case.ring_entries.is_none_or(|it| Some(it) == points),
        "the ring has {points:?} entries"
    );
    let observed = host.map_or_else(|| "nobody".into(), |it| it.addr.to_string());
    Ok(Seen::new(case.host, observed))
}
