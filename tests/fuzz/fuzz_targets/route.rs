//! A route table: the index finds what looking at every alternative in order finds.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use inmesh::matcher::{HeaderPattern, HostPattern, PathPattern, QueryPattern, ValuePattern};
use inmesh::name::{Kind, ResourceRef};
use inmesh::policy::RequestHead;
use inmesh::policy::route::listed::{Condition, Conditions, PathCondition, Subject};
use inmesh::policy::route::{Action, Predicates, RouteRule, RouteTableBuilder, RuleOrigin, Verdict};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const HOSTS: [&str; 8] = [
    "*",
    "a.com",
    "b.a.com",
    "*.com",
    "*.a.com",
    "*.b.a.com",
    "reviews",
    "10.0.0.1",
];
const NAMES: [&str; 3] = ["x", "y", "z"];

fn text<'a>(u: &mut Unstructured<'a>) -> Result<&'a str> {
    let length = u.int_in_range(0..=8)?;
    let bytes = u.bytes(length)?;
    Ok(std::str::from_utf8(bytes).unwrap_or("/a"))
}

fn path(u: &mut Unstructured<'_>) -> Result<String> {
    if u.ratio(1, 4)? {
        return Ok(format!("/{}", text(u)?));
    }
    let mut path = String::new();
    for _ in 0..u.int_in_range(0..=4)? {
        path.push('/');
        path.push_str(u.choose(&["a", "b", "ab", "A", "", "c.d"])?);
    }
    if path.is_empty() {
        path.push('/');
    }
    Ok(path)
}

fn value(u: &mut Unstructured<'_>) -> Result<ValuePattern> {
    Ok(match u.int_in_range(0..=3)? {
        0 => ValuePattern::Any,
        1 => ValuePattern::Prefix(text(u)?.into()),
        _ => ValuePattern::Exact((*u.choose(&["1", "2", "1,2", ""])?).into()),
    })
}

fn predicates(u: &mut Unstructured<'_>) -> Result<Predicates> {
    let path = path(u)?;
    let path = match u.int_in_range(0..=4)? {
        0 | 1 => PathPattern::prefix(&path),
        2 => PathPattern::Method("a".into()),
        _ => PathPattern::Exact(path.into()),
    };
    let mut headers = Vec::new();
    for name in NAMES {
        if u.ratio(1, 5)? {
            headers.push(HeaderPattern {
                name: HeaderName::from_static(name),
                value: value(u)?,
            });
        }
    }
    let mut query = Vec::new();
    if u.ratio(1, 5)? {
        query.push(QueryPattern {
            name: "q".into(),
            value: value(u)?,
        });
    }
    Ok(Predicates {
        path,
        method: u.ratio(1, 5)?.then_some(Method::PUT),
        headers: headers.into(),
        query: query.into(),
    })
}

fn conditions(u: &mut Unstructured<'_>) -> Result<Conditions> {
    let path = match u.int_in_range(0..=3)? {
        0 => None,
        1 => Some(PathCondition::new(
            ValuePattern::Exact(path(u)?.into()),
            u.arbitrary()?,
        )),
        _ => Some(PathCondition::new(
            ValuePattern::Prefix(path(u)?.into()),
            u.arbitrary()?,
        )),
    };
    let mut others = Vec::new();
    for _ in 0..u.int_in_range(0..=2)? {
        let subject = match u.int_in_range(0..=5)? {
            0 => Subject::Method,
            1 => Subject::Authority,
            2 => Subject::Target,
            3 => Subject::Query("q".into()),
            _ => Subject::Header(HeaderName::from_static(NAMES[u.choose_index(3)?])),
        };
        others.push(Condition {
            subject,
            value: value(u)?,
            negated: u.ratio(1, 4)?,
        });
    }
    Ok(Conditions {
        path,
        others: others.into(),
    })
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut builder = RouteTableBuilder::default();
    for index in 0..u.int_in_range(0..=40)? {
        let resource = ResourceRef::new(Kind::HTTPRoute, "ns", *u.choose(&["r", "s"])?);
        let rule = RouteRule::new(RuleOrigin::new(resource, index, None), Action::fail("fuzz"));
        let id = builder.rule(rule, u.ratio(1, 2)?.then_some(u64::from(index % 3)));
        let host = HostPattern::parse(u.choose(&HOSTS)?).unwrap_or(HostPattern::Any);
        if u.ratio(1, 12)? {
            builder.section();
        }
        if u.ratio(1, 2)? {
            builder.listed(id, 0, &[host], conditions(u)?);
        } else {
            builder.matching(id, 0, &[host], predicates(u)?);
        }
    }
    let table = builder.build();
    for _ in 0..u.int_in_range(1..=8)? {
        let authority = match u.ratio(1, 3)? {
            true => text(u)?,
            false => *u.choose(&[
                "a.com",
                "B.a.com",
                "c.b.a.com:80",
                "com",
                "reviews:9080",
                "a.com.",
                "",
                "[::1]:80",
            ])?,
        };
        let (path, query) = (path(u)?, u.ratio(1, 3)?.then_some(text(u)?));
        let mut headers = HeaderMap::new();
        for _ in 0..u.int_in_range(0..=3)? {
            let value = HeaderValue::from_bytes(text(u)?.as_bytes()).unwrap_or(HeaderValue::from_static("1"));
            headers.append(NAMES[u.choose_index(3)?], value);
        }
        let method = if u.arbitrary()? { Method::PUT } else { Method::GET };
        let head = RequestHead::unsent(&method, authority, &path, query, &headers);
        let found = table.find(&head).map(|found| {
            assert!(found.matched <= path.len());
            found.rule
        });
        let mut told = table
            .explain(&head)
            .into_iter()
            .filter(|it| it.verdict == Verdict::Won);
        assert_eq!(
            found,
            told.next().map(|it| it.rule),
            "{authority:?} {path:?} {query:?} {headers:?}"
        );
        assert!(told.next().is_none());
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    // It fails only when there are no more bytes to choose by.
    let _ = run(&mut Unstructured::new(bytes));
});
