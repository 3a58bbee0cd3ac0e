//! JSON in which every member name is unique.
//!
//! RFC 7519 §4 leaves open whether a repeated claim is refused or the last one counts. Two readers that choose
//! differently would see two different callers, so it is refused, at any depth.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads an object; `None` if the text is no JSON object or names a member twice.
pub(super) fn object(text: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice::<Unique>(text).ok()?.0 {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seed.deserialize(deserializer).map(Self)
    }
}

struct Seed;

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique member names")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom("a member is named twice"));
            }
            object.insert(name, members.next_value_seed(Self)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_named_twice_spoils_the_whole() {
        for (text, good) in [
            (
                r#"{"a":1,"b":{"a":2},"c":[{"a":3}],"d":1.5,"e":null,"f":"x"}"#,
                true,
            ),
            (r#"{"sub":"a","sub":"b"}"#, false),
            (r#"{"sub":"a","s\u0075b":"b"}"#, false),
            (r#"{"a":{"x":1,"x":1}}"#, false),
            (r#"{"a":[{"x":1,"x":1}]}"#, false),
            (r#"["a"]"#, false),
            (r#"{"a":1e999}"#, false),
            (r#"{"a":1} x"#, false),
            ("", false),
        ] {
            assert_eq!(object(text.as_bytes()).is_some(), good, "{text}");
        }
        assert!(object("[".repeat(100_000).as_bytes()).is_none());
    }

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        let text = r#"{"a":-1,"b":18446744073709551615,"c":["x",true,null,{"d":0.25}]}"#;
        assert_eq!(
            Value::Object(object(text.as_bytes()).unwrap()),
            serde_json::from_str::<Value>(text).unwrap()
        );
    }
}
