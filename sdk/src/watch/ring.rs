//! The last requests.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Exchange, Filter};

/// How many requests of any kind are remembered.
const RECENT: usize = 500;
/// How many that were refused, failed or were slow; the others do not displace them.
const REMARKABLE: usize = 200;

/// The last requests.
#[derive(Debug, Default)]
pub(super) struct Ring {
    next: u64,
    recent: VecDeque<Arc<Exchange>>,
    remarkable: VecDeque<Arc<Exchange>>,
}

impl Ring {
    /// The number of the next request.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Remembers one more.
    pub(super) fn add(&mut self, exchange: Arc<Exchange>) {
        let (ring, most) = match exchange.is_remarkable() {
            true => (&mut self.remarkable, REMARKABLE),
            false => (&mut self.recent, RECENT),
        };
        if ring.len() >= most {
            ring.pop_front();
        }
        ring.push_back(exchange);
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Exchange>> {
        [&self.recent, &self.remarkable].into_iter().find_map(|ring| {
            let at = ring.binary_search_by_key(&id, |exchange| exchange.id).ok()?;
            ring.get(at).cloned()
        })
    }

    /// The newest first.
    pub(super) fn newest(&self, filter: &Filter, limit: usize) -> Vec<Arc<Exchange>> {
        let mut all: Vec<_> = self.recent.iter().chain(&self.remarkable).collect();
        all.sort_unstable_by_key(|exchange| std::cmp::Reverse(exchange.id));
        let found = all.into_iter().filter(|exchange| filter.admits(exchange));
        found.take(limit).cloned().collect()
    }
}
