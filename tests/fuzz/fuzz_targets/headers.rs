//! Header values as they come: a DENY that names a value sees it wherever it stands, and what is no text is never let in
//! by a comparison.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use inmesh::matcher::TextSet;
use inmesh::name::{Kind, ResourceRef};
use inmesh::policy::RequestHead;
use inmesh::policy::authz::{
    Action, AuthzEngine, AuthzRule, Clause, Condition, EngineBuilder, HeaderKey, Layer, Test,
};
use libfuzzer_sys::fuzz_target;

fn engine(action: Action, value: &str, negated: bool) -> AuthzEngine {
    let test = Test::Header {
        name: HeaderKey::Name(HeaderName::from_static("x-role")),
        values: TextSet::parse([value]),
    };
    let rule = AuthzRule {
        clauses: vec![Clause {
            any: vec![vec![Condition { test, negated }]],
            ..Clause::default()
        }],
    };
    EngineBuilder::new(Layer::Http)
        .policy(
            ResourceRef::new(Kind::AuthorizationPolicy, "default", "p"),
            action,
            false,
            [(0, rule)],
        )
        .build()
}

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-role", value);
        }
    }
    let head = RequestHead::unsent(&Method::GET, "web", "/", None, &headers);
    let values: Vec<&HeaderValue> = headers.get_all("x-role").iter().collect();
    let is_text = values
        .iter()
        .all(|value| std::str::from_utf8(value.as_bytes()).is_ok());
    let allowed = |action, value, negated| engine(action, value, negated).decide(&head).is_allowed();

    if values.iter().any(|value| value.as_bytes() == b"admin") {
        assert!(!allowed(Action::Deny, "admin", false), "{values:?}");
    }
    if values.iter().any(|value| value.as_bytes().starts_with(b"adm")) {
        assert!(!allowed(Action::Deny, "adm*", false), "{values:?}");
    }
    if allowed(Action::Allow, "admin", false) {
        assert!(matches!(values[..], [value] if value == "admin"), "{values:?}");
    }
    if !is_text {
        for (action, value, negated) in [
            (Action::Deny, "admin", false),
            (Action::Deny, "admin", true),
            (Action::Allow, "admin", false),
            (Action::Allow, "admin", true),
            (Action::Allow, "a*", false),
        ] {
            assert!(
                !allowed(action, value, negated),
                "{action:?} {value} {negated}: {values:?}"
            );
        }
    }
});
