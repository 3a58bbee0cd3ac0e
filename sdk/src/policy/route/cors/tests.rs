use super::*;

fn names(text: &'static str) -> Listed {
    Listed::Names(HeaderValue::from_static(text))
}

/// The first route of the conformance suite's HTTPRouteCORS.
fn several() -> Cors {
    let origin = |text| OriginPattern::web(text).unwrap();
    Cors {
        origins: [origin("https://www.foo.com"), origin("https://*.bar.com")].into(),
        methods: names("GET, OPTIONS"),
        headers: names("x-header-1, x-header-2"),
        expose: names("x-header-3, x-header-4"),
        credentials: true,
        max_age: Some(3600),
        unmatched: UnmatchedPreflight::Answer,
        exclusive: true,
    }
}

/// Its last: everything goes.
fn anything(credentials: bool) -> Cors {
    Cors {
        origins: [OriginPattern::Any].into(),
        methods: Listed::Any,
        headers: Listed::Any,
        expose: Listed::Any,
        credentials,
        max_age: Some(5),
        ..several()
    }
}

fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn preflight(cors: &Cors, list: &[(&'static str, &'static str)]) -> HeaderMap {
    match cors.judge(&Method::OPTIONS, &headers(list)) {
        CorsVerdict::Preflight(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_preflight_from_a_known_origin_is_told_everything() {
    for origin in [
        "https://www.foo.com",
        "https://www.bar.com",
        "https://xpto.www.bar.com",
    ] {
        let answer = preflight(
            &several(),
            &[
                ("origin", origin),
                ("access-control-request-method", "GET"),
                ("access-control-request-headers", "x-header-1, x-header-2"),
            ],
        );
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], origin);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "GET, OPTIONS");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "x-header-1, x-header-2");
        assert_eq!(answer[ACCESS_CONTROL_EXPOSE_HEADERS], "x-header-3, x-header-4");
        assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "3600");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
    }
}

#[test]
fn a_preflight_from_elsewhere_is_answered_without_permission_or_sent_on() {
    let asked = [
        ("origin", "https://foobar.com"),
        ("access-control-request-method", "GET"),
    ];
    let answer = preflight(&several(), &asked);
    assert!(ANSWERS.iter().all(|name| !answer.contains_key(name)));
    let istio = Cors {
        unmatched: UnmatchedPreflight::Forward,
        ..several()
    };
    assert_eq!(
        istio.judge(&Method::OPTIONS, &headers(&asked)),
        CorsVerdict::Actual(None)
    );
}

#[test]
fn only_options_with_origin_and_method_is_a_preflight() {
    let judge = |method: Method, list: &[_]| several().judge(&method, &headers(list));
    let known = ("origin", "https://www.foo.com");
    let origin = HeaderValue::from_static("https://www.foo.com");
    let asked = ("access-control-request-method", "GET");
    assert_eq!(
        judge(Method::GET, &[known, asked]),
        CorsVerdict::Actual(Some(origin.clone()))
    );
    assert_eq!(
        judge(Method::OPTIONS, &[known]),
        CorsVerdict::Actual(Some(origin.clone()))
    );
    assert_eq!(
        judge(Method::OPTIONS, &[known, ("access-control-request-method", "")]),
        CorsVerdict::Actual(Some(origin))
    );
    assert_eq!(judge(Method::OPTIONS, &[asked]), CorsVerdict::SameOrigin);
    assert_eq!(judge(Method::GET, &[]), CorsVerdict::SameOrigin);
}

#[test]
fn what_is_asked_for_is_repeated_where_everything_goes() {
    for credentials in [true, false] {
        let answer = preflight(
            &anything(credentials),
            &[
                ("origin", "https://other.foo.com:12345"),
                ("access-control-request-method", "PUT"),
                ("access-control-request-headers", "x-header-1, x-header-2"),
            ],
        );
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://other.foo.com:12345");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "x-header-1, x-header-2");
        assert_eq!(answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS), credentials);
    }
    let bare = preflight(
        &anything(true),
        &[("origin", "https://a"), ("access-control-request-method", "PUT")],
    );
    assert!(!bare.contains_key(ACCESS_CONTROL_ALLOW_HEADERS));
}

#[test]
fn a_response_gets_the_policys_word_and_no_other() {
    let origin = HeaderValue::from_static("https://www.foo.com");
    let mut response = headers(&[
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "TRACE"),
        ("vary", "accept"),
        ("x-a", "1"),
    ]);
    several().finish(Some(&origin), &mut response);
    let all: Vec<_> = response.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter().collect();
    assert_eq!(all, ["https://www.foo.com"]);
    assert!(!response.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    assert_eq!(response[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
    let vary: Vec<_> = response.get_all(VARY).iter().collect();
    assert_eq!(vary, ["accept", "origin"]);

    let mut refused = headers(&[("access-control-allow-origin", "*")]);
    several().finish(None, &mut refused);
    assert!(!refused.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));

    let istio = Cors {
        exclusive: false,
        ..several()
    };
    let mut left = headers(&[("access-control-allow-origin", "*"), ("vary", "Accept, Origin")]);
    istio.finish(None, &mut left);
    assert_eq!(left[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(left.get_all(VARY).iter().count(), 1);
}

#[test]
fn all_response_headers_are_named_where_a_star_would_not_be_understood() {
    let origin = HeaderValue::from_static("https://a");
    let mut response = headers(&[("x-a", "1"), ("vary", "*")]);
    anything(true).finish(Some(&origin), &mut response);
    let exposed = response[ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap();
    assert!(exposed.contains("x-a"), "{exposed}");
    let mut response = headers(&[("x-a", "1")]);
    anything(false).finish(Some(&origin), &mut response);
    assert_eq!(response[ACCESS_CONTROL_EXPOSE_HEADERS], "*");
}

/// Gateway API, HTTPCORSFilter.allowOrigins.
#[test]
fn origins_match_by_scheme_host_and_port() {
    let table = [
        ("*", "https://anything:1", true),
        ("*", "null", true),
        ("https://a.com", "https://a.com", true),
        ("https://a.com", "https://A.com", true),
        ("https://a.com", "http://a.com", false),
        ("https://a.com", "https://a.com:443", true),
        ("https://a.com:443", "https://a.com", true),
        ("http://a.com", "http://a.com:80", true),
        ("https://a.com", "https://a.com:8443", false),
        ("https://a.com:8443", "https://a.com:8443", true),
        ("https://a.com", "https://xa.com", false),
        ("https://*.a.com", "https://b.a.com", true),
        ("https://*.a.com", "https://c.b.a.com", true),
        ("https://*.a.com", "https://a.com", false),
        ("https://*.a.com", "https://.a.com", false),
        ("https://*.a.com", "https://b.a.com:1", false),
        ("https://*.a.com:1", "https://b.a.com:1", true),
        ("https://*", "https://b.a.com", true),
        ("https://*", "https://b.a.com:8443", false),
        ("https://*", "http://b.a.com", false),
        ("https://a.com", "null", false),
        ("https://a.com", "https://a.com:x", false),
    ];
    for (pattern, origin, matches) in table {
        let pattern = OriginPattern::web(pattern).unwrap();
        assert_eq!(pattern.matches(origin), matches, "{pattern:?} {origin}");
    }
    for text in [
        "",
        "a.com",
        "ftp://a.com",
        "https://",
        "https://a*.com",
        "https://*a.com",
        "https://a.com/",
        "https://a.com:0",
        "https://a.com:99999",
        "https://*.",
        "https://a..b",
        "https://a b",
    ] {
        assert_eq!(OriginPattern::web(text), None, "{text}");
    }
    let prefix = OriginPattern::Prefix("https://a".into());
    assert!(prefix.matches("https://abc") && !prefix.matches("http://a"));
    let regex = OriginPattern::Regex(FullRegex::parse("https://[a-z]+\\.com").unwrap());
    assert!(regex.matches("https://abc.com") && !regex.matches("https://abc.com:1"));
}

proptest::proptest! {
    #[test]
    fn judging_never_panics(origin in "(https?://)?[a-z*.:\\[\\]0-9]{0,20}", pattern in "https?://[a-z*.:0-9]{0,20}") {
        if let Some(pattern) = OriginPattern::web(&pattern) {
            let _ = pattern.matches(&origin);
            let _ = pattern.matches("");
        }
        let _ = several().origins.iter().any(|it| it.matches(&origin));
    }
}
