//! How Istio matches text: equality, a prefix, a suffix, or mere presence. No regular expressions, always the
//! whole value, always case-sensitive (whoever wants otherwise lowers both sides).

use std::cmp::Ordering;
use std::fmt;

/// One value of an Istio string list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TextMatch {
    /// `abc`: equality. A star inside (`a*c`) is an ordinary character.
    Exact(Box<str>),
    /// `abc*`: a prefix, also of nothing more.
    Prefix(Box<str>),
    /// `*abc`: a suffix, also of nothing less.
    Suffix(Box<str>),
    /// `*`: any text that is there; whether empty text is there depends on the attribute.
    Present,
}

impl TextMatch {
    /// Reads one value. Every text is one of the four forms; `*abc*` is the suffix `abc*`.
    pub fn parse(value: &str) -> Self {
        if value == "*" {
            return Self::Present;
        }
        if let Some(suffix) = value.strip_prefix('*') {
            return Self::Suffix(suffix.into());
        }
        match value.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(value.into()),
        }
    }

    /// Whether the text satisfies the value; [`TextMatch::Present`] wants at least one byte.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::Present => !text.is_empty(),
        }
    }
}

/// A list of values of which any one suffices. They are found by binary search, whichever their form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TextSet {
    exact: Vec<Box<str>>,
    /// None of them starts with another.
    prefix: Vec<Box<str>>,
    /// None of them ends with another; sorted from their last bytes on.
    suffix: Vec<Box<str>>,
    present: bool,
}

impl TextSet {
    /// A set of values as Istio writes them.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        values.into_iter().map(TextMatch::parse).collect()
    }

    /// Whether any value is satisfied; `*` wants at least one byte.
    pub fn matches(&self, text: &str) -> bool {
        (self.present && !text.is_empty()) || self.matches_literally(text)
    }

    /// Whether any value other than `*` is satisfied.
    pub fn matches_literally(&self, text: &str) -> bool {
        // Since no prefix starts with another, only the last one that is not greater than the text can be one of it.
        let prefix = self.prefix.partition_point(|prefix| **prefix <= *text);
        let suffix = self
            .suffix
            .partition_point(|suffix| from_the_end(suffix, text) != Ordering::Greater);
        self.exact.binary_search_by(|exact| (**exact).cmp(text)).is_ok()
            || prefix > 0 && text.starts_with(&*self.prefix[prefix - 1])
            || suffix > 0 && text.ends_with(&*self.suffix[suffix - 1])
    }

    /// Whether `*` is among the values.
    pub fn has_present(&self) -> bool {
        self.present
    }

    /// Whether `*` is the only value, so that the text itself does not matter.
    pub fn is_only_present(&self) -> bool {
        self.present && self.exact.is_empty() && self.prefix.is_empty() && self.suffix.is_empty()
    }

    /// The values that are equalities.
    pub fn exact(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().map(|text| &**text)
    }

    /// The values that are prefixes, without their star; those that others imply are left out.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.prefix.iter().map(|text| &**text)
    }

    /// The values that are suffixes, without their star; those that others imply are left out.
    pub fn suffixes(&self) -> impl Iterator<Item = &str> {
        self.suffix.iter().map(|text| &**text)
    }
}

impl FromIterator<TextMatch> for TextSet {
    fn from_iter<I: IntoIterator<Item = TextMatch>>(values: I) -> Self {
        let mut set = Self::default();
        for value in values {
            match value {
                TextMatch::Exact(text) => set.exact.push(text),
                TextMatch::Prefix(text) => set.prefix.push(text),
                TextMatch::Suffix(text) => set.suffix.push(text),
                TextMatch::Present => set.present = true,
            }
        }
        set.exact.sort_unstable();
        set.exact.dedup();
        set.prefix.sort_unstable();
        set.prefix.dedup_by(|next, kept| next.starts_with(&**kept));
        set.suffix
            .sort_unstable_by(|left, right| from_the_end(left, right));
        set.suffix.dedup_by(|next, kept| next.ends_with(&**kept));
        set
    }
}

fn from_the_end(left: &str, right: &str) -> Ordering {
    left.bytes().rev().cmp(right.bytes().rev())
}

/// A text in which every `*` stands for any run of characters: how Istio matches namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob {
    head: Box<str>,
    middle: Box<[Box<str>]>,
    tail: Box<str>,
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*", self.head)?;
        self.middle.iter().try_for_each(|part| write!(f, "{part}*"))?;
        f.write_str(&self.tail)
    }
}

impl Glob {
    /// Reads a pattern; `None` if it has no star and so is plain text.
    pub fn parse(pattern: &str) -> Option<Self> {
        let (head, rest) = pattern.split_once('*')?;
        let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        Some(Self {
            head: head.into(),
            middle: middle
                .split('*')
                .filter(|part| !part.is_empty())
                .map(Into::into)
                .collect(),
            tail: tail.into(),
        })
    }

    /// What every text that fits starts with.
    pub fn prefix(&self) -> &str {
        &self.head
    }

    /// What every text that fits ends with.
    pub fn suffix(&self) -> &str {
        &self.tail
    }

    /// Whether the whole text fits the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(&*self.head) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(&*self.tail) else {
            return false;
        };
        // Taking the first place of each part is enough: every star may be as long as it likes.
        self.middle.iter().all(|part| match rest.find(&**part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `security/v1 AuthorizationPolicy` "string match": exact, prefix, suffix, presence.
    #[test]
    fn the_four_forms_match_as_istio_documents_them() {
        for (value, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc*", "abc", true),
            ("abc*", "abcd", true),
            ("abc*", "ab", false),
            ("*abc", "abc", true),
            ("*abc", "xabc", true),
            ("*abc", "abcx", false),
            ("*", "x", true),
            ("*", "", false),
            ("a*c", "a*c", true),
            ("a*c", "abc", false),
            ("*a*", "a*", true),
            ("*a*", "a", false),
            ("Abc", "abc", false),
            ("a.c", "abc", false),
        ] {
            assert_eq!(
                TextMatch::parse(value).matches(text),
                expected,
                "{value} on {text}"
            );
            assert_eq!(
                TextSet::parse([value]).matches(text),
                expected,
                "{value} on {text}"
            );
        }
    }

    #[test]
    fn every_star_of_a_glob_is_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("a*z", "abcz", true),
            ("a*z", "az", true),
            ("a*z", "a", false),
            ("aa*aa", "aaa", false),
            ("*-prod", "eu-prod", true),
            ("*-prod", "eu-prod2", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*", "", true),
            ("n.*", "nx1", false),
        ] {
            assert_eq!(
                Glob::parse(pattern).unwrap().matches(text),
                expected,
                "{pattern} on {text}"
            );
        }
        assert_eq!(Glob::parse("plain"), None);
        assert_eq!(Glob::parse("n*x**y").unwrap().to_string(), "n*x*y");
    }

    proptest::proptest! {
        #[test]
        fn a_set_is_any_of_its_values(values in proptest::collection::vec("[*ab]{0,4}", 0..6), text in "[*ab]{0,5}") {
            let any = values.iter().any(|value| TextMatch::parse(value).matches(&text));
            proptest::prop_assert_eq!(TextSet::parse(values.iter().map(String::as_str)).matches(&text), any);
        }

        #[test]
        fn a_glob_is_the_regular_expression_with_dot_star(pattern in "[*ab]{0,6}", text in "[ab]{0,8}") {
            if let Some(glob) = Glob::parse(&pattern) {
                let regex = regex::Regex::new(&format!("^(?:{})$", pattern.replace('*', ".*"))).unwrap();
                proptest::prop_assert_eq!(glob.matches(&text), regex.is_match(&text));
            }
        }
    }
}
