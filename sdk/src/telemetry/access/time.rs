//! Points in time as text, in UTC.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

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
        let civil = Civil::of(since.as_secs());
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Rfc3339 => write!(to, "{civil}.{:03}Z", since.subsec_millis()),
            Self::Parts(parts) => parts.iter().try_for_each(|part| match part {
                Part::Text(text) => to.write_str(text),
                Part::Year => write!(to, "{}", civil.year),
                Part::Month => write!(to, "{:02}", civil.month),
                Part::Day => write!(to, "{:02}", civil.day),
                Part::Hour => write!(to, "{:02}", civil.second / 3600),
                Part::Minute => write!(to, "{:02}", civil.second / 60 % 60),
                Part::Second => write!(to, "{:02}", civil.second % 60),
                Part::MonthName => to.write_str(MONTHS.get(civil.month as usize - 1).copied().unwrap_or("")),
                Part::Zone => to.write_str("+0000"),
                Part::Epoch(digits) => write!(to, "{}", since.as_nanos() / 10_u128.pow(9 - digits)),
                Part::Fraction(digits) => {
                    let value = since.subsec_nanos() / 10_u32.pow(9 - digits);
                    write!(to, "{value:0width$}", width = *digits as usize)
                }
            }),
        };
    }
}

/// A second in the Gregorian calendar.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    /// Of the day.
    second: u64,
}

impl Civil {
    /// Counts in eras of 400 years that begin in March, so that the leap day is the last of its year.
    fn of(seconds: u64) -> Self {
        const ERA: u64 = 146_097;
        // From 0000-03-01 to 1970-01-01.
        let days = seconds / 86_400 + 719_468;
        let (era, day) = (days / ERA, days % ERA);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let march = (month + 2) % 12 + 1;
        Self {
            year: era * 400 + year + u64::from(march <= 2),
            month: march,
            day: day - (153 * month + 2) / 5 + 1,
            second: seconds % 86_400,
        }
    }
}

/// `2024-01-02T03:04:05`.
impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            year,
            month,
            day,
            second,
        } = self;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )
    }
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
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_704_164_645, "2024-01-02T03:04:05.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
        ] {
            assert_eq!(text("", seconds * 1000), expected);
        }
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
