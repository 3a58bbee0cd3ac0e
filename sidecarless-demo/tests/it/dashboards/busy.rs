//! A town in which everything happens that a dashboard shows: calls through a waypoint, refusals by a policy and for want of
//! room, policies that only watch, gRPC, and connections that are not HTTP.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
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

/// At the waypoint: a caller may ask ten times a second, and less if answers take long.
const LIMITS: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: limits
spec:
  targetRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: waypoint
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: WAYPOINT}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: limits
          filter_enabled: {default_value: {numerator: 100}}
          filter_enforced: {default_value: {numerator: 100}}
          token_bucket: {max_tokens: 20, tokens_per_fill: 20, fill_interval: 1s}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: shedding
  annotations:
    inmesh.io/criticality: sheddable
spec:
  targetRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: waypoint
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: WAYPOINT}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.adaptive_concurrency
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency
          gradient_controller_config:
            concurrency_limit_params: {concurrency_update_interval: 0.1s}
            min_rtt_calc_params: {interval: 1s}
";

/// Whom nobody reaches, and whose callers have no time to ask again.
fn gone(address: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: gone}}
spec:
  selector: {{app: gone}}
  ports: [{{name: http, port: 9080}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: gone, labels: {{app: gone}}}}
spec: {{serviceAccountName: gone}}
status: {{phase: Running, podIP: {address}, conditions: [{{type: Ready, status: 'True'}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: gone}}
spec:
  parentRefs: [{{group: '', kind: Service, name: gone, port: 9080}}]
  rules:
  - backendRefs: [{{name: gone, port: 9080}}]
    timeouts: {{request: 1s}}
    retry: {{attempts: 2, backoff: 10s, codes: [503]}}
"
    )
}

/// What the sample says of its Service reviews, and what is added: that it speaks gRPC, too.
const HTTP: &str = "  - port: 9080\n    name: http\n  selector:\n    app: reviews\n";
const GRPC: &str = "  - port: 9090\n    targetPort: 9080\n    name: grpc\n";

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
    let sample = std::fs::read_to_string(town.root().join("town/bookinfo/bookinfo.yaml"))?;
    ensure!(sample.contains(HTTP), "the sample says something else of reviews");
    town.apply(
        "bookinfo",
        "bookinfo.yaml",
        &sample.replace(HTTP, &format!("{GRPC}{HTTP}")),
    )?;
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
    let control = format!("{}:8081", town.address("default/curl-1")?);
    let calls = json!({ "url": "http://reviews.bookinfo:9090/grpc.health.v1.Health/Check", "count": 4, "width": 1, "grpc": true });
    eventually("a gRPC call", Duration::from_secs(30), async || {
        let tally: Value = plain::ask(&control, "/volley", &calls).await?;
        ensure!(tally["failures"] == json!([]), "{tally}");
        Ok(())
    })
    .await?;
    let pod = town.address("default/curl-1")?;
    let (block, _) = pod.rsplit_once('.').context("no address")?;
    town.apply("bookinfo", "gone.yaml", &gone(&format!("{block}.252")))?;
    let in_vain = json!({ "url": "http://gone.bookinfo:9080/", "count": 2, "width": 1 });
    // From here on some are refused.
    town.apply("bookinfo", "limits.yaml", LIMITS)?;
    let many = json!({ "url": "http://details.bookinfo:9080/details/0", "count": 60, "width": 12 });
    Ok(Busy(tokio::spawn(async move {
        loop {
            let _ = plain::get(&door, "/details/0").await;
            let _ = plain::ask::<_, Value>(&control, "/volley", &calls).await;
            let _ = plain::ask::<_, Value>(&control, "/volley", &in_vain).await;
            let _ = plain::ask::<_, Value>(&control, "/volley", &many).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })))
}

/// The address of the Gateway's pod, from its object.
async fn raw_address(town: &Town) -> anyhow::Result<String> {
    let path = town.root().join("town/bookinfo/pod-raw-istio-1.yaml");
    eventually("the Gateway's pod", Duration::from_secs(30), async || {
        let pod: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
        let address = pod["status"]["podIP"].as_str().context("it has no address")?;
        Ok(address.to_owned())
    })
    .await
}
