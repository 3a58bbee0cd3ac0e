//! What names, hosts, labels and headers may look like, as Istio's validation has it.

/// A single label of a DNS name (RFC 1123), upper case allowed.
pub(super) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// A DNS name of such labels whose last is not a number; a trailing dot is allowed.
pub(super) fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    (1..=255).contains(&text.len()) && last.parse::<u64>().is_err() && name.split('.').all(is_label)
}

/// A DNS name that may begin with `*` (`*.example.com`, `*`), or an IP address.
pub(super) fn is_host(text: &str) -> bool {
    if text == "*" || text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    match text.strip_prefix("*.") {
        Some(rest) => text.len() <= 255 && is_name(rest),
        None => is_name(text),
    }
}

/// Whether one of two hosts covers the other.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let covers = |wide: &str, narrow: &str| match wide.strip_prefix('*') {
        Some(suffix) => narrow.strip_prefix('*').unwrap_or(narrow).ends_with(suffix),
        None => wide == narrow,
    };
    covers(a, b) || covers(b, a)
}

/// The key of a Kubernetes label: a name of at most 63 characters, after an optional DNS name and `/`.
pub(super) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    !name.is_empty()
        && is_label_value(name)
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_label))
}

/// The value of a Kubernetes label; may be empty.
pub(super) fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && ends
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// A header's name (RFC 9110 `token`).
pub(super) fn is_header(text: &str) -> bool {
    http::HeaderName::from_bytes(text.as_bytes()).is_ok()
}

/// A block of addresses, or one address.
pub(super) fn is_subnet(text: &str) -> bool {
    text.parse::<ipnet::IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_may_begin_with_a_star() {
        for (text, expected) in [
            ("reviews", true),
            ("Reviews.default", true),
            ("*.example.com", true),
            ("*", true),
            ("10.0.0.1", true),
            ("::1", true),
            ("a.b.", true),
            ("", false),
            ("a..b", false),
            ("a.*.b", false),
            ("*a.b", false),
            ("*.", false),
            ("a_b", false),
            ("-a", false),
            ("a.123", false),
            ("a/b", false),
        ] {
            assert_eq!(is_host(text), expected, "{text}");
        }
        assert!(!is_host(&"a".repeat(64)));
    }

    #[test]
    fn hosts_overlap_if_one_covers_the_other() {
        for (a, b, expected) in [
            ("a.com", "a.com", true),
            ("*.com", "a.com", true),
            ("*.com", "*.a.com", true),
            ("*", "*.a.com", true),
            ("*.a.com", "a.com", false),
            ("*.a.com", "*.b.com", false),
            ("a.com", "b.com", false),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn labels_are_those_of_kubernetes() {
        assert!(is_label_key("app") && is_label_key("istio.io/rev") && is_label_value(""));
        assert!(!is_label_key("") && !is_label_key("a/") && !is_label_key("/a") && !is_label_key("a/b/c"));
        assert!(is_label_value("v2-mysql") && !is_label_value("-v2") && !is_label_value("a b"));
    }
}
