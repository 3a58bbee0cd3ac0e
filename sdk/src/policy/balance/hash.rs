//! What a request is hashed by, so that like requests find the same endpoint.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use twox_hash::XxHash64;

use crate::policy::RequestHead;

/// The hash of everything consistent hashing looks at: xxHash64 with seed 0, as Envoy's.
pub fn hash_of(bytes: impl AsRef<[u8]>) -> u64 {
    XxHash64::oneshot(0, bytes.as_ref())
}

/// The same with another seed.
pub(super) fn hash_with(seed: u64, bytes: &[u8]) -> u64 {
    XxHash64::oneshot(seed, bytes)
}

/// Which part of a request is hashed (`consistentHash` of a DestinationRule).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The values of a header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(HashCookie),
    /// The caller's address, without its port.
    SourceIp,
    /// The first value of a query parameter.
    Query(Box<str>),
}

/// A cookie that requests are hashed by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashCookie {
    /// Its name.
    pub name: Box<str>,
    /// Its path, when it is made here.
    pub path: Box<str>,
    /// How long it is good for, when it is made here: zero for a session. `None`: none is made.
    pub ttl: Option<Duration>,
    /// Further attributes, when it is made here.
    pub attributes: Box<[(Box<str>, Box<str>)]>,
}

/// What a request is hashed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// To this.
    To(u64),
    /// To this, by a cookie that the caller does not have yet and must be given.
    Made(u64, HeaderValue),
    /// To nothing: any endpoint will do.
    Nothing,
}

impl Hashed {
    /// The hash, if there is one.
    pub fn value(&self) -> Option<u64> {
        match self {
            Self::To(hash) | Self::Made(hash, _) => Some(*hash),
            Self::Nothing => None,
        }
    }
}

impl HashKey {
    /// What a request is hashed to. `source` is the caller's address; `random` is what a new cookie is made of.
    pub fn of(&self, head: &RequestHead<'_>, source: IpAddr, random: u64) -> Hashed {
        match self {
            Self::Header(name) => of_header(head.headers, name),
            Self::Cookie(cookie) => match cookie_value(head.headers, &cookie.name) {
                Some(value) => Hashed::To(hash_of(value)),
                None => cookie.make(random),
            },
            Self::SourceIp => Hashed::To(hash_of(Text::of(source.to_canonical()).as_bytes())),
            Self::Query(name) => match query_value(head.query, name) {
                Some(value) => Hashed::To(hash_of(value)),
                None => Hashed::Nothing,
            },
        }
    }
}

/// One value is hashed as it is; several are hashed in order of their bytes, one after another.
fn of_header(headers: &HeaderMap, name: &HeaderName) -> Hashed {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return Hashed::Nothing;
    };
    let Some(second) = values.next() else {
        return Hashed::To(hash_of(first));
    };
    let mut all: smallvec::SmallVec<[&[u8]; 8]> = smallvec::smallvec![first.as_bytes(), second.as_bytes()];
    all.extend(values.map(HeaderValue::as_bytes));
    all.sort_unstable();
    // Each hash is the seed of the next.
    Hashed::To(all.iter().fold(0, |seed, value| hash_with(seed, value)))
}

impl HashCookie {
    fn make(&self, random: u64) -> Hashed {
        let Some(ttl) = self.ttl else {
            return Hashed::Nothing;
        };
        let value = format!("{:016x}", hash_of(random.to_le_bytes()));
        let mut cookie = format!("{}=\"{value}\"", self.name);
        // Writing to a string does not fail.
        if !ttl.is_zero() {
            let _ = write!(cookie, "; Max-Age={}", ttl.as_secs());
        }
        if !self.path.is_empty() {
            let _ = write!(cookie, "; Path={}", self.path);
        }
        for (name, value) in &self.attributes {
            let _ = match value.is_empty() {
                true => write!(cookie, "; {name}"),
                false => write!(cookie, "; {name}={value}"),
            };
        }
        cookie.push_str("; HttpOnly");
        match HeaderValue::try_from(cookie) {
            Ok(header) => Hashed::Made(hash_of(value), header),
            // A name or path that no header can carry: compile refuses such.
            Err(_) => Hashed::Nothing,
        }
    }
}

/// The value of the first cookie of this name, without its quotes.
fn cookie_value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let pairs = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).map(str::trim);
    let (_, value) = pairs.find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(unquoted.unwrap_or(value)).filter(|value| !value.is_empty())
}

/// The first value of a query parameter, as it is written.
fn query_value<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// Room for the text of an address, so that writing one allocates nothing.
struct Text {
    bytes: [u8; 48],
    len: usize,
}

impl Text {
    fn of(ip: IpAddr) -> Self {
        let mut text = Self {
            bytes: [0; 48],
            len: 0,
        };
        // The longest address has 45 bytes.
        let _ = write!(text, "{ip}");
        text
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::Method;

    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 1));

    fn hashed(key: &HashKey, query: Option<&str>, headers: &[(&'static str, &str)]) -> Hashed {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        key.of(
            &RequestHead::unsent(&Method::GET, "svc", "/x", query, &map),
            SOURCE,
            7,
        )
    }

    #[test]
    fn every_part_of_a_request_can_be_the_key() {
        let header = HashKey::Header(HeaderName::from_static("x-user"));
        assert_eq!(
            hashed(&header, None, &[("x-user", "a")]),
            Hashed::To(hash_of("a"))
        );
        assert_eq!(hashed(&header, None, &[]), Hashed::Nothing);
        let both = hashed(&header, None, &[("x-user", "b"), ("x-user", "a")]);
        assert_eq!(both, hashed(&header, None, &[("x-user", "a"), ("x-user", "b")]));
        assert_ne!(both, Hashed::To(hash_of("ab")));
        let query = HashKey::Query("u".into());
        assert_eq!(hashed(&query, Some("z=1&u=b&u=c"), &[]), Hashed::To(hash_of("b")));
        assert_eq!(hashed(&query, Some("uu=b"), &[]), Hashed::Nothing);
        assert_eq!(
            hashed(&HashKey::SourceIp, None, &[]),
            Hashed::To(hash_of("10.1.1.1"))
        );
    }

    #[test]
    fn a_cookie_is_made_only_where_a_lifetime_is_given() {
        let cookie = |ttl: Option<u64>| {
            HashKey::Cookie(HashCookie {
                name: "c".into(),
                path: "/p".into(),
                ttl: ttl.map(Duration::from_secs),
                attributes: Box::new([("SameSite".into(), "Strict".into())]),
            })
        };
        let present = [("cookie", "a=b; c=\"v1\"; d=2")];
        assert_eq!(
            hashed(&cookie(Some(0)), None, &present),
            Hashed::To(hash_of("v1"))
        );
        assert_eq!(hashed(&cookie(None), None, &[]), Hashed::Nothing);
        let Hashed::Made(hash, header) = hashed(&cookie(Some(60)), None, &[]) else {
            panic!("no cookie was made");
        };
        let text = header.to_str().unwrap();
        let value = text.split('"').nth(1).unwrap();
        assert_eq!(hash, hash_of(value));
        assert_eq!(
            text,
            format!("c=\"{value}\"; Max-Age=60; Path=/p; SameSite=Strict; HttpOnly")
        );
        // Who brings it back finds the same endpoint.
        let back = format!("c={value}");
        assert_eq!(
            hashed(&cookie(Some(60)), None, &[("cookie", &back)]),
            Hashed::To(hash)
        );
    }
}
