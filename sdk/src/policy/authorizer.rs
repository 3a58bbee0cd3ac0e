//! External authorizers: who is asked, and what they are told. Asking is for the layers.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::matcher::TextSet;
use crate::name::Host;

/// An external authorizer: a service that speaks Envoy's `ext_authz` protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorizer {
    /// By what policies call it; for a filter of a route, the service that the filter names.
    pub name: Arc<str>,
    /// The service.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// How long it may take; `None` leaves that to the service's own policies.
    pub timeout: Option<Duration>,
    /// Whether requests pass where it cannot be asked.
    pub fail_open: bool,
    /// The status where it cannot be asked.
    pub status_on_error: StatusCode,
    /// How much of a request's body it is told.
    pub body: Option<BodyCheck>,
    /// How it is asked.
    pub protocol: CheckProtocol,
}

/// How much of a body an authorizer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyCheck {
    /// How many bytes.
    pub max: usize,
    /// Whether it is asked about the first of more bytes; otherwise such a request is refused.
    pub partial: bool,
    /// Whether the bytes are sent as such, not as text.
    pub raw: bool,
}

/// How an authorizer is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckProtocol {
    /// By `envoy.service.auth.v3.Authorization/Check`.
    Grpc {
        /// Request headers that it is told; all if there are none.
        told: TextSet,
    },
    /// By a request like the one that is asked about.
    Http(Box<HttpCheck>),
}

/// An authorizer that is asked by HTTP. Names of headers are in lower case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpCheck {
    /// What is put in front of the path that is asked about.
    pub prefix: Box<str>,
    /// Request headers that it is told.
    pub told: TextSet,
    /// Headers that it is told besides.
    pub besides: Vec<(HeaderName, HeaderValue)>,
    /// Headers of its answer that go on with an allowed request.
    pub upstream: TextSet,
    /// Headers of its answer that go back with a denial; all if there are none.
    pub on_deny: TextSet,
    /// Headers of its answer that go back with the response to an allowed request.
    pub on_allow: TextSet,
}

impl HttpCheck {
    /// Whether a header of a denial goes back to the caller: all do where none is named.
    pub fn goes_back(&self, name: &HeaderName) -> bool {
        self.on_deny == TextSet::default() || self.on_deny.matches(name.as_str())
    }
}
