//! Where a `CONNECT` wants to go.

use std::fmt;
use std::net::SocketAddr;

use crate::name::{Host, HostError};

/// The target of a `CONNECT`: an address, or a service by name. Always with a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// `ip:port`; IPv6 in brackets.
    Addr(SocketAddr),
    /// `host:port`.
    Name {
        /// The host, which is not an IP address.
        host: Host,
        /// The port.
        port: u16,
    },
}

/// Why a text is not the target of a `CONNECT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// It is not a host with a port.
    #[error(transparent)]
    Host(#[from] HostError),
    /// `*` stands for many hosts, and a connection goes to one.
    #[error("a wildcard is not a destination")]
    Wildcard,
}

impl Authority {
    /// Reads a target, and refuses whatever is not exactly a host or address with a port from 1 to 65535: user
    /// information, IPv6 without brackets or with a zone, wildcards, other characters.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = Host::parse_authority(text)?;
        let port = port.ok_or(HostError::NoPort)?;
        if let Some(ip) = host.ip() {
            return Ok(Self::Addr(SocketAddr::new(ip, port)));
        }
        if host.as_str().contains('*') {
            return Err(AuthorityError::Wildcard);
        }
        Ok(Self::Name { host, port })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Addr(addr) => addr.port(),
            Self::Name { port, .. } => *port,
        }
    }
}

impl From<SocketAddr> for Authority {
    /// Drops the zone and flow label of an IPv6 address, which mean nothing on another machine.
    fn from(addr: SocketAddr) -> Self {
        Self::Addr(SocketAddr::new(addr.ip(), addr.port()))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => write!(f, "{addr}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_are_read() {
        for (text, shown) in [
            ("10.0.0.7:9080", "10.0.0.7:9080"),
            ("[2001:db8::7]:9080", "[2001:db8::7]:9080"),
            (
                "Reviews.Default.svc.cluster.local:80",
                "reviews.default.svc.cluster.local:80",
            ),
            ("reviews.:80", "reviews:80"),
        ] {
            let read = Authority::parse(text).unwrap();
            assert_eq!(read.to_string(), shown);
            assert_eq!(Authority::parse(&read.to_string()), Ok(read));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ":80",
            "reviews",
            "reviews:",
            "reviews:0",
            "reviews:65536",
            "reviews:+1",
            "u@reviews:80",
            "[fe80::1%eth0]:80",
            "fe80::1:80",
            "[::1]",
            "rev\0iews:80",
            "*.default:80",
            "re views:80",
            "reviews:80/x",
        ] {
            assert!(Authority::parse(text).is_err(), "{text:?}");
        }
        assert!(Authority::parse(&format!("{}:80", "a".repeat(65_536))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,80}") {
            let _ = Authority::parse(&text);
        }
    }
}
