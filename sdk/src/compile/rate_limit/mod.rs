//! Rate limits, as Istio's users write them: by EnvoyFilters.
//!
//! ```text
//! HTTP_FILTER               local_ratelimit, ratelimit, adaptive_concurrency ─▶ Limiter
//! VIRTUAL_HOST, HTTP_ROUTE  rate_limits, local_ratelimit    ─▶ Setting: as what requests count, and how much of it
//! CLUSTER ADD               where the service is that is asked
//! anything else             refused, by name
//! ```

mod adaptive;
mod envoy;
mod kept;
mod read;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use self::adaptive::{ADAPTIVE, AdaptiveConcurrency};
use self::envoy::{Cluster, GlobalRateLimit, HttpFilter, LocalRateLimit, RouteSettings};
use crate::config::istio::EnvoyFilter;
use crate::config::istio::envoy_filter::ConfigPatch;
use crate::config::{Entry, Labels, Problem, ResourceStore, Severity};
use crate::name::{ResourceRef, ServiceName};
use crate::policy::fault::PerMillion;
use crate::policy::limit::{LocalLimit, LocalPolicy};
use crate::snapshot::{Context, Limiter, LimiterKind, RateLimits, Scope, Setting, Snapshot};

/// For whom limits are compiled.
pub(crate) struct Bearer<'s> {
    /// Its namespace.
    pub(crate) namespace: &'s str,
    /// Its labels.
    pub(crate) labels: &'s Labels,
    /// Whether these are all of them: its own Pod is known.
    pub(crate) known: bool,
    /// The Gateway that it is, if it is one.
    pub(crate) gateway: Option<&'s ResourceRef>,
    /// Istio's root namespace.
    pub(crate) root: &'s str,
    /// What it compiled before, whose buckets stay as full as they are.
    pub(crate) previous: Option<&'s Snapshot>,
}

impl Bearer<'_> {
    /// The rate limits of all EnvoyFilters that apply here.
    pub(crate) fn limits(&self, store: &ResourceStore, problems: &mut Vec<Problem>) -> RateLimits {
        let mut all: Vec<(&EnvoyFilter, &Arc<Entry>)> = store.envoy_filters().collect();
        all.sort_by_key(|(it, _)| {
            // As in Istio: by priority, what is for the whole mesh first, then the oldest.
            let meta = &it.metadata;
            let of_mesh = *meta.namespace == *self.root;
            (
                it.spec.priority,
                !of_mesh,
                meta.creation_timestamp.clone(),
                meta.namespace.clone(),
                meta.name.clone(),
            )
        });
        let mut compiler = Compiler {
            bearer: self,
            limits: RateLimits::default(),
            clusters: HashMap::new(),
            problems,
        };
        for (filter, entry) in &all {
            compiler.clusters(filter, entry);
        }
        for (filter, entry) in all {
            compiler.filter(filter, entry);
        }
        compiler.limits
    }

    /// Where a filter applies here; nowhere if there is none.
    fn scopes(
        &self,
        filter: &EnvoyFilter,
        entry: &Entry,
        problems: &mut Vec<Problem>,
    ) -> Vec<Option<ServiceName>> {
        let own = &*filter.metadata.namespace;
        let refs = &filter.spec.target_refs;
        if refs.is_empty() {
            let near = own == self.namespace || own == self.root;
            let selector = filter.spec.workload_selector.as_ref();
            let has = |(key, value): (&String, &String)| match self.labels.get(key) {
                Some(own) => own == value,
                // Whom a label selects is not let go for not knowing what it is labelled.
                None => !self.known,
            };
            let selected = selector.is_none_or(|it| it.labels.iter().all(has));
            if near && selected && !self.known && selector.is_some() {
                problems.push(entry.problem(
                    Severity::Warning,
                    "spec.workloadSelector",
                    "our own Pod is not known, so the filter applies as if it selected us",
                    "apply the Pod, or give its name and labels",
                ));
            }
            return if near && selected { vec![None] } else { Vec::new() };
        }
        let mut scopes = Vec::new();
        for (at, target) in refs.iter().enumerate() {
            match (&*target.group, &*target.kind) {
                ("" | "core", "Service") | ("networking.istio.io", "ServiceEntry") => {
                    scopes.push(Some(ServiceName::new(own, target.name.as_str())));
                }
                ("gateway.networking.k8s.io", "Gateway") => {
                    let is_ours = |it: &ResourceRef| *it.namespace == *own && *it.name == *target.name;
                    if self.gateway.is_some_and(is_ours) {
                        scopes.push(None);
                    }
                }
                _ => problems.push(entry.problem(
                    Severity::Error,
                    format!("spec.targetRefs[{at}]"),
                    format!("{} {} cannot be a target", target.kind, target.name),
                    "name a Gateway, a Service or a ServiceEntry of the same namespace",
                )),
            }
        }
        scopes
    }
}

struct Compiler<'c, 's> {
    bearer: &'c Bearer<'s>,
    limits: RateLimits,
    clusters: HashMap<String, (String, u16)>,
    problems: &'c mut Vec<Problem>,
}

impl Compiler<'_, '_> {
    /// Takes down where services are. Which filter adds a cluster does not matter to those that name it.
    fn clusters(&mut self, filter: &EnvoyFilter, entry: &Arc<Entry>) {
        for (at, patch) in filter.spec.config_patches.iter().enumerate() {
            if patch.apply_to != "CLUSTER" {
                continue;
            }
            let field = format!("spec.configPatches[{at}]");
            let added = patch.patch.operation == "ADD";
            let cluster = envoy::read::<Cluster>(&patch.patch.value);
            let found = cluster
                .ok()
                .filter(|_| added)
                .and_then(|it| Some((it.name.clone(), it.address()?)));
            match found {
                Some((name, address)) => drop(self.clusters.insert(name, address)),
                None => self.refuse(
                    entry,
                    &field,
                    "only clusters with one address, for a rate limit service, are added",
                ),
            }
        }
    }

    fn refuse(&mut self, entry: &Arc<Entry>, field: &str, why: impl Into<String>) {
        let why = format!("{}; this part of the filter is not carried out", why.into());
        let remedy = "see \"Rate limits\" in the guide for what of an EnvoyFilter is carried out";
        self.problems
            .push(entry.problem(Severity::Error, field, why, remedy));
    }

    fn filter(&mut self, filter: &EnvoyFilter, entry: &Arc<Entry>) {
        let services = self.bearer.scopes(filter, entry, self.problems);
        for (at, patch) in filter.spec.config_patches.iter().enumerate() {
            let field = format!("spec.configPatches[{at}]");
            let context = match context(patch) {
                Ok(context) => context,
                Err(why) => {
                    self.refuse(entry, &format!("{field}.match.context"), why);
                    continue;
                }
            };
            let result = match &*patch.apply_to {
                "CLUSTER" => Ok(()),
                "HTTP_FILTER" => self.http_filter(patch, entry, context, &services),
                "VIRTUAL_HOST" | "HTTP_ROUTE" => self.settings(patch, entry, context, &services),
                other => Err(format!("`{other}` is not supported")),
            };
            if let Err(why) = result {
                self.refuse(entry, &field, why);
            }
        }
    }

    /// A filter in the chain.
    fn http_filter(
        &mut self,
        patch: &ConfigPatch,
        entry: &Arc<Entry>,
        context: Context,
        services: &[Option<ServiceName>],
    ) -> Result<(), String> {
        match &*patch.patch.operation {
            "INSERT_BEFORE" | "INSERT_AFTER" | "INSERT_FIRST" | "ADD" => {}
            other => return Err(format!("`{other}` of filters is not supported")),
        }
        let written: HttpFilter = shallow(&patch.patch.value)?;
        let (kind, fields) = envoy::typed(&written.typed_config)?;
        let by = entry.reference();
        let kind = match &*kind {
            envoy::LOCAL => {
                let written: LocalRateLimit = envoy::read(&fields)?;
                let describes = read::describes(&written.rate_limits)?;
                let limit = read::local(&written)?.map(|policy| self.local(policy, &by, entry));
                if !describes.is_empty() {
                    self.set(context, services, "", None, &describes, None);
                }
                LimiterKind::Local(limit)
            }
            envoy::GLOBAL => {
                let written: GlobalRateLimit = envoy::read(&fields)?;
                let limit = read::global(&written, &self.clusters)?;
                if cfg!(not(feature = "extauthz")) {
                    let text =
                        "this build asks nobody (feature `extauthz`): the filter's failure mode applies";
                    self.problems
                        .push(entry.problem(Severity::Warning, "spec", text, "build with it"));
                }
                LimiterKind::Global(Arc::new(limit))
            }
            ADAPTIVE => {
                let written: AdaptiveConcurrency = envoy::read(&fields)?;
                let annotations = &entry.resource.metadata().annotations;
                let Some(policy) = written.policy(annotations)? else {
                    let text = "`enabled` says false: nothing is limited";
                    self.problems.push(entry.problem(
                        Severity::Warning,
                        "spec.configPatches",
                        text,
                        "remove it, or the filter",
                    ));
                    return Ok(());
                };
                LimiterKind::Adaptive(self.bearer.shedding(&by, policy))
            }
            other => return Err(format!("the filter {other} is not supported")),
        };
        let limiter = Arc::new(Limiter { by, kind });
        for service in services {
            let scope = Scope {
                context,
                service: service.clone(),
            };
            self.limits.limiters.push((scope, Arc::clone(&limiter)));
        }
        Ok(())
    }

    /// What is said of virtual hosts and routes.
    fn settings(
        &mut self,
        patch: &ConfigPatch,
        entry: &Arc<Entry>,
        context: Context,
        services: &[Option<ServiceName>],
    ) -> Result<(), String> {
        if patch.patch.operation != "MERGE" {
            return Err(format!(
                "`{}` of routes is not supported; `MERGE` is",
                patch.patch.operation
            ));
        }
        let of_routes = patch
            .r#match
            .as_ref()
            .and_then(|it| it.route_configuration.as_ref());
        let vhost = of_routes.and_then(|it| it.vhost.as_ref());
        if vhost.is_some_and(|it| it.domain_name.is_some()) {
            return Err("virtual hosts are told by their name, not by a domain".into());
        }
        let route = vhost.and_then(|it| it.route.as_ref());
        if let Some(action) = route
            .and_then(|it| it.action.as_deref())
            .filter(|it| !matches!(*it, "ANY" | "ROUTE"))
        {
            return Err(format!("routes with the action `{action}` are not told apart"));
        }
        let name = vhost.and_then(|it| it.name.as_deref()).unwrap_or_default();
        let port = of_routes.and_then(|it| it.port_number);
        // A port by itself is every host of it.
        let vhost: String = match (name, port) {
            ("", Some(port)) if context == Context::Inbound => format!("inbound|http|{port}"),
            ("", Some(port)) => format!("*:{port}"),
            (name, _) => name.to_owned(),
        };
        let route_name = route.and_then(|it| it.name.as_deref()).unwrap_or_default();
        let of_route = (patch.apply_to == "HTTP_ROUTE").then_some(route_name);
        let written: RouteSettings = settings_of(&patch.patch.value)?;
        let mut describes = read::describes(&written.rate_limits)?;
        describes.extend(read::describes(&written.route.unwrap_or_default().rate_limits)?);
        let by = entry.reference();
        let mut local = None;
        for config in written.typed_per_filter_config.values() {
            let (kind, fields) = envoy::typed(config)?;
            if kind != envoy::LOCAL {
                return Err(format!("the configuration of {kind} for routes is not supported"));
            }
            let written: LocalRateLimit = envoy::read(&fields)?;
            describes.extend(read::describes(&written.rate_limits)?);
            local = read::local(&written)?.map(|policy| self.local(policy, &by, entry));
        }
        self.limits.by_route |= of_route.is_some_and(|name| !name.is_empty());
        self.set(context, services, &vhost, of_route, &describes, local);
        Ok(())
    }

    fn set(
        &mut self,
        context: Context,
        services: &[Option<ServiceName>],
        vhost: &str,
        route: Option<&str>,
        describes: &[crate::policy::limit::Describe],
        local: Option<Arc<LocalLimit>>,
    ) {
        for service in services {
            self.limits.settings.push(Setting {
                scope: Scope {
                    context,
                    service: service.clone(),
                },
                vhost: vhost.into(),
                route: route.map(Into::into),
                describes: describes.to_vec(),
                local: local.clone(),
            });
        }
    }

    /// A limit: what it was, if nothing of it changed.
    fn local(&mut self, policy: LocalPolicy, by: &ResourceRef, entry: &Arc<Entry>) -> Arc<LocalLimit> {
        for (share, field) in [
            (policy.enabled, "filter_enabled"),
            (policy.enforced, "filter_enforced"),
        ] {
            if share == PerMillion::NOBODY {
                let text =
                    format!("{field} says 0 % (which is what it says when it is absent): nothing is limited");
                let remedy = "set its default_value, as Istio's documentation does";
                self.problems
                    .push(entry.problem(Severity::Warning, "spec.configPatches", text, remedy));
            }
        }
        self.bearer
            .before(by, &policy)
            .unwrap_or_else(|| Arc::new(LocalLimit::new(policy)))
    }
}

fn context(patch: &ConfigPatch) -> Result<Context, String> {
    let Some(written) = &patch.r#match else {
        return Ok(Context::Any);
    };
    if written.proxy.is_some() {
        return Err("filters are not told apart by proxy".into());
    }
    match written.context.as_deref() {
        None | Some("ANY") => Ok(Context::Any),
        Some("GATEWAY") => Ok(Context::Gateway),
        Some("SIDECAR_INBOUND" | "WAYPOINT") => Ok(Context::Inbound),
        Some("SIDECAR_OUTBOUND") => {
            Err("callers are not relied upon to limit themselves; use SIDECAR_INBOUND at the service".into())
        }
        Some(other) => Err(format!("`{other}` is no context")),
    }
}

/// Whether what a patch adds is adaptive concurrency.
pub(crate) fn is_adaptive(value: &Value) -> bool {
    let filter = shallow(value).ok();
    let kind = filter.and_then(|it| envoy::typed(&it.typed_config).ok());
    kind.is_some_and(|(kind, _)| kind == ADAPTIVE)
}

/// The name and `typed_config` of a filter, the latter as it is written.
fn shallow(value: &Value) -> Result<HttpFilter, String> {
    let renamed = |(key, value): (&String, &Value)| {
        let key = if key == "typedConfig" { "typed_config" } else { key };
        (key.to_owned(), value.clone())
    };
    let fields = value.as_object().ok_or("the patch has no value")?;
    let fields: serde_json::Map<String, Value> = fields.iter().map(renamed).collect();
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

/// Settings, the configuration of filters in them as it is written.
fn settings_of(value: &Value) -> Result<RouteSettings, String> {
    let mut value = value.clone();
    let fields = value.as_object_mut().ok_or("the patch has no value")?;
    let configs = fields
        .remove("typed_per_filter_config")
        .or_else(|| fields.remove("typedPerFilterConfig"));
    let mut settings: RouteSettings = envoy::read(&value)?;
    if let Some(Value::Object(configs)) = configs {
        settings.typed_per_filter_config = configs;
    }
    Ok(settings)
}
