//! A list as a loop that the index must agree with.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::super::expressions::tests::{any_middle, any_path_with_middles};
use super::super::{
    Action, Predicates, RouteRule, RouteTable, RouteTableBuilder, RuleOrigin, Verdict, explain,
};
use super::*;
use crate::matcher::{FullRegex, PathPattern};
use crate::name::{Kind, ResourceRef};
use crate::policy::cases::cases;

type Written = (HostPattern, Conditions);

fn rule(kind: Kind, index: usize) -> RouteRule {
    let origin = RuleOrigin::new(ResourceRef::new(kind, "ns", "r"), index as u32, None);
    RouteRule::new(origin, Action::fail("not asked"))
}

/// Every entry is a rule of its own: the index of the answer tells which.
fn table(list: &[Written]) -> RouteTable {
    let mut builder = RouteTableBuilder::default();
    for (index, (host, conditions)) in list.iter().enumerate() {
        let id = builder.rule(rule(Kind::VirtualService, index), None);
        builder.listed(id, 0, std::slice::from_ref(host), conditions.clone());
    }
    builder.build()
}

/// The specification, as a loop.
fn naive(list: &[Written], head: &RequestHead<'_>) -> Option<Found> {
    let host = head
        .authority
        .split(':')
        .next()
        .unwrap_or("")
        .to_ascii_lowercase();
    let most_specific = list
        .iter()
        .filter(|(pattern, _)| pattern.matches(&host))
        .min_by_key(|(pattern, _)| pattern.order())?;
    let of_host = list
        .iter()
        .enumerate()
        .filter(|(_, (pattern, _))| *pattern == most_specific.0);
    for (index, (_, conditions)) in of_host {
        let path = match &conditions.path {
            None => Some(0),
            Some(it) => {
                let (path, text) = if it.ignores_case() {
                    (head.path.to_ascii_lowercase(), it.value())
                } else {
                    (head.path.to_owned(), it.value())
                };
                match text {
                    ValuePattern::Prefix(prefix) => path.starts_with(&**prefix).then_some(prefix.len()),
                    other => other.matches(&path).then_some(path.len()),
                }
            }
        };
        let holds = |it: &Condition| {
            let value: Option<Vec<u8>> = match &it.subject {
                Subject::Method => Some(head.method.as_str().into()),
                Subject::Scheme => Some(head.scheme.into()),
                Subject::Authority => Some(head.authority.into()),
                Subject::Target => Some(match head.query {
                    Some(query) => format!("{}?{query}", head.path).into(),
                    None => head.path.into(),
                }),
                Subject::Header(name) => {
                    let values: Vec<&[u8]> = head
                        .headers
                        .get_all(name)
                        .iter()
                        .map(|it| it.as_bytes())
                        .collect();
                    (!values.is_empty()).then(|| values.join(&b','))
                }
                Subject::Query(name) => {
                    let all = head.query.unwrap_or("").split('&');
                    let mut pairs = all.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                    pairs
                        .find(|(it, _)| **it == **name)
                        .map(|(_, value)| value.into())
                }
                Subject::Claim(_) => return it.negated,
            };
            match (it.negated, &it.value) {
                (false, ValuePattern::Any) => value.is_some(),
                (true, ValuePattern::Any) => value.is_none(),
                (false, pattern) => value.is_some_and(|value| pattern.matches_bytes(&value)),
                (true, pattern) => !pattern.matches_bytes(&value.unwrap_or_default()),
            }
        };
        if let Some(matched) = path
            && conditions.others.iter().all(holds)
        {
            return Some(Found {
                rule: RuleId(index as u32),
                matched,
            });
        }
    }
    None
}

/// A request as a test writes it.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    scheme: &'static str,
    authority: String,
    target: String,
    headers: HeaderMap,
}

impl Asked {
    fn get(target: &str) -> Self {
        Self {
            method: Method::GET,
            scheme: "http",
            authority: "reviews".into(),
            target: target.into(),
            headers: HeaderMap::new(),
        }
    }

    fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.append(name, HeaderValue::from_bytes(value).unwrap());
        self
    }

    fn with<R>(&self, then: impl FnOnce(&RequestHead<'_>) -> R) -> R {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*self.target, None),
        };
        let mut head = RequestHead::unsent(&self.method, &self.authority, path, query, &self.headers);
        head.scheme = self.scheme;
        then(&head)
    }
}

fn path(value: ValuePattern, ignore_case: bool) -> Conditions {
    Conditions {
        path: Some(PathCondition::new(value, ignore_case)),
        others: Box::default(),
    }
}

fn exact(text: &str) -> ValuePattern {
    ValuePattern::Exact(text.into())
}

fn prefix(text: &str) -> ValuePattern {
    ValuePattern::Prefix(text.into())
}

fn regex(text: &str) -> ValuePattern {
    ValuePattern::Regex(FullRegex::parse(text).unwrap())
}

fn one(subject: Subject, value: ValuePattern, negated: bool) -> Conditions {
    Conditions {
        path: None,
        others: Box::new([Condition {
            subject,
            value,
            negated,
        }]),
    }
}

fn header(name: &'static str) -> Subject {
    Subject::Header(HeaderName::from_static(name))
}

/// Which of the entries decides, on any host; checked against the loop and against the explanation.
fn find(list: &[Conditions], asked: &Asked) -> Option<u32> {
    let list: Vec<Written> = list.iter().map(|it| (HostPattern::Any, it.clone())).collect();
    asked.with(|head| check(&list, head).map(|found| found.rule.0))
}

fn check(list: &[Written], head: &RequestHead<'_>) -> Option<Found> {
    let table = table(list);
    let found = table.find(head);
    assert_eq!(found, naive(list, head), "{list:#?} {head:?}");
    let winners: Vec<RuleId> = table
        .explain(head)
        .into_iter()
        .filter(|candidate| candidate.verdict == Verdict::Won)
        .map(|candidate| candidate.rule)
        .collect();
    assert_eq!(winners, Vec::from_iter(found.map(|found| found.rule)));
    found
}

#[test]
fn claims_of_the_verified_token_decide() {
    let claims = serde_json::json!({"group": ["a", "b"], "deep": {"er": "x"}, "scope": "read write"});
    let claims = claims.as_object().unwrap();
    let (method, headers) = (Method::GET, HeaderMap::new());
    let mut head = RequestHead::unsent(&method, "h", "/", None, &headers);
    let holds = |head: &RequestHead<'_>, path: &[&str], value: ValuePattern, negated| {
        Condition {
            subject: Subject::Claim(path.iter().map(|it| Box::from(*it)).collect()),
            value,
            negated,
        }
        .holds(head)
    };
    // Without a token there is no value; what must not be there is not.
    assert!(!holds(&head, &["group"], exact("a"), false));
    assert!(!holds(&head, &["group"], ValuePattern::Any, false));
    assert!(holds(&head, &["group"], exact("a"), true));
    head.claims = Some(claims);
    for (path, value, expected) in [
        (&["group"][..], exact("b"), true),
        (&["group"], exact("c"), false),
        (&["group"], ValuePattern::Any, true),
        (&["deep", "er"], prefix("x"), true),
        (&["deep"], ValuePattern::Any, false),
        (&["scope"], exact("write"), true),
        (&["other"], ValuePattern::Any, false),
    ] {
        assert_eq!(
            holds(&head, path, value.clone(), false),
            expected,
            "{path:?} {value}"
        );
        assert_eq!(
            holds(&head, path, value.clone(), true),
            !expected,
            "not {path:?} {value}"
        );
    }
}

#[test]
fn the_first_that_holds_decides_however_specific_the_others_are() {
    let list = [
        path(prefix("/api"), false),
        path(exact("/api/users"), false),
        path(regex("/other/[0-9]+"), false),
        path(prefix("/other/"), false),
        Conditions::default(),
        path(exact("/late"), false),
    ];
    for (target, expected) in [
        ("/api/users", 0),
        ("/apiary", 0),
        ("/other/1?x", 2),
        ("/other/a", 3),
        ("/late", 4),
        ("*", 4),
    ] {
        assert_eq!(find(&list, &Asked::get(target)), Some(expected), "{target}");
    }
}

/// traffic-050: VirtualService HTTPMatchRequest.
#[test]
fn each_condition_means_what_istio_says() {
    let missing = Asked::get("/");
    let a = Asked::get("/").header("x", b"a");
    let twice = a.clone().header("x", b"b");
    let bytes = Asked::get("/").header("x", b"a\xff");
    for (conditions, asked, expected) in [
        (path(exact("/a"), false), Asked::get("/a?x=1"), true),
        (path(exact("/a"), false), Asked::get("/A"), false),
        (path(exact("/a"), true), Asked::get("/A"), true),
        (path(prefix("/API"), true), Asked::get("/apiary"), true),
        (path(regex("/A"), true), Asked::get("/a"), false),
        (path(regex("/v[0-9]+"), false), Asked::get("/v12/x"), false),
        (one(header("x"), exact("a"), false), a.clone(), true),
        (one(header("x"), exact("a"), false), twice.clone(), false),
        (one(header("x"), exact("a,b"), false), twice.clone(), true),
        (one(header("x"), prefix("a"), false), twice, true),
        (
            one(header("x"), ValuePattern::Any, false),
            Asked::get("/").header("x", b""),
            true,
        ),
        (one(header("x"), ValuePattern::Any, false), bytes.clone(), true),
        (one(header("x"), ValuePattern::Any, false), missing.clone(), false),
        (one(header("x"), ValuePattern::Any, true), missing.clone(), true),
        (one(header("x"), ValuePattern::Any, true), bytes.clone(), false),
        (one(header("x"), exact("a"), true), missing.clone(), true),
        (one(header("x"), exact("a"), true), a, false),
        (one(header("x"), exact(""), true), missing.clone(), false),
        (one(header("x"), regex(".*"), true), missing, false),
        (one(header("x"), prefix("a"), true), bytes, false),
        (one(Subject::Method, exact("get"), false), Asked::get("/"), false),
        (one(Subject::Method, prefix("G"), false), Asked::get("/"), true),
        (
            one(Subject::Authority, prefix("rev"), false),
            Asked::get("/"),
            true,
        ),
        (
            one(Subject::Scheme, exact("https"), false),
            Asked::get("/"),
            false,
        ),
        (
            one(Subject::Query("a".into()), exact("1"), false),
            Asked::get("/?a=1&b=2"),
            true,
        ),
        (
            one(Subject::Query("a".into()), exact("1"), false),
            Asked::get("/?a=2&a=1"),
            false,
        ),
        (
            one(Subject::Query("a".into()), ValuePattern::Any, false),
            Asked::get("/?a"),
            true,
        ),
        (one(Subject::Target, exact("/?a"), false), Asked::get("/?a"), true),
    ] {
        assert_eq!(
            find(std::slice::from_ref(&conditions), &asked).is_some(),
            expected,
            "{conditions:?} {asked:?}"
        );
    }
}

#[test]
fn the_most_specific_host_decides_alone() {
    let host = |text: &str| HostPattern::parse(text).unwrap();
    let list = [
        (host("*"), Conditions::default()),
        (host("*.example.com"), path(exact("/a"), false)),
        (host("a.example.com"), path(exact("/b"), false)),
        (host("*.example.com"), path(exact("/c"), false)),
    ];
    for (authority, target, expected) in [
        ("a.example.com", "/b", Some(2)),
        ("A.example.com:80", "/a", None),
        ("b.example.com", "/c", Some(3)),
        ("b.example.com", "/b", None),
        ("example.com", "/b", Some(0)),
    ] {
        let asked = Asked {
            authority: authority.into(),
            ..Asked::get(target)
        };
        let found = asked.with(|head| check(&list, head));
        assert_eq!(found.map(|it| it.rule.0), expected, "{authority}{target}");
    }
}

#[test]
fn sections_decide_in_their_order() {
    let mut builder = RouteTableBuilder::default();
    let listed = |builder: &mut RouteTableBuilder, text: &str| {
        let id = builder.rule(rule(Kind::VirtualService, 0), None);
        builder.listed(id, 0, &[HostPattern::Any], path(prefix(text), false));
    };
    let ranked = |builder: &mut RouteTableBuilder, text: &str| {
        let id = builder.rule(rule(Kind::HTTPRoute, 0), None);
        let predicates = Predicates {
            path: PathPattern::prefix(text),
            ..Predicates::default()
        };
        builder.matching(id, 0, &[HostPattern::Any], predicates);
    };
    listed(&mut builder, "/a");
    ranked(&mut builder, "/b");
    ranked(&mut builder, "/b/c");
    builder.section();
    ranked(&mut builder, "/b/c/d");
    listed(&mut builder, "/");
    let table = builder.build();
    for (target, expected, matched) in [("/a/b", 0, 2), ("/b", 1, 2), ("/b/c/d", 2, 4), ("/x", 4, 1)] {
        Asked::get(target).with(|head| {
            let found = table.find(head).unwrap();
            assert_eq!(
                (found.rule, found.matched),
                (RuleId(expected), matched),
                "{target}"
            );
            let candidates = table.explain(head);
            assert_eq!(candidates.len(), 5);
            let won = candidates.iter().find(|it| it.verdict == Verdict::Won);
            assert_eq!(won.map(|it| it.rule), Some(RuleId(expected)), "{target}");
        });
    }
    assert_eq!(Asked::get("*").with(|head| table.find(head)), None);
}

#[test]
fn a_catch_all_is_known_as_one() {
    assert!(Conditions::default().is_catch_all());
    assert!(path(prefix("/"), false).is_catch_all());
    assert!(path(regex(".*"), false).is_catch_all());
    assert!(!path(prefix("/a"), false).is_catch_all());
    assert!(!one(Subject::Method, exact("GET"), false).is_catch_all());
}

/// Texts of a form, whose own expression is read only once: reading it is what takes time.
fn text(form: &'static str) -> impl Strategy<Value = String> {
    proptest::string::string_regex(form).unwrap()
}

/// Expressions that are compiled once.
fn one_of(texts: &'static LazyLock<Vec<ValuePattern>>) -> impl Strategy<Value = ValuePattern> {
    (0..texts.len()).prop_map(|at| texts[at].clone())
}

fn pattern() -> impl Strategy<Value = ValuePattern> {
    static EXPRESSIONS: LazyLock<Vec<ValuePattern>> =
        LazyLock::new(|| ["a.*", ".*b", "a|b", "ab?", "[ab]?", ".*"].map(regex).into());
    prop_oneof![
        1 => Just(ValuePattern::Any),
        4 => text("[ab]{0,2}").prop_map(|it| exact(&it)),
        2 => text("[ab]{1,2}").prop_map(|it| prefix(&it)),
        1 => one_of(&EXPRESSIONS),
    ]
}

fn path_condition() -> impl Strategy<Value = Option<PathCondition>> {
    static EXPRESSIONS: LazyLock<Vec<ValuePattern>> = LazyLock::new(|| {
        [
            "/a.*",
            "/a|/b",
            "/ab*/.*",
            "(?i)/A",
            "/b[ab]",
            "/[ab]*/a",
            "/.*a/b.*",
            "/[ab]+b/[ab]?",
            "^/a/[ab]*$",
            "/.*\\bb",
        ]
        .map(regex)
        .into()
    });
    let value = prop_oneof![
        3 => text("(/[abA]{0,2}){1,2}").prop_map(|it| exact(&it)),
        4 => text("(/[abA]{0,2}){0,2}").prop_map(|it| prefix(&it)),
        2 => one_of(&EXPRESSIONS),
        2 => any_middle().prop_map(ValuePattern::Regex),
    ];
    proptest::option::weighted(
        0.8,
        (value, any::<bool>()).prop_map(|(it, fold)| PathCondition::new(it, fold)),
    )
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let subject = prop_oneof![
        4 => prop_oneof![Just("x"), Just("y")].prop_map(header),
        2 => prop_oneof![Just("a"), Just("b")].prop_map(|it| Subject::Query(it.into())),
        1 => Just(Subject::Authority),
    ];
    let other = prop_oneof![
        6 => (subject, pattern(), any::<bool>())
            .prop_map(|(subject, value, negated)| Condition { subject, value, negated }),
        1 => prop_oneof![Just(Method::GET), Just(Method::POST)].prop_map(Condition::from),
        1 => Just(Condition { subject: Subject::Scheme, value: exact("https"), negated: false }),
    ];
    (path_condition(), proptest::collection::vec(other, 0..3)).prop_map(|(path, others)| Conditions {
        path,
        others: others.into(),
    })
}

fn list() -> impl Strategy<Value = Vec<Written>> {
    let host = prop_oneof![6 => Just("*"), 1 => Just("*.b"), 1 => Just("a.b"), 1 => Just("a")]
        .prop_map(|it| HostPattern::parse(it).unwrap());
    proptest::collection::vec((host, conditions()), 0..40)
}

fn asked() -> impl Strategy<Value = Asked> {
    let value =
        prop_oneof![8 => text("[ab]{0,3}").prop_map(String::into_bytes), 1 => Just(b"a\xff".to_vec())];
    let headers = proptest::collection::vec((prop_oneof![Just("x"), Just("y"), Just("z")], value), 0..3);
    (
        prop_oneof![Just(Method::GET), Just(Method::POST)],
        prop_oneof![Just("http"), Just("https")],
        prop_oneof![Just("a"), Just("a.b"), Just("b"), Just("ab:80"), Just("c.a.b")],
        prop_oneof![text("(/[abA]{0,2}){1,3}"), any_path_with_middles()],
        proptest::option::of(text("[ab](=[ab]{0,2})?(&[ab]=[ab]?){0,2}")),
        headers,
    )
        .prop_map(|(method, scheme, authority, path, query, headers)| {
            let mut asked = Asked {
                method,
                scheme,
                authority: authority.into(),
                ..Asked::get(&path)
            };
            if let Some(query) = query {
                asked.target = format!("{path}?{query}");
            }
            headers
                .into_iter()
                .fold(asked, |asked, (name, value)| asked.header(name, &value))
        })
}

proptest! {
    #![proptest_config(cases(200))]

    /// 64 requests on each table.
    #[test]
    fn the_index_agrees_with_the_loop(list in list(), asked in proptest::collection::vec(asked(), 64)) {
        let table = table(&list);
        for asked in asked {
            asked.with(|head| assert_eq!(table.find(head), naive(&list, head), "{list:#?} {head:?}"));
        }
    }

    #[test]
    fn the_explanation_names_the_winner(list in list(), asked in asked()) {
        asked.with(|head| check(&list, head));
        asked.with(|head| explain::check(&table(&list), head));
    }
}
