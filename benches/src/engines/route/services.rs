//! Services: from the authority that a caller dials to the rule that decides there.

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, Method};
use inmesh::compile::{Handover, compile};
use inmesh::matcher::HostPattern;
use inmesh::policy::RequestHead;
use inmesh::snapshot::{ServicePortView, Snapshot, Way};

use super::super::SIZES;
use super::super::compile::{node, read, services};
use super::super::harness::{Harness, spread};

/// What a caller asks for, and what it is given.
fn find<'s>(
    snapshot: &'s Snapshot,
    headers: &HeaderMap,
    authority: &str,
) -> Option<(&'s ServicePortView, u32)> {
    let Ok(Way::Service(_, port)) = snapshot.way(None, authority, None) else {
        return None;
    };
    let head = RequestHead::unsent(&Method::GET, authority, "/api/detail", None, headers);
    Some((port, port.routes.find(&head)?.rule.0))
}

/// One service after the other.
fn naive<'s>(snapshot: &'s Snapshot, authority: &str) -> Option<&'s ServicePortView> {
    let (host, port) = authority.split_once(':')?;
    let port = port.parse().ok()?;
    let is_meant = |name: &inmesh::name::ServiceName| {
        let rest = host
            .strip_prefix(&*name.name)
            .and_then(|rest| rest.strip_prefix('.'));
        rest == Some(&*name.namespace)
    };
    snapshot.services.iter().find(|it| is_meant(&it.name))?.port(port)
}

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for size in SIZES {
        let store = read(&services(size)?)?;
        let snapshot = compile(&store, &node(), &Handover::default(), None).snapshot;
        let headers = HeaderMap::new();
        let authorities: Vec<_> = spread(size, 256)
            .map(|n| format!("service-{n}.default:80"))
            .collect();
        for authority in &authorities {
            let (port, rule) = find(&snapshot, &headers, authority).context("a service is not found")?;
            let expected = naive(&snapshot, authority).context("nor by looking at each")?;
            ensure!(
                std::ptr::eq(port, expected) && rule == 0,
                "{authority} is another service"
            );
        }
        harness.decision(
            ("route", "services", size),
            &authorities,
            |authority| find(&snapshot, &headers, authority),
            |authority| naive(&snapshot, authority),
        );
        let outside: Vec<_> = spread(size, 256)
            .map(|n| format!("a.zone{n}.example.com:80"))
            .collect();
        let zones: Vec<_> = (0..size)
            .map(|n| HostPattern::parse(&format!("*.zone{n}.example.com")))
            .collect::<Result<_, _>>()?;
        let looped = |authority: &str| {
            let (host, _) = authority.split_once(':')?;
            zones.iter().position(|zone| zone.matches(host))
        };
        ensure!(
            outside
                .iter()
                .all(|it| snapshot.way(None, it, None).is_ok() && looped(it).is_some()),
            "a wildcard host is not found"
        );
        harness.decision(
            ("route", "wildcard hosts", size),
            &outside,
            |authority| snapshot.way(None, authority, None).is_ok(),
            |authority| looped(authority),
        );
    }
    Ok(())
}
