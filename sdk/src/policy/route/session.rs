//! Session persistence: requests of one session reach one endpoint (GEP-1619).
//!
//! The proxy keeps nothing. Where a session went is in a token that the client carries, in a cookie or a header of its
//! own; whoever applies the rule next, in this process or another, reads it.
//!
//! A token names its endpoint by a digest and counts only for endpoints of the rule's own backends: nobody can be sent
//! anywhere by it where the rule would not send somebody. It is sealed against damage and against use with another
//! rule. The seal has no secret, since every process that applies the rule must be able to read it: a client that
//! forges one gains the choice among endpoints that it could have reached anyway.

use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::policy::digest;

/// How the requests of a session are kept together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What the token is carried in.
    pub carrier: Carrier,
    /// How long a session lasts at most.
    pub absolute: Option<Duration>,
    /// How long it lasts without a request.
    pub idle: Option<Duration>,
    /// Tells rules apart: no two share sessions.
    scope: u64,
}

/// What a token is carried in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A cookie.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// For which paths the client sends it.
        path: CookiePath,
        /// Whether it outlives the browser, for as long as the session may last.
        permanent: bool,
    },
    /// A header, of requests and responses.
    Header(HeaderName),
}

/// For which paths a client sends a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookiePath {
    /// For the part of the request's path that the rule matched, and what is below.
    Matched,
    /// For this one and what is below.
    Own(Box<str>),
    /// The cookie does not say: a client makes it of the request's path (RFC 6265 §5.1.4).
    Unsaid,
}

/// What a client carries: which endpoint, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Digest of the backend, as [`digest`] makes it.
    pub backend: u64,
    /// Digest of the endpoint.
    pub endpoint: u64,
    /// When the session began, in seconds since 1970.
    pub began: u32,
    /// When it was last used.
    pub used: u32,
}

impl Session {
    /// Sessions of one rule, which `scope` names; without limits.
    pub fn new(carrier: Carrier, scope: &str) -> Self {
        Self {
            carrier,
            absolute: None,
            idle: None,
            scope: digest([scope.as_bytes()]),
        }
    }

    /// With limits: how long a session lasts at most, and without a request.
    pub fn lasting(mut self, absolute: Option<Duration>, idle: Option<Duration>) -> Self {
        (self.absolute, self.idle) = (absolute, idle);
        self
    }

    /// The token of a request, if it has one that counts at `now` (seconds since 1970).
    pub fn read(&self, headers: &HeaderMap, now: u32) -> Option<Token> {
        let text = match &self.carrier {
            Carrier::Header(name) => headers.get(name)?.to_str().ok()?,
            Carrier::Cookie { name, .. } => {
                cookies(headers).find_map(|(key, value)| (key == &**name).then_some(value))?
            }
        };
        let token = self.parse(text.trim())?;
        // A clock that differs a little between two processes must not end a session.
        let lasts = |limit: Option<Duration>, since: u32| {
            limit.is_none_or(|limit| u64::from(now.saturating_sub(since)) < limit.as_secs().max(1))
        };
        (lasts(self.absolute, token.began) && lasts(self.idle, token.used)).then_some(token)
    }

    /// What a response must carry so that the session goes on with `token`; `None` if the client has that already.
    ///
    /// `before` is the token of the request, `path` the part of its path that the rule matched.
    pub fn write(
        &self,
        token: &Token,
        before: Option<&Token>,
        path: &str,
        secure: bool,
    ) -> Option<(HeaderName, HeaderValue)> {
        let known = before.is_some_and(|before| {
            (before.backend, before.endpoint) == (token.backend, token.endpoint) && self.idle.is_none()
        });
        if known {
            return None;
        }
        let text = self.format(token);
        match &self.carrier {
            Carrier::Header(name) => Some((name.clone(), HeaderValue::try_from(text).ok()?)),
            Carrier::Cookie {
                name,
                path: own,
                permanent,
            } => {
                // A path that a client chose must not become an attribute.
                let path = match own {
                    CookiePath::Matched => Some(path),
                    CookiePath::Own(path) => Some(&**path),
                    CookiePath::Unsaid => None,
                };
                let path = path.map_or(String::new(), |path| {
                    let usable = path.starts_with('/') && !path.contains(';');
                    format!("; Path={}", if usable { path } else { "/" })
                });
                let age = match self.absolute.filter(|_| *permanent) {
                    Some(limit) => {
                        let gone = u64::from(token.used.saturating_sub(token.began));
                        format!("; Max-Age={}", limit.as_secs().saturating_sub(gone))
                    }
                    None => String::new(),
                };
                let secure = if secure { "; Secure" } else { "" };
                let cookie = format!("{name}={text}{path}{age}; HttpOnly{secure}; SameSite=Strict");
                Some((SET_COOKIE, HeaderValue::try_from(cookie).ok()?))
            }
        }
    }

    fn format(&self, token: &Token) -> String {
        let Token {
            backend,
            endpoint,
            began,
            used,
        } = token;
        let seal = self.seal(token);
        format!("{backend:016x}{endpoint:016x}{began:08x}{used:08x}{seal:016x}")
    }

    fn parse(&self, text: &str) -> Option<Token> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let number = |from: usize, to: usize| u64::from_str_radix(text.get(from..to)?, 16).ok();
        let token = Token {
            backend: number(0, 16)?,
            endpoint: number(16, 32)?,
            began: number(32, 40)? as u32,
            used: number(40, 48)? as u32,
        };
        (number(48, 64)? == self.seal(&token)).then_some(token)
    }

    fn seal(&self, token: &Token) -> u64 {
        digest([
            &self.scope.to_be_bytes()[..],
            &token.backend.to_be_bytes(),
            &token.endpoint.to_be_bytes(),
            &token.began.to_be_bytes(),
            &token.used.to_be_bytes(),
        ])
    }
}

/// The cookies of a request; there may be several headers of them (RFC 9113 §8.2.3).
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let pairs = headers.get_all(COOKIE).into_iter();
    pairs
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_800_000_000;

    fn cookie() -> Session {
        let carrier = Carrier::Cookie {
            name: "sid".into(),
            path: CookiePath::Matched,
            permanent: false,
        };
        Session::new(carrier, "ns/route/0")
    }

    fn token() -> Token {
        Token {
            backend: digest([b"v1".as_slice()]),
            endpoint: digest([b"10.0.0.1:80".as_slice()]),
            began: NOW,
            used: NOW,
        }
    }

    /// The headers of the next request of a client that got this response header.
    fn next(session: &Session, written: &(HeaderName, HeaderValue)) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let value = written.1.to_str().unwrap();
        match &session.carrier {
            Carrier::Header(name) => headers.insert(name.clone(), written.1.clone()),
            Carrier::Cookie { .. } => {
                let pair = format!("other=1; {}", value.split(';').next().unwrap());
                headers.append(COOKIE, HeaderValue::from_static("first=0"));
                headers.append(COOKIE, HeaderValue::try_from(pair).unwrap());
                None
            }
        };
        headers
    }

    #[test]
    fn what_was_written_is_read_again() {
        let header = Session::new(Carrier::Header(HeaderName::from_static("x-session")), "s");
        for session in [cookie(), header] {
            let written = session.write(&token(), None, "/a", false).unwrap();
            assert_eq!(session.read(&next(&session, &written), NOW), Some(token()));
        }
    }

    #[test]
    fn a_token_of_another_rule_or_a_damaged_one_is_none() {
        let session = cookie();
        let written = session.write(&token(), None, "/", false).unwrap();
        let carrier = session.carrier.clone();
        let other = Session::new(carrier, "ns/route/1");
        assert_eq!(other.read(&next(&session, &written), NOW), None);

        let text = session.format(&token());
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(
                session.parse(std::str::from_utf8(&damaged).unwrap()),
                None,
                "{at}"
            );
        }
        for text in ["", "x", &text[1..], &"é".repeat(32)] {
            assert_eq!(session.parse(text), None);
        }
    }

    #[test]
    fn a_session_ends_with_its_time() {
        let seconds = |n| Some(Duration::from_secs(n));
        let session = Session {
            absolute: seconds(100),
            idle: seconds(10),
            ..cookie()
        };
        let at = |used, now| {
            let token = Token { used, ..token() };
            let written = session.write(&token, None, "/", false).unwrap();
            session.read(&next(&session, &written), now).is_some()
        };
        assert!(at(NOW, NOW + 9) && !at(NOW, NOW + 10));
        assert!(at(NOW + 95, NOW + 99) && !at(NOW + 95, NOW + 100));
        // Written by a process whose clock is ahead.
        assert!(at(NOW + 5, NOW));
    }

    #[test]
    fn a_token_is_given_only_when_it_is_news() {
        let token = token();
        let moved = Token { endpoint: 7, ..token };
        assert!(cookie().write(&token, None, "/", false).is_some());
        assert!(cookie().write(&token, Some(&token), "/", false).is_none());
        assert!(cookie().write(&moved, Some(&token), "/", false).is_some());
        let idle = Session {
            idle: Some(Duration::from_secs(10)),
            ..cookie()
        };
        assert!(idle.write(&token, Some(&token), "/", false).is_some());
    }

    #[test]
    fn cookies_say_where_and_how_long() {
        let text = |session: &Session, token: &Token, path, secure| {
            let (name, value) = session.write(token, None, path, secure).unwrap();
            assert_eq!(name, SET_COOKIE);
            let (_, attributes) = value.to_str().unwrap().split_once("; ").unwrap();
            attributes.to_owned()
        };
        assert_eq!(
            text(&cookie(), &token(), "/a", false),
            "Path=/a; HttpOnly; SameSite=Strict"
        );
        assert_eq!(
            text(&cookie(), &token(), "", true),
            "Path=/; HttpOnly; Secure; SameSite=Strict"
        );
        let permanent = Session {
            carrier: Carrier::Cookie {
                name: "sid".into(),
                path: CookiePath::Own("/own".into()),
                permanent: true,
            },
            absolute: Some(Duration::from_secs(3600)),
            ..cookie()
        };
        let later = Token {
            used: NOW + 600,
            ..token()
        };
        assert_eq!(
            text(&permanent, &later, "/a", false),
            "Path=/own; Max-Age=3000; HttpOnly; SameSite=Strict"
        );
        let unsaid = Session {
            carrier: Carrier::Cookie {
                name: "sid".into(),
                path: CookiePath::Unsaid,
                permanent: false,
            },
            ..cookie()
        };
        assert_eq!(text(&unsaid, &token(), "/a", false), "HttpOnly; SameSite=Strict");
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,80}") {
            let _ = cookie().parse(&text);
            if let Ok(value) = HeaderValue::from_str(&text) {
                let mut headers = HeaderMap::new();
                headers.insert(COOKIE, value);
                let _ = cookie().read(&headers, NOW);
            }
        }
    }
}
