//! The header fields that are kept of a message: so few that they are searched one by one.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Header fields that are kept of a message, in few. Istio's default line asks for four of a request; most have fewer.
#[derive(Clone, Debug, Default)]
pub struct Fields(SmallVec<[(HeaderName, HeaderValue); 3]>);

impl Fields {
    /// None.
    pub const fn new() -> Self {
        Self(SmallVec::new_const())
    }

    /// Keeps those of `headers` that are wanted and not kept already.
    pub fn keep(&mut self, headers: &HeaderMap, wanted: &[HeaderName]) {
        for name in wanted {
            if self.get(name).is_some() {
                continue;
            }
            let values = headers.get_all(name).iter();
            self.0.extend(values.map(|value| (name.clone(), value.clone())));
        }
    }

    /// Keeps this one, if there is none of that name.
    pub fn or_keep(&mut self, name: HeaderName, value: HeaderValue) {
        if self.get(&name).is_none() {
            self.0.push((name, value));
        }
    }

    /// The first value of a field.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let found = self.0.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value)
    }

    /// All values of a field as one, as expressions have it.
    pub(in crate::telemetry) fn joined(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        let of_name = self.0.iter().filter(|(it, _)| it == name);
        joined(of_name.map(|(_, value)| value))
    }
}

/// Values as one, with commas between them (Envoy `getAllOfHeaderAsString`).
pub(in crate::telemetry) fn joined<'v>(
    mut values: impl Iterator<Item = &'v HeaderValue>,
) -> Option<Cow<'v, str>> {
    let first = lossy(values.next()?);
    Some(values.fold(first, |all, next| Cow::Owned(format!("{all},{}", lossy(next)))))
}

/// A value as text: what is none in it is replaced. Nearly all are text, and that is quicker to tell.
pub(in crate::telemetry) fn lossy(value: &HeaderValue) -> Cow<'_, str> {
    match str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(value.as_bytes()),
    }
}

impl From<&HeaderMap> for Fields {
    fn from(headers: &HeaderMap) -> Self {
        Self(
            headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }
}
