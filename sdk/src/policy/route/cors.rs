//! Cross-origin requests (Fetch standard §3.3; Gateway API, HTTPCORSFilter; Istio, CorsPolicy).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::matcher::FullRegex;

/// Which other origins may use what a rule serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Who may.
    pub origins: Box<[OriginPattern]>,
    /// With which methods.
    pub methods: Listed,
    /// With which request headers.
    pub headers: Listed,
    /// Which response headers a page may read.
    pub expose: Listed,
    /// Whether credentials may come along.
    pub credentials: bool,
    /// How many seconds a browser may remember the answer; left to the browser if `None`.
    pub max_age: Option<u64>,
    /// What becomes of a preflight from elsewhere.
    pub unmatched: UnmatchedPreflight,
    /// Whether what the backend itself says about other origins is discarded, so that the policy is the only word on
    /// it. Istio leaves what it does not replace.
    pub exclusive: bool,
}

/// Names in a header of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// The header is left out.
    #[default]
    None,
    /// These, as they are written.
    Names(HeaderValue),
    /// Whatever is asked for.
    Any,
}

/// What becomes of a preflight whose origin may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmatchedPreflight {
    /// It is answered, without a word of permission.
    Answer,
    /// It is sent on.
    Forward,
}

/// Which origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// Every origin.
    Any,
    /// A scheme, hosts and a port, as Gateway API writes them.
    Web {
        /// `https` rather than `http`.
        secure: bool,
        /// The hosts.
        host: OriginHost,
        /// The port.
        port: u16,
    },
    /// The whole origin is this text.
    Exact(Box<str>),
    /// The origin begins so.
    Prefix(Box<str>),
    /// The whole origin matches.
    Regex(FullRegex),
}

/// The hosts of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginHost {
    /// Every host.
    Any,
    /// Those that end so; the leading dot included.
    Suffix(Box<str>),
    /// This one.
    Exact(Box<str>),
}

/// What a policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsVerdict {
    /// It is not from another origin, as far as it says.
    SameOrigin,
    /// It is a question whether a request may be sent: the answer's headers.
    Preflight(HeaderMap),
    /// It is sent on; the response is finished with [`Cors::finish`]. `Some` is an origin that may.
    Actual(Option<HeaderValue>),
}

impl Cors {
    /// Judges a request.
    pub fn judge(&self, method: &Method, headers: &HeaderMap) -> CorsVerdict {
        let Some(origin) = headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else {
            return CorsVerdict::SameOrigin;
        };
        let allowed = origin
            .to_str()
            .is_ok_and(|text| self.origins.iter().any(|pattern| pattern.matches(text)));
        let asked = headers
            .get(ACCESS_CONTROL_REQUEST_METHOD)
            .filter(|asked| *method == Method::OPTIONS && !asked.is_empty());
        match (asked, allowed) {
            (Some(asked), true) => CorsVerdict::Preflight(self.permission(origin, asked, headers)),
            (Some(_), false) if self.unmatched == UnmatchedPreflight::Answer => {
                let mut answer = HeaderMap::with_capacity(1);
                answer.insert(VARY, HeaderValue::from_static("origin"));
                CorsVerdict::Preflight(answer)
            }
            _ => CorsVerdict::Actual(allowed.then(|| origin.clone())),
        }
    }

    /// The origin is always repeated rather than answered with `*`, which Gateway API leaves open and credentials forbid.
    fn permission(&self, origin: &HeaderValue, asked: &HeaderValue, headers: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::with_capacity(8);
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(VARY, HeaderValue::from_static("origin"));
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        let lists = [
            (ACCESS_CONTROL_ALLOW_METHODS, &self.methods, Some(asked)),
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.headers, wanted),
            (ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose, None),
        ];
        for (name, list, asked) in lists {
            let value = match list {
                Listed::None => None,
                Listed::Names(names) => Some(names),
                Listed::Any => asked,
            };
            answer.extend(value.cloned().map(|value| (name, value)));
        }
        if let Some(seconds) = self.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
        }
        answer
    }

    /// Gives a response what belongs to it; `origin` is that of [`CorsVerdict::Actual`].
    pub fn finish(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.exclusive {
            for name in ANSWERS {
                headers.remove(name);
            }
        }
        vary_by_origin(headers);
        let Some(origin) = origin else { return };
        let exposed = match &self.expose {
            Listed::None => None,
            Listed::Names(names) => Some(names.clone()),
            // `*` is a name like any other where credentials are allowed (Fetch §3.3.3): all names are written out.
            Listed::Any if self.credentials => names_of(headers),
            Listed::Any => Some(HeaderValue::from_static("*")),
        };
        let mut set = |name: HeaderName, value: HeaderValue| {
            let _ = headers.try_insert(name, value);
        };
        set(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            set(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = exposed {
            set(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}

/// Every header by which a response speaks about other origins.
const ANSWERS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// Keeps caches from giving one origin's answer to another.
fn vary_by_origin(headers: &mut HeaderMap) {
    let said = headers
        .get_all(VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|token| token == "*" || token.eq_ignore_ascii_case("origin"));
    if !said {
        let _ = headers.try_append(VARY, HeaderValue::from_static("origin"));
    }
}

/// The names of a response's headers, as a list; `None` if there is nothing to name.
fn names_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    (!names.is_empty())
        .then(|| HeaderValue::try_from(names.join(", ")).ok())
        .flatten()
}

impl OriginPattern {
    /// Reads `*`, or `http(s)://host(:port)` whose host may be `*` or begin with `*.`. The scheme's own port is assumed
    /// where none is written. `None` if the text is anything else.
    pub fn web(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (secure, host, port) = parts(text)?;
        let host = host.to_ascii_lowercase();
        let labels = |text: &str| {
            let is_label = |label: &str| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            text.split('.').all(is_label)
        };
        let host = match host.strip_prefix('*') {
            Some("") => OriginHost::Any,
            Some(suffix) if suffix.strip_prefix('.').is_some_and(labels) => OriginHost::Suffix(suffix.into()),
            None if labels(&host) => OriginHost::Exact(host.into()),
            _ => return None,
        };
        Some(Self::Web { secure, host, port })
    }

    /// Whether an origin matches, as a browser writes it.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Web { secure, host, port } => parts(origin).is_some_and(|(scheme, name, number)| {
                scheme == *secure && number == *port && host.matches(name)
            }),
            Self::Exact(text) => **text == *origin,
            Self::Prefix(text) => origin.starts_with(&**text),
            Self::Regex(regex) => regex.is_match(origin),
        }
    }
}

impl OriginHost {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => !host.is_empty(),
            Self::Exact(exact) => exact.eq_ignore_ascii_case(host),
            Self::Suffix(suffix) => {
                let at = host.len().checked_sub(suffix.len());
                at.filter(|at| *at > 0)
                    .and_then(|at| host.get(at..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }
}

/// Scheme, host and port of an origin.
fn parts(origin: &str) -> Option<(bool, &str, u16)> {
    let (scheme, rest) = origin.split_once("://")?;
    let secure = match scheme {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let own = if secure { 443 } else { 80 };
    match rest.rsplit_once(':') {
        // A colon within brackets belongs to an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) if port > 0 => Some((secure, host, port)),
            _ => None,
        },
        _ => Some((secure, rest, own)),
    }
}

#[cfg(test)]
mod tests;
