//! What is written of requests, by where they come in.

use std::collections::HashMap;
use std::sync::Arc;

use super::Place;
use crate::name::Host;
use crate::telemetry::access::AccessLogs;

/// The access logs of a process.
#[derive(Debug, Default)]
pub struct LogPlan {
    /// Of everything that it receives.
    pub everywhere: Arc<AccessLogs>,
    /// Of requests for services that have others.
    pub services: HashMap<Host, Arc<AccessLogs>>,
}

impl LogPlan {
    /// The logs of a place; `None` if nothing is written.
    pub fn of(&self, place: &Place) -> Option<&Arc<AccessLogs>> {
        let own = match place {
            Place::Service { host, .. } if !self.services.is_empty() => self.services.get(host),
            _ => None,
        };
        Some(own.unwrap_or(&self.everywhere)).filter(|logs| !logs.is_empty())
    }
}
