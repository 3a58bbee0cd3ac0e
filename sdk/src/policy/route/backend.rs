//! Backends and their shares.

use std::sync::Arc;

use super::{ClusterId, Cors, HeaderEdits, Mirror, Redirect, Rewrite, Session};
use crate::policy::authorizer::Authorizer;

/// Where a share of a rule's requests goes.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Who gets them.
    pub cluster: Target,
    /// The share, relative to its siblings'. Zero gets nothing.
    pub weight: u32,
    /// Edits of the request's headers, after the rule's.
    pub request: HeaderEdits,
    /// Edits of the response's headers, before the rule's.
    pub response: HeaderEdits,
    /// The rewrite of host and path; what it says of either counts before what the rule's says.
    pub rewrite: Option<Rewrite>,
    /// Who gets copies, beside the rule's.
    pub mirrors: Box<[Mirror]>,
    /// Which other origins may use it, in place of the rule's.
    pub cors: Option<Cors>,
    /// Who must allow a request, beside the rule's authorizer.
    pub authorizer: Option<Arc<Authorizer>>,
    /// How the requests of a session are kept with this backend, where the rule does not say.
    pub session: Option<Arc<Session>>,
}

impl Backend {
    /// A backend without edits.
    pub fn new(cluster: Target, weight: u32) -> Self {
        Self {
            cluster,
            weight,
            request: HeaderEdits::default(),
            response: HeaderEdits::default(),
            rewrite: None,
            mirrors: Box::default(),
            cors: None,
            authorizer: None,
            session: None,
        }
    }
}

/// Who gets a request. The set is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A cluster of the snapshot that holds the table.
    Cluster(ClusterId),
    /// Nobody: the caller is sent elsewhere.
    Redirect(Redirect),
    /// Nobody, for the reason given: the share is answered with [`RouteRule::failure`](super::RouteRule::failure).
    Invalid(Arc<str>),
}

/// The backends of a rule, at least one of them with a share.
#[derive(Clone, Debug)]
pub struct Backends {
    list: Box<[Backend]>,
    /// Running sums of the weights: backend `i` owns `[ends[i - 1], ends[i])`.
    ends: Box<[u64]>,
}

impl Backends {
    /// Backends in the order written; `None` if nobody has a share.
    pub fn new(list: Vec<Backend>) -> Option<Self> {
        let mut sum = 0_u64;
        let ends: Box<[u64]> = list
            .iter()
            .map(|backend| {
                sum = sum.saturating_add(u64::from(backend.weight));
                sum
            })
            .collect();
        (sum > 0).then(|| Self {
            list: list.into(),
            ends,
        })
    }

    /// The backend that a uniformly random number stands for.
    pub fn pick(&self, random: u64) -> &Backend {
        &self.list[self.pick_index(random)]
    }

    /// As [`Backends::pick`], the index.
    pub fn pick_index(&self, random: u64) -> usize {
        let total = self.ends.last().copied().unwrap_or(0);
        // Multiply and shift: uniform without the bias or cost of a remainder, and always below `total`.
        let point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
        let index = self.ends.partition_point(|end| *end <= point);
        index.min(self.list.len() - 1)
    }

    /// A backend by index.
    pub fn get(&self, index: usize) -> Option<&Backend> {
        self.list.get(index)
    }

    /// All backends, those without a share included.
    pub fn iter(&self) -> impl Iterator<Item = &Backend> {
        self.list.iter()
    }

    /// As [`Backends::iter`], to be completed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Backend> {
        self.list.iter_mut()
    }

    /// The sum of all weights, never zero.
    pub fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(weights: &[u32]) -> Option<Backends> {
        let one =
            |(index, weight): (usize, &u32)| Backend::new(Target::Cluster(ClusterId(index as u32)), *weight);
        Backends::new(weights.iter().enumerate().map(one).collect())
    }

    #[test]
    fn shares_follow_the_weights_exactly() {
        let backends = backends(&[70, 0, 30, 0]).unwrap();
        let mut counts = [0_u32; 4];
        for step in 0..1000_u64 {
            let random = step * (u64::MAX / 1000) + u64::MAX / 2000;
            if let Target::Cluster(ClusterId(id)) = backends.pick(random).cluster {
                counts[id as usize] += 1;
            }
        }
        assert_eq!(counts, [700, 0, 300, 0]);
    }

    #[test]
    fn a_backend_without_a_share_is_never_picked() {
        let backends = backends(&[0, 1, 0]).unwrap();
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            assert_eq!(backends.pick(random).weight, 1);
        }
    }

    #[test]
    fn no_share_at_all_is_no_backends() {
        assert!(backends(&[]).is_none());
        assert!(backends(&[0, 0]).is_none());
    }
}
