//! Whose routes apply to a request here: found by where it came in, or by what its caller dials.

use std::net::SocketAddr;

use super::{ListenerView, Place, ServiceView, Snapshot};
use crate::name::{HostError, ServiceName, check_host, split_authority};
use crate::snapshot::ServicePortView;

/// Whose routes apply.
#[derive(Clone, Copy, Debug)]
pub enum Way<'s> {
    /// Those of a service port.
    Service(&'s ServiceView, &'s ServicePortView),
    /// Those of a Gateway's listener.
    Listener(&'s ListenerView),
    /// Nobody's: a workload is addressed itself.
    Pod(SocketAddr),
}

/// Why nobody's routes apply, and the request goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Astray {
    /// What the caller dials is no authority.
    #[error("the authority is unusable: {0}")]
    Authority(HostError),
    /// It names no service.
    #[error("`{authority}` is no service of the mesh (generation {generation})")]
    Service {
        /// What was dialled.
        authority: String,
        /// The snapshot's generation.
        generation: u64,
    },
    /// The service has no such port.
    #[error("service {service} has no port {port}")]
    Port {
        /// The service.
        service: ServiceName,
        /// The port.
        port: u16,
    },
    /// The Gateway has changed.
    #[error("the Gateway has no listener `{0}` any more")]
    Listener(String),
    /// It came to a Gateway's port on which no listener serves the host.
    #[error("no listener serves this host")]
    Unlisted,
    /// It came to a workload.
    #[error("a workload does not forward")]
    Workload,
}

impl Snapshot {
    /// Whose routes apply to a request that came in at `place`, or, where this process is the caller, to one for the
    /// authority that it dials; `scheme` says which port is meant by one without.
    ///
    /// # Errors
    /// If it goes nowhere.
    pub fn way(&self, place: Option<&Place>, dialled: &str, scheme: Option<&str>) -> Result<Way<'_>, Astray> {
        let (id, port) = match place {
            Some(Place::Listener { name }) => {
                return match self.gateway.listener(name) {
                    Some(listener) => Ok(Way::Listener(listener)),
                    None => Err(Astray::Listener(name.to_string())),
                };
            }
            Some(Place::Pod { ip, port }) => return Ok(Way::Pod(SocketAddr::new(*ip, *port))),
            Some(Place::Service { host, port }) => (self.service_by_host(host), *port),
            Some(Place::Workload { .. }) => return Err(Astray::Workload),
            Some(Place::Port { .. }) => return Err(Astray::Unlisted),
            None => {
                let (name, port) = split_authority(dialled).map_err(Astray::Authority)?;
                let port = port.unwrap_or_else(|| if scheme == Some("https") { 443 } else { 80 });
                // Nearly every caller writes the host as the table has it; only others pay for bringing it into that form.
                match self.hosts.get(name) {
                    Some(id) => (Some(*id), port),
                    None => {
                        let host = check_host(name).map_err(Astray::Authority)?;
                        let id = host.with_text(|text| self.service_by_text(text, || host.ip()));
                        if let (None, Some(ip)) = (id, host.ip()) {
                            return Ok(Way::Pod(SocketAddr::new(ip, port)));
                        }
                        (id, port)
                    }
                }
            }
        };
        let Some(service) = id.and_then(|id| self.service(id)) else {
            return Err(Astray::Service {
                authority: dialled.to_owned(),
                generation: self.generation,
            });
        };
        match service.port(port) {
            Some(port) => Ok(Way::Service(service, port)),
            None => Err(Astray::Port {
                service: service.name.clone(),
                port,
            }),
        }
    }
}
