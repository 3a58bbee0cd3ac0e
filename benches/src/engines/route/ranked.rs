//! Gateway API: the best match decides, wherever it stands.

use anyhow::Result;
use http::HeaderName;
use inmesh::matcher::{FullRegex, HeaderPattern, HostPattern, PathPattern, QueryPattern, ValuePattern};
use inmesh::policy::RequestHead;
use inmesh::policy::route::{Predicates, RouteTable, RouteTableBuilder};

use super::super::SIZES;
use super::super::harness::Harness;
use super::{host, measure, rule};

/// What differs from rule to rule.
#[derive(Clone, Copy, Debug)]
enum World {
    /// A path prefix; a third of the rules also asks for a header.
    Prefixes,
    /// A whole path.
    Paths,
    /// An expression that ends in `.*`, as a path.
    Beginnings,
    /// Any other, as a path.
    Expressions,
    /// One that begins and ends like all others, as a path.
    Middles,
    /// The same path, but a header's value.
    Tenants,
    /// The same path, a header that all ask for, and one that differs.
    TwoHeaders,
    /// The same path, but a query parameter's value.
    Parameters,
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
        Self::TwoHeaders,
        Self::Parameters,
        Self::Hosts,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Prefixes => "prefixes",
            Self::Paths => "exact paths",
            Self::Beginnings => "beginnings (.*)",
            Self::Expressions => "expressions",
            Self::Middles => "middles",
            Self::Tenants => "one header",
            Self::TwoHeaders => "two headers",
            Self::Parameters => "parameter",
            Self::Hosts => "hosts",
        }
    }

    fn rule(self, n: usize) -> Result<(HostPattern, Predicates)> {
        let mut predicates = Predicates::default();
        let mut host = HostPattern::Any;
        match self {
            Self::Prefixes => {
                predicates.path = PathPattern::prefix(&format!("/service/v1/item{n}"));
                if n % 3 == 1 {
                    predicates.headers = Box::new([header("x-variant", &format!("v{n}"))]);
                }
            }
            Self::Paths => predicates.path = PathPattern::Exact(format!("/service/v1/item{n}/detail").into()),
            Self::Beginnings => predicates.path = expression(&format!("/service/v1/item{n}/.*"))?,
            Self::Expressions => predicates.path = expression(&format!("/service/v1/item{n}/[a-z]+"))?,
            Self::Middles => predicates.path = expression(&format!("/[a-z]+/v1/item{n}/[a-z]+"))?,
            Self::Tenants => predicates.headers = Box::new([header("x-tenant", &format!("v{n}"))]),
            Self::TwoHeaders => {
                let both = [header("x-env", "prod"), header("x-tenant", &format!("v{n}"))];
                predicates.headers = Box::new(both);
            }
            Self::Parameters => {
                predicates.query = Box::new([QueryPattern {
                    name: "tenant".into(),
                    value: ValuePattern::Exact(format!("v{n}").into()),
                }]);
            }
            Self::Hosts => host = HostPattern::parse(&format!("item{n}.example.com"))?,
        }
        Ok((host, predicates))
    }
}

fn expression(text: &str) -> Result<PathPattern> {
    Ok(PathPattern::Regex(FullRegex::parse(text)?))
}

fn header(name: &'static str, value: &str) -> HeaderPattern {
    HeaderPattern {
        name: HeaderName::from_static(name),
        value: ValuePattern::Exact(value.into()),
    }
}

/// The specification as a loop: rules in order of precedence, the catch-all last.
fn naive(rules: &[(HostPattern, Predicates)], head: &RequestHead<'_>) -> Option<usize> {
    rules.iter().position(|(pattern, predicates)| {
        pattern.matches(host(head))
            && predicates.path.matches(head.path).is_some()
            && predicates.headers.iter().all(|it| it.matches(head.headers))
            && predicates.query.iter().all(|it| it.matches(head.query))
    })
}

fn table(rules: &[(HostPattern, Predicates)]) -> Result<RouteTable> {
    let mut builder = RouteTableBuilder::default();
    for (n, (host, predicates)) in rules.iter().enumerate() {
        let id = rule(&mut builder, n)?;
        builder.matching(id, 0, std::slice::from_ref(host), predicates.clone());
    }
    Ok(builder.build())
}

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for world in World::ALL {
        for size in SIZES {
            let mut rules = (0..size - 1).map(|n| world.rule(n)).collect::<Result<Vec<_>>>()?;
            rules.push((HostPattern::Any, Predicates::default()));
            let table = table(&rules)?;
            measure(harness, ("route", world.name(), size), &table, |head| {
                naive(&rules, head)
            })?;
        }
    }
    Ok(())
}
