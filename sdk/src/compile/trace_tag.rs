//! Custom tags of spans, as they are written.

use std::collections::BTreeMap;

use http::HeaderName;

use crate::config::istio::telemetry::CustomTag;
use crate::telemetry::access::Format;
use crate::telemetry::recording::Tag;

/// The tags, in the order of their names. What is wrong with one, and leaves it out, is said by `report`.
pub(super) fn tags(written: &BTreeMap<String, CustomTag>, mut report: impl FnMut(&str, String)) -> Vec<Tag> {
    let mut tags = Vec::with_capacity(written.len());
    for (name, custom) in written {
        match tag(name, custom) {
            Ok(tag) => tags.extend(tag),
            Err(why) => report(name, why),
        }
    }
    tags
}

/// `None` if it never has a value here.
fn tag(name: &str, custom: &CustomTag) -> Result<Option<Tag>, String> {
    if name.is_empty() {
        return Err("a tag needs a name".to_owned());
    }
    match custom {
        CustomTag {
            literal: Some(literal),
            environment: None,
            header: None,
            formatter: None,
        } => Ok(Some(Tag::literal(name, &literal.value))),
        CustomTag {
            literal: None,
            environment: Some(variable),
            header: None,
            formatter: None,
        } => {
            if variable.name.is_empty() {
                return Err("the variable needs a name".to_owned());
            }
            let value = std::env::var(&variable.name).unwrap_or_default();
            let value = [value, variable.default_value.clone()]
                .into_iter()
                .find(|it| !it.is_empty());
            Ok(value.map(|value| Tag::literal(name, &value)))
        }
        CustomTag {
            literal: None,
            environment: None,
            header: Some(header),
            formatter: None,
        } => {
            let wrong = |_| format!("`{}` is not the name of a header", header.name);
            let field: HeaderName = header.name.parse().map_err(wrong)?;
            Ok(Some(Tag::header(name, field, Some(&header.default_value))))
        }
        CustomTag {
            literal: None,
            environment: None,
            header: None,
            formatter: Some(formatter),
        } => {
            let format = Format::text(&formatter.value).map_err(|error| error.to_string())?;
            Ok(Some(Tag::format(name, format)))
        }
        _ => Err("it is one of literal, environment, header and formatter".to_owned()),
    }
}
