//! What was compiled, in words.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::balance::Endpoint;
use crate::snapshot::{InboundPolicy, ServiceGuard, Snapshot};

/// A snapshot, part by part, in words that do not depend on how clusters are numbered or tables of hashes laid out.
pub(super) fn shown(snapshot: &Snapshot) -> BTreeMap<String, Vec<String>> {
    let mut parts = BTreeMap::new();
    let mut show = |part: String, what: &dyn std::fmt::Debug| {
        let mut words = words(&format!("{what:?}"), snapshot);
        words.sort();
        assert!(parts.insert(part.clone(), words).is_none(), "{part} twice");
    };
    show("hosts".into(), &snapshot.hosts);
    show("wildcards".into(), &snapshot.wildcard_hosts);
    show("addresses".into(), &snapshot.vips);
    for (at, service) in snapshot.services.iter().enumerate() {
        show(format!("service {at}"), &(&service.name, &service.host));
        for (nth, port) in service.ports.iter().enumerate() {
            let plain = (port.number, port.protocol, port.cluster, &port.session);
            show(format!("service {at} port {nth}"), &plain);
            show(format!("service {at} port {nth} requests"), &port.routes);
            show(format!("service {at} port {nth} connections"), &port.connections);
        }
    }
    let mut clusters: Vec<_> = snapshot.clusters.iter().collect();
    clusters.sort_by_key(|it| (it.to_string(), it.service.clone()));
    for (at, it) in clusters.iter().enumerate() {
        let endpoint = |it: &Arc<Endpoint>| {
            format!(
                "{:?} {} {:?} {:?} {} {:?} {:?}",
                it.key, it.addr, it.identities, it.tls, it.weight, it.rank, it.workload
            )
        };
        let endpoints: Vec<_> = it.endpoints.endpoints().iter().map(endpoint).collect();
        let whole = (
            it.to_string(),
            &it.service,
            it.protocol,
            &it.via,
            it.endpoints.policy(),
            endpoints,
        );
        show(format!("cluster {at}"), &whole);
    }
    let guards = |all: &[ServiceGuard]| format!("{all:?}");
    match &snapshot.inbound {
        InboundPolicy::Workload(it) => {
            show("inbound".into(), &(&it.http, &it.l4, &it.strict, &it.waypoints));
            for (port, all) in &it.ports {
                show(format!("inbound {port}"), &guards(all));
            }
        }
        InboundPolicy::Waypoint(it) => {
            show(
                "inbound".into(),
                &(&it.gateway, it.forwards_client_cert, &it.workloads),
            );
            for (id, all) in &it.services {
                show(format!("inbound {}", id.0), &guards(all));
            }
        }
        InboundPolicy::DenyAll => show("inbound".into(), &"nothing"),
    }
    show("gateway".into(), &snapshot.gateway);
    show("pods".into(), &snapshot.pods);
    show(
        "me".into(),
        &(
            &snapshot.me,
            &snapshot.my_ip,
            &snapshot.baggage,
            &snapshot.explained_to,
        ),
    );
    show("told".into(), &(&snapshot.logs, &snapshot.metrics));
    parts
}

/// Words and numbers; the number of a cluster is the cluster's name.
fn words(text: &str, snapshot: &Snapshot) -> Vec<String> {
    let separators = |it: char| " ,()[]{}".contains(it);
    let mut all = text.split(separators).filter(|it| !it.is_empty());
    let mut words = Vec::new();
    while let Some(word) = all.next() {
        words.push(match word {
            "ClusterId" => match all
                .next()
                .and_then(|id| snapshot.clusters.get(id.parse::<usize>().ok()?))
            {
                Some(cluster) => format!("{} {cluster}", cluster.service),
                None => "no cluster".to_owned(),
            },
            // When a cache of tokens was begun has nothing to do with what is in force.
            "tv_sec:" | "tv_nsec:" => all.next().map(|_| "time".to_owned()).unwrap_or_default(),
            word => word.to_owned(),
        });
    }
    words
}
