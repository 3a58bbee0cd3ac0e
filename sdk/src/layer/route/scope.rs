//! Scope: whose routes apply to a call, found by where it came in or by what it names.

use std::sync::Arc;

use super::{Answer, Directory, refuse};
use crate::layer::call::{Call, Destination};
use crate::layer::{Reason, Refusal};
use crate::name::{Host, split_authority};
use crate::policy::route::RouteTable;
use crate::snapshot::Place;

/// Where the table for a call is found, and where a call without a rule goes.
pub(super) enum Scope {
    Service {
        routes: Arc<RouteTable>,
        otherwise: Destination,
    },
    Listener(Arc<RouteTable>),
    Direct(Destination),
}

pub(super) fn scope<D: Directory>(call: &Call, directory: &D) -> Result<Scope, Answer> {
    let view = &call.view;
    let (id, port) = match call.place.as_deref() {
        Some(Place::Listener { name }) => {
            return match view.gateway.listener(name) {
                Some(listener) => Ok(Scope::Listener(Arc::clone(&listener.routes))),
                None => refuse(
                    Reason::NoRoute,
                    format!("the Gateway has no listener `{name}` any more"),
                ),
            };
        }
        Some(Place::Pod { ip, port }) => {
            return directory
                .pod(view, *ip, *port)
                .map(Scope::Direct)
                .map_err(|refusal| Box::new(Err(refusal)));
        }
        Some(Place::Service { host, port }) => (view.service_by_host(host), *port),
        Some(Place::Workload { .. }) => return refuse(Reason::Misconfigured, "a workload does not forward"),
        Some(Place::Port { .. }) => return refuse(Reason::NoRoute, "no listener serves this host"),
        None => {
            let authority = call.dialled();
            let unusable =
                |error| Refusal::new(Reason::BadRequest, format!("the authority is unusable: {error}"));
            let (name, port) = split_authority(authority).map_err(|error| Box::new(Err(unusable(error))))?;
            let default = if call.request.uri().scheme_str() == Some("https") {
                443
            } else {
                80
            };
            let port = port.unwrap_or(default);
            // Nearly every caller writes the host as the table has it; only others pay for bringing it into that form.
            match view.hosts.get(name) {
                Some(id) => (Some(*id), port),
                None => {
                    let host = Host::parse(name).map_err(|error| Box::new(Err(unusable(error))))?;
                    let id = view.service_by_host(&host);
                    if id.is_none()
                        && let Some(ip) = host.ip()
                    {
                        return directory
                            .pod(view, ip, port)
                            .map(Scope::Direct)
                            .map_err(|refusal| Box::new(Err(refusal)));
                    }
                    (id, port)
                }
            }
        }
    };
    let Some(service) = id.and_then(|id| view.service(id)) else {
        let authority = call.dialled();
        return refuse(
            Reason::NoRoute,
            format!(
                "`{authority}` is no service of the mesh (generation {})",
                view.generation
            ),
        );
    };
    let Some(port) = service.port(port) else {
        return refuse(
            Reason::NoRoute,
            format!("service {} has no port {port}", service.name),
        );
    };
    match view.cluster(port.cluster) {
        Some(cluster) => Ok(Scope::Service {
            routes: Arc::clone(&port.routes),
            otherwise: Destination::Cluster(Arc::clone(cluster)),
        }),
        None => refuse(
            Reason::Misconfigured,
            format!("service {} lost its cluster", service.name),
        ),
    }
}
