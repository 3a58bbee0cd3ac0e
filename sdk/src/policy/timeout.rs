//! How long a request may take.

use std::time::{Duration, Instant};

use http::HeaderValue;

/// The time limits of a route rule. Absent and zero both mean "no limit" (GEP-1742); zero is stored as `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of the request to the response's headers, retries and pauses included.
    pub request: Option<Duration>,
    /// For one attempt.
    pub per_try: Option<Duration>,
}

/// Why a text is not a Gateway API duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration of one to four numbers with units, such as 10s, 500ms or 1h30m")]
pub struct DurationError(String);

/// Reads a Gateway API duration: `^([0-9]{1,5}(h|m|s|ms)){1,4}$` (GEP-2257). No fractions, no sign, no bare number.
///
/// # Errors
/// If the text is anything else.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let refused = || DurationError(text.chars().take(40).collect());
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        if !(1..=5).contains(&digits) {
            return Err(refused());
        }
        let number: u64 = number.parse().map_err(|_| refused())?;
        // `ms` before `m`, which begins it.
        let (unit, tail) = if let Some(tail) = tail.strip_prefix("ms") {
            (Duration::from_millis(1), tail)
        } else if let Some(tail) = tail.strip_prefix('s') {
            (Duration::from_secs(1), tail)
        } else if let Some(tail) = tail.strip_prefix('m') {
            (Duration::from_secs(60), tail)
        } else if let Some(tail) = tail.strip_prefix('h') {
            (Duration::from_secs(3600), tail)
        } else {
            return Err(refused());
        };
        // At most 4 × 99,999 hours: far from overflow.
        total += unit * number as u32;
        if tail.is_empty() {
            return Ok(total);
        }
        rest = tail;
    }
    Err(refused())
}

/// Reads a `grpc-timeout` header: one to eight digits and a unit (`H`, `M`, `S`, `m`, `u`, `n`), as the gRPC
/// protocol writes it. `None` if it is anything else.
pub fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=8).contains(&digits) {
        return None;
    }
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes a `grpc-timeout` header, in the finest unit from milliseconds up of which eight digits are enough; never less
/// than the time given, so that nothing turns into zero.
pub fn grpc_timeout(time: Duration) -> HeaderValue {
    const DIGITS: u128 = 99_999_999;
    let millis = time.as_nanos().div_ceil(1_000_000);
    let (number, unit) = [(1, 'm'), (1_000, 'S'), (60_000, 'M')]
        .into_iter()
        .map(|(factor, unit)| (millis.div_ceil(factor), unit))
        .find(|(number, _)| *number <= DIGITS)
        .unwrap_or_else(|| (millis.div_ceil(3_600_000).min(DIGITS), 'H'));
    // Digits and a letter always are a header value.
    HeaderValue::try_from(format!("{number}{unit}")).unwrap_or_else(|_| HeaderValue::from_static("99999999H"))
}

/// Which limit ends an attempt first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The one for the whole request: nothing may follow.
    Request,
    /// The one for this attempt: another may follow.
    PerTry,
}

/// The time limits of one request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    end: Option<Instant>,
    per_try: Option<Duration>,
}

impl Deadlines {
    /// Limits that count from `now`. `asked` is what the caller set itself (`grpc-timeout`): it can shorten the
    /// rule's limit, not lengthen it.
    pub fn new(timeouts: &Timeouts, asked: Option<Duration>, now: Instant) -> Self {
        let request = match (timeouts.request, asked) {
            (Some(rule), Some(asked)) => Some(rule.min(asked)),
            (rule, asked) => rule.or(asked),
        };
        Self {
            // An instant beyond what the clock can express is as good as none.
            end: request.and_then(|request| now.checked_add(request)),
            per_try: timeouts.per_try,
        }
    }

    /// When the whole request must be over.
    pub fn end(&self) -> Option<Instant> {
        self.end
    }

    /// When an attempt that starts `now` must be over, and by which limit.
    pub fn attempt(&self, now: Instant) -> Option<(Instant, Limit)> {
        let per_try = self.per_try.and_then(|limit| now.checked_add(limit));
        match (self.end, per_try) {
            (Some(end), Some(per_try)) if per_try < end => Some((per_try, Limit::PerTry)),
            (Some(end), _) => Some((end, Limit::Request)),
            (None, per_try) => per_try.map(|at| (at, Limit::PerTry)),
        }
    }

    /// Whether a pause that starts `now` would end before the request must be over.
    pub fn allow_pause(&self, now: Instant, pause: Duration) -> bool {
        self.end
            .is_none_or(|end| now.checked_add(pause).is_some_and(|until| until < end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GEP-2257.
    #[test]
    fn gateway_api_durations() {
        let table = [
            ("0s", Some(0)),
            ("0h0m", Some(0)),
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("10s30m1h", Some(5_410_000)),
            ("1s1s1s1s", Some(4_000)),
            ("99999h", Some(359_996_400_000)),
            ("1s1s1s1s1s", None),
            ("100000s", None),
            ("", None),
            ("1", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("+1s", None),
            ("1us", None),
            ("1d", None),
            (" 1s", None),
            ("1s ", None),
            ("1S", None),
            ("1s1", None),
            ("١s", None),
        ];
        for (text, millis) in table {
            assert_eq!(
                parse_duration(text).ok(),
                millis.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }

    #[test]
    fn grpc_timeouts() {
        assert_eq!(parse_grpc_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(
            parse_grpc_timeout("99999999H"),
            Some(Duration::from_secs(359_999_996_400))
        );
        for text in ["", "m", "1", "1x", "123456789m", "-1m", "1mm"] {
            assert_eq!(parse_grpc_timeout(text), None, "{text}");
        }
    }

    #[test]
    fn grpc_timeouts_are_written_as_they_are_read() {
        let table = [
            (Duration::ZERO, "0m"),
            (Duration::from_micros(1), "1m"),
            (Duration::from_millis(1_500), "1500m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_millis(100_000_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666667M"),
            (Duration::MAX, "99999999H"),
        ];
        for (time, text) in table {
            assert_eq!(grpc_timeout(time), text);
            assert!(parse_grpc_timeout(text).unwrap() >= time.min(Duration::from_secs(359_999_996_400)));
        }
    }

    #[test]
    fn the_nearer_limit_ends_an_attempt() {
        let now = Instant::now();
        let seconds = |n| Some(Duration::from_secs(n));
        let timeouts = |request, per_try| Timeouts { request, per_try };
        let after = |n| now + Duration::from_secs(n);

        let both = Deadlines::new(&timeouts(seconds(10), seconds(4)), None, now);
        assert_eq!(both.attempt(now), Some((after(4), Limit::PerTry)));
        assert_eq!(both.attempt(after(8)), Some((after(10), Limit::Request)));
        assert!(both.allow_pause(after(8), Duration::from_secs(1)));
        assert!(!both.allow_pause(after(8), Duration::from_secs(2)));

        let none = Deadlines::new(&timeouts(None, None), None, now);
        assert_eq!(none.attempt(now), None);
        assert!(none.allow_pause(now, Duration::MAX) || none.end().is_none());

        let asked = Deadlines::new(&timeouts(seconds(10), None), seconds(3), now);
        assert_eq!(asked.end(), Some(after(3)));
        let greedy = Deadlines::new(&timeouts(seconds(10), None), seconds(30), now);
        assert_eq!(greedy.end(), Some(after(10)));
        let huge = Deadlines::new(&timeouts(Some(Duration::MAX), None), None, now);
        assert_eq!(huge.end(), None);
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(text in "([0-9]{0,7}(h|m|s|ms|H|n|x)?){0,6}") {
            let _ = parse_duration(&text);
            let _ = parse_grpc_timeout(&text);
        }
    }
}
