//! The format of a line: text, or JSON whose values are formats.

use std::fmt::Write as _;

use http::HeaderName;
use serde_json::Value as Json;

use super::Entry;
use super::operator::{Operator, Value};

/// Istio's default line (Istio, "Getting Envoy's Access Logs").
const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Istio's default keys and their operators.
const ISTIO_JSON: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];

/// Why a format cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}{text}")]
pub struct FormatError {
    /// Which key of a JSON format, with a colon; empty for text.
    field: String,
    text: String,
}

/// The format of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    shape: Shape,
    /// Whether what is absent is left out instead of written as `-` or `null`.
    omits: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Text(Template),
    Json(Tree),
}

/// JSON whose leaves are templates; keys in the order in which they are written.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Leaf(Template),
    Object(Vec<(String, Self)>),
    List(Vec<Self>),
}

/// Text with operators in it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Operator(Operator),
}

/// What formats and filters ask for that is gone when a line is written, unless it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of requests.
    pub request: Vec<HeaderName>,
    /// Of responses.
    pub response: Vec<HeaderName>,
    /// Of their trailers.
    pub trailers: Vec<HeaderName>,
    /// Whether the trace is asked for, too.
    pub trace: bool,
    /// Whether it is asked how long an answer's head took.
    pub answered: bool,
}

impl Format {
    /// Istio's default line of text.
    pub fn istio() -> Self {
        // A constant, and tested.
        Self::text(ISTIO).unwrap_or_else(|_| Self {
            shape: Shape::Text(Template::default()),
            omits: false,
        })
    }

    /// Istio's default line of JSON.
    pub fn istio_json() -> Self {
        let leaf = |(key, text): &(&str, &str)| {
            let template = Template::parse(text).unwrap_or_default();
            ((*key).to_owned(), Tree::Leaf(template))
        };
        Self {
            shape: Shape::Json(Tree::Object(ISTIO_JSON.iter().map(leaf).collect())),
            omits: false,
        }
    }

    /// Reads a format of text; a line ends with a line feed whether or not the format does.
    ///
    /// # Errors
    /// If an operator in it is not known.
    pub fn text(format: &str) -> Result<Self, FormatError> {
        let end = if format.ends_with('\n') { "" } else { "\n" };
        let template = Template::parse(&format!("{format}{end}")).map_err(|text| FormatError {
            field: String::new(),
            text,
        })?;
        Ok(Self {
            shape: Shape::Text(template),
            omits: false,
        })
    }

    /// Reads a format of JSON: an object of texts, or of further objects and lists.
    ///
    /// # Errors
    /// If it is none, or an operator in it is not known.
    pub fn json(format: &Json) -> Result<Self, FormatError> {
        if !format.is_object() {
            return Err(FormatError {
                field: String::new(),
                text: "a format of JSON is an object".to_owned(),
            });
        }
        Ok(Self {
            shape: Shape::Json(tree(format, "")?),
            omits: false,
        })
    }

    /// Leaves out what is absent.
    pub fn omitting(mut self, omits: bool) -> Self {
        self.omits = omits;
        self
    }

    /// The header fields that it asks for.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        match &self.shape {
            Shape::Text(template) => template.want(&mut wanted),
            Shape::Json(tree) => tree.want(&mut wanted),
        }
        wanted
    }

    /// The line of a request, line feed included.
    pub fn render(&self, entry: &Entry<'_>) -> String {
        let mut line = String::with_capacity(512);
        self.write(entry, &mut line);
        line
    }

    /// Writes the line of a request behind what is there, line feed included.
    pub fn write(&self, entry: &Entry<'_>, to: &mut String) {
        match &self.shape {
            Shape::Text(template) => template.write(entry, self.omits, to),
            Shape::Json(tree) => {
                tree.write(entry, self.omits, to);
                to.push('\n');
            }
        }
    }
}

#[cfg(feature = "otlp")]
impl Format {
    /// A format of JSON by its keys: each with its value as text.
    pub(super) fn labels(&self, entry: &Entry<'_>) -> Vec<(String, String)> {
        let Shape::Json(Tree::Object(fields)) = &self.shape else {
            return Vec::new();
        };
        let labels = fields.iter().map(|(key, value)| {
            let mut text = String::new();
            match value {
                Tree::Leaf(template) => template.write(entry, self.omits, &mut text),
                nested => nested.write(entry, self.omits, &mut text),
            }
            (key.clone(), text)
        });
        labels.collect()
    }
}

impl Wanted {
    /// With what another format asks for, each once.
    pub fn and(mut self, other: Self) -> Self {
        self.trace |= other.trace;
        self.answered |= other.answered;
        for (all, more) in [
            (&mut self.request, other.request),
            (&mut self.response, other.response),
            (&mut self.trailers, other.trailers),
        ] {
            all.extend(more);
            all.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            all.dedup();
        }
        self
    }
}

fn tree(format: &Json, at: &str) -> Result<Tree, FormatError> {
    let below = |key: &str| match at {
        "" => key.to_owned(),
        at => format!("{at}.{key}"),
    };
    match format {
        Json::String(text) => match Template::parse(text) {
            Ok(template) => Ok(Tree::Leaf(template)),
            Err(text) => Err(FormatError {
                field: format!("{at}: "),
                text,
            }),
        },
        Json::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| Ok((key.clone(), tree(value, &below(key))?)));
            Ok(Tree::Object(fields.collect::<Result<_, _>>()?))
        }
        Json::Array(items) => {
            let items = items.iter().map(|item| tree(item, at));
            Ok(Tree::List(items.collect::<Result<_, _>>()?))
        }
        _ => Err(FormatError {
            field: format!("{at}: "),
            text: format!("`{format}` is no text; write it between quotes"),
        }),
    }
}

impl Tree {
    fn want(&self, wanted: &mut Wanted) {
        match self {
            Self::Leaf(template) => template.want(wanted),
            Self::Object(fields) => fields.iter().for_each(|(_, value)| value.want(wanted)),
            Self::List(items) => items.iter().for_each(|item| item.want(wanted)),
        }
    }

    fn write(&self, entry: &Entry<'_>, omits: bool, to: &mut String) {
        match self {
            Self::Leaf(template) => template.write_json(entry, to),
            Self::Object(fields) => {
                to.push('{');
                let shown = fields
                    .iter()
                    .filter(|(_, value)| !omits || !value.is_absent(entry));
                for (index, (key, value)) in shown.enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    quote(key, to);
                    to.push(':');
                    value.write(entry, omits, to);
                }
                to.push('}');
            }
            Self::List(items) => {
                to.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    item.write(entry, omits, to);
                }
                to.push(']');
            }
        }
    }

    fn is_absent(&self, entry: &Entry<'_>) -> bool {
        match self {
            Self::Leaf(Template(pieces)) => match pieces.as_slice() {
                [Piece::Operator(operator)] => operator.value(entry) == Value::Absent,
                _ => false,
            },
            _ => false,
        }
    }
}

impl Template {
    /// Splits a text at its operators: `%NAME%`, `%NAME(…)%`, `%NAME(…):LENGTH%`; `%%` is a percent sign.
    fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let (operator, after) = operator(after)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Operator(operator));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    fn want(&self, wanted: &mut Wanted) {
        for piece in &self.0 {
            if let Piece::Operator(operator) = piece {
                operator.want(wanted);
            }
        }
    }

    fn write(&self, entry: &Entry<'_>, omits: bool, to: &mut String) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => to.push_str(text),
                Piece::Operator(operator) => operator.write(entry, omits, to),
            }
        }
    }

    /// A template that is one operator keeps its type: numbers are numbers, what is absent is `null`.
    fn write_json(&self, entry: &Entry<'_>, to: &mut String) {
        match self.0.as_slice() {
            [Piece::Operator(operator)] => match operator.value(entry) {
                Value::Absent => to.push_str("null"),
                value @ Value::Number(_) => operator.push(&value, to),
                value => quoted(to, |to| operator.push(&value, to)),
            },
            _ => quoted(to, |to| self.write(entry, false, to)),
        }
    }
}

/// Reads what follows the `%` of an operator, and gives what comes after its second.
fn operator(text: &str) -> Result<(Operator, &str), String> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let unclosed = || format!("`%{name}` has no `%` at its end");
    let mut inner = None;
    if let Some(after) = rest.strip_prefix('(') {
        // Formats of times hold `%`, and expressions parentheses: what ends an operator are both.
        let ends = |at: &usize| {
            let behind = &after[at + 1..];
            let length = behind
                .strip_prefix(':')
                .map(|it| it.trim_start_matches(|c: char| c.is_ascii_digit()));
            length.unwrap_or(behind).starts_with('%')
        };
        let mut closing = after.match_indices(')').map(|(at, _)| at);
        let first = closing.clone().next();
        let end = closing.find(ends).or(first).ok_or_else(unclosed)?;
        (inner, rest) = (Some(&after[..end]), &after[end + 1..]);
    }
    let mut limit = None;
    if let Some(after) = rest.strip_prefix(':') {
        let (digits, _) = after.split_once('%').ok_or_else(unclosed)?;
        limit = Some(
            digits
                .parse::<usize>()
                .map_err(|_| format!("`{digits}` is no length for %{name}"))?,
        );
        rest = &after[digits.len()..];
    }
    let rest = match rest.strip_prefix('%') {
        Some(rest) => rest,
        None if name.is_empty() => return Err("a `%` begins no operator; write `%%` for one".to_owned()),
        None => return Err(unclosed()),
    };
    Ok((Operator::parse(name, inner, limit)?, rest))
}

/// What `write` writes, as JSON.
fn quoted(to: &mut String, write: impl FnOnce(&mut String)) {
    to.push('"');
    let start = to.len();
    write(to);
    // Seldom: then it is written once more.
    if to[start..].bytes().any(is_special) {
        let text = to.split_off(start);
        escape(&text, to);
    }
    to.push('"');
}

/// A text as JSON.
fn quote(text: &str, to: &mut String) {
    quoted(to, |to| to.push_str(text));
}

/// Whether a byte cannot stand in a text of JSON as it is.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..b' ')
}

fn escape(text: &str, to: &mut String) {
    for c in text.chars() {
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            // Writing to a String cannot fail.
            c if c < ' ' => drop(write!(to, "\\u{:04x}", u32::from(c))),
            c => to.push(c),
        }
    }
}
