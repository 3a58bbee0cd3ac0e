//! Expressions about requests: the part of CEL that filters of access logs and tags of metrics are written in.
//!
//! ```text
//! response.code >= 400 && !request.path.startsWith('/healthz') && has(request.headers['x-tenant'])
//! has(request.headers['x-tenant']) ? request.headers['x-tenant'] : 'nobody'
//! request.duration > duration('500ms') && request.time.getHours() in [8, 9, 10]
//! ```
//!
//! Comparisons, `&&`, `||`, `!`, `? :`, `+ - * / %`, parentheses, lists and maps with `in` and `[..]`, `has(..)`, points in time
//! and lapses of it, conversions, and of texts `startsWith`, `endsWith`, `contains` and `matches`. What asks for anything else is
//! refused when it is read. What cannot be said of a request (a header that it does not have) is an error, as in CEL.
//!
//! A part of the language and not all of it: an expression is evaluated for each request, so there are no loops (CEL's macros
//! but for `has`), and it reads what is known without turning it into a document first.

mod attribute;
mod node;
mod reader;
mod time;
mod token;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use self::node::Node;
use self::reader::Reader;
use self::value::Value;
use super::access::{Entry, Wanted};

/// An expression about what is known of a request.
#[derive(Clone, Debug)]
pub struct Expression {
    text: Box<str>,
    root: Node,
}

/// Two expressions are the same if they are written so.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Who evaluates: what expressions know as `xds.node`, or `node`. It is the same for every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// `xds.node.id`.
    pub id: Arc<str>,
    /// `xds.node.cluster`.
    pub cluster: Arc<str>,
    /// `xds.node.metadata['NAMESPACE']`.
    pub metadata: BTreeMap<Arc<str>, Arc<str>>,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} at character {at}")]
pub struct Error {
    at: usize,
    text: String,
}

/// What is longer nobody writes by hand; and each operator is a level that its evaluation goes down.
const LONGEST: usize = 2_048;

impl Expression {
    /// Reads an expression that is evaluated by nobody in particular.
    ///
    /// # Errors
    /// If it is none, or asks for what is not known here.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_by(text, &NodeFacts::default())
    }

    /// Reads an expression that is evaluated by `node`.
    ///
    /// # Errors
    /// If it is none, or asks for what is not known here.
    pub fn parse_by(text: &str, node: &NodeFacts) -> Result<Self, Error> {
        let mut reader = Reader::new(text, node);
        if text.len() > LONGEST {
            return Err(reader.error(format!("it is longer than {LONGEST} bytes")));
        }
        let root = reader.whole()?;
        Ok(Self {
            text: text.into(),
            root,
        })
    }

    /// The expression, as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it comes to `true`.
    pub fn holds(&self, entry: &Entry<'_>) -> bool {
        self.root.value(entry) == Some(Value::Bool(true))
    }

    /// What it comes to, as text; `None` where that cannot be said.
    pub fn text<'a>(&'a self, entry: &'a Entry<'a>) -> Option<Cow<'a, str>> {
        self.root.value(entry)?.into_text()
    }

    /// The header fields that it asks for.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        self.root.want(&mut wanted);
        wanted
    }
}

#[cfg(test)]
mod tests;
