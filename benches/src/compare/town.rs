//! What is configured in a town: how many routes, how many policies.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// How much is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Town {
    /// What there must be: no route, and a policy where there is a waypoint.
    Plain,
    /// So many routes of one service. Requests take the last one, which is for every path.
    Routes(usize),
    /// So many authorization policies. The last one lets requests pass.
    Policies(usize),
    /// Plain, and nothing is told of requests.
    Untold,
    /// Plain, and requests are logged besides what metrics tell.
    Logged,
}

impl Town {
    /// How many routes.
    pub(super) fn routes(self) -> usize {
        match self {
            Self::Routes(count) => count,
            _ => 1,
        }
    }

    /// How many policies.
    pub(super) fn policies(self) -> usize {
        match self {
            Self::Policies(count) => count,
            _ => 1,
        }
    }

    /// How it is called behind the name of a ratio: nothing for the town that others are compared with.
    pub(super) fn suffix(self) -> String {
        match self {
            Self::Plain | Self::Routes(1) | Self::Policies(1) => String::new(),
            Self::Routes(count) => format!("_routes{count}"),
            Self::Policies(count) => format!("_policies{count}"),
            Self::Untold => "_untold".to_owned(),
            Self::Logged => "_logged".to_owned(),
        }
    }

    /// How many there are of what there are many of.
    pub(super) fn rules(self) -> usize {
        self.routes().max(self.policies())
    }

    /// Who may send GET, the one who does so last.
    pub(super) fn principals(self) -> impl Iterator<Item = String> {
        let others = (1..self.policies()).map(|n| format!("cluster.local/ns/default/sa/other{n}"));
        others.chain(["cluster.local/ns/default/sa/client".to_owned()])
    }

    /// The routes, as YAML. Every HTTPRoute has as many rules as it may have.
    pub(super) fn routes_yaml(self) -> String {
        const RULES: usize = 16;
        let Self::Routes(count) = self else {
            return String::new();
        };
        let idle: Vec<_> = (1..count)
            .map(|n| format!("matches: [{{path: {{value: /service/v1/item{n}}}}}], "))
            .collect();
        let rules: Vec<_> = idle.iter().map(String::as_str).chain([""]).collect();
        let mut yaml = String::new();
        for (n, rules) in rules.chunks(RULES).enumerate() {
            yaml += &route(&format!("route-{n}"));
            for matches in rules {
                // Writing to a String does not fail.
                let _ = writeln!(yaml, "  - {{{matches}backendRefs: [{{name: server, port: 80}}]}}");
            }
        }
        yaml
    }

    /// The policies, as YAML. A waypoint judges what is said of the service, the server itself what is said of its pods.
    pub(super) fn policies_yaml(self, with_waypoint: bool) -> String {
        if self.is_unguarded(with_waypoint) {
            return String::new();
        }
        let applies = if with_waypoint {
            "targetRefs: [{kind: Service, group: '', name: server}]"
        } else {
            "selector: {matchLabels: {app: server}}"
        };
        let policy = |(n, principal): (usize, String)| {
            format!(
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: get-{n:05}, namespace: default}}\n\
                 spec:\n  {applies}\n  action: ALLOW\n  rules:\n  - from: [{{source: {{principals: [{principal}]}}}}]\n    to: \
                 [{{operation: {{methods: [GET]}}}}]\n"
            )
        };
        self.principals().enumerate().map(policy).collect()
    }

    /// What is told of requests where it is not the default, as YAML.
    pub(super) fn telemetry_yaml(self) -> &'static str {
        match self {
            Self::Untold => {
                "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: none, namespace: istio-system}\n\
                 spec: {metrics: [{overrides: [{disabled: true}]}]}\n"
            }
            Self::Logged => {
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                 data: {mesh: 'accessLogFile: /dev/null'}\n"
            }
            _ => "",
        }
    }

    /// Without a waypoint the plain town has no policies, since what it is compared with has none.
    fn is_unguarded(self, with_waypoint: bool) -> bool {
        !with_waypoint && !matches!(self, Self::Policies(_))
    }
}

/// A route, with what makes one version of it differ from the next.
pub(super) fn changing(version: usize) -> String {
    let mut yaml = route("changing");
    let _ = writeln!(
        yaml,
        "  - {{matches: [{{path: {{value: /changing/v{version}}}}}], backendRefs: [{{name: server, port: 80}}]}}\n  \
         - {{backendRefs: [{{name: server, port: 80}}]}}"
    );
    yaml
}

/// An HTTPRoute of the service, up to its rules.
fn route(name: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: '', name: server, port: 80}}]\n  rules:\n"
    )
}
