//! Access logs: which providers there are, and who writes to which.
//!
//! MeshConfig names the providers; Telemetries say, from the mesh's down to a service's own, which of them are used and for
//! which requests (Istio "Telemetry", "Scope, Inheritance, and Overrides"). Where no Telemetry says anything,
//! `defaultProviders` do, and else `accessLogFile`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::telemetry::{Seat, Telemetries};
#[cfg(feature = "otlp")]
use super::trace_provider;
use crate::config::istio::Telemetry;
use crate::config::istio::mesh_config::{FileAccessLog, MeshConfig, OtelAccessLog};
use crate::config::istio::telemetry::AccessLogging;
use crate::config::{Entry, Problem, Severity};
use crate::snapshot::{ByService, MeshFacts, Node};
use crate::telemetry::access::{AccessLog, AccessLogs, Filter, Format};

/// The provider that there is without being declared: a file log to stdout.
const ENVOY: &str = "envoy";

/// What access logs can be written to, by name, and what is used where no Telemetry says so.
type Providers = (BTreeMap<Arc<str>, Arc<AccessLog>>, Vec<Arc<str>>);

/// The providers of a mesh configuration, for a process that knows who it is. What is wrong with one is said by `report`,
/// with the field it is in.
pub(super) fn providers(
    config: &MeshConfig,
    node: Option<&Node>,
    mut report: impl FnMut(&str, String),
) -> Providers {
    let mut known = BTreeMap::new();
    let default = match mesh_format(config) {
        Ok(format) => format,
        Err((field, why)) => {
            report(field, why);
            Format::istio()
        }
    };
    let envoy = AccessLog::new(default.clone(), "/dev/stdout");
    known.insert(Arc::from(ENVOY), Arc::new(envoy));
    for (index, provider) in config.extension_providers.iter().enumerate() {
        if let (Some(log), Some(node)) = (&provider.envoy_otel_als, node) {
            match collected(&provider.name, log, node) {
                Ok(log) => drop(known.insert(provider.name.as_str().into(), Arc::new(log))),
                Err(why) => report(
                    &format!("extensionProviders[{index}].envoyOtelAls"),
                    format!("access logs to `{}` are not written: {why}", provider.name),
                ),
            }
        }
        let Some(file) = &provider.envoy_file_access_log else {
            continue;
        };
        let at = format!("extensionProviders[{index}].envoyFileAccessLog");
        match format_of(file, &default) {
            Ok(format) => {
                let path = if file.path.is_empty() {
                    "/dev/stdout"
                } else {
                    &file.path
                };
                let log = AccessLog::new(format.omitting(file.omit_empty_values), path);
                known.insert(provider.name.as_str().into(), Arc::new(log));
            }
            Err(why) => report(
                &at,
                format!("access logs to `{}` are not written: {why}", provider.name),
            ),
        }
    }
    let chosen = config.default_providers.as_ref().map(|it| &it.access_logging[..]);
    let mut used: Vec<Arc<str>> = Vec::new();
    for name in chosen.unwrap_or_default() {
        match known.contains_key(name.as_str()) {
            true => used.push(name.as_str().into()),
            false => report(
                "defaultProviders.accessLogging",
                format!("there is no provider `{name}` that access logs can be written to"),
            ),
        }
    }
    if used.is_empty() && !config.access_log_file.is_empty() {
        // Named so that no Telemetry can mean it.
        let name: Arc<str> = format!("accessLogFile {}", config.access_log_file).into();
        let log = AccessLog::new(default, config.access_log_file.as_str());
        known.insert(Arc::clone(&name), Arc::new(log));
        used.push(name);
    }
    (known, used)
}

fn mesh_format(config: &MeshConfig) -> Result<Format, (&'static str, String)> {
    let custom = config.access_log_format.trim();
    let wrong = |error: crate::telemetry::access::FormatError| ("accessLogFormat", error.to_string());
    match config.access_log_encoding.as_str() {
        "" | "TEXT" if custom.is_empty() => Ok(Format::istio()),
        "" | "TEXT" => Format::text(&config.access_log_format).map_err(wrong),
        "JSON" if custom.is_empty() => Ok(Format::istio_json()),
        "JSON" => {
            let format = serde_json::from_str(custom).map_err(|error| {
                let why = format!("with accessLogEncoding JSON it must be a JSON object: {error}");
                ("accessLogFormat", why)
            })?;
            Format::json(&format).map_err(wrong)
        }
        other => Err(("accessLogEncoding", format!("`{other}` is neither TEXT nor JSON"))),
    }
}

/// The access log of an `envoyOtelAls`: text is a record's body, labels are its attributes (Istio
/// `telemetry_logging.go`).
#[cfg(feature = "otlp")]
fn collected(name: &str, log: &OtelAccessLog, node: &Node) -> Result<AccessLog, String> {
    let target = trace_provider::log_target(name, log, node)?;
    let format = log.log_format.as_ref();
    let text = format.and_then(|format| format.text.as_deref()).map(Format::text);
    let labels = format.and_then(|format| format.labels.as_ref()).map(Format::json);
    let text = text.transpose().map_err(|error| error.to_string())?;
    let labels = labels.transpose().map_err(|error| error.to_string())?;
    Ok(AccessLog::collected(
        text.unwrap_or_else(Format::istio),
        labels,
        target,
    ))
}

#[cfg(not(feature = "otlp"))]
fn collected(_: &str, _: &OtelAccessLog, _: &Node) -> Result<AccessLog, String> {
    Err("this program was built without feature `otlp`".to_owned())
}

fn format_of(file: &FileAccessLog, default: &Format) -> Result<Format, String> {
    let Some(format) = &file.log_format else {
        // Istio falls back to the mesh's own format only where nothing else is said.
        return Ok(if file.omit_empty_values {
            Format::istio()
        } else {
            default.clone()
        });
    };
    match (&format.text, &format.labels) {
        (Some(_), Some(_)) => Err("logFormat is text or labels, not both".to_owned()),
        (Some(text), None) => Format::text(text).map_err(|error| error.to_string()),
        (None, Some(labels)) => Format::json(labels).map_err(|error| error.to_string()),
        (None, None) => Ok(default.clone()),
    }
}

/// What is asked about who logs what.
pub(super) struct Logging<'s, 'a> {
    telemetries: &'s Telemetries<'s, 'a>,
    facts: Option<&'s MeshFacts>,
}

/// Where a process writes, and of which requests.
type Chosen = BTreeMap<Arc<str>, Option<Arc<Filter>>>;

impl<'s, 'a> Logging<'s, 'a> {
    pub(super) fn new(telemetries: &'s Telemetries<'s, 'a>, facts: Option<&'s MeshFacts>) -> Self {
        Self { telemetries, facts }
    }

    /// The logs of a process: of everything that it receives, and of services for which there are others.
    pub(super) fn plan(&self, seat: Seat<'_, '_>) -> ByService<AccessLogs> {
        self.telemetries.by_service(seat, |levels| self.logs(levels))
    }

    /// What the levels come to, wider ones first.
    fn logs(&self, levels: &[&Telemetry]) -> Arc<AccessLogs> {
        let Some(facts) = self.facts else {
            return self.of(&self.chosen(levels, &[]), &builtin());
        };
        self.of(&self.chosen(levels, &facts.default_logs), &facts.logs)
    }

    fn of(&self, chosen: &Chosen, known: &BTreeMap<Arc<str>, Arc<AccessLog>>) -> Arc<AccessLogs> {
        let logs = chosen
            .iter()
            .filter_map(|(name, filter)| Some((Arc::clone(known.get(name)?), filter.clone())));
        Arc::new(AccessLogs::new(logs.collect()))
    }

    /// Which providers, and for which requests: each level changes those that it names, or all.
    fn chosen(&self, levels: &[&Telemetry], default: &[Arc<str>]) -> Chosen {
        let mut used: Vec<Arc<str>> = default.to_vec();
        let mut chosen: Chosen = used.iter().map(|name| (Arc::clone(name), None)).collect();
        for telemetry in levels {
            let stated = telemetry
                .spec
                .access_logging
                .iter()
                .filter(|it| is_of_servers(it));
            let stated: Vec<&AccessLogging> = stated.collect();
            let names = stated.iter().flat_map(|it| &it.providers);
            let named: Vec<Arc<str>> = names.map(|it| Arc::from(it.name.as_str())).collect();
            if !named.is_empty() {
                // A nearer level's providers take the place of those before.
                used = named;
                chosen.retain(|name, _| used.contains(name));
            }
            for logging in stated {
                let meant: Vec<Arc<str>> = match logging.providers.as_slice() {
                    [] => used.clone(),
                    list => list.iter().map(|it| Arc::from(it.name.as_str())).collect(),
                };
                for name in meant {
                    if logging.disabled == Some(true) {
                        chosen.remove(&name);
                        continue;
                    }
                    let filter = logging.filter.as_ref();
                    let filter = filter.map(|it| Filter::parse_by(&it.expression, &self.telemetries.facts));
                    match filter {
                        None => drop(chosen.entry(name).or_insert(None)),
                        Some(Ok(filter)) => drop(chosen.insert(name, Some(Arc::new(filter)))),
                        // Reported; what was meant is not known, and too little is safer than too much.
                        Some(Err(_)) => drop(chosen.remove(&name)),
                    }
                }
            }
        }
        chosen
    }

    /// What is wrong with what Telemetries say of access logs, wherever they apply.
    pub(super) fn report(&self, problems: &mut Vec<Problem>) {
        for it in self.telemetries.iter() {
            for (index, logging) in it.policy.spec.access_logging.iter().enumerate() {
                let at = format!("spec.accessLogging[{index}]");
                self.check(it.entry, logging, &at, problems);
            }
        }
    }

    fn check(&self, entry: &Arc<Entry>, logging: &AccessLogging, at: &str, problems: &mut Vec<Problem>) {
        let builtin = builtin();
        let known = self.facts.map_or(&builtin, |facts| &facts.logs);
        for (index, provider) in logging.providers.iter().enumerate() {
            if !known.contains_key(provider.name.as_str()) {
                let text = format!(
                    "there is no provider `{}` that access logs can be written to",
                    provider.name
                );
                let remedy = "declare it as envoyFileAccessLog or envoyOtelAls among the mesh configuration's extensionProviders";
                let field = format!("{at}.providers[{index}].name");
                problems.push(entry.problem(Severity::Error, field, text, remedy));
            }
        }
        if let Some(filter) = &logging.filter
            && let Err(error) = Filter::parse_by(&filter.expression, &self.telemetries.facts)
        {
            let text = format!("{error}; nothing is logged for it");
            let remedy = "see docs/access-logs.md for what can be asked";
            problems.push(entry.problem(Severity::Error, format!("{at}.filter.expression"), text, remedy));
        }
        let mode = logging.selects.as_ref().and_then(|it| it.mode.as_deref());
        let field = format!("{at}.match.mode");
        match mode {
            None | Some("CLIENT_AND_SERVER" | "SERVER") => {}
            Some("CLIENT") => {
                let text = "requests are logged where they are received, as by a waypoint: it has no effect";
                problems.push(entry.problem(Severity::Ignored, field, text, "use SERVER"));
            }
            Some(other) => {
                let text = format!("`{other}` is no mode, so it has no effect");
                problems.push(entry.problem(Severity::Error, field, text, "use SERVER"));
            }
        }
    }
}

/// What there is without a mesh configuration.
fn builtin() -> BTreeMap<Arc<str>, Arc<AccessLog>> {
    providers(&MeshConfig::default(), None, |_, _| {}).0
}

/// Whether an entry speaks of those who receive requests.
fn is_of_servers(logging: &AccessLogging) -> bool {
    let mode = logging.selects.as_ref().and_then(|it| it.mode.as_deref());
    matches!(mode, None | Some("CLIENT_AND_SERVER" | "SERVER"))
}
