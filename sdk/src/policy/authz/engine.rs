//! The engine: all rules that apply to one target, and the order in which they are asked.

use std::sync::Arc;

use super::facts::{Facts, Truth};
use super::index::Table;
use super::rule::{Action, AuthzRule, Layer};
use crate::name::ResourceRef;
use crate::policy::{ConnectionHead, RequestHead};

/// Which rule of which policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// The policy.
    pub policy: ResourceRef,
    /// The rule's index in `spec.rules`.
    pub rule: u32,
}

/// The answer of an [`AuthzEngine`], naming what gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'s> {
    /// Allowed: by that rule, or because no ALLOW policy applies.
    Allow {
        /// The ALLOW rule that matched.
        by: Option<&'s RuleRef>,
    },
    /// Denied.
    Deny {
        /// The rule that matched: DENY, or CUSTOM where nobody can be asked.
        by: Option<&'s RuleRef>,
        /// Why.
        why: &'s str,
    },
}

const DENIED: &str = "a DENY rule matched";
const UNCLEAR: &str = "a DENY rule could not be judged: a header that it compares is not text";
const UNASKED: &str = "a CUSTOM rule matched and its external authorizer was not asked";
const NOT_ALLOWED: &str = "no ALLOW rule matched";
const WRONG_LAYER: &str = "rules for requests cannot judge a connection";

impl Decision<'_> {
    /// Whether the answer is yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    /// Envoy's `response_code_details` for the answer; `None` if it is yes.
    pub fn details(&self) -> Option<String> {
        match self {
            Self::Allow { .. } => None,
            Self::Deny { by: None, .. } => Some("rbac_access_denied_matched_policy[none]".into()),
            Self::Deny { by: Some(by), .. } => Some(format!(
                "rbac_access_denied_matched_policy[ns[{}]-policy[{}]-rule[{}]]",
                by.policy.namespace, by.policy.name, by.rule
            )),
        }
    }
}

/// Every policy that applies to one target, on one layer. Asked by `&self`; the usual question allocates nothing.
#[derive(Debug)]
pub struct AuthzEngine {
    layer: Layer,
    broken: Option<Arc<str>>,
    custom: Table,
    authorizer: Result<Arc<str>, Arc<str>>,
    enforced: Pair,
    dry: Pair,
    audit: Table,
}

/// DENY and ALLOW of one set of policies.
#[derive(Debug, Default)]
struct Pair {
    deny: Table,
    allow: Table,
    /// Whether an ALLOW policy exists, even one without rules.
    closed: bool,
}

/// Collects policies for an [`AuthzEngine`].
///
/// ```
/// use inmesh::matcher::TextSet;
/// use inmesh::name::{Kind, ResourceRef};
/// use inmesh::policy::authz::{Action, AuthzRule, Clause, Condition, EngineBuilder, Layer, Part, Test};
///
/// let get = Condition { test: Test::Method(TextSet::parse(["GET"])), negated: false };
/// let rule = AuthzRule { clauses: vec![Clause { part: Part::To, any: vec![vec![get]] }] };
/// let engine = EngineBuilder::new(Layer::Http)
///     .policy(ResourceRef::new(Kind::AuthorizationPolicy, "default", "get"), Action::Allow, false, [(0, rule)])
///     .build();
/// # let _ = engine;
/// ```
#[derive(Clone, Debug)]
pub struct EngineBuilder {
    layer: Layer,
    policies: Vec<Added>,
    authorizer: Result<Arc<str>, Arc<str>>,
}

#[derive(Clone, Debug)]
struct Added {
    policy: ResourceRef,
    action: Action,
    dry_run: bool,
    rules: Vec<(u32, AuthzRule)>,
}

impl EngineBuilder {
    /// No policies yet.
    pub fn new(layer: Layer) -> Self {
        Self {
            layer,
            policies: Vec::new(),
            authorizer: Err("a CUSTOM rule matched and there is no external authorizer to ask".into()),
        }
    }

    /// Whom CUSTOM asks, or why nobody can be asked: then what matches a CUSTOM rule is denied.
    pub fn authorizer(mut self, authorizer: Result<Arc<str>, Arc<str>>) -> Self {
        self.authorizer = authorizer;
        self
    }

    /// Adds a policy with its rules and their indices in `spec.rules`. A policy without rules never matches; if it is
    /// an ALLOW policy, it closes nevertheless.
    pub fn policy(
        mut self,
        policy: ResourceRef,
        action: Action,
        dry_run: bool,
        rules: impl IntoIterator<Item = (u32, AuthzRule)>,
    ) -> Self {
        let rules = rules.into_iter().collect();
        self.policies.push(Added {
            policy,
            action,
            dry_run,
            rules,
        });
        self
    }

    /// Files the rules.
    pub fn build(self) -> AuthzEngine {
        let (mut custom, mut audit) = (Vec::new(), Vec::new());
        let (mut deny, mut allow) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let mut closed = [false; 2];
        for Added {
            policy,
            action,
            dry_run,
            rules,
        } in self.policies
        {
            let side = usize::from(dry_run);
            let table = match action {
                // As upstream, a dry run does not hold back CUSTOM.
                Action::Custom => &mut custom,
                Action::Deny => &mut deny[side],
                Action::Allow => {
                    closed[side] = true;
                    &mut allow[side]
                }
                Action::Audit if dry_run => continue,
                Action::Audit => &mut audit,
            };
            let named = |(rule, body)| {
                (
                    RuleRef {
                        policy: policy.clone(),
                        rule,
                    },
                    body,
                )
            };
            table.extend(rules.into_iter().map(named));
        }
        let [denied, dry_denied] = deny.map(|rules| Table::new(rules, true));
        let [allowed, dry_allowed] = allow.map(|rules| Table::new(rules, false));
        AuthzEngine {
            layer: self.layer,
            broken: None,
            custom: Table::new(custom, true),
            authorizer: self.authorizer,
            enforced: Pair {
                deny: denied,
                allow: allowed,
                closed: closed[0],
            },
            dry: Pair {
                deny: dry_denied,
                allow: dry_allowed,
                closed: closed[1],
            },
            audit: Table::new(audit, false),
        }
    }
}

impl AuthzEngine {
    /// An engine without policies: everything is allowed.
    pub fn allow_all() -> Self {
        EngineBuilder::new(Layer::Http).build()
    }

    /// An engine that denies everything, saying why: for configuration that cannot be trusted.
    pub fn deny_all(why: impl Into<Arc<str>>) -> Self {
        Self {
            broken: Some(why.into()),
            ..Self::allow_all()
        }
    }

    /// Judges a request that no external authorizer has been asked about: CUSTOM, then DENY, then ALLOW.
    pub fn decide(&self, head: &RequestHead<'_>) -> Decision<'_> {
        match &self.broken {
            Some(why) => Decision::Deny { by: None, why },
            None => self.judge(&self.facts(head)),
        }
    }

    /// Judges a request that the external authorizer has allowed, where [`AuthzEngine::consult`] asked for it: DENY,
    /// then ALLOW. Where there is nobody who could have been asked, CUSTOM denies what it matches here too.
    pub fn decide_consulted(&self, head: &RequestHead<'_>) -> Decision<'_> {
        match &self.broken {
            Some(why) => Decision::Deny { by: None, why },
            None => self.judge_consulted(&self.facts(head)),
        }
    }

    /// The external authorizer that must be asked about a request, and the first rule that says so.
    pub fn consult(&self, head: &RequestHead<'_>) -> Option<(&RuleRef, &Arc<str>)> {
        let authorizer = self.authorizer.as_ref().ok()?;
        if self.custom.is_empty() || self.broken.is_some() {
            return None;
        }
        let (by, _) = self.custom.find(&self.facts(head))?;
        Some((by, authorizer))
    }

    /// As [`AuthzEngine::consult`], of a connection.
    pub fn consult_connection(&self, head: &ConnectionHead<'_>) -> Option<(&RuleRef, &Arc<str>)> {
        let authorizer = self.authorizer.as_ref().ok()?;
        let (by, _) = self.custom.find(&Facts::of_connection(head))?;
        Some((by, authorizer))
    }

    /// Whom CUSTOM rules ask, if there are any and they ask somebody.
    pub fn authorizer(&self) -> Option<&Arc<str>> {
        self.authorizer.as_ref().ok().filter(|_| !self.custom.is_empty())
    }

    /// Judges a connection that no external authorizer has been asked about.
    pub fn decide_connection(&self, head: &ConnectionHead<'_>) -> Decision<'_> {
        self.connection(head, false)
    }

    /// Judges a connection that the external authorizer has allowed.
    pub fn decide_consulted_connection(&self, head: &ConnectionHead<'_>) -> Decision<'_> {
        self.connection(head, true)
    }

    fn connection(&self, head: &ConnectionHead<'_>, consulted: bool) -> Decision<'_> {
        if let Some(why) = &self.broken {
            return Decision::Deny { by: None, why };
        }
        if self.layer == Layer::Http && self.restricts() {
            return Decision::Deny {
                by: None,
                why: WRONG_LAYER,
            };
        }
        let facts = Facts::of_connection(head);
        match consulted {
            true => self.judge_consulted(&facts),
            false => self.judge(&facts),
        }
    }

    /// The first AUDIT rule that matches a request; it decides nothing.
    pub fn audit(&self, head: &RequestHead<'_>) -> Option<&RuleRef> {
        if self.audit.is_empty() {
            return None;
        }
        self.audit.find(&self.facts(head)).map(|(by, _)| by)
    }

    /// What the policies in dry run would say of a request; `None` if there are none.
    pub fn shadow(&self, head: &RequestHead<'_>) -> Option<Decision<'_>> {
        if self.dry.is_open() {
            return None;
        }
        Some(self.dry.judge(&self.facts(head)))
    }

    /// Whether policies that decide nothing may have something to say.
    pub fn remarks(&self) -> bool {
        !self.audit.is_empty() || !self.dry.is_open()
    }

    /// Whether anything could be denied at all.
    pub fn restricts(&self) -> bool {
        self.broken.is_some() || !self.custom.is_empty() || !self.enforced.is_open()
    }

    /// Every rule with its action and whether it is only watched, in the order in which actions are asked.
    pub(super) fn all_rules(&self) -> impl Iterator<Item = (Action, bool, &RuleRef, &AuthzRule)> {
        let tables = [
            (Action::Custom, false, &self.custom),
            (Action::Audit, false, &self.audit),
            (Action::Deny, false, &self.enforced.deny),
            (Action::Allow, false, &self.enforced.allow),
            (Action::Deny, true, &self.dry.deny),
            (Action::Allow, true, &self.dry.allow),
        ];
        tables.into_iter().flat_map(|(action, dry_run, table)| {
            table.rules().map(move |(by, rule)| (action, dry_run, by, rule))
        })
    }

    fn facts<'a>(&self, head: &'a RequestHead<'a>) -> Facts<'a> {
        let tables = [
            &self.custom,
            &self.audit,
            &self.enforced.deny,
            &self.enforced.allow,
            &self.dry.deny,
            &self.dry.allow,
        ];
        Facts::of_request(head, tables.iter().any(|table| table.wants_host()))
    }

    fn judge_consulted(&self, facts: &Facts<'_>) -> Decision<'_> {
        match self.authorizer {
            // `consult` names nobody, so nobody has allowed anything.
            Err(_) if !self.custom.is_empty() => self.judge(facts),
            _ => self.enforced.judge(facts),
        }
    }

    fn judge(&self, facts: &Facts<'_>) -> Decision<'_> {
        match self.custom.find(facts) {
            Some((by, _)) => Decision::Deny {
                by: Some(by),
                why: self.authorizer.as_ref().err().map_or(UNASKED, |why| why),
            },
            None => self.enforced.judge(facts),
        }
    }
}

impl Pair {
    fn is_open(&self) -> bool {
        self.deny.is_empty() && !self.closed
    }

    fn judge(&self, facts: &Facts<'_>) -> Decision<'_> {
        if let Some((by, truth)) = self.deny.find(facts) {
            let why = if truth == Truth::Yes { DENIED } else { UNCLEAR };
            return Decision::Deny { by: Some(by), why };
        }
        if !self.closed {
            return Decision::Allow { by: None };
        }
        match self.allow.find(facts) {
            Some((by, _)) => Decision::Allow { by: Some(by) },
            None => Decision::Deny {
                by: None,
                why: NOT_ALLOWED,
            },
        }
    }
}
