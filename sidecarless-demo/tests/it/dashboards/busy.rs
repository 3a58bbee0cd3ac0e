//! A town in which everything happens that a dashboard shows: calls through a waypoint, refusals by a policy, policies
//! that only watch, and connections that are not HTTP.

use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;

use crate::plain;
use crate::town::{Town, eventually};

const WAYPOINT_BOUND: &str = "
apiVersion: v1
kind: Namespace
metadata:
  name: bookinfo
  labels:
    kubernetes.io/metadata.name: bookinfo
    istio.io/dataplane-mode: ambient
    istio.io/use-waypoint: waypoint
";

/// Watches what happens to reviews, and would deny a part of it.
const WATCHING: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: reviews-audit
spec:
  targetRefs:
  - kind: Service
    group: \"\"
    name: reviews
  action: AUDIT
  rules:
  - to:
    - operation:
        methods: [GET]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: reviews-dry-run
  annotations:
    istio.io/dry-run: \"true\"
spec:
  targetRefs:
  - kind: Service
    group: \"\"
    name: reviews
  action: DENY
  rules:
  - to:
    - operation:
        methods: [GET]
";

/// A way in for connections.
const RAW: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: raw
spec:
  gatewayClassName: istio
  listeners:
  - name: raw
    port: 9000
    protocol: TCP
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata:
  name: raw
spec:
  parentRefs:
  - name: raw
  rules:
  - backendRefs:
    - name: details
      port: 9080
";

/// Connections without end; dropping it ends them.
pub(super) struct Busy(JoinHandle<()>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts all of it and waits until it happens.
pub(super) async fn everything_happens(town: &Town) -> anyhow::Result<Busy> {
    let page = "http://productpage.bookinfo:9080/productpage";
    let policy = include_str!("../../../acts/productpage-waypoint.yaml");
    town.apply("cluster", "namespace-bookinfo.yaml", WAYPOINT_BOUND)?;
    town.apply("bookinfo", "productpage-waypoint.yaml", policy)?;
    town.apply("bookinfo", "watching.yaml", WATCHING)?;
    town.apply("bookinfo", "raw.yaml", RAW)?;
    town.load("curl", page).await?;
    town.load("other", page).await?;
    let door = format!("{}:9000", raw_address(town).await?);
    let connect = async || plain::get(&door, "/details/0").await.map(drop);
    eventually(
        "a connection through the Gateway",
        Duration::from_secs(30),
        connect,
    )
    .await?;
    Ok(Busy(tokio::spawn(async move {
        loop {
            let _ = plain::get(&door, "/details/0").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })))
}

/// The address of the Gateway's pod, from its object.
async fn raw_address(town: &Town) -> anyhow::Result<String> {
    let path = town.root().join("town/bookinfo/pod-raw-istio-1.yaml");
    eventually("the Gateway's pod", Duration::from_secs(30), async || {
        let pod: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
        let address = pod["status"]["podIP"].as_str().context("it has no address")?;
        Ok(address.to_owned())
    })
    .await
}
