//! The mesh-wide configuration: where it is, and what it changes.
//!
//! It decides what policies mean, so one that cannot be read is like a policy that cannot be read: what was last written
//! well stays in force, and where nothing was, everything is denied.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::access_log;
use super::authz::{Asked, Authorizers};
use super::metrics::PROMETHEUS;
use super::trace_provider;
use crate::config::istio::MeshConfig;
use crate::config::istio::mesh_config::{ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider, RequestBody};
use crate::config::{Entry, Lines, Problem, ResourceStore, Severity};
use crate::matcher::TextSet;
use crate::name::{Host, TrustDomain};
use crate::policy::normalize::PathNormalization;
use crate::snapshot::{
    Authorizer, BodyCheck, CheckProtocol, HttpCheck, MeshFacts, Node, ProxyHeaders, Snapshot, TraceFacts,
};

/// The ConfigMap and its key (Istio's own installation writes them).
const NAME: &str = "istio";
const KEY: &str = "mesh";

/// Where problems with it are shown.
const FIELD: &str = "data.mesh";

/// What the mesh-wide configuration makes of a process.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// What it says; kept in the snapshot for when it cannot be read.
    pub(crate) facts: Option<Arc<MeshFacts>>,
    /// Who we are, with what it says.
    pub(crate) node: Node,
    /// Why nothing can be judged, if so.
    pub(crate) closed: Option<Arc<str>>,
}

impl Mesh {
    pub(crate) fn read(
        store: &ResourceStore,
        node: &Node,
        previous: Option<&Snapshot>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut mesh = Self {
            facts: None,
            node: node.clone(),
            closed: None,
        };
        let Some((map, entry)) = store.config_map(&node.root_namespace, NAME) else {
            return mesh;
        };
        let Some(text) = map.data.get(KEY) else {
            let text = "there is no key `mesh`: the defaults apply";
            problems.push(entry.problem(
                Severity::Warning,
                "data",
                text,
                "write the mesh configuration under it",
            ));
            return mesh;
        };
        match MeshConfig::read(text) {
            Ok(parsed) => {
                for (field, line) in parsed.unknown {
                    let text = format!("{field} (line {line} of it) is not supported and has no effect");
                    problems.push(entry.problem(
                        Severity::Ignored,
                        FIELD,
                        text,
                        "check its spelling, or remove it",
                    ));
                }
                let mut reader = Reader {
                    entry,
                    node,
                    problems,
                    fatal: None,
                };
                let facts = reader.facts(&parsed.config, text);
                match reader.fatal {
                    None => mesh.facts = Some(Arc::new(facts)),
                    Some(why) => mesh.unreadable(entry, previous, why, problems),
                }
            }
            Err((why, line)) => {
                let why = format!("line {line} of it: {why}");
                mesh.unreadable(entry, previous, why, problems);
            }
        }
        if let Some(facts) = mesh.facts.clone() {
            mesh.apply(&facts, entry, problems);
        }
        mesh
    }

    fn unreadable(
        &mut self,
        entry: &Arc<Entry>,
        previous: Option<&Snapshot>,
        why: String,
        problems: &mut Vec<Problem>,
    ) {
        self.facts = previous.and_then(|previous| previous.mesh.clone());
        let text = match self.facts {
            Some(_) => format!("{why}; what it last said stays in force"),
            None => format!("{why}; nothing it said before is known, so everything is denied"),
        };
        problems.push(entry.problem(Severity::Error, FIELD, text, "mend it"));
        if self.facts.is_none() {
            self.closed = Some(format!("{} at {} is invalid: {why}", entry.reference(), entry.place).into());
        }
    }

    fn apply(&mut self, facts: &MeshFacts, entry: &Arc<Entry>, problems: &mut Vec<Problem>) {
        let node = &mut self.node;
        if let Some(root) = &facts.root_namespace {
            node.root_namespace = Arc::clone(root);
        }
        if let Some(paths) = facts.paths {
            node.paths = paths;
        }
        if let Some(domain) = &facts.trust_domain {
            if let Some(own) = &node.identity
                && own.trust_domain() != &**domain
            {
                let text = format!(
                    "the trust domain is {domain}, and this process is {own}: its own names in policies are the mesh's"
                );
                problems.push(entry.problem(
                    Severity::Warning,
                    FIELD,
                    text,
                    "issue certificates of the mesh's trust domain",
                ));
            }
            match node.trust_domains.first_mut() {
                Some(first) => *first = Arc::clone(domain),
                None => node.trust_domains.push(Arc::clone(domain)),
            }
        }
        let domains = facts.trust_domain.iter().chain(&facts.trust_domain_aliases);
        for domain in domains {
            if let Err(error) = TrustDomain::parse(domain) {
                let text = format!("`{domain}` is no trust domain, so nobody of it is let in: {error}");
                problems.push(entry.problem(Severity::Error, FIELD, text, "write a DNS name in lower case"));
            }
        }
        for alias in &facts.trust_domain_aliases {
            if !node.trust_domains.contains(alias) {
                node.trust_domains.push(Arc::clone(alias));
            }
        }
    }
}

/// Takes the configuration apart.
struct Reader<'r> {
    entry: &'r Arc<Entry>,
    node: &'r Node,
    problems: &'r mut Vec<Problem>,
    /// What makes the whole unusable.
    fatal: Option<String>,
}

impl Reader<'_> {
    fn facts(&mut self, config: &MeshConfig, text_of: &str) -> MeshFacts {
        let text = |text: &String| (!text.is_empty()).then(|| Arc::from(text.as_str()));
        let paths = config
            .path_normalization
            .as_ref()
            .and_then(|it| self.paths(&it.normalization));
        let mut facts = MeshFacts {
            root_namespace: text(&config.root_namespace),
            trust_domain: text(&config.trust_domain),
            trust_domain_aliases: config.trust_domain_aliases.iter().filter_map(text).collect(),
            paths,
            trusted_proxies: config
                .default_config
                .as_ref()
                .and_then(|it| it.gateway_topology.as_ref()?.num_trusted_proxies)
                .unwrap_or(0),
            proxy_headers: self.proxy_headers(config),
            authorizers: Default::default(),
            logs: Default::default(),
            default_logs: Vec::new(),
            tracing: Default::default(),
            metrics: config
                .extension_providers
                .iter()
                .filter(|it| it.prometheus.is_some())
                .map(|it| it.name.as_str().into())
                .collect(),
        };
        self.logs(config, text_of, &mut facts);
        facts.tracing = Arc::new(self.tracing(config, text_of));
        for provider in &config.extension_providers {
            let Some(authorizer) = self.authorizer(provider) else {
                continue;
            };
            if let Err(why) = &authorizer {
                let text = format!("extension provider `{}`: {why}", provider.name);
                self.problems
                    .push(self.entry.problem(Severity::Error, FIELD, text, "mend it"));
            }
            let authorizer = authorizer.map(Arc::new).map_err(Arc::from);
            let twice = facts
                .authorizers
                .insert(provider.name.as_str().into(), authorizer)
                .is_some();
            if twice || provider.name.is_empty() {
                let why: Arc<str> = "its name must be unique and not empty".into();
                let text = format!("extension provider `{}`: {why}", provider.name);
                self.problems.push(self.entry.problem(
                    Severity::Error,
                    FIELD,
                    text,
                    "give each a name of its own",
                ));
                facts.authorizers.insert(provider.name.as_str().into(), Err(why));
            }
        }
        facts
    }

    fn proxy_headers(&mut self, config: &MeshConfig) -> ProxyHeaders {
        let said = config
            .default_config
            .as_ref()
            .and_then(|it| it.proxy_headers.as_ref());
        let server = said.and_then(|it| it.server.as_ref());
        let server = server.filter(|it| !it.disabled && !it.value.is_empty());
        let value = server.map(|it| HeaderValue::from_str(&it.value));
        if let Some(Err(_)) = value {
            let text = "defaultConfig.proxyHeaders.server.value is no value of a header";
            let remedy = "write it in visible ASCII characters";
            self.problems
                .push(self.entry.problem(Severity::Error, FIELD, text, remedy));
        }
        ProxyHeaders {
            server: value.and_then(Result::ok),
            untimed: said.is_some_and(|it| it.envoy_debug_headers.as_ref().is_some_and(|it| it.disabled)),
        }
    }

    /// Where access logs go. What is wrong with one leaves everything else as it is.
    fn logs(&mut self, config: &MeshConfig, text: &str, facts: &mut MeshFacts) {
        let lines = Lines::of(text);
        let (entry, problems) = (self.entry, &mut *self.problems);
        (facts.logs, facts.default_logs) = access_log::providers(config, Some(self.node), |field, why| {
            let line = lines.line(field).unwrap_or(0);
            let text = format!("{field} (line {line} of it): {why}");
            problems.push(entry.problem(Severity::Error, FIELD, text, "mend it"));
        });
        let metrics = config.default_providers.iter().flat_map(|it| &it.metrics);
        let known = |name: &str| name == PROMETHEUS || facts.metrics.contains(name);
        for name in metrics.filter(|name| !known(name)) {
            let text = format!("defaultProviders.metrics: `{name}` is not supported and has no effect");
            let remedy = "name prometheus, which is served anyway";
            problems.push(entry.problem(Severity::Ignored, FIELD, text, remedy));
        }
    }

    /// What is said of traces. What is wrong with it leaves everything else as it is.
    fn tracing(&mut self, config: &MeshConfig, text: &str) -> TraceFacts {
        let lines = Lines::of(text);
        let (entry, problems) = (self.entry, &mut *self.problems);
        trace_provider::facts(config, self.node, |field, why| {
            let line = lines.line(field).unwrap_or(0);
            let text = format!("{field} (line {line} of it): {why}");
            problems.push(entry.problem(Severity::Error, FIELD, text, "mend it"));
        })
    }

    /// `None` leaves it as it is.
    fn paths(&mut self, name: &str) -> Option<PathNormalization> {
        Some(match name {
            "" => return None,
            "DEFAULT" | "BASE" => PathNormalization::Base,
            "NONE" => PathNormalization::None,
            "MERGE_SLASHES" => PathNormalization::MergeSlashes,
            "DECODE_AND_MERGE_SLASHES" => PathNormalization::DecodeAndMergeSlashes,
            other => {
                self.fatal = Some(format!("unknown pathNormalization `{other}`"));
                return None;
            }
        })
    }

    /// The authorizer, or what is wrong with it; `None` if it is a provider of another kind.
    fn authorizer(&self, provider: &ExtensionProvider) -> Option<Result<Authorizer, String>> {
        match (&provider.envoy_ext_authz_grpc, &provider.envoy_ext_authz_http) {
            (None, None) => None,
            (Some(_), Some(_)) => Some(Err("it can be asked by gRPC or by HTTP, not by both".to_owned())),
            (Some(grpc), None) => Some(self.grpc(&provider.name, grpc)),
            (None, Some(http)) => Some(self.http(&provider.name, http)),
        }
    }

    fn grpc(&self, name: &str, grpc: &ExtAuthzGrpc) -> Result<Authorizer, String> {
        Ok(Authorizer {
            name: name.into(),
            host: self.host(&grpc.service)?,
            port: port(grpc.port)?,
            timeout: grpc.timeout.map(|timeout| timeout.0),
            fail_open: grpc.fail_open,
            status_on_error: status(&grpc.status_on_error)?,
            body: body(grpc.include_request_body_in_check.as_ref()),
            protocol: CheckProtocol::Grpc {
                told: TextSet::default(),
            },
        })
    }

    fn http(&self, name: &str, http: &ExtAuthzHttp) -> Result<Authorizer, String> {
        if !http.path_prefix.is_empty() && !http.path_prefix.starts_with('/') {
            return Err(format!(
                "pathPrefix must begin with `/`, found `{}`",
                http.path_prefix
            ));
        }
        let besides = http
            .include_additional_headers_in_check
            .iter()
            .map(|(name, value)| {
                let header = |_| format!("`{name}: {value}` is no header");
                let name: HeaderName = name.parse().map_err(|_| header(()))?;
                Ok((name, HeaderValue::from_str(value).map_err(|_| header(()))?))
            });
        // The older spelling counts only where the newer is not used.
        let told = match http.include_request_headers_in_check.as_slice() {
            [] => &http.include_headers_in_check,
            list => list,
        };
        Ok(Authorizer {
            name: name.into(),
            host: self.host(&http.service)?,
            port: port(http.port)?,
            timeout: http.timeout.map(|timeout| timeout.0),
            fail_open: http.fail_open,
            status_on_error: status(&http.status_on_error)?,
            body: body(http.include_request_body_in_check.as_ref()),
            protocol: CheckProtocol::Http(Box::new(HttpCheck {
                prefix: http.path_prefix.as_str().into(),
                told: names(told),
                besides: besides.collect::<Result<_, String>>()?,
                upstream: names(&http.headers_to_upstream_on_allow),
                on_deny: names(&http.headers_to_downstream_on_deny),
                on_allow: names(&http.headers_to_downstream_on_allow),
            })),
        })
    }

    fn host(&self, service: &str) -> Result<Host, String> {
        service_host(service, self.node)
    }
}

/// `[<namespace>/]<host>`; a bare name is one of the given namespace.
pub(super) fn service_host(service: &str, node: &Node) -> Result<Host, String> {
    let (namespace, name) = match service.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, service),
    };
    let full = match namespace {
        Some(namespace) if !name.contains('.') => {
            format!("{name}.{namespace}.svc.{}", node.cluster_domain)
        }
        _ => name.to_owned(),
    };
    match full.is_empty() {
        true => Err("service must not be empty".to_owned()),
        false => Host::parse(&full).map_err(|error| format!("service `{service}`: {error}")),
    }
}

pub(super) fn port(port: u32) -> Result<u16, String> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("port must be in the range 1 to 65535, found {port}"))
}

fn status(text: &str) -> Result<StatusCode, String> {
    match text {
        "" => Ok(StatusCode::FORBIDDEN),
        text => text
            .parse()
            .map_err(|_| format!("invalid statusOnError `{text}`")),
    }
}

fn body(body: Option<&RequestBody>) -> Option<BodyCheck> {
    let body = body.filter(|body| body.max_request_bytes > 0)?;
    Some(BodyCheck {
        max: body.max_request_bytes as usize,
        partial: body.allow_partial_message,
        raw: body.pack_as_bytes,
    })
}

/// Names of headers, which may have a star at one end.
pub(crate) fn names(names: &[String]) -> TextSet {
    let lower: Vec<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    TextSet::parse(lower.iter().map(String::as_str))
}

impl Mesh {
    /// The authorizer of this name, if it can be asked.
    pub(crate) fn authorizer(&self, name: &str) -> Option<Arc<Authorizer>> {
        self.facts.as_ref()?.authorizers.get(name)?.as_ref().ok().cloned()
    }
}

impl Authorizers for Mesh {
    fn find(&self, name: &str) -> Result<Asked, String> {
        let facts = self.facts.as_ref().ok_or("there is no mesh configuration")?;
        match facts.authorizers.get(name) {
            None => Err("the mesh configuration names no such extension provider".to_owned()),
            Some(Err(why)) => Err(why.to_string()),
            Some(Ok(authorizer)) => Ok(match authorizer.protocol {
                CheckProtocol::Grpc { .. } => Asked::Grpc,
                CheckProtocol::Http(_) => Asked::Http,
            }),
        }
    }
}
