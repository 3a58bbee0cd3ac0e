//! How the authorizer is asked: as MeshConfig says it, and as Istio tells Envoy (`pilot/pkg/security/authz/builder`).

use inmesh_tests::envoy::http_filter;
use serde_json::{Value, json};

/// A provider of the mesh configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Provider {
    pub(super) name: &'static str,
    pub(super) http: bool,
    /// `maxRequestBytes`, `allowPartialMessage`, `packAsBytes`.
    pub(super) body: Option<(u32, bool, bool)>,
    /// A short timeout, and what comes of it.
    pub(super) end: End,
}

/// What becomes of a request about which nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// 403, after a long time.
    Patient,
    /// 503, soon.
    Closed,
    /// It passes, soon.
    Open,
}

const fn provider(name: &'static str, http: bool, body: Option<(u32, bool, bool)>, end: End) -> Provider {
    Provider {
        name,
        http,
        body,
        end,
    }
}

pub(super) const PROVIDERS: &[Provider] = &[
    provider("grpc", false, None, End::Patient),
    provider("grpc-body", false, Some((8, true, false)), End::Patient),
    provider("grpc-raw", false, Some((8, true, true)), End::Patient),
    provider("grpc-whole", false, Some((8, false, false)), End::Patient),
    provider("grpc-closed", false, None, End::Closed),
    provider("grpc-open", false, None, End::Open),
    provider("http", true, None, End::Patient),
    provider("http-body", true, Some((8, true, false)), End::Patient),
    provider("http-whole", true, Some((8, false, false)), End::Patient),
    provider("http-closed", true, None, End::Closed),
    provider("http-open", true, None, End::Open),
];

pub(super) fn named(name: &str) -> &'static Provider {
    let found = PROVIDERS.iter().find(|provider| provider.name == name);
    found.expect("it is one of the table")
}

/// Headers that an HTTP authorizer is told.
const TOLD: [&str; 2] = ["x-script", "x-told*"];
/// Headers of its answer that go on.
const ONWARD: [&str; 4] = ["x-user", "x-more", "x-saw", "x-new"];
/// Headers of its denial that go back.
const DENIED: [&str; 3] = ["x-why", "x-saw", "set-cookie"];
/// Headers of its answer that go back with an allowed response.
const BACK: [&str; 1] = ["x-allowed"];
const PREFIX: &str = "/check";
const TIMEOUT: &str = "0.5s";

impl Provider {
    /// The port of the service whose requests it is asked about.
    pub(super) fn port(&self) -> u16 {
        let at = PROVIDERS.iter().position(|other| other.name == self.name);
        9300 + at.unwrap_or_default() as u16
    }

    /// One of `extensionProviders`.
    pub(super) fn mesh_config(&self, host: &str, port: u16) -> Value {
        let mut fields = json!({"service": host, "port": port});
        if let Some((max, partial, raw)) = self.body {
            fields["includeRequestBodyInCheck"] =
                json!({"maxRequestBytes": max, "allowPartialMessage": partial, "packAsBytes": raw});
        }
        if self.end != End::Patient {
            fields["timeout"] = TIMEOUT.into();
            fields["failOpen"] = (self.end == End::Open).into();
            fields["statusOnError"] = "503".into();
        }
        if !self.http {
            return json!({"name": self.name, "envoyExtAuthzGrpc": fields});
        }
        fields["pathPrefix"] = PREFIX.into();
        fields["includeRequestHeadersInCheck"] = json!(TOLD);
        fields["includeAdditionalHeadersInCheck"] = json!({"x-besides": "said"});
        fields["headersToUpstreamOnAllow"] = json!(ONWARD);
        fields["headersToDownstreamOnDeny"] = json!(DENIED);
        fields["headersToDownstreamOnAllow"] = json!(BACK);
        json!({"name": self.name, "envoyExtAuthzHttp": fields})
    }

    /// The filter that Istio makes of it.
    pub(super) fn filter(&self, cluster: &str, host: &str) -> Value {
        let timeout = if self.end == End::Patient { "600s" } else { TIMEOUT };
        let mut fields = json!({
            "transport_api_version": "V3",
            "failure_mode_allow": self.end == End::Open,
            "status_on_error": {"code": if self.end == End::Patient { 403 } else { 503 }},
        });
        if let Some((max, partial, raw)) = self.body {
            fields["with_request_body"] =
                json!({"max_request_bytes": max, "allow_partial_message": partial, "pack_as_bytes": raw});
        }
        if self.http {
            fields["allowed_headers"] = patterns(&TOLD);
            fields["http_service"] = json!({
                "path_prefix": PREFIX,
                "server_uri": {"uri": format!("http://{host}"), "cluster": cluster, "timeout": timeout},
                "authorization_request": {"headers_to_add": [{"key": "x-besides", "value": "said"}]},
                "authorization_response": {
                    "allowed_upstream_headers": patterns(&ONWARD),
                    "allowed_client_headers": patterns(&DENIED),
                    "allowed_client_headers_on_success": patterns(&BACK),
                },
            });
        } else {
            fields["grpc_service"] =
                json!({"envoy_grpc": {"cluster_name": cluster, "authority": host}, "timeout": timeout});
        }
        http_filter("ext_authz", "ExtAuthz", fields)
    }
}

fn patterns(names: &[&str]) -> Value {
    let matchers = names.iter().map(|name| match name.strip_suffix('*') {
        Some(prefix) => json!({"prefix": prefix, "ignore_case": true}),
        None => json!({"exact": name, "ignore_case": true}),
    });
    json!({"patterns": matchers.collect::<Vec<_>>()})
}
