//! Why: every rule of an engine with what it makes of a request. For people and tests, not for the request path.

use super::engine::{AuthzEngine, RuleRef};
use super::facts::{Facts, Truth};
use super::rule::{Action, AuthzRule, Condition, HeaderKey, Part, RequestPrincipal, Test};
use crate::matcher::{TextMatch, TextSet};
use crate::policy::{ConnectionHead, RequestHead};

/// Whether something holds of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It cannot be judged, so it counts as holding where that closes, and as not holding where that opens.
    Unclear,
}

/// What one rule makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTold<'s> {
    /// Which rule.
    pub by: &'s RuleRef,
    /// What it does where it matches.
    pub action: Action,
    /// Whether it is only watched.
    pub dry_run: bool,
    /// Whether all of its clauses hold.
    pub holds: Holds,
    /// Its clauses: of each, all alternatives.
    pub clauses: Vec<Vec<Alternative>>,
}

/// One entry of `from`, `to` or `when`, and what it makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// Where it is in its rule: `from[0]`, `to[1]`, `when[0]`.
    pub at: String,
    /// Whether all that it asks holds.
    pub holds: Holds,
    /// What it asks.
    pub asks: Vec<Asked>,
}

/// One question of a rule, in the words of its YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of what: `principal`, `path`, `request.headers[x-token]`.
    pub of: String,
    /// Whether it must be none of the values.
    pub negated: bool,
    /// The values, in words.
    pub wanted: String,
    /// What the request has; `None` if nothing.
    pub found: Option<String>,
    /// Whether the values are nobody else's business: those of headers and tokens.
    pub private: bool,
    /// Whether it holds.
    pub holds: Holds,
}

impl From<Truth> for Holds {
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::Yes => Self::Yes,
            Truth::No => Self::No,
            Truth::Unknown => Self::Unclear,
        }
    }
}

impl RuleTold<'_> {
    /// Whether it takes effect where it is asked: what cannot be judged does, where a match closes.
    pub fn applies(&self) -> bool {
        match self.action {
            Action::Deny | Action::Custom => self.holds != Holds::No,
            Action::Allow | Action::Audit => self.holds == Holds::Yes,
        }
    }

    /// What made it apply: of each clause the first alternative that does not fail.
    pub fn held(&self) -> impl Iterator<Item = &Alternative> {
        let held = |clause: &'_ Vec<Alternative>| clause.iter().position(|one| one.holds != Holds::No);
        self.clauses
            .iter()
            .filter_map(move |clause| clause.get(held(clause)?))
    }

    /// What kept it from applying: every alternative of the first clause of which none holds.
    pub fn failed(&self) -> &[Alternative] {
        let fails = |clause: &&Vec<Alternative>| clause.iter().all(|one| one.holds != Holds::Yes);
        self.clauses.iter().find(fails).map_or(&[], Vec::as_slice)
    }
}

impl AuthzEngine {
    /// What every rule makes of a request, in the order in which the actions are asked: CUSTOM, AUDIT, DENY, ALLOW, and then
    /// those that are only watched.
    pub fn explain<'s>(&'s self, head: &RequestHead<'_>) -> Vec<RuleTold<'s>> {
        let facts = Facts::of_request(head, true);
        let told = |(action, dry_run, by, rule)| tell(&facts, action, dry_run, by, rule);
        self.all_rules().map(told).collect()
    }

    /// As [`AuthzEngine::explain`], of a connection.
    pub fn explain_connection<'s>(&'s self, head: &ConnectionHead<'_>) -> Vec<RuleTold<'s>> {
        let facts = Facts::of_connection(head);
        let told = |(action, dry_run, by, rule)| tell(&facts, action, dry_run, by, rule);
        self.all_rules().map(told).collect()
    }

    /// What one rule makes of a request, the one that a decision named.
    pub fn explain_rule<'s>(&'s self, head: &RequestHead<'_>, by: &RuleRef) -> Option<RuleTold<'s>> {
        let (action, dry_run, by, rule) = self.all_rules().find(|(_, _, it, _)| *it == by)?;
        Some(tell(&Facts::of_request(head, true), action, dry_run, by, rule))
    }

    /// Every rule with its action, those that are only watched included.
    pub fn rules(&self) -> impl Iterator<Item = (&RuleRef, Action)> {
        self.all_rules().map(|(action, _, by, _)| (by, action))
    }
}

fn tell<'s>(
    facts: &Facts<'_>,
    action: Action,
    dry_run: bool,
    by: &'s RuleRef,
    rule: &AuthzRule,
) -> RuleTold<'s> {
    let closes = matches!(action, Action::Deny | Action::Custom);
    let clauses = rule.clauses.iter().map(|clause| {
        let alternatives = clause.any.iter().enumerate();
        alternatives
            .map(|(number, asked)| alternative(facts, clause.part, number, asked, closes))
            .collect()
    });
    RuleTold {
        by,
        action,
        dry_run,
        holds: facts.rule(rule, closes).into(),
        clauses: clauses.collect(),
    }
}

fn alternative(
    facts: &Facts<'_>,
    part: Part,
    number: usize,
    conditions: &[Condition],
    closes: bool,
) -> Alternative {
    let truth = |condition: &Condition| facts.condition(condition, closes);
    let asks = conditions.iter().map(|condition| {
        let (of, wanted, found, private) = told(&condition.test, facts);
        Asked {
            of,
            negated: condition.negated,
            wanted,
            found,
            private,
            holds: truth(condition).into(),
        }
    });
    Alternative {
        at: part.path(number),
        holds: conditions.iter().map(truth).min().unwrap_or(Truth::Yes).into(),
        asks: asks.collect(),
    }
}

/// The name of an attribute, the values wanted of it, its own value, and whether that may be a secret.
fn told(test: &Test, facts: &Facts<'_>) -> (String, String, Option<String>, bool) {
    let identity = facts.caller.identity;
    let open = |name: &str, values: String, found: Option<String>| (name.to_owned(), values, found, false);
    let http = facts.http;
    match test {
        Test::Principal(values) => open(
            "principal",
            texts(values),
            identity.map(|id| id.principal().to_owned()),
        ),
        Test::Namespace { names, globs } => {
            let all = listed(names).chain(globs.iter().map(ToString::to_string));
            let found = identity.map(|id| id.namespace().to_owned());
            open("namespace", one_of(all), found)
        }
        Test::ServiceAccount(accounts) => {
            let wanted: Vec<_> = accounts.iter().map(|(ns, sa)| format!("{ns}/{sa}")).collect();
            let found = identity.map(|id| format!("{}/{}", id.namespace(), id.service_account()));
            open("serviceAccount", one_of(wanted), found)
        }
        Test::TrustDomain(values) => open(
            "trustDomain",
            texts(values),
            identity.map(|id| id.trust_domain().to_owned()),
        ),
        Test::SourceIp(blocks) => open(
            "source.ip",
            one_of(blocks.blocks()),
            Some(facts.caller.addr.to_string()),
        ),
        Test::RemoteIp(blocks) => open(
            "remote.ip",
            one_of(blocks.blocks()),
            Some(facts.caller.remote.to_string()),
        ),
        Test::DestinationIp(blocks) => open(
            "destination.ip",
            one_of(blocks.blocks()),
            Some(facts.destination.ip().to_string()),
        ),
        Test::Port(ports) => open("port", one_of(ports), Some(facts.destination.port().to_string())),
        Test::Sni(values) => open("connection.sni", texts(values), Some(facts.sni.to_owned())),
        Test::Method(values) => open("method", texts(values), http.map(|head| head.method.to_string())),
        Test::Host(values) => open("host", texts(values), http.map(|head| head.authority.to_owned())),
        Test::Path { values, templates } => {
            let all = listed(values).chain(templates.iter().map(ToString::to_string));
            open("path", one_of(all), http.map(|head| head.path.to_owned()))
        }
        Test::RequestPrincipal(principals) => {
            let claims = http.and_then(|head| head.claims);
            let claim = |name| claims.and_then(|claims| claims.get(name)?.as_str().map(str::to_owned));
            let found = claim("iss").map(|iss| format!("{iss}/{}", claim("sub").unwrap_or_default()));
            let wanted: Vec<_> = principals.iter().map(principal).collect();
            ("requestPrincipal".to_owned(), one_of(wanted), found, true)
        }
        Test::Claim { path, values } => {
            let name: String = path.iter().map(|key| format!("[{key}]")).collect();
            let mut claim = None;
            if let (Some(claims), Some((first, rest))) =
                (http.and_then(|head| head.claims), path.split_first())
            {
                claim = rest
                    .iter()
                    .try_fold(claims.get(&**first), |value, key| Some(value?.get(&**key)))
                    .flatten();
            }
            (
                format!("request.auth.claims{name}"),
                texts(values),
                claim.map(ToString::to_string),
                true,
            )
        }
        Test::Header { name, values } => {
            let (shown, found) = match (name, http) {
                (HeaderKey::Name(name), Some(head)) => {
                    let lines: Vec<_> = head.headers.get_all(name).iter().collect();
                    let joined = lines.iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
                    let joined = joined.collect::<Vec<_>>().join(",");
                    (name.to_string(), (!lines.is_empty()).then_some(joined))
                }
                (HeaderKey::Name(name), None) => (name.to_string(), None),
                (HeaderKey::Method, _) => (":method".to_owned(), http.map(|head| head.method.to_string())),
                (HeaderKey::Path, _) => (":path".to_owned(), http.map(|head| head.path.to_owned())),
                (HeaderKey::Authority, _) => (
                    ":authority".to_owned(),
                    http.map(|head| head.authority.to_owned()),
                ),
                (HeaderKey::Scheme, _) => (":scheme".to_owned(), http.map(|head| head.scheme.to_owned())),
            };
            let private = matches!(name, HeaderKey::Name(_));
            (format!("request.headers[{shown}]"), texts(values), found, private)
        }
    }
}

fn principal(one: &RequestPrincipal) -> String {
    let text = |one: &TextMatch| match one {
        TextMatch::Exact(text) => text.to_string(),
        TextMatch::Prefix(text) => format!("{text}*"),
        TextMatch::Suffix(text) => format!("*{text}"),
        TextMatch::Present => "*".to_owned(),
    };
    format!("{}/{}", text(&one.issuer), text(&one.subject))
}

fn texts(set: &TextSet) -> String {
    one_of(listed(set))
}

/// The values as they are written.
fn listed(set: &TextSet) -> impl Iterator<Item = String> {
    let exact = set.exact().map(str::to_owned);
    let prefixes = set.prefixes().map(|text| format!("{text}*"));
    let suffixes = set.suffixes().map(|text| format!("*{text}"));
    let present = set.has_present().then(|| "*".to_owned());
    exact.chain(prefixes).chain(suffixes).chain(present)
}

fn one_of<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    match values.as_slice() {
        [one] => format!("`{one}`"),
        many => format!("one of `{}`", many.join("`, `")),
    }
}
