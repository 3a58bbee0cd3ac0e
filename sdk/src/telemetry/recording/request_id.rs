//! `x-request-id` as Envoy reads and writes it: a UUID that says whether its request is traced, and why.
//!
//! The version digit of a random UUID is `4`. Envoy writes another one there where a trace is recorded, so that everybody
//! on the way decides alike (Envoy, "UUID request ID extension").

use http::HeaderValue;

use crate::telemetry::page;

/// Where the version digit is.
const REASON: usize = 14;
const LENGTH: usize = 36;

/// A request's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; LENGTH]);

/// Why a request is traced. The set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was among those sampled.
    Sampled,
    /// `x-envoy-force-trace` asked for it.
    Forced,
    /// `x-client-trace-id` asked for it.
    Client,
}

impl RequestId {
    /// The id that a header's value is; `None` if it is no UUID.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let id: [u8; LENGTH] = value.as_bytes().try_into().ok()?;
        let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
        let fits = |(at, byte): (usize, &u8)| match is_dash(at) {
            true => *byte == b'-',
            false => byte.is_ascii_hexdigit(),
        };
        id.iter().enumerate().all(fits).then_some(Self(id))
    }

    /// A new one.
    pub fn fresh() -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut random = fastrand::u128(..);
        let mut id = [b'-'; LENGTH];
        for (at, byte) in id.iter_mut().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                continue;
            }
            *byte = HEX[(random & 0xf) as usize];
            random >>= 4;
        }
        id[REASON] = b'4';
        // The variant of RFC 9562.
        id[19] = HEX[8 + (id[19] & 3) as usize];
        Self(id)
    }

    /// Which of ten thousand equal shares of all requests it belongs to: the same for everybody who asks.
    pub fn share(&self) -> u16 {
        let digits = std::str::from_utf8(&self.0[..8]).unwrap_or_default();
        (u32::from_str_radix(digits, 16).unwrap_or(0) % 10_000) as u16
    }

    /// Why its request is traced, if somebody before us has decided so.
    pub fn reason(&self) -> Option<Reason> {
        match self.0[REASON] {
            b'9' => Some(Reason::Sampled),
            b'a' => Some(Reason::Forced),
            b'b' => Some(Reason::Client),
            _ => None,
        }
    }

    /// The same, saying why its request is traced.
    pub fn marked(mut self, reason: Option<Reason>) -> Self {
        self.0[REASON] = match reason {
            Some(Reason::Sampled) => b'9',
            Some(Reason::Forced) => b'a',
            Some(Reason::Client) => b'b',
            None => b'4',
        };
        self
    }

    /// As a value of the header.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_maybe_shared(page::value(&self.0)).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<RequestId> {
        RequestId::parse(&HeaderValue::from_bytes(value.as_bytes()).unwrap())
    }

    #[test]
    fn the_share_is_that_of_the_first_eight_digits() {
        let id = of("0000270f-aaaa-4bbb-8ccc-dddddddddddd").unwrap();
        assert_eq!((id.share(), id.reason()), (9_999, None));
        assert_eq!(of("00002710-aaaa-4bbb-8ccc-dddddddddddd").unwrap().share(), 0);
        assert_eq!(of("FFFFFFFF-aaaa-4bbb-8ccc-dddddddddddd").unwrap().share(), 7_295);
    }

    #[test]
    fn the_reason_stands_in_the_version_digit() {
        let id = of("0000270f-aaaa-4bbb-8ccc-dddddddddddd").unwrap();
        for (reason, digit) in [
            (Reason::Sampled, '9'),
            (Reason::Forced, 'a'),
            (Reason::Client, 'b'),
        ] {
            let marked = id.marked(Some(reason));
            assert_eq!(marked.reason(), Some(reason));
            let text = format!("0000270f-aaaa-{digit}bbb-8ccc-dddddddddddd");
            assert_eq!(marked.value().to_str().unwrap(), text);
            assert_eq!(marked.marked(None), id);
        }
    }

    #[test]
    fn what_is_no_uuid_has_no_share() {
        for odd in [
            "",
            "1",
            "0000270f-aaaa-4bbb-8ccc-ddddddddddd",
            "0000270f-aaaa-4bbb-8ccc-ddddddddddddd",
            "0000270faaaaa4bbbb8cccbddddddddddddd",
            "+000270f-aaaa-4bbb-8ccc-dddddddddddd",
            "0000270f-aaaa-4bbb-8ccc-ddddddddddé",
        ] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_fresh_one_is_a_uuid_that_nobody_has_marked() {
        for _ in 0..100 {
            let id = of(RequestId::fresh().value().to_str().unwrap()).unwrap();
            assert_eq!(id.reason(), None);
            assert!(b"89ab".contains(&id.0[19]) && id.0[REASON] == b'4');
        }
    }
}
