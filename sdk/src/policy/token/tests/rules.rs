//! What becomes of a request that shows a token, or should.

use super::*;

/// One issuer after another, whose keys are all here.
struct Ring {
    keys: Vec<Lookup>,
    cache: TokenCache,
}

impl KeyRing for Ring {
    fn keys(&self, source: usize) -> Lookup {
        self.keys[source].clone()
    }

    fn cache(&self, _: usize) -> Option<&TokenCache> {
        Some(&self.cache)
    }
}

fn rule(issuer: &str, locations: Vec<Location>) -> TokenRule {
    TokenRule {
        by: RuleRef {
            policy: ResourceRef::new(Kind::RequestAuthentication, "ns", "jwt"),
            rule: 0,
        },
        issuer: issuer.into(),
        audiences: Vec::new(),
        locations,
        forward: false,
        payload_header: None,
        claim_headers: Vec::new(),
        spaced: Vec::new(),
        keys: 0,
    }
}

fn header(name: &'static str, prefix: &str) -> Location {
    Location::Header {
        name: HeaderName::from_static(name),
        prefix: prefix.into(),
    }
}

struct Asked {
    method: Method,
    query: Option<String>,
    headers: HeaderMap,
}

impl Asked {
    fn new(headers: &[(&'static str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        });
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        Self {
            method: Method::GET,
            query: None,
            headers: map,
        }
    }

    fn query(query: &str) -> Self {
        Self {
            query: Some(query.into()),
            ..Self::new(&[])
        }
    }

    fn judge(&self, rules: &TokenRules, ring: &Ring) -> Result<Option<String>, Reject> {
        let head = RequestHead::unsent(&self.method, "svc", "/", self.query.as_deref(), &self.headers);
        match rules.judge(&head, NOW, ring) {
            Verdict::Absent => Ok(None),
            Verdict::Accepted { claims, .. } => Ok(Some(claims["sub"].as_str().unwrap().into())),
            Verdict::Refused { why, .. } => Err(why),
            Verdict::Wait(source) => panic!("waits for {source}"),
        }
    }
}

struct Issuer(Signer);

impl Issuer {
    fn new() -> (Self, Ring) {
        let signer = Signer::ed();
        let ring = Ring {
            keys: vec![Lookup::Ready(set(&[signer.jwk()]))],
            cache: TokenCache::default(),
        };
        (Self(signer), ring)
    }

    fn token(&self, claims: Value) -> String {
        self.0.token(json!({"alg": "EdDSA"}), &claims)
    }
}

#[test]
fn the_default_places_are_the_bearer_header_and_a_query_parameter() {
    let (issuer, ring) = Issuer::new();
    let rules = TokenRules::new(vec![rule("i", Location::defaults())]);
    let token = issuer.token(json!({"iss": "i", "sub": "s"}));
    let bearer = format!("Bearer {token}");
    let ask = |headers: &[(&'static str, &str)]| Asked::new(headers).judge(&rules, &ring);
    assert_eq!(ask(&[("authorization", &bearer)]), Ok(Some("s".into())));
    assert_eq!(
        ask(&[("authorization", &bearer.replace("Bearer", "bearer"))]),
        Ok(None)
    );
    assert_eq!(ask(&[("authorization", "Basic dXNlcjpwYXNz")]), Ok(None));
    assert_eq!(ask(&[("authorization", "Bearer ")]), Err(Reject::Format));
    assert_eq!(ask(&[("authorization", "Bearer x")]), Err(Reject::Format));
    // The second line is not believed for the sake of the first.
    assert_eq!(
        ask(&[("authorization", &bearer), ("authorization", "Bearer x.y.z")]),
        Err(Reject::HeaderEncoding)
    );
    assert_eq!(
        ask(&[("authorization", &bearer), ("authorization", "Basic eDp5")]),
        Ok(Some("s".into()))
    );
    for (query, answer) in [
        (format!("a=b&access_token={token}"), Ok(Some("s".into()))),
        (
            format!("access%5Ftoken={}", token.replace('.', "%2E")),
            Ok(Some("s".into())),
        ),
        (format!("Access_token={token}"), Ok(None)),
        (
            format!("access_token={token}&access_token=x"),
            Err(Reject::Format),
        ),
        ("access_token=".into(), Err(Reject::Format)),
    ] {
        assert_eq!(Asked::query(&query).judge(&rules, &ring), answer, "{query}");
    }
    let mut binary = Asked::new(&[]);
    binary.headers.insert(
        "authorization",
        HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap(),
    );
    assert_eq!(binary.judge(&rules, &ring), Err(Reject::Format));
}

#[test]
fn cookies_and_headers_without_a_prefix_hold_tokens_too() {
    let (issuer, ring) = Issuer::new();
    let rules = TokenRules::new(vec![rule(
        "i",
        vec![header("x-jwt", ""), Location::Cookie("sess".into())],
    )]);
    let token = issuer.token(json!({"iss": "i", "sub": "s"}));
    let ask = |headers: &[(&'static str, &str)]| Asked::new(headers).judge(&rules, &ring);
    assert_eq!(ask(&[("x-jwt", &token)]), Ok(Some("s".into())));
    assert_eq!(
        ask(&[("cookie", &format!("a=b; sess={token}"))]),
        Ok(Some("s".into()))
    );
    assert_eq!(
        ask(&[("cookie", &format!("sess=\"{token}\""))]),
        Ok(Some("s".into()))
    );
    assert_eq!(ask(&[("cookie", &format!("xsess={token}"))]), Ok(None));
    assert_eq!(
        ask(&[("cookie", &format!("sess={token}; sess=bad"))]),
        Err(Reject::Format)
    );
    assert_eq!(
        ask(&[("x-jwt", &token), ("cookie", "sess=bad")]),
        Err(Reject::Format)
    );
    assert_eq!(ask(&[("authorization", &format!("Bearer {token}"))]), Ok(None));
}

#[test]
fn audiences_are_any_of_those_wanted() {
    let (issuer, ring) = Issuer::new();
    let wanted = TokenRule {
        audiences: vec!["app".into(), "api".into()],
        ..rule("i", Location::defaults())
    };
    let rules = TokenRules::new(vec![wanted]);
    for (aud, fits) in [
        (json!("app"), true),
        (json!(["x", "api"]), true),
        (json!("App"), false),
        (json!(["x"]), false),
        (json!([]), false),
    ] {
        let token = issuer.token(json!({"iss": "i", "sub": "s", "aud": aud}));
        let answer = Asked::new(&[("authorization", &format!("Bearer {token}"))]).judge(&rules, &ring);
        assert_eq!(
            answer,
            if fits {
                Ok(Some("s".into()))
            } else {
                Err(Reject::Audience)
            },
            "{aud}"
        );
    }
    let token = issuer.token(json!({"iss": "i", "sub": "s"}));
    assert_eq!(
        Asked::new(&[("authorization", &format!("Bearer {token}"))]).judge(&rules, &ring),
        Err(Reject::Audience)
    );
    assert_eq!(
        (
            Reject::Audience.status().as_u16(),
            Reject::Expired.status().as_u16()
        ),
        (403, 401)
    );
}

#[test]
fn the_first_rule_that_is_satisfied_decides() {
    let (issuer, ring) = Issuer::new();
    let rules = TokenRules::new(vec![
        rule("b", vec![header("x-b", "")]),
        rule("a", vec![header("x-a", "")]),
    ]);
    assert_eq!(&*rules.rules()[0].issuer, "a", "rules are sorted by issuer");
    let a = issuer.token(json!({"iss": "a", "sub": "of-a"}));
    let b = issuer.token(json!({"iss": "b", "sub": "of-b"}));
    let old = issuer.token(json!({"iss": "b", "sub": "of-b", "exp": 1}));
    let ask = |headers: &[(&'static str, &str)]| Asked::new(headers).judge(&rules, &ring);
    assert_eq!(ask(&[("x-a", &a), ("x-b", &b)]), Ok(Some("of-a".into())));
    assert_eq!(ask(&[("x-a", &a), ("x-b", "bad")]), Ok(Some("of-a".into())));
    assert_eq!(ask(&[("x-a", "bad"), ("x-b", &b)]), Ok(Some("of-b".into())));
    assert_eq!(ask(&[("x-a", &b)]), Err(Reject::UnknownIssuer));
    assert_eq!(ask(&[("x-a", &b), ("x-b", &old)]), Err(Reject::Expired));
    assert_eq!(ask(&[("x-a", "bad"), ("x-b", &old)]), Err(Reject::Format));
    assert_eq!(ask(&[]), Ok(None));
}

#[test]
fn a_preflight_needs_no_token_and_shows_none() {
    let (_, ring) = Issuer::new();
    let rules = TokenRules::new(vec![rule("i", Location::defaults())]);
    let preflight = |method: Method, origin: &str, asked: &str| {
        let mut asked = Asked::new(&[
            ("authorization", "Bearer bad"),
            ("origin", origin),
            ("access-control-request-method", asked),
        ]);
        asked.method = method;
        asked.judge(&rules, &ring)
    };
    assert_eq!(preflight(Method::OPTIONS, "https://x", "POST"), Ok(None));
    assert_eq!(preflight(Method::GET, "https://x", "POST"), Err(Reject::Format));
    assert_eq!(preflight(Method::OPTIONS, "", "POST"), Err(Reject::Format));
    assert_eq!(preflight(Method::OPTIONS, "https://x", ""), Err(Reject::Format));
}

#[test]
fn keys_that_are_missing_are_waited_for_or_missed() {
    let (issuer, mut ring) = Issuer::new();
    let rules = TokenRules::new(vec![rule("i", Location::defaults())]);
    let token = issuer.token(json!({"iss": "i", "sub": "s"}));
    let asked = Asked::new(&[("authorization", &format!("Bearer {token}"))]);
    ring.keys = vec![Lookup::Pending];
    let head = RequestHead::unsent(&asked.method, "svc", "/", None, &asked.headers);
    assert!(matches!(rules.judge(&head, NOW, &ring), Verdict::Wait(0)));
    ring.keys = vec![Lookup::Failed];
    assert_eq!(asked.judge(&rules, &ring), Err(Reject::Fetch));
    ring.keys = vec![Lookup::Ready(set(&[with(
        Signer::ed().jwk(),
        json!({"alg": "EdDSA"}),
    )]))];
    assert_eq!(asked.judge(&rules, &ring), Err(Reject::Signature));
    ring.keys = vec![Lookup::Ready(set(&[Signer::rsa(&sig::RSA_PKCS1_SHA256).jwk()]))];
    assert!(matches!(
        rules.judge(&head, NOW, &ring),
        Verdict::Refused {
            why: Reject::NoMatchingKey,
            stale: Some(0)
        }
    ));
}

#[test]
fn the_cache_believes_a_token_only_with_the_keys_that_verified_it() {
    let (issuer, mut ring) = Issuer::new();
    let rules = TokenRules::new(vec![rule("i", Location::defaults())]);
    let claims = json!({"iss": "i", "sub": "s", "exp": NOW});
    let token = issuer.token(claims);
    let asked = Asked::new(&[("authorization", &format!("Bearer {token}"))]);
    assert_eq!(asked.judge(&rules, &ring), Ok(Some("s".into())));
    let Lookup::Ready(keys) = ring.keys[0].clone() else {
        unreachable!()
    };
    assert!(ring.cache.get(&token, &keys).is_some());
    // A signature that differs in its last bits is another token.
    let last = if token.ends_with('A') { 'Q' } else { 'A' };
    let forged = format!("{}{last}", &token[..token.len() - 1]);
    assert!(ring.cache.get(&forged, &keys).is_none());
    assert_eq!(
        Asked::new(&[("authorization", &format!("Bearer {forged}x"))]).judge(&rules, &ring),
        Err(Reject::SignatureEncoding)
    );
    let head = RequestHead::unsent(&asked.method, "svc", "/", None, &asked.headers);
    assert!(matches!(
        rules.judge(&head, NOW + 61, &ring),
        Verdict::Refused {
            why: Reject::Expired,
            ..
        }
    ));
    assert!(
        ring.cache.get(&token, &keys).is_none(),
        "an expired token is forgotten"
    );
    assert_eq!(asked.judge(&rules, &ring), Ok(Some("s".into())));
    ring.keys = vec![Lookup::Ready(set(&[Signer::ed().jwk()]))];
    assert_eq!(asked.judge(&rules, &ring), Err(Reject::Signature));
}

#[test]
fn an_accepted_token_is_taken_away_and_its_claims_are_passed_on() {
    let (issuer, _) = Issuer::new();
    let text =
        issuer.token(json!({"iss": "i", "sub": "s", "n": 7, "t": true, "deep": {"er": "x"}, "list": ["a"]}));
    let claim = |header: &'static str, claim: &[&str]| ClaimHeader {
        header: HeaderName::from_static(header),
        claim: claim.iter().map(|key| (*key).into()).collect(),
    };
    let mut rule = TokenRule {
        payload_header: Some(HeaderName::from_static("x-payload")),
        claim_headers: vec![
            claim("x-sub", &["sub"]),
            claim("x-n", &["n"]),
            claim("x-t", &["t"]),
            claim("x-deep", &["deep", "er"]),
            claim("x-list", &["list"]),
            claim("x-none", &["none"]),
        ],
        ..rule(
            "i",
            vec![
                header("authorization", "Bearer "),
                Location::Param("access_token".into()),
                Location::Cookie("sess".into()),
            ],
        )
    };
    let request = || {
        let request = Request::builder()
            .uri(format!("http://svc/p?a=1&access_token={text}&b=%20"))
            .header("authorization", "Basic eDp5")
            .header("authorization", format!("Bearer {text}"))
            .header("cookie", format!("sess={text}; k=v"))
            .header("x-sub", "spoofed")
            .header("x-none", "spoofed")
            .header("x-payload", "spoofed");
        request.body(()).unwrap().into_parts().0
    };
    let token = Token::parse(&text).unwrap();
    let mut parts = request();
    TokenRules::new(vec![rule.clone()]).sanitize(&mut parts.headers);
    assert!(!parts.headers.contains_key("x-none") && !parts.headers.contains_key("x-payload"));
    rule.edit(&token, &mut parts);
    let of = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(of("x-payload"), Some(text.split('.').nth(1).unwrap()));
    assert_eq!(
        (of("x-sub"), of("x-n"), of("x-t"), of("x-deep")),
        (Some("s"), Some("7"), Some("true"), Some("x"))
    );
    assert_eq!((of("x-list"), of("x-none")), (None, None));
    assert_eq!(
        (of("authorization"), of("cookie")),
        (Some("Basic eDp5"), Some("k=v"))
    );
    assert_eq!(parts.uri.to_string(), "http://svc/p?a=1&b=%20");
    rule.forward = true;
    let mut parts = request();
    rule.edit(&token, &mut parts);
    assert_eq!(parts.headers.get_all("authorization").iter().count(), 2);
    assert!(parts.uri.query().unwrap().contains("access_token"));
}

#[test]
fn claims_with_spaces_become_lists_where_the_rule_says_so() {
    let (issuer, ring) = Issuer::new();
    let spaced = TokenRule {
        spaced: vec!["roles".into(), "n".into()],
        ..rule("i", Location::defaults())
    };
    let rules = TokenRules::new(vec![spaced]);
    let token = issuer.token(json!({"iss": "i", "sub": "s", "roles": "a  b", "other": "a b", "n": 1}));
    let asked = Asked::new(&[("authorization", &format!("Bearer {token}"))]);
    let head = RequestHead::unsent(&asked.method, "svc", "/", None, &asked.headers);
    let Verdict::Accepted { claims, token, .. } = rules.judge(&head, NOW, &ring) else {
        panic!("it is not accepted")
    };
    assert_eq!(
        (&claims["roles"], &claims["other"], &claims["n"]),
        (&json!(["a", "b"]), &json!("a b"), &json!(1))
    );
    assert_eq!(token.claims()["roles"], json!("a  b"));
}

#[test]
fn a_token_is_never_shown() {
    let (issuer, _) = Issuer::new();
    let text = issuer.token(json!({"iss": "i", "sub": "secret-subject"}));
    let shown = format!("{:?}", Token::parse(&text).unwrap());
    assert!(
        !shown.contains(text.split('.').nth(2).unwrap()) && !shown.contains("secret-subject"),
        "{shown}"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_token_panic(text in ".{0,200}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        let _ = Token::parse(&text);
        let _ = Token::parse(&parts.join("."));
        let _ = KeySet::parse(&text);
        let _ = location::decoded(&text);
    }
}

#[test]
fn a_thousand_tokens_in_use_hardly_ever_drive_each_other_out() {
    let cache = TokenCache::default();
    let (ours, others) = (
        Arc::new(set(&[Signer::ed().jwk()])),
        Arc::new(set(&[Signer::ed().jwk()])),
    );
    let header = B64.encode(r#"{"alg":"EdDSA"}"#);
    let token = |n: usize| {
        let payload = B64.encode(json!({"iss": "i", "sub": n.to_string()}).to_string());
        Arc::new(Token::parse(&format!("{header}.{payload}.AA")).unwrap())
    };
    let tokens: Vec<_> = (0..1_000).map(token).collect();
    for token in &tokens {
        cache.put(token, &ours);
    }
    let known = |keys| {
        tokens
            .iter()
            .filter(|token| cache.get(token.as_str(), keys).is_some())
            .count()
    };
    assert!(known(&ours) >= 970, "{} of 1,000", known(&ours));
    assert_eq!(known(&others), 0);
    // Far more than there are places: as many as there are places are known.
    for n in 0..20_000 {
        cache.put(&token(n), &ours);
    }
    let known = (0..20_000)
        .filter(|n| cache.get(token(*n).as_str(), &ours).is_some())
        .count();
    assert!((3_500..=4_096).contains(&known), "{known} of 4,096 places");
}
