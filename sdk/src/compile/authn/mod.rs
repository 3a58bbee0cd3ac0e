//! RequestAuthentication, made into rules about tokens.
//!
//! All rules of all policies that attach to a target are one list, sorted by issuer (Istio's `policy_applier`). A policy
//! that is broken or invalid, or that this build cannot enforce, makes its targets deny: no token could be told from a
//! forged one, and rules that take access away from some callers would no longer find them.

mod cells;
#[cfg(feature = "jwt")]
mod rules;
mod validate;

pub(in crate::compile) use cells::KeyCells;
#[cfg(feature = "jwt")]
pub(in crate::compile) use rules::rules;
pub use validate::validate;

/// The rules of a target.
///
/// # Errors
/// If there are any: nothing can be verified without feature `jwt`.
#[cfg(not(feature = "jwt"))]
pub(in crate::compile) fn rules<'a>(
    policies: impl Iterator<Item = super::authz::PolicyInput<'a, crate::config::istio::RequestAuthentication>>,
    _: &mut KeyCells,
    problems: &mut Vec<crate::config::Problem>,
) -> Result<Option<crate::snapshot::TokenGuard>, String> {
    let mut denied = None;
    for policy in policies {
        let text = "this build cannot verify tokens, so everything that the policy applies to is denied";
        problems.push(policy.entry.problem(
            crate::config::Severity::Error,
            "",
            text,
            "build with feature `jwt`",
        ));
        denied.get_or_insert_with(|| {
            format!(
                "{} cannot be enforced: built without feature `jwt`",
                policy.entry.reference()
            )
        });
    }
    denied.map_or(Ok(None), Err)
}

/// The rules of a target whose policies stand alone, without a snapshot that keeps their keys.
///
/// # Errors
/// Why the target must deny.
#[cfg(feature = "testing")]
pub(crate) fn token_guard<'a>(
    policies: impl Iterator<Item = super::authz::PolicyInput<'a, crate::config::istio::RequestAuthentication>>,
    problems: &mut Vec<crate::config::Problem>,
) -> Result<Option<crate::snapshot::TokenGuard>, String> {
    rules(policies, &mut KeyCells::default(), problems)
}
