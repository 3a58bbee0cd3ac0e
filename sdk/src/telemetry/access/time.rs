//! Points in time as text, in UTC.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::telemetry::civil::{Civil, push_second};

/// How a point in time is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// `2024-01-02T03:04:05.678Z`.
    #[default]
    Rfc3339,
    /// Specifiers of `strftime`, and Envoy's for parts of seconds: `%3f`, `%s`.
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// `%Y`, `%m`, `%d`, `%H`, `%M`, `%S`.
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// `%b`: `Jan`.
    MonthName,
    /// `%z`: `+0000`.
    Zone,
    /// `%s`, and `%3s`: seconds since 1970, and in units of that many digits.
    Epoch(u32),
    /// `%f`, `%3f`: nanoseconds, or that many digits of the second.
    Fraction(u32),
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

fn month_name(month: i64) -> &'static str {
    let at = usize::try_from(month - 1).unwrap_or(usize::MAX);
    MONTHS.get(at).copied().unwrap_or_default()
}

impl TimeFormat {
    /// Reads what stands between the parentheses of `START_TIME`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Rfc3339);
        }
        let (mut parts, mut plain) = (Vec::new(), String::new());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                plain.push(c);
                continue;
            }
            let mut next = chars.next();
            let mut digits = None;
            if let Some(digit) = next
                .and_then(|c| c.to_digit(10))
                .filter(|digit| (1..=9).contains(digit))
            {
                digits = Some(digit);
                next = chars.next();
            }
            let simple = |part| digits.is_none().then_some(vec![part]);
            let sep = |text: &str| Part::Text(text.to_owned());
            let found = match next {
                Some('%') if digits.is_none() => {
                    plain.push('%');
                    continue;
                }
                Some('Y') => simple(Part::Year),
                Some('m') => simple(Part::Month),
                Some('d') => simple(Part::Day),
                Some('H') => simple(Part::Hour),
                Some('M') => simple(Part::Minute),
                Some('S') => simple(Part::Second),
                Some('b') => simple(Part::MonthName),
                Some('z') => simple(Part::Zone),
                Some('F') if digits.is_none() => {
                    Some(vec![Part::Year, sep("-"), Part::Month, sep("-"), Part::Day])
                }
                Some('T') if digits.is_none() => {
                    Some(vec![Part::Hour, sep(":"), Part::Minute, sep(":"), Part::Second])
                }
                Some('s') => Some(vec![Part::Epoch(digits.unwrap_or(0))]),
                Some('f') => Some(vec![Part::Fraction(digits.unwrap_or(9))]),
                _ => None,
            };
            let Some(found) = found else {
                return Err(format!("`{text}` is no format of a time that is known"));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.extend(found);
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self::Parts(parts))
    }

    pub(super) fn write(&self, at: SystemTime, to: &mut String) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2);
        let parts = match self {
            Self::Rfc3339 => {
                push_second(second, to);
                push_millis(since.subsec_millis(), to);
                return;
            }
            Self::Parts(parts) => parts,
        };
        let civil = Civil::of(second);
        for part in parts {
            // Writing to a String cannot fail.
            let _ = match part {
                Part::Text(text) => to.write_str(text),
                Part::Year => write!(to, "{}", civil.year),
                Part::Month => write!(to, "{:02}", civil.month),
                Part::Day => write!(to, "{:02}", civil.day),
                Part::Hour => write!(to, "{:02}", civil.second / 3600),
                Part::Minute => write!(to, "{:02}", civil.second / 60 % 60),
                Part::Second => write!(to, "{:02}", civil.second % 60),
                Part::MonthName => to.write_str(month_name(civil.month)),
                Part::Zone => to.write_str("+0000"),
                Part::Epoch(digits) => write!(to, "{}", since.as_nanos() / 10_u128.pow(9 - digits)),
                Part::Fraction(digits) => {
                    let value = since.subsec_nanos() / 10_u32.pow(9 - digits);
                    write!(to, "{value:0width$}", width = *digits as usize)
                }
            };
        }
    }
}

/// `.678Z`.
fn push_millis(millis: u32, to: &mut String) {
    to.push('.');
    to.extend([100, 10, 1].map(|unit| char::from_digit(millis / unit % 10, 10).unwrap_or('0')));
    to.push('Z');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn text(format: &str, millis: u64) -> String {
        let mut text = String::new();
        let at = UNIX_EPOCH + Duration::from_millis(millis);
        TimeFormat::parse(format).unwrap().write(at, &mut text);
        text
    }

    #[test]
    fn specifiers_are_envoys() {
        let at = 1_704_164_645_678;
        for (format, expected) in [
            ("%Y/%m/%dT%H:%M:%S%z %s", "2024/01/02T03:04:05+0000 1704164645"),
            ("%F %T.%3f", "2024-01-02 03:04:05.678"),
            ("%d %b %Y 100%%", "02 Jan 2024 100%"),
            ("%3s", "1704164645678"),
            ("%f", "678000000"),
        ] {
            assert_eq!(text(format, at), expected, "{format}");
        }
        for bad in ["%Q", "%", "%3Y", "%0f"] {
            assert!(TimeFormat::parse(bad).is_err(), "{bad}");
        }
    }
}
