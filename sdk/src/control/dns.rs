//! Looks up the host names that ServiceEntries ask for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::compile::Resolved;
use crate::name::Host;

/// How long one look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks names up as they are asked for and then again and again. A name that cannot be looked up keeps its last
/// addresses: a resolver that is down must not take a service away.
pub(super) struct Resolver {
    names: watch::Sender<BTreeSet<Host>>,
    resolved: watch::Receiver<Resolved>,
    /// Ends the task with the loop.
    _task: JoinSet<()>,
}

impl Resolver {
    pub(super) fn new(every: Duration) -> Self {
        let (names, asked) = watch::channel(BTreeSet::new());
        let (tell, resolved) = watch::channel(Resolved::default());
        let mut task = JoinSet::new();
        task.spawn(work(asked, tell, every));
        Self {
            names,
            resolved,
            _task: task,
        }
    }

    /// Asks for exactly these names from now on.
    pub(super) fn ask(&self, names: &BTreeSet<Host>) {
        self.names.send_if_modified(|asked| {
            let changed = asked != names;
            if changed {
                asked.clone_from(names);
            }
            changed
        });
    }

    /// What is known.
    pub(super) fn resolved(&mut self) -> Resolved {
        self.resolved.borrow_and_update().clone()
    }

    /// Waits until something else is known.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn changed(&mut self) {
        if self.resolved.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn work(mut asked: watch::Receiver<BTreeSet<Host>>, tell: watch::Sender<Resolved>, every: Duration) {
    loop {
        let names = asked.borrow_and_update().clone();
        let mut lookups = JoinSet::new();
        for name in names.clone() {
            lookups.spawn(async move {
                let found = lookup(&name).await;
                (name, found)
            });
        }
        let mut next = tell.borrow().clone();
        next.retain(|name, _| names.contains(name));
        while let Some(looked_up) = lookups.join_next().await {
            match looked_up {
                Ok((name, Ok(addresses))) => {
                    next.insert(name, addresses);
                }
                Ok((name, Err(error))) => tracing::warn!(%name, %error, "a host name cannot be looked up"),
                Err(error) => tracing::error!(%error, "looking up host names failed"),
            }
        }
        tell.send_if_modified(|known| {
            let changed = *known != next;
            if changed {
                *known = next;
            }
            changed
        });
        // Without names there is nothing to do until somebody asks.
        let pause = if names.is_empty() {
            Duration::from_secs(24 * 3600)
        } else {
            every
        };
        if let Ok(Err(_)) = tokio::time::timeout(pause, asked.changed()).await {
            return;
        }
    }
}

async fn lookup(name: &Host) -> std::io::Result<Vec<IpAddr>> {
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name.as_str(), 0))).await??;
    let mut addresses: Vec<IpAddr> = found.map(|addr| addr.ip()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}
