//! Durations as Istio's resources write them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration as Go reads it: `1h30m`, `1.5s`, `250ms`, `0s`. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Reads one; `None` if the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).ok_or_else(|| {
            let text: String = text.chars().take(40).collect();
            de::Error::custom(format_args!(
                "`{}` is not a duration like 1h30m, 1.5s or 250ms",
                text.escape_debug()
            ))
        })
    }
}

/// Go's `time.ParseDuration`, without its sign.
fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|length| *length > 0)?;
        let (number, tail) = rest.split_at(number);
        let unit = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        total = total.checked_add(nanos(number, unit)?)?;
        rest = tail;
    }
    // Go counts in a signed number of nanoseconds: 292 years.
    let fits = !text.is_empty() && i64::try_from(total).is_ok();
    fits.then(|| Duration::from_nanos(total))
}

/// `1.5` of a unit, in nanoseconds; what is finer is cut off.
fn nanos(number: &str, unit: &str) -> Option<u64> {
    let unit: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos = nanos.checked_add(scale * u64::from(digit - b'0'))?;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("7s", Some(ms(7_000))),
            ("0s", Some(ms(0))),
            ("0", Some(ms(0))),
            ("1h30m", Some(ms(5_400_000))),
            ("1.5s", Some(ms(1_500))),
            (".5s", Some(ms(500))),
            ("1.s", Some(ms(1_000))),
            ("250ms", Some(ms(250))),
            ("1m0.25s", Some(ms(60_250))),
            ("100us", Some(Duration::from_micros(100))),
            ("3600s", Some(ms(3_600_000))),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("9999999999h", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_a_duration_never_panics(text in "[0-9.hmsuµn -]{0,24}|\\PC{0,12}") {
            let _ = parse(&text);
        }
    }
}
