//! The mesh end to end: real sockets, real mutual TLS, real processes. What both shapes have (in process, and through
//! the waypoint) is run through both.

mod authz;
mod calls;
mod config;
mod envoy;
mod grpc;
mod http;
mod load;
mod peers;
mod routes;
mod tcp;
