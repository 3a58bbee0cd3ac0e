//! Prometheus's text format, as far as a line is a name, labels and a number.

use std::collections::BTreeMap;

/// One line.
#[derive(Debug, PartialEq)]
pub(super) struct Point<'a> {
    pub(super) name: &'a str,
    pub(super) labels: BTreeMap<&'a str, String>,
    pub(super) value: f64,
}

/// The lines whose names begin so; a line that is none is left out.
pub(super) fn points<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = Point<'a>> {
    text.lines()
        .filter(move |line| line.starts_with(prefix))
        .filter_map(point)
}

fn point(line: &str) -> Option<Point<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = value(after)?;
            labels.insert(key.trim_start_matches(','), value);
            rest = after;
        }
        rest = rest.strip_prefix('}')?;
    }
    // After the number an exemplar may stand.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Point { name, labels, value })
}

/// A label's value up to its closing quote, and what follows that.
fn value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_labels_and_a_number() {
        let text = "# HELP a b\na{x=\"1\",y=\"a\\\"b\\\\,}\\n\"} 2.5 # {trace_id=\"7\"} 1\nab 3\na_bad{x=\"1} 4\na_none{} x\n";
        let seen: Vec<Point<'_>> = points(text, "a").collect();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].name, seen[0].value), ("a", 2.5));
        assert_eq!(seen[0].labels["y"], "a\"b\\,}\n");
        assert_eq!((seen[1].name, seen[1].value), ("ab", 3.0));
        assert!(seen[1].labels.is_empty());
    }
}
