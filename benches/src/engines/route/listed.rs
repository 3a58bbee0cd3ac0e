//! VirtualService: the first match decides.

use anyhow::Result;
use http::HeaderName;
use inmesh::matcher::{FullRegex, HostPattern, ValuePattern};
use inmesh::policy::RequestHead;
use inmesh::policy::route::listed::{Condition, Conditions, PathCondition, Subject};
use inmesh::policy::route::{RouteTable, RouteTableBuilder};

use super::super::SIZES;
use super::super::harness::Harness;
use super::{host, measure, rule};

/// What differs from rule to rule.
#[derive(Clone, Copy, Debug)]
enum World {
    /// What the path begins with.
    Prefixes,
    /// A whole path, in any case.
    Paths,
    /// An expression that ends in `.*`, as a path.
    Beginnings,
    /// Any other, as a path.
    Expressions,
    /// One that begins and ends like all others, as a path.
    Middles,
    /// A header's value; every rule asks for another as well.
    Tenants,
    /// A query parameter's value.
    Parameters,
    /// The authority, as a condition.
    Authorities,
    /// The host.
    Hosts,
}

impl World {
    const ALL: [Self; 9] = [
        Self::Prefixes,
        Self::Paths,
        Self::Beginnings,
        Self::Expressions,
        Self::Middles,
        Self::Tenants,
        Self::Parameters,
        Self::Authorities,
        Self::Hosts,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Prefixes => "prefixes",
            Self::Paths => "paths, any case",
            Self::Beginnings => "beginnings (.*)",
            Self::Expressions => "expressions",
            Self::Middles => "middles",
            Self::Tenants => "two headers",
            Self::Parameters => "parameter",
            Self::Authorities => "authority",
            Self::Hosts => "hosts",
        }
    }

    fn rule(self, n: usize) -> Result<(HostPattern, Conditions)> {
        let mut conditions = Conditions::default();
        let mut host = HostPattern::Any;
        let exact = |text: String| ValuePattern::Exact(text.into());
        match self {
            Self::Prefixes => {
                let prefix = ValuePattern::Prefix(format!("/service/v1/item{n}/").into());
                conditions.path = Some(PathCondition::new(prefix, false));
            }
            Self::Paths => {
                let path = exact(format!("/Service/V1/item{n}/detail"));
                conditions.path = Some(PathCondition::new(path, true));
            }
            Self::Beginnings => conditions.path = expression(&format!("/service/v1/item{n}/.*"))?,
            Self::Expressions => conditions.path = expression(&format!("/service/v1/item{n}/[a-z]+"))?,
            Self::Middles => conditions.path = expression(&format!("/[a-z]+/v1/item{n}/[a-z]+"))?,
            Self::Tenants => {
                let header = |name, value| condition(Subject::Header(HeaderName::from_static(name)), value);
                let both = [
                    header("x-env", exact("prod".into())),
                    header("x-tenant", exact(format!("v{n}"))),
                ];
                conditions.others = Box::new(both);
            }
            Self::Parameters => {
                conditions.others =
                    Box::new([condition(Subject::Query("tenant".into()), exact(format!("v{n}")))]);
            }
            Self::Authorities => {
                let authority = exact(format!("item{n}.example.com:80"));
                conditions.others = Box::new([condition(Subject::Authority, authority)]);
            }
            Self::Hosts => host = HostPattern::parse(&format!("item{n}.example.com"))?,
        }
        Ok((host, conditions))
    }
}

fn expression(text: &str) -> Result<Option<PathCondition>> {
    let value = ValuePattern::Regex(FullRegex::parse(text)?);
    Ok(Some(PathCondition::new(value, false)))
}

fn condition(subject: Subject, value: ValuePattern) -> Condition {
    Condition {
        subject,
        value,
        negated: false,
    }
}

/// The specification as a loop. No world has two hosts that both cover a request, the last rule's apart.
fn naive(rules: &[(HostPattern, Conditions)], head: &RequestHead<'_>) -> Option<usize> {
    let holds = |(pattern, conditions): &(HostPattern, Conditions)| {
        pattern.matches(host(head)) && conditions.hold(head)
    };
    rules.iter().position(holds)
}

fn table(rules: &[(HostPattern, Conditions)]) -> Result<RouteTable> {
    let mut builder = RouteTableBuilder::default();
    for (n, (host, conditions)) in rules.iter().enumerate() {
        let id = rule(&mut builder, n)?;
        builder.listed(id, 0, std::slice::from_ref(host), conditions.clone());
    }
    Ok(builder.build())
}

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for world in World::ALL {
        for size in SIZES {
            let mut rules = (0..size - 1).map(|n| world.rule(n)).collect::<Result<Vec<_>>>()?;
            rules.push((HostPattern::Any, Conditions::default()));
            let table = table(&rules)?;
            measure(harness, ("list", world.name(), size), &table, |head| {
                naive(&rules, head)
            })?;
        }
    }
    Ok(())
}
