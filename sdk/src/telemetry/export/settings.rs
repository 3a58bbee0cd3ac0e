//! Where spans go and which.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::Error;

const TRACES: &str = "/v1/traces";
/// How many spans may wait at most, whatever is asked for: their room is taken at once.
const MOST: usize = 1 << 20;

/// How a collector is spoken to (`OTEL_EXPORTER_OTLP_PROTOCOL`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtlpProtocol {
    /// `http/protobuf`.
    #[default]
    Http,
    /// `grpc`.
    Grpc,
}

/// Where spans go and which. Made by [`OtlpSettings::new`] or [`OtlpSettings::from_env`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OtlpSettings {
    /// The full URL that batches are posted to; of gRPC, whose paths are given, scheme and authority count.
    pub endpoint: String,
    /// How the collector is spoken to.
    pub protocol: OtlpProtocol,
    /// Header fields that go with each batch, as of an API key.
    pub headers: Vec<(String, String)>,
    /// `service.name`; `None` leaves it to `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.
    pub service_name: Option<String>,
    /// Further attributes of the service: `k8s.namespace.name`, `k8s.pod.name`, `service.version` and so on.
    pub attributes: Vec<(String, String)>,
    /// Which traces are recorded.
    pub sampling: Sampling,
    /// How many finished spans may wait.
    pub queue: usize,
    /// How many spans are sent at once, at most.
    pub batch: usize,
    /// How long a finished span waits for company.
    pub interval: Duration,
    /// How long the collector may take for one batch.
    pub timeout: Duration,
    /// Whether what is sent is compressed by gzip.
    pub gzip: bool,
    /// Of a collector at `https`: the file with the certificates that vouch for it (PEM); without, those of this machine do.
    pub certificate: Option<PathBuf>,
    /// The files with our own certificates and their key (PEM), for a collector that asks for them.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The share of traces, from 0 to 1.
    pub ratio: f64,
    /// Whether a caller that has decided is followed, and the share concerns only traces that begin here.
    pub parent_based: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            parent_based: true,
        }
    }
}

impl OtlpSettings {
    /// Settings for the collector at a base URL such as `http://127.0.0.1:4318`; `/v1/traces` is added.
    pub fn new(base: &str) -> Self {
        let base = base.trim_end_matches('/');
        let base = base.strip_suffix(TRACES).unwrap_or(base);
        Self::at(format!("{base}{TRACES}"))
    }

    fn at(endpoint: String) -> Self {
        Self {
            endpoint,
            protocol: OtlpProtocol::default(),
            headers: Vec::new(),
            service_name: None,
            attributes: Vec::new(),
            sampling: Sampling::default(),
            queue: 2_048,
            batch: 512,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            gzip: false,
            certificate: None,
            client: None,
        }
    }

    /// The same with a service name.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// The same with one more attribute of the service.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// What the environment asks for by OpenTelemetry's variables; `None` if it names no collector.
    ///
    /// Read are `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_PROTOCOL`, `…_HEADERS`, `…_TIMEOUT`, `…_COMPRESSION`, `…_CERTIFICATE`, `…_CLIENT_CERTIFICATE` and
    /// `…_CLIENT_KEY` and their forms for traces (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`), `OTEL_SERVICE_NAME`, `OTEL_TRACES_EXPORTER`,
    /// `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`, the four `OTEL_BSP_…` and `OTEL_SDK_DISABLED`; and later, when the service
    /// is described, `OTEL_RESOURCE_ATTRIBUTES`. [`install`](super::install) says which others are set.
    ///
    /// # Errors
    ///
    /// If a variable does not say what it should.
    pub fn from_env() -> Result<Option<Self>, Error> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    pub(super) fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        if var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match var("OTEL_TRACES_EXPORTER").as_deref().map(str::trim) {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                return Err(Error::Variable {
                    name: "OTEL_TRACES_EXPORTER",
                    value: other.to_owned(),
                    reason: "neither otlp nor none",
                });
            }
        }
        let exact = var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").map(Self::at);
        let base = || var("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| Self::new(&base));
        let Some(mut settings) = exact.or_else(base) else {
            return Ok(None);
        };
        let either = |name: &'static str, general: &'static str| {
            let exact = var(name).map(|value| (name, value));
            exact.or_else(|| var(general).map(|value| (general, value)))
        };
        let found = either(
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        );
        settings.protocol = protocol(found)?;
        let found = either("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS");
        settings.headers = headers(found)?;
        settings.gzip = gzip(either(
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
        ))?;
        let timeout = either("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT");
        let file = |name, general| either(name, general).map(|(_, value)| PathBuf::from(value.trim()));
        settings.certificate = file(
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
        );
        let own = file(
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        );
        let key = file(
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        );
        settings.client = match (own, key) {
            (Some(own), Some(key)) => Some((own, key)),
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                return Err(Error::Variable {
                    name: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                    value: one.display().to_string(),
                    reason: "certificate and key go together",
                });
            }
        };
        // How batches are made up is told of spans; of metrics there is one.
        let of_batches = |name: &'static str| var(name).map(|value| (name, value));
        if let Some(millis) = above_zero(of_batches("OTEL_BSP_EXPORT_TIMEOUT"))? {
            settings.timeout = Duration::from_millis(millis);
        }
        if let Some(millis) = above_zero(timeout)? {
            settings.timeout = Duration::from_millis(millis);
        }
        if let Some(millis) = above_zero(of_batches("OTEL_BSP_SCHEDULE_DELAY"))? {
            settings.interval = Duration::from_millis(millis);
        }
        if let Some(many) = above_zero(of_batches("OTEL_BSP_MAX_QUEUE_SIZE"))? {
            settings.queue = usize::try_from(many).unwrap_or(MOST).min(MOST);
        }
        if let Some(many) = above_zero(of_batches("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"))? {
            settings.batch = usize::try_from(many).unwrap_or(MOST).min(settings.queue);
        }
        settings.service_name = var("OTEL_SERVICE_NAME");
        settings.sampling = sampling(&var)?;
        Ok(Some(settings))
    }
}

fn above_zero(found: Option<(&'static str, String)>) -> Result<Option<u64>, Error> {
    let Some((name, value)) = found else {
        return Ok(None);
    };
    match value.trim().parse() {
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => Err(Error::Variable {
            name,
            value,
            reason: "not a number above zero",
        }),
    }
}

fn protocol(found: Option<(&'static str, String)>) -> Result<OtlpProtocol, Error> {
    match found {
        None => Ok(OtlpProtocol::default()),
        Some((_, value)) if value == "http/protobuf" => Ok(OtlpProtocol::Http),
        Some((_, value)) if value == "grpc" => Ok(OtlpProtocol::Grpc),
        Some((name, value)) => Err(Error::Variable {
            name,
            value,
            reason: "neither http/protobuf nor grpc",
        }),
    }
}

fn gzip(found: Option<(&'static str, String)>) -> Result<bool, Error> {
    match found.as_ref().map(|(_, value)| value.trim()) {
        None | Some("none") => Ok(false),
        Some("gzip") => Ok(true),
        Some(_) => {
            let (name, value) = found.unwrap_or_default();
            Err(Error::Variable {
                name,
                value,
                reason: "neither gzip nor none",
            })
        }
    }
}

/// `key=value` pairs, separated by commas, values as in a URL.
fn headers(found: Option<(&'static str, String)>) -> Result<Vec<(String, String)>, Error> {
    let Some((name, text)) = found else {
        return Ok(Vec::new());
    };
    let pairs = text
        .split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let (key, value) = (key.trim(), decoded(value.trim())?);
            let is_header =
                HeaderName::from_bytes(key.as_bytes()).is_ok() && HeaderValue::from_str(&value).is_ok();
            is_header.then(|| (key.to_owned(), value))
        });
    pairs.collect::<Option<_>>().ok_or_else(|| Error::Variable {
        name,
        // It may hold a key that nobody should see.
        value: "…".to_owned(),
        reason: "not a list of header=value, separated by commas",
    })
}

/// A text without its percent escapes; `None` if one of them is none.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn sampling(var: &impl Fn(&str) -> Option<String>) -> Result<Sampling, Error> {
    let Some(name) = var("OTEL_TRACES_SAMPLER") else {
        return Ok(Sampling::default());
    };
    let root = name.strip_prefix("parentbased_");
    let ratio = match root.unwrap_or(&name) {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => ratio(var("OTEL_TRACES_SAMPLER_ARG"))?,
        _ => {
            return Err(Error::Variable {
                name: "OTEL_TRACES_SAMPLER",
                value: name,
                reason: "not one of [parentbased_]always_on, …always_off, …traceidratio",
            });
        }
    };
    Ok(Sampling {
        ratio,
        parent_based: root.is_some(),
    })
}

fn ratio(value: Option<String>) -> Result<f64, Error> {
    let Some(value) = value else {
        return Ok(1.0);
    };
    let ratio = value.trim().parse().ok();
    let share = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    share.ok_or(Error::Variable {
        name: "OTEL_TRACES_SAMPLER_ARG",
        value,
        reason: "not a number from 0 to 1",
    })
}
