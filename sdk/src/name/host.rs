//! Host names and authorities as callers write them.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// Most characters that a name may have (RFC 1035 §2.3.4).
const LONGEST: usize = 253;

/// Why a text is not an authority we accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Nothing there.
    #[error("the authority is empty")]
    Empty,
    /// `user@host`.
    #[error("an authority must not carry user information")]
    UserInfo,
    /// The port is not a number between 1 and 65535.
    #[error("`{0}` is not a port between 1 and 65535")]
    Port(String),
    /// A port is required here.
    #[error("the authority has no port")]
    NoPort,
    /// A character that has no place in a host.
    #[error("the host has a character that is not allowed")]
    Character,
    /// An IPv6 address without brackets, with a zone, or malformed.
    #[error("the IPv6 address is malformed, unbracketed or scoped")]
    Ipv6,
    /// Two dots side by side, or one at the beginning.
    #[error("the host has an empty label")]
    Label,
    /// Longer than 253 characters.
    #[error("the host is longer than 253 characters")]
    Long,
}

/// A host without its port: a lower-cased DNS name without a trailing dot, or an IP address.
///
/// Names compare case-insensitively because they are stored in lower case (RFC 9110 §4.2.3); one
/// trailing dot, the DNS root, is dropped.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

impl Host {
    /// Reads a host without a port.
    ///
    /// # Errors
    /// If it is empty, too long, or holds a character that neither a DNS name, `*.`-wildcard nor IP address has.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        Ok(check_host(text)?.with_text(|text| Self(text.into())))
    }

    /// Splits an authority (`host`, `host:port`, `[v6]:port`) into host and port.
    ///
    /// # Errors
    /// As [`Host::parse`]; also for user information, a port of 0, and a port that is not a number.
    pub fn parse_authority(text: &str) -> Result<(Self, Option<u16>), HostError> {
        let (host, port) = split_authority(text)?;
        Ok((Self::parse(host)?, port))
    }

    /// The host as text: lower case, IPv6 without brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, where the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

/// So that tables by host can be asked with text, without making a host first; it finds something only if the text is
/// in the form that a `Host` has.
impl std::borrow::Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A host that was looked at, and not copied.
pub(crate) enum Checked<'a> {
    /// An address.
    Ip(IpAddr),
    /// A name, in whatever case.
    Name(&'a str),
}

impl Checked<'_> {
    /// The address, where the host is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Name(_) => None,
        }
    }

    /// Calls with the text that a [`Host`] of this would have.
    pub(crate) fn with_text<R>(&self, then: impl FnOnce(&str) -> R) -> R {
        let mut buffer = [0_u8; LONGEST];
        let mut rest = &mut buffer[..];
        // Neither fails: a name that was looked at fits, and so does every address.
        let _ = match self {
            Self::Name(name) if !name.bytes().any(|byte| byte.is_ascii_uppercase()) => return then(name),
            Self::Name(name) => rest.write_all(name.as_bytes()),
            Self::Ip(ip) => write!(rest, "{ip}"),
        };
        let length = LONGEST - rest.len();
        let text = &mut buffer[..length];
        text.make_ascii_lowercase();
        then(std::str::from_utf8(text).unwrap_or_default())
    }
}

/// Looks at a host without a port.
///
/// # Errors
/// As [`Host::parse`].
pub(crate) fn check_host(text: &str) -> Result<Checked<'_>, HostError> {
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    let inner = match text.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']').ok_or(HostError::Ipv6)?;
            inner.parse::<std::net::Ipv6Addr>().map_err(|_| HostError::Ipv6)?;
            inner
        }
        None => text,
    };
    if let Ok(ip) = inner.parse::<IpAddr>() {
        return Ok(Checked::Ip(ip));
    }
    if inner.contains(':') {
        return Err(HostError::Ipv6);
    }
    let name = inner.strip_suffix('.').unwrap_or(inner);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    // Else `a..` would be `a.`, which is read as yet another name: `a`.
    if name.split('.').any(str::is_empty) {
        return Err(HostError::Label);
    }
    if name.len() > LONGEST {
        return Err(HostError::Long);
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'*');
    if !name.bytes().all(allowed) {
        return Err(HostError::Character);
    }
    Ok(Checked::Name(name))
}

/// Whether a request may name this authority; as [`Host::parse_authority`] without making anything, and a pattern is
/// no host to send a request to.
pub(crate) fn check_authority(text: &str) -> Result<(), HostError> {
    if is_plain(text.as_bytes()) {
        return Ok(());
    }
    let (host, _) = split_authority(text)?;
    match check_host(host)? {
        Checked::Name(name) if name.contains('*') => Err(HostError::Character),
        _ => Ok(()),
    }
}

/// Whether an authority is one of those that nearly all are, seen at one glance: a name that begins with a letter, and
/// perhaps a port that begins with another digit than 0. What is not may be one all the same.
fn is_plain(text: &[u8]) -> bool {
    if !text.first().is_some_and(u8::is_ascii_alphabetic) || text.len() > LONGEST {
        return false;
    }
    let mut before = b'.';
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'.' if before != b'.' => {}
            b':' => {
                let port = &text[at + 1..];
                let digits = port.iter().all(u8::is_ascii_digit);
                return before != b'.' && digits && matches!(port, [b'1'..=b'9', ..]) && port.len() <= 4;
            }
            _ => return false,
        }
        before = *byte;
    }
    true
}

/// Splits an authority into its host text (brackets kept) and port, without copying.
///
/// # Errors
/// As [`Host::parse_authority`].
pub(crate) fn split_authority(text: &str) -> Result<(&str, Option<u16>), HostError> {
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    if text.contains('@') {
        return Err(HostError::UserInfo);
    }
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or(HostError::Ipv6)?;
        let (host, rest) = text.split_at(end + 1);
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(HostError::Ipv6),
        }
    } else {
        match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => return Err(HostError::Ipv6),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let Some(port) = port else { return Ok((host, None)) };
    let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if digits && number != 0 => Ok((host, Some(number))),
        _ => Err(HostError::Port(port.chars().take(20).collect())),
    }
}

/// Calls with the host of an authority, in lower case, without port and trailing dot; with the empty text where
/// the authority is malformed, so that only routes for every host can match.
pub(crate) fn with_lower_host<R>(authority: &str, then: impl FnOnce(&str) -> R) -> R {
    let host = split_authority(authority).map_or("", |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return then(host);
    }
    let mut buffer = [0_u8; LONGEST];
    let Some(lower) = buffer.get_mut(..host.len()) else {
        return then("");
    };
    lower.copy_from_slice(host.as_bytes());
    lower.make_ascii_lowercase();
    then(std::str::from_utf8(lower).unwrap_or(""))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_split() {
        let split = |t| Host::parse_authority(t).map(|(h, p)| (h.as_str().to_owned(), p));
        assert_eq!(
            split("Reviews.Default:9080"),
            Ok(("reviews.default".into(), Some(9080)))
        );
        assert_eq!(split("reviews."), Ok(("reviews".into(), None)));
        assert_eq!(split("127.1.0.4:9080"), Ok(("127.1.0.4".into(), Some(9080))));
        assert_eq!(split("[::1]:80"), Ok(("::1".into(), Some(80))));
        assert_eq!(split("[::1]"), Ok(("::1".into(), None)));
    }

    #[test]
    fn malformed_authorities_are_refused() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
            "a:99999999",
            "u@a:80",
            "::1:80",
            "[::1",
            "[::1]x",
            "[fe80::1%eth0]:80",
            "a\0:80",
            "a b",
            "a/b",
            ".",
            "..",
            "a..",
            "a..:80",
            ".a",
            "a..b",
            "[::1].",
        ] {
            assert!(Host::parse_authority(text).is_err(), "{text:?}");
        }
        assert!(Host::parse_authority(&"a".repeat(65_536)).is_err());
    }

    #[test]
    fn a_request_cannot_be_for_a_pattern() {
        assert_eq!(check_authority("*.example.com:80"), Err(HostError::Character));
        assert_eq!(check_authority("Reviews.default.:9080"), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}") {
            let parsed = Host::parse_authority(&text);
            let is_pattern = text.contains('*');
            proptest::prop_assert_eq!(check_authority(&text).is_ok(), parsed.is_ok() && !is_pattern);
        }
    }
}
