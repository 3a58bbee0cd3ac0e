//! Tokens: what it costs to believe one, with its signature verified each time and with those verified before known.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use http::{HeaderMap, HeaderValue, Method, header};
use inmesh::name::{Kind, ResourceRef};
use inmesh::policy::RequestHead;
use inmesh::policy::authz::RuleRef;
use inmesh::policy::token::{KeyRing, KeySet, Location, Lookup, TokenCache, TokenRule, TokenRules, Verdict};
use inmesh::testing::Issuer;
use serde_json::json;

use super::harness::Harness;

/// How many tokens are in use: fewer than the cache has places, as many, and far more.
const TOKENS: [usize; 3] = [100, 1_000, 10_000];

const ISSUER: &str = "https://idp.example";

/// The keys of one issuer.
struct Ring {
    keys: Arc<KeySet>,
    cache: Option<TokenCache>,
}

impl KeyRing for Ring {
    fn keys(&self, _: usize) -> Lookup {
        Lookup::Ready(Arc::clone(&self.keys))
    }

    fn cache(&self, _: usize) -> Option<&TokenCache> {
        self.cache.as_ref()
    }
}

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    let issuer = Issuer::new();
    let keys = Arc::new(KeySet::parse(&issuer.jwks())?);
    let rules = rules();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    for size in TOKENS {
        let requests: Vec<HeaderMap> = (0..size).map(|n| carrying(&issuer, n)).collect::<Result<_>>()?;
        for (world, cache) in [
            ("EdDSA, verified", None),
            ("EdDSA, known", Some(TokenCache::default())),
        ] {
            let ring = Ring {
                keys: Arc::clone(&keys),
                cache,
            };
            let believed = |n: usize| {
                let headers = &requests[n % size];
                let head = RequestHead::unsent(&Method::GET, "shop.example", "/", None, headers);
                matches!(rules.judge(&head, now, &ring), Verdict::Accepted { .. })
            };
            ensure!((0..size).all(believed), "a token is not believed");
            harness.operation(("token", world, size), believed);
        }
    }
    Ok(())
}

fn rules() -> TokenRules {
    TokenRules::new(vec![TokenRule {
        by: RuleRef {
            policy: ResourceRef::new(Kind::RequestAuthentication, "default", "believe"),
            rule: 0,
        },
        issuer: ISSUER.into(),
        audiences: vec!["shop".into()],
        locations: Location::defaults(),
        forward: true,
        payload_header: None,
        claim_headers: Vec::new(),
        spaced: Vec::new(),
        keys: 0,
    }])
}

/// A request with a token of the size that they usually have.
fn carrying(issuer: &Issuer, n: usize) -> Result<HeaderMap> {
    let token = issuer.token(&json!({
        "iss": ISSUER, "sub": format!("user-{n}"), "aud": ["shop", "account"], "azp": "shop-frontend",
        "scope": "openid profile email", "email": format!("user-{n}@example.com"),
        "groups": ["customers", "beta", format!("tenant-{}", n % 97)], "jti": format!("{n:032x}"),
    }));
    let mut headers = HeaderMap::new();
    headers.insert(
        header::AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {token}"))?,
    );
    Ok(headers)
}
