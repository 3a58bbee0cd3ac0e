//! Routes: which of n rules decides, of requests and of connections, and which of n services is meant.

mod connections;
mod listed;
mod ranked;
mod services;

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, HeaderValue, Method};
use inmesh::matcher::HostPattern;
use inmesh::name::{Kind, ResourceRef};
use inmesh::policy::RequestHead;
use inmesh::policy::route::listed::Conditions;
use inmesh::policy::route::{
    Action, Backend, Backends, ClusterId, Predicates, RouteRule, RouteTable, RouteTableBuilder, RuleId,
    RuleOrigin, Target,
};

use super::SIZES;
use super::harness::{Harness, spread};

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    of_requests::<Predicates>(harness)?;
    of_requests::<Conditions>(harness)?;
    connections::run(harness)?;
    services::run(harness)
}

/// What a rule asks of a request; the default asks nothing.
trait Rule: Clone + Default + 'static {
    const ENGINE: &'static str;
    const WORLDS: &'static [World<Self>];

    /// Files it for a host.
    fn file(self, builder: &mut RouteTableBuilder, id: RuleId, host: &HostPattern);

    /// As the specification says it.
    fn holds(&self, head: &RequestHead<'_>) -> bool;
}

/// Its name, and the rule at each place: what differs from rule to rule.
type World<R> = (&'static str, fn(usize) -> Result<(HostPattern, R)>);

fn any_host<R>(rule: R) -> Result<(HostPattern, R)> {
    Ok((HostPattern::Any, rule))
}

/// One that differs by its host.
fn one_host<R: Rule>(n: usize) -> Result<(HostPattern, R)> {
    Ok((HostPattern::parse(&format!("item{n}.example.com"))?, R::default()))
}

/// All worlds of a kind of rule, at all sizes.
fn of_requests<R: Rule>(harness: &mut Harness) -> Result<()> {
    for (world, written) in R::WORLDS {
        for size in SIZES {
            let mut rules = (0..size - 1).map(written).collect::<Result<Vec<_>>>()?;
            rules.push((HostPattern::Any, R::default()));
            let mut builder = RouteTableBuilder::default();
            for (n, (host, asked)) in rules.iter().enumerate() {
                let id = rule(&mut builder, n)?;
                asked.clone().file(&mut builder, id, host);
            }
            let table = builder.build();
            // The specification as a loop. The rules are in order of precedence, and no world has two hosts that both
            // cover a request, the last rule's apart.
            let naive = |head: &RequestHead<'_>| {
                let holds =
                    |(pattern, asked): &(HostPattern, R)| pattern.matches(host(head)) && asked.holds(head);
                rules.iter().position(holds)
            };
            measure(harness, (R::ENGINE, world, size), &table, naive)?;
        }
    }
    Ok(())
}

/// A request that one rule of any world is for.
struct Asked {
    authority: String,
    path: String,
    query: String,
    headers: HeaderMap,
}

impl Asked {
    fn new(n: usize) -> Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "*/*"),
            ("user-agent", "bench"),
            ("x-request-id", "5f0c6a1e"),
            ("x-env", "prod"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for name in ["x-variant", "x-tenant"] {
            headers.insert(name, HeaderValue::from_str(&format!("v{n}"))?);
        }
        Ok(Self {
            authority: format!("item{n}.example.com:80"),
            path: format!("/service/v1/item{n}/detail"),
            query: format!("verbose=1&tenant=v{n}"),
            headers,
        })
    }

    /// Those for rules all over the world; one in eight is for nobody in particular.
    fn of_all(rules: usize) -> Result<Vec<Self>> {
        spread(rules, 256)
            .enumerate()
            .map(|(at, n)| Self::new(if at % 8 == 7 { rules + n + 1 } else { n }))
            .collect()
    }

    fn head(&self) -> RequestHead<'_> {
        let query = Some(&*self.query);
        RequestHead::unsent(&Method::GET, &self.authority, &self.path, query, &self.headers)
    }
}

/// The host without its port, for the naive twins.
fn host<'a>(head: &RequestHead<'a>) -> &'a str {
    head.authority
        .rsplit_once(':')
        .map_or(head.authority, |(host, _)| host)
}

/// Adds a rule that forwards to a cluster of its own.
fn rule(builder: &mut RouteTableBuilder, n: usize) -> Result<RuleId> {
    let backend = Backend::new(Target::Cluster(ClusterId(n as u32)), 1);
    let backends = Backends::new(vec![backend]).context("a backend with a share has none")?;
    let resource = ResourceRef::new(Kind::HTTPRoute, "default", "bench");
    let origin = RuleOrigin::new(resource, n as u32, None);
    Ok(builder.rule(RouteRule::new(origin, Action::Forward(backends)), None))
}

/// Sees that table and loop agree on every request, and times both.
fn measure(
    harness: &mut Harness,
    (engine, world, size): (&'static str, &'static str, usize),
    table: &RouteTable,
    naive: impl Fn(&RequestHead<'_>) -> Option<usize>,
) -> Result<()> {
    let requests = Asked::of_all(size - 1)?;
    for request in &requests {
        let found = table.find(&request.head()).map(|found| found.rule.0 as usize);
        let expected = naive(&request.head());
        ensure!(
            found == expected,
            "{world}, {}: {found:?}, not {expected:?}",
            request.path
        );
    }
    harness.decision(
        (engine, world, size),
        &requests,
        |request| table.find(&request.head()),
        |request| naive(&request.head()),
    );
    Ok(())
}
