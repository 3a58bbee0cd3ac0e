//! A YAML stream cut into its documents before anything is parsed, so that one broken document costs only itself.
//!
//! Cutting at lines is exact: `---` and `...` at the start of a line are document markers wherever they stand,
//! in block and quoted scalars too (YAML 1.2.2 §9.1.2, `c-forbidden`).

use std::borrow::Cow;

/// One document of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    /// Line of the stream on which `text` begins, from 0.
    pub(super) offset: u32,
    pub(super) text: Cow<'a, str>,
}

/// The documents that hold anything.
pub(super) fn documents(stream: &str) -> Vec<Chunk<'_>> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let mut chunks = Vec::new();
    let (mut start, mut offset, mut head) = (0, 0, None);
    let (mut position, mut number) = (0, 0);
    for line in stream.split_inclusive('\n') {
        if let Some(marker) = marker(line) {
            push(&mut chunks, offset, head, &stream[start..position]);
            let rest = &line[3..];
            let inline = marker == "---" && holds_something(rest);
            (start, offset, head) = match inline {
                true => (position + 3, number, Some(())),
                false => (position + line.len(), number + 1, None),
            };
        }
        position += line.len();
        number += 1;
    }
    push(&mut chunks, offset, head, &stream[start..]);
    chunks
}

/// `head` says that the text follows a `---` on its line, whose three columns are made up for.
fn push<'a>(chunks: &mut Vec<Chunk<'a>>, offset: u32, head: Option<()>, text: &'a str) {
    if !text.lines().any(holds_something) {
        return;
    }
    let text = match head {
        Some(()) => Cow::Owned(format!("   {text}")),
        None => Cow::Borrowed(text),
    };
    chunks.push(Chunk { offset, text });
}

/// The document marker that the line starts with.
fn marker(line: &str) -> Option<&str> {
    let marker = line.get(..3).filter(|marker| matches!(*marker, "---" | "..."))?;
    let next = line[3..].chars().next();
    next.is_none_or(|next| next.is_ascii_whitespace())
        .then_some(marker)
}

/// Whether a line is more than blank, a comment or a directive.
fn holds_something(line: &str) -> bool {
    !line.starts_with('%') && !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(stream: &str) -> Vec<(u32, String)> {
        documents(stream)
            .into_iter()
            .map(|chunk| (chunk.offset, chunk.text.into_owned()))
            .collect()
    }

    #[test]
    fn documents_remember_the_line_they_start_on() {
        assert_eq!(
            cut("a: 1\n---\nb: 2\n"),
            [(0, "a: 1\n".into()), (2, "b: 2\n".into())]
        );
        assert_eq!(cut("# licence\n---\n# c\n---\na: 1"), [(4, "a: 1".into())]);
        assert_eq!(
            cut("a: 1\r\n---\r\nb: 2\r\n"),
            [(0, "a: 1\r\n".into()), (2, "b: 2\r\n".into())]
        );
        assert_eq!(
            cut("%YAML 1.2\n---\na: 1\n...\nb: 1\n"),
            [(2, "a: 1\n".into()), (4, "b: 1\n".into())]
        );
    }

    #[test]
    fn what_follows_a_marker_on_its_line_keeps_its_column() {
        assert_eq!(cut("--- {a: 1}\n"), [(0, "    {a: 1}\n".into())]);
        assert_eq!(cut("--- # nothing\na: 1\n"), [(1, "a: 1\n".into())]);
    }

    #[test]
    fn only_a_marker_of_its_own_at_the_start_of_a_line_counts() {
        assert_eq!(cut("a: |\n  ---\n  b\n").len(), 1);
        assert_eq!(cut("----\n").len(), 1);
        assert_eq!(cut("---").len(), 0);
        assert_eq!(cut("---é: 1\n").len(), 1);
        assert_eq!(cut("").len(), 0);
    }
}
