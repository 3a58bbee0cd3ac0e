//! Filters, mirrors and sessions.

use http::header::{COOKIE, SET_COOKIE};

use super::*;
use crate::policy::authorizer::{Authorizer, CheckProtocol};
use crate::policy::route::{Carrier, CookiePath, CorsVerdict, Share, Token};

fn filtered(filters: &str) -> String {
    with_rules(&format!(
        "- filters: [{filters}]\n  backendRefs: [{{name: v1, port: 80}}]"
    ))
}

#[test]
fn a_filter_that_cannot_be_carried_out_is_never_skipped() {
    let table = [
        ("{type: Bogus}", "type"),
        ("{type: ''}", "type"),
        ("{type: CORS}", ""),
        ("{type: RequestMirror}", ""),
        ("{type: URLRewrite}", ""),
        (
            "{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: f}}",
            "extensionRef",
        ),
        (
            "{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: gone, port: 80}}}",
            "externalAuth.backendRef",
        ),
        (
            "{type: ExternalAuth, externalAuth: {protocol: TELNET, backendRef: {name: v1, port: 80}}}",
            "externalAuth.protocol",
        ),
        (
            "{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: v1, port: 80}, http: {}}}",
            "externalAuth.http",
        ),
        (
            "{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: v1, port: 80}, http: {path: '/a/../b'}}}",
            "externalAuth.http.path",
        ),
        (
            "{type: CORS, cors: {allowOrigins: ['*']}, urlRewrite: {hostname: a}}",
            "urlRewrite",
        ),
    ];
    for (filter, field) in table {
        let dot = if field.is_empty() { "" } else { "." };
        let (table, problems) = mesh(&[&filtered(filter)]);
        assert!(failure(&table, "/", &[]).is_some(), "{filter}");
        let at = format!("spec.rules[0].filters[0]{dot}{field}");
        assert_eq!(fields(&problems), [(Severity::Error, &*at)], "{filter}");

        let spec = with_rules(&format!(
            "- backendRefs: [{{name: v1, port: 80, filters: [{filter}]}}, {{name: v2, port: 80}}]"
        ));
        let (table, problems) = mesh(&[&spec]);
        let (_, rule) = ask(&table, "/", &[]).unwrap();
        let Action::Forward(backends) = &rule.action else {
            panic!("the other backend stands")
        };
        let targets: Vec<_> = backends.iter().map(|backend| &backend.cluster).collect();
        assert!(
            matches!(targets[..], [Target::Invalid(_), Target::Cluster(ClusterId(2))]),
            "{filter}"
        );
        let at = format!("spec.rules[0].backendRefs[0].filters[0]{dot}{field}");
        assert_eq!(fields(&problems), [(Severity::Error, &*at)]);
    }
}

#[test]
fn a_filter_is_given_once_except_mirrors() {
    let twice =
        "{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: b}}";
    let (table, problems) = mesh(&[&filtered(twice)]);
    assert!(failure(&table, "/", &[]).is_some());
    assert_eq!(
        fields(&problems),
        [(Severity::Error, "spec.rules[0].filters[1].type")]
    );
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}";
    let (table, problems) = mesh(&[&filtered(&format!("{mirror}, {mirror}"))]);
    assert_eq!(problems, []);
    assert_eq!(ask(&table, "/", &[]).unwrap().1.mirrors.len(), 2);
}

#[test]
fn mirrors_have_shares() {
    let mirror = |more: &str| {
        filtered(&format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: v2, port: 80}}{more}}}}}"
        ))
    };
    let share = |more: &str| {
        let (table, problems) = mesh(&[&mirror(more)]);
        assert_eq!(problems, [], "{more}");
        let (_, rule) = ask(&table, "/", &[]).unwrap();
        rule.mirrors.first().map(|mirror| {
            assert_eq!((mirror.to, mirror.shadow_host), (ClusterId(2), false));
            mirror.share
        })
    };
    assert_eq!(share(""), Some(Share::ALL));
    assert_eq!(share(", percent: 20"), Share::new(20, 100));
    assert_eq!(
        share(", fraction: {numerator: 1, denominator: 3}"),
        Share::new(1, 3)
    );
    assert_eq!(share(", fraction: {numerator: 50}"), Share::new(50, 100));
    assert_eq!(share(", percent: 0"), None);
    for (more, field) in [
        (", percent: 101", ".percent"),
        (", percent: -1", ".percent"),
        (", fraction: {numerator: 3, denominator: 2}", ".fraction"),
        (", fraction: {numerator: 0, denominator: 0}", ".fraction"),
        (", percent: 1, fraction: {numerator: 1}", ""),
    ] {
        let (table, problems) = mesh(&[&mirror(more)]);
        let at = format!("spec.rules[0].filters[0].requestMirror{field}");
        assert_eq!(fields(&problems), [(Severity::Error, &*at)], "{more}");
        // The requests themselves are not to suffer.
        assert_eq!(cluster(&table, "/", &[]), 1, "{more}");
        assert!(ask(&table, "/", &[]).unwrap().1.mirrors.is_empty());
    }
}

#[test]
fn a_mirror_to_nobody_is_dropped_and_told() {
    let (table, problems) = mesh(&[&filtered(
        "{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 80}}}",
    )]);
    assert_eq!(cluster(&table, "/", &[]), 1);
    assert_eq!(
        fields(&problems),
        [(
            Severity::Error,
            "spec.rules[0].filters[0].requestMirror.backendRef"
        )]
    );
    assert!(problems[0].text.contains("BackendNotFound"));
}

#[test]
fn backends_have_filters_of_every_kind() {
    let (table, problems) = mesh(&[&with_rules(
        "- backendRefs:\n  - name: v1\n    port: 80\n    filters:\n    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}\n    \
         - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [c]}}\n    - {type: URLRewrite, urlRewrite: {hostname: d}}\n    \
         - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}\n    - {type: CORS, cors: {allowOrigins: ['*']}}\n  \
         - {name: v2, port: 80, filters: [{type: RequestRedirect, requestRedirect: {hostname: e}}]}",
    )]);
    assert_eq!(problems, []);
    let (_, rule) = ask(&table, "/", &[]).unwrap();
    let Action::Forward(backends) = &rule.action else {
        panic!("it forwards")
    };
    let [first, second] = &backends.iter().collect::<Vec<_>>()[..] else {
        panic!("two backends")
    };
    assert_eq!((first.request.set.len(), first.response.remove.len()), (1, 1));
    assert!(first.rewrite.is_some() && first.mirrors.len() == 1 && first.cors.is_some());
    assert!(matches!(&second.cluster, Target::Redirect(redirect) if redirect.host.as_deref() == Some("e")));
}

#[test]
fn cors_is_read_with_its_defaults() {
    let (table, problems) = mesh(&[&filtered(
        "{type: CORS, cors: {allowOrigins: ['https://*.foo.com'], allowMethods: ['*'], exposeHeaders: [x-a, x-b]}}",
    )]);
    assert_eq!(problems, []);
    let cors = ask(&table, "/", &[]).unwrap().1.cors.clone().unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("origin", HeaderValue::from_static("https://a.foo.com"));
    headers.insert("access-control-request-method", HeaderValue::from_static("PUT"));
    headers.insert("access-control-request-headers", HeaderValue::from_static("x-c"));
    let CorsVerdict::Preflight(answer) = cors.judge(&Method::OPTIONS, &headers) else {
        panic!("a preflight")
    };
    assert_eq!(answer["access-control-max-age"], "5");
    assert_eq!(answer["access-control-allow-methods"], "PUT");
    assert_eq!(answer["access-control-expose-headers"], "x-a, x-b");
    assert!(!answer.contains_key("access-control-allow-headers"));
    assert!(!answer.contains_key("access-control-allow-credentials"));
}

#[test]
fn cors_that_cannot_be_read_fails_its_rule() {
    for (cors, field, severity) in [
        ("{allowOrigins: ['foo.com']}", "allowOrigins[0]", Severity::Error),
        (
            "{allowOrigins: ['*', 'https://foo.com']}",
            "allowOrigins",
            Severity::Error,
        ),
        (
            "{allowOrigins: ['*'], allowMethods: [get]}",
            "allowMethods[0]",
            Severity::Error,
        ),
        (
            "{allowOrigins: ['*'], allowMethods: ['*', GET]}",
            "allowMethods",
            Severity::Error,
        ),
        (
            "{allowOrigins: ['*'], allowHeaders: ['a b']}",
            "allowHeaders[0]",
            Severity::Error,
        ),
        ("{allowOrigins: ['*'], maxAge: 0}", "maxAge", Severity::Error),
        ("{}", "allowOrigins", Severity::Warning),
    ] {
        let (table, problems) = mesh(&[&filtered(&format!("{{type: CORS, cors: {cors}}}"))]);
        let at = format!("spec.rules[0].filters[0].cors.{field}");
        assert_eq!(fields(&problems), [(severity, &*at)], "{cors}");
        let fails = failure(&table, "/", &[]).is_some();
        assert_eq!(fails, severity == Severity::Error, "{cors}");
    }
}

fn session(persistence: &str) -> (Option<crate::policy::route::Session>, Vec<Problem>) {
    let (table, problems) = mesh(&[&with_rules(&format!(
        "- sessionPersistence: {persistence}\n  backendRefs: [{{name: v1, port: 80}}]"
    ))]);
    let fails = failure(&table, "/", &[]).is_some();
    let session = ask(&table, "/", &[]).unwrap().1.session.as_deref().cloned();
    assert_eq!(fails, !problems.is_empty(), "{persistence}");
    (session, problems)
}

#[test]
fn sessions_are_carried_as_written() {
    let carrier = |persistence: &str| {
        let (session, problems) = session(persistence);
        assert_eq!(problems, [], "{persistence}");
        session.unwrap().carrier
    };
    let cookie = |name: &str, path: Option<&str>, permanent| Carrier::Cookie {
        name: name.into(),
        path: path.map_or(CookiePath::Matched, |path| CookiePath::Own(path.into())),
        permanent,
    };
    let header = |name| Carrier::Header(HeaderName::from_static(name));
    assert_eq!(carrier("{sessionName: sid}"), cookie("sid", None, false));
    assert_eq!(
        carrier(
            "{sessionName: sid, type: Cookie, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}"
        ),
        cookie("sid", None, true)
    );
    assert_eq!(
        carrier("{type: Cookie, cookie: {name: c, path: /p, lifetimeType: Session}}"),
        cookie("c", Some("/p"), false)
    );
    assert_eq!(
        carrier("{type: Header, sessionName: X-Session}"),
        header("x-session")
    );
    assert_eq!(carrier("{type: Header, header: {name: X-Own}}"), header("x-own"));
    let Carrier::Cookie { name, .. } = carrier("{}") else {
        panic!("cookies are the default")
    };
    assert!(name.starts_with("mesh-session-"), "{name}");
}

#[test]
fn sessions_that_cannot_be_read_fail_their_rule() {
    for (persistence, field) in [
        ("{type: Query}", "type"),
        ("{absoluteTimeout: soon}", "absoluteTimeout"),
        ("{idleTimeout: 1.5s}", "idleTimeout"),
        ("{cookieConfig: {lifetimeType: Permanent}}", "absoluteTimeout"),
        (
            "{cookieConfig: {lifetimeType: Forever}}",
            "cookieConfig.lifetimeType",
        ),
        ("{sessionName: 'a b'}", "sessionName"),
        ("{cookie: {path: 'x;y'}}", "cookie.path"),
        ("{type: Header, cookieConfig: {}}", "cookieConfig"),
        ("{type: Header, sessionName: content-length}", "sessionName"),
        ("{type: Cookie, header: {name: a}}", "header"),
    ] {
        let (_, problems) = session(persistence);
        let at = format!("spec.rules[0].sessionPersistence.{field}");
        assert_eq!(fields(&problems), [(Severity::Error, &*at)], "{persistence}");
    }
}

/// GEP-1619: rules of one route to one service must not share sessions.
#[test]
fn rules_do_not_share_sessions() {
    let (table, _) = mesh(&[&with_rules(
        "- matches: [{path: {value: /a}}]\n  sessionPersistence: {sessionName: s}\n  backendRefs: [{name: v1, port: 80}]\n\
         - matches: [{path: {value: /b}}]\n  sessionPersistence: {sessionName: s}\n  backendRefs: [{name: v1, port: 80}]",
    )]);
    let session = |path: &str| ask(&table, path, &[]).unwrap().1.session.clone().unwrap();
    let token = Token {
        backend: 1,
        endpoint: 2,
        began: 3,
        used: 3,
    };
    let (name, value) = session("/a").write(&token, None, "/a", false).unwrap();
    assert_eq!(name, SET_COOKIE);
    let mut headers = HeaderMap::new();
    let pair = value.to_str().unwrap().split(';').next().unwrap().to_owned();
    headers.insert(COOKIE, HeaderValue::try_from(pair).unwrap());
    assert_eq!(session("/a").read(&headers, 3), Some(token));
    assert_eq!(session("/b").read(&headers, 3), None);
}

#[test]
fn an_authorizer_is_asked_as_its_filter_says() {
    let asked = |settings: &str| {
        let filter = format!(
            "{{type: ExternalAuth, externalAuth: {{backendRef: {{name: v2, port: 80}}, {settings}}}}}"
        );
        let (table, problems) = mesh(&[&filtered(&filter)]);
        assert_eq!(problems, [], "{settings}");
        let (_, rule) = ask(&table, "/", &[]).unwrap();
        Authorizer::clone(rule.authorizer.as_ref().unwrap())
    };
    let http = asked(
        "protocol: HTTP, http: {path: /auth/, allowedHeaders: [Cookie], allowedResponseHeaders: [X-User]}, forwardBody: {maxSize: 70000}",
    );
    assert_eq!(
        (http.host.as_str(), http.port, &*http.name),
        ("v2.svc", 80, "v2.svc:80")
    );
    assert!(!http.fail_open && http.status_on_error == 403 && http.timeout.is_some());
    let body = http.body.unwrap();
    assert_eq!((body.max, body.partial, body.raw), (70_000, false, false));
    let CheckProtocol::Http(check) = http.protocol else {
        panic!("{:?}", http.protocol)
    };
    assert_eq!(&*check.prefix, "/auth");
    assert!(check.told.matches("cookie") && !check.told.matches("x-user"));
    assert!(check.upstream.matches("x-user") && !check.upstream.matches("cookie"));

    let bare = asked("protocol: HTTP, forwardBody: {}");
    assert_eq!(bare.body, None);
    let CheckProtocol::Http(check) = bare.protocol else {
        panic!("{:?}", bare.protocol)
    };
    assert!(!check.told.matches("cookie") && check.upstream.is_only_present() && check.prefix.is_empty());

    let grpc = asked("protocol: GRPC, grpc: {allowedHeaders: [x-a]}");
    let CheckProtocol::Grpc { told } = grpc.protocol else {
        panic!("{:?}", grpc.protocol)
    };
    assert!(told.matches("x-a") && !told.matches("x-b"));

    let of_backend = with_rules(
        "- backendRefs: [{name: v1, port: 80, filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: v3, port: 80}}}]}]",
    );
    let (table, _) = mesh(&[&of_backend]);
    let (_, rule) = ask(&table, "/", &[]).unwrap();
    let Action::Forward(backends) = &rule.action else {
        panic!("it forwards")
    };
    let authorizer = backends.get(0).and_then(|it| it.authorizer.as_ref());
    assert_eq!(authorizer.map(|it| &*it.name), Some("v3.svc:80"));
    assert!(rule.authorizer.is_none());
}
