//! Custom tags of spans.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderName;

use crate::telemetry::access::{Entry, Format, Wanted};

/// A custom tag (Istio `Tracing.CustomTag`).
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    name: Arc<str>,
    value: Source,
}

#[derive(Clone, Debug, PartialEq)]
enum Source {
    /// Also what an environment variable held when the configuration was read.
    Literal(Arc<str>),
    Header {
        name: HeaderName,
        default: Option<Arc<str>>,
    },
    Format(Format),
}

impl Tag {
    /// A tag that always has this value.
    pub fn literal(name: &str, value: &str) -> Self {
        Self {
            name: name.into(),
            value: Source::Literal(value.into()),
        }
    }

    /// A tag with the value of a request header; left out where there is neither that nor a default.
    pub fn header(name: &str, header: HeaderName, default: Option<&str>) -> Self {
        Self {
            name: name.into(),
            value: Source::Header {
                name: header,
                default: default.filter(|it| !it.is_empty()).map(Into::into),
            },
        }
    }

    /// A tag that is formatted as access logs are.
    pub fn format(name: &str, format: Format) -> Self {
        Self {
            name: name.into(),
            value: Source::Format(format),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What must be kept of a request for it.
    pub fn wanted(&self) -> Wanted {
        match &self.value {
            Source::Literal(_) => Wanted::default(),
            Source::Header { name, .. } => Wanted {
                request: vec![name.clone()],
                ..Wanted::default()
            },
            Source::Format(format) => format.wanted(),
        }
    }

    /// Its value for a request; `None` leaves it out.
    pub fn value<'e>(&'e self, entry: &'e Entry<'_>) -> Option<Cow<'e, str>> {
        match &self.value {
            Source::Literal(text) => Some(Cow::Borrowed(text)),
            Source::Header { name, default } => match entry.request.get(name) {
                Some(value) => Some(String::from_utf8_lossy(value.as_bytes())),
                None => default.as_deref().map(Cow::Borrowed),
            },
            Source::Format(format) => {
                let mut text = format.render(entry);
                text.truncate(text.trim_end_matches('\n').len());
                // What an operator without a value leaves.
                (!text.is_empty() && text != "-").then_some(Cow::Owned(text))
            }
        }
    }
}
