//! Where spans can go: what the mesh configuration says of traces.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::mesh_config::{port, service_host};
use super::trace_tag::tags;
#[cfg(feature = "otlp")]
use crate::config::istio::mesh_config::OtelAccessLog;
use crate::config::istio::mesh_config::{ExtensionProvider, MeshConfig, OpenTelemetry, OtlpHeader, Zipkin};
use crate::snapshot::{Node, TraceFacts, TraceProvider};
use crate::telemetry::Propagation;
use crate::telemetry::recording::{Sampling, SpanProtocol, SpanTarget};

/// How long an OTLP collector may take; OpenTelemetry's default.
const OTLP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a Zipkin collector may take (`mesh/v1alpha1 ZipkinTracingProvider`).
const ZIPKIN_TIMEOUT: Duration = Duration::from_secs(5);
const ZIPKIN_PATH: &str = "/api/v2/spans";

/// What it says. What is wrong is said by `report`, with the field it is in.
pub(super) fn facts(config: &MeshConfig, node: &Node, mut report: impl FnMut(&str, String)) -> TraceFacts {
    let mut facts = TraceFacts::default();
    for (index, provider) in config.extension_providers.iter().enumerate() {
        let Some((kind, read)) = provider_of(provider, node) else {
            continue;
        };
        let read = read.map_err(|why| {
            report(
                &format!("extensionProviders[{index}].{kind}"),
                format!("no spans go to `{}`: {why}", provider.name),
            );
            Arc::from(why)
        });
        facts.providers.insert(provider.name.as_str().into(), read);
    }
    let chosen = config.default_providers.iter().flat_map(|it| &it.tracing);
    for (index, name) in chosen.enumerate() {
        if index > 0 {
            let why = format!("`{name}` is not used: of several providers of traces the first counts");
            report("defaultProviders.tracing", why);
        } else if !facts.providers.contains_key(name.as_str()) {
            let why = format!("there is no provider `{name}` that spans can be sent to");
            report("defaultProviders.tracing", why);
        } else {
            facts.default = Some(name.as_str().into());
        }
    }
    let of_proxies = config.default_config.as_ref().and_then(|it| it.tracing.as_ref());
    if let Some(tracing) = of_proxies {
        // Istio takes what exceeds a hundred for one per cent.
        facts.share = tracing
            .sampling
            .map(|percentage| match Sampling::of_percentage(percentage) {
                Some(share) => share,
                None => {
                    let why = format!("{percentage} is no percentage, so it counts as 1.0");
                    report("defaultConfig.tracing.sampling", why);
                    100
                }
            });
        if let Some(custom) = &tracing.custom_tags {
            facts.tags = tags(custom, |name, why| {
                report(&format!("defaultConfig.tracing.customTags.{name}"), why);
            });
        }
        facts.longest = tracing.max_path_tag_length.map(|most| most as usize);
        facts.istio_tags = tracing.enable_istio_tags;
    }
    facts
}

/// Where access logs go as OTLP. Its resource says what Envoy's does, by the names of OpenTelemetry's conventions too.
#[cfg(feature = "otlp")]
pub(super) fn log_target(name: &str, log: &OtelAccessLog, node: &Node) -> Result<SpanTarget, String> {
    let log_name = match log.log_name.as_str() {
        "" => "otel_envoy_accesslog",
        name => name,
    };
    let account = node
        .identity
        .as_ref()
        .map(|id| format!("{}.{}", id.service_account(), node.namespace));
    let account = account.unwrap_or_default();
    let resource = [
        ("log_name", log_name),
        ("cluster_name", &account),
        ("service.name", &account),
        ("k8s.namespace.name", &node.namespace),
        ("k8s.pod.name", node.pod.as_deref().unwrap_or_default()),
    ];
    let told = resource.iter().filter(|(_, value)| !value.is_empty());
    Ok(SpanTarget {
        name: name.into(),
        protocol: SpanProtocol::Grpc,
        host: service_host(&log.service, node)?.as_str().into(),
        port: port(log.port)?,
        path: "".into(),
        headers: Vec::new(),
        timeout: OTLP_TIMEOUT,
        resource: told
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
    })
}

/// The provider and what it is called, if spans can go to its like.
fn provider_of(
    provider: &ExtensionProvider,
    node: &Node,
) -> Option<(&'static str, Result<TraceProvider, String>)> {
    match (&provider.opentelemetry, &provider.zipkin) {
        (Some(it), None) => Some(("opentelemetry", opentelemetry(&provider.name, it, node))),
        (None, Some(it)) => Some(("zipkin", zipkin(&provider.name, it, node))),
        (Some(_), Some(_)) => Some((
            "zipkin",
            Err("it is one of OpenTelemetry or of Zipkin, not both".to_owned()),
        )),
        (None, None) => None,
    }
}

fn opentelemetry(name: &str, it: &OpenTelemetry, node: &Node) -> Result<TraceProvider, String> {
    let (protocol, path, given, timeout) = match (&it.http, &it.grpc) {
        (Some(_), Some(_)) => return Err("it is spoken to over http or grpc, not both".to_owned()),
        (Some(http), None) if !http.path.starts_with('/') => {
            return Err(format!("http.path must begin with `/`, found `{}`", http.path));
        }
        (Some(http), None) => (SpanProtocol::Http, &*http.path, &http.headers, http.timeout),
        (None, Some(grpc)) => (SpanProtocol::Grpc, "", &grpc.initial_metadata, grpc.timeout),
        (None, None) => (SpanProtocol::Grpc, "", &Vec::new(), None),
    };
    let by_conventions = match it.service_attribute_enrichment.as_deref() {
        None | Some("" | "ISTIO_CANONICAL") => false,
        Some("OTEL_SEMANTIC_CONVENTIONS") => true,
        Some(other) => return Err(format!("unknown serviceAttributeEnrichment `{other}`")),
    };
    let detected = it
        .resource_detectors
        .as_ref()
        .is_some_and(|it| it.environment.is_some());
    Ok(TraceProvider {
        target: SpanTarget {
            name: name.into(),
            protocol,
            host: service_host(&it.service, node)?.as_str().into(),
            port: port(it.port)?,
            path: path.into(),
            headers: headers(given)?,
            timeout: timeout.map_or(OTLP_TIMEOUT, |it| it.0),
            resource: match detected || by_conventions {
                true => of_environment(),
                false => Vec::new(),
            },
        },
        propagation: Propagation::default(),
        longest: it.max_tag_length.map(|most| most as usize),
        by_conventions,
    })
}

fn zipkin(name: &str, it: &Zipkin, node: &Node) -> Result<TraceProvider, String> {
    let with_w3c = match it.trace_context_option.as_str() {
        "" | "USE_B3" => false,
        "USE_B3_WITH_W3C_PROPAGATION" => true,
        other => return Err(format!("unknown traceContextOption `{other}`")),
    };
    let path = match it.path.as_str() {
        "" => ZIPKIN_PATH,
        path if path.starts_with('/') => path,
        path => return Err(format!("path must begin with `/`, found `{path}`")),
    };
    Ok(TraceProvider {
        target: SpanTarget {
            name: name.into(),
            protocol: SpanProtocol::Zipkin,
            host: service_host(&it.service, node)?.as_str().into(),
            port: port(it.port)?,
            path: path.into(),
            headers: headers(&it.headers)?,
            timeout: it.timeout.map_or(ZIPKIN_TIMEOUT, |it| it.0),
            resource: Vec::new(),
        },
        propagation: Propagation::zipkin(with_w3c),
        longest: it.max_tag_length.map(|most| most as usize),
        by_conventions: false,
    })
}

fn headers(given: &[OtlpHeader]) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let header = |it: &OtlpHeader| {
        let name: HeaderName = it
            .name
            .parse()
            .map_err(|_| format!("`{}` is not the name of a header", it.name))?;
        let value = match (&it.value, &it.env_name) {
            (Some(value), None) => value.clone(),
            (None, Some(env)) => {
                std::env::var(env).map_err(|_| format!("the variable {env} of header {name} is not set"))?
            }
            _ => return Err(format!("header {name} has either a value or an envName")),
        };
        // Not shown: it may be a key.
        let mut value =
            HeaderValue::try_from(value).map_err(|_| format!("the value of header {name} is none"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    given.iter().map(header).collect()
}

/// `OTEL_RESOURCE_ATTRIBUTES`: pairs, separated by commas.
fn of_environment() -> Vec<(Arc<str>, Arc<str>)> {
    let text = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.filter(|(key, _)| !key.trim().is_empty());
    pairs
        .map(|(key, value)| (key.trim().into(), value.trim().into()))
        .collect()
}
