//! Expressions about requests: the part of CEL that filters of access logs and tags of metrics are written in.
//!
//! ```text
//! response.code >= 400 && !request.path.startsWith('/healthz') && has(request.headers['x-tenant'])
//! has(request.headers['x-tenant']) ? request.headers['x-tenant'] : 'nobody'
//! ```
//!
//! Comparisons, `&&`, `||`, `!`, `? :`, `+`, parentheses, `in [..]`, `has(..)`, `string(..)`, `int(..)`, `size(..)`, and of
//! texts `startsWith`, `endsWith`, `contains` and `matches`. What asks for anything else is refused when it is read. What
//! cannot be said of a request (a header that it does not have) is an error, as in CEL.
//!
//! A part of the language and not all of it: an expression is evaluated for each request, so it may neither loop nor build
//! lists, and reads what is known without turning it into a document first.

mod attribute;
mod reader;

use std::borrow::Cow;

use regex::Regex;

use self::attribute::Attribute;
use self::reader::Reader;
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

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} at character {at}")]
pub struct Error {
    at: usize,
    text: String,
}

#[derive(Clone, Debug)]
enum Node {
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    Compare(Relation, Box<[Self; 2]>),
    In(Box<Self>, Vec<Self>),
    Has(Attribute),
    Text(TextTest, Box<Self>, Box<str>),
    Matches(Box<Self>, Regex),
    /// `condition ? one : other`.
    Choice(Box<[Self; 3]>),
    Sum(Vec<Self>),
    ToText(Box<Self>),
    ToInt(Box<Self>),
    Size(Box<Self>),
    Literal(Literal),
    Attribute(Attribute),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Copy, Debug)]
enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Literal {
    Bool(bool),
    Int(i64),
    Text(Box<str>),
}

/// What a part of an expression comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
}

/// What is longer nobody writes by hand; and each operator is a level that its evaluation goes down.
const LONGEST: usize = 2_048;

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// If it is none, or asks for what is not known here.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut reader = Reader::new(text);
        if text.len() > LONGEST {
            return Err(reader.error(format!("it is longer than {LONGEST} bytes")));
        }
        let root = reader.expression()?;
        reader.skip();
        match reader.rest().is_empty() {
            true => Ok(Self {
                text: text.into(),
                root,
            }),
            false => Err(reader.error("nothing was expected")),
        }
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
        Some(self.root.value(entry)?.into_text())
    }

    /// The header fields that it asks for.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        self.root.want(&mut wanted);
        wanted
    }
}

impl<'a> Value<'a> {
    fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Bool(truth) => Cow::Borrowed(if truth { "true" } else { "false" }),
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => text,
        }
    }
}

impl Node {
    /// `None` where it cannot be said.
    fn value<'a>(&'a self, entry: &'a Entry<'a>) -> Option<Value<'a>> {
        let truth = |node: &'a Self| match node.value(entry) {
            Some(Value::Bool(truth)) => Some(truth),
            _ => None,
        };
        Some(Value::Bool(match self {
            // As in CEL, one side may decide though another cannot be said.
            Self::Or(sides) => !none_is(sides.iter().map(truth), true)?,
            Self::And(sides) => none_is(sides.iter().map(truth), false)?,
            Self::Not(inner) => !truth(inner)?,
            Self::Compare(relation, sides) => {
                relation.holds(&sides[0].value(entry)?, &sides[1].value(entry)?)?
            }
            Self::In(item, list) => {
                let item = item.value(entry)?;
                list.iter().any(|one| one.value(entry).as_ref() == Some(&item))
            }
            Self::Has(attribute) => attribute.value(entry).is_some(),
            Self::Text(test, of, with) => {
                let Value::Text(text) = of.value(entry)? else {
                    return None;
                };
                match test {
                    TextTest::StartsWith => text.starts_with(&**with),
                    TextTest::EndsWith => text.ends_with(&**with),
                    TextTest::Contains => text.contains(&**with),
                }
            }
            Self::Matches(of, regex) => {
                let Value::Text(text) = of.value(entry)? else {
                    return None;
                };
                regex.is_match(&text)
            }
            Self::Literal(literal) => {
                return Some(match literal {
                    Literal::Bool(truth) => Value::Bool(*truth),
                    Literal::Int(number) => Value::Int(*number),
                    Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
                });
            }
            Self::Attribute(attribute) => return attribute.value(entry),
            Self::Choice(sides) => {
                let side = if truth(&sides[0])? { &sides[1] } else { &sides[2] };
                return side.value(entry);
            }
            Self::Sum(sides) => {
                let mut sides = sides.iter().map(|side| side.value(entry));
                let mut sum = sides.next()??;
                for side in sides {
                    sum = match (sum, side?) {
                        (Value::Int(one), Value::Int(other)) => Value::Int(one.checked_add(other)?),
                        (Value::Text(one), Value::Text(other)) => Value::Text(one + other),
                        _ => return None,
                    };
                }
                return Some(sum);
            }
            Self::ToText(inner) => return Some(Value::Text(inner.value(entry)?.into_text())),
            Self::ToInt(inner) => {
                return Some(Value::Int(match inner.value(entry)? {
                    Value::Text(text) => text.parse().ok()?,
                    Value::Int(number) => number,
                    Value::Bool(_) => return None,
                }));
            }
            Self::Size(inner) => {
                let Value::Text(text) = inner.value(entry)? else {
                    return None;
                };
                return Some(Value::Int(i64::try_from(text.chars().count()).ok()?));
            }
        }))
    }

    fn want(&self, wanted: &mut Wanted) {
        match self {
            Self::Or(sides) | Self::And(sides) | Self::Sum(sides) => {
                sides.iter().for_each(|side| side.want(wanted));
            }
            Self::Compare(_, sides) => sides.iter().for_each(|side| side.want(wanted)),
            Self::Not(inner)
            | Self::Text(_, inner, _)
            | Self::Matches(inner, _)
            | Self::ToText(inner)
            | Self::ToInt(inner)
            | Self::Size(inner) => inner.want(wanted),
            Self::In(item, list) => {
                item.want(wanted);
                list.iter().for_each(|one| one.want(wanted));
            }
            Self::Choice(sides) => sides.iter().for_each(|side| side.want(wanted)),
            Self::Has(attribute) | Self::Attribute(attribute) => attribute.want(wanted),
            Self::Literal(_) => {}
        }
    }
}

/// Whether none of the sides is `decisive`; `None` if that cannot be said.
fn none_is(sides: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut unknown = false;
    for side in sides {
        match side {
            Some(side) if side == decisive => return Some(false),
            Some(_) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(true)
}

impl Relation {
    fn holds(self, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
        let order = match (left, right) {
            (Value::Int(left), Value::Int(right)) => left.cmp(right),
            (Value::Text(left), Value::Text(right)) => left.cmp(right),
            (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
            _ => return None,
        };
        Some(match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        })
    }
}
