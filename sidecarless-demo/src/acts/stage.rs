//! What an act works with: the town, two callers, the load, and a list of what was seen.

use anyhow::Context;

use super::look::{self, eventually};
use crate::ca::identity;
use crate::caller::{Caller, Counts};
use crate::kubelet::Phase;
use crate::manifests;
use crate::town::{PATIENCE, Town};

/// The page, as another namespace calls it.
pub(crate) const PAGE: &str = "http://productpage.bookinfo:9080/productpage";
/// The reviews, as another namespace calls them.
pub(crate) const REVIEWS: &str = "http://reviews.bookinfo:9080/reviews/0";

/// The label that binds a waypoint.
pub(super) const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The label that says where that waypoint is.
pub(super) const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";

/// One act under way.
pub(crate) struct Stage<'t> {
    /// The town.
    pub(super) town: &'t Town,
    /// `cluster.local/ns/default/sa/curl`.
    pub(super) curl: Caller,
    /// Somebody else.
    pub(super) other: Caller,
    saw: Vec<String>,
    load: Option<Counts>,
}

impl<'t> Stage<'t> {
    /// A stage in a town whose manifests stand as they were applied.
    pub(crate) fn set(town: &'t Town) -> anyhow::Result<Self> {
        let (curl, other) = (town.caller("curl")?, town.caller("other")?);
        Ok(Self {
            town,
            curl,
            other,
            saw: Vec::new(),
            load: None,
        })
    }

    /// Notes an observation.
    pub(super) fn note(&mut self, seen: impl Into<String>) {
        self.saw.push(seen.into());
    }

    /// All observations so far.
    pub(super) fn saw(&self) -> &[String] {
        &self.saw
    }

    /// Asks for the page as `curl`, without pause.
    pub(super) async fn start_load(&mut self) -> anyhow::Result<()> {
        // Not before everybody knows everybody: the first act begins while the town is still settling.
        self.calls_are_direct().await?;
        self.curl.start_load(PAGE).await
    }

    /// Ends the load; what came of it stays the same however often one asks.
    pub(super) async fn end_load(&mut self) -> anyhow::Result<Counts> {
        if self.load.is_none() {
            self.load = Some(self.curl.stop_load().await?);
        }
        self.load.clone().context("the load was just ended")
    }

    /// Applies a manifest in `bookinfo`.
    pub(super) fn apply(&self, file: &str, text: &str) -> anyhow::Result<()> {
        self.town.folder.apply("bookinfo", file, text)
    }

    /// Deletes a manifest in `bookinfo`.
    pub(super) fn delete(&self, file: &str) -> anyhow::Result<()> {
        self.town.folder.delete("bookinfo", file)
    }

    /// Starts the guide's waypoint and waits until it is ready.
    pub(super) async fn start_waypoint(&self) -> anyhow::Result<()> {
        self.apply("waypoint.yaml", manifests::WAYPOINT)?;
        self.town.kubelet.ready(&["bookinfo/waypoint-1"], PATIENCE).await
    }

    /// Binds the namespace to a waypoint, or to none.
    pub(super) fn bind_namespace(
        &self,
        waypoint: Option<&str>,
        namespace: Option<&str>,
    ) -> anyhow::Result<()> {
        let labels = [(USE_WAYPOINT_NAMESPACE, namespace), (USE_WAYPOINT, waypoint)];
        self.town.folder.label_namespace("bookinfo", &labels)
    }

    /// Waits until the page's calls pass the waypoint that `through` names for each service, and no other.
    pub(super) async fn calls_pass(
        &self,
        what: &str,
        through: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<()> {
        let peer = |service: &str| through(service).unwrap_or_else(|| direct_peer(service));
        eventually(what, async || look::peers_are(&self.curl, &peer).await).await
    }

    /// Waits until every call goes straight to its workload.
    pub(crate) async fn calls_are_direct(&self) -> anyhow::Result<()> {
        self.calls_pass("calls without a waypoint", |_| None).await
    }

    /// Puts the town back as its manifests say, in an order that no request notices.
    pub(crate) async fn reset(&self) -> anyhow::Result<()> {
        for file in ["productpage-waypoint.yaml", "reviews.yaml", "mtls.yaml"] {
            self.delete(file)?;
        }
        self.bind_namespace(None, None)?;
        if self.town.folder.read("bookinfo", "bookinfo.yaml")? != manifests::BOOKINFO {
            self.apply("bookinfo.yaml", manifests::BOOKINFO)?;
        }
        let reviews = "bookinfo/reviews-v1-1";
        if self.town.pod(reviews)?.labels.contains_key(USE_WAYPOINT) {
            self.town.kubelet.label(reviews, USE_WAYPOINT, None)?;
        }
        self.calls_are_direct().await?;
        self.delete("waypoint.yaml")?;
        self.town.folder.delete("foo", "waypoint-foo.yaml")?;
        self.waypoint_leaves("bookinfo/waypoint-1").await?;
        self.waypoint_leaves("foo/waypoint-foo-1").await
    }

    /// Waits until a waypoint that was there has drained and ended by itself.
    pub(super) async fn waypoint_leaves(&self, key: &str) -> anyhow::Result<()> {
        let there = self.town.kubelet.pods().borrow().get(key).map(|pod| pod.phase);
        self.town.kubelet.gone(key, PATIENCE).await?;
        let how = self
            .town
            .kubelet
            .exit_of(key)
            .unwrap_or_else(|| "never told to stop".to_owned());
        anyhow::ensure!(
            there != Some(Phase::Ready) || how == "clean",
            "{key} ended with {how}"
        );
        Ok(())
    }
}

/// Whom a service sees when nobody stands between it and its caller.
fn direct_peer(service: &str) -> String {
    match service {
        "productpage" => identity("default", "curl"),
        "ratings" => identity("bookinfo", "bookinfo-reviews"),
        _ => identity("bookinfo", "bookinfo-productpage"),
    }
}
