//! What is not shown.

/// What stands for a value that is not shown.
pub(super) const HIDDEN: &str = "(hidden)";

/// Parts of names whose values are likely secrets.
const SECRETS: [&str; 11] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "session",
    "api-key",
    "apikey",
    "signature",
];

/// Whether the value of a header or query parameter with this name is likely a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    SECRETS.iter().any(|secret| name.contains(secret))
}

/// A path and query in which the values of secret parameters are hidden.
pub(crate) fn query(query: &str) -> String {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
        _ => pair.to_owned(),
    };
    query.split('&').map(pair).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_a_secret_is_one() {
        for name in [
            "Authorization",
            "x-api-key",
            "Set-Cookie",
            "access_token",
            "X-Amz-Signature",
            "JSESSIONID",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["host", "x-request-id", "end-user", "accept", "content-type"] {
            assert!(!is_secret(name), "{name}");
        }
        assert_eq!(query("a=1&access_token=abc&b"), "a=1&access_token=(hidden)&b");
    }
}
