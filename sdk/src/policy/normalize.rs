//! One canonical path, on which routes and policies decide and which is what the application receives.
//!
//! Istio's `meshConfig.pathNormalization`: decode (only in the strongest mode), then RFC 3986, then merge slashes;
//! each step once.

use std::borrow::Cow;

/// How far a path is normalized; Istio's `pathNormalization.normalization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathNormalization {
    /// `NONE`: not at all, apart from dropping a fragment.
    None,
    /// `DEFAULT`, or nothing said: as `BASE`, and a path in which only some servers see a dot segment (`/..;x=y/`, which
    /// servlet containers take for `/../`) is refused. A mode that is named leaves such a path as it is, as Istio's do.
    #[default]
    Default,
    /// `BASE`: RFC 3986 §6.2.2 — unreserved characters decoded, dot segments removed, `\` is `/`.
    Base,
    /// `MERGE_SLASHES`: as `BASE`, then runs of `/` become one.
    MergeSlashes,
    /// `DECODE_AND_MERGE_SLASHES`: `%2F` and `%5C` decoded first, then as `MERGE_SLASHES`.
    DecodeAndMergeSlashes,
}

/// Why a path cannot be normalized; the request is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It does not start with `/` and is not `*`.
    #[error("the path does not start with `/`")]
    Slash,
    /// It holds an encoded NUL.
    #[error("the path holds `%00`")]
    Nul,
    /// It holds a dot segment with parameters, which servers read differently.
    #[error("the path holds a dot segment with parameters")]
    Parameters,
}

/// The canonical form of a path (without query); borrowed where it is canonical already.
///
/// A fragment is cut off, as it never belongs to a request.
///
/// # Errors
/// See [`PathError`].
pub fn normalize(path: &str, mode: PathNormalization) -> Result<Cow<'_, str>, PathError> {
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    if path == "*" {
        return Ok(path.into());
    }
    if mode == PathNormalization::None {
        return if path.starts_with('/') {
            Ok(path.into())
        } else {
            Err(PathError::Slash)
        };
    }
    if !path.starts_with(['/', '\\']) {
        return Err(PathError::Slash);
    }
    if is_normal(path, mode) {
        return Ok(path.into());
    }
    let text = decode(path, mode == PathNormalization::DecodeAndMergeSlashes)?;
    if mode == PathNormalization::Default && has_parameters_on_dots(&text) {
        return Err(PathError::Parameters);
    }
    let text = remove_dot_segments(&text);
    Ok(if merges(mode) { merge_slashes(&text) } else { text }.into())
}

fn merges(mode: PathNormalization) -> bool {
    matches!(
        mode,
        PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes
    )
}

/// Whether a segment would be a dot segment without its parameters (RFC 3986 §3.3 has them, few servers cut them off).
fn has_parameters_on_dots(path: &str) -> bool {
    path.split('/')
        .filter_map(|segment| segment.split_once(';'))
        .any(|(name, _)| matches!(name, "." | ".."))
}

/// Whether normalizing would change nothing: the usual path, decided in one pass.
fn is_normal(path: &str, mode: PathNormalization) -> bool {
    let bytes = path.as_bytes();
    let merges = merges(mode);
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' | b'\\' => false,
        b'.' => at == 0 || bytes[at - 1] != b'/' || !starts_with_dot_segment(&bytes[at..]),
        b'/' => !merges || bytes.get(at + 1) != Some(&b'/'),
        _ => true,
    })
}

/// Whether `.` or `..` comes first and then the segment's end, or parameters of it.
fn starts_with_dot_segment(rest: &[u8]) -> bool {
    let dots = rest.iter().take(3).take_while(|byte| **byte == b'.').count();
    matches!(dots, 1 | 2) && matches!(rest.get(dots), None | Some(b'/' | b';'))
}

fn decode(path: &str, slashes: bool) -> Result<String, PathError> {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        text.push_str(&rest[..at]);
        let (character, length) = match escaped(&rest.as_bytes()[at..]) {
            Some(0) => return Err(PathError::Nul),
            Some(byte) if is_unreserved(byte) && !completes_escape(text.as_bytes(), byte) => {
                (char::from(byte), 3)
            }
            Some(b'/' | b'\\') if slashes => ('/', 3),
            _ if rest[at..].starts_with('\\') => ('/', 1),
            _ => ('%', 1),
        };
        text.push(character);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Ok(text)
}

/// Whether a decoded byte would make an escape of what precedes it, as in `%2%65`: whoever normalizes after us would
/// decode that too, and see another path than we judged.
fn completes_escape(text: &[u8], byte: u8) -> bool {
    byte.is_ascii_hexdigit()
        && match text {
            [.., b'%'] => true,
            [.., b'%', digit] => digit.is_ascii_hexdigit(),
            _ => false,
        }
}

/// The byte that `%XX` at the start stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §5.2.4; an empty segment counts as one, `..` above the root stays at the root.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    let mut text = String::with_capacity(path.len());
    for segment in kept {
        text.push('/');
        text.push_str(segment);
    }
    text
}

fn merge_slashes(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !text.ends_with('/') {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::PathNormalization::{Base, DecodeAndMergeSlashes, Default, MergeSlashes, None};
    use super::*;

    /// The rows of istio/istio `tests/integration/security/normalization_test.go`, in our words.
    #[test]
    fn the_table_of_normalized_paths_holds() {
        for (mode, path, expected) in [
            (None, "/app/../a%2e//b\\", "/app/../a%2e//b\\"),
            (None, "/a%00", "/a%00"),
            (Base, "/", "/"),
            (Base, "/app/", "/app/"),
            (Base, "/app/../admin", "/admin"),
            (Base, "/app//", "/app//"),
            (Base, "/app/%2f", "/app/%2f"),
            (Base, "/app%2f/", "/app%2f/"),
            (Base, "/xyz%30..//abc", "/xyz0..//abc"),
            (Base, "/app/%2E./admin", "/admin"),
            (Base, "/app\\admin", "/app/admin"),
            (Base, "/app/\\/\\/\\admin", "/app//////admin"),
            (Base, "/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc"),
            (
                Base,
                "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc",
                "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
            ),
            (Base, "/app//../admin", "/app/admin"),
            (Base, "/app//../../admin", "/admin"),
            (Base, "/app#foo", "/app"),
            (Base, "/public/%2E/%2E%2E/private", "/private"),
            (Base, "/x/../../../public", "/public"),
            (Base, "/public/%2e%2e", "/"),
            (Base, "/a/b/.", "/a/b/"),
            (Base, "/a/b/..", "/a/"),
            (Base, "/%70ublic", "/public"),
            (Base, "\\public", "/public"),
            (Base, "/a%2", "/a%2"),
            (Base, "/a%", "/a%"),
            (Base, "/a%zz", "/a%zz"),
            (Base, "/%2%65%2%65/admin", "/%2%65%2%65/admin"),
            (Base, "/%%32e%32%65/b", "/%%32e2e/b"),
            (MergeSlashes, "/app//../admin", "/app/admin"),
            (MergeSlashes, "//app///admin//", "/app/admin/"),
            (MergeSlashes, "/app/\\/\\/\\admin", "/app/admin"),
            (MergeSlashes, "/app%2f%2fadmin", "/app%2f%2fadmin"),
            (DecodeAndMergeSlashes, "/app/%2f", "/app/"),
            (DecodeAndMergeSlashes, "/app%2f/", "/app/"),
            (DecodeAndMergeSlashes, "/%2Fapp%5cadmin%5Cabc", "/app/admin/abc"),
            (
                DecodeAndMergeSlashes,
                "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc",
                "/app/admin/abc",
            ),
            (DecodeAndMergeSlashes, "/%c0%2e%c0%2e/admin", "/%c0.%c0./admin"),
            (DecodeAndMergeSlashes, "/%c0%2fadmin", "/%c0/admin"),
            (DecodeAndMergeSlashes, "/%252e%252e/admin", "/%252e%252e/admin"),
            (DecodeAndMergeSlashes, "/.../admin", "/.../admin"),
            (DecodeAndMergeSlashes, "/..;/admin", "/..;/admin"),
            (DecodeAndMergeSlashes, "/x%2f..%2fadmin", "/admin"),
            (DecodeAndMergeSlashes, "/admin%20x", "/admin%20x"),
            (Base, "*", "*"),
        ] {
            assert_eq!(
                normalize(path, mode).as_deref(),
                Ok(expected),
                "{path} with {mode:?}"
            );
        }
    }

    /// hardening rows 24 and 26
    #[test]
    fn nul_and_a_missing_slash_are_refused() {
        for mode in [Default, Base, MergeSlashes, DecodeAndMergeSlashes] {
            assert_eq!(normalize("/admin%00", mode), Err(PathError::Nul));
            assert_eq!(normalize("Svc/Method", mode), Err(PathError::Slash));
            assert_eq!(normalize("", mode), Err(PathError::Slash));
        }
        assert_eq!(normalize("Svc/Method", None), Err(PathError::Slash));
    }

    /// hardening rows 23 and 25: nothing but `/` parts a path, for policy and application alike.
    #[test]
    fn path_parameters_are_part_of_their_segment() {
        for path in ["/public/..;x=y/admin", "/admin;a=b", "/..;/admin"] {
            assert_eq!(normalize(path, DecodeAndMergeSlashes).as_deref(), Ok(path));
        }
        assert_eq!(normalize("/admin#/../public", Base).as_deref(), Ok("/admin"));
    }

    /// hardening row 23: a servlet container sees `/admin` in these.
    #[test]
    fn dot_segments_with_parameters_are_refused_by_default() {
        for path in [
            "/public/..;x=y/admin",
            "/..;/admin",
            "/.;/admin",
            "/a/%2e%2e;b/c",
            "/a/..;",
        ] {
            assert_eq!(normalize(path, Default), Err(PathError::Parameters), "{path}");
        }
        for path in ["/admin;a=b", "/a;..", "/...;x", "/a..;x/b"] {
            assert_eq!(normalize(path, Default).as_deref(), Ok(path));
        }
    }

    #[test]
    fn a_canonical_path_is_borrowed() {
        for path in [
            "/",
            "/productpage",
            "/api/v1/products/0/reviews",
            "/.well-known/x",
            "/a/..b",
        ] {
            assert!(
                matches!(normalize(path, DecodeAndMergeSlashes), Ok(Cow::Borrowed(_))),
                "{path}"
            );
        }
    }

    proptest::proptest! {
        /// A path passes several hops, and each of them normalizes.
        #[test]
        fn normalizing_twice_changes_nothing(path in "/[a.;%/\\\\0256eEcCfF]{0,16}") {
            for mode in [None, Default, Base, MergeSlashes, DecodeAndMergeSlashes] {
                let Ok(once) = normalize(&path, mode) else { continue };
                let twice = normalize(&once, mode);
                proptest::prop_assert_eq!(twice.as_deref(), Ok(&*once), "{:?}", mode);
                proptest::prop_assert!(once.starts_with('/'));
            }
        }

        #[test]
        fn the_quick_answer_is_the_long_one(path in "/[a.%/2eE]{0,12}") {
            for mode in [Default, Base, MergeSlashes, DecodeAndMergeSlashes] {
                if is_normal(&path, mode) {
                    let long = remove_dot_segments(&decode(&path, mode == DecodeAndMergeSlashes).unwrap());
                    let long = if merges(mode) { merge_slashes(&long) } else { long };
                    proptest::prop_assert_eq!(long, path.clone());
                }
            }
        }

        #[test]
        fn normalizing_never_panics(path in "\\PC{0,40}") {
            for mode in [None, Default, Base, MergeSlashes, DecodeAndMergeSlashes] {
                let _ = normalize(&path, mode);
                let _ = normalize(&format!("/{path}"), mode);
            }
        }
    }
}
