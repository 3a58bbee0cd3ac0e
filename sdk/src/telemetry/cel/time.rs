//! Points in time and lapses of it, as CEL has them: `timestamp('2024-01-02T03:04:05Z')`, `duration('1.5s')`.
//!
//! Both are whole nanoseconds; a point is told from the beginning of 1970, and lies in the years 1 to 9999.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::telemetry::civil::{Civil, DAY};

const SECOND: i128 = 1_000_000_000;

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(i128);

/// A lapse of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lapse(i128);

/// What can be asked of both: `request.time.getHours('+01:00')`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    Month,
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Part {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "getFullYear" => Self::FullYear,
            "getMonth" => Self::Month,
            "getDate" => Self::Date,
            "getDayOfMonth" => Self::DayOfMonth,
            "getDayOfWeek" => Self::DayOfWeek,
            "getDayOfYear" => Self::DayOfYear,
            "getHours" => Self::Hours,
            "getMinutes" => Self::Minutes,
            "getSeconds" => Self::Seconds,
            "getMilliseconds" => Self::Milliseconds,
            _ => return None,
        })
    }
}

impl Time {
    pub(super) fn of(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i128::try_from(since.as_nanos()).unwrap_or(0))
    }

    pub(super) fn of_seconds(seconds: i64) -> Option<Self> {
        Self::within(i128::from(seconds) * SECOND)
    }

    /// Years beyond these cannot be written.
    fn within(nanos: i128) -> Option<Self> {
        let seconds = i64::try_from(nanos.div_euclid(SECOND)).ok()?;
        (1..=9_999)
            .contains(&Civil::of(seconds).year)
            .then_some(Self(nanos))
    }

    /// Reads `2024-01-02T03:04:05.678+01:00` (RFC 3339).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(11)?;
        let date = date.strip_suffix(['T', 't'])?;
        let mut date = date.split('-');
        let (year, month, day) = (
            digits(date.next()?, 4)?,
            digits(date.next()?, 2)?,
            digits(date.next()?, 2)?,
        );
        let (clock, zone) = match rest.find(['Z', 'z', '+', '-']) {
            Some(at) => rest.split_at(at),
            None => return None,
        };
        let (clock, fraction) = match clock.split_once('.') {
            Some((clock, fraction)) => (clock, nanos(fraction)?),
            None => (clock, 0),
        };
        let mut clock = clock.split(':');
        let mut next = |most| clock.next().and_then(|it| digits(it, 2)).filter(|it| *it <= most);
        let (hour, minute, second) = (next(23)?, next(59)?, next(59)?);
        let civil = Civil {
            year,
            month,
            day,
            second: hour * 3600 + minute * 60 + second,
        };
        if clock.next().is_some() || date.next().is_some() {
            return None;
        }
        let offset = match zone {
            "Z" | "z" => 0,
            zone => offset(zone)?,
        };
        Self::within(i128::from(civil.seconds()? - offset) * SECOND + fraction)
    }

    pub(super) fn seconds(self) -> i64 {
        i64::try_from(self.0.div_euclid(SECOND)).unwrap_or_default()
    }

    /// As RFC 3339 has it, with as many digits of the second as there are.
    pub(super) fn write(self) -> String {
        let mut text = Civil::of(self.seconds()).to_string();
        push_fraction(&mut text, self.0.rem_euclid(SECOND));
        text.push('Z');
        text
    }

    pub(super) fn plus(self, lapse: Lapse) -> Option<Self> {
        Self::within(self.0.checked_add(lapse.0)?)
    }

    pub(super) fn minus(self, lapse: Lapse) -> Option<Self> {
        Self::within(self.0.checked_sub(lapse.0)?)
    }

    pub(super) fn since(self, other: Self) -> Lapse {
        Lapse(self.0 - other.0)
    }

    /// A part of it, at `zone` if one is given: an offset, or UTC.
    pub(super) fn part(self, part: Part, zone: Option<&str>) -> Option<i64> {
        let shift = match zone {
            None | Some("UTC" | "Z") => 0,
            Some(zone) => offset(zone)?,
        };
        let seconds = self.seconds() + shift;
        let civil = Civil::of(seconds);
        Some(match part {
            Part::FullYear => civil.year,
            // Months and days begin with 0, but for dates.
            Part::Month => civil.month - 1,
            Part::Date => civil.day,
            Part::DayOfMonth => civil.day - 1,
            // 1970 began on a Thursday.
            Part::DayOfWeek => (seconds.div_euclid(DAY) + 4).rem_euclid(7),
            Part::DayOfYear => {
                let first = Civil {
                    month: 1,
                    day: 1,
                    second: 0,
                    ..civil
                };
                (seconds - first.seconds()?).div_euclid(DAY)
            }
            Part::Hours => civil.second / 3600,
            Part::Minutes => civil.second / 60 % 60,
            Part::Seconds => civil.second % 60,
            Part::Milliseconds => i64::try_from(self.0.rem_euclid(SECOND) / 1_000_000).ok()?,
        })
    }
}

impl Lapse {
    pub(super) fn of(duration: Duration) -> Self {
        Self(i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX / 2))
    }

    /// Reads `1h30m`, `1.5s`, `-250ms`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        match rest {
            "" => return None,
            "0" => return Some(Self(0)),
            _ => {}
        }
        let mut sum = 0_i128;
        while !rest.is_empty() {
            let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, after) = rest.split_at(number);
            let unit = after
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(unit);
            let scale: i128 = match unit {
                "h" => 3_600 * SECOND,
                "m" => 60 * SECOND,
                "s" => SECOND,
                "ms" => 1_000_000,
                "us" | "µs" | "μs" => 1_000,
                "ns" => 1,
                _ => return None,
            };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if whole.is_empty() && fraction.is_empty() {
                return None;
            }
            let whole: i128 = if whole.is_empty() {
                0
            } else {
                whole.parse::<i64>().ok()?.into()
            };
            let fraction = if fraction.is_empty() { 0 } else { nanos(fraction)? };
            sum = sum.checked_add(whole * scale + fraction * scale / SECOND)?;
            rest = after;
        }
        Some(Self(if negative { -sum } else { sum }))
    }

    /// As CEL writes it: in seconds.
    pub(super) fn write(self) -> String {
        let size = self.0.unsigned_abs();
        let mut text = String::from(if self.0 < 0 { "-" } else { "" });
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{}", size / SECOND.unsigned_abs());
        push_fraction(&mut text, (self.0 % SECOND).abs());
        text.push('s');
        text
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub(super) fn minus(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// All of it in this unit; of milliseconds those beyond the last second.
    pub(super) fn part(self, part: Part) -> Option<i64> {
        let of = |unit: i128| i64::try_from(self.0 / unit).ok();
        match part {
            Part::Hours => of(3_600 * SECOND),
            Part::Minutes => of(60 * SECOND),
            Part::Seconds => of(SECOND),
            Part::Milliseconds => Some(of(1_000_000)? % 1_000),
            _ => None,
        }
    }
}

/// So many digits and nothing else.
fn digits(text: &str, many: usize) -> Option<i64> {
    let fits = text.len() == many && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// What stands behind the point of a second.
fn nanos(fraction: &str) -> Option<i128> {
    let many = u32::try_from(fraction.len()).ok()?;
    let fits = (1..=9).contains(&many) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let value: i128 = fits.then(|| fraction.parse().ok()).flatten()?;
    Some(value * 10_i128.pow(9 - many))
}

/// The seconds of `+01:00`; the sign may be left out.
fn offset(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => (1, zone),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn push_fraction(text: &mut String, nanos: i128) {
    if nanos != 0 {
        let digits = format!("{nanos:09}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lapses_are_read_and_written() {
        for (text, written) in [
            ("1h30m", "5400s"),
            ("1.5s", "1.5s"),
            ("-250ms", "-0.25s"),
            ("1m0.000000001s", "60.000000001s"),
            ("0", "0s"),
            ("2us3ns", "0.000002003s"),
        ] {
            let lapse = Lapse::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(lapse.write(), written, "{text}");
        }
        for odd in [
            "",
            "-",
            "1",
            "s",
            ".s",
            "1d",
            "1.2.3s",
            "1s2",
            "99999999999999999999s",
            "1s ",
        ] {
            assert_eq!(Lapse::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn points_are_read_and_written() {
        for (text, written) in [
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.670+01:30", "2024-01-02T01:34:05.67Z"),
            ("1969-12-31T23:59:59.5-00:00", "1969-12-31T23:59:59.5Z"),
        ] {
            let time = Time::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(time.write(), written, "{text}");
        }
        for odd in [
            "",
            "2024-01-02",
            "2024-01-02T03:04:05",
            "2024-02-30T03:04:05Z",
            "2024-01-02T24:00:00Z",
            "2024-01-02T03:04:05+1:00",
            "2024-01-02T03:04:05.Z",
            "0000-01-02T03:04:05Z",
            "2024-01-02T03:04:05:06Z",
            "é024-01-02T03:04:05Z",
        ] {
            assert_eq!(Time::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn parts_are_those_of_the_calendar() {
        // A Tuesday.
        let time = Time::parse("2024-12-31T23:30:05.678Z").unwrap();
        for (part, zone, expected) in [
            (Part::FullYear, None, 2024),
            (Part::FullYear, Some("+01:00"), 2025),
            (Part::Month, None, 11),
            (Part::Date, None, 31),
            (Part::DayOfMonth, None, 30),
            (Part::DayOfWeek, None, 2),
            (Part::DayOfYear, None, 365),
            (Part::DayOfYear, Some("01:00"), 0),
            (Part::Hours, None, 23),
            (Part::Hours, Some("-08:00"), 15),
            (Part::Minutes, Some("UTC"), 30),
            (Part::Seconds, None, 5),
            (Part::Milliseconds, None, 678),
        ] {
            assert_eq!(time.part(part, zone), Some(expected), "{part:?} {zone:?}");
        }
        assert_eq!(time.part(Part::Hours, Some("Europe/Berlin")), None);
        let lapse = Lapse::parse("1h2m3.456s").unwrap();
        let parts = [Part::Hours, Part::Minutes, Part::Seconds, Part::Milliseconds];
        assert_eq!(parts.map(|part| lapse.part(part)), [1, 62, 3_723, 456].map(Some));
        assert_eq!(lapse.part(Part::Month), None);
    }
}
