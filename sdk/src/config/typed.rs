//! Typed shapes out of a tree, remembering what no shape asked for.

use std::cell::RefCell;
use std::fmt::{self, Display, Write as _};

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::node::{Field, Mark, Node, Value};

/// What reading a shape came upon besides the shape.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    /// Fields that the shape does not declare.
    pub(super) unknown: Vec<Remark>,
    /// Fields that are declared but were written without a value, which counts as absent.
    pub(super) empty: Vec<Remark>,
}

/// A field and where its key stands.
#[derive(Debug)]
pub(super) struct Remark {
    pub(super) field: String,
    pub(super) at: Mark,
    /// The value's text, if it is text: some fields matter only with some values.
    pub(super) text: Option<String>,
}

/// A value that does not fit its field.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) field: String,
    pub(super) at: Mark,
    text: String,
    /// The value that stands there instead; empty if the text says all.
    found: String,
    pub(super) remedy: &'static str,
    placed: bool,
}

impl Misfit {
    /// What is wrong, without quoting the value: it may be secret.
    pub(super) fn discreet(self) -> String {
        self.text
    }
}

/// Reads a `T`; `prefix` is the path of `node` in its object.
pub(super) fn read<T: DeserializeOwned>(node: &Node, prefix: &str) -> (Result<T, Misfit>, Remarks) {
    let remarks = RefCell::default();
    let path = Path::Root(prefix);
    let result = T::deserialize(At {
        node,
        key: node.at,
        path: &path,
        remarks: &remarks,
    });
    (result, remarks.into_inner())
}

/// The way to a node, built on the stack while descending.
enum Path<'a> {
    Root(&'a str),
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(prefix) => f.write_str(prefix),
            Self::Key(Path::Root(""), key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A node that is being read.
#[derive(Clone, Copy)]
struct At<'a> {
    node: &'a Node,
    key: Mark,
    path: &'a Path<'a>,
    remarks: &'a RefCell<Remarks>,
}

impl At<'_> {
    fn misfit(&self, wanted: &str, remedy: &'static str) -> Misfit {
        Misfit {
            field: self.path.to_string(),
            at: self.node.at,
            text: format!("expected {wanted}"),
            found: self.node.value.to_string(),
            remedy,
            placed: true,
        }
    }

    fn remark(&self) -> Remark {
        Remark {
            field: self.path.to_string(),
            at: self.key,
            text: self.node.as_str().map(str::to_owned),
        }
    }

    fn place(&self, mut error: Misfit) -> Misfit {
        if !error.placed {
            error.field = self.path.to_string();
            error.at = self.node.at;
            error.placed = true;
        }
        error
    }

    fn unsigned<'de, V: Visitor<'de>>(self, max: u64, visitor: V) -> Result<V::Value, Misfit> {
        match self.node.value {
            Value::Uint(value) if value <= max => visitor.visit_u64(value).map_err(|error| self.place(error)),
            Value::Text(_) => Err(self.misfit(&range(0, max), "write the number without quotes")),
            _ => Err(self.misfit(&range(0, max), "write one such number")),
        }
    }

    fn signed<'de, V: Visitor<'de>>(self, max: i64, visitor: V) -> Result<V::Value, Misfit> {
        let value = match self.node.value {
            Value::Uint(value) => i64::try_from(value).ok(),
            Value::Int(value) => Some(value),
            _ => None,
        };
        match value {
            Some(value) if value <= max && value >= -max - 1 => {
                visitor.visit_i64(value).map_err(|error| self.place(error))
            }
            _ => Err(self.misfit(&range(-max - 1, max), "write one such number")),
        }
    }
}

fn range(min: impl Display, max: impl Display) -> String {
    format!("a whole number from {min} to {max}")
}

macro_rules! unsigned {
    ($($method:ident $type:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            self.unsigned(u64::from(<$type>::MAX), visitor)
        })*
    };
}

macro_rules! signed {
    ($($method:ident $type:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            self.signed(i64::from(<$type>::MAX), visitor)
        })*
    };
}

impl<'de> de::Deserializer<'de> for At<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Uint(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(_) => return self.deserialize_seq(visitor),
            Value::Map(_) => return self.deserialize_map(visitor),
        }
        .map_err(|error| self.place(error))
    }

    unsigned!(deserialize_u8 u8, deserialize_u16 u16, deserialize_u32 u32, deserialize_u64 u64);
    signed!(deserialize_i8 i8, deserialize_i16 i16, deserialize_i32 i32, deserialize_i64 i64);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node.value {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.misfit("true or false", "write one of the two, without quotes")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_str(text).map_err(|error| self.place(error)),
            Value::List(_) | Value::Map(_) => Err(self.misfit("text", "write a single value")),
            _ => Err(self.misfit("text", "put the value in quotes")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::List(items) => visitor
                .visit_seq(Items {
                    parent: self,
                    items: items.iter().enumerate(),
                })
                .map_err(|error| self.place(error)),
            _ => Err(self.misfit("a list", "begin each item with a dash")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.fields(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.fields(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.node.as_str() {
            Some(text) if variants.contains(&text) => {
                visitor.visit_enum(IntoDeserializer::<Misfit>::into_deserializer(text))
            }
            _ => Err(self.misfit(
                &format!("one of {}", variants.join(", ")),
                "write one of them as it stands there",
            )),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.remarks.borrow_mut().unknown.push(self.remark());
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

impl At<'_> {
    fn fields<'de, V: Visitor<'de>>(
        self,
        declared: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Map(fields) => visitor
                .visit_map(Fields {
                    parent: self,
                    declared,
                    fields: fields.iter(),
                    current: None,
                })
                .map_err(|error| self.place(error)),
            _ => Err(self.misfit("a mapping", "write its fields, each on a line with a colon")),
        }
    }
}

struct Items<'a> {
    parent: At<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        let path = Path::Index(self.parent.path, index);
        let at = At {
            node,
            key: node.at,
            path: &path,
            remarks: self.parent.remarks,
        };
        seed.deserialize(at).map(Some).map_err(|error| at.place(error))
    }
}

struct Fields<'a> {
    parent: At<'a>,
    /// The fields of a struct; `None` for a map with keys of any name.
    declared: Option<&'static [&'static str]>,
    fields: std::slice::Iter<'a, Field>,
    current: Option<&'a Field>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        for field in self.fields.by_ref() {
            let path = Path::Key(self.parent.path, &field.key);
            let at = At {
                node: &field.node,
                key: field.at,
                path: &path,
                remarks: self.parent.remarks,
            };
            let declared = self
                .declared
                .is_some_and(|declared| declared.contains(&&*field.key));
            if declared && matches!(field.node.value, Value::Null) {
                // The API server drops a null before defaulting: `rules:` alone is as if it were not there.
                self.parent.remarks.borrow_mut().empty.push(at.remark());
                continue;
            }
            self.current = Some(field);
            let key = Key(&field.key);
            return seed.deserialize(key).map(Some).map_err(|error| Misfit {
                at: field.at,
                ..at.place(error)
            });
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some(field) = self.current.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        let path = Path::Key(self.parent.path, &field.key);
        let at = At {
            node: &field.node,
            key: field.at,
            path: &path,
            remarks: self.parent.remarks,
        };
        seed.deserialize(at).map_err(|error| at.place(error))
    }
}

/// A key: text, but a number where a map is keyed by numbers (`portLevelMtls`).
struct Key<'a>(&'a str);

impl<'de> de::Deserializer<'de> for Key<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        StrDeserializer::<Misfit>::new(self.0).deserialize_any(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0.parse() {
            Ok(number) => visitor.visit_u32(number),
            Err(_) => Err(de::Error::custom(format_args!(
                "expected a number as key, found `{}`",
                self.0
            ))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl de::Error for Misfit {
    fn custom<T: Display>(text: T) -> Self {
        let mut message = String::new();
        // Writing to a String cannot fail.
        let _ = write!(message, "{text}");
        Self {
            field: String::new(),
            at: Mark::default(),
            text: message,
            found: String::new(),
            remedy: "",
            placed: false,
        }
    }
}

impl Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &*self.found {
            "" => Ok(()),
            found => write!(f, ", found {found}"),
        }
    }
}

impl std::error::Error for Misfit {}
