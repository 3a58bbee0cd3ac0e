//! The model of a rule, free of YAML: all of its clauses; a clause is any of its alternatives; an alternative is all
//! of its conditions.

use http::HeaderName;

use crate::matcher::{CidrSet, Glob, PathTemplate, TextMatch, TextSet};

/// Where a rule is enforced; the same policy means different things on each (Istio's HTTP filter, network filter,
/// and ztunnel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Requests.
    Http,
    /// Connections that are not HTTP, at a sidecar or waypoint.
    Tcp,
    /// Connections as ztunnel judges them.
    L4,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Opens; that an ALLOW policy exists closes all else.
    Allow,
    /// Closes.
    Deny,
    /// Is noted, nothing more.
    Audit,
    /// Asks an external authorizer.
    Custom,
}

/// A rule: it matches where all of its clauses do; one without clauses matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AuthzRule {
    /// `from`, `to`, and each entry of `when`.
    pub clauses: Vec<Clause>,
}

/// Any of its alternatives; one without alternatives matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Clause {
    /// Which part of the rule it is, as its author wrote it.
    pub part: Part,
    /// Each is all of its conditions; an empty alternative matches everything.
    pub any: Vec<Vec<Condition>>,
}

/// A part of a rule (Istio `security/v1 Rule`); it says nothing of what is asked, only where that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Part {
    /// `from`: each alternative is one of its entries.
    #[default]
    From,
    /// `to`: likewise.
    To,
    /// One entry of `when`.
    When(u32),
}

impl Part {
    /// The alternative of this number, as a path in the rule: `from[1]`, `when[0]`.
    pub fn path(self, alternative: usize) -> String {
        match self {
            Self::From => format!("from[{alternative}]"),
            Self::To => format!("to[{alternative}]"),
            Self::When(entry) => format!("when[{entry}]"),
        }
    }
}

/// A test, or its negation. A test of what is not there fails, so its negation holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The test.
    pub test: Test,
    /// Whether the test must fail.
    pub negated: bool,
}

/// One attribute and the values of which any suffices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Test {
    /// The caller's SPIFFE id without its scheme.
    Principal(TextSet),
    /// The namespace in the caller's SPIFFE id.
    Namespace {
        /// Names with a star at one end or none.
        names: TextSet,
        /// Names with stars elsewhere.
        globs: Vec<Glob>,
    },
    /// Namespace and service account in the caller's SPIFFE id.
    ServiceAccount(Vec<(Box<str>, Box<str>)>),
    /// The trust domain in the caller's SPIFFE id.
    TrustDomain(TextSet),
    /// The direct peer's address.
    SourceIp(CidrSet),
    /// The caller's address after `x-forwarded-for` handling.
    RemoteIp(CidrSet),
    /// The destination's address.
    DestinationIp(CidrSet),
    /// The destination's port.
    Port(Vec<u16>),
    /// The server name of the TLS connection.
    Sni(TextSet),
    /// `iss` and `sub` of the verified token.
    RequestPrincipal(Vec<RequestPrincipal>),
    /// A claim of the verified token.
    Claim {
        /// The keys that lead to it.
        path: Vec<Box<str>>,
        /// The values.
        values: TextSet,
    },
    /// `:authority` with its port. The values must be lower-case.
    Host(TextSet),
    /// The method.
    Method(TextSet),
    /// The normalized path.
    Path {
        /// Values that are text.
        values: TextSet,
        /// Values that are templates.
        templates: Vec<PathTemplate>,
    },
    /// A header.
    Header {
        /// Which.
        name: HeaderKey,
        /// The values.
        values: TextSet,
    },
}

/// A header that a rule may name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKey {
    /// `:method`.
    Method,
    /// `:path`, query included.
    Path,
    /// `:authority` or `host`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// Any other.
    Name(HeaderName),
}

/// A value of `requestPrincipals`: `iss` and `sub` are matched each for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestPrincipal {
    /// What `iss` must be.
    pub issuer: TextMatch,
    /// What `sub` must be.
    pub subject: TextMatch,
}

impl Test {
    /// Whether connections that are not HTTP cannot be asked.
    pub(super) fn is_of_requests(&self) -> bool {
        matches!(
            self,
            Self::RequestPrincipal(_)
                | Self::Claim { .. }
                | Self::Host(_)
                | Self::Method(_)
                | Self::Path { .. }
                | Self::Header { .. }
        )
    }
}

impl RequestPrincipal {
    /// Reads `issuer/subject`, split at the last slash, or one of the short forms without a slash
    /// (Istio `security/v1 Source.request_principals`).
    pub fn parse(value: &str) -> Self {
        if value == "*" {
            return Self {
                issuer: TextMatch::Present,
                subject: TextMatch::Present,
            };
        }
        let Some((issuer, subject)) = value.rsplit_once('/') else {
            return match TextMatch::parse(value) {
                suffix @ TextMatch::Suffix(_) => Self {
                    issuer: TextMatch::Present,
                    subject: suffix,
                },
                prefix @ TextMatch::Prefix(_) => Self {
                    issuer: prefix,
                    subject: TextMatch::Present,
                },
                exact => Self {
                    issuer: exact,
                    subject: TextMatch::Exact("".into()),
                },
            };
        };
        // A star counts only at the outer ends: before the issuer and after the subject.
        let issuer = match TextMatch::parse(issuer) {
            TextMatch::Prefix(_) => TextMatch::Exact(issuer.into()),
            other => other,
        };
        let subject = match (subject, subject.strip_suffix('*')) {
            ("*", _) => TextMatch::Present,
            (_, Some(prefix)) => TextMatch::Prefix(prefix.into()),
            (exact, None) => TextMatch::Exact(exact.into()),
        };
        Self { issuer, subject }
    }
}

impl HeaderKey {
    /// Reads a header name, pseudo headers included; the case does not matter.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":authority" | "host" => Self::Authority,
            ":scheme" => Self::Scheme,
            name => Self::Name(HeaderName::from_bytes(name.as_bytes()).ok()?),
        })
    }
}
