//! What VirtualServices mean by a host, a port and a subset.

use std::collections::{BTreeSet, HashMap};

use crate::policy::route::ClusterId;

/// Every destination that can be seen from here, by host.
#[derive(Debug, Default)]
pub(crate) struct Registry<'a> {
    by_host: HashMap<&'a str, Known>,
}

/// One destination.
#[derive(Debug, Default)]
struct Known {
    ports: Vec<(u16, ClusterId)>,
    subsets: HashMap<(Box<str>, u16), ClusterId>,
    /// Those that a DestinationRule declares, whether or not they can be told apart from here.
    declared: BTreeSet<Box<str>>,
    /// A waypoint chooses among the workloads.
    beyond_waypoint: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The whole host name.
    pub(crate) host: &'a str,
    /// The port; may be left out where there is one only.
    pub(crate) port: Option<u16>,
    /// The port that the caller addressed.
    pub(crate) addressed: u16,
    /// The subset.
    pub(crate) subset: Option<&'a str>,
}

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meant {
    pub(crate) cluster: ClusterId,
    /// Whether the subset had to be left to a waypoint, which knows nothing of it.
    pub(crate) subset_lost: bool,
}

/// Why there is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Which field of the destination.
    pub(crate) field: &'static str,
    /// What is wrong.
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) remedy: &'static str,
}

/// A question that was asked, and what it was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    host: Box<str>,
    port: Option<u16>,
    addressed: u16,
    subset: Option<Box<str>>,
    found: Result<Meant, Unknown>,
}

impl Told {
    pub(crate) fn of(asked: Asked<'_>, found: &Result<Meant, Unknown>) -> Self {
        Self {
            host: asked.host.into(),
            port: asked.port,
            addressed: asked.addressed,
            subset: asked.subset.map(Into::into),
            found: found.clone(),
        }
    }

    /// Whether it would be told the same again.
    pub(crate) fn holds(&self, registry: &Registry<'_>) -> bool {
        let now = registry.find(Asked {
            host: &self.host,
            port: self.port,
            addressed: self.addressed,
            subset: self.subset.as_deref(),
        });
        now == self.found
    }
}

impl<'a> Registry<'a> {
    /// Adds a port. Of several destinations with one host the first counts.
    pub(crate) fn add(&mut self, host: &'a str, port: u16, cluster: ClusterId, beyond_waypoint: bool) {
        let known = self.by_host.entry(host).or_default();
        known.beyond_waypoint |= beyond_waypoint;
        if known.ports.iter().all(|(number, _)| *number != port) {
            known.ports.push((port, cluster));
        }
    }

    /// Adds a subset of a port; without a cluster where it cannot be told apart from here.
    pub(crate) fn add_subset(&mut self, host: &'a str, name: &str, port: u16, cluster: Option<ClusterId>) {
        let known = self.by_host.entry(host).or_default();
        known.declared.insert(name.into());
        if let Some(cluster) = cluster {
            known.subsets.entry((name.into(), port)).or_insert(cluster);
        }
    }

    /// The cluster that is meant.
    pub(crate) fn find(&self, asked: Asked<'_>) -> Result<Meant, Unknown> {
        let Some(known) = self.by_host.get(asked.host) else {
            return Err(Unknown {
                field: "host",
                text: format!("`{}` is no service of the mesh", asked.host),
                remedy: "name a Service, or a host of a ServiceEntry, that is visible here",
            });
        };
        let port = match (asked.port, known.ports.as_slice()) {
            (Some(port), _) => port,
            (None, [(port, _)]) => *port,
            (None, _) => asked.addressed,
        };
        let Some((_, cluster)) = known.ports.iter().find(|(number, _)| *number == port) else {
            return Err(Unknown {
                field: "port",
                text: format!("{} has no port {port}", asked.host),
                remedy: "name one of its ports",
            });
        };
        let whole = Meant {
            cluster: *cluster,
            subset_lost: false,
        };
        let Some(subset) = asked.subset.filter(|it| !it.is_empty()) else {
            return Ok(whole);
        };
        let key: (Box<str>, u16) = (subset.into(), port);
        match known.subsets.get(&key) {
            Some(cluster) => Ok(Meant {
                cluster: *cluster,
                subset_lost: false,
            }),
            None if known.beyond_waypoint && known.declared.contains(subset) => Ok(Meant {
                subset_lost: true,
                ..whole
            }),
            None => Err(Unknown {
                field: "subset",
                text: format!(
                    "no DestinationRule that applies here gives {} a subset {subset}",
                    asked.host
                ),
                remedy: "add the subset to a DestinationRule of the host",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_subsets_are_found_or_told_apart() {
        let mut registry = Registry::default();
        registry.add("one", 80, ClusterId(0), false);
        registry.add("two", 80, ClusterId(1), false);
        registry.add("two", 81, ClusterId(2), false);
        registry.add_subset("two", "v1", 81, Some(ClusterId(3)));
        registry.add("far", 80, ClusterId(4), true);
        registry.add_subset("far", "v1", 80, None);
        let find = |host, port, subset| {
            registry
                .find(Asked {
                    host,
                    port,
                    addressed: 81,
                    subset,
                })
                .map(|it| (it.cluster.0, it.subset_lost))
                .map_err(|it| it.field)
        };
        assert_eq!(find("one", None, None), Ok((0, false)));
        assert_eq!(find("two", None, None), Ok((2, false)));
        assert_eq!(find("two", Some(80), Some("")), Ok((1, false)));
        assert_eq!(find("two", None, Some("v1")), Ok((3, false)));
        assert_eq!(find("two", Some(80), Some("v1")), Err("subset"));
        assert_eq!(find("two", None, Some("v2")), Err("subset"));
        assert_eq!(find("two", Some(82), None), Err("port"));
        assert_eq!(find("none", None, None), Err("host"));
        assert_eq!(find("far", None, Some("v1")), Ok((4, true)));
        assert_eq!(find("far", None, Some("v2")), Err("subset"));
    }
}
