//! VirtualService: the first match decides.

use anyhow::Result;
use http::HeaderName;
use inmesh::matcher::{FullRegex, HostPattern, ValuePattern};
use inmesh::policy::RequestHead;
use inmesh::policy::route::listed::{Condition, Conditions, PathCondition, Subject};
use inmesh::policy::route::{RouteTableBuilder, RuleId};

use super::{Rule, World, any_host, one_host};

impl Rule for Conditions {
    const ENGINE: &'static str = "list";

    const WORLDS: &'static [World<Self>] = &[
        ("prefixes", |n| {
            of_path(
                ValuePattern::Prefix(format!("/service/v1/item{n}/").into()),
                false,
            )
        }),
        ("paths, any case", |n| {
            of_path(exact(format!("/Service/V1/item{n}/detail")), true)
        }),
        ("beginnings (.*)", |n| {
            expression(&format!("/service/v1/item{n}/.*"))
        }),
        ("expressions", |n| {
            expression(&format!("/service/v1/item{n}/[a-z]+"))
        }),
        // One that begins and ends like all others.
        ("middles", |n| expression(&format!("/[a-z]+/v1/item{n}/[a-z]+"))),
        // One that all ask for, and one that differs.
        ("two headers", |n| {
            others([
                condition(header("x-env"), "prod".into()),
                condition(header("x-tenant"), format!("v{n}")),
            ])
        }),
        ("parameter", |n| {
            others([condition(Subject::Query("tenant".into()), format!("v{n}"))])
        }),
        ("authority", |n| {
            others([condition(Subject::Authority, format!("item{n}.example.com:80"))])
        }),
        ("hosts", one_host),
    ];

    fn file(self, builder: &mut RouteTableBuilder, id: RuleId, host: &HostPattern) {
        builder.listed(id, 0, std::slice::from_ref(host), self);
    }

    fn holds(&self, head: &RequestHead<'_>) -> bool {
        self.hold(head)
    }
}

fn of_path(value: ValuePattern, ignore_case: bool) -> Result<(HostPattern, Conditions)> {
    any_host(Conditions {
        path: Some(PathCondition::new(value, ignore_case)),
        ..Conditions::default()
    })
}

fn expression(text: &str) -> Result<(HostPattern, Conditions)> {
    of_path(ValuePattern::Regex(FullRegex::parse(text)?), false)
}

fn others<const N: usize>(others: [Condition; N]) -> Result<(HostPattern, Conditions)> {
    any_host(Conditions {
        others: Box::new(others),
        ..Conditions::default()
    })
}

fn condition(subject: Subject, value: String) -> Condition {
    Condition {
        subject,
        value: exact(value),
        negated: false,
    }
}

fn header(name: &'static str) -> Subject {
    Subject::Header(HeaderName::from_static(name))
}

fn exact(text: String) -> ValuePattern {
    ValuePattern::Exact(text.into())
}
