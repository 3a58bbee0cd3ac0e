//! The address behind proxies.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};

use crate::name::field;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that `remoteIpBlocks` and `remote.ip` judge, from `x-forwarded-for` as Envoy reads it.
///
/// `direct` is the peer of the connection. An edge (`use_remote_address`) with `trusted_hops` proxies in front takes
/// that entry from the right, and without any the connection's own address. Anything else takes the entry that comes
/// after those of the trusted hops: the last one where there are none. Where there is no such entry, or where it is
/// no address, it is `direct`.
pub fn remote_addr(
    headers: &HeaderMap,
    direct: IpAddr,
    trusted_hops: Option<u32>,
    use_remote_address: bool,
) -> IpAddr {
    let hops = trusted_hops.unwrap_or(0);
    let from_right = match (use_remote_address, hops) {
        (true, 0) => return direct.to_canonical(),
        (true, hops) => hops - 1,
        (false, hops) => hops,
    };
    // Few requests have it.
    if field(headers, &FORWARDED_FOR).is_none() {
        return direct.to_canonical();
    }
    headers
        .get_all(FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .nth(usize::try_from(from_right).unwrap_or(usize::MAX))
        .and_then(|entry| std::str::from_utf8(entry).ok())
        .and_then(|entry| entry.trim().parse().ok())
        .unwrap_or(direct)
        .to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Envoy, "x-forwarded-for" in the documentation of HTTP header manipulation.
    #[test]
    fn the_entry_after_the_trusted_proxies_counts() {
        let two = "203.0.113.1, 10.0.0.9";
        for (lines, hops, edge, expected) in [
            (&[][..], None, false, "192.0.2.1"),
            (&[two], None, false, "10.0.0.9"),
            (&[two], Some(1), false, "203.0.113.1"),
            (&[two], Some(2), false, "192.0.2.1"),
            (&[two], None, true, "192.0.2.1"),
            (&[two], Some(1), true, "10.0.0.9"),
            (&[two], Some(2), true, "203.0.113.1"),
            (&[two], Some(3), true, "192.0.2.1"),
            (&["1.1.1.1", "2.2.2.2,3.3.3.3"], Some(2), true, "2.2.2.2"),
            (&["1.1.1.1", "2.2.2.2"], Some(2), true, "1.1.1.1"),
            (&["garbage"], None, false, "192.0.2.1"),
            (&["1.1.1.1, "], None, false, "192.0.2.1"),
            (&["::ffff:1.2.3.4"], None, false, "1.2.3.4"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let got = remote_addr(&headers, "192.0.2.1".parse().unwrap(), hops, edge);
            assert_eq!(got.to_string(), expected, "{lines:?} {hops:?} {edge}");
        }
    }
}
