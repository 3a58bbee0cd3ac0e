//! Days and seconds as the Gregorian calendar has them, in UTC.

use std::cell::Cell;
use std::fmt::{self, Write as _};

/// A second in the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    /// Of the day.
    pub(super) second: i64,
}

/// Eras of 400 years that begin in March, so that the leap day is the last of its year.
const ERA: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;
/// Seconds.
pub(super) const DAY: i64 = 86_400;

impl Civil {
    /// So many seconds after 1970 began, or before.
    pub(super) fn of(seconds: i64) -> Self {
        let days = seconds.div_euclid(DAY) + EPOCH;
        let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let march = (month + 2) % 12 + 1;
        Self {
            year: era * 400 + year + i64::from(march <= 2),
            month: march,
            day: day - (153 * month + 2) / 5 + 1,
            second: seconds.rem_euclid(DAY),
        }
    }

    /// How many seconds after 1970 began that is; `None` if there is no such day.
    pub(super) fn seconds(&self) -> Option<i64> {
        let Self {
            year,
            month,
            day,
            second,
        } = *self;
        let is_far = !(-1_000_000..=1_000_000).contains(&year);
        if is_far || !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(0..DAY).contains(&second) {
            return None;
        }
        let march = year - i64::from(month <= 2);
        let (era, of_era) = (march.div_euclid(400), march.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH;
        let seconds = days * DAY + second;
        // A thirty-first of June is the first of July.
        (Self::of(seconds) == *self).then_some(seconds)
    }
}

impl Civil {
    /// Writes `2024-01-02T03:04:05`. By hand: it is in every line of an access log, and the formatter takes longer than all
    /// the rest of it.
    pub(super) fn push(&self, to: &mut String) {
        match self.year {
            0..=9_999 => {
                digits(self.year / 100, to);
                digits(self.year % 100, to);
            }
            // Writing to a `String` cannot fail.
            year => drop(write!(to, "{year}")),
        }
        for (mark, number) in [
            ('-', self.month),
            ('-', self.day),
            ('T', self.second / 3600),
            (':', self.second / 60 % 60),
            (':', self.second % 60),
        ] {
            to.push(mark);
            digits(number, to);
        }
    }
}

thread_local! {
    /// The second that was last written on this thread, and how.
    static WRITTEN: Cell<(i64, [u8; 19])> = const { Cell::new((i64::MIN, [0; 19])) };
}

/// Writes `2024-01-02T03:04:05`, so many seconds after 1970 began. Whoever writes lines has the same second many times over.
pub(super) fn push_second(second: i64, to: &mut String) {
    let (known, text) = WRITTEN.get();
    if known == second {
        return to.push_str(str::from_utf8(&text).unwrap_or_default());
    }
    let start = to.len();
    Civil::of(second).push(to);
    if let Ok(text) = to.as_bytes()[start..].try_into() {
        WRITTEN.set((second, text));
    }
}

/// A number below a hundred, in two digits.
fn digits(number: i64, to: &mut String) {
    let digit = |number: i64| char::from_digit(u32::try_from(number % 10).unwrap_or(0), 10).unwrap_or('0');
    to.push(digit(number / 10));
    to.push(digit(number));
}

impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(20);
        self.push(&mut text);
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (-1, "1969-12-31T23:59:59"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_704_164_645, "2024-01-02T03:04:05"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (-62_135_596_800, "0001-01-01T00:00:00"),
        ] {
            let civil = Civil::of(seconds);
            assert_eq!(civil.to_string(), expected);
            assert_eq!(civil.seconds(), Some(seconds), "{expected}");
        }
    }

    #[test]
    fn a_second_is_written_alike_the_first_and_the_next_time() {
        // The year 10,000 is longer than what is kept.
        for second in [
            0,
            1_704_164_645,
            1_704_164_645,
            1_704_164_646,
            253_402_300_800,
            253_402_300_800,
            0,
        ] {
            let mut text = "[".to_owned();
            push_second(second, &mut text);
            assert_eq!(text, format!("[{}", Civil::of(second)));
        }
    }

    #[test]
    fn there_is_no_thirtieth_of_february() {
        for (year, month, day, second) in [
            (2024, 2, 30, 0),
            (2023, 2, 29, 0),
            (2024, 13, 1, 0),
            (2024, 1, 0, 0),
            (2024, 1, 1, DAY),
            (i64::MAX, 1, 1, 0),
        ] {
            let civil = Civil {
                year,
                month,
                day,
                second,
            };
            assert_eq!(civil.seconds(), None, "{civil:?}");
        }
    }
}
