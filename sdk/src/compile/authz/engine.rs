//! The engine of one target, out of the policies that attach to it.

use std::sync::Arc;

use super::attach::PolicyInput;
use super::convert::Converter;
use super::validate;
use super::values::WhenKey;
use crate::config::istio::{AuthorizationPolicy, AuthorizationRule};
use crate::config::{Entry, Problem, Severity};
use crate::policy::authz::{Action, AuthzEngine, AuthzRule, EngineBuilder, Layer};
use crate::snapshot::Node;

/// The facts of the mesh that give policies their meaning.
#[derive(Clone, Copy, Debug)]
pub struct MeshSettings<'a> {
    /// Istio's root namespace.
    pub root_namespace: &'a str,
    /// The mesh's trust domain, then its aliases.
    pub trust_domains: &'a [Arc<str>],
    /// Whom CUSTOM policies may ask.
    pub authorizers: &'a dyn Authorizers,
}

/// Whom CUSTOM policies may ask.
pub trait Authorizers: std::fmt::Debug {
    /// How the authorizer of this name is asked, or why nobody of that name can be.
    ///
    /// # Errors
    /// If there is none that could be asked.
    fn find(&self, name: &str) -> Result<Asked, String>;
}

/// How an authorizer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// About requests only.
    Http,
    /// About requests and connections.
    Grpc,
}

/// Nobody can be asked.
impl Authorizers for () {
    fn find(&self, _: &str) -> Result<Asked, String> {
        Err("the mesh configuration names no external authorizers".to_owned())
    }
}

impl<'a> From<&'a Node> for MeshSettings<'a> {
    fn from(node: &'a Node) -> Self {
        Self {
            root_namespace: &node.root_namespace,
            trust_domains: &node.trust_domains,
            authorizers: &(),
        }
    }
}

/// Builds the engine of one target for one layer, from the policies that [`attached`](super::attached) gave.
///
/// A policy that is broken or invalid makes an engine that denies everything and names it. The problems include
/// those of [`validate`](super::validate()), so a policy that attaches to several targets is reported as often.
pub fn engine(
    policies: &[PolicyInput<'_>],
    layer: Layer,
    settings: &MeshSettings<'_>,
) -> (AuthzEngine, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut broken: Option<String> = None;
    let mut builder = EngineBuilder::new(layer);
    let mut authorizer = None;
    for input in policies {
        match convert(input, layer, settings, &mut problems) {
            Ok(None) => {}
            Ok(Some((Action::Custom, dry_run, rules))) => {
                let asked = asked(input, layer, settings, &mut problems);
                // HTTP authorizers are asked about requests only: on connections their policies do not exist.
                if asked.as_ref() == Ok(&None) {
                    continue;
                }
                builder = builder.policy(input.entry.reference(), Action::Custom, dry_run, rules);
                let asked = asked.and_then(|name| name.ok_or_else(|| "nobody to ask".into()));
                authorizer = Some(match authorizer {
                    None => asked,
                    Some(first) => same(first, asked, input, &mut problems),
                });
            }
            Ok(Some((action, dry_run, rules))) => {
                builder = builder.policy(input.entry.reference(), action, dry_run, rules);
            }
            Err(why) => {
                broken.get_or_insert(why);
            }
        }
    }
    match broken {
        Some(why) => (AuthzEngine::deny_all(why), problems),
        None => {
            if let Some(authorizer) = authorizer {
                builder = builder.authorizer(authorizer);
            }
            (builder.build(), problems)
        }
    }
}

/// Whom a CUSTOM policy asks: a name, `None` if the policy does not exist on this layer, or why nobody can be asked.
fn asked(
    input: &PolicyInput<'_>,
    layer: Layer,
    settings: &MeshSettings<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Arc<str>>, Arc<str>> {
    let name = input
        .policy
        .spec
        .provider
        .as_ref()
        .map_or("", |provider| &provider.name);
    let found = settings
        .authorizers
        .find(name)
        .and_then(|asked| match cfg!(feature = "extauthz") {
            true => Ok(asked),
            false => Err("this build asks no external authorizers: feature `extauthz` is off".to_owned()),
        });
    match found {
        Ok(Asked::Http) if layer == Layer::Tcp => Ok(None),
        Ok(_) => Ok(Some(name.into())),
        Err(why) => {
            let text = format!("`{name}` cannot be asked: {why}; whatever matches a rule is denied");
            let remedy = "name one of the extensionProviders in the mesh configuration";
            problems.push(
                input
                    .entry
                    .problem(Severity::Error, "spec.provider.name", &text, remedy),
            );
            Err(text.into())
        }
    }
}

/// One target has one authorizer (as Istio by default): with two, whatever matches a rule of either is denied.
fn same(
    first: Result<Arc<str>, Arc<str>>,
    next: Result<Arc<str>, Arc<str>>,
    input: &PolicyInput<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Arc<str>, Arc<str>> {
    match (first, next) {
        (Ok(first), Ok(next)) if first != next => {
            let text = format!(
                "one target has one external authorizer, and these are `{first}` and `{next}`: whatever matches a rule of either is denied"
            );
            problems.push(input.entry.problem(
                Severity::Error,
                "spec.provider.name",
                &text,
                "let both ask the same",
            ));
            Err(text.into())
        }
        (Err(why), _) | (_, Err(why)) => Err(why),
        (Ok(first), _) => Ok(first),
    }
}

/// What a policy is to the engine: action, whether it is a dry run, rules with their indices.
type Converted = (Action, bool, Vec<(u32, AuthzRule)>);

/// A policy as the engine takes it; `None` if it has no effect on this layer.
fn convert(
    input: &PolicyInput<'_>,
    layer: Layer,
    settings: &MeshSettings<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Converted>, String> {
    let PolicyInput { policy, entry } = *input;
    let invalid = |text: &str| format!("{} at {} is invalid: {text}", entry.reference(), entry.place);
    let dry_run = dry_run(policy, entry, problems);
    match super::broken(entry) {
        // What is only watched cannot close anything.
        Some(_) if dry_run => return Ok(None),
        Some(why) => return Err(invalid(why)),
        None => {}
    }
    let found = validate(policy, entry);
    let error = found.iter().find(|problem| problem.severity == Severity::Error);
    let error = error.map(|problem| invalid(&format!("{}: {}", problem.field, problem.text)));
    problems.extend(found);
    let action = match (error, action(policy)) {
        (Some(_), _) if dry_run => return Ok(None),
        (Some(error), _) => return Err(error),
        (None, None) => return Err(invalid("spec.action: unknown action")),
        (None, Some(action)) => action,
    };
    problems.extend(shortfalls(policy, entry, action, layer));
    if layer == Layer::L4 && (dry_run || matches!(action, Action::Custom | Action::Audit)) {
        return Ok(None);
    }
    let converter = Converter {
        layer,
        action,
        namespace: &policy.metadata.namespace,
        settings,
    };
    let mut rules = Vec::new();
    for (index, rule) in (0u32..).zip(&policy.spec.rules) {
        let rule = converter
            .rule(rule)
            .map_err(|error| invalid(&format!("spec.rules[{index}]: {error}")))?;
        rules.extend(rule.map(|rule| (index, rule)));
    }
    Ok(Some((action, dry_run, rules)))
}

pub(super) fn action(policy: &AuthorizationPolicy) -> Option<Action> {
    match policy.spec.action.as_deref() {
        None | Some("" | "ALLOW") => Some(Action::Allow),
        Some("DENY") => Some(Action::Deny),
        Some("AUDIT") => Some(Action::Audit),
        Some("CUSTOM") => Some(Action::Custom),
        Some(_) => None,
    }
}

const DRY_RUN: &str = "istio.io/dry-run";

/// Whether a policy is only to be watched; read as Go's `ParseBool` does, and enforced where that fails.
pub(super) fn dry_run(policy: &AuthorizationPolicy, entry: &Entry, problems: &mut Vec<Problem>) -> bool {
    match policy.metadata.annotations.get(DRY_RUN).map(String::as_str) {
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => true,
        None | Some("0" | "f" | "F" | "FALSE" | "false" | "False") => false,
        Some(other) => {
            let text = format!("`{other}` is no boolean, so the policy is enforced");
            let field = "metadata.annotations[istio.io/dry-run]";
            problems.push(entry.problem(Severity::Warning, field, &text, "write \"true\" or \"false\""));
            false
        }
    }
}

/// What the policy asks for and does not get here.
fn shortfalls(policy: &AuthorizationPolicy, entry: &Entry, action: Action, layer: Layer) -> Vec<Problem> {
    let mut problems = Vec::new();
    if action == Action::Custom && layer == Layer::L4 {
        let text = "CUSTOM is not enforced on connections, as in ztunnel";
        problems.push(entry.problem(Severity::Ignored, "spec.action", text, "use ALLOW or DENY"));
    }
    for (index, rule) in policy.spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        let domains = rule.from.iter().filter_map(|from| from.source.as_ref());
        let mut domains =
            domains.filter(|one| !one.trust_domains.is_empty() || !one.not_trust_domains.is_empty());
        if layer == Layer::L4 && domains.next().is_some() {
            let text = "trustDomains are not enforced on connections, as in ztunnel";
            problems.push(entry.problem(Severity::Ignored, &field, text, "name principals instead"));
        }
    }
    problems
}

/// The rules of a policy that ask for what only a verified token can say.
pub(in crate::compile) fn rules_about_tokens(policy: &AuthorizationPolicy) -> impl Iterator<Item = usize> {
    let rules = policy.spec.rules.iter().enumerate();
    rules
        .filter(|(_, rule)| needs_token(rule))
        .map(|(index, _)| index)
}

fn needs_token(rule: &AuthorizationRule) -> bool {
    let of_source = rule
        .from
        .iter()
        .filter_map(|from| from.source.as_ref())
        .any(|source| !source.request_principals.is_empty() || !source.not_request_principals.is_empty());
    let of_key = |key: &str| {
        matches!(
            WhenKey::parse(key),
            Ok(WhenKey::RequestPrincipal | WhenKey::Claim(_))
        )
    };
    of_source || rule.when.iter().any(|when| of_key(&when.key))
}
