use http::{HeaderMap, HeaderValue, Method};

use super::*;
use crate::matcher::{PathTemplate, TextSet};
use crate::name::{Kind, ResourceRef, SpiffeId};
use crate::policy::{Caller, ConnectionHead, RequestHead};

fn is(test: Test) -> Condition {
    Condition { test, negated: false }
}

fn not(test: Test) -> Condition {
    Condition { test, negated: true }
}

fn rule(conditions: impl IntoIterator<Item = Condition>) -> AuthzRule {
    let clauses = conditions.into_iter().map(|one| Clause {
        any: vec![vec![one]],
        ..Clause::default()
    });
    AuthzRule {
        clauses: clauses.collect(),
    }
}

fn header(name: &str, values: &[&str]) -> Test {
    Test::Header {
        name: HeaderKey::parse(name).unwrap(),
        values: TextSet::parse(values.iter().copied()),
    }
}

fn path(values: &[&str]) -> Test {
    Test::Path {
        values: TextSet::parse(values.iter().copied()),
        templates: Vec::new(),
    }
}

fn engine(policies: impl IntoIterator<Item = (&'static str, Action, Vec<AuthzRule>)>) -> AuthzEngine {
    let mut builder = EngineBuilder::new(Layer::Http);
    for (name, action, rules) in policies {
        let policy = ResourceRef::new(Kind::AuthorizationPolicy, "ns", name);
        builder = builder.policy(policy, action, false, (0..).zip(rules));
    }
    builder.build()
}

/// Asks with headers, and gives the answer's name and reason.
fn ask(engine: &AuthzEngine, path: &str, lines: &[(&'static str, &[u8])]) -> (bool, Option<String>, String) {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    let head = RequestHead::unsent(&Method::GET, "Svc.Example:80", path, None, &headers);
    let decision = engine.decide(&head);
    let name = |by: Option<&RuleRef>| by.map(|by| format!("{}[{}]", by.policy.name, by.rule));
    match decision {
        Decision::Allow { by } => (true, name(by), String::new()),
        Decision::Deny { by, why } => (false, name(by), why.into()),
    }
}

#[test]
fn a_decision_names_the_rule_that_made_it() {
    let engine = engine([
        (
            "allow",
            Action::Allow,
            vec![rule([is(path(&["/no"]))]), rule([is(path(&["/a", "/b"]))])],
        ),
        ("deny", Action::Deny, vec![rule([is(path(&["/b"]))])]),
    ]);
    assert_eq!(
        ask(&engine, "/a", &[]),
        (true, Some("allow[1]".into()), String::new())
    );
    assert_eq!(
        ask(&engine, "/b", &[]),
        (false, Some("deny[0]".into()), "a DENY rule matched".into())
    );
    assert_eq!(
        ask(&engine, "/c", &[]),
        (false, None, "no ALLOW rule matched".into())
    );
}

#[test]
fn a_denial_is_told_as_envoy_tells_it() {
    let engine = engine([
        ("allow", Action::Allow, vec![]),
        ("deny", Action::Deny, vec![rule([is(path(&["/b"]))])]),
    ]);
    let headers = HeaderMap::new();
    let details = |path| {
        engine
            .decide(&RequestHead::unsent(&Method::GET, "a", path, None, &headers))
            .details()
    };
    let deny = "rbac_access_denied_matched_policy[ns[ns]-policy[deny]-rule[0]]";
    assert_eq!(details("/b").as_deref(), Some(deny));
    assert_eq!(
        details("/c").as_deref(),
        Some("rbac_access_denied_matched_policy[none]")
    );
}

#[test]
fn an_engine_without_policies_is_open_and_a_broken_one_closed() {
    assert!(ask(&AuthzEngine::allow_all(), "/", &[]).0);
    let broken = AuthzEngine::deny_all("AuthorizationPolicy a/b at x.yaml:1 is invalid");
    let (allowed, _, why) = ask(&broken, "/", &[]);
    assert!(!allowed && why.contains("x.yaml:1"));
    assert!(broken.restricts() && !AuthzEngine::allow_all().restricts());
}

#[test]
fn custom_denies_what_it_matches_while_nobody_can_be_asked() {
    let engine = engine([
        ("custom", Action::Custom, vec![rule([is(path(&["/admin*"]))])]),
        ("allow", Action::Allow, vec![rule([])]),
    ]);
    let (allowed, by, why) = ask(&engine, "/admin/x", &[]);
    assert!(!allowed && by.as_deref() == Some("custom[0]") && why.contains("external authorizer"));
    assert!(ask(&engine, "/", &[]).0);
    // Nobody was named to be asked, so that everybody was asked proves nothing.
    let headers = HeaderMap::new();
    let head = |path| RequestHead::unsent(&Method::GET, "a", path, None, &headers);
    assert_eq!(engine.consult(&head("/admin/x")), None);
    assert!(!engine.decide_consulted(&head("/admin/x")).is_allowed());
    assert!(engine.decide_consulted(&head("/")).is_allowed());
}

/// hardening row 27
#[test]
fn hosts_are_compared_without_case_but_with_their_port() {
    for (host, denied) in [
        ("svc.example:80", true),
        ("svc.example:*", true),
        ("svc.*", true),
        ("*:80", true),
        ("svc.example", false),
        ("svc.example.:80", false),
    ] {
        let engine = engine([(
            "deny",
            Action::Deny,
            vec![rule([is(Test::Host(TextSet::parse([host])))])],
        )]);
        assert_eq!(!ask(&engine, "/", &[]).0, denied, "{host}");
    }
}

/// hardening row 28
#[test]
fn repeating_a_header_is_no_way_round_a_deny_rule() {
    let deny = engine([(
        "deny",
        Action::Deny,
        vec![rule([is(header("X-Role", &["admin"]))])],
    )]);
    let allow = engine([(
        "allow",
        Action::Allow,
        vec![rule([is(header("X-Role", &["admin"]))])],
    )]);
    let twice: [(&str, &[u8]); 2] = [("x-role", b"user"), ("x-role", b"admin")];
    assert!(!ask(&deny, "/", &twice).0);
    assert!(!ask(&allow, "/", &twice).0);
    let joined = engine([(
        "allow",
        Action::Allow,
        vec![rule([is(header("x-role", &["user,admin"]))])],
    )]);
    assert!(ask(&joined, "/", &twice).0);
}

/// hardening row 29
#[test]
fn a_header_that_is_not_text_is_denied_whatever_the_rule() {
    let garbage: [(&str, &[u8]); 1] = [("x-role", b"adm\xffin")];
    for (action, condition) in [
        (Action::Deny, is(header("x-role", &["admin"]))),
        (Action::Deny, not(header("x-role", &["admin"]))),
        (Action::Allow, is(header("x-role", &["adm*"]))),
        (Action::Allow, not(header("x-role", &["admin"]))),
    ] {
        let engine = engine([("policy", action, vec![rule([condition.clone()])])]);
        assert!(!ask(&engine, "/", &garbage).0, "{action:?} {condition:?}");
    }
    // Whether it is there at all needs no text; and another rule may still be clear.
    let present = engine([("allow", Action::Allow, vec![rule([is(header("x-role", &["*"]))])])]);
    assert!(ask(&present, "/", &garbage).0);
    let elsewhere = engine([(
        "deny",
        Action::Deny,
        vec![rule([
            is(header("x-role", &["admin"])),
            is(path(&["/elsewhere"])),
        ])],
    )]);
    assert!(ask(&elsewhere, "/", &garbage).0);
}

/// hardening row 30
#[test]
fn a_dot_in_a_service_account_is_a_dot() {
    let account = Test::ServiceAccount(vec![("ns".into(), "cert-manager.io".into())]);
    let engine = engine([("allow", Action::Allow, vec![rule([is(account)])])]);
    let headers = HeaderMap::new();
    for (name, expected) in [("cert-manager.io", true), ("cert-managerXio", false)] {
        let id = SpiffeId::parse(&format!("spiffe://td/ns/ns/sa/{name}")).unwrap();
        let mut head = RequestHead::unsent(&Method::GET, "a", "/", None, &headers);
        head.caller.identity = Some(&id);
        assert_eq!(engine.decide(&head).is_allowed(), expected, "{name}");
    }
}

/// hardening row 31
#[test]
fn a_star_in_the_path_is_no_way_round_a_template() {
    let template = || Test::Path {
        values: TextSet::default(),
        templates: vec![PathTemplate::parse("/admin/{*}").unwrap()],
    };
    for (action, condition) in [(Action::Deny, is(template())), (Action::Allow, not(template()))] {
        let engine = engine([("policy", action, vec![rule([condition])])]);
        assert!(!ask(&engine, "/admin/a*b", &[]).0, "{action:?}");
    }
}

/// hardening row 19: only what the handshake proved counts.
#[test]
fn no_header_makes_an_identity() {
    let anybody = Test::Principal(TextSet::parse(["*"]));
    let engine = engine([("allow", Action::Allow, vec![rule([is(anybody)])])]);
    let claim: [(&str, &[u8]); 2] = [
        ("x-forwarded-client-cert", b"URI=spiffe://td/ns/a/sa/b"),
        ("baggage", b"k8s.namespace.name=a"),
    ];
    assert!(!ask(&engine, "/", &claim).0);
}

#[test]
fn audit_is_noted_and_decides_nothing() {
    let engine = engine([("audit", Action::Audit, vec![rule([is(path(&["/a"]))])])]);
    let headers = HeaderMap::new();
    let head = |path| RequestHead::unsent(&Method::GET, "a", path, None, &headers);
    assert_eq!(&*engine.audit(&head("/a")).unwrap().policy.name, "audit");
    assert_eq!(engine.audit(&head("/b")), None);
    assert!(engine.decide(&head("/b")).is_allowed());
    assert!(!engine.restricts());
}

#[test]
fn a_dry_run_is_only_told() {
    let policy = ResourceRef::new(Kind::AuthorizationPolicy, "ns", "dry");
    let rules = [(0, rule([is(path(&["/a"]))]))];
    let engine = EngineBuilder::new(Layer::Http)
        .policy(policy, Action::Allow, true, rules)
        .build();
    let headers = HeaderMap::new();
    let head = RequestHead::unsent(&Method::GET, "a", "/b", None, &headers);
    assert!(engine.decide(&head).is_allowed());
    assert!(!engine.shadow(&head).unwrap().is_allowed());
    assert_eq!(AuthzEngine::allow_all().shadow(&head), None);
}

#[test]
fn rules_for_requests_never_open_a_connection() {
    let nowhere = std::net::IpAddr::from([10, 0, 0, 1]);
    let caller = Caller {
        identity: None,
        addr: nowhere,
        remote: nowhere,
    };
    let head = ConnectionHead {
        caller,
        destination: (nowhere, 80).into(),
        sni: "",
    };
    for action in [Action::Allow, Action::Deny] {
        for layer in [Layer::Http, Layer::Tcp, Layer::L4] {
            let policy = ResourceRef::new(Kind::AuthorizationPolicy, "ns", "p");
            let rules = [(0, rule([is(path(&["/a"]))]))];
            let engine = EngineBuilder::new(layer)
                .policy(policy, action, false, rules)
                .build();
            assert!(
                !engine.decide_connection(&head).is_allowed(),
                "{action:?} {layer:?}"
            );
        }
    }
    assert!(AuthzEngine::allow_all().decide_connection(&head).is_allowed());
}

#[test]
fn claims_of_a_token_are_matched_as_text_or_list() {
    let claims = serde_json::json!({"iss": "i", "sub": "s", "groups": ["a", 5, "b"], "scope": "read write", "deep": {"er": "x"}});
    let claims = claims.as_object().unwrap();
    let headers = HeaderMap::new();
    for (path, values, expected) in [
        (&["groups"][..], &["b"][..], true),
        (&["groups"], &["c"], false),
        (&["scope"], &["write"], true),
        (&["scope"], &["read write"], false),
        (&["deep", "er"], &["x"], true),
        (&["deep"], &["*"], false),
        (&["iss", "er"], &["*"], false),
    ] {
        let test = Test::Claim {
            path: path.iter().map(|key| (*key).into()).collect(),
            values: TextSet::parse(values.iter().copied()),
        };
        let engine = engine([("allow", Action::Allow, vec![rule([is(test)])])]);
        let mut head = RequestHead::unsent(&Method::GET, "a", "/", None, &headers);
        assert!(!engine.decide(&head).is_allowed(), "no token, {path:?}");
        head.claims = Some(claims);
        assert_eq!(engine.decide(&head).is_allowed(), expected, "{path:?} {values:?}");
    }
}

#[test]
fn an_explanation_says_which_entries_hold_and_which_do_not() {
    let clause = |part, any: &[&[Condition]]| Clause {
        part,
        any: any.iter().map(|all| all.to_vec()).collect(),
    };
    let get = is(Test::Method(TextSet::parse(["GET"])));
    let post = is(Test::Method(TextSet::parse(["POST"])));
    let rules = vec![
        AuthzRule {
            clauses: vec![
                clause(
                    Part::To,
                    &[std::slice::from_ref(&post), &[get.clone(), is(path(&["/a*"]))]],
                ),
                clause(Part::When(1), &[&[not(header("x-tenant", &["evil"]))]]),
            ],
        },
        AuthzRule {
            clauses: vec![
                clause(Part::From, &[&[]]),
                clause(Part::To, &[&[post], &[get, is(path(&["/b", "*.css"]))]]),
            ],
        },
        AuthzRule::default(),
    ];
    let engine = engine([("p", Action::Allow, rules)]);
    let mut headers = HeaderMap::new();
    headers.append("x-tenant", HeaderValue::from_static("good"));
    let head = RequestHead::unsent(&Method::GET, "svc", "/a", None, &headers);
    let told = engine.explain(&head);
    let held = |rule: &RuleTold<'_>| rule.held().map(|one| one.at.clone()).collect::<Vec<_>>();

    assert!(told[0].applies() && told[0].failed().is_empty());
    assert_eq!(held(&told[0]), ["to[1]", "when[1]"]);
    let tenant = &told[0].clauses[1][0].asks[0];
    assert_eq!(
        (
            tenant.of.as_str(),
            tenant.negated,
            tenant.wanted.as_str(),
            tenant.found.as_deref()
        ),
        ("request.headers[x-tenant]", true, "`evil`", Some("good"))
    );
    assert!(tenant.private && tenant.holds == Holds::Yes);

    assert!(!told[1].applies());
    let failed: Vec<_> = told[1].failed().iter().map(|one| one.at.as_str()).collect();
    assert_eq!(failed, ["to[0]", "to[1]"]);
    let asked = &told[1].failed()[1].asks[1];
    assert_eq!(
        (asked.wanted.as_str(), asked.holds),
        ("one of `/b`, `*.css`", Holds::No)
    );

    // A rule without clauses matches, and has nothing to show for it.
    assert!(told[2].applies() && held(&told[2]).is_empty());
    let Decision::Allow { by: Some(by) } = engine.decide(&head) else {
        panic!("it is allowed")
    };
    assert_eq!(engine.explain_rule(&head, by).as_ref(), Some(&told[0]));
}

#[test]
fn what_cannot_be_judged_is_told_as_such_and_denies() {
    let rules = || vec![rule([is(header("x-user", &["eve"]))])];
    let engine = engine([("d", Action::Deny, rules()), ("a", Action::Allow, rules())]);
    let mut headers = HeaderMap::new();
    headers.append("x-user", HeaderValue::from_bytes(b"\xff").unwrap());
    let head = RequestHead::unsent(&Method::GET, "svc", "/", None, &headers);
    let told = engine.explain(&head);
    assert_eq!(
        told.iter().map(|rule| rule.holds).collect::<Vec<_>>(),
        [Holds::Unclear; 2]
    );
    assert!(told[0].applies() && !told[1].applies());
    assert_eq!(told[0].held().count(), 1);
    assert_eq!(told[1].failed().len(), 1);
}
