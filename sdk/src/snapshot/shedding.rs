//! Limits that follow from latency, one for each place, and what is let in first.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, StatusCode};

use super::Place;
use crate::policy::limit::{AdaptiveLimit, Criticality, GradientPolicy};

/// How limits follow, and how others are told.
#[derive(Clone, Debug, PartialEq)]
pub struct SheddingPolicy {
    /// How they follow.
    pub gradient: GradientPolicy,
    /// The status of a refusal.
    pub status: StatusCode,
    /// What is let in first.
    pub importance: Importance,
}

/// How important a request is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    /// By this header, of those whom it is believed.
    pub header: Option<HeaderName>,
    /// Otherwise.
    pub default: Criticality,
}

impl Importance {
    /// How important a request is. A word that is none is as good as no word.
    pub fn of(&self, headers: &HeaderMap, believed: bool) -> Criticality {
        let header = self.header.as_ref().filter(|_| believed);
        let said = header.and_then(|name| headers.get(name)?.to_str().ok());
        said.and_then(Criticality::parse).unwrap_or(self.default)
    }
}

/// Limits for the places that one filter is about: what waits at one of them says nothing of the others.
#[derive(Debug)]
pub struct Shedding {
    policy: SheddingPolicy,
    places: ArcSwap<HashMap<Place, Arc<AdaptiveLimit>>>,
    /// For whatever finds no place.
    rest: Arc<AdaptiveLimit>,
}

/// For how many places there are limits: callers choose the ports of workloads behind a waypoint.
const PLACES: usize = 1_024;

impl Shedding {
    /// Limits that have seen nothing.
    pub fn new(policy: SheddingPolicy) -> Self {
        Self {
            rest: Arc::new(AdaptiveLimit::new(policy.gradient.clone())),
            places: ArcSwap::default(),
            policy,
        }
    }

    /// How they follow.
    pub fn policy(&self) -> &SheddingPolicy {
        &self.policy
    }

    /// The limit of a place.
    pub fn at(&self, place: &Place) -> Arc<AdaptiveLimit> {
        if let Some(limit) = self.places.load().get(place) {
            return Arc::clone(limit);
        }
        let made = Arc::new(AdaptiveLimit::new(self.policy.gradient.clone()));
        self.places.rcu(|all| {
            let mut all = HashMap::clone(all);
            if all.len() < PLACES {
                all.entry(place.clone()).or_insert_with(|| Arc::clone(&made));
            }
            all
        });
        let places = self.places.load();
        Arc::clone(places.get(place).unwrap_or(&self.rest))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shedding(header: Option<&'static str>) -> Shedding {
        Shedding::new(SheddingPolicy {
            gradient: GradientPolicy {
                most: 10,
                least: 3,
                every: Duration::from_millis(100),
                percentile: 0.5,
                measure_every: Duration::from_secs(60),
                jitter: 0.0,
                requests: 50,
                buffer: 0.25,
                fixed_floor: None,
            },
            status: StatusCode::SERVICE_UNAVAILABLE,
            importance: Importance {
                header: header.map(HeaderName::from_static),
                default: Criticality::Sheddable,
            },
        })
    }

    #[test]
    fn each_place_has_its_own_up_to_a_bound() {
        let shedding = shedding(None);
        let at = |port| shedding.at(&Place::Workload { port });
        assert!(Arc::ptr_eq(&at(1), &at(1)));
        assert!(!Arc::ptr_eq(&at(1), &at(2)));
        for port in 0..2_000 {
            at(port);
        }
        assert!(Arc::ptr_eq(&at(5_000), &at(5_001)), "they share what is left");
        assert!(Arc::ptr_eq(&at(1), &at(1)));
    }

    #[test]
    fn a_header_is_believed_only_of_those_who_are() {
        let importance = shedding(Some("x-criticality")).policy.importance;
        let mut headers = HeaderMap::new();
        assert_eq!(importance.of(&headers, true), Criticality::Sheddable);
        headers.insert("x-criticality", "Critical".parse().unwrap());
        assert_eq!(importance.of(&headers, true), Criticality::Critical);
        assert_eq!(importance.of(&headers, false), Criticality::Sheddable);
        headers.insert("x-criticality", "whatever".parse().unwrap());
        assert_eq!(importance.of(&headers, true), Criticality::Sheddable);
    }
}
