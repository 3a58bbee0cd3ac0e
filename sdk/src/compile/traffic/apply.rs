//! From what is written to what one port of a destination is called by.

use std::sync::Arc;

use super::rules::is_timed;
use super::tls::{Writer, unproved};
use super::{Applied, Blocks, Constraints, Credentials, Demand, Nearness, Rules, Spot, constraint};
use crate::compile::labels::TRAFFIC_DISTRIBUTION;
use crate::compile::namespace::Namespaces;
use crate::compile::service::{Backing, Destination, Port};
use crate::config::istio::destination_rule::Subset;
use crate::config::{Entry, Problem, Resource};
use crate::policy::balance::{Algorithm, Rank};
use crate::policy::tls::Origination;
use crate::policy::traffic::TrafficPolicy;

/// Everything that says how destinations are called.
pub(crate) struct Traffic<'s> {
    pub(crate) rules: Rules<'s>,
    pub(crate) constraints: Constraints<'s>,
    pub(crate) namespaces: &'s Namespaces<'s>,
    /// Where we are.
    pub(crate) own: Spot<'s>,
    /// What applies where nothing is written.
    pub(crate) default: Arc<TrafficPolicy>,
    /// What TLS is begun with.
    pub(crate) credentials: Credentials<'s>,
}

impl Traffic<'_> {
    /// How a port, or a subset of it, is called, and how its endpoints are told near from far.
    pub(crate) fn of<'r>(
        &'r self,
        destination: &'r Destination,
        applied: &Applied<'r>,
        subset: Option<&'r Subset>,
        port: u16,
    ) -> (Arc<TrafficPolicy>, Nearness<'r>) {
        let blocks = Blocks::of(applied.policy.map(|(policy, _)| policy), subset, port);
        let nearness = Nearness::of(
            blocks.load_balancer,
            self.distribution(destination),
            blocks.outlier_detection.is_some(),
        );
        let mut policy = blocks.shared(&self.default);
        let timed = applied.timed || is_timed(&destination.entry);
        if timed && policy.balance.algorithm == Algorithm::LeastRequest {
            let mut own = TrafficPolicy::clone(&policy);
            own.balance.algorithm = Algorithm::PeakEwma;
            policy = Arc::new(own);
        }
        // A rule's own budget comes first.
        if blocks.retry_budget.is_none()
            && let Some(written) = self.constraints.of(destination.kind, &destination.name)
        {
            policy = Arc::new(TrafficPolicy {
                retries: constraint(written),
                ..TrafficPolicy::clone(&policy)
            });
        }
        (policy, nearness)
    }

    /// What must be spoken below HTTP: as a BackendTLSPolicy says, else as the rule does.
    pub(crate) fn demand<'r>(
        &self,
        destination: &Destination,
        applied: &Applied<'r>,
        subset: Option<&'r Subset>,
        port: &Port,
        problems: &mut Vec<Problem>,
    ) -> Demand {
        let blocks = Blocks::of(applied.policy.map(|(policy, _)| policy), subset, port.number);
        let of_policy = applied.policy.iter().map(|(_, entry)| *entry);
        let of_subsets = applied.subsets.iter().map(|(_, entry)| *entry);
        let among: Vec<&Arc<Entry>> = of_policy.chain(of_subsets).collect();
        let writer = blocks.tls.and_then(|tls| Writer::of(tls, &among));
        let broken = applied
            .broken
            .and_then(|it| Some((it.reference(), it.broken.as_ref()?)));
        if let (Some((rule, why)), Origination::None) = (broken, &port.tls) {
            let text = format!("{rule} may demand TLS and cannot be read: {why}");
            return Demand::Begun(Origination::Refused(text.into()));
        }
        match (writer, &port.tls) {
            (Some(writer), Origination::None) => self.credentials.demand(writer, destination, problems),
            (None, Origination::None) => {
                problems.extend(unproved(destination));
                Demand::Nothing
            }
            (writer, origination) => {
                problems.extend(writer.map(|it| it.outranked()));
                Demand::Begun(origination.clone())
            }
        }
    }

    /// What a Service says of who should be near: by its field, its annotation, or its namespace's.
    pub(crate) fn distribution(&self, destination: &Destination) -> Option<&'static str> {
        const WORDS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        let resource = &destination.entry.resource;
        let field = match resource {
            Resource::Service(it) => it.spec.traffic_distribution.as_deref(),
            _ => None,
        };
        if let Some(field) = field {
            return WORDS.into_iter().find(|word| *word == field);
        }
        let of = |text: &str| WORDS.into_iter().find(|word| word.eq_ignore_ascii_case(text));
        match resource.metadata().annotations.get(TRAFFIC_DISTRIBUTION) {
            // Whatever else is written there means "any", whatever the namespace says.
            Some(text) => of(text),
            None => self
                .namespaces
                .annotation(&destination.name.namespace, TRAFFIC_DISTRIBUTION)
                .and_then(of),
        }
    }

    /// The rank of each backing, seen from here.
    pub(crate) fn ranks(&self, nearness: &Nearness<'_>, backings: &[&Backing]) -> Vec<Option<Rank>> {
        if *nearness == Nearness::Off {
            return vec![Some(Rank::default()); backings.len()];
        }
        // Those that are not ready take part in nothing, not even in who comes first.
        let ready: Vec<(Spot<'_>, u32)> = backings
            .iter()
            .filter(|it| it.ready)
            .map(|it| {
                let spot = Spot {
                    locality: it.locality.clone(),
                    node: it.node.as_deref(),
                    cluster: &it.workload.cluster,
                    labels: it.labels(),
                };
                (spot, it.weight)
            })
            .collect();
        let mut ranks = nearness.ranks(&self.own, &ready).into_iter();
        let rank = |it: &&Backing| if it.ready { ranks.next().flatten() } else { None };
        backings.iter().map(rank).collect()
    }
}
