//! A YAML document as a tree in which every key and value knows its place.
//!
//! serde-saphyr does the YAML (aliases, merge keys, duplicate keys, budgets); [`super::typed`] then reads the
//! typed shapes from the tree, which is how a complaint about a shape can name a path *and* a line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

/// Nodes of one document, aliases followed. A List of 10 000 Services has some 200 000.
const MAX_NODES: usize = 1_000_000;
/// Nesting; the deepest shape we read has 12 levels. In a debug build a level takes 35 KiB of stack, and threads
/// have 2 MiB.
const MAX_DEPTH: usize = 32;
/// What aliases may add. A document that needs more is an attack on memory.
const MAX_REPLAYED: usize = 100_000;

/// A position within a document, both counted from 1; 0 is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl From<Location> for Mark {
    fn from(location: Location) -> Self {
        Self {
            line: u32::try_from(location.line()).unwrap_or(0),
            column: u32::try_from(location.column()).unwrap_or(0),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Mark,
    pub(super) value: Value,
}

/// What YAML knows.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(Box<str>),
    List(Vec<Node>),
    Map(Vec<Field>),
}

/// A key of a mapping, where it stands, and its value.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) key: Box<str>,
    pub(super) at: Mark,
    pub(super) node: Node,
}

/// Why a document cannot be read as YAML, and where within it.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) at: Mark,
    pub(super) text: String,
}

impl Node {
    /// Reads one document.
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_documents: 1,
                max_nodes: MAX_NODES,
                max_events: 3 * MAX_NODES,
                max_depth: MAX_DEPTH,
            },
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
            duplicate_keys: DuplicateKeyPolicy::Error,
            non_finite_float_policy: NonFiniteFloatPolicy::AsString,
            // `y`, `on` and the like are text to the API server's YAML in part only; nobody means them as booleans.
            strict_booleans: true,
            reject_unsupported_tags: true,
            emit_comments: false,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| Unreadable {
            at: error.location().map(Mark::from).unwrap_or_default(),
            text: message(&error),
        })
    }

    /// Whether a mapping in it has this key, however deep.
    pub(super) fn mentions(&self, key: &str) -> bool {
        match &self.value {
            Value::Map(fields) => fields.iter().any(|it| &*it.key == key || it.node.mentions(key)),
            Value::List(items) => items.iter().any(|it| it.mentions(key)),
            _ => false,
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(fields) => fields
                .iter()
                .find(|field| &*field.key == key)
                .map(|field| &field.node),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where the named field is: its key, else that of the nearest parent that exists.
    ///
    /// The path is dotted (`spec.rules[0].matches`); keys that hold dots themselves (labels) are understood.
    pub(super) fn find(&self, path: &str) -> Mark {
        let (mut node, mut at, mut rest) = (self, self.at, path);
        loop {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            match &node.value {
                Value::Map(fields) => {
                    let named = fields.iter().filter(|field| is_step(rest, &field.key));
                    let Some(field) = named.max_by_key(|field| field.key.len()) else {
                        return at;
                    };
                    (node, at, rest) = (&field.node, field.at, &rest[field.key.len()..]);
                }
                Value::List(items) => {
                    let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                    let item = index
                        .and_then(|(index, rest)| Some((items.get(index.parse::<usize>().ok()?)?, rest)));
                    let Some((item, after)) = item else { return at };
                    (node, at, rest) = (item, item.at, after);
                }
                _ => return at,
            }
        }
    }
}

/// Whether the path's next step is this key.
fn is_step(path: &str, key: &str) -> bool {
    !key.is_empty()
        && path
            .strip_prefix(key)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The library's message in one line, without the position that we give ourselves.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let mut words = line.splitn(5, ' ');
    // "line 3 column 7: what"
    let what = match (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) {
        (Some("line"), Some(_), Some("column"), Some(_), Some(what)) => what,
        _ => line,
    };
    match what.rfind(" at line ") {
        Some(end) => what[..end].to_owned(),
        None => what.to_owned(),
    }
}

/// What a value is, for people.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "the boolean {value}"),
            Self::Int(value) => write!(f, "the number {value}"),
            Self::Uint(value) => write!(f, "the number {value}"),
            Self::Float(value) => write!(f, "the number {value}"),
            Self::Text(text) if text.chars().count() > 40 => {
                write!(
                    f,
                    "the text `{}…`",
                    text.chars().take(40).collect::<String>().escape_debug()
                )
            }
            Self::Text(text) => write!(f, "the text `{}`", text.escape_debug()),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a mapping"),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            at: spanned.referenced.into(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Int(value), Value::Uint))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Uint(value))
    }

    // Wider than any field we read: a float says so in the complaint.
    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Text(String::from_utf8_lossy(value).into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let node = entries.next_value()?;
            fields.push(Field {
                key: key.value.into(),
                at: key.referenced.into(),
                node,
            });
        }
        Ok(Value::Map(fields))
    }
}
