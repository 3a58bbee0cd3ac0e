//! Descriptors: what a request is counted as (`config.route.v3.RateLimit`).

use std::borrow::Cow;

use http::HeaderName;
use smallvec::SmallVec;

use crate::matcher::{ValuePattern, parameter};
use crate::policy::RequestHead;

/// One descriptor of a request, made of parts. A request that one of the parts is missing of does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Describe {
    /// Which of the limiters with several stages it is for.
    pub stage: u32,
    /// The parts.
    pub parts: Vec<Part>,
}

/// One part of a descriptor: a key, and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Always the same (`generic_key`).
    Fixed {
        /// The key.
        key: Box<str>,
        /// The value.
        value: Box<str>,
    },
    /// A header's value (`request_headers`); what HTTP/2 writes among its headers is one too.
    Header {
        /// The header.
        name: Field,
        /// The key.
        key: Box<str>,
        /// Whether a request without it has the descriptor without this part.
        optional: bool,
    },
    /// A query parameter's value (`query_parameters`).
    Query {
        /// The parameter.
        name: Box<str>,
        /// The key.
        key: Box<str>,
        /// Whether a request without it has the descriptor without this part.
        optional: bool,
    },
    /// The caller's address (`remote_address`).
    RemoteAddress,
    /// Who calls, by its SPIFFE id (`extension` with the expression `connection.uri_san_peer_certificate`).
    Caller {
        /// The key.
        key: Box<str>,
        /// Whether a request of nobody has the descriptor without this part.
        optional: bool,
    },
    /// The caller's workload, as it calls itself (`source_cluster`): Istio's `app.namespace`.
    SourceCluster,
    /// What is called (`destination_cluster`).
    DestinationCluster,
    /// Always the same, for requests whose headers match (`header_value_match`).
    Matched {
        /// The key.
        key: Box<str>,
        /// The value.
        value: Box<str>,
        /// Whether they must match, rather than not.
        expect: bool,
        /// What of them, all of which must hold.
        headers: Vec<FieldMatch>,
    },
}

/// A header, or what HTTP/2 writes among its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `:path`: path and query.
    Path,
    /// `:method`.
    Method,
    /// `:authority`, or `host`.
    Authority,
    /// A header.
    Header(HeaderName),
}

/// What must hold of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMatch {
    /// The header.
    pub name: Field,
    /// Its value.
    pub value: ValuePattern,
    /// Whether it must not be so.
    pub invert: bool,
}

/// What is known of a request beside its head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'r> {
    /// See [`Part::SourceCluster`].
    pub source_cluster: &'r str,
    /// See [`Part::DestinationCluster`].
    pub destination_cluster: &'r str,
}

/// A descriptor of one request: keys and values in the order of the parts.
pub type Descriptor<'r> = SmallVec<[(&'r str, Cow<'r, str>); 2]>;

impl Describe {
    /// The descriptor of a request, if it has it.
    pub fn of<'r>(&'r self, head: &RequestHead<'r>, around: &Around<'r>) -> Option<Descriptor<'r>> {
        let mut descriptor = Descriptor::new();
        for part in &self.parts {
            match part.of(head, around) {
                Some(entry) => descriptor.push(entry),
                None if part.is_optional() => {}
                None => return None,
            }
        }
        (!descriptor.is_empty()).then_some(descriptor)
    }
}

impl Part {
    fn of<'r>(&'r self, head: &RequestHead<'r>, around: &Around<'r>) -> Option<(&'r str, Cow<'r, str>)> {
        Some(match self {
            Self::Fixed { key, value } => (key, Cow::Borrowed(&**value)),
            Self::Header { name, key, .. } => (key, name.of(head)?),
            Self::Query { name, key, .. } => (key, parameter(head.query, name)?.into()),
            Self::RemoteAddress => ("remote_address", head.caller.remote.to_string().into()),
            Self::Caller { key, .. } => (key, head.caller.identity?.as_str().into()),
            Self::SourceCluster => ("source_cluster", around.source_cluster.into()),
            Self::DestinationCluster => ("destination_cluster", around.destination_cluster.into()),
            Self::Matched {
                key,
                value,
                expect,
                headers,
            } => {
                let holds = headers.iter().all(|it| it.holds(head));
                (holds == *expect).then_some((&**key, Cow::Borrowed(&**value)))?
            }
        })
    }

    fn is_optional(&self) -> bool {
        matches!(
            self,
            Self::Header { optional: true, .. }
                | Self::Query { optional: true, .. }
                | Self::Caller { optional: true, .. }
        )
    }
}

impl Field {
    /// The header that a text names; `None` if it names none.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            ":path" => Self::Path,
            ":method" => Self::Method,
            ":authority" => Self::Authority,
            _ if text.eq_ignore_ascii_case("host") => Self::Authority,
            name => Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
        })
    }

    fn of<'r>(&self, head: &RequestHead<'r>) -> Option<Cow<'r, str>> {
        match self {
            Self::Path => Some(match head.query {
                None => head.path.into(),
                Some(query) => format!("{}?{query}", head.path).into(),
            }),
            Self::Method => Some(head.method.as_str().into()),
            Self::Authority => Some(head.authority.into()),
            Self::Header(name) => {
                let mut values = head.headers.get_all(name).iter();
                let first = String::from_utf8_lossy(values.next()?.as_bytes());
                let mut rest = values.peekable();
                if rest.peek().is_none() {
                    return Some(first);
                }
                // As Envoy does, so that nobody is counted as somebody else by sending a header twice.
                let all = rest.fold(first.into_owned(), |all, value| {
                    all + "," + &String::from_utf8_lossy(value.as_bytes())
                });
                Some(all.into())
            }
        }
    }
}

impl FieldMatch {
    fn holds(&self, head: &RequestHead<'_>) -> bool {
        let matches = self.name.of(head).is_some_and(|value| self.value.matches(&value));
        matches != self.invert
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    fn header(name: &str, optional: bool) -> Part {
        Part::Header {
            name: Field::parse(name).unwrap(),
            key: name.into(),
            optional,
        }
    }

    fn of(parts: Vec<Part>, target: &str, pairs: &[(&'static str, &'static str)]) -> Option<String> {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let head = RequestHead::unsent(&Method::GET, "reviews", path, query, &headers);
        let describe = Describe { stage: 0, parts };
        let around = Around {
            source_cluster: "productpage.default",
            destination_cluster: "inbound|9080||",
        };
        let descriptor = describe.of(&head, &around)?;
        let pairs = descriptor.iter().map(|(key, value)| format!("{key}={value}"));
        Some(pairs.collect::<Vec<_>>().join(" "))
    }

    /// Envoy, "Composing actions" and `config.route.v3.RateLimit.Action`.
    #[test]
    fn a_descriptor_has_all_of_its_parts_or_is_not_there() {
        let fixed = |value: &str| Part::Fixed {
            key: "generic_key".into(),
            value: value.into(),
        };
        for (parts, target, pairs, expected) in [
            (vec![fixed("a")], "/", &[][..], Some("generic_key=a")),
            (vec![header(":path", false)], "/a?b", &[], Some(":path=/a?b")),
            (vec![header("x", false), fixed("a")], "/", &[], None),
            (
                vec![header("x", true), fixed("a")],
                "/",
                &[],
                Some("generic_key=a"),
            ),
            (vec![header("x", true)], "/", &[], None),
            (
                vec![header("x", false)],
                "/",
                &[("x", "1"), ("x", "2")],
                Some("x=1,2"),
            ),
            (
                vec![Part::Query {
                    name: "u".into(),
                    key: "user".into(),
                    optional: false,
                }],
                "/?a=b&u=c",
                &[],
                Some("user=c"),
            ),
            (
                vec![Part::SourceCluster, Part::DestinationCluster],
                "/",
                &[],
                Some("source_cluster=productpage.default destination_cluster=inbound|9080||"),
            ),
            (
                vec![Part::Caller {
                    key: "caller".into(),
                    optional: false,
                }],
                "/",
                &[],
                None,
            ),
        ] {
            assert_eq!(of(parts.clone(), target, pairs).as_deref(), expected, "{parts:?}");
        }
        let matched = |expect, invert| {
            vec![Part::Matched {
                key: "header_match".into(),
                value: "api".into(),
                expect,
                headers: vec![FieldMatch {
                    name: Field::Path,
                    value: ValuePattern::Prefix("/api".into()),
                    invert,
                }],
            }]
        };
        for (expect, invert, path, holds) in [
            (true, false, "/api/1", true),
            (true, false, "/", false),
            (false, false, "/", true),
            (true, true, "/", true),
        ] {
            assert_eq!(of(matched(expect, invert), path, &[]).is_some(), holds);
        }
    }
}
