//! What of a mesh is shown, as JSON.

use serde_json::{Value, json};

use super::Mesh;
use crate::layer::Stage;
use crate::snapshot::{InboundPolicy, Snapshot, Via};

pub(super) fn status(mesh: &Mesh) -> Value {
    let status = mesh.status().borrow().clone();
    let seconds = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH)
            .map(|since| since.as_secs())
            .unwrap_or(0)
    };
    json!({
        "ready": mesh.is_ready(),
        "draining": *mesh.inner.drain.stage().borrow() != Stage::Serving,
        "generation": status.generation,
        "identity": mesh.identity().as_str(),
        "certificateExpiry": seconds(mesh.certificate_expiry()),
        "problems": status.problems.iter().map(problem).collect::<Vec<_>>(),
        "resources": mesh.statuses(),
    })
}

/// One problem.
pub(crate) fn problem(problem: &crate::config::Problem) -> Value {
    json!({
        "severity": problem.severity.as_str(),
        "place": problem.place.to_string(),
        "resource": problem.resource.as_ref().map(ToString::to_string),
        "field": problem.field,
        "text": problem.text,
        "remedy": problem.remedy,
    })
}

/// The configuration in force, as compiled.
pub(super) fn dump(view: &Snapshot) -> Value {
    let services: Vec<Value> = view.services.iter().map(|service| json!({
        "name": service.name.to_string(),
        "host": service.host.as_str(),
        "ports": service.ports.iter().map(|port| json!({
            "port": port.number,
            "protocol": format!("{:?}", port.protocol),
            "rules": port.routes.rules().map(|(_, rule)| rule.origin.label.to_string()).collect::<Vec<_>>(),
            "cluster": port.cluster.0,
        })).collect::<Vec<_>>(),
    })).collect();
    let clusters: Vec<Value> = view.clusters.iter().map(|cluster| json!({
        "service": cluster.service.to_string(),
        "port": cluster.port,
        "subset": cluster.subset.as_deref(),
        "via": match &cluster.via {
            Via::Direct => "direct".to_owned(),
            Via::Waypoint { namespace, name } => format!("waypoint {namespace}/{name}"),
        },
        "endpoints": cluster.endpoints.endpoints().iter().map(|endpoint| json!({
            "workload": format!("{}/{}", endpoint.workload.namespace, endpoint.workload.name),
            "dial": endpoint.key.dial.to_string(),
            "authority": endpoint.key.authority.as_deref(),
            "identities": endpoint.identities.iter().map(|identity| identity.as_str()).collect::<Vec<_>>(),
            "inFlight": endpoint.cell.in_flight(),
            "silent": endpoint.cell.is_silent(),
        })).collect::<Vec<_>>(),
    })).collect();
    let inbound = match &view.inbound {
        InboundPolicy::DenyAll => json!({ "denyAll": "no configuration has been loaded yet" }),
        InboundPolicy::Workload(policy) => json!({
            "workload": {
                "strict": policy.strict.default,
                "strictPorts": policy.strict.ports.iter().map(|(port, strict)| (port.to_string(), json!(strict)))
                    .collect::<serde_json::Map<_, _>>(),
                "restricted": policy.http.authz.restricts(),
                "ports": policy.ports.iter().map(|(port, guards)| (port.to_string(), guards.iter().map(guard).collect()))
                    .collect::<serde_json::Map<_, _>>(),
            }
        }),
        InboundPolicy::Waypoint(policy) => json!({
            "gateway": policy.gateway.to_string(),
            "services": policy.services.values().flatten().map(guard).collect::<Vec<_>>(),
            "workloads": policy.workloads.keys().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    };
    json!({
        "generation": view.generation,
        "services": services,
        "clusters": clusters,
        "inbound": inbound,
        "listeners": view.gateway.listeners().map(|listener| json!({
            "name": &*listener.name,
            "port": listener.port,
            "host": listener.host.to_string(),
            "certificates": listener.tls.iter().flat_map(|tls| &tls.certificates)
                .map(|certificate| certificate.source.to_string()).collect::<Vec<_>>(),
            "rules": listener.routes.rules().map(|(_, rule)| rule.origin.label.to_string()).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn guard(guard: &crate::snapshot::ServiceGuard) -> Value {
    json!({
        "service": guard.service.to_string(),
        "port": guard.port,
        "restricted": guard.http.authz.restricts(),
        "waypoints": guard.waypoints.iter().map(|identity| identity.as_str()).collect::<Vec<_>>(),
    })
}
