//! What an authorizer says, and what it changes.

use ::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};

use crate::layer::MOST_FIELDS;

/// What an authorizer says.
#[derive(Debug)]
pub(super) enum Answer {
    Allowed(Changes),
    Denied {
        status: StatusCode,
        headers: HeaderMap,
        body: String,
    },
}

/// What an authorizer that allows changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In the request.
    pub(super) headers: Vec<(HeaderName, HeaderValue, How)>,
    pub(super) removed: Vec<HeaderName>,
    pub(super) query_set: Vec<(String, String)>,
    pub(super) query_removed: Vec<String>,
    /// In the response.
    pub(super) response: HeaderMap,
}

/// What a header does to one of its name that is there already (Envoy `HeaderValueOption`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Takes its place.
    Set,
    /// Stands beside it, or alone.
    Add,
    /// Goes on from it, after a comma; nothing where there is none.
    AddToPresent,
    /// Yields to it.
    IfAbsent,
    /// Takes its place; nothing where there is none.
    IfPresent,
}

/// Whether an answer has no more header fields than a request may have: they end up in one, or in a response.
pub(in crate::layer) fn few(fields: usize) -> Result<(), String> {
    match fields <= MOST_FIELDS {
        true => Ok(()),
        false => Err(format!("the answer has {fields} header fields")),
    }
}

impl Changes {
    /// Changes the request, and notes what the response gets.
    ///
    /// # Errors
    /// If the changes cannot be made; then none is.
    pub(super) fn apply<B>(self, request: &mut Request<B>, response: &mut HeaderMap) -> Result<(), String> {
        if !self.query_set.is_empty() || !self.query_removed.is_empty() {
            let uri = with_query(request.uri(), &self.query_set, &self.query_removed);
            *request.uri_mut() = uri.ok_or("the query that the answer asks for is none")?;
        }
        let headers = request.headers_mut();
        for name in self.removed.iter().filter(|name| may_change(name)) {
            headers.remove(name);
        }
        for (name, value, how) in self.headers {
            if !may_change(&name) {
                continue;
            }
            let present = headers.contains_key(&name);
            match how {
                How::Set => drop(headers.insert(name, value)),
                How::Add => drop(headers.append(name, value)),
                How::AddToPresent => join(headers.get_mut(&name), &value),
                How::IfAbsent if !present => drop(headers.insert(name, value)),
                How::IfPresent if present => drop(headers.insert(name, value)),
                How::IfAbsent | How::IfPresent => {}
            }
        }
        response.extend(self.response);
        Ok(())
    }
}

/// Writes a value behind one that is there.
fn join(present: Option<&mut HeaderValue>, value: &HeaderValue) {
    let Some(present) = present else { return };
    let joined = [present.as_bytes(), b",", value.as_bytes()].concat();
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        *present = joined;
    }
}

/// Headers that frame a message or name its destination are not an authorizer's to write.
pub(in crate::layer) fn may_change(name: &HeaderName) -> bool {
    ![
        HOST,
        CONNECTION,
        CONTENT_LENGTH,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ]
    .contains(name)
}

fn with_query(uri: &Uri, set: &[(String, String)], removed: &[String]) -> Option<Uri> {
    let name = |text: &str| text.split_once('=').map_or(text, |(name, _)| name).to_owned();
    let gone = |text: &&str| {
        let name = name(text);
        removed.contains(&name) || set.iter().any(|(wanted, _)| *wanted == name)
    };
    let mut pairs: Vec<String> = uri
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|text| !text.is_empty() && !gone(text))
        .map(str::to_owned)
        .collect();
    pairs.extend(
        set.iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value))),
    );
    let text = match pairs.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), pairs.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

/// Percent-encodes what RFC 3986 does not leave unreserved.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
