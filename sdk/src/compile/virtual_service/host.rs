//! Hosts as Istio's resources write them.

use std::cmp::Reverse;
use std::fmt;

use crate::matcher::HostPattern;

/// A host, or all hosts that end like one. Short names are completed where it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostGlob {
    /// One host, in lower case.
    Exact(Box<str>),
    /// Those that end so: `.example.com` for `*.example.com`, nothing for `*`.
    Ending(Box<str>),
}

impl HostGlob {
    /// Reads a host; a name without a dot is a service of the namespace.
    pub(crate) fn read(text: &str, namespace: &str, domain: &str) -> Self {
        match text.strip_prefix('*') {
            Some(ending) => Self::Ending(ending.to_ascii_lowercase().into()),
            None => Self::Exact(full_name(text, namespace, domain).into()),
        }
    }

    /// Whether every host that `other` stands for is one of these.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(own), Self::Exact(other)) => own == other,
            (Self::Ending(ending), Self::Exact(other) | Self::Ending(other)) => other.ends_with(&**ending),
            (Self::Exact(_), Self::Ending(_)) => false,
        }
    }

    /// The same for requests' hosts; `None` where no request can have such a host.
    pub(crate) fn pattern(&self) -> Option<HostPattern> {
        match self {
            Self::Exact(host) => HostPattern::parse(host).ok(),
            Self::Ending(ending) => HostPattern::parse(&format!("*{ending}")).ok(),
        }
    }

    /// Sorts the more specific first.
    pub(crate) fn order(&self) -> (bool, Reverse<usize>) {
        match self {
            Self::Exact(_) => (false, Reverse(0)),
            Self::Ending(ending) => (true, Reverse(ending.len())),
        }
    }
}

impl fmt::Display for HostGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Ending(ending) => write!(f, "*{ending}"),
        }
    }
}

/// The whole name of a host: `reviews` is the service of that name in the namespace of the resource that writes it.
pub(crate) fn full_name(text: &str, namespace: &str, domain: &str) -> String {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_whole = name.is_empty() || name.contains(['.', ':']) || name.starts_with('*');
    match is_whole {
        true => name,
        false => format!("{name}.{namespace}.svc.{domain}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> HostGlob {
        HostGlob::read(text, "default", "cluster.local")
    }

    #[test]
    fn short_names_are_services_of_the_namespace() {
        for (text, expected) in [
            ("reviews", "reviews.default.svc.cluster.local"),
            ("Reviews.shop", "reviews.shop"),
            ("www.example.com.", "www.example.com"),
            ("*.example.com", "*.example.com"),
            ("*", "*"),
            ("::1", "::1"),
        ] {
            assert_eq!(glob(text).to_string(), expected);
        }
    }

    #[test]
    fn a_wildcard_covers_what_ends_like_it() {
        for (wide, narrow, expected) in [
            ("*", "reviews", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "*.a.example.com", true),
            ("*.example.com", "example.com", false),
            ("a.example.com", "*.example.com", false),
            ("reviews", "reviews.default.svc.cluster.local", true),
        ] {
            assert_eq!(glob(wide).covers(&glob(narrow)), expected, "{wide} {narrow}");
        }
        let mut hosts = ["*", "*.example.com", "a.com", "*.com"].map(glob);
        hosts.sort_by_key(HostGlob::order);
        assert_eq!(
            hosts.map(|it| it.to_string()),
            ["a.com", "*.example.com", "*.com", "*"]
        );
    }
}
