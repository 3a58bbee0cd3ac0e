//! What stands for itself in an expression: texts between quotes, and numbers.

use super::value::Value;

/// Reads a text at the beginning of `rest`: `'a'`, `"a"`, three quotes of either kind, and with an `r` in front without
/// escapes. The text and its length as written; `None` if none begins here.
pub(super) fn text(rest: &str) -> Option<Result<(String, usize), String>> {
    let raw = rest.starts_with(['r', 'R']);
    let quoted = &rest[usize::from(raw)..];
    let quote = ["\"\"\"", "'''", "\"", "'"];
    let quote = quote.into_iter().find(|quote| quoted.starts_with(quote))?;
    let body = &quoted[quote.len()..];
    let mut text = String::new();
    let mut at = 0;
    while let Some(c) = body[at..].chars().next() {
        if body[at..].starts_with(quote) {
            return Some(Ok((text, usize::from(raw) + 2 * quote.len() + at)));
        }
        at += c.len_utf8();
        if c != '\\' || raw {
            text.push(c);
            continue;
        }
        match escape(&body[at..]) {
            Some((c, length)) => {
                text.push(c);
                at += length;
            }
            None => {
                let c = body[at..].chars().next().unwrap_or(' ');
                let why = format!(
                    "`\\{c}` means nothing between quotes; write `\\\\{c}`, or r'..' for a text as it is"
                );
                return Some(Err(why));
            }
        }
    }
    Some(Err("the text has no end".to_owned()))
}

/// What stands behind a backslash, and how long it is.
fn escape(rest: &str) -> Option<(char, usize)> {
    let c = rest.chars().next()?;
    let code = |from: usize, digits: usize, radix| {
        let digits = rest.get(from..from + digits)?;
        let fits = digits.chars().all(|c| c.is_digit(radix));
        let code = fits.then(|| u32::from_str_radix(digits, radix).ok()).flatten()?;
        Some((char::from_u32(code)?, from + digits.len()))
    };
    Some(match c {
        '\\' | '\'' | '"' | '`' | '?' => (c, 1),
        'a' => ('\u{7}', 1),
        'b' => ('\u{8}', 1),
        'f' => ('\u{c}', 1),
        'n' => ('\n', 1),
        'r' => ('\r', 1),
        't' => ('\t', 1),
        'v' => ('\u{b}', 1),
        'x' | 'X' => return code(1, 2, 16),
        'u' => return code(1, 4, 16),
        'U' => return code(1, 8, 16),
        '0'..='3' => return code(0, 3, 8),
        _ => return None,
    })
}

/// Reads a number without a sign at the beginning of `rest`: `12`, `0x1f`, `12u`, `1.5`, `1e3`. It and its length.
pub(super) fn number(rest: &str) -> Option<(Value<'static>, usize)> {
    let run =
        |from: usize, of: fn(&u8) -> bool| rest.as_bytes()[from..].iter().take_while(|byte| of(byte)).count();
    let is_at = |at: usize, any: &[u8]| rest.as_bytes().get(at).is_some_and(|byte| any.contains(byte));
    let unsigned = |digits: &str, radix, end: usize| match is_at(end, b"uU") {
        true => Some((Value::Uint(u64::from_str_radix(digits, radix).ok()?), end + 1)),
        // Whoever reads a sign in front may need one more than fits without.
        false => Some((Value::Int(i64::from_str_radix(digits, radix).ok()?), end)),
    };
    if rest.starts_with("0x") || rest.starts_with("0X") {
        let end = 2 + run(2, u8::is_ascii_hexdigit);
        return unsigned(&rest[2..end], 16, end);
    }
    let whole = run(0, u8::is_ascii_digit);
    let mut end = whole;
    if is_at(end, b".") && run(end + 1, u8::is_ascii_digit) > 0 {
        end += 1 + run(end + 1, u8::is_ascii_digit);
    }
    if end > 0 && is_at(end, b"eE") {
        let signed = end + 1 + usize::from(is_at(end + 1, b"+-"));
        let digits = rest
            .as_bytes()
            .get(signed..)
            .map_or(0, |_| run(signed, u8::is_ascii_digit));
        if digits > 0 {
            end = signed + digits;
        }
    }
    match end == whole {
        true => unsigned(&rest[..end], 10, end),
        false => Some((Value::Double(rest[..end].parse().ok()?), end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_cel_has_them() {
        for (written, expected) in [
            ("'a'", "a"),
            (r#""a'b" rest"#, "a'b"),
            (r"'a\'\n\x41\u00e9\101'", "a'\n\u{41}é\u{41}"),
            (r"r'\d+'", r"\d+"),
            ("'''a'b''c'''", "a'b''c"),
            (r#""""a"b""""#, "a\"b"),
        ] {
            let (text, _) = text(written).unwrap().unwrap();
            assert_eq!(text, expected, "{written}");
        }
        assert_eq!(text("'a' + 'b'").unwrap().unwrap().1, 3);
        assert!(text("a").is_none());
        for odd in ["'a", r"'\d'", r"'\u12'", r"'\ud800'", r"'a\'", "'''a'"] {
            assert!(text(odd).unwrap().is_err(), "{odd}");
        }
    }

    #[test]
    fn numbers_are_read_as_cel_has_them() {
        for (written, expected, length) in [
            ("12", Value::Int(12), 2),
            ("0x1F)", Value::Int(31), 4),
            ("12u", Value::Uint(12), 3),
            ("1.5s", Value::Double(1.5), 3),
            ("1e3", Value::Double(1_000.0), 3),
            ("2E-1 ", Value::Double(0.2), 4),
            ("1.getHours()", Value::Int(1), 1),
            ("1e", Value::Int(1), 1),
        ] {
            assert_eq!(number(written), Some((expected, length)), "{written}");
        }
        for odd in ["", "x", "9223372036854775808", "0x", ".5e"] {
            let read = number(odd);
            assert!(!matches!(read, Some((Value::Int(_), _))), "{odd}: {read:?}");
        }
    }
}
