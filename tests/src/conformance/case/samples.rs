//! Samples of a JSON schema: every property, every alternative and every word of it at least once.
//!
//! One thing at a time: of each object the least that is valid, then that with each optional property, and with each
//! other value of a property that must be there.

use serde_json::{Map, Value, json};

/// Gives samples.
pub(super) struct Samples<'s> {
    schema: &'s Value,
    /// What stands where the schema says no more than "an object" or "a list", by the property's name.
    hints: &'s dyn Fn(&str) -> Value,
}

impl<'s> Samples<'s> {
    pub(super) fn of(schema: &'s Value, hints: &'s dyn Fn(&str) -> Value) -> Self {
        Self { schema, hints }
    }

    /// Those of a part of the schema, which stands at the property `name`.
    pub(super) fn at(&self, part: &Value, name: &str) -> Vec<Value> {
        if let Some(reference) = part["$ref"].as_str() {
            return self.at(self.defined(reference), name);
        }
        if let Some(only) = part.get("const") {
            return vec![only.clone()];
        }
        if let Some(words) = part["enum"].as_array() {
            return words.clone();
        }
        if let Some(all) = part["allOf"].as_array() {
            return self.object(&self.merged(all));
        }
        match &part["type"] {
            Value::Array(types) => {
                let of = |kind: &Value| self.scalar(kind.as_str().unwrap_or_default(), part, name);
                types.iter().map(of).collect()
            }
            Value::String(kind) if kind == "object" && part["properties"].is_object() => self.object(part),
            Value::String(kind) if kind == "object" && part["additionalProperties"].is_object() => {
                let values = self.at(&part["additionalProperties"], name).into_iter();
                values
                    .map(|it| json!({ "Some-Name": it }))
                    .chain([json!({})])
                    .collect()
            }
            Value::String(kind) if kind == "array" && part["items"].is_object() && !bare(&part["items"]) => {
                let items = self.at(&part["items"], name).into_iter();
                items.map(|it| json!([it])).collect()
            }
            Value::String(kind) => vec![self.scalar(kind, part, name)],
            _ => vec![(self.hints)(name)],
        }
    }

    fn defined(&self, reference: &str) -> &'s Value {
        let part = self.schema.pointer(reference.trim_start_matches('#'));
        part.expect("the schema defines what it refers to")
    }

    /// One object that must be valid by several parts.
    fn merged(&self, parts: &[Value]) -> Value {
        let (mut properties, mut needed) = (Map::new(), Vec::new());
        for part in parts {
            let part = part["$ref"].as_str().map_or(part, |it| self.defined(it));
            properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
            needed.extend(required(part).into_iter().map(str::to_owned));
            for never in required(&part["not"]) {
                properties.remove(never);
            }
        }
        json!({ "type": "object", "properties": properties, "required": needed })
    }

    fn object(&self, part: &Value) -> Vec<Value> {
        let properties = part["properties"].as_object().expect("an object has properties");
        let alternatives: Vec<Vec<&str>> = match part["oneOf"].as_array() {
            Some(all) => all.iter().map(required).collect(),
            None => vec![Vec::new()],
        };
        let mut all = Vec::new();
        for alternative in &alternatives {
            let mut needed = required(part);
            needed.extend(alternative);
            if part["minProperties"] == 1 && needed.is_empty() {
                for (name, property) in properties {
                    all.extend(self.at(property, name).into_iter().map(|it| json!({ name: it })));
                }
                continue;
            }
            let first = |name: &&str| {
                let value = self.at(&properties[*name], name).swap_remove(0);
                ((*name).to_owned(), value)
            };
            let least: Map<String, Value> = needed.iter().map(first).collect();
            all.push(Value::Object(least.clone()));
            let excluded =
                |name: &str| alternatives.iter().any(|it| it.contains(&name)) && !needed.contains(&name);
            for (name, property) in properties.iter().filter(|(name, _)| !excluded(name)) {
                for value in self.at(property, name) {
                    let mut with = least.clone();
                    with.insert(name.clone(), value);
                    all.push(Value::Object(with));
                }
            }
        }
        all
    }

    fn scalar(&self, kind: &str, part: &Value, name: &str) -> Value {
        match (kind, part["pattern"].as_str()) {
            ("null", _) => Value::Null,
            ("boolean", _) => json!(true),
            ("integer", _) => json!(3),
            ("number", _) => json!(0.5),
            ("string", Some(pattern)) if pattern.contains("a-z0-9-]+/") => json!("some-namespace/some-name"),
            ("string", Some(pattern)) if pattern.contains("[0-9]{2}") => json!("Test/01"),
            ("string", Some(_)) => json!("/some/path"),
            ("string", None) => match (self.hints)(name) {
                Value::String(text) => Value::String(text),
                _ => json!("some words"),
            },
            _ => (self.hints)(name),
        }
    }
}

/// What must be there.
fn required(part: &Value) -> Vec<&str> {
    let names = part["required"].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).collect()
}

/// Whether nothing is said of an item but that it is an object.
fn bare(items: &Value) -> bool {
    items["type"] == "object" && !items["properties"].is_object()
}
