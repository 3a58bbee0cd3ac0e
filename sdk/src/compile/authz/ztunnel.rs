//! What a ztunnel in front of a workload would make of an AuthorizationPolicy, as its status says it.
//!
//! Workloads that link inmesh enforce all of it themselves; a ztunnel knows connections only.

use super::engine::{action, dry_run};
use super::values::WhenKey;
use crate::config::Entry;
use crate::config::istio::{AuthorizationPolicy, AuthorizationRule};
use crate::policy::authz::Action;

/// Whether a ztunnel accepts the policy, the reason, and a sentence (ambient, "L4 conversion").
pub(crate) fn ztunnel(policy: &AuthorizationPolicy, entry: &Entry) -> (bool, &'static str, String) {
    const UNSUPPORTED: &str = "UnsupportedValue";
    let action = action(policy);
    if let Some(action @ (Action::Audit | Action::Custom)) = action {
        let text = format!("ztunnel does not support the {action:?} action; workloads that run inmesh do");
        return (false, UNSUPPORTED, text);
    }
    // What is wrong with the annotation is told where the policy is compiled.
    if dry_run(policy, entry, &mut Vec::new()) {
        let text = "ztunnel does not support dry runs; workloads that run inmesh do";
        return (false, UNSUPPORTED, text.to_owned());
    }
    let rules = policy.spec.rules.iter().enumerate();
    let http: Vec<String> = rules
        .filter_map(|(index, rule)| Some(format!("rules[{index}] ({})", http_attribute(rule)?)))
        .collect();
    if http.is_empty() {
        return (true, "Accepted", "attached to ztunnel".to_owned());
    }
    let what = match action {
        Some(Action::Deny) => "denies all connections that the rest of the rule matches",
        _ => "leaves the rule out",
    };
    let text = format!(
        "ztunnel does not know HTTP attributes and {what}: {}; workloads that run inmesh enforce them",
        http.join(", ")
    );
    (true, UNSUPPORTED, text)
}

/// The first attribute of a rule that a ztunnel does not know.
fn http_attribute(rule: &AuthorizationRule) -> Option<&str> {
    let named = |lists: &[(&'static str, &Vec<String>)]| {
        let mut given = lists.iter().filter(|(_, values)| !values.is_empty());
        given.next().map(|(name, _)| *name)
    };
    let sources = rule.from.iter().filter_map(|it| it.source.as_ref());
    let mut of_sources = sources.filter_map(|it| {
        named(&[
            ("requestPrincipals", &it.request_principals),
            ("notRequestPrincipals", &it.not_request_principals),
            ("remoteIpBlocks", &it.remote_ip_blocks),
            ("notRemoteIpBlocks", &it.not_remote_ip_blocks),
        ])
    });
    let operations = rule.to.iter().filter_map(|it| it.operation.as_ref());
    let mut of_operations = operations.filter_map(|it| {
        named(&[
            ("hosts", &it.hosts),
            ("notHosts", &it.not_hosts),
            ("methods", &it.methods),
            ("notMethods", &it.not_methods),
            ("paths", &it.paths),
            ("notPaths", &it.not_paths),
        ])
    });
    let known = |key: &str| {
        matches!(
            WhenKey::parse(key),
            Ok(WhenKey::SourceIp
                | WhenKey::SourceNamespace
                | WhenKey::SourcePrincipal
                | WhenKey::DestinationIp
                | WhenKey::DestinationPort)
        )
    };
    let mut of_conditions = rule
        .when
        .iter()
        .map(|it| it.key.as_str())
        .filter(|key| !known(key));
    of_sources
        .next()
        .or_else(|| of_operations.next())
        .or_else(|| of_conditions.next())
}
