//! The engine as a loop over everything, and the proof that the index changes no answer.

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::facts::{Facts, Truth};
use super::*;
use crate::matcher::{CidrSet, PathTemplate, TextSet};
use crate::name::{Kind, ResourceRef, SpiffeId};
use crate::policy::{Caller, RequestHead};

type Policy = (Action, bool, Vec<AuthzRule>);

/// The specification, as written: CUSTOM, DENY, ALLOW, each the union of its rules.
fn naive(policies: &[Policy], dry: bool, head: &RequestHead<'_>) -> (bool, Option<(usize, u32)>) {
    let facts = Facts::of_request(head, true);
    let first = |action: Action, closes: bool| {
        let rules = policies
            .iter()
            .enumerate()
            .filter(|(_, policy)| policy.0 == action && (policy.1 == dry || action == Action::Custom));
        let mut rules =
            rules.flat_map(|(at, policy)| (0u32..).zip(&policy.2).map(move |(rule, body)| (at, rule, body)));
        rules.find_map(|(at, rule, body)| {
            let truth = rule_holds(&facts, body, closes);
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
    let mut builder = EngineBuilder::new(Layer::Http);
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
    authority: String,
    path: String,
    headers: HeaderMap,
    identity: Option<SpiffeId>,
    addr: [u8; 4],
    port: u16,
}

impl Asked {
    fn head(&self) -> RequestHead<'_> {
        let caller = Caller {
            identity: self.identity.as_ref(),
            addr: self.addr.into(),
            remote: self.addr.into(),
        };
        RequestHead {
            caller,
            destination: ([10, 0, 0, 1], self.port).into(),
            ..RequestHead::unsent(&self.method, &self.authority, &self.path, None, &self.headers)
        }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let headers = proptest::collection::vec(
        prop::sample::select(vec![&b"admin"[..], b"user", b"", b"\xff"]),
        0..3,
    );
    let identity = proptest::option::of(("(td|tx)", "[ab]{1,2}", "[ab]"));
    (
        prop::sample::select(vec![Method::GET, Method::POST, Method::PUT]),
        "[aAb]{0,2}(:80)?",
        "/[ab/*]{0,5}",
        headers,
        identity,
        prop::sample::select(vec![[10, 0, 0, 1], [10, 1, 0, 1]]),
        80u16..83,
    )
        .prop_map(|(method, authority, path, lines, identity, addr, port)| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-role", HeaderValue::from_bytes(line).unwrap());
            }
            let identity = identity
                .map(|(td, ns, sa)| SpiffeId::parse(&format!("spiffe://{td}/ns/{ns}/sa/{sa}")).unwrap());
            Asked {
                method,
                authority,
                path,
                headers,
                identity,
                addr,
                port,
            }
        })
}

fn texts(pattern: &'static str) -> impl Strategy<Value = TextSet> {
    proptest::collection::vec(pattern, 1..3)
        .prop_map(|values| TextSet::parse(values.iter().map(String::as_str)))
}

fn condition() -> impl Strategy<Value = Condition> {
    let templates = prop::sample::subsequence(vec!["/{*}/b", "/a/{**}", "/{**}/b", "/{*}"], 0..3);
    let test = prop_oneof![
        texts("td/ns/[ab]{1,2}/sa/[ab]|td/ns/[ab]/\\*|\\*/sa/[ab]|\\*").prop_map(Test::Principal),
        texts("[ab]{1,2}|[ab]\\*|\\*[ab]").prop_map(|names| Test::Namespace {
            names,
            globs: Vec::new()
        }),
        ("[ab]", "[ab]").prop_map(|(ns, sa)| Test::ServiceAccount(vec![(ns.into(), sa.into())])),
        texts("td|t\\*|\\*x").prop_map(Test::TrustDomain),
        texts("GET|P\\*|\\*T|\\*").prop_map(Test::Method),
        texts("[ab]|[ab]:80|[ab]\\*|\\*:80").prop_map(Test::Host),
        (texts("/[ab/]{0,3}|/[ab]{0,2}\\*|\\*[ab]"), templates).prop_map(|(values, templates)| {
            let templates = templates
                .into_iter()
                .map(|text| PathTemplate::parse(text).unwrap())
                .collect();
            Test::Path { values, templates }
        }),
        proptest::collection::vec(80u16..83, 1..3).prop_map(Test::Port),
        texts("admin|u\\*|\\*r|\\*").prop_map(|values| Test::Header {
            name: HeaderKey::parse("X-Role").unwrap(),
            values
        }),
        Just(Test::SourceIp(CidrSet::parse(["10.0.0.0/16"]).unwrap())),
    ];
    (test, prop::bool::weighted(0.2)).prop_map(|(test, negated)| Condition { test, negated })
}

fn rule() -> impl Strategy<Value = AuthzRule> {
    let alternative = proptest::collection::vec(condition(), 0..3);
    let clause = proptest::collection::vec(alternative, 0..3).prop_map(|any| Clause { any });
    proptest::collection::vec(clause, 0..4).prop_map(|clauses| AuthzRule { clauses })
}

fn policy(actions: Vec<Action>) -> impl Strategy<Value = Policy> {
    (
        prop::sample::select(actions),
        prop::bool::weighted(0.2),
        proptest::collection::vec(rule(), 0..5),
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
    proptest::collection::vec(policy(actions), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_index_changes_no_answer(policies in policies(), asked in proptest::collection::vec(asked(), 8)) {
        let engine = engine(&policies);
        for asked in &asked {
            let head = asked.head();
            prop_assert_eq!(indexed(engine.decide(&head)), naive(&policies, false, &head));
            if let Some(shadow) = engine.shadow(&head) {
                prop_assert_eq!(indexed(shadow), naive(&policies, true, &head));
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
