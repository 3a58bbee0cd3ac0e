//! Which rules were reached, and which were not.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::config::{Entry, Place, Resource, ResourceStore};
use crate::name::ResourceRef;
use crate::policy::authz::{Action, RuleRef, RuleTold};

/// The rules that requests have reached so far.
#[derive(Debug, Default)]
pub(super) struct Reached(Mutex<BTreeSet<(ResourceRef, u32)>>);

/// How much of the policies the requests have reached: the rules of AuthorizationPolicies and RequestAuthentications.
///
/// A rule is reached by a request that it matches, unless the request was denied before the rule's action is asked: what
/// a DENY rule denies tests no ALLOW rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    rules: Vec<Covered>,
}

/// A rule, and whether it was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Covered {
    /// The policy.
    pub policy: ResourceRef,
    /// The index of the rule.
    pub rule: u32,
    /// Where it is written.
    pub place: Place,
    /// Whether a request reached it.
    pub reached: bool,
}

impl Reached {
    pub(super) fn note(&self, by: &RuleRef) {
        let mut reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reached.insert((by.policy.clone(), by.rule));
    }

    /// Notes the rules that a request reached which was allowed, or was not.
    pub(super) fn note_all(&self, told: &[RuleTold<'_>], allowed: bool) {
        let asked = |rule: &&RuleTold<'_>| {
            rule.applies() && (allowed || rule.dry_run || !matches!(rule.action, Action::Allow))
        };
        told.iter().filter(asked).for_each(|rule| self.note(rule.by));
    }

    /// What was reached of a store's rules.
    pub(super) fn of(&self, store: &ResourceStore) -> Coverage {
        let mut coverage = Coverage::default();
        for entry in store.iter() {
            coverage
                .rules
                .extend(self.of_entry(entry, |field| entry.place_of(field)));
        }
        coverage.sorted()
    }

    /// What was reached of the rules of one policy, which stand where `place` says.
    pub(super) fn of_entry(&self, entry: &Entry, place: impl Fn(&str) -> Place) -> Vec<Covered> {
        let reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = entry.reference();
        let covered = |rule: u32| Covered {
            reached: reached.contains(&(policy.clone(), rule)),
            place: place(&field(entry, rule)),
            policy: policy.clone(),
            rule,
        };
        (0..rules(entry)).map(covered).collect()
    }
}

fn rules(entry: &Entry) -> u32 {
    let count = match &entry.resource {
        Resource::AuthorizationPolicy(policy) => policy.spec.rules.len(),
        Resource::RequestAuthentication(policy) => policy.spec.jwt_rules.len(),
        _ => 0,
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn field(entry: &Entry, rule: u32) -> String {
    match &entry.resource {
        Resource::RequestAuthentication(_) => format!("spec.jwtRules[{rule}]"),
        _ => format!("spec.rules[{rule}]"),
    }
}

impl Coverage {
    /// Every rule, in the order in which they are written.
    pub fn rules(&self) -> &[Covered] {
        &self.rules
    }

    /// With further rules.
    pub(super) fn with(mut self, more: impl IntoIterator<Item = Covered>) -> Self {
        self.rules.extend(more);
        self.sorted()
    }

    fn sorted(mut self) -> Self {
        self.rules
            .sort_by(|a, b| (&a.place, a.rule).cmp(&(&b.place, b.rule)));
        self
    }

    /// How many rules were reached.
    pub fn reached(&self) -> usize {
        self.rules.iter().filter(|rule| rule.reached).count()
    }

    /// The rules that were not reached.
    pub fn unreached(&self) -> impl Iterator<Item = &Covered> {
        self.rules.iter().filter(|rule| !rule.reached)
    }

    /// Fails where a rule was not reached, and says which.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    pub fn assert_complete(&self) {
        assert!(self.unreached().next().is_none(), "{self}");
    }
}

/// `mesh/readers.yaml:12:5: AuthorizationPolicy default/readers rule 1`.
impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} rule {}", self.place, self.policy, self.rule)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rules reached", self.reached(), self.rules.len())?;
        for (index, rule) in self.unreached().enumerate() {
            let before = if index == 0 { "; no request reached" } else { "" };
            write!(f, "{before}\n  {rule}")?;
        }
        Ok(())
    }
}
