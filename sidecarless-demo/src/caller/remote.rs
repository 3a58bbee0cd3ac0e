//! The demo's hold on a caller.

use std::net::Ipv4Addr;

use super::{CONTROL, Call, Counts, Load, Outcome, Samples, Stream, Tally, Volley};
use crate::plain;

/// A caller that runs as a pod.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    authority: String,
}

impl Caller {
    /// The caller with this address.
    pub(crate) fn at(address: Ipv4Addr) -> Self {
        Self {
            authority: format!("{address}:{CONTROL}"),
        }
    }

    /// GETs through the mesh.
    pub(crate) async fn get(&self, url: &str) -> anyhow::Result<Outcome> {
        self.call("GET", url).await
    }

    /// Makes a request through the mesh. An error is the demo's; what the mesh says is in the outcome.
    pub(crate) async fn call(&self, method: &str, url: &str) -> anyhow::Result<Outcome> {
        let call = Call {
            method: method.to_owned(),
            url: url.to_owned(),
            grpc: false,
        };
        plain::ask(&self.authority, "/call", &call).await
    }

    /// Makes many requests and sums up who answered.
    pub(crate) async fn volley(&self, url: &str, count: usize) -> anyhow::Result<Tally> {
        plain::ask(
            &self.authority,
            "/volley",
            &Volley {
                url: url.to_owned(),
                count,
                width: 8,
                grpc: false,
            },
        )
        .await
    }

    /// Starts requests without end.
    pub(crate) async fn start_load(&self, url: &str) -> anyhow::Result<()> {
        plain::ask(
            &self.authority,
            "/load/start",
            &Load {
                url: url.to_owned(),
                width: 4,
                pause: 10,
            },
        )
        .await
    }

    /// Ends them.
    pub(crate) async fn stop_load(&self) -> anyhow::Result<Counts> {
        plain::ask(&self.authority, "/load/stop", &()).await
    }

    /// Makes requests of these kinds from now on, and of no others.
    pub(crate) async fn stream(&self, streams: &[Stream]) -> anyhow::Result<()> {
        plain::ask(&self.authority, "/streams", &streams).await
    }

    /// What came of them since this was asked last.
    pub(crate) async fn samples(&self) -> anyhow::Result<Samples> {
        plain::ask(&self.authority, "/samples", &()).await
    }
}
