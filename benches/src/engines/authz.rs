//! Authorization: whether one of n rules lets a request pass, or keeps it out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use inmesh::matcher::{CidrSet, PathTemplate, TextSet, parse_block};
use inmesh::name::{Kind, ResourceRef, SpiffeId};
use inmesh::policy::authz::{
    Action, AuthzEngine, AuthzRule, Clause, Condition, EngineBuilder, HeaderKey, Layer, RequestPrincipal,
    Test,
};
use inmesh::policy::{Caller, RequestHead};
use serde_json::{Map, Value, json};

use super::SIZES;
use super::harness::{Harness, spread};

/// How many policies.
const POLICIES: [usize; 4] = [1, 100, 1_000, 10_000];

/// A request that has everything that rule `n` may ask for.
struct Asked {
    identity: SpiffeId,
    addr: Ipv4Addr,
    authority: String,
    path: String,
    port: u16,
    headers: HeaderMap,
    claims: Map<String, Value>,
}

impl Asked {
    fn new(n: usize) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        headers.insert("x-tenant", HeaderValue::from_str(&format!("v{n}.tenant"))?);
        headers.insert(
            HeaderName::try_from(format!("x-only-{n}"))?,
            HeaderValue::from_static("1"),
        );
        let claims =
            json!({"iss": format!("issuer{n}"), "sub": "user", "groups": ["all", format!("group{n}")]});
        Ok(Self {
            identity: SpiffeId::parse(&format!("spiffe://td{n}/ns/ns{n}/sa/client{n}"))?,
            addr: address(n),
            authority: format!("item{n}.example.com:80"),
            path: format!("/service/v1/item{n}/detail"),
            port: port(n),
            headers,
            claims: claims.as_object().cloned().unwrap_or_default(),
        })
    }

    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            caller: Caller {
                identity: Some(&self.identity),
                addr: self.addr.into(),
                remote: self.addr.into(),
            },
            destination: SocketAddr::new(self.addr.into(), self.port),
            sni: &self.authority,
            claims: Some(&self.claims),
            ..RequestHead::unsent(&Method::GET, &self.authority, &self.path, None, &self.headers)
        }
    }
}

/// In a block of 16 addresses of its own.
fn address(n: usize) -> Ipv4Addr {
    let [_, a, b, c] = (n as u32 * 16 + 5).to_be_bytes();
    Ipv4Addr::new(10, a, b, c)
}

fn port(n: usize) -> u16 {
    n as u16 + 1
}

/// What a rule asks for besides the method GET, and how the request shows it.
struct World {
    name: &'static str,
    value: fn(usize) -> String,
    test: fn(&str) -> Result<Test>,
    /// The specification, for the naive twin.
    holds: fn(&str, &RequestHead<'_>) -> bool,
    negated: bool,
}

const WORLDS: [World; 24] = [
    World {
        name: "principal",
        value: |n| format!("td{n}/ns/ns{n}/sa/client{n}"),
        test: |value| Ok(Test::Principal(texts(value))),
        holds: |value, head| identity(head).is_some_and(|id| id.principal() == value),
        negated: false,
    },
    World {
        name: "principal*",
        value: |n| format!("td{n}/ns/*"),
        test: |value| Ok(Test::Principal(texts(value))),
        holds: |value, head| identity(head).is_some_and(|id| id.principal().starts_with(bare(value))),
        negated: false,
    },
    World {
        name: "namespace",
        value: |n| format!("ns{n}"),
        test: |value| {
            Ok(Test::Namespace {
                names: texts(value),
                globs: Vec::new(),
            })
        },
        holds: |value, head| identity(head).is_some_and(|id| id.namespace() == value),
        negated: false,
    },
    World {
        name: "service account",
        value: |n| format!("client{n}"),
        test: |value| {
            let namespace = value.replace("client", "ns").into();
            Ok(Test::ServiceAccount(vec![(namespace, value.into())]))
        },
        holds: |value, head| identity(head).is_some_and(|id| id.service_account() == value),
        negated: false,
    },
    World {
        name: "trust domain",
        value: |n| format!("td{n}"),
        test: |value| Ok(Test::TrustDomain(texts(value))),
        holds: |value, head| identity(head).is_some_and(|id| id.trust_domain() == value),
        negated: false,
    },
    World {
        name: "source.ip",
        value: block,
        test: |value| Ok(Test::SourceIp(CidrSet::parse([value])?)),
        holds: |value, head| holds(value, head.caller.addr),
        negated: false,
    },
    World {
        name: "remote.ip",
        value: block,
        test: |value| Ok(Test::RemoteIp(CidrSet::parse([value])?)),
        holds: |value, head| holds(value, head.caller.remote),
        negated: false,
    },
    World {
        name: "destination.ip",
        value: block,
        test: |value| Ok(Test::DestinationIp(CidrSet::parse([value])?)),
        holds: |value, head| holds(value, head.destination.ip()),
        negated: false,
    },
    World {
        name: "port",
        value: |n| port(n).to_string(),
        test: |value| Ok(Test::Port(vec![value.parse()?])),
        holds: |value, head| value.parse() == Ok(head.destination.port()),
        negated: false,
    },
    World {
        name: "sni",
        value: |n| format!("item{n}.example.com:80"),
        test: |value| Ok(Test::Sni(texts(value))),
        holds: |value, head| head.sni == value,
        negated: false,
    },
    World {
        name: "token principal",
        value: |n| format!("issuer{n}/user"),
        test: |value| Ok(Test::RequestPrincipal(vec![RequestPrincipal::parse(value)])),
        holds: |value, head| value.split('/').next() == claim(head, "iss").and_then(Value::as_str),
        negated: false,
    },
    World {
        name: "claim",
        value: |n| format!("group{n}"),
        test: |value| {
            Ok(Test::Claim {
                path: vec!["groups".into()],
                values: texts(value),
            })
        },
        holds: |value, head| {
            let groups = claim(head, "groups").and_then(Value::as_array);
            groups.is_some_and(|groups| groups.iter().any(|group| group == value))
        },
        negated: false,
    },
    World {
        name: "host",
        value: |n| format!("item{n}.example.com:80"),
        test: |value| Ok(Test::Host(texts(value))),
        holds: |value, head| head.authority == value,
        negated: false,
    },
    World {
        name: "host:*",
        value: |n| format!("item{n}.example.com:*"),
        test: |value| Ok(Test::Host(texts(value))),
        holds: |value, head| head.authority.starts_with(bare(value)),
        negated: false,
    },
    World {
        name: "path",
        value: |n| format!("/service/v1/item{n}/detail"),
        test: path,
        holds: |value, head| head.path == value,
        negated: false,
    },
    World {
        name: "path*",
        value: |n| format!("/service/v1/item{n}/*"),
        test: path,
        holds: |value, head| head.path.starts_with(bare(value)),
        negated: false,
    },
    World {
        name: "*path",
        value: |n| format!("*/item{n}/detail"),
        test: path,
        holds: |value, head| head.path.ends_with(bare(value)),
        negated: false,
    },
    World {
        name: "path template",
        value: |n| format!("/service/{{*}}/item{n}/{{**}}"),
        test: |value| {
            Ok(Test::Path {
                values: TextSet::default(),
                templates: vec![PathTemplate::parse(value)?],
            })
        },
        holds: |value, head| head.path.split('/').nth(3) == value.split('/').nth(3),
        negated: false,
    },
    World {
        name: "header",
        value: |n| format!("v{n}.tenant"),
        test: tenant,
        holds: |value, head| tenant_of(head) == Some(value),
        negated: false,
    },
    World {
        name: "header*",
        value: |n| format!("v{n}.*"),
        test: tenant,
        holds: |value, head| tenant_of(head).is_some_and(|tenant| tenant.starts_with(bare(value))),
        negated: false,
    },
    World {
        name: "*header",
        value: |n| format!("*v{n}.tenant"),
        test: tenant,
        holds: |value, head| tenant_of(head).is_some_and(|tenant| tenant.ends_with(bare(value))),
        negated: false,
    },
    World {
        name: "header is there",
        value: |n| format!("x-only-{n}"),
        test: |value| header(HeaderName::try_from(value)?, "*"),
        holds: |value, head| head.headers.contains_key(value),
        negated: false,
    },
    World {
        name: "not a principal",
        value: |n| format!("td{n}/ns/ns{n}/sa/client{n}"),
        test: |value| Ok(Test::Principal(texts(value))),
        holds: |value, head| identity(head).is_none_or(|id| id.principal() != value),
        negated: true,
    },
    World {
        name: "not a header",
        value: |n| format!("v{n}.tenant"),
        test: tenant,
        holds: |value, head| tenant_of(head) != Some(value),
        negated: true,
    },
];

fn texts(value: &str) -> TextSet {
    TextSet::parse([value])
}

fn bare(value: &str) -> &str {
    value.trim_matches('*')
}

fn identity<'a>(head: &RequestHead<'a>) -> Option<&'a SpiffeId> {
    head.caller.identity
}

fn block(n: usize) -> String {
    format!("{}/28", address(n))
}

fn holds(block: &str, addr: IpAddr) -> bool {
    parse_block(block).is_ok_and(|block| block.contains(&addr))
}

fn claim<'a>(head: &RequestHead<'a>, name: &str) -> Option<&'a Value> {
    head.claims?.get(name)
}

fn path(value: &str) -> Result<Test> {
    Ok(Test::Path {
        values: texts(value),
        templates: Vec::new(),
    })
}

fn header(name: HeaderName, value: &str) -> Result<Test> {
    Ok(Test::Header {
        name: HeaderKey::Name(name),
        values: texts(value),
    })
}

fn tenant(value: &str) -> Result<Test> {
    header(HeaderName::from_static("x-tenant"), value)
}

fn tenant_of<'a>(head: &RequestHead<'a>) -> Option<&'a str> {
    head.headers.get("x-tenant")?.to_str().ok()
}

impl World {
    fn rule(&self, n: usize) -> Result<AuthzRule> {
        let test = (self.test)(&(self.value)(n))?;
        let get = Test::Method(TextSet::parse(["GET"]));
        let clause = |test, negated| Clause {
            any: vec![vec![Condition { test, negated }]],
            ..Clause::default()
        };
        Ok(AuthzRule {
            clauses: vec![clause(test, self.negated), clause(get, false)],
        })
    }

    fn naive(&self, action: Action, values: &[String], head: &RequestHead<'_>) -> bool {
        let hit = *head.method == Method::GET && values.iter().any(|value| (self.holds)(value, head));
        hit == (action == Action::Allow)
    }
}

fn policy(n: usize) -> ResourceRef {
    ResourceRef::new(Kind::AuthorizationPolicy, "default", format!("p{n}"))
}

/// Requests for rules all over the table; one in eight meets no rule.
fn requests(size: usize) -> Result<Vec<Asked>> {
    let rules = spread(size, 256).enumerate();
    rules
        .map(|(at, n)| Asked::new(if at % 8 == 7 { size + n } else { n }))
        .collect()
}

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for world in &WORLDS {
        for (action, engine) in [(Action::Allow, "allow"), (Action::Deny, "deny")] {
            for size in SIZES {
                one(harness, (engine, world), action, size)?;
            }
        }
    }
    for (action, name) in [(Action::Allow, "policies+"), (Action::Deny, "policies-")] {
        for size in POLICIES {
            town(harness, name, action, size)?;
        }
    }
    Ok(())
}

fn one(
    harness: &mut Harness,
    (name, world): (&'static str, &World),
    action: Action,
    size: usize,
) -> Result<()> {
    let mut builder = EngineBuilder::new(Layer::Http);
    for n in 0..size {
        builder = builder.policy(policy(n), action, false, [(0, world.rule(n)?)]);
    }
    let engine = builder.build();
    let values: Vec<_> = (0..size).map(world.value).collect();
    let requests = requests(size)?;
    for request in &requests {
        let allowed = engine.decide(&request.head()).is_allowed();
        let expected = world.naive(action, &values, &request.head());
        ensure!(
            allowed == expected,
            "{}, {}: {allowed}, not {expected}",
            world.name,
            request.identity
        );
    }
    harness.decision(
        (name, world.name, size),
        &requests,
        |request| engine.decide(&request.head()).is_allowed(),
        |request| world.naive(action, &values, &request.head()),
    );
    Ok(())
}

/// Policies of five rules, which ask for different things.
fn town(harness: &mut Harness, name: &'static str, action: Action, size: usize) -> Result<()> {
    let kinds = ["principal", "path*", "source.ip", "claim", "header"];
    let kinds = kinds
        .iter()
        .filter_map(|name| WORLDS.iter().find(|world| world.name == *name));
    let kinds: Vec<_> = kinds.collect();
    let mut policies = Vec::new();
    for n in 0..size {
        // Those of one policy are for different callers.
        let rules = kinds
            .iter()
            .enumerate()
            .map(|(at, world)| world.rule(n + at * size));
        policies.push((0..).zip(rules.collect::<Result<Vec<_>>>()?).collect::<Vec<_>>());
    }
    let build = || -> AuthzEngine {
        let add = |builder: EngineBuilder, (n, rules): (usize, &Vec<(u32, AuthzRule)>)| {
            builder.policy(policy(n), action, false, rules.iter().cloned())
        };
        policies
            .iter()
            .enumerate()
            .fold(EngineBuilder::new(Layer::Http), add)
            .build()
    };
    let engine = build();
    // The twin asks every policy alone, as an engine of its own.
    let alone = policies.iter().map(|rules| {
        let builder = EngineBuilder::new(Layer::Http);
        builder
            .policy(policy(0), action, false, rules.iter().cloned())
            .build()
    });
    let alone: Vec<_> = alone.collect();
    let naive = |head: &RequestHead<'_>| {
        let opens = action == Action::Allow;
        alone
            .iter()
            .any(|engine| engine.decide(head).is_allowed() == opens)
            == opens
    };
    let requests = requests(size * kinds.len())?;
    for request in &requests {
        let allowed = engine.decide(&request.head()).is_allowed();
        ensure!(
            allowed == naive(&request.head()),
            "policies: {}",
            request.identity
        );
    }
    harness.decision(
        (name, "of five rules", size),
        &requests,
        |request| engine.decide(&request.head()).is_allowed(),
        |request| naive(&request.head()),
    );
    harness.once(("build", "of five rules", size), build);
    Ok(())
}
