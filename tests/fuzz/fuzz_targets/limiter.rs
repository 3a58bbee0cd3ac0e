//! Any answer of a service that keeps rate limits: only one that says so lets a request through, and it changes nothing
//! that frames the request.
#![no_main]

use std::sync::{Arc, LazyLock};

use inmesh::layer::AdmitLayer;
use inmesh::snapshot::Snapshot;
use inmesh::telemetry::Meter;
use inmesh_fuzz::asked::{Said, assert_framed, through};
use inmesh_fuzz::{TOWN, compiled, store, workload};
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// Whoever cannot be asked lets nobody through.
const LIMITER: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: limits, namespace: default}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.ratelimit
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
          domain: web
          failure_mode_deny: true
          enable_x_ratelimit_headers: DRAFT_VERSION_03
          rate_limit_service:
            grpc_service: {envoy_grpc: {cluster_name: 'outbound|80||plain.default.svc.cluster.local'}}
            transport_api_version: V3
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_INBOUND}
    patch:
      operation: MERGE
      value:
        rate_limits:
        - actions: [{request_headers: {header_name: ':path', descriptor_key: PATH}}]
";

static VIEW: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
    let seen = compiled(&store(&[TOWN, LIMITER]), &workload("web-1"), None);
    assert!(!seen.snapshot.limits.is_empty(), "{:?}", seen.problems);
    Arc::new(seen.snapshot)
});

/// `RateLimitResponse`, as far as it decides.
#[derive(Message)]
struct Response {
    #[prost(int32, tag = "1")]
    overall_code: i32,
}

const OK: i32 = 1;

fuzz_target!(|bytes: &[u8]| {
    let Some(said) = Said::read(bytes) else { return };
    let (reached, answer) = through(&VIEW, said.clone(), |asker| {
        AdmitLayer::new(Some(asker), Meter::new())
    });
    let may = said
        .message()
        .and_then(|message| Response::decode(message).ok())
        .is_some_and(|response| response.overall_code == OK);
    assert!(may || reached.is_none(), "it was not let in: {said:?}");
    assert_eq!(reached.is_some(), answer.is_ok());
    if let Some(request) = &reached {
        assert_framed(request);
    }
    if let Err(refusal) = answer {
        let _ = refusal.into_response(bytes.len() % 2 == 0);
    }
});
