//! When an object was created: what settles which of two comes first.

use crate::config::ObjectMeta;

/// When an object was created, in seconds since 1970, if that is known.
pub(crate) fn created(meta: &ObjectMeta) -> Option<u64> {
    meta.creation_timestamp.as_deref().and_then(seconds)
}

/// Seconds since 1970 of an RFC 3339 time, as Kubernetes writes it; `None` if it is not one.
fn seconds(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse().ok()).flatten()
    };
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if !separators.iter().all(|(at, byte)| bytes.get(*at) == Some(byte)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days by counting years from March, so that the leap day is a year's last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let zone = text
        .get(19..)?
        .trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] if zone.len() == 6 => {
            let at = text.len() - 5;
            let minutes = number(at, at + 2)? * 60 + number(at + 3, at + 5)?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    u64::try_from(((days * 24 + hour) * 60 + minute - offset) * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn creation_times_are_seconds() {
        let table = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2024-03-01T00:00:00.123Z", Some(1_709_251_200)),
            ("2024-03-01T01:00:00+01:00", Some(1_709_251_200)),
            ("2024-02-29T23:30:00-00:30", Some(1_709_251_200)),
            ("2024-03-01", None),
            ("yesterday", None),
            ("", None),
            ("2024-03-01T00:00:00", None),
        ];
        for (text, expected) in table {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_a_time_never_panics(text in "\\PC{0,30}") {
            let _ = seconds(&text);
        }
    }
}
