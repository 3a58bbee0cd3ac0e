//! The spans that the mesh opens.
//!
//! Nothing is formatted unless a subscriber wants the span. Fields that are known later are declared empty; record
//! them by the names of [`field`](super::field).

use std::fmt::Display;
use std::net::SocketAddr;

use http::{Method, Version};
use tracing::field::{self, Empty};
use tracing::{Span, info_span};

use super::Direction;
use crate::name::SpiffeId;

/// The target of the spans of requests and tunnels: apart from that of events, so that logs can leave them out.
const SPAN: &str = "inmesh::span";

/// What a span of a request says from the beginning.
#[derive(Clone, Copy, Debug)]
pub struct RequestSpan<'a> {
    /// The method.
    pub method: &'a Method,
    /// The authority, with or without a port.
    pub authority: &'a str,
    /// The path, without query.
    pub path: &'a str,
    /// The HTTP version.
    pub version: Version,
    /// The verified identity at the other end, as far as it is known.
    pub peer: Option<&'a SpiffeId>,
    /// The generation of the configuration that judges.
    pub generation: u64,
}

/// The span of a request that we serve, from its head to the end of its response. [`adopt`](super::adopt) its
/// caller's context before use.
pub fn server_span(request: &RequestSpan<'_>) -> Span {
    info_span!(
        target: SPAN,
        "mesh.server",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = request.method.as_str(),
        http.response.status_code = Empty,
        rpc.grpc.status_code = Empty,
        url.path = request.path,
        server.address = host(request.authority),
        server.port = port(request.authority),
        network.protocol.version = version(request.version),
        error.type = Empty,
        mesh.rule = Empty,
        mesh.policy = Empty,
        mesh.policy.rule = Empty,
        mesh.decision = Empty,
        mesh.decision.cost_ns = Empty,
        mesh.dry_run = Empty,
        mesh.audit = Empty,
        mesh.reason = Empty,
        mesh.peer = request.peer.map(field::display),
        mesh.original_caller = Empty,
        mesh.generation = request.generation,
    )
}

/// The span of a request that we send, all its attempts included.
pub fn client_span(request: &RequestSpan<'_>) -> Span {
    info_span!(
        target: SPAN,
        "mesh.client",
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = request.method.as_str(),
        http.response.status_code = Empty,
        rpc.grpc.status_code = Empty,
        url.path = request.path,
        server.address = host(request.authority),
        server.port = port(request.authority),
        network.protocol.version = version(request.version),
        error.type = Empty,
        mesh.rule = Empty,
        mesh.policy = Empty,
        mesh.reason = Empty,
        mesh.peer = request.peer.map(field::display),
        mesh.generation = request.generation,
    )
}

/// The span of one attempt, counted from zero, to have a request answered by one endpoint.
pub fn attempt_span(attempt: u32, endpoint: &dyn Display, identity: Option<&SpiffeId>) -> Span {
    info_span!(
        target: SPAN,
        "mesh.attempt",
        otel.kind = "internal",
        otel.status_code = Empty,
        http.request.resend_count = attempt,
        http.response.status_code = Empty,
        error.type = Empty,
        mesh.reason = Empty,
        mesh.endpoint = %endpoint,
        mesh.peer = identity.map(field::display),
    )
}

/// The span of one tunnel, from its first handshake to its end: a trace of its own, because it outlives the requests
/// that it carries. They are linked to it by [`follow`](super::follow).
pub fn tunnel_span(direction: Direction, peer: SocketAddr) -> Span {
    info_span!(
        target: SPAN,
        parent: None,
        "mesh.tunnel",
        otel.kind = "internal",
        otel.status_code = Empty,
        error.type = Empty,
        mesh.reason = Empty,
        mesh.direction = direction.as_str(),
        mesh.endpoint = %peer,
        mesh.peer = Empty,
    )
}

/// The span of one compilation, from what is written to what is in force: a trace of its own.
pub fn compile_span(resources: usize) -> Span {
    info_span!(
        target: SPAN,
        parent: None,
        "mesh.compile",
        otel.kind = "internal",
        otel.status_code = Empty,
        error.type = Empty,
        mesh.reason = Empty,
        mesh.resources = resources,
        mesh.problems = Empty,
        mesh.generation = Empty,
    )
}

fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn port(authority: &str) -> Option<u16> {
    authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}
