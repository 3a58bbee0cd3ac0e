//! What is configured in a town: how many routes, how many policies, and what is told of requests.

use std::fmt::Write;
use std::net::SocketAddr;

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
    /// Plain, and so much is told of requests.
    Told(Told),
}

/// What is told of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Told {
    /// Istio's metrics and OpenTelemetry's.
    metrics: bool,
    /// A line of the access log.
    log: bool,
    /// A span of one request in a hundred.
    spans: bool,
    /// The live view.
    pub(super) view: View,
}

/// The live view. A waypoint has one in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum View {
    /// The ends have none.
    Absent,
    /// Nobody looks.
    Idle,
    /// Somebody has the requests told as they end: of the backend, or of the waypoint.
    Watched,
}

impl Told {
    /// What is told by default.
    const DEFAULT: Self = Self {
        metrics: true,
        log: false,
        spans: false,
        view: View::Absent,
    };
    const ALL: Self = Self {
        log: true,
        spans: true,
        ..Self::DEFAULT
    };
    const NAMED: [(&'static str, Self); 7] = [
        (
            "_untold",
            Self {
                metrics: false,
                ..Self::DEFAULT
            },
        ),
        ("_all", Self::ALL),
        (
            "_all_but_metrics",
            Self {
                metrics: false,
                ..Self::ALL
            },
        ),
        (
            "_all_but_log",
            Self {
                log: false,
                ..Self::ALL
            },
        ),
        (
            "_all_but_spans",
            Self {
                spans: false,
                ..Self::ALL
            },
        ),
        (
            "_viewed",
            Self {
                view: View::Idle,
                ..Self::DEFAULT
            },
        ),
        (
            "_watched",
            Self {
                view: View::Watched,
                ..Self::DEFAULT
            },
        ),
    ];
}

impl Town {
    /// The plain town, and those that tell of requests otherwise.
    pub(super) fn telling() -> Vec<Self> {
        let told = Told::NAMED.map(|(_, told)| Self::Told(told));
        [Self::Plain].into_iter().chain(told).collect()
    }

    /// What is told of requests.
    pub(super) fn told(self) -> Told {
        match self {
            Self::Told(told) => told,
            _ => Told::DEFAULT,
        }
    }

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
            Self::Told(told) => {
                let named = Told::NAMED.into_iter().find(|(_, it)| *it == told);
                named.map_or("_told", |(name, _)| name).to_owned()
            }
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

    /// What is told of requests where it is not the default, as YAML; spans go to `collector`.
    pub(super) fn telemetry_yaml(self, collector: SocketAddr) -> String {
        let Told {
            metrics, log, spans, ..
        } = self.told();
        let mut yaml = String::new();
        if !metrics {
            yaml += "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: none, namespace: istio-system}\n\
                     spec: {metrics: [{overrides: [{disabled: true}]}]}\n---\n";
        }
        let mut mesh = Vec::new();
        if log {
            mesh.push("accessLogFile: /dev/null");
        }
        if spans {
            // The default is a share of one in a hundred.
            mesh.push(
                "extensionProviders: [{name: otel, opentelemetry: {service: otel.example, port: 4317}}]",
            );
            mesh.push("defaultProviders: {tracing: [otel]}");
            let (ip, port) = (collector.ip(), collector.port());
            yaml += &format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: otel, namespace: istio-system}}\n\
                 spec:\n  hosts: [otel.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 4317, \
                 name: grpc, protocol: GRPC, targetPort: {port}}}]\n  endpoints: [{{address: {ip}}}]\n---\n"
            );
        }
        if !mesh.is_empty() {
            let lines: String = mesh.iter().map(|line| format!("    {line}\n")).collect();
            yaml += &format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n{lines}"
            );
        }
        yaml
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
