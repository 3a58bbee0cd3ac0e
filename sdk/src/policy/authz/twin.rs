//! The engine as a loop over everything, and the proof that the index changes no answer.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::facts::{Facts, Truth};
use super::*;
use crate::matcher::{CidrSet, Glob, PathTemplate, TextSet};
use crate::name::{Kind, ResourceRef, SpiffeId};
use crate::policy::cases::cases;
use crate::policy::{Caller, ConnectionHead, RequestHead};

type Policy = (Action, bool, Vec<AuthzRule>);

/// The specification, as written: CUSTOM, DENY, ALLOW, each the union of its rules.
fn naive(policies: &[Policy], dry: bool, facts: &Facts<'_>) -> (bool, Option<(usize, u32)>) {
    let first = |action: Action, closes: bool| {
        let rules = policies
            .iter()
            .enumerate()
            .filter(|(_, policy)| policy.0 == action && (policy.1 == dry || action == Action::Custom));
        let mut rules =
            rules.flat_map(|(at, policy)| (0u32..).zip(&policy.2).map(move |(rule, body)| (at, rule, body)));
        rules.find_map(|(at, rule, body)| {
            let truth = rule_holds(facts, body, closes);
            (truth == Truth::Yes || closes && truth == Truth::Unknown).then_some((at, rule))
        })
    };
    if !dry && let Some(by) = first(Action::Custom, true) {
        return (false, Some(by));
    }
    if let Some(by) = first(Action::Deny, true) {
        return (false, Some(by));
    }
    if !policies
        .iter()
        .any(|policy| policy.0 == Action::Allow && policy.1 == dry)
    {
        return (true, None);
    }
    let by = first(Action::Allow, false);
    (by.is_some(), by)
}

fn rule_holds(facts: &Facts<'_>, rule: &AuthzRule, closes: bool) -> Truth {
    let condition = |one: &Condition| {
        let truth = facts.test(&one.test, closes, one.negated);
        if one.negated { !truth } else { truth }
    };
    let alternative = |all: &Vec<Condition>| all.iter().map(condition).min().unwrap_or(Truth::Yes);
    let clause = |clause: &Clause| clause.any.iter().map(alternative).max().unwrap_or(Truth::No);
    rule.clauses.iter().map(clause).min().unwrap_or(Truth::Yes)
}

fn engine(policies: &[Policy]) -> AuthzEngine {
    engine_for(Layer::Http, policies)
}

fn engine_for(layer: Layer, policies: &[Policy]) -> AuthzEngine {
    let mut builder = EngineBuilder::new(layer);
    for (at, (action, dry_run, rules)) in policies.iter().enumerate() {
        let name = ResourceRef::new(Kind::AuthorizationPolicy, "ns", at.to_string());
        builder = builder.policy(name, *action, *dry_run, (0..).zip(rules.clone()));
    }
    builder.build()
}

fn indexed(decision: Decision<'_>) -> (bool, Option<(usize, u32)>) {
    let (Decision::Allow { by } | Decision::Deny { by, .. }) = decision;
    let by = by.map(|by| (by.policy.name.parse().unwrap(), by.rule));
    (decision.is_allowed(), by)
}

#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    scheme: &'static str,
    authority: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    identity: Option<SpiffeId>,
    addr: IpAddr,
    remote: IpAddr,
    destination: SocketAddr,
    sni: &'static str,
    claims: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Asked {
    fn head(&self) -> RequestHead<'_> {
        let caller = Caller {
            identity: self.identity.as_ref(),
            addr: self.addr,
            remote: self.remote,
        };
        RequestHead {
            caller,
            scheme: self.scheme,
            destination: self.destination,
            sni: self.sni,
            claims: self.claims.as_ref(),
            query: self.query.as_deref(),
            ..RequestHead::unsent(&self.method, &self.authority, &self.path, None, &self.headers)
        }
    }

    /// With this text for every header that is none.
    fn told(&self, text: &'static str) -> Self {
        let mut headers = HeaderMap::new();
        for (name, line) in &self.headers {
            let line = match std::str::from_utf8(line.as_bytes()) {
                Ok(_) => line.clone(),
                Err(_) => HeaderValue::from_static(text),
            };
            headers.append(name, line);
        }
        Self {
            headers,
            ..self.clone()
        }
    }

    fn connection(&self) -> ConnectionHead<'_> {
        ConnectionHead {
            caller: self.head().caller,
            destination: self.destination,
            sni: self.sni,
        }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let line = prop::sample::select(vec![&b"admin"[..], b"user", b"ua", b"r", b"", b"u\xff"]);
    let headers = proptest::collection::vec((prop::sample::select(vec!["x-role", "x-team"]), line), 0..4);
    let identity = proptest::option::of(("(td|tx)", "[ab]{1,2}", "[ab]"));
    let addr = || {
        prop::sample::select(vec![
            "10.0.0.1",
            "10.0.1.1",
            "10.1.0.1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ])
    };
    let request = (
        prop::sample::select(vec![Method::GET, Method::POST, Method::PUT]),
        prop::sample::select(vec!["http", "https"]),
        "[aAb]{0,2}(:80)?",
        "/[ab/*]{0,5}",
        proptest::option::of("[ab]"),
        headers,
    );
    let connection = (
        identity,
        addr(),
        addr(),
        addr(),
        80u16..83,
        prop::sample::select(vec!["", "a.b", "b"]),
    );
    (request, connection, proptest::option::weighted(0.7, claims())).prop_map(
        |(request, connection, claims)| {
            let (method, scheme, authority, path, query, lines) = request;
            let (identity, addr, remote, destination, port, sni) = connection;
            let mut headers = HeaderMap::new();
            for (name, line) in lines {
                headers.append(name, HeaderValue::from_bytes(line).unwrap());
            }
            let identity = identity
                .map(|(td, ns, sa)| SpiffeId::parse(&format!("spiffe://{td}/ns/{ns}/sa/{sa}")).unwrap());
            Asked {
                method,
                scheme,
                authority,
                path,
                query,
                headers,
                identity,
                addr: addr.parse().unwrap(),
                remote: remote.parse().unwrap(),
                destination: SocketAddr::new(destination.parse().unwrap(), port),
                sni,
                claims,
            }
        },
    )
}

fn claims() -> impl Strategy<Value = serde_json::Map<String, serde_json::Value>> {
    let word = || prop::sample::select(vec!["a", "b", "ab", ""]);
    (word(), proptest::option::of(word()), proptest::collection::vec(word(), 0..3), word(), word()).prop_map(
        |(iss, sub, groups, scope, inner)| {
            let mut claims = serde_json::json!({
                "iss": iss, "groups": groups, "scope": format!("{scope} {inner}"), "deep": {"er": inner}, "five": 5,
            });
            if let Some(sub) = sub {
                claims["sub"] = sub.into();
            }
            claims.as_object().unwrap().clone()
        },
    )
}

fn texts(pattern: &'static str) -> impl Strategy<Value = TextSet> {
    proptest::collection::vec(pattern, 1..3)
        .prop_map(|values| TextSet::parse(values.iter().map(String::as_str)))
}

fn blocks() -> impl Strategy<Value = CidrSet> {
    let some = vec![
        "10.0.0.0/16",
        "10.0.0.0/24",
        "10.0.0.1",
        "0.0.0.0/0",
        "2001:db8::/32",
        "::/0",
    ];
    proptest::collection::vec(prop::sample::select(some), 1..3)
        .prop_map(|blocks| CidrSet::parse(blocks).unwrap())
}

/// Tests of each kind.
fn tests() -> Vec<BoxedStrategy<Test>> {
    let templates =
        prop::sample::subsequence(vec!["/{*}/b", "/a/{**}", "/{**}/b", "/{*}", "/{*}/a/{**}"], 0..3);
    let globs = prop::sample::subsequence(vec!["a*b*", "*a*", "*b*a"], 0..2);
    let header = prop::sample::select(vec![
        "X-Role",
        "x-team",
        ":method",
        ":path",
        ":authority",
        ":scheme",
    ]);
    let path = prop::sample::select(vec![
        &["groups"][..],
        &["scope"],
        &["deep", "er"],
        &["deep"],
        &["five"],
        &["iss"],
    ]);
    vec![
        texts("td/ns/[ab]{1,2}/sa/[ab]|td/ns/[ab]/\\*|\\*/sa/[ab]|\\*")
            .prop_map(Test::Principal)
            .boxed(),
        (texts("[ab]{1,2}|[ab]\\*|\\*[ab]"), globs)
            .prop_map(|(names, globs)| Test::Namespace {
                names,
                globs: globs.into_iter().filter_map(Glob::parse).collect(),
            })
            .boxed(),
        proptest::collection::vec(("[ab]", "[ab]"), 1..3)
            .prop_map(|accounts| {
                let accounts = accounts.into_iter().map(|(ns, sa)| (ns.into(), sa.into()));
                Test::ServiceAccount(accounts.collect())
            })
            .boxed(),
        texts("td|t\\*|\\*x|\\*").prop_map(Test::TrustDomain).boxed(),
        blocks().prop_map(Test::SourceIp).boxed(),
        blocks().prop_map(Test::RemoteIp).boxed(),
        blocks().prop_map(Test::DestinationIp).boxed(),
        proptest::collection::vec(80u16..83, 1..3)
            .prop_map(Test::Port)
            .boxed(),
        texts("a\\.b|\\*b|a\\*|\\*").prop_map(Test::Sni).boxed(),
        proptest::collection::vec("[ab*]{1,2}(/[ab*]{0,2})?", 1..3)
            .prop_map(|values| {
                Test::RequestPrincipal(
                    values
                        .iter()
                        .map(|value| RequestPrincipal::parse(value))
                        .collect(),
                )
            })
            .boxed(),
        (path, texts("[ab]{0,2}|a\\*|\\*b|\\*"))
            .prop_map(|(path, values)| Test::Claim {
                path: path.iter().map(|key| (*key).into()).collect(),
                values,
            })
            .boxed(),
        texts("GET|P\\*|\\*T|\\*").prop_map(Test::Method).boxed(),
        texts("[ab]|[ab]:80|[ab]\\*|\\*:80").prop_map(Test::Host).boxed(),
        (texts("/[ab/]{0,3}|/[ab]{0,2}\\*|\\*[ab]"), templates)
            .prop_map(|(values, templates)| {
                let templates = templates
                    .into_iter()
                    .map(|text| PathTemplate::parse(text).unwrap())
                    .collect();
                Test::Path { values, templates }
            })
            .boxed(),
        (
            header,
            texts("admin|u\\*|\\*r|\\*|user,admin|GET|http|/a\\*|\\*\\?a|"),
        )
            .prop_map(|(name, values)| Test::Header {
                name: HeaderKey::parse(name).unwrap(),
                values,
            })
            .boxed(),
    ]
}

fn test() -> impl Strategy<Value = Test> {
    prop::sample::select(tests()).prop_flat_map(|test| test)
}

fn condition() -> impl Strategy<Value = Condition> {
    (test(), prop::bool::weighted(0.3)).prop_map(|(test, negated)| Condition { test, negated })
}

/// Conditions of one kind.
fn alike() -> impl Strategy<Value = Vec<Condition>> {
    let conditions = prop::sample::select(tests())
        .prop_flat_map(|test| proptest::collection::vec((test, prop::bool::weighted(0.1)), 4..30));
    let condition = |(test, negated)| Condition { test, negated };
    conditions.prop_map(move |all| all.into_iter().map(condition).collect())
}

fn rule() -> impl Strategy<Value = AuthzRule> {
    let number = |few: u32, weight: u32| prop_oneof![few => Just(1usize), weight => 0usize..4];
    let alternative = number(3, 1).prop_flat_map(|size| proptest::collection::vec(condition(), size));
    let clause = number(3, 1).prop_flat_map(move |size| {
        proptest::collection::vec(alternative.clone(), size).prop_map(|any| Clause {
            any,
            ..Clause::default()
        })
    });
    proptest::collection::vec(clause, 0..4).prop_map(|clauses| AuthzRule { clauses })
}

fn policy(actions: Vec<Action>) -> impl Strategy<Value = Policy> {
    (
        prop::sample::select(actions),
        prop::bool::weighted(0.2),
        proptest::collection::vec(rule(), 0..8),
    )
}

fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let actions = vec![
        Action::Allow,
        Action::Allow,
        Action::Deny,
        Action::Audit,
        Action::Custom,
    ];
    proptest::collection::vec(policy(actions), 0..8)
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn the_index_changes_no_answer(policies in policies(), asked in proptest::collection::vec(asked(), 16)) {
        let requests = engine(&policies);
        let connections = engine_for(Layer::Tcp, &policies);
        for asked in &asked {
            let head = asked.head();
            let facts = Facts::of_request(&head, true);
            prop_assert_eq!(indexed(requests.decide(&head)), naive(&policies, false, &facts));
            if let Some(shadow) = requests.shadow(&head) {
                prop_assert_eq!(indexed(shadow), naive(&policies, true, &facts));
            }
            let head = asked.connection();
            let facts = Facts::of_connection(&head);
            prop_assert_eq!(indexed(connections.decide_connection(&head)), naive(&policies, false, &facts));
        }
    }

    /// Many rules that differ by one thing, as generated policies do.
    #[test]
    fn the_index_changes_no_answer_where_rules_are_alike(
        action in prop::sample::select(vec![Action::Allow, Action::Deny]),
        shared in condition(),
        own in alike(),
        asked in proptest::collection::vec(asked(), 16),
    ) {
        let clause = |condition: Condition| Clause { any: vec![vec![condition]], ..Clause::default() };
        let rule = |own| AuthzRule { clauses: vec![clause(own), clause(shared.clone())] };
        let policies = [(action, false, own.into_iter().map(rule).collect())];
        let engine = engine(&policies);
        for asked in &asked {
            let head = asked.head();
            let facts = Facts::of_request(&head, true);
            prop_assert_eq!(indexed(engine.decide(&head)), naive(&policies, false, &facts));
        }
    }

    /// Of every rule it is told what it makes of the request, and who decided did so for the reason that is told.
    #[test]
    fn the_explanation_agrees_with_the_decision(
        policies in policies(),
        asked in proptest::collection::vec(asked(), 8),
    ) {
        let engine = engine(&policies);
        for asked in &asked {
            let head = asked.head();
            let told = engine.explain(&head);
            for it in &told {
                // What applies does so by an alternative of each clause, and what does not has a clause that none of
                // its alternatives fulfils.
                prop_assert!(it.held().count() == it.clauses.len() || !it.applies(), "{:?}", it);
                prop_assert!(it.holds == Holds::Yes || !it.failed().is_empty(), "{:?}", it);
            }
            let enforced = |action| told.iter().filter(move |it| it.action == action && !it.dry_run);
            let matches = |it: &&RuleTold<'_>| it.holds == Holds::Yes;
            let closes = |it: &&RuleTold<'_>| it.holds != Holds::No;
            match engine.decide(&head) {
                Decision::Allow { by: Some(by) } => {
                    prop_assert_eq!(enforced(Action::Allow).find(matches).map(|it| it.by), Some(by));
                    prop_assert_eq!(enforced(Action::Deny).find(closes), None);
                }
                Decision::Deny { by: Some(by), .. } => {
                    let first = enforced(Action::Custom).find(closes);
                    let first = first.or_else(|| enforced(Action::Deny).find(closes));
                    prop_assert_eq!(first.map(|it| it.by), Some(by));
                }
                Decision::Deny { by: None, .. } => prop_assert_eq!(enforced(Action::Allow).find(matches), None),
                Decision::Allow { by: None } => prop_assert_eq!(enforced(Action::Deny).find(closes), None),
            }
        }
    }

    /// A header that is no text stands for any: what is allowed with it is allowed with each.
    #[test]
    fn what_cannot_be_told_never_allows(
        policies in policies(),
        asked in proptest::collection::vec(asked(), 16),
    ) {
        let engine = engine(&policies);
        for asked in asked.iter().filter(|asked| engine.decide(&asked.head()).is_allowed()) {
            for text in ["admin", "user", "ua", "r", "u", "", "elsewhere"] {
                prop_assert!(engine.decide(&asked.told(text).head()).is_allowed(), "{text}");
            }
        }
    }

    #[test]
    fn another_deny_policy_never_widens(
        policies in policies(),
        deny in policy(vec![Action::Deny]),
        asked in proptest::collection::vec(asked(), 8),
    ) {
        let before = engine(&policies);
        let after = engine(&[policies, vec![deny]].concat());
        for asked in &asked {
            let head = asked.head();
            prop_assert!(before.decide(&head).is_allowed() || !after.decide(&head).is_allowed());
        }
    }

    #[test]
    fn one_allow_policy_less_never_widens_while_another_remains(
        mut policies in policies(),
        allow in policy(vec![Action::Allow]),
        asked in proptest::collection::vec(asked(), 8),
    ) {
        policies.push((Action::Allow, false, Vec::new()));
        let after = engine(&policies);
        policies.push(allow);
        let before = engine(&policies);
        for asked in &asked {
            let head = asked.head();
            prop_assert!(before.decide(&head).is_allowed() || !after.decide(&head).is_allowed());
        }
    }
}
