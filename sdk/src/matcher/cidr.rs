//! Sets of addresses, written as blocks.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// Why a text is neither an address nor a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CidrError {
    /// The part before the slash is no IP address.
    #[error("bad IP address `{0}`")]
    Address(String),
    /// The part after the slash is no length of a prefix.
    #[error("bad CIDR range `{0}`")]
    Length(String),
}

/// Reads `10.0.0.0/8` or a single address; host bits are cleared.
///
/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is the IPv4 address that it maps.
///
/// # Errors
/// If it is neither.
pub fn parse_block(text: &str) -> Result<IpNet, CidrError> {
    let Some((address, length)) = text.split_once('/') else {
        let address: IpAddr = text.parse().map_err(|_| CidrError::Address(text.into()))?;
        return Ok(address.to_canonical().into());
    };
    let address: IpAddr = address.parse().map_err(|_| CidrError::Address(text.into()))?;
    let digits = !length.is_empty() && length.len() <= 3 && length.bytes().all(|b| b.is_ascii_digit());
    let bits = length.parse().ok().filter(|_| digits);
    let bits: u8 = bits.ok_or_else(|| CidrError::Length(text.into()))?;
    let block = IpNet::new(address, bits).map_err(|_| CidrError::Length(text.into()))?;
    match (address.to_canonical(), bits.checked_sub(96)) {
        (IpAddr::V4(mapped), Some(bits)) if address.is_ipv6() => Ipv4Net::new(mapped, bits)
            .map(|block| block.trunc().into())
            .map_err(|_| CidrError::Length(text.into())),
        _ => Ok(block.trunc()),
    }
}

/// A set of addresses: sorted ranges, so that a look-up is a binary search. IPv4 and IPv6 never match each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl CidrSet {
    /// The union of the blocks.
    pub fn new(blocks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut set = Self::default();
        for block in blocks {
            match block {
                IpNet::V4(block) => set.v4.push((block.network().into(), block.broadcast().into())),
                IpNet::V6(block) => set.v6.push((block.network().into(), block.broadcast().into())),
            }
        }
        merge(&mut set.v4);
        merge(&mut set.v6);
        set
    }

    /// Reads the blocks of a list.
    ///
    /// # Errors
    /// At the first that is none.
    pub fn parse<'a>(blocks: impl IntoIterator<Item = &'a str>) -> Result<Self, CidrError> {
        Ok(Self::new(
            blocks
                .into_iter()
                .map(parse_block)
                .collect::<Result<Vec<_>, _>>()?,
        ))
    }

    /// Whether the address is in the set. An IPv4-mapped IPv6 address, as dual-stack sockets report IPv4 peers,
    /// is looked up as IPv4.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr.to_canonical() {
            IpAddr::V4(addr) => holds(&self.v4, Ipv4Addr::into(addr)),
            IpAddr::V6(addr) => holds(&self.v6, addr.into()),
        }
    }
}

fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlaps = next.0 <= kept.1;
        if overlaps {
            kept.1 = kept.1.max(next.1);
        }
        overlaps
    });
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], addr: T) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= addr);
    after > 0 && addr <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_numbers_not_text() {
        let set = CidrSet::parse([
            "10.1.2.3",
            "192.168.0.0/16",
            "10.200.7.9/24",
            "2001:db8::/32",
            "::1",
        ])
        .unwrap();
        for (addr, expected) in [
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("192.168.255.255", true),
            ("192.169.0.0", false),
            ("10.200.7.1", true),
            ("10.200.8.1", false),
            ("2001:db8:1::5", true),
            ("2001:db9::5", false),
            ("0:0:0:0:0:0:0:1", true),
            ("::ffff:10.1.2.3", true),
        ] {
            assert_eq!(set.contains(addr.parse().unwrap()), expected, "{addr}");
        }
    }

    #[test]
    fn all_of_ipv4_holds_no_ipv6() {
        let set = CidrSet::parse(["0.0.0.0/0"]).unwrap();
        assert!(set.contains("1.2.3.4".parse().unwrap()));
        assert!(!set.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_mapped_block_is_the_ipv4_block() {
        let set = CidrSet::parse(["::ffff:10.0.0.0/104"]).unwrap();
        assert!(set.contains("10.255.0.1".parse().unwrap()));
        assert!(!set.contains("11.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in [
            "",
            "1.2.3",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "::1/129",
            "a/8",
            "10.0.0.0/8/8",
        ] {
            assert!(parse_block(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_set_holds_what_any_block_holds(
            blocks in proptest::collection::vec((proptest::prelude::any::<u32>(), 0u8..=32), 0..12),
            addr in proptest::prelude::any::<u32>(),
        ) {
            let blocks: Vec<IpNet> = blocks
                .iter()
                .map(|(addr, bits)| IpNet::new(Ipv4Addr::from(*addr & 0xff00_000f).into(), *bits).unwrap().trunc())
                .collect();
            let addr = IpAddr::V4(Ipv4Addr::from(addr & 0xff00_000f));
            let any = blocks.iter().any(|block| block.contains(&addr));
            proptest::prop_assert_eq!(CidrSet::new(blocks).contains(addr), any);
        }
    }
}
