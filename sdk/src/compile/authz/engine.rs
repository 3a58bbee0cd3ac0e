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
}

impl<'a> From<&'a Node> for MeshSettings<'a> {
    fn from(node: &'a Node) -> Self {
        Self {
            root_namespace: &node.root_namespace,
            trust_domains: &node.trust_domains,
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
    for input in policies {
        match convert(input, layer, settings, &mut problems) {
            Ok(None) => {}
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
        None => (builder.build(), problems),
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
fn dry_run(policy: &AuthorizationPolicy, entry: &Entry, problems: &mut Vec<Problem>) -> bool {
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
    if action == Action::Custom {
        let text = match layer {
            Layer::L4 => "CUSTOM is not enforced on connections, as in ztunnel",
            _ => "there is no external authorizer yet: whatever matches a rule is denied",
        };
        let severity = if layer == Layer::L4 {
            Severity::Ignored
        } else {
            Severity::Error
        };
        problems.push(entry.problem(severity, "spec.action", text, "use ALLOW or DENY"));
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
