//! The parts of an expression, and how they are evaluated.

use regex::Regex;

use super::attribute::Attribute;
use super::value::{Function, Operator, Relation, Value};
use crate::telemetry::access::{Entry, Wanted};

#[derive(Clone, Debug)]
pub(super) enum Node {
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    Compare(Relation, Box<[Self; 2]>),
    In(Box<[Self; 2]>),
    Has(Box<Self>),
    Matches(Box<Self>, Regex),
    /// `condition ? one : other`.
    Choice(Box<[Self; 3]>),
    /// One after the other, from the left: a long sum is not a deep tree.
    Chain(Box<Self>, Vec<(Operator, Self)>),
    Call(Function, Box<Self>, Option<Box<Self>>),
    /// What is at a place of a list, or under a key of a map.
    At(Box<[Self; 2]>),
    List(Vec<Self>),
    Map(Vec<[Self; 2]>),
    Literal(Value<'static>),
    Attribute(Attribute),
}

impl Node {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Literal(Value::Text(text.into().into()))
    }

    /// `None` where it cannot be said.
    pub(super) fn value<'a>(&'a self, entry: &'a Entry<'a>) -> Option<Value<'a>> {
        let truth = |node: &'a Self| match node.value(entry) {
            Some(Value::Bool(truth)) => Some(truth),
            _ => None,
        };
        Some(match self {
            // As in CEL, one side may decide though another cannot be said.
            Self::Or(sides) => Value::Bool(!none_is(sides.iter().map(truth), true)?),
            Self::And(sides) => Value::Bool(none_is(sides.iter().map(truth), false)?),
            Self::Not(inner) => Value::Bool(!truth(inner)?),
            Self::Compare(relation, sides) => {
                Value::Bool(relation.holds(&sides[0].value(entry)?, &sides[1].value(entry)?)?)
            }
            Self::In(sides) => {
                let item = sides[0].value(entry)?;
                Value::Bool(match &sides[1] {
                    // Nothing is built only to be looked through.
                    Self::List(list) => list.iter().any(|one| one.value(entry).as_ref() == Some(&item)),
                    of => item.is_in(&of.value(entry)?)?,
                })
            }
            Self::Has(inner) => Value::Bool(inner.value(entry).is_some()),
            Self::Matches(of, regex) => match of.value(entry)? {
                Value::Text(text) => Value::Bool(regex.is_match(&text)),
                _ => return None,
            },
            Self::Choice(sides) => {
                let side = if truth(&sides[0])? { &sides[1] } else { &sides[2] };
                return side.value(entry);
            }
            Self::Chain(first, rest) => {
                let mut value = first.value(entry)?;
                for (operator, next) in rest {
                    value = operator.apply(value, next.value(entry)?)?;
                }
                value
            }
            Self::Call(function, of, with) => {
                let with = match with {
                    Some(with) => Some(with.value(entry)?),
                    None => None,
                };
                return function.apply(of.value(entry)?, with);
            }
            Self::At(sides) => return sides[0].value(entry)?.at(&sides[1].value(entry)?),
            Self::List(list) => Value::List(list.iter().map(|it| it.value(entry)).collect::<Option<_>>()?),
            Self::Map(map) => {
                let pairs = map
                    .iter()
                    .map(|[key, value]| Some((key.value(entry)?, value.value(entry)?)));
                Value::Map(pairs.collect::<Option<_>>()?)
            }
            Self::Literal(value) => value.lent(),
            Self::Attribute(attribute) => return attribute.value(entry),
        })
    }

    /// Adds the header fields that it asks for.
    pub(super) fn want(&self, wanted: &mut Wanted) {
        match self {
            Self::Or(sides) | Self::And(sides) | Self::List(sides) => {
                sides.iter().for_each(|side| side.want(wanted));
            }
            Self::Compare(_, sides) | Self::In(sides) | Self::At(sides) => {
                sides.iter().for_each(|side| side.want(wanted));
            }
            Self::Choice(sides) => sides.iter().for_each(|side| side.want(wanted)),
            Self::Not(inner) | Self::Has(inner) | Self::Matches(inner, _) => inner.want(wanted),
            Self::Chain(first, rest) => {
                first.want(wanted);
                rest.iter().for_each(|(_, side)| side.want(wanted));
            }
            Self::Call(_, of, with) => {
                of.want(wanted);
                with.iter().for_each(|with| with.want(wanted));
            }
            Self::Map(map) => map.iter().flatten().for_each(|side| side.want(wanted)),
            Self::Attribute(attribute) => attribute.want(wanted),
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
