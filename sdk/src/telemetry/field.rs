//! The names of span fields, for `Span::record`.
//!
//! HTTP fields follow the OpenTelemetry semantic conventions; ours begin with `mesh.`. A name is listed here only
//! if a span of this room declares it, because `tracing` silently ignores any other.

/// The request's method.
pub const HTTP_METHOD: &str = "http.request.method";
/// The response's status code.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// The `grpc-status` of a gRPC response.
pub const GRPC_STATUS: &str = "rpc.grpc.status_code";
/// The request's path, without query.
pub const URL_PATH: &str = "url.path";
/// The host of the request's authority, or of the endpoint.
pub const SERVER_ADDRESS: &str = "server.address";
/// The port of the request's authority, or of the endpoint.
pub const SERVER_PORT: &str = "server.port";
/// `1.1` or `2`.
pub const PROTOCOL_VERSION: &str = "network.protocol.version";
/// Which attempt this is, counted from zero.
pub const RESEND_COUNT: &str = "http.request.resend_count";
/// What went wrong, as a short stable word.
pub const ERROR_TYPE: &str = "error.type";
/// OpenTelemetry's status of the span: `error` marks it failed.
pub const OTEL_STATUS: &str = "otel.status_code";
/// The resource and rule that chose the destination.
pub const RULE: &str = "mesh.rule";
/// The policy that decided.
pub const POLICY: &str = "mesh.policy";
/// The index of its rule.
pub const POLICY_RULE: &str = "mesh.policy.rule";
/// `allow` or `deny`: what the authorization policies said.
pub const DECISION: &str = "mesh.decision";
/// How long they took to say it, in nanoseconds.
pub const DECISION_COST: &str = "mesh.decision.cost_ns";
/// What dry-run policies would have decided: `allow`, or as whose denial.
pub const DRY_RUN: &str = "mesh.dry_run";
/// The AUDIT policy that matched.
pub const AUDIT: &str = "mesh.audit";
/// Why a request was refused or answered by the mesh.
pub const REASON: &str = "mesh.reason";
/// The verified identity at the other end.
pub const PEER: &str = "mesh.peer";
/// The caller behind the waypoint that introduced it.
pub const ORIGINAL_CALLER: &str = "mesh.original_caller";
/// The address that was called.
pub const ENDPOINT: &str = "mesh.endpoint";
/// The generation of the configuration that judged.
pub const GENERATION: &str = "mesh.generation";
/// Who opened a tunnel: `inbound` or `outbound`.
pub const DIRECTION: &str = "mesh.direction";
/// How many resources the configuration was compiled from.
pub const RESOURCES: &str = "mesh.resources";
/// How many problems the configuration has.
pub const PROBLEMS: &str = "mesh.problems";
