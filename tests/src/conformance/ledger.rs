//! What the backends have seen: by request, because mirrors answer to nobody.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// The header that names the probe a request belongs to. It travels with mirrored copies.
pub const PROBE: &str = "x-conformance-probe";

/// A request as a backend saw it, and which backend that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Which request of the whole run.
    pub number: u64,
    /// The Deployment.
    pub deployment: String,
    /// Its namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The pod's port.
    pub port: u16,
    /// The version of HTTP.
    pub protocol: String,
    /// The method.
    pub method: String,
    /// The raw path and query.
    pub path: String,
    /// `:authority` or `Host`.
    pub host: String,
    /// Header fields in lower case, with all their values.
    pub headers: BTreeMap<String, Vec<String>>,
    /// TLS server name, where TLS was spoken.
    pub sni: Option<String>,
}

/// What all backends have seen.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    last: u64,
    by_probe: HashMap<String, Vec<Seen>>,
}

impl Ledger {
    /// Writes a request down and numbers it.
    pub fn note(&self, mut seen: Seen) -> Seen {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.last += 1;
        seen.number = pages.last;
        let probe = seen
            .headers
            .get(PROBE)
            .and_then(|it| it.first())
            .cloned()
            .unwrap_or_default();
        pages.by_probe.entry(probe).or_default().push(seen.clone());
        seen
    }

    /// What has been seen of a probe so far.
    pub fn of(&self, probe: &str) -> Vec<Seen> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.by_probe.get(probe).cloned().unwrap_or_default()
    }

    /// Forgets a probe.
    pub fn forget(&self, probe: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_probe
            .remove(probe);
    }
}
