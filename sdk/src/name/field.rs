//! Looking for a header field.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Up to so many names comparing is cheaper than hashing.
const FEW: usize = 12;

/// The first value of a field, as [`HeaderMap::get`].
///
/// Most messages in a mesh have few fields, and are asked for many that they do not have: comparing a few names costs less
/// than hashing the one that is looked for.
pub(crate) fn field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    if headers.keys_len() > FEW {
        return headers.get(name);
    }
    headers.iter().find(|(it, _)| *it == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_fields_and_many_are_looked_through_alike() {
        for others in [0, 1, 11, 12, 50] {
            let mut headers = HeaderMap::new();
            let name = HeaderName::from_static("x-it");
            for n in 0..others {
                let other = HeaderName::try_from(format!("x-{n}")).unwrap();
                headers.append(&other, HeaderValue::from(n));
                headers.append(other, HeaderValue::from(n + 1));
            }
            assert_eq!(field(&headers, &name), None);
            headers.append(&name, HeaderValue::from_static("first"));
            headers.append(&name, HeaderValue::from_static("second"));
            assert_eq!(field(&headers, &name).unwrap(), "first");
            assert_eq!(field(&headers, &name), headers.get(&name));
        }
    }
}
