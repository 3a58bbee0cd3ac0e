//! Envoy as a plain HTTP proxy: what its own routes, balancers and detectors do, to be compared with ours.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::EnvoyProcess;
use super::bootstrap::{address, bootstrap, cluster, typed};

const LISTENER: &str = "router";

/// An Envoy in front of plain HTTP/1.1 backends.
#[derive(Debug)]
pub struct EnvoyRouter {
    process: EnvoyProcess,
}

impl EnvoyRouter {
    /// Starts `binary` with these routes (`config.route.v3.Route`) and clusters, and waits until it is ready. Answers say
    /// how many attempts they took.
    pub fn start(binary: &Path, routes: &[Value], clusters: &[Value]) -> Result<Self> {
        let manager = typed(
            "envoy.filters.network.http_connection_manager",
            "filters.network.http_connection_manager.v3.HttpConnectionManager",
            json!({
                "stat_prefix": LISTENER,
                "route_config": {"virtual_hosts": [{
                    "name": "all", "domains": ["*"], "routes": routes,
                    "include_attempt_count_in_response": true,
                }]},
                "http_filters": [typed("envoy.filters.http.router", "filters.http.router.v3.Router", json!({}))],
            }),
        );
        let listener = json!({
            "name": LISTENER,
            "address": address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            "filter_chains": [{"filters": [manager]}],
        });
        let process = EnvoyProcess::start(binary, &bootstrap(LISTENER, &[listener], clusters))?;
        Ok(Self { process })
    }

    /// Where it listens.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.process.listener(LISTENER)
    }

    /// The process.
    pub fn process(&self) -> &EnvoyProcess {
        &self.process
    }

    /// How many endpoints of a cluster are ejected now.
    pub fn ejected(&self, cluster: &str) -> io::Result<u64> {
        let name = format!("cluster.{cluster}.outlier_detection.ejections_active");
        Ok(self.process.stat(&name)?.unwrap_or(0))
    }
}

/// A cluster of endpoints with weights; `fields` completes it.
pub fn backends(name: &str, endpoints: &[(SocketAddr, u32)], fields: Value) -> Value {
    let endpoint = |(addr, weight): &(SocketAddr, u32)| json!({"endpoint": {"address": address(*addr)}, "load_balancing_weight": weight});
    let all: Vec<Value> = endpoints.iter().map(endpoint).collect();
    let mut made = cluster(
        name,
        json!({
            "type": "STATIC",
            "load_assignment": super::bootstrap::load_assignment(name, &all),
        }),
    );
    if let (Some(made), Value::Object(fields)) = (made.as_object_mut(), fields) {
        made.extend(fields);
    }
    made
}
