//! All that an engine may know of a request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, Method};

use crate::name::SpiffeId;

/// Who sends a request, as far as it was proved.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The verified identity, if the connection was mutually authenticated.
    pub identity: Option<&'a SpiffeId>,
    /// The direct peer's address (never taken from a header).
    pub addr: IpAddr,
    /// The address after `x-forwarded-for` handling; equal to `addr` where none applies.
    pub remote: IpAddr,
}

/// The borrowed view of a request that engines judge. Making one allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// `:authority`, or the `Host` header: as received, port included.
    pub authority: &'a str,
    /// The normalized path, without query and fragment; always starts with `/` (or is `*` for `OPTIONS *`).
    pub path: &'a str,
    /// The query without its `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Who calls.
    pub caller: Caller<'a>,
    /// The destination address and port: the workload's at a workload, the service's at a waypoint.
    pub destination: SocketAddr,
    /// The server name of the (m)TLS connection; empty where there was none.
    pub sni: &'a str,
    /// The payload of the verified token; `None` if the request carried none.
    pub claims: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

/// The borrowed view of a connection that L4 engines judge.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionHead<'a> {
    /// Who calls.
    pub caller: Caller<'a>,
    /// The destination address and port.
    pub destination: SocketAddr,
    /// The server name of the (m)TLS connection; empty where there was none.
    pub sni: &'a str,
}

impl<'a> RequestHead<'a> {
    /// A view of a request with nobody behind it: for clients, where only routing asks.
    pub fn unsent(
        method: &'a Method,
        authority: &'a str,
        path: &'a str,
        query: Option<&'a str>,
        headers: &'a HeaderMap,
    ) -> Self {
        const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            method,
            scheme: "http",
            authority,
            path,
            query,
            headers,
            caller: Caller {
                identity: None,
                addr: NOWHERE,
                remote: NOWHERE,
            },
            destination: SocketAddr::new(NOWHERE, 0),
            sni: "",
            claims: None,
        }
    }
}
