//! Why: every rule of an engine with what it makes of a request. For people and tests, not for the request path.

use std::fmt::Write as _;

use super::engine::{AuthzEngine, RuleRef};
use super::facts::{Facts, Truth};
use super::rule::{Action, AuthzRule, Condition, HeaderKey, RequestPrincipal, Test};
use crate::matcher::{TextMatch, TextSet};
use crate::policy::RequestHead;

/// What one rule makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTold<'s> {
    /// Which rule.
    pub by: &'s RuleRef,
    /// What it does where it matches.
    pub action: Action,
    /// Whether it is only watched.
    pub dry_run: bool,
    /// Whether it matches, and if not, why.
    pub verdict: RuleVerdict,
}

/// Whether a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleVerdict {
    /// It does.
    Matches,
    /// One of its clauses does not hold; the text says which and for want of what.
    Fails(String),
    /// It cannot be judged, so it counts as matching where a match closes.
    Unclear(String),
}

/// Whether values that may be secret are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    /// Names only: headers, queries and claims hold what is nobody else's business.
    #[default]
    Names,
    /// Everything.
    Values,
}

impl AuthzEngine {
    /// What every rule makes of a request, in the order in which the actions are asked: CUSTOM, AUDIT, DENY, ALLOW, and then
    /// those that are only watched.
    pub fn explain<'s>(&'s self, head: &RequestHead<'_>, show: Show) -> Vec<RuleTold<'s>> {
        let facts = Facts::of_request(head, true);
        self.all_rules()
            .map(|(action, dry_run, by, rule)| {
                let closes = matches!(action, Action::Deny | Action::Custom);
                let verdict = match facts.rule(rule, closes) {
                    Truth::Yes => RuleVerdict::Matches,
                    Truth::No => RuleVerdict::Fails(shortfall(&facts, rule, closes, show)),
                    Truth::Unknown => RuleVerdict::Unclear(shortfall(&facts, rule, closes, show)),
                };
                RuleTold {
                    by,
                    action,
                    dry_run,
                    verdict,
                }
            })
            .collect()
    }

    /// Every rule, whatever its action.
    pub fn rules(&self) -> impl Iterator<Item = (&RuleRef, Action)> {
        self.all_rules().map(|(action, _, by, _)| (by, action))
    }
}

/// The first clause that does not hold, and what it wanted.
fn shortfall(facts: &Facts<'_>, rule: &AuthzRule, closes: bool, show: Show) -> String {
    let holds = |condition: &Condition| {
        let truth = facts.test(&condition.test, closes, condition.negated);
        if condition.negated { !truth } else { truth }
    };
    for clause in &rule.clauses {
        let alternatives: Vec<String> = clause
            .any
            .iter()
            .filter_map(|all| {
                let failing = all.iter().find(|condition| holds(condition) != Truth::Yes)?;
                Some(wanted(failing, facts, show))
            })
            .collect();
        if alternatives.len() == clause.any.len() {
            return match alternatives.is_empty() {
                true => "one of its clauses never holds on this layer".to_owned(),
                false => alternatives.join(", and "),
            };
        }
    }
    String::new()
}

/// A condition in the words of its YAML, and what there was instead.
fn wanted(condition: &Condition, facts: &Facts<'_>, show: Show) -> String {
    let (name, values, found, secret) = told(&condition.test, facts);
    let negation = if condition.negated { "not " } else { "" };
    let mut text = format!("{name} must {negation}be {values}, and is ");
    let shown = match (&found, secret && show == Show::Names) {
        (None, _) => "absent".to_owned(),
        (Some(_), true) => "something else (not shown)".to_owned(),
        (Some(found), false) => format!("`{found}`"),
    };
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "{}",
        if condition.negated && secret && show == Show::Names {
            "one of them".to_owned()
        } else {
            shown
        }
    );
    text
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
            let mut all = texts(names);
            if !globs.is_empty() {
                let _ = write!(all, " or one of {} patterns", globs.len());
            }
            open("namespace", all, identity.map(|id| id.namespace().to_owned()))
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
            format!("in {blocks:?}"),
            Some(facts.caller.addr.to_string()),
        ),
        Test::RemoteIp(blocks) => open(
            "remote.ip",
            format!("in {blocks:?}"),
            Some(facts.caller.remote.to_string()),
        ),
        Test::DestinationIp(blocks) => open(
            "destination.ip",
            format!("in {blocks:?}"),
            Some(facts.destination.ip().to_string()),
        ),
        Test::Port(ports) => open("port", one_of(ports), Some(facts.destination.port().to_string())),
        Test::Sni(values) => open("connection.sni", texts(values), Some(facts.sni.to_owned())),
        Test::Method(values) => open("method", texts(values), http.map(|head| head.method.to_string())),
        Test::Host(values) => open("host", texts(values), http.map(|head| head.authority.to_owned())),
        Test::Path { values, templates } => {
            let mut all = texts(values);
            if !templates.is_empty() {
                let _ = write!(all, " or fit one of {} templates", templates.len());
            }
            open("path", all, http.map(|head| head.path.to_owned()))
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
            (format!("request.headers[{shown}]"), texts(values), found, true)
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
    let exact = set.exact().map(str::to_owned);
    let prefixes = set.prefixes().map(|text| format!("{text}*"));
    let suffixes = set.suffixes().map(|text| format!("*{text}"));
    let present = set.has_present().then(|| "*".to_owned());
    one_of(exact.chain(prefixes).chain(suffixes).chain(present))
}

fn one_of<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    match values.as_slice() {
        [one] => format!("`{one}`"),
        many => format!("one of `{}`", many.join("`, `")),
    }
}
