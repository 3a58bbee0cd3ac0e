//! The rules of one target, and what they say of a request.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::ORIGIN;
use http::{HeaderName, Method};
use serde_json::Value;
use smallvec::SmallVec;

use super::{Claims, KeySet, Location, Reject, Token, TokenCache};
use crate::policy::RequestHead;
use crate::policy::authz::RuleRef;

/// One issuer: which of its tokens are believed, and what is passed on of them.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRule {
    /// Where it is written.
    pub by: RuleRef,
    /// What `iss` must be; any if empty.
    pub issuer: Box<str>,
    /// Of which `aud` must hold one; any if empty.
    pub audiences: Vec<Box<str>>,
    /// Where tokens are looked for.
    pub locations: Vec<Location>,
    /// Whether the token is passed on.
    pub forward: bool,
    /// The header that takes the payload.
    pub payload_header: Option<HeaderName>,
    /// The headers that take claims.
    pub claim_headers: Vec<ClaimHeader>,
    /// Claims whose text is a list with spaces between, beside those that policy takes for such anyway.
    pub spaced: Vec<Box<str>>,
    /// Which of the target's key sources verifies its tokens.
    pub keys: usize,
}

/// A claim that is passed on as a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimHeader {
    /// The header.
    pub header: HeaderName,
    /// The keys that lead to the claim.
    pub claim: Vec<Box<str>>,
}

/// Where a target's keys are.
pub trait KeyRing {
    /// The keys of a source.
    fn keys(&self, source: usize) -> Lookup;

    /// The tokens of a source that were verified before.
    fn cache(&self, source: usize) -> Option<&TokenCache>;
}

/// What is known of the keys of a source.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// These.
    Ready(Arc<KeySet>),
    /// They are being fetched for the first time.
    Pending,
    /// They could not be fetched.
    Failed,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict<'r> {
    /// It carries no token.
    Absent,
    /// It carries one that is believed.
    Accepted {
        /// By this rule.
        rule: &'r TokenRule,
        /// The token.
        token: Arc<Token>,
        /// Its claims as policy reads them.
        claims: Arc<Claims>,
    },
    /// It carries one that is not believed.
    Refused {
        /// Why.
        why: Reject,
        /// The source whose keys did not fit, where newer ones might.
        stale: Option<usize>,
    },
    /// Keys of this source are needed first.
    Wait(usize),
}

/// All rules of one target, sorted by issuer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenRules {
    rules: Vec<TokenRule>,
}

/// Why one rule is not satisfied.
enum Unsatisfied {
    /// There is no token where it looks.
    Missing,
    Refused(Reject, Option<usize>),
    Wait(usize),
}

type Found<'r> = SmallVec<[Cow<'r, str>; 2]>;

impl TokenRules {
    /// The rules, in the order in which they are asked.
    pub fn new(mut rules: Vec<TokenRule>) -> Self {
        rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        Self { rules }
    }

    /// The rules, in the order in which they are asked.
    pub fn rules(&self) -> &[TokenRule] {
        &self.rules
    }

    /// Judges a request at a time, in seconds since 1970: the first rule that is satisfied decides. A request without a
    /// token passes, as does a CORS preflight, which cannot carry one (Fetch "CORS-preflight request").
    pub fn judge(&self, head: &RequestHead<'_>, now: u64, ring: &impl KeyRing) -> Verdict<'_> {
        if is_preflight(head) {
            return Verdict::Absent;
        }
        let mut refused = Refusals::default();
        for rule in &self.rules {
            match rule.judge(head, now, ring) {
                Ok(token) => {
                    let claims = rule.spaced_claims(token.claims());
                    return Verdict::Accepted { rule, token, claims };
                }
                Err(Unsatisfied::Missing) => {}
                Err(Unsatisfied::Wait(source)) => return Verdict::Wait(source),
                Err(Unsatisfied::Refused(why, stale)) => refused.add(why, stale),
            }
        }
        match refused.choose() {
            None => Verdict::Absent,
            Some((why, stale)) => Verdict::Refused { why, stale },
        }
    }
}

/// OPTIONS with an origin and a method that is asked for.
fn is_preflight(head: &RequestHead<'_>) -> bool {
    let given = |name: &HeaderName| head.headers.get(name).is_some_and(|value| !value.is_empty());
    *head.method == Method::OPTIONS && given(&ORIGIN) && given(&http::header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl TokenRule {
    fn judge(
        &self,
        head: &RequestHead<'_>,
        now: u64,
        ring: &impl KeyRing,
    ) -> Result<Arc<Token>, Unsatisfied> {
        let mut found = Found::new();
        for location in &self.locations {
            location.each(head, |token| found.push(token));
        }
        let mut first = None;
        // Whoever reads the request after us may read any of them, so all must be genuine. The first is the caller's.
        for text in found.iter().rev() {
            first = Some(self.check(text, now, ring)?);
        }
        first.ok_or(Unsatisfied::Missing)
    }

    fn check(&self, text: &str, now: u64, ring: &impl KeyRing) -> Result<Arc<Token>, Unsatisfied> {
        let refuse = |why| Unsatisfied::Refused(why, None);
        let keys = ring.keys(self.keys);
        let cache = ring.cache(self.keys);
        let known = match &keys {
            Lookup::Ready(keys) => cache.and_then(|cache| cache.get(text, keys)),
            Lookup::Pending | Lookup::Failed => None,
        };
        let (token, is_known) = match known {
            Some(token) => (token, true),
            None => (Arc::new(Token::parse(text).map_err(refuse)?), false),
        };
        if !self.issuer.is_empty() && token.issuer() != &*self.issuer {
            return Err(refuse(Reject::UnknownIssuer));
        }
        token.check_time(now).map_err(|why| {
            if let (Reject::Expired, Some(cache)) = (why, cache) {
                cache.forget(text);
            }
            refuse(why)
        })?;
        let wanted = |audience: &str| self.audiences.iter().any(|wanted| **wanted == *audience);
        if !self.audiences.is_empty() && !token.audiences().any(wanted) {
            return Err(refuse(Reject::Audience));
        }
        if is_known {
            return Ok(token);
        }
        let keys = match keys {
            Lookup::Ready(keys) => keys,
            Lookup::Pending => return Err(Unsatisfied::Wait(self.keys)),
            Lookup::Failed => return Err(refuse(Reject::Fetch)),
        };
        token.verify(&keys).map_err(|why| {
            // An issuer that has changed its keys signs with one that we have not seen yet.
            let stale = matches!(why, Reject::NoMatchingKey | Reject::NoKeys).then_some(self.keys);
            Unsatisfied::Refused(why, stale)
        })?;
        if let Some(cache) = cache {
            cache.put(&token, &keys);
        }
        Ok(token)
    }

    fn spaced_claims(&self, claims: &Arc<Claims>) -> Arc<Claims> {
        let is_text = |name: &str| matches!(claims.get(name), Some(Value::String(_)));
        if !self.spaced.iter().any(|name| is_text(name)) {
            return Arc::clone(claims);
        }
        let mut claims = Claims::clone(claims);
        for name in &self.spaced {
            if let Some(value) = claims.get_mut(&**name)
                && let Value::String(text) = value
            {
                let words = text.split(' ').filter(|word| !word.is_empty());
                *value = words.collect::<Vec<_>>().into();
            }
        }
        Arc::new(claims)
    }
}

/// The refusals of several rules. One of a rule that the token is for says more than "issuer is not configured" of those
/// that it is not for; Envoy answers with the first rule's, and else with the last that says more.
#[derive(Default)]
struct Refusals {
    first: Option<(Reject, Option<usize>)>,
    last_telling: Option<(Reject, Option<usize>)>,
}

impl Refusals {
    fn add(&mut self, why: Reject, stale: Option<usize>) {
        self.first.get_or_insert((why, stale));
        if why != Reject::UnknownIssuer {
            self.last_telling = Some((why, stale));
        }
    }

    fn choose(self) -> Option<(Reject, Option<usize>)> {
        match self.first {
            Some((Reject::UnknownIssuer, _)) => self.last_telling.or(self.first),
            first => first,
        }
    }
}
