//! What is told of requests, by where they come in.

use std::collections::HashMap;
use std::sync::Arc;

use super::Place;
use crate::name::Host;
use crate::telemetry::MetricPlan;

/// Which of Istio's metrics are told, and how.
#[derive(Clone, Debug, Default)]
pub struct MetricPlans {
    /// Of what comes in.
    pub servers: ByService<MetricPlan>,
    /// Of what this process sends, and of what a Gateway passes on.
    pub clients: Arc<MetricPlan>,
}

impl MetricPlans {
    /// Of what comes in at a place. A Gateway is a caller in Istio's eyes.
    pub fn received(&self, place: &Place) -> &Arc<MetricPlan> {
        match place {
            Place::Port { .. } | Place::Listener { .. } => &self.clients,
            place => self.servers.at(place),
        }
    }
}

/// One thing for everything that a process receives, and others for some services.
#[derive(Clone, Debug, Default)]
pub struct ByService<T> {
    /// For everything that it receives.
    pub everywhere: Arc<T>,
    /// For requests of services for which it is another.
    pub services: HashMap<Host, Arc<T>>,
}

impl<T> ByService<T> {
    /// What applies at a place.
    pub fn at(&self, place: &Place) -> &Arc<T> {
        let own = match place {
            Place::Service { host, .. } if !self.services.is_empty() => self.services.get(host),
            _ => None,
        };
        own.unwrap_or(&self.everywhere)
    }
}
