//! Whose turn comes when.

use std::collections::BTreeMap;

use anyhow::Result;
use inmesh::compile::traffic::{Nearness, Spot};
use inmesh::policy::balance::Locality;
use serde::Deserialize;

use super::{Row, Seen, read};

/// `trafficDistribution` and where everybody is, to each endpoint's priority.
pub(super) fn priority(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Case {
        traffic_distribution: Option<String>,
        client: Place,
        endpoints: BTreeMap<String, Place>,
        priority: BTreeMap<String, u32>,
    }
    let case: Case = read(row)?;
    let nearness = Nearness::of(None, case.traffic_distribution.as_deref(), false);
    let all: Vec<(Spot<'_>, u32)> = case.endpoints.values().map(|it| (it.spot(), 1)).collect();
    let ranks = nearness.ranks(&case.client.spot(), &all);
    let observed: BTreeMap<&String, Option<u32>> = case
        .endpoints
        .keys()
        .zip(ranks)
        .map(|(name, rank)| (name, rank.map(|rank| rank.priority)))
        .collect();
    let expected: BTreeMap<&String, Option<u32>> =
        case.priority.iter().map(|(name, it)| (name, Some(*it))).collect();
    Ok(Seen::new(format!("{expected:?}"), format!("{observed:?}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    #[serde(default)]
    region: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    subzone: String,
    node: Option<String>,
}

impl Place {
    fn spot(&self) -> Spot<'_> {
        Spot {
            locality: Locality {
                region: self.region.as_str().into(),
                zone: self.zone.as_str().into(),
                subzone: self.subzone.as_str().into(),
            },
            node: self.node.as_deref(),
            ..Spot::default()
        }
    }
}
