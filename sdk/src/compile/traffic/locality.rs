//! `localityLbSetting`, `zoneAwareLbSetting` and `trafficDistribution`: whose turn comes when.

use std::sync::Arc;

use crate::compile::labels::{CLUSTER, HOSTNAME, REGION, SUBZONE, ZONE};
use crate::config::Labels;
use crate::config::istio::destination_rule::{
    LoadBalancerSettings, LocalityDistribute, LocalityFailover, LocalityLoadBalancerSetting,
};
use crate::policy::balance::{Locality, NETWORK, Rank, compact, label_priority};

/// Where a workload is, as far as that is known.
#[derive(Clone, Debug, Default)]
pub struct Spot<'a> {
    /// Region, zone and subzone.
    pub locality: Locality,
    /// The node it runs on.
    pub node: Option<&'a str>,
    /// Its cluster.
    pub cluster: &'a str,
    /// Its labels.
    pub labels: Option<&'a Labels>,
}

impl Spot<'_> {
    /// What a label of `failoverPriority` is compared with. Labels that say where something is mean the place, whoever
    /// has carried it.
    fn label(&self, key: &str) -> Option<&str> {
        let known = |text: &'_ str| !text.is_empty();
        let own = self.labels.and_then(|it| it.get(key)).map(String::as_str);
        match key {
            REGION => Some(&*self.locality.region).filter(|it| known(it)).or(own),
            ZONE => Some(&*self.locality.zone).filter(|it| known(it)).or(own),
            SUBZONE => Some(&*self.locality.subzone).filter(|it| known(it)).or(own),
            CLUSTER => own.or(Some(self.cluster)),
            HOSTNAME => self.node.or(own),
            _ => own,
        }
    }
}

/// How the endpoints of a destination are told near from far. At most one way applies.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Nearness<'a> {
    /// They are not.
    #[default]
    Off,
    /// By distance, with regions that others fail over to.
    Distance(Vec<(Arc<str>, Arc<str>)>),
    /// By labels, then by distance if regions are named.
    Labels(Vec<&'a str>, Vec<(Arc<str>, Arc<str>)>),
    /// By region only, then by the regions that others fail over to (`zoneAwareLbSetting`).
    Regions(Vec<&'a str>, Vec<(Arc<str>, Arc<str>)>),
    /// By weight.
    Distribute(&'a [LocalityDistribute]),
}

impl<'a> Nearness<'a> {
    /// What applies: the DestinationRule's word, else the Service's (`trafficDistribution`), else Istio's default, which
    /// is by distance as soon as outliers are detected (only then does anybody fail over).
    pub fn of(
        balancer: Option<&'a LoadBalancerSettings>,
        distribution: Option<&str>,
        has_outlier: bool,
    ) -> Self {
        if let Some(zones) = balancer.and_then(|it| it.zone_aware_lb_setting.as_ref()) {
            return match zones.enabled {
                Some(false) => Self::Off,
                _ => Self::Regions(
                    zones.failover_priority.iter().map(String::as_str).collect(),
                    regions(&zones.failover),
                ),
            };
        }
        if let Some(written) = balancer.and_then(|it| it.locality_lb_setting.as_ref()) {
            return Self::written(written, has_outlier);
        }
        match distribution {
            Some("PreferClose" | "PreferSameZone") => Self::Labels(vec![NETWORK, REGION, ZONE], Vec::new()),
            Some("PreferSameNode") => {
                Self::Labels(vec![NETWORK, REGION, ZONE, SUBZONE, HOSTNAME], Vec::new())
            }
            _ if has_outlier => Self::Distance(Vec::new()),
            _ => Self::Off,
        }
    }

    fn written(written: &'a LocalityLoadBalancerSetting, has_outlier: bool) -> Self {
        if written.enabled == Some(false) {
            return Self::Off;
        }
        if !written.distribute.is_empty() {
            return Self::Distribute(&written.distribute);
        }
        if !has_outlier {
            return Self::Off;
        }
        let failover = regions(&written.failover);
        match written.failover_priority.is_empty() {
            true => Self::Distance(failover),
            false => Self::Labels(
                written.failover_priority.iter().map(String::as_str).collect(),
                failover,
            ),
        }
    }

    /// The rank of each endpoint, seen from `own`, with its weight; `None` for those that get nothing.
    pub fn ranks(&self, own: &Spot<'_>, all: &[(Spot<'_>, u32)]) -> Vec<Option<Rank>> {
        let priorities: Vec<u32> = match self {
            Self::Off => return vec![Some(Rank::default()); all.len()],
            Self::Distribute(rules) => return distribute(rules, own, all),
            Self::Distance(failover) => {
                let of = |(it, _): &(Spot<'_>, u32)| own.locality.priority(&it.locality, failover);
                all.iter().map(of).collect()
            }
            Self::Labels(labels, failover) => {
                let first = by_labels(labels, own, all);
                if failover.is_empty() {
                    first
                } else {
                    let then = |(it, _): &(Spot<'_>, u32)| own.locality.priority(&it.locality, failover);
                    refine(first, all.iter().map(then), 5)
                }
            }
            Self::Regions(labels, failover) => {
                let first = match labels.is_empty() {
                    true => vec![0; all.len()],
                    false => by_labels(labels, own, all),
                };
                let then = |(it, _): &(Spot<'_>, u32)| match own.locality.priority(&it.locality, failover) {
                    0..=2 => 0,
                    3 if !failover.is_empty() => 1,
                    _ => 2,
                };
                refine(first, all.iter().map(then), 3)
            }
        };
        let mut priorities = priorities;
        compact(&mut priorities);
        let rank = |priority| {
            Some(Rank {
                priority,
                ..Rank::default()
            })
        };
        priorities.into_iter().map(rank).collect()
    }
}

fn regions(written: &[LocalityFailover]) -> Vec<(Arc<str>, Arc<str>)> {
    written
        .iter()
        .map(|it| (it.from.as_str().into(), it.to.as_str().into()))
        .collect()
}

fn by_labels(labels: &[&str], own: &Spot<'_>, all: &[(Spot<'_>, u32)]) -> Vec<u32> {
    let of = |(it, _): &(Spot<'_>, u32)| label_priority(labels, |key| own.label(key), |key| it.label(key));
    let mut priorities = all.iter().map(of).collect::<Vec<_>>();
    compact(&mut priorities);
    priorities
}

/// Sorts those of one priority further; `count` is how many finer ones there may be.
fn refine(first: Vec<u32>, then: impl Iterator<Item = u32>, count: u32) -> Vec<u32> {
    first.into_iter().zip(then).map(|(a, b)| a * count + b).collect()
}

/// Shares by locality. Whoever is in none of the localities that ours sends to gets nothing.
fn distribute(rules: &[LocalityDistribute], own: &Spot<'_>, all: &[(Spot<'_>, u32)]) -> Vec<Option<Rank>> {
    let Some(rule) = rules.iter().find(|it| own.locality.matches(&it.from)) else {
        return vec![Some(Rank::default()); all.len()];
    };
    let mut localities: Vec<&Locality> = all.iter().map(|(it, _)| &it.locality).collect();
    localities.sort();
    localities.dedup();
    let group = |it: &Locality| localities.partition_point(|known| *known < it);
    let weight = |at: usize| -> u64 {
        let here = all.iter().filter(|(it, _)| it.locality == *localities[at]);
        here.map(|(_, weight)| u64::from(*weight)).sum()
    };
    let mut shares: Vec<Option<u32>> = vec![None; localities.len()];
    // The most particular first: a locality counts with the first that names it.
    let mut to: Vec<(&String, &u32)> = rule.to.iter().collect();
    to.sort_by_key(|(name, _)| std::cmp::Reverse(name.split('/').filter(|part| *part != "*").count()));
    for (name, share) in to {
        let matched: Vec<usize> = (0..localities.len())
            .filter(|at| shares[*at].is_none() && localities[*at].matches(name))
            .collect();
        // Several localities under one name share by how much they can serve.
        let total: u64 = matched.iter().map(|at| weight(*at)).sum();
        for at in matched {
            let part = (u64::from(*share) * weight(at)).div_ceil(total.max(1));
            shares[at] = Some(part as u32);
        }
    }
    let rank = |(it, _): &(Spot<'_>, u32)| {
        let at = group(&it.locality);
        let share = shares[at].filter(|share| *share > 0)?;
        Some(Rank {
            priority: 0,
            group: at as u32,
            share,
        })
    };
    all.iter().map(rank).collect()
}
