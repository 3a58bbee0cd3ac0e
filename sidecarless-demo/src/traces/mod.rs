//! The traces of the town: every process sends its spans here, by OTLP over HTTP, and a person can look at them.

mod page;
mod receiver;
mod tree;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

pub(crate) use tree::{Span, Trace};

/// How many traces are kept; the load makes thousands.
const KEPT: usize = 3_000;
/// No request in the town makes nearly as many spans.
const MAX_SPANS: usize = 500;

/// Collects spans.
pub(crate) struct Traces {
    store: Arc<Store>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

/// The last traces.
#[derive(Default)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    traces: HashMap<String, Vec<Span>>,
    /// Oldest first.
    order: VecDeque<String>,
}

impl Traces {
    /// Starts to listen.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let store = Arc::<Store>::default();
        let (address, server) = receiver::start(Arc::clone(&store)).await?;
        Ok(Self {
            store,
            address,
            server,
        })
    }

    /// Where spans are sent.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where a person looks.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/traces", self.address)
    }

    /// A trace as far as it has arrived.
    pub(crate) fn trace(&self, id: &str) -> Trace {
        self.store.trace(id)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Store {
    fn add(&self, id: String, span: Span) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.traces.contains_key(&id) {
            inner.order.push_back(id.clone());
            if inner.order.len() > KEPT
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.traces.remove(&oldest);
            }
        }
        let spans = inner.traces.entry(id).or_default();
        if spans.len() < MAX_SPANS {
            spans.push(span);
        }
    }

    fn trace(&self, id: &str) -> Trace {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Trace::new(inner.traces.get(id).cloned().unwrap_or_default())
    }

    /// The newest traces, newest first, with their ids.
    fn newest(&self, count: usize) -> Vec<(String, Trace)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = inner.order.iter().rev().take(count);
        newest
            .filter_map(|id| Some((id.clone(), Trace::new(inner.traces.get(id)?.clone()))))
            .collect()
    }
}
