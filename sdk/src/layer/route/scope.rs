//! Scope: whose routes apply to a call, and where it goes without one.

use std::sync::Arc;

use super::{Answer, Directory, refuse};
use crate::layer::call::{Call, Destination};
use crate::layer::{Reason, Refusal};
use crate::policy::route::{RouteTable, Session};
use crate::snapshot::{Astray, Way};

/// Where the table for a call is found, and where a call without a rule goes.
pub(super) enum Scope {
    Service {
        routes: Arc<RouteTable>,
        otherwise: Destination,
        /// How sessions are kept without a route.
        session: Option<Arc<Session>>,
    },
    Listener(Arc<RouteTable>),
    Direct(Destination),
}

pub(super) fn scope<D: Directory>(call: &Call, directory: &D) -> Result<Scope, Answer> {
    let view = &call.view;
    let scheme = call.request.uri().scheme_str();
    match view.way(call.place.as_deref(), call.dialled(), scheme) {
        Ok(Way::Listener(listener)) => Ok(Scope::Listener(Arc::clone(&listener.routes))),
        Ok(Way::Pod(addr)) => directory
            .pod(view, addr.ip(), addr.port())
            .map(Scope::Direct)
            .map_err(|refusal| Box::new(Err(refusal))),
        Ok(Way::Service(service, port)) => match view.cluster(port.cluster) {
            Some(cluster) => Ok(Scope::Service {
                routes: Arc::clone(&port.routes),
                otherwise: Destination::Cluster(Arc::clone(cluster)),
                session: port.session.clone(),
            }),
            None => refuse(
                Reason::Misconfigured,
                format!("service {} lost its cluster", service.name),
            ),
        },
        Err(astray) => {
            let mut refusal = Refusal::new(reason(&astray), astray.to_string());
            refusal.nowhere = matches!(astray, Astray::Service { .. });
            Err(Box::new(Err(refusal)))
        }
    }
}

fn reason(astray: &Astray) -> Reason {
    match astray {
        Astray::Authority(_) => Reason::BadRequest,
        Astray::Workload => Reason::Misconfigured,
        _ => Reason::NoRoute,
    }
}
