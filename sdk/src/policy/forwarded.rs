//! What a proxy writes into `x-forwarded-for` and `x-forwarded-proto`, and whom it believes what they say.
//!
//! As Envoy does ("HTTP header manipulation" in its documentation). Inside the mesh (`use_remote_address: false`) the
//! list is left alone and its last entry believed. At an edge (`use_remote_address: true`) the peer of the connection is
//! added, and as many entries before it are passed over as proxies in front are trusted.

use std::fmt::Write;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::name::field;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Writes down where a request came from. `direct` is the peer of the connection, `secure` whether it spoke TLS; `edge`
/// says, at an edge, how many proxies in front may be believed.
pub fn receive(headers: &mut HeaderMap, direct: IpAddr, secure: bool, edge: Option<u32>) {
    if edge.is_some() {
        let list = list(headers, direct.to_canonical());
        headers.insert(FORWARDED_FOR, list);
    }
    // What a proxy in front says of how it was spoken to is taken from nobody who is not known.
    if edge == Some(0) || field(headers, &FORWARDED_PROTO).is_none() {
        let scheme = if secure { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
}

/// All entries in one line, as not everybody reads a second one, and the peer as the last.
fn list(headers: &HeaderMap, peer: IpAddr) -> HeaderValue {
    let mut list = Vec::new();
    for line in headers.get_all(FORWARDED_FOR) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    let mut text = String::new();
    let _ = write!(text, "{peer}");
    list.extend_from_slice(text.as_bytes());
    // Of what was a value, more of it is one.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The address that `remoteIpBlocks` and `remote.ip` judge, of a request that was [received](receive): the entry before
/// those of the trusted proxies. Where there is no such entry, or where it is no address, it is `direct`.
pub fn remote_addr(headers: &HeaderMap, direct: IpAddr, edge: Option<u32>) -> IpAddr {
    // Few requests have the header; and without anybody who is believed, it is the entry that was added.
    if edge == Some(0) || field(headers, &FORWARDED_FOR).is_none() {
        return direct.to_canonical();
    }
    headers
        .get_all(FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .nth(usize::try_from(edge.unwrap_or(0)).unwrap_or(usize::MAX))
        .and_then(|entry| std::str::from_utf8(entry).ok())
        .and_then(|entry| entry.trim().parse().ok())
        .unwrap_or(direct)
        .to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| (FORWARDED_FOR, line.parse().unwrap());
        lines.iter().map(line).collect()
    }

    /// Envoy, "x-forwarded-for" in the documentation of HTTP header manipulation.
    #[test]
    fn the_entry_before_the_trusted_proxies_counts() {
        let two = "203.0.113.1, 10.0.0.9";
        for (lines, edge, expected) in [
            (&[][..], None, "192.0.2.1"),
            (&[two], None, "10.0.0.9"),
            (&[two], Some(0), "192.0.2.1"),
            (&[two], Some(1), "10.0.0.9"),
            (&[two], Some(2), "203.0.113.1"),
            (&[two], Some(3), "192.0.2.1"),
            (&["1.1.1.1", "2.2.2.2,3.3.3.3"], Some(2), "2.2.2.2"),
            (&["1.1.1.1", "2.2.2.2"], Some(2), "1.1.1.1"),
            (&["garbage"], None, "192.0.2.1"),
            (&["garbage"], Some(1), "192.0.2.1"),
            (&["1.1.1.1, "], None, "192.0.2.1"),
            (&["::ffff:1.2.3.4"], None, "1.2.3.4"),
        ] {
            let direct = "192.0.2.1".parse().unwrap();
            let mut headers = headers(lines);
            receive(&mut headers, direct, false, edge);
            let got = remote_addr(&headers, direct, edge);
            assert_eq!(got.to_string(), expected, "{lines:?} {edge:?}");
        }
    }

    #[test]
    fn an_edge_adds_its_peer_to_one_line() {
        for (lines, direct, edge, expected) in [
            (&[][..], "192.0.2.1", Some(0), "192.0.2.1"),
            (&["203.0.113.1"], "192.0.2.1", Some(1), "203.0.113.1, 192.0.2.1"),
            (
                &["1.1.1.1", "2.2.2.2,3.3.3.3"],
                "::1",
                Some(0),
                "1.1.1.1, 2.2.2.2,3.3.3.3, ::1",
            ),
            (&["1.1.1.1"], "::ffff:192.0.2.1", Some(0), "1.1.1.1, 192.0.2.1"),
            (&["1.1.1.1"], "192.0.2.1", None, "1.1.1.1"),
        ] {
            let mut headers = headers(lines);
            receive(&mut headers, direct.parse().unwrap(), false, edge);
            let got: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
            assert_eq!(got, [expected], "{lines:?} {direct} {edge:?}");
        }
    }

    #[test]
    fn the_scheme_is_said_by_whoever_is_believed() {
        for (said, secure, edge, expected) in [
            (None, false, None, "http"),
            (None, true, Some(0), "https"),
            (Some("https"), false, None, "https"),
            (Some("https"), false, Some(0), "http"),
            (Some("https"), false, Some(1), "https"),
            (None, false, Some(1), "http"),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(said.map(|said| (FORWARDED_PROTO, HeaderValue::from_static(said))));
            receive(&mut headers, [192, 0, 2, 1].into(), secure, edge);
            let got: Vec<_> = headers.get_all(FORWARDED_PROTO).iter().collect();
            assert_eq!(got, [expected], "{said:?} {secure} {edge:?}");
        }
    }
}
