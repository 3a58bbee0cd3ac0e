//! Connections: which of n routes takes one, by the server name that it asks for.

use anyhow::{Context, Result, ensure};
use inmesh::matcher::HostPattern;
use inmesh::name::{Host, Kind, ResourceRef};
use inmesh::policy::connection::{ConnectionRule, ConnectionTable, ConnectionTableBuilder, Opening, Opens};
use inmesh::policy::route::{Backend, Backends, ClusterId, RuleOrigin, Target};

use super::super::SIZES;
use super::super::harness::{Harness, spread};

/// What differs from rule to rule.
const WORLDS: [(&str, &str); 2] = [("server names", ""), ("wildcards", "*.")];

/// The last takes what no other does.
fn table(opens: &[Opens]) -> Result<ConnectionTable> {
    let mut builder = ConnectionTableBuilder::default();
    for (n, opens) in opens.iter().enumerate() {
        let backend = Backend::new(Target::Cluster(ClusterId(n as u32)), 1);
        let backends = Backends::new(vec![backend]).context("a backend with a share has none")?;
        let resource = ResourceRef::new(Kind::TLSRoute, "default", "bench");
        let id = builder.rule(ConnectionRule {
            origin: RuleOrigin::new(resource, n as u32, None),
            backends: Ok(backends),
        });
        builder.on(id, opens.clone());
    }
    Ok(builder.build())
}

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for (world, star) in WORLDS {
        for size in SIZES {
            let mut opens = (0..size - 1)
                .map(|n| HostPattern::parse(&format!("{star}item{n}.example.com")).map(Opens::Tls))
                .collect::<Result<Vec<_>, _>>()?;
            opens.push(Opens::Anyhow);
            let table = table(&opens)?;
            let names = spread(size - 1, 256)
                .map(|n| Host::parse(&format!("{}item{n}.example.com", star.replace('*', "a"))))
                .collect::<Result<Vec<_>, _>>()?;
            let find = |name: &Host| table.find(Opening::Tls(Some(name))).map(|it| it.origin.rule);
            let naive = |name: &Host| opens.iter().position(|it| it.hold(Opening::Tls(Some(name))));
            ensure!(
                names
                    .iter()
                    .all(|name| find(name).map(|it| it as usize) == naive(name)),
                "{world}: table and loop disagree"
            );
            harness.decision(("connection", world, size), &names, find, naive);
        }
    }
    Ok(())
}
