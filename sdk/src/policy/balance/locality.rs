//! Who is near: priorities and shares of endpoints by where they are, as Istio assigns them.

use std::fmt;
use std::sync::Arc;

/// Where a workload runs. Parts that are not known are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone in the region.
    pub zone: Arc<str>,
    /// The part of the zone.
    pub subzone: Arc<str>,
}

impl Locality {
    /// Reads `region/zone/subzone`; later parts may be missing.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(Arc::from);
        let mut next = || parts.next().unwrap_or_default();
        Self {
            region: next(),
            zone: next(),
            subzone: next(),
        }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.subzone.is_empty()
    }

    /// Whether a rule such as `*`, `us-west/*` or `us-west/zone-1` names this place. A rule that ends early names
    /// everything below what it says.
    pub fn matches(&self, rule: &str) -> bool {
        let mut own = [&*self.region, &*self.zone, &*self.subzone].into_iter();
        for part in rule.split('/') {
            match (part, own.next()) {
                ("*", _) => return true,
                (part, Some(own)) if part == own => {}
                _ => return false,
            }
        }
        true
    }

    /// How far away another place is: 0 in the same subzone, 1 in the same zone, 2 in the same region, 3 elsewhere.
    pub fn distance(&self, other: &Self) -> u32 {
        if self.region != other.region {
            3
        } else if self.zone != other.zone {
            2
        } else if self.subzone != other.subzone {
            1
        } else {
            0
        }
    }

    /// The priority of an endpoint there, seen from here: its distance, and what is neither in our region nor in the
    /// region that ours is to fail over to comes last. `failover` lists pairs of regions, from and to.
    pub fn priority(&self, there: &Self, failover: &[(Arc<str>, Arc<str>)]) -> u32 {
        let distance = self.distance(there);
        let target = failover.iter().find(|(from, _)| *from == self.region);
        match target {
            Some((_, to)) if distance == 3 && there.region != *to => 4,
            _ => distance,
        }
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        for part in [&self.zone, &self.subzone] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

/// The label that, if it comes first in a list of labels, tells networks apart.
pub const NETWORK: &str = "topology.istio.io/network";

/// The priority of an endpoint by a list of labels, the most important first (`failoverPriority`): 0 if all are as
/// ours, and later the earlier the first that differs. A label written as `key=value` is compared with that value
/// instead of ours. Another network alone only moves an endpoint behind all those of our own.
pub fn label_priority<'a>(
    labels: &'a [impl AsRef<str>],
    ours: impl Fn(&str) -> Option<&'a str>,
    theirs: impl Fn(&str) -> Option<&'a str>,
) -> u32 {
    let count = labels.len();
    let mut behind = 0;
    for (at, label) in labels.iter().map(AsRef::as_ref).enumerate() {
        let (key, wanted) = match label.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (label, ours(label)),
        };
        // A label that is missing is as good as an empty one.
        if wanted.unwrap_or_default() == theirs(key).unwrap_or_default() {
            continue;
        }
        if at == 0 && label == NETWORK {
            behind = count;
            continue;
        }
        return (count - at + behind) as u32;
    }
    behind as u32
}

/// Renumbers priorities so that they start at 0 and leave out none, keeping their order.
pub fn compact(priorities: &mut [u32]) {
    let mut known: Vec<u32> = priorities.to_vec();
    known.sort_unstable();
    known.dedup();
    for it in priorities {
        *it = known.partition_point(|known| known < it) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_matched() {
        let place = Locality::parse("us-west/zone-1/rack-7");
        assert_eq!(
            (&*place.region, &*place.zone, &*place.subzone),
            ("us-west", "zone-1", "rack-7")
        );
        assert_eq!(place.to_string(), "us-west/zone-1/rack-7");
        assert_eq!(Locality::parse("us-west").to_string(), "us-west");
        assert!(Locality::parse("").is_unknown());
        for rule in [
            "*",
            "us-west/*",
            "us-west",
            "us-west/zone-1/*",
            "us-west/zone-1",
            "us-west/zone-1/rack-7",
        ] {
            assert!(place.matches(rule), "{rule}");
        }
        for rule in [
            "",
            "us-east/*",
            "us-west/zone-2",
            "us-west/zone-1/rack-8",
            "us-west/zone-1/rack-7/u1",
        ] {
            assert!(!place.matches(rule), "{rule}");
        }
    }

    #[test]
    fn the_near_come_first() {
        let here = Locality::parse("r1/z1/s1");
        let at = |text: &str, failover: &[(&str, &str)]| {
            let failover: Vec<_> = failover
                .iter()
                .map(|(a, b)| (Arc::from(*a), Arc::from(*b)))
                .collect();
            here.priority(&Locality::parse(text), &failover)
        };
        assert_eq!(at("r1/z1/s1", &[]), 0);
        assert_eq!(at("r1/z1/s2", &[]), 1);
        assert_eq!(at("r1/z2/s1", &[]), 2);
        assert_eq!(at("r2/z1/s1", &[]), 3);
        assert_eq!(at("r2/z1/s1", &[("r1", "r3")]), 4);
        assert_eq!(at("r3/z1/s1", &[("r1", "r3"), ("r1", "r2")]), 3);
        assert_eq!(at("r2/z1/s1", &[("r9", "r3")]), 3);
        assert_eq!(at("r1/z1/s1", &[("r1", "r3")]), 0);
    }

    #[test]
    fn labels_count_in_their_order() {
        let labels = [NETWORK, "region", "zone"];
        let at = |network: &'static str, region: &'static str, zone: &'static str| {
            let value = move |key: &str| {
                Some(match key {
                    NETWORK => network,
                    "region" => region,
                    _ => zone,
                })
            };
            let ours = |key: &str| if key == NETWORK { None } else { Some("1") };
            label_priority(&labels, ours, value)
        };
        assert_eq!(at("", "1", "1"), 0);
        assert_eq!(at("", "1", "2"), 1);
        assert_eq!(at("", "2", "1"), 2);
        assert_eq!(at("n", "1", "1"), 3);
        assert_eq!(at("n", "2", "1"), 5);
        let given = label_priority(&["version=v1"], |_| Some("v2"), |_| Some("v1"));
        assert_eq!(given, 0);
    }

    #[test]
    fn no_priority_is_left_out() {
        let mut priorities = [5, 2, 2, 9];
        compact(&mut priorities);
        assert_eq!(priorities, [1, 0, 0, 2]);
    }
}
