//! A request to be explained.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use serde::Deserialize;

use crate::name::{Host, SpiffeId, split_authority};
use crate::policy::connection::Opening;
use crate::policy::normalize::{PathNormalization, normalize};
use crate::policy::{Caller, RequestHead};
use crate::snapshot::{Claims, Place};

/// A request to be explained, or a connection: what it looks like, and who sends it.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct Question {
    pub(super) method: Method,
    /// What the caller dials.
    pub(super) dialled: String,
    pub(super) scheme: String,
    /// How it opens, if it is a connection.
    pub(super) opens: Option<Opens>,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    pub(super) from: Option<SpiffeId>,
    pub(super) from_ip: IpAddr,
    pub(super) at: Option<Place>,
    claims: Option<Claims>,
    pub(super) values: bool,
}

/// A question in JSON. What is not understood is an error: an answer to another question would mislead.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    server_name: Option<String>,
    from: Option<String>,
    from_ip: Option<IpAddr>,
    claims: Option<Claims>,
    at: Option<String>,
    #[serde(default)]
    values: bool,
}

/// Why a question cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The method is none.
    #[error("`{0}` is not a method")]
    Method(String),
    /// The URL is none, or names no host.
    #[error("`{0}` is not a URL with a host")]
    Url(String),
    /// The header is none.
    #[error("`{0}` is not a header")]
    Header(String),
    /// A connection is not asked for like one.
    #[error(
        "a connection is asked for by CONNECT tcp://host:port or tls://host:port, without path and headers"
    )]
    Connection,
    /// The server name is none, or nothing is said by it.
    #[error("`{0}` is not a server name for a connection with TLS")]
    ServerName(String),
    /// The identity is none.
    #[error("`{0}` is not a SPIFFE id of a workload")]
    Identity(String),
    /// The place is none.
    #[error(
        "`{0}` is not a place; write workload:PORT, service:HOST:PORT, pod:ADDRESS:PORT or listener:NAME"
    )]
    Place(String),
}

impl Question {
    /// A request as its caller writes it: `GET http://reviews:9080/reviews/0`.
    ///
    /// A connection is `CONNECT tcp://redis:6379`, or `CONNECT tls://db:5432` where it opens with TLS; the server name is
    /// the host's then, unless [`Question::server_name`] says otherwise.
    ///
    /// # Errors
    /// If the method or the URL is none, or a connection is not asked for like one.
    pub fn new(method: &str, url: &str) -> Result<Self, Malformed> {
        let bad_url = || Malformed::Url(url.to_owned());
        let method = method.parse().map_err(|_| Malformed::Method(method.to_owned()))?;
        let uri: Uri = url.parse().map_err(|_| bad_url())?;
        let authority = uri.authority().ok_or_else(bad_url)?;
        let opens = match uri.scheme_str() {
            Some("tcp") => Some(Opens::Plain),
            Some("tls") => Some(Opens::Tls(server_name(authority.host()))),
            _ => None,
        };
        // A connection has a port, and nothing that a request has.
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && authority.port().is_some();
        if opens.is_some() && !(method == Method::CONNECT && bare) {
            return Err(Malformed::Connection);
        }
        Ok(Self {
            method,
            opens,
            dialled: authority.to_string(),
            scheme: uri.scheme_str().unwrap_or("http").to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            headers: HeaderMap::new(),
            from: None,
            from_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            at: None,
            claims: None,
            values: false,
        })
    }

    /// A request that was seen: what its caller dialled, its URI and headers as they came.
    pub(crate) fn seen(method: &Method, dialled: &str, scheme: &str, uri: &Uri, headers: HeaderMap) -> Self {
        Self {
            method: method.clone(),
            opens: None,
            dialled: dialled.to_owned(),
            scheme: scheme.to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            headers,
            from: None,
            from_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            at: None,
            claims: None,
            values: false,
        }
    }

    /// With one more header. `host` says what the request names, where that is not what its caller dials.
    ///
    /// # Errors
    /// If name or value are none.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, Malformed> {
        let bad = || Malformed::Header(format!("{name}: {value}"));
        let name: HeaderName = name.parse().map_err(|_| bad())?;
        let value: HeaderValue = value.parse().map_err(|_| bad())?;
        if self.opens.is_some() {
            return Err(Malformed::Connection);
        }
        self.headers.append(name, value);
        Ok(self)
    }

    /// The server name that a connection with TLS asks for; empty if it asks for none.
    ///
    /// # Errors
    /// If it is none, or this is no connection with TLS.
    pub fn server_name(mut self, name: &str) -> Result<Self, Malformed> {
        let bad = || Malformed::ServerName(name.to_owned());
        let Some(Opens::Tls(asked)) = &mut self.opens else {
            return Err(bad());
        };
        *asked = match name {
            "" => None,
            _ => Some(server_name(name).ok_or_else(bad)?),
        };
        Ok(self)
    }

    /// Sent by a workload with this identity. Without one it is plaintext.
    pub fn from(mut self, identity: SpiffeId) -> Self {
        self.from = Some(identity);
        self
    }

    /// Sent from this address.
    pub fn from_addr(mut self, addr: IpAddr) -> Self {
        self.from_ip = addr;
        self
    }

    /// With a token whose claims were verified.
    pub fn claims(mut self, claims: Claims) -> Self {
        self.claims = Some(claims);
        self
    }

    /// Arriving at this place of the process that is asked, instead of being sent by it.
    pub fn arriving_at(mut self, place: Place) -> Self {
        self.at = Some(place);
        self
    }

    /// Also shows the values of headers and claims that policies judge. What is likely a secret stays hidden.
    pub fn with_values(mut self) -> Self {
        self.values = true;
        self
    }

    /// The request as it is judged, with secrets hidden.
    pub(crate) fn shown(&self, paths: PathNormalization) -> super::Request {
        super::Request {
            method: self.method.to_string(),
            authority: self.authority().to_owned(),
            path: match &self.opens {
                Some(opens) => opens.as_opening().to_string(),
                None => self
                    .target(paths)
                    .map_or_else(|_| self.path.clone(), |target| target.shown()),
            },
            from: self.from.as_ref().map(ToString::to_string),
        }
    }

    /// The authority that the request names.
    pub(super) fn authority(&self) -> &str {
        let host = self.headers.get(HOST).and_then(|host| host.to_str().ok());
        host.unwrap_or(&self.dialled)
    }

    /// The port that is dialled.
    pub(crate) fn port(&self) -> u16 {
        let default = if self.scheme == "https" { 443 } else { 80 };
        split_authority(&self.dialled).map_or(default, |(_, port)| port.unwrap_or(default))
    }

    /// The path as it is judged; why the request is refused before, if it is.
    pub(super) fn target(&self, paths: PathNormalization) -> Result<Target<'_>, String> {
        let path = normalize(&self.path, paths).map_err(|error| format!("the path is unusable: {error}"))?;
        Ok(Target {
            question: self,
            path: path.into_owned(),
        })
    }
}

impl TryFrom<Written> for Question {
    type Error = Malformed;

    fn try_from(written: Written) -> Result<Self, Malformed> {
        let mut question = Self::new(&written.method, &written.url)?;
        for (name, value) in &written.headers {
            question = question.header(name, value)?;
        }
        if let Some(name) = &written.server_name {
            question = question.server_name(name)?;
        }
        if let Some(from) = written.from {
            question.from = Some(SpiffeId::parse(&from).map_err(|_| Malformed::Identity(from))?);
        }
        question.from_ip = written.from_ip.unwrap_or(question.from_ip);
        question.at = written.at.as_deref().map(place).transpose()?;
        question.claims = written.claims;
        question.values = written.values;
        Ok(question)
    }
}

/// How a connection opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opens {
    /// Not with TLS.
    Plain,
    /// With TLS, and the server name that it asks for.
    Tls(Option<Host>),
}

impl Opens {
    /// As routes judge it.
    pub(super) fn as_opening(&self) -> Opening<'_> {
        match self {
            Self::Plain => Opening::Plain,
            Self::Tls(name) => Opening::Tls(name.as_ref()),
        }
    }

    pub(super) fn server_name(&self) -> Option<&str> {
        match self {
            Self::Tls(Some(name)) => Some(name.as_str()),
            _ => None,
        }
    }
}

/// A name that a client may ask for: an address is none (RFC 6066 §3).
fn server_name(text: &str) -> Option<Host> {
    Host::parse(text)
        .ok()
        .filter(|host| host.ip().is_none() && !text.contains('*'))
}

/// Reads `workload:9080`, `service:reviews.default.svc.cluster.local:9080`, `pod:10.0.0.1:9080` or `listener:http`.
fn place(text: &str) -> Result<Place, Malformed> {
    let bad = || Malformed::Place(text.to_owned());
    let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
    let port = |port: &str| port.parse().map_err(|_| bad());
    match kind {
        "workload" => Ok(Place::Workload { port: port(rest)? }),
        "service" => {
            let (host, number) = rest.rsplit_once(':').ok_or_else(bad)?;
            Ok(Place::Service {
                host: Host::parse(host).map_err(|_| bad())?,
                port: port(number)?,
            })
        }
        "pod" => {
            let at: SocketAddr = rest.parse().map_err(|_| bad())?;
            Ok(Place::Pod {
                ip: at.ip(),
                port: at.port(),
            })
        }
        "listener" if !rest.is_empty() => Ok(Place::Listener { name: rest.into() }),
        _ => Err(bad()),
    }
}

/// A question with the path as it is judged.
pub(super) struct Target<'q> {
    question: &'q Question,
    pub(super) path: String,
}

impl Target<'_> {
    /// What engines judge, at the destination `to` with `caller` as the direct peer.
    pub(super) fn head<'a>(&'a self, caller: Option<&'a SpiffeId>, to: SocketAddr) -> RequestHead<'a> {
        let question = self.question;
        let mut head = RequestHead::unsent(
            &question.method,
            question.authority(),
            &self.path,
            question.query.as_deref(),
            &question.headers,
        );
        head.caller = Caller {
            identity: caller,
            addr: question.from_ip,
            remote: crate::policy::forwarded::remote_addr(&question.headers, question.from_ip, None),
        };
        head.destination = to;
        head.claims = question.claims.as_ref();
        head
    }

    /// Path and query, with secrets hidden.
    pub(super) fn shown(&self) -> String {
        match &self.question.query {
            Some(query) => format!("{}?{}", self.path, super::redact::query(query)),
            None => self.path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_text() {
        let host = |text| Host::parse(text).unwrap();
        for (text, expected) in [
            ("workload:9080", Some(Place::Workload { port: 9080 })),
            (
                "service:reviews.default:80",
                Some(Place::Service {
                    host: host("reviews.default"),
                    port: 80,
                }),
            ),
            (
                "pod:[::1]:80",
                Some(Place::Pod {
                    ip: "::1".parse().unwrap(),
                    port: 80,
                }),
            ),
            ("listener:http", Some(Place::Listener { name: "http".into() })),
            ("listener:", None),
            ("workload:x", None),
            ("service:80", None),
            ("pod:a:80", None),
            ("9080", None),
        ] {
            assert_eq!(place(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_connection_asks_for_its_host_by_name_unless_it_says_otherwise() {
        let asked = |text: &str| {
            let question: Question = serde_json::from_str(text).unwrap();
            question.opens.unwrap().as_opening().to_string()
        };
        let plain = r#"{"method": "CONNECT", "url": "tcp://redis:6379"}"#;
        assert_eq!(asked(plain), "no TLS");
        for (url, name, opens) in [
            ("tls://Db:5432", None, "TLS for db"),
            ("tls://10.0.0.1:5432", None, "TLS without a server name"),
            (
                "tls://10.0.0.1:5432",
                Some("db.example.com"),
                "TLS for db.example.com",
            ),
            ("tls://db:5432", Some(""), "TLS without a server name"),
        ] {
            let mut text = serde_json::json!({"method": "CONNECT", "url": url});
            if let Some(name) = name {
                text["serverName"] = name.into();
            }
            assert_eq!(asked(&text.to_string()), opens, "{url}");
        }
    }

    #[test]
    fn a_question_that_is_not_understood_is_none() {
        let read = |text: &str| serde_json::from_str::<Question>(text).map_err(|error| error.to_string());
        assert!(read(r#"{"method": "GET", "url": "http://a/"}"#).is_ok());
        for (text, said) in [
            (
                r#"{"method": "GET", "url": "/a"}"#,
                "`/a` is not a URL with a host",
            ),
            (
                r#"{"method": "GET", "url": "http://a/", "form": "x"}"#,
                "unknown field `form`",
            ),
            (
                r#"{"method": "GET", "url": "http://a/", "from": "curl"}"#,
                "`curl` is not a SPIFFE id",
            ),
            (
                r#"{"method": "GET", "url": "http://a/", "at": "here"}"#,
                "`here` is not a place",
            ),
            (
                r#"{"method": "GET", "url": "tcp://a:1"}"#,
                "a connection is asked for by CONNECT",
            ),
            (
                r#"{"method": "CONNECT", "url": "tls://a:1/b"}"#,
                "a connection is asked for by CONNECT",
            ),
            (
                r#"{"method": "CONNECT", "url": "tls://a"}"#,
                "a connection is asked for by CONNECT",
            ),
            (
                r#"{"method": "CONNECT", "url": "tcp://a:1", "serverName": "b"}"#,
                "`b` is not a server name",
            ),
            (
                r#"{"method": "CONNECT", "url": "tcp://a:1", "headers": [["a", "b"]]}"#,
                "without path and headers",
            ),
            (
                r#"{"method": "G T", "url": "http://a/"}"#,
                "`G T` is not a method",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
