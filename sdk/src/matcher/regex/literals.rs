//! What of an expression is plain text: `/users/[0-9]+/orders` is `/users/`, a gap, and `/orders`.

use std::ops::Range;

use regex_syntax::ast::{Assertion, AssertionKind, Ast, RepetitionKind, parse::Parser};

use super::Literals;
use super::halves::WORTH_IT;

/// What stands between prefix and suffix.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gap<'a> {
    /// Nothing, and no gap either.
    Nothing,
    /// `.*`
    Dots,
    /// This part of the expression.
    Between(&'a str),
    /// Text, and these parts of the expression around it; the whole is all three.
    Around {
        before: &'a str,
        after: &'a str,
        whole: &'a str,
    },
    /// Not to be told apart: it takes the whole expression to see whether a text matches.
    Unclear,
}

/// Splits an expression that has to match from end to end. One that is malformed has no literals.
pub(super) fn split(text: &str) -> (Literals, Gap<'_>) {
    let unclear = (Literals::default(), Gap::Unclear);
    let Ok(ast) = Parser::new().parse(text) else {
        return unclear;
    };
    let parts = match &ast {
        Ast::Concat(concat) => &*concat.asts,
        Ast::Empty(_) => &[],
        one => std::slice::from_ref(one),
    };
    // What a flag is set for is everything after it.
    if parts.iter().any(|it| matches!(it, Ast::Flags(_))) {
        return unclear;
    }
    let parts = unanchored(parts);
    let begins = parts.iter().take_while(|it| character(it).is_some()).count();
    let (prefix, rest) = parts.split_at(begins);
    let ends = rest.iter().rev().take_while(|it| character(it).is_some()).count();
    let (gap, suffix) = rest.split_at(rest.len() - ends);
    let inner = longest(gap);
    let literals = Literals {
        prefix: plain(prefix),
        suffix: plain(suffix),
        inner: plain(&gap[inner.clone()]),
    };
    let gap = match gap {
        [] => Gap::Nothing,
        [only] if is_dots(only) => Gap::Dots,
        _ if gap.iter().any(looks_around) => Gap::Unclear,
        gap => {
            let whole = written(text, gap);
            let halves = (gap.get(..inner.start), gap.get(inner.end..));
            match (whole, halves) {
                (Some(whole), (Some(before), Some(after))) if literals.inner.len() >= WORTH_IT => {
                    match (written(text, before), written(text, after)) {
                        (Some(before), Some(after)) => Gap::Around { before, after, whole },
                        _ => Gap::Between(whole),
                    }
                }
                (whole, _) => whole.map_or(Gap::Unclear, Gap::Between),
            }
        }
    };
    (literals, gap)
}

/// Parts of an expression as they are written.
fn written<'a>(text: &'a str, parts: &[Ast]) -> Option<&'a str> {
    let (first, last) = (parts.first()?, parts.last()?);
    text.get(first.span().start.offset..last.span().end.offset)
}

/// Without `^` at the beginning and `$` at the end, which say what is so anyway.
fn unanchored(mut parts: &[Ast]) -> &[Ast] {
    while let [first, rest @ ..] = parts
        && is_assertion(first, &[AssertionKind::StartLine, AssertionKind::StartText])
    {
        parts = rest;
    }
    while let [rest @ .., last] = parts
        && is_assertion(last, &[AssertionKind::EndLine, AssertionKind::EndText])
    {
        parts = rest;
    }
    parts
}

fn is_assertion(ast: &Ast, kinds: &[AssertionKind]) -> bool {
    matches!(ast, Ast::Assertion(it) if matches!(&**it, Assertion { kind, .. } if kinds.contains(kind)))
}

fn character(ast: &Ast) -> Option<char> {
    match ast {
        Ast::Literal(literal) => Some(literal.c),
        _ => None,
    }
}

fn plain(parts: &[Ast]) -> Box<str> {
    parts.iter().filter_map(character).collect::<String>().into()
}

/// Where the longest run of characters is.
fn longest(parts: &[Ast]) -> Range<usize> {
    let length = |run: &Range<usize>| plain(&parts[run.clone()]).len();
    let (mut longest, mut begin) = (0..0, 0);
    for at in 0..=parts.len() {
        if parts.get(at).and_then(character).is_none() {
            if length(&(begin..at)) > length(&longest) {
                longest = begin..at;
            }
            begin = at + 1;
        }
    }
    longest
}

fn is_dots(ast: &Ast) -> bool {
    match ast {
        Ast::Repetition(it) => it.op.kind == RepetitionKind::ZeroOrMore && matches!(&*it.ast, Ast::Dot(_)),
        _ => false,
    }
}

/// Whether it asserts something about the text around it, so that it cannot be cut off from that.
fn looks_around(ast: &Ast) -> bool {
    match ast {
        Ast::Assertion(_) => true,
        Ast::Repetition(it) => looks_around(&it.ast),
        Ast::Group(it) => looks_around(&it.ast),
        Ast::Alternation(it) => it.asts.iter().any(looks_around),
        Ast::Concat(it) => it.asts.iter().any(looks_around),
        Ast::Empty(_)
        | Ast::Flags(_)
        | Ast::Literal(_)
        | Ast::Dot(_)
        | Ast::ClassUnicode(_)
        | Ast::ClassPerl(_)
        | Ast::ClassBracketed(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_split_into_text_and_gap() {
        for (text, prefix, inner, suffix, gap) in [
            ("/v[0-9]+", "/v", "", "", Gap::Between("[0-9]+")),
            ("/api/users/.*", "/api/users/", "", "", Gap::Dots),
            ("/a/.*/b", "/a/", "", "/b", Gap::Dots),
            ("/a/.+/b", "/a/", "", "/b", Gap::Between(".+")),
            ("/ab*", "/a", "", "", Gap::Between("b*")),
            ("/ab?c", "/a", "", "c", Gap::Between("b?")),
            ("/ab{2}", "/a", "", "", Gap::Between("b{2}")),
            ("/plain", "/plain", "", "", Gap::Nothing),
            ("/a\\.b\\/é", "/a.b/é", "", "", Gap::Nothing),
            (
                "^/a/[a-z]+/mid/x+$",
                "/a/",
                "/mid/",
                "",
                Gap::Around {
                    before: "[a-z]+",
                    after: "x+",
                    whole: "[a-z]+/mid/x+",
                },
            ),
            ("/a+/m/x+", "/", "/m/", "", Gap::Between("a+/m/x+")),
            ("/a|/b", "", "", "", Gap::Between("/a|/b")),
            ("/a(b|c)/", "/a", "", "/", Gap::Between("(b|c)")),
            ("(?i)/a", "", "", "", Gap::Unclear),
            ("/(?i:a)", "/", "", "", Gap::Between("(?i:a)")),
            ("/a.\\b.b", "/a", "", "b", Gap::Unclear),
            ("/a(b|$)", "/a", "", "", Gap::Unclear),
            (".*", "", "", "", Gap::Dots),
            ("", "", "", "", Gap::Nothing),
            ("[", "", "", "", Gap::Unclear),
        ] {
            let literals = Literals {
                prefix: prefix.into(),
                inner: inner.into(),
                suffix: suffix.into(),
            };
            assert_eq!(split(text), (literals, gap), "{text}");
        }
    }
}
