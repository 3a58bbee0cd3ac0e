//! Documents as lines of a terminal.

use serde_json::Value;

/// Text that others chose, so that it can do nothing to a terminal.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}');
        match c.is_control() || turns {
            true => clean.extend(c.escape_unicode()),
            false => clean.push(c),
        }
    }
    clean
}

/// A field's text, cleaned; empty if there is none.
pub(super) fn text(of: &Value, field: &str) -> String {
    of[field].as_str().map(clean).unwrap_or_default()
}

/// Rows below their heads, in columns; numbers to the right.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        cells
            .chain([heads[column]])
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    let heads = heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let right = row != &heads && cell.starts_with(|c: char| c.is_ascii_digit() || c == '–');
            match right {
                true => line.push_str(&format!("{cell:>width$}  ")),
                false => line.push_str(&format!("{cell:<width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A rate per second.
pub(super) fn rate(of: &Value) -> String {
    match of.as_f64() {
        None => "–".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}/s"),
        Some(rate) => format!("{rate:.0}/s"),
    }
}

/// A share as percent.
pub(super) fn share(of: &Value) -> String {
    format!("{:.1} %", of.as_f64().unwrap_or(0.0) * 100.0)
}

/// Milliseconds.
pub(super) fn millis(of: &Value) -> String {
    match of.as_f64() {
        None => "–".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

/// A moment of today, in UTC.
pub(super) fn clock(millis: u64) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let of_day = seconds % 86_400;
    format!(
        "{:02}:{:02}:{:02}.{millis:03}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Who is at one end of a request.
pub(super) fn end(of: &Value) -> String {
    let (workload, namespace) = (text(of, "workload"), text(of, "namespace"));
    let identity = text(of, "identity");
    let known = [identity, text(of, "service"), text(of, "address")];
    match (namespace.as_str(), workload.as_str()) {
        (_, "") => known
            .into_iter()
            .find(|it| !it.is_empty())
            .unwrap_or_else(|| "unknown".to_owned()),
        ("", _) => workload,
        _ => format!("{namespace}/{workload}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_the_cursor_is_written_out() {
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}\r"), "a\\u{1b}[2Jb\\u{202e}\\u{d}");
        assert_eq!(clean("zwölf"), "zwölf");
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [
            vec!["a".to_owned(), "10/s".to_owned()],
            vec!["bcd".to_owned(), "5/s".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "RATE"], &rows),
            "NAME  RATE\na     10/s\nbcd    5/s\n"
        );
        assert_eq!(clock(86_400_000 + 3_723_004), "01:02:03.004");
    }
}
