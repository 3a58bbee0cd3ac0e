//! Authorization: whether one of n rules lets a request pass, or keeps it out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use inmesh::matcher::TextSet;
use inmesh::name::{Kind, ResourceRef, SpiffeId};
use inmesh::policy::authz::{Action, AuthzRule, Clause, Condition, EngineBuilder, HeaderKey, Layer, Test};
use inmesh::policy::{Caller, RequestHead};

use super::SIZES;
use super::harness::{Harness, spread};

struct Asked {
    identity: SpiffeId,
    path: String,
    headers: HeaderMap,
}

impl Asked {
    fn new(n: usize) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        headers.insert("x-tenant", HeaderValue::from_str(&format!("v{n}"))?);
        Ok(Self {
            identity: SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/client{n}"))?,
            path: format!("/service/v1/item{n}/detail"),
            headers,
        })
    }

    fn head(&self) -> RequestHead<'_> {
        const ADDR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        RequestHead {
            caller: Caller {
                identity: Some(&self.identity),
                addr: ADDR,
                remote: ADDR,
            },
            destination: SocketAddr::new(ADDR, 80),
            ..RequestHead::unsent(&Method::GET, "server:80", &self.path, None, &self.headers)
        }
    }
}

/// What rule `n` asks for besides the method GET.
#[derive(Clone, Copy, Debug)]
enum World {
    /// ALLOW one principal.
    Principals,
    /// ALLOW below one path.
    Paths,
    /// DENY one tenant by a header.
    Tenants,
}

impl World {
    fn name(self) -> &'static str {
        match self {
            Self::Principals => "allow principals",
            Self::Paths => "allow paths",
            Self::Tenants => "deny by header",
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Principals | Self::Paths => Action::Allow,
            Self::Tenants => Action::Deny,
        }
    }

    fn value(self, n: usize) -> String {
        match self {
            Self::Principals => format!("cluster.local/ns/default/sa/client{n}"),
            Self::Paths => format!("/service/v1/item{n}/*"),
            Self::Tenants => format!("v{n}"),
        }
    }

    fn rule(self, n: usize) -> AuthzRule {
        let value = self.value(n);
        let values = TextSet::parse([value.as_str()]);
        let test = match self {
            Self::Principals => Test::Principal(values),
            Self::Paths => Test::Path {
                values,
                templates: Vec::new(),
            },
            Self::Tenants => Test::Header {
                name: HeaderKey::Name(HeaderName::from_static("x-tenant")),
                values,
            },
        };
        let get = Test::Method(TextSet::parse(["GET"]));
        let clause = |test| Clause {
            any: vec![vec![Condition { test, negated: false }]],
        };
        AuthzRule {
            clauses: vec![clause(test), clause(get)],
        }
    }

    /// The specification as a loop over the values.
    fn naive(self, values: &[String], head: &RequestHead<'_>) -> bool {
        let principal = head
            .caller
            .identity
            .map(|id| id.as_str().trim_start_matches("spiffe://"));
        let tenant = head.headers.get("x-tenant").and_then(|value| value.to_str().ok());
        let holds = |value: &String| {
            *head.method == Method::GET
                && match self {
                    Self::Principals => principal == Some(value),
                    Self::Paths => head.path.starts_with(value.trim_end_matches('*')),
                    Self::Tenants => tenant == Some(value),
                }
        };
        let hit = values.iter().any(holds);
        hit == (self.action() == Action::Allow)
    }
}

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for world in [World::Principals, World::Paths, World::Tenants] {
        for size in SIZES {
            let mut builder = EngineBuilder::new(Layer::Http);
            for n in 0..size {
                let name = ResourceRef::new(Kind::AuthorizationPolicy, "default", format!("p{n}"));
                builder = builder.policy(name, world.action(), false, [(0, world.rule(n))]);
            }
            let engine = builder.build();
            let values: Vec<_> = (0..size).map(|n| world.value(n)).collect();
            // One request in eight meets no rule.
            let requests: Vec<_> = spread(size, 256)
                .enumerate()
                .map(|(at, n)| Asked::new(if at % 8 == 7 { size + n } else { n }))
                .collect::<Result<_>>()?;
            for request in &requests {
                let allowed = engine.decide(&request.head()).is_allowed();
                let expected = world.naive(&values, &request.head());
                ensure!(
                    allowed == expected,
                    "{}: {allowed}, not {expected}",
                    request.identity
                );
            }
            harness.decision(
                ("authz", world.name(), size),
                &requests,
                |request| engine.decide(&request.head()).is_allowed(),
                |request| world.naive(&values, &request.head()),
            );
        }
    }
    Ok(())
}
