//! Numbers that stand for names.

/// A number that stands for some bytes, the same in every process and version: FNV-1a over the parts and their
/// lengths, mixed once more so that all bits depend on all bytes.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    let hash = parts.into_iter().fold(BASIS, |hash, part| {
        let length = (part.len() as u64).to_be_bytes();
        part.iter().chain(&length).fold(hash, step)
    });
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let of = |parts: &[&str]| digest(parts.iter().map(|part| part.as_bytes()));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab", ""]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(of(&[]), of(&[""]));
    }

    #[test]
    fn a_digest_stays_what_it_is() {
        // Tokens outlive a process: a change here ends every session there is.
        assert_eq!(digest([b"reviews".as_slice(), b"9080"]), DIGEST);
    }

    const DIGEST: u64 = 10_199_925_634_813_960_420;
}
