//! The rules of ambient, over YAML as people write it.

mod access_log;
mod attachment;
mod backend_tls;
mod binding;
mod connection;
mod destination_tls;
mod endpoints;
mod fields;
mod gateway;
mod handover;
mod incremental;
mod istio_gateway;
mod kit;
mod listener_set;
#[cfg(feature = "extauthz")]
mod mesh_config;
mod metrics;
mod rate_limit;
mod reasons;
mod route_fields;
mod routing;
mod sessions;
mod steady;
mod subsets;
#[cfg(feature = "jwt")]
mod tokens;
mod tracing;
mod traffic;
mod virtual_service;
