//! Any answer of an external authorizer: by gRPC only one that allows lets a request through, by HTTP only 200; and it
//! changes nothing that frames the request.
#![no_main]

use std::sync::{Arc, LazyLock};

use inmesh::layer::ConsultLayer;
use inmesh::snapshot::Snapshot;
use inmesh::telemetry::Meter;
use inmesh_fuzz::asked::{Said, assert_framed, through};
use inmesh_fuzz::{TOWN, compiled, store, workload};
use libfuzzer_sys::fuzz_target;
use prost::Message;

const AUTHORIZER: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: ask
      PROTOCOL
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec: {action: CUSTOM, provider: {name: ask}, rules: [{}]}
";
const GRPC: &str = "envoyExtAuthzGrpc: {service: default/plain, port: 80}";
const HTTP: &str = "envoyExtAuthzHttp: {service: default/plain, port: 80, headersToUpstreamOnAllow: ['*'], \
                    headersToDownstreamOnAllow: ['*'], headersToDownstreamOnDeny: ['*']}";

fn view(protocol: &str) -> Arc<Snapshot> {
    let yaml = AUTHORIZER.replace("PROTOCOL", protocol);
    let seen = compiled(&store(&[TOWN, &yaml]), &workload("web-1"), None);
    assert!(seen.snapshot.asks().authorizers, "{:?}", seen.problems);
    Arc::new(seen.snapshot)
}

static BY_GRPC: LazyLock<Arc<Snapshot>> = LazyLock::new(|| view(GRPC));
static BY_HTTP: LazyLock<Arc<Snapshot>> = LazyLock::new(|| view(HTTP));

/// `CheckResponse`, as far as it decides.
#[derive(Message)]
struct Check {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

#[derive(Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

fuzz_target!(|bytes: &[u8]| {
    let Some(said) = Said::read(bytes) else { return };
    for by_grpc in [true, false] {
        let view = if by_grpc { &BY_GRPC } else { &BY_HTTP };
        let (reached, answer) = through(view, said.clone(), |asker| {
            ConsultLayer::new(Some(asker), Meter::new())
        });
        let may = match by_grpc {
            true => said
                .message()
                .and_then(|message| Check::decode(message).ok())
                .is_some_and(|check| check.status.is_none_or(|status| status.code == 0)),
            false => said.status == 200,
        };
        assert!(may || reached.is_none(), "it was not allowed: {said:?}");
        assert_eq!(reached.is_some(), answer.is_ok());
        if let Some(request) = &reached {
            assert_framed(request);
        }
        if let Err(refusal) = answer {
            let response = refusal.into_response(bytes.len() % 2 == 0);
            assert!(response.status().as_u16() >= 200);
            assert!(!response.headers().contains_key("transfer-encoding"));
        }
    }
});
