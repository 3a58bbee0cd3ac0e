//! Gateway API: the best match decides, wherever it stands.

use anyhow::Result;
use http::HeaderName;
use inmesh::matcher::{FullRegex, HeaderPattern, HostPattern, PathPattern, QueryPattern, ValuePattern};
use inmesh::policy::RequestHead;
use inmesh::policy::route::{Predicates, RouteTableBuilder, RuleId};

use super::{Rule, World, any_host, one_host};

impl Rule for Predicates {
    const ENGINE: &'static str = "route";

    const WORLDS: &'static [World<Self>] = &[
        // A third of the rules also asks for a header.
        ("prefixes", |n| {
            any_host(Self {
                path: PathPattern::prefix(&format!("/service/v1/item{n}")),
                headers: (n % 3 == 1).then(|| header("x-variant", n)).into_iter().collect(),
                ..Self::default()
            })
        }),
        ("exact paths", |n| {
            of_path(PathPattern::Exact(format!("/service/v1/item{n}/detail").into()))
        }),
        ("beginnings (.*)", |n| {
            expression(&format!("/service/v1/item{n}/.*"))
        }),
        ("expressions", |n| {
            expression(&format!("/service/v1/item{n}/[a-z]+"))
        }),
        // One that begins and ends like all others.
        ("middles", |n| expression(&format!("/[a-z]+/v1/item{n}/[a-z]+"))),
        ("one header", |n| of_headers([header("x-tenant", n)])),
        // One that all ask for, and one that differs.
        ("two headers", |n| {
            let all = HeaderPattern {
                name: HeaderName::from_static("x-env"),
                value: ValuePattern::Exact("prod".into()),
            };
            of_headers([all, header("x-tenant", n)])
        }),
        ("parameter", |n| {
            let tenant = QueryPattern {
                name: "tenant".into(),
                value: ValuePattern::Exact(format!("v{n}").into()),
            };
            any_host(Self {
                query: Box::new([tenant]),
                ..Self::default()
            })
        }),
        ("hosts", one_host),
    ];

    fn file(self, builder: &mut RouteTableBuilder, id: RuleId, host: &HostPattern) {
        builder.matching(id, 0, std::slice::from_ref(host), self);
    }

    fn holds(&self, head: &RequestHead<'_>) -> bool {
        self.path.matches(head.path).is_some()
            && self.headers.iter().all(|it| it.matches(head.headers))
            && self.query.iter().all(|it| it.matches(head.query))
    }
}

fn of_path(path: PathPattern) -> Result<(HostPattern, Predicates)> {
    any_host(Predicates {
        path,
        ..Predicates::default()
    })
}

fn expression(text: &str) -> Result<(HostPattern, Predicates)> {
    of_path(PathPattern::Regex(FullRegex::parse(text)?))
}

fn of_headers<const N: usize>(headers: [HeaderPattern; N]) -> Result<(HostPattern, Predicates)> {
    any_host(Predicates {
        headers: Box::new(headers),
        ..Predicates::default()
    })
}

fn header(name: &'static str, n: usize) -> HeaderPattern {
    HeaderPattern {
        name: HeaderName::from_static(name),
        value: ValuePattern::Exact(format!("v{n}").into()),
    }
}
