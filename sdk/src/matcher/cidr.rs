//! Sets of addresses, written as blocks.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

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

/// Values filed under blocks: one look-up finds those of all blocks that hold an address.
///
/// Two blocks nest or have nothing in common. So the last block that begins at or before an address, together with
/// those around it, holds every block with the address in it.
#[derive(Clone, Debug)]
pub struct BlockMap<V> {
    v4: Nest<u32, V>,
    v6: Nest<u128, V>,
}

/// The blocks of one kind, sorted.
#[derive(Clone, Debug)]
struct Nest<T, V> {
    /// Where each begins: apart from the rest, because this is what a search goes through.
    firsts: Vec<T>,
    blocks: Vec<Block<T, V>>,
}

#[derive(Clone, Debug)]
struct Block<T, V> {
    last: T,
    /// The place of the smallest block around it.
    around: Option<u32>,
    value: V,
}

impl<V> Default for BlockMap<V> {
    fn default() -> Self {
        Self::from_iter([])
    }
}

impl<V> BlockMap<V> {
    /// Calls with the values of all blocks that hold the address, the smallest block first. An IPv4-mapped IPv6
    /// address is looked up as IPv4.
    pub fn each<'m>(&'m self, addr: IpAddr, mut then: impl FnMut(&'m V)) {
        match addr.to_canonical() {
            IpAddr::V4(addr) => self.v4.around(addr.into()).for_each(&mut then),
            IpAddr::V6(addr) => self.v6.around(addr.into()).for_each(&mut then),
        }
    }
}

impl<V> FromIterator<(IpNet, V)> for BlockMap<V> {
    fn from_iter<I: IntoIterator<Item = (IpNet, V)>>(blocks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (block, value) in blocks {
            match block {
                IpNet::V4(block) => v4.push((block.network().into(), block.broadcast().into(), value)),
                IpNet::V6(block) => v6.push((block.network().into(), block.broadcast().into(), value)),
            }
        }
        Self {
            v4: Nest::new(v4),
            v6: Nest::new(v6),
        }
    }
}

impl<T: Ord + Copy, V> Nest<T, V> {
    fn new(mut blocks: Vec<(T, T, V)>) -> Self {
        blocks.sort_by_key(|(first, last, _)| (*first, Reverse(*last)));
        let firsts: Vec<_> = blocks.iter().map(|(first, ..)| *first).collect();
        // The blocks around the one at hand, the largest first.
        let mut open: Vec<(usize, T)> = Vec::new();
        let blocks = blocks.into_iter().enumerate().map(|(at, (first, last, value))| {
            while open.pop_if(|(_, outer)| *outer < first).is_some() {}
            let around = open.last().and_then(|(outer, _)| u32::try_from(*outer).ok());
            open.push((at, last));
            Block { last, around, value }
        });
        Self {
            blocks: blocks.collect(),
            firsts,
        }
    }

    fn around(&self, addr: T) -> impl Iterator<Item = &V> {
        let after = self.firsts.partition_point(|first| *first <= addr);
        let nearest = after.checked_sub(1).and_then(|at| self.blocks.get(at));
        std::iter::successors(nearest, |block| self.blocks.get(block.around? as usize))
            .filter(move |block| addr <= block.last)
            .map(|block| &block.value)
    }
}

/// A set of addresses: sorted ranges, so that a look-up is a binary search. IPv4 and IPv6 never match each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

    /// The blocks, without those that lie within others.
    pub fn blocks(&self) -> impl Iterator<Item = IpNet> {
        // Blocks that overlap nest, so what merging leaves are blocks.
        let v4 = self.v4.iter().map(|(first, last)| {
            let bits = (first ^ last).leading_zeros() as u8;
            Ipv4Net::new_assert(Ipv4Addr::from(*first), bits).into()
        });
        let v6 = self.v6.iter().map(|(first, last)| {
            let bits = (first ^ last).leading_zeros() as u8;
            Ipv6Net::new_assert(Ipv6Addr::from(*first), bits).into()
        });
        v4.chain(v6)
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
            let mut holding: Vec<_> = blocks.iter().filter(|block| block.contains(&addr)).copied().collect();
            holding.sort_by_key(|block| Reverse(block.prefix_len()));
            let mut found = Vec::new();
            let map: BlockMap<IpNet> = blocks.iter().map(|block| (*block, *block)).collect();
            map.each(addr, |block| found.push(*block));
            proptest::prop_assert_eq!(&found, &holding);
            let set = CidrSet::new(blocks);
            proptest::prop_assert_eq!(set.contains(addr), !holding.is_empty());
            proptest::prop_assert_eq!(CidrSet::new(set.blocks()), set);
        }
    }
}
