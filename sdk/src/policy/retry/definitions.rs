//! What the definitions of gRPC services say of their methods: whether calling one twice does harm.

use std::collections::HashSet;
use std::sync::Arc;

/// The methods that their definitions call idempotent: `option idempotency_level = IDEMPOTENT`, or `NO_SIDE_EFFECTS`.
#[derive(Clone, Debug, Default)]
pub struct GrpcMethods(Arc<HashSet<Box<str>>>);

/// What was given is no set of definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no `google.protobuf.FileDescriptorSet`")]
pub struct Malformed;

impl GrpcMethods {
    /// Reads a `google.protobuf.FileDescriptorSet`, as compilers of definitions write it.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(set: &[u8]) -> Result<Self, Malformed> {
        let mut methods = HashSet::new();
        for file in messages(set, 1) {
            let file = file?;
            let package = text(file, 2)?.map_or_else(String::new, |it| format!("{it}."));
            for service in messages(file, 6) {
                let service = service?;
                let name = text(service, 1)?.ok_or(Malformed)?;
                for method in messages(service, 2) {
                    let method = method?;
                    if is_idempotent(method)? {
                        let method = text(method, 1)?.ok_or(Malformed)?;
                        methods.insert(format!("/{package}{name}/{method}").into());
                    }
                }
            }
        }
        Ok(Self(Arc::new(methods)))
    }

    /// Those of both.
    pub fn and(self, other: &Self) -> Self {
        Self(Arc::new(self.0.union(&other.0).cloned().collect()))
    }

    /// Whether the method that is called by this path is one of them.
    pub fn is_idempotent(&self, path: &str) -> bool {
        !self.0.is_empty() && self.0.contains(path)
    }
}

/// What `MethodOptions` say: `idempotency_level` is unknown if it is not there.
fn is_idempotent(method: &[u8]) -> Result<bool, Malformed> {
    let mut level = 0;
    for options in messages(method, 4) {
        for field in Fields(options?) {
            if let (34, Value::Number(number)) = field? {
                level = number;
            }
        }
    }
    Ok(matches!(level, 1 | 2))
}

/// The messages, or texts, of a field that may be repeated.
fn messages(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields(message).filter_map(move |field| match field {
        Ok((at, Value::Bytes(bytes))) if at == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

/// The text of a field; of several the last, as Protocol Buffers have it.
fn text(message: &[u8], number: u64) -> Result<Option<&str>, Malformed> {
    let last = messages(message, number).try_fold(None, |_, it| it.map(Some))?;
    last.map(|it| std::str::from_utf8(it).map_err(|_| Malformed))
        .transpose()
}

/// The fields of a message in Protocol Buffers' wire format, with their numbers; after an error nothing more comes.
struct Fields<'m>(&'m [u8]);

enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
    /// Of a type that no field has that is looked at.
    Other,
}

impl<'m> Fields<'m> {
    fn read(&mut self) -> Result<(u64, Value<'m>), Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, count: usize) -> Result<&'m [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = Result<(u64, Value<'m>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, content.len() as u8];
        bytes.extend_from_slice(content);
        bytes
    }

    /// A method with this level, if it has one.
    fn method(name: &str, level: Option<u8>) -> Vec<u8> {
        // Field 34 of the options, whose key takes two bytes.
        let options = level.map_or_else(Vec::new, |level| field(4, &[0x90, 0x02, level]));
        field(
            2,
            &[field(1, name.as_bytes()), field(2, b".a.In"), options].concat(),
        )
    }

    fn set(package: &[u8]) -> Vec<u8> {
        let methods = [
            method("Get", Some(1)),
            method("Put", Some(2)),
            method("Add", Some(0)),
            method("Do", None),
        ];
        let service = [field(1, b"Shop"), methods.concat()].concat();
        let package = if package.is_empty() {
            Vec::new()
        } else {
            field(2, package)
        };
        // A fixed-size field, which nobody asked for.
        let stranger = vec![15 << 3 | 5, 1, 2, 3, 4];
        field(
            1,
            &[field(1, b"shop.proto"), package, stranger, field(6, &service)].concat(),
        )
    }

    #[test]
    fn methods_are_idempotent_where_their_definition_says_so() {
        let methods = GrpcMethods::read(&set(b"a.b")).unwrap();
        for (path, expected) in [
            ("/a.b.Shop/Get", true),
            ("/a.b.Shop/Put", true),
            ("/a.b.Shop/Add", false),
            ("/a.b.Shop/Do", false),
            ("/Shop/Get", false),
        ] {
            assert_eq!(methods.is_idempotent(path), expected, "{path}");
        }
        let both = methods.and(&GrpcMethods::read(&set(b"")).unwrap());
        assert!(both.is_idempotent("/Shop/Get") && both.is_idempotent("/a.b.Shop/Get"));
        assert!(!GrpcMethods::default().is_idempotent("/Shop/Get"));
    }

    #[test]
    fn what_is_cut_off_is_no_set() {
        let whole = set(b"a");
        assert!((1..whole.len()).all(|end| GrpcMethods::read(&whole[..end]).is_err()));
        assert!(GrpcMethods::read(b"").is_ok(), "an empty one is");
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_bytes_nothing_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = GrpcMethods::read(&bytes);
        }
    }
}
