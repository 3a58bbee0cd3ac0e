//! Routes: which of n rules decides.

use std::sync::Arc;

use anyhow::{Result, ensure};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use inmesh::matcher::{HeaderPattern, HostPattern, PathPattern, ValuePattern};
use inmesh::name::{Kind, ResourceRef};
use inmesh::policy::RequestHead;
use inmesh::policy::retry::RetryPolicy;
use inmesh::policy::route::{
    Action, Backend, Backends, ClusterId, Predicates, RouteRule, RouteTable, RouteTableBuilder, RuleOrigin,
    Target,
};

use super::SIZES;
use super::harness::{Harness, spread};

/// A request that belongs to one of the rules, or to the last, which takes everything.
struct Asked {
    authority: String,
    path: String,
    headers: HeaderMap,
}

impl Asked {
    fn head(&self) -> RequestHead<'_> {
        RequestHead::unsent(&Method::GET, &self.authority, &self.path, None, &self.headers)
    }
}

/// What differs from rule to rule.
#[derive(Clone, Copy, Debug)]
enum World {
    /// A path prefix; a third of the rules also asks for a header.
    Prefixes,
    /// A whole path.
    Paths,
    /// The same path, but a header's value.
    Tenants,
    /// The host.
    Hosts,
}

impl World {
    fn name(self) -> &'static str {
        match self {
            Self::Prefixes => "prefixes",
            Self::Paths => "exact paths",
            Self::Tenants => "one header",
            Self::Hosts => "hosts",
        }
    }

    fn rule(self, n: usize) -> (HostPattern, Predicates) {
        let mut predicates = Predicates::default();
        let mut host = HostPattern::Any;
        match self {
            Self::Prefixes => {
                predicates.path = PathPattern::prefix(&format!("/service/v1/item{n}"));
                if n % 3 == 1 {
                    predicates.headers = Box::new([header("x-variant", n)]);
                }
            }
            Self::Paths => predicates.path = PathPattern::Exact(format!("/service/v1/item{n}/detail").into()),
            Self::Tenants => predicates.headers = Box::new([header("x-tenant", n)]),
            Self::Hosts => {
                host = HostPattern::parse(&format!("item{n}.example.com")).unwrap_or(HostPattern::Any);
            }
        }
        (host, predicates)
    }

    /// The request that rule `n` is for.
    fn request(self, n: usize) -> Asked {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "*/*"),
            ("user-agent", "bench"),
            ("x-request-id", "5f0c6a1e"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for name in ["x-variant", "x-tenant"] {
            if let Ok(value) = HeaderValue::from_str(&format!("v{n}")) {
                headers.insert(name, value);
            }
        }
        Asked {
            authority: format!("item{n}.example.com:80"),
            path: format!("/service/v1/item{n}/detail"),
            headers,
        }
    }
}

fn header(name: &'static str, n: usize) -> HeaderPattern {
    HeaderPattern {
        name: HeaderName::from_static(name),
        value: ValuePattern::Exact(format!("v{n}").into()),
    }
}

/// The specification as a loop: rules in order of precedence, the catch-all last.
struct Naive(Vec<(HostPattern, Predicates)>);

impl Naive {
    fn find(&self, head: &RequestHead<'_>) -> Option<usize> {
        let host = head
            .authority
            .rsplit_once(':')
            .map_or(head.authority, |(host, _)| host);
        self.0.iter().position(|(pattern, predicates)| {
            pattern.matches(host)
                && predicates.path.matches(head.path).is_some()
                && predicates
                    .headers
                    .iter()
                    .all(|header| header.matches(head.headers))
        })
    }
}

fn table(rules: &[(HostPattern, Predicates)]) -> Result<RouteTable> {
    let mut builder = RouteTableBuilder::default();
    let resource = ResourceRef::new(Kind::HTTPRoute, "default", "bench");
    let retry = Arc::new(RetryPolicy::istio_default());
    for (n, (host, predicates)) in rules.iter().enumerate() {
        let backend = Backend::new(Target::Cluster(ClusterId(n as u32)), 1);
        let Some(backends) = Backends::new(vec![backend]) else {
            anyhow::bail!("a backend with a share has none");
        };
        let origin = RuleOrigin::new(resource.clone(), n as u32, None);
        let rule = RouteRule {
            retry: retry.clone(),
            ..RouteRule::new(origin, Action::Forward(backends))
        };
        let id = builder.rule(rule, None);
        builder.matching(id, 0, std::slice::from_ref(host), predicates.clone());
    }
    Ok(builder.build())
}

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for world in [World::Prefixes, World::Paths, World::Tenants, World::Hosts] {
        for size in SIZES {
            let mut rules: Vec<_> = (0..size - 1).map(|n| world.rule(n)).collect();
            rules.push((HostPattern::Any, Predicates::default()));
            // One request in eight is for nobody in particular.
            let requests: Vec<_> = spread(size - 1, 256)
                .enumerate()
                .map(|(at, n)| world.request(if at % 8 == 7 { size + n } else { n }))
                .collect();
            let table = table(&rules)?;
            let naive = Naive(rules);
            for request in &requests {
                let found = table.find(&request.head()).map(|found| found.rule.0 as usize);
                let expected = naive.find(&request.head());
                ensure!(found == expected, "{}: {found:?}, not {expected:?}", request.path);
            }
            harness.decision(
                ("route", world.name(), size),
                &requests,
                |request| table.find(&request.head()),
                |request| naive.find(&request.head()),
            );
        }
    }
    Ok(())
}
