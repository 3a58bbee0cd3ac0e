//! Where in a request tokens stand.

use std::borrow::Cow;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};

use crate::policy::RequestHead;

/// A place in a request where a token may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a header, after a prefix.
    Header {
        /// The header.
        name: HeaderName,
        /// What stands before the token; nothing if empty.
        prefix: Box<str>,
    },
    /// In the query.
    Param(Box<str>),
    /// In a cookie.
    Cookie(Box<str>),
}

impl Location {
    /// Where tokens are looked for if nothing else is said: `Authorization: Bearer …`, then `?access_token=…`.
    pub fn defaults() -> Vec<Self> {
        vec![
            Self::Header {
                name: AUTHORIZATION,
                prefix: "Bearer ".into(),
            },
            Self::Param("access_token".into()),
        ]
    }

    /// Every text that stands there, repetitions included: whoever reads the request after us may read any of them.
    pub(super) fn each<'r>(&self, head: &RequestHead<'r>, mut found: impl FnMut(Cow<'r, str>)) {
        match self {
            Self::Header { name, prefix } => {
                for line in head.headers.get_all(name) {
                    if let Some(token) = after_prefix(line.as_bytes(), prefix) {
                        found(token);
                    }
                }
            }
            Self::Param(wanted) => {
                let pairs = head.query.into_iter().flat_map(|query| query.split('&'));
                for (name, value) in pairs.map(pair) {
                    if decoded(name) == **wanted {
                        found(decoded(value));
                    }
                }
            }
            Self::Cookie(wanted) => {
                for (name, value) in cookies(head.headers) {
                    if name == &**wanted {
                        found(Cow::Borrowed(value));
                    }
                }
            }
        }
    }
}

/// The token in a header's value; `None` if there is none. As Envoy does, the prefix may stand anywhere, and the token
/// begins with the first character after it that a token may have.
fn after_prefix<'v>(value: &'v [u8], prefix: &str) -> Option<Cow<'v, str>> {
    // What is not text is not a token either, and must be told from no token.
    let value = std::str::from_utf8(value).unwrap_or("\u{fffd}");
    if prefix.is_empty() {
        return (!value.is_empty()).then_some(Cow::Borrowed(value));
    }
    if value == "\u{fffd}" {
        return Some(Cow::Borrowed(value));
    }
    let (_, rest) = value.split_once(prefix)?;
    let start = rest.find(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    Some(Cow::Borrowed(start.map_or(value, |start| &rest[start..])))
}

/// `name=value`.
pub(super) fn pair(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

/// The cookies of a request (RFC 6265 §4.2), with one pair of quotes removed.
pub(super) fn cookies(headers: &http::HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| std::str::from_utf8(line.as_bytes()).ok())
        .flat_map(|line| line.split(';'))
        .map(|cookie| {
            let (name, value) = pair(cookie.trim());
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            (name.trim(), bare.unwrap_or(value))
        })
}

/// A text of a query with its escapes resolved.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let hex = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits fit a byte.
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}
