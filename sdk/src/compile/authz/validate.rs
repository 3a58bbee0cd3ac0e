//! What Istio's admission would say of an AuthorizationPolicy.

use super::attach::Attaches;
use super::engine::action;
use super::values::{
    Judge, WhenKey, bad_block, bad_path, bad_port, bad_service_account, bad_trust_domain, nothing_bad,
};
use crate::config::istio::{
    AuthorizationPolicy, AuthorizationRule, PolicyTargetReference, RuleCondition, RuleOperation, RuleSource,
};
use crate::config::{Entry, Problem, Severity};
use crate::policy::authz::Action;

/// Everything that is wrong with a policy. An error means that the policy is refused: its targets deny.
pub fn validate(policy: &AuthorizationPolicy, entry: &Entry) -> Vec<Problem> {
    let mut check = Check::new(entry);
    check.action(policy);
    check.targets(policy, policy.spec.target_refs.is_empty());
    let action = action(policy);
    for (index, rule) in policy.spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        check.rule(&field, rule);
        if action == Some(Action::Custom) {
            check.custom(&field, rule);
        }
        if action == Some(Action::Deny) && is_only_http(rule) {
            let text = "a DENY rule with nothing but HTTP attributes denies all TCP connections";
            check.warn(&field, text, "add `ports` to the operation");
        }
        if rule.from.len() > 512 {
            check.warn(
                &field,
                "Kubernetes takes at most 512 entries in `from`",
                "split the rule",
            );
        }
    }
    if policy.spec.rules.len() > 512 {
        check.warn(
            "spec.rules",
            "Kubernetes takes at most 512 rules",
            "split the policy",
        );
    }
    check.problems
}

/// Collects what is wrong.
pub(in crate::compile) struct Check<'e> {
    entry: &'e Entry,
    pub(in crate::compile) problems: Vec<Problem>,
}

impl<'e> Check<'e> {
    pub(in crate::compile) fn new(entry: &'e Entry) -> Self {
        Self {
            entry,
            problems: Vec::new(),
        }
    }

    pub(in crate::compile) fn error(&mut self, field: &str, text: &str, remedy: &str) {
        self.problems
            .push(self.entry.problem(Severity::Error, field, text, remedy));
    }

    pub(in crate::compile) fn warn(&mut self, field: &str, text: &str, remedy: &str) {
        self.problems
            .push(self.entry.problem(Severity::Warning, field, text, remedy));
    }

    fn action(&mut self, policy: &AuthorizationPolicy) {
        let spec = &policy.spec;
        match action(policy) {
            None => {
                let text = format!("unknown action `{}`", spec.action.as_deref().unwrap_or_default());
                self.error("spec.action", &text, "use ALLOW, DENY, AUDIT or CUSTOM");
            }
            Some(Action::Deny) if spec.rules.is_empty() => {
                self.error(
                    "spec.rules",
                    "DENY action without rules never denies",
                    "add a rule; `{}` denies everything",
                );
            }
            Some(Action::Custom) if spec.rules.is_empty() => {
                self.error(
                    "spec.rules",
                    "CUSTOM action without rules never asks",
                    "add a rule; `{}` matches everything",
                );
            }
            Some(_) => {}
        }
        match (action(policy), &spec.provider) {
            (Some(Action::Custom), provider) if provider.as_ref().is_none_or(|one| one.name.is_empty()) => {
                self.error(
                    "spec.provider.name",
                    "provider.name must not be empty with CUSTOM",
                    "name the authorizer",
                );
            }
            (Some(Action::Custom), _) | (_, None) => {}
            (_, Some(_)) => {
                self.error(
                    "spec.provider",
                    "provider must not be set without CUSTOM",
                    "remove it",
                );
            }
        }
    }

    /// What is wrong with the targets; `legacy` says that they are written in the singular.
    pub(in crate::compile) fn targets(&mut self, policy: &impl Attaches, legacy: bool) {
        let refs = policy.target_refs();
        if let Some(selector) = policy.selector() {
            let field = "spec.selector.matchLabels";
            if !refs.is_empty() {
                let text = "only one of selector and targetRefs can be set";
                self.error("spec.selector", text, "remove one of the two");
            }
            if selector.match_labels.is_empty() {
                self.warn(
                    field,
                    "the selector has no labels and selects everything",
                    "remove it or add labels",
                );
            }
            for (key, value) in &selector.match_labels {
                if key.is_empty() {
                    self.error(field, "a label needs a key", "name the label");
                }
                if key.contains('*') || value.contains('*') {
                    self.error(
                        field,
                        "wildcard is not supported in selector",
                        "write whole labels",
                    );
                }
            }
        }
        if refs.len() > 16 {
            self.error(
                "spec.targetRefs",
                "at most 16 targets are allowed",
                "split the policy",
            );
        }
        for (index, one) in refs.iter().enumerate() {
            let field = match legacy {
                true => "spec.targetRef".to_owned(),
                false => format!("spec.targetRefs[{index}]"),
            };
            self.target(&field, one);
        }
    }

    fn target(&mut self, field: &str, one: &PolicyTargetReference) {
        if one.name.is_empty() {
            self.error(
                &format!("{field}.name"),
                "the target's name must be set",
                "name it",
            );
        }
        if one
            .namespace
            .as_deref()
            .is_some_and(|namespace| !namespace.is_empty())
        {
            let text = "the target's namespace must not be set: targets are in the policy's namespace";
            self.error(&format!("{field}.namespace"), text, "remove it");
        }
        let known = matches!(
            (one.kind.as_str(), one.group.as_str()),
            ("Service", "" | "core")
                | ("ServiceEntry", "networking.istio.io")
                | ("Gateway" | "GatewayClass", "gateway.networking.k8s.io")
        );
        if !known {
            let text = format!("`{}/{}` cannot be targeted", one.group, one.kind);
            self.error(
                field,
                &text,
                "targetRef must be to one of Service, ServiceEntry, Gateway, GatewayClass",
            );
        }
    }

    fn rule(&mut self, field: &str, rule: &AuthorizationRule) {
        for (index, from) in rule.from.iter().enumerate() {
            let field = format!("{field}.from[{index}].source");
            match from
                .source
                .as_ref()
                .filter(|source| **source != RuleSource::default())
            {
                Some(source) => self.source(&field, source),
                None => self.error(
                    &field,
                    "source must not be empty",
                    "remove the entry; no `from` means anyone",
                ),
            }
        }
        for (index, to) in rule.to.iter().enumerate() {
            let field = format!("{field}.to[{index}].operation");
            match to
                .operation
                .as_ref()
                .filter(|operation| **operation != RuleOperation::default())
            {
                Some(operation) => self.operation(&field, operation),
                None => self.error(
                    &field,
                    "operation must not be empty",
                    "remove the entry; no `to` means anything",
                ),
            }
        }
        for (index, when) in rule.when.iter().enumerate() {
            self.condition(&format!("{field}.when[{index}]"), when);
        }
    }

    fn source(&mut self, field: &str, source: &RuleSource) {
        let at = |name: &str| format!("{field}.{name}");
        for (name, values) in source_lists(source) {
            let problem = match name {
                "ipBlocks" | "notIpBlocks" | "remoteIpBlocks" | "notRemoteIpBlocks" => bad_block,
                "serviceAccounts" | "notServiceAccounts" => bad_service_account,
                "trustDomains" | "notTrustDomains" => bad_trust_domain,
                _ => nothing_bad,
            };
            self.values(&at(name), values, problem);
        }
        for (name, accounts) in [
            ("serviceAccounts", &source.service_accounts),
            ("notServiceAccounts", &source.not_service_accounts),
        ] {
            if accounts.len() > 16 {
                self.error(
                    &at(name),
                    "at most 16 service accounts are allowed",
                    "add another entry to `from`",
                );
            }
        }
        let named = source_lists(source).filter(|(_, values)| !values.is_empty());
        let (accounts, others): (Vec<_>, Vec<_>) = named
            .map(|(name, _)| name)
            .filter(|name| {
                matches!(
                    *name,
                    "serviceAccounts"
                        | "notServiceAccounts"
                        | "principals"
                        | "notPrincipals"
                        | "namespaces"
                        | "notNamespaces"
                )
            })
            .partition(|name| name.ends_with("erviceAccounts"));
        if !accounts.is_empty() && !others.is_empty() {
            let text = "cannot set serviceAccounts with namespaces or principals";
            self.error(field, text, "a service account is both; remove the other field");
        }
    }

    fn operation(&mut self, field: &str, operation: &RuleOperation) {
        for (name, values, problem) in [
            ("hosts", &operation.hosts, nothing_bad as Judge),
            ("notHosts", &operation.not_hosts, nothing_bad),
            ("ports", &operation.ports, bad_port),
            ("notPorts", &operation.not_ports, bad_port),
            ("methods", &operation.methods, nothing_bad),
            ("notMethods", &operation.not_methods, nothing_bad),
            ("paths", &operation.paths, bad_path),
            ("notPaths", &operation.not_paths, bad_path),
        ] {
            self.values(&format!("{field}.{name}"), values, problem);
        }
    }

    fn condition(&mut self, field: &str, when: &RuleCondition) {
        let problem = match WhenKey::parse(&when.key) {
            Err(text) => {
                self.error(
                    &format!("{field}.key"),
                    &text,
                    "use a key of Istio's list, such as `request.headers[name]`",
                );
                nothing_bad
            }
            Ok(WhenKey::SourceIp | WhenKey::RemoteIp | WhenKey::DestinationIp) => bad_block,
            Ok(WhenKey::DestinationPort) => bad_port,
            Ok(WhenKey::SourceServiceAccount) => bad_service_account,
            Ok(WhenKey::SourceTrustDomain) => bad_trust_domain,
            Ok(_) => nothing_bad as Judge,
        };
        if when.values.is_empty() && when.not_values.is_empty() {
            self.error(
                field,
                "at least one of values and notValues must be set",
                "say which values, or remove the condition",
            );
        }
        self.values(&format!("{field}.values"), &when.values, problem);
        self.values(&format!("{field}.notValues"), &when.not_values, problem);
    }

    fn values(&mut self, field: &str, values: &[String], problem: Judge) {
        for (index, value) in values.iter().enumerate() {
            let found = match value.as_str() {
                "" => Some((
                    "empty value not allowed".to_owned(),
                    "remove it; `*` is any that is there",
                )),
                value => problem(value).map(|text| (text, "mend the value, or remove it")),
            };
            if let Some((text, remedy)) = found {
                self.error(&format!("{field}[{index}]"), &text, remedy);
            }
        }
    }

    /// CUSTOM is asked before anybody's identity or token is looked at.
    fn custom(&mut self, field: &str, rule: &AuthorizationRule) {
        let remedy = "let the external authorizer judge it";
        for (index, from) in rule.from.iter().enumerate() {
            let lists = from.source.iter().flat_map(source_lists);
            for (name, _) in lists.filter(|(name, values)| {
                !values.is_empty() && !name.to_ascii_lowercase().ends_with("ipblocks")
            }) {
                let field = format!("{field}.from[{index}].source.{name}");
                self.error(&field, &format!("{name} is not supported with CUSTOM"), remedy);
            }
        }
        for (index, when) in rule.when.iter().enumerate() {
            let identity = matches!(
                WhenKey::parse(&when.key),
                Ok(WhenKey::SourceNamespace
                    | WhenKey::SourceServiceAccount
                    | WhenKey::SourceTrustDomain
                    | WhenKey::SourcePrincipal
                    | WhenKey::RequestPrincipal
                    | WhenKey::Claim(_))
            );
            if identity {
                let text = format!("{} is not supported with CUSTOM", when.key);
                self.error(&format!("{field}.when[{index}].key"), &text, remedy);
            }
        }
    }
}

/// The lists of a source under their names.
fn source_lists(source: &RuleSource) -> impl Iterator<Item = (&'static str, &[String])> {
    [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ]
    .into_iter()
    .map(|(name, values)| (name, values.as_slice()))
}

/// Whether a rule asks for something, and only for things that connections do not have.
fn is_only_http(rule: &AuthorizationRule) -> bool {
    let mut fields = Vec::new();
    for source in rule.from.iter().filter_map(|from| from.source.as_ref()) {
        let lists = source_lists(source).filter(|(_, values)| !values.is_empty());
        fields.extend(lists.map(|(name, _)| name.ends_with("equestPrincipals")));
    }
    for operation in rule.to.iter().filter_map(|to| to.operation.as_ref()) {
        let http = [
            &operation.hosts,
            &operation.not_hosts,
            &operation.methods,
            &operation.not_methods,
            &operation.paths,
            &operation.not_paths,
        ];
        fields.extend(http.iter().filter(|values| !values.is_empty()).map(|_| true));
        let ports = [&operation.ports, &operation.not_ports];
        fields.extend(ports.iter().filter(|values| !values.is_empty()).map(|_| false));
    }
    fields.extend(rule.when.iter().map(|when| when.key.starts_with("request.")));
    !fields.is_empty() && fields.into_iter().all(|http| http)
}
