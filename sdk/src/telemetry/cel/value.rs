//! What expressions come to, and what may be done with it.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::time::{Lapse, Part, Time};

/// What a part of an expression comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    Time(Time),
    Lapse(Lapse),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Plus,
    Minus,
    Times,
    Over,
    Modulo,
}

/// What is asked of one value, some with another: `size(x)` and `x.size()` are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Int,
    Uint,
    Double,
    Text,
    Bool,
    Duration,
    Timestamp,
    Size,
    StartsWith,
    EndsWith,
    Contains,
    Part(Part),
}

impl<'a> Value<'a> {
    pub(super) fn into_text(self) -> Option<Cow<'a, str>> {
        Some(match self {
            Self::Bool(truth) => Cow::Borrowed(if truth { "true" } else { "false" }),
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Uint(number) => Cow::Owned(number.to_string()),
            Self::Double(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => text,
            Self::Time(time) => Cow::Owned(time.write()),
            Self::Lapse(lapse) => Cow::Owned(lapse.write()),
            Self::Null | Self::List(_) | Self::Map(_) => return None,
        })
    }

    /// The same, without a copy of its text.
    pub(super) fn lent(&'a self) -> Self {
        match self {
            Self::Text(text) => Self::Text(Cow::Borrowed(text)),
            other => other.clone(),
        }
    }

    /// What is at a place of a list, or under a key of a map.
    pub(super) fn at(self, key: &Self) -> Option<Self> {
        match (self, key) {
            (Self::List(list), Self::Int(at)) => list.into_iter().nth(usize::try_from(*at).ok()?),
            (Self::Map(map), key) => map.into_iter().find(|(it, _)| it == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether it is among the items of a list or the keys of a map.
    pub(super) fn is_in(&self, of: &Self) -> Option<bool> {
        match of {
            Self::List(list) => Some(list.contains(self)),
            Self::Map(map) => Some(map.iter().any(|(key, _)| key == self)),
            _ => None,
        }
    }

    /// How it stands to another; `None` if the two cannot be compared.
    fn against(&self, other: &Self) -> Option<Ordering> {
        Some(match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Time(one), Self::Time(other)) => one.cmp(other),
            (Self::Lapse(one), Self::Lapse(other)) => one.cmp(other),
            (Self::Double(_), _) | (_, Self::Double(_)) => {
                self.as_double()?.partial_cmp(&other.as_double()?)?
            }
            _ => self.as_whole()?.cmp(&other.as_whole()?),
        })
    }

    fn as_double(&self) -> Option<f64> {
        Some(match self {
            Self::Int(number) => *number as f64,
            Self::Uint(number) => *number as f64,
            Self::Double(number) => *number,
            _ => return None,
        })
    }

    fn as_whole(&self) -> Option<i128> {
        Some(match self {
            Self::Int(number) => (*number).into(),
            Self::Uint(number) => (*number).into(),
            _ => return None,
        })
    }
}

impl Relation {
    pub(super) fn holds(self, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
        match (left, right) {
            // They have no order.
            (Value::List(_), Value::List(_))
            | (Value::Map(_), Value::Map(_))
            | (Value::Null, _)
            | (_, Value::Null) => {
                return match self {
                    Self::Equal => Some(left == right),
                    Self::NotEqual => Some(left != right),
                    _ => None,
                };
            }
            _ => {}
        }
        let order = left.against(right)?;
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

impl Operator {
    /// What two values come to: nothing where that is more than fits, and what is divided by zero.
    pub(super) fn apply<'a>(self, left: Value<'a>, right: Value<'a>) -> Option<Value<'a>> {
        Some(match (self, left, right) {
            (_, Value::Int(left), Value::Int(right)) => Value::Int(match self {
                Self::Plus => left.checked_add(right),
                Self::Minus => left.checked_sub(right),
                Self::Times => left.checked_mul(right),
                Self::Over => left.checked_div(right),
                Self::Modulo => left.checked_rem(right),
            }?),
            (_, Value::Uint(left), Value::Uint(right)) => Value::Uint(match self {
                Self::Plus => left.checked_add(right),
                Self::Minus => left.checked_sub(right),
                Self::Times => left.checked_mul(right),
                Self::Over => left.checked_div(right),
                Self::Modulo => left.checked_rem(right),
            }?),
            (_, Value::Double(left), Value::Double(right)) => Value::Double(match self {
                Self::Plus => left + right,
                Self::Minus => left - right,
                Self::Times => left * right,
                Self::Over => left / right,
                Self::Modulo => return None,
            }),
            (Self::Plus, Value::Text(left), Value::Text(right)) => Value::Text(left + right),
            (Self::Plus, Value::List(mut left), Value::List(right)) => {
                left.extend(right);
                Value::List(left)
            }
            (Self::Plus, Value::Time(time), Value::Lapse(lapse))
            | (Self::Plus, Value::Lapse(lapse), Value::Time(time)) => Value::Time(time.plus(lapse)?),
            (Self::Minus, Value::Time(time), Value::Lapse(lapse)) => Value::Time(time.minus(lapse)?),
            (Self::Minus, Value::Time(left), Value::Time(right)) => Value::Lapse(left.since(right)),
            (Self::Plus, Value::Lapse(left), Value::Lapse(right)) => Value::Lapse(left.plus(right)?),
            (Self::Minus, Value::Lapse(left), Value::Lapse(right)) => Value::Lapse(left.minus(right)?),
            _ => return None,
        })
    }
}

impl Function {
    /// The function of this name, and with how many values it may be called.
    pub(super) fn named(name: &str) -> Option<(Self, std::ops::RangeInclusive<usize>)> {
        Some(match name {
            "int" => (Self::Int, 1..=1),
            "uint" => (Self::Uint, 1..=1),
            "double" => (Self::Double, 1..=1),
            "string" => (Self::Text, 1..=1),
            "bool" => (Self::Bool, 1..=1),
            "duration" => (Self::Duration, 1..=1),
            "timestamp" => (Self::Timestamp, 1..=1),
            "size" => (Self::Size, 1..=1),
            "startsWith" => (Self::StartsWith, 2..=2),
            "endsWith" => (Self::EndsWith, 2..=2),
            "contains" => (Self::Contains, 2..=2),
            other => (Self::Part(Part::named(other)?), 1..=2),
        })
    }

    /// Whether it is written behind a point only.
    pub(super) fn is_method(self) -> bool {
        matches!(
            self,
            Self::StartsWith | Self::EndsWith | Self::Contains | Self::Part(_)
        )
    }

    /// Whether it is written in front only.
    pub(super) fn is_conversion(self) -> bool {
        !self.is_method() && self != Self::Size
    }

    pub(super) fn apply<'a>(self, of: Value<'a>, with: Option<Value<'a>>) -> Option<Value<'a>> {
        Some(match (self, of) {
            (Self::Int, of) => Value::Int(match of {
                Value::Int(number) => number,
                Value::Uint(number) => number.try_into().ok()?,
                Value::Double(number) => whole(number)?,
                Value::Text(text) => text.parse().ok()?,
                Value::Time(time) => time.seconds(),
                _ => return None,
            }),
            (Self::Uint, of) => Value::Uint(match of {
                Value::Uint(number) => number,
                Value::Int(number) => number.try_into().ok()?,
                Value::Double(number) => whole(number)?.try_into().ok()?,
                Value::Text(text) => text.parse().ok()?,
                _ => return None,
            }),
            (Self::Double, Value::Text(text)) => Value::Double(text.parse().ok()?),
            (Self::Double, of) => Value::Double(of.as_double()?),
            (Self::Text, of) => Value::Text(of.into_text()?),
            (Self::Bool, Value::Bool(truth)) => Value::Bool(truth),
            (Self::Bool, Value::Text(text)) => Value::Bool(text.parse().ok()?),
            (Self::Duration, Value::Text(text)) => Value::Lapse(Lapse::parse(&text)?),
            (Self::Duration, Value::Lapse(lapse)) => Value::Lapse(lapse),
            (Self::Timestamp, Value::Text(text)) => Value::Time(Time::parse(&text)?),
            (Self::Timestamp, Value::Int(seconds)) => Value::Time(Time::of_seconds(seconds)?),
            (Self::Timestamp, Value::Time(time)) => Value::Time(time),
            (Self::Size, of) => Value::Int(
                i64::try_from(match of {
                    Value::Text(text) => text.chars().count(),
                    Value::List(list) => list.len(),
                    Value::Map(map) => map.len(),
                    _ => return None,
                })
                .ok()?,
            ),
            (Self::Part(part), Value::Time(time)) => Value::Int(match with {
                None => time.part(part, None)?,
                Some(Value::Text(zone)) => time.part(part, Some(&zone))?,
                Some(_) => return None,
            }),
            (Self::Part(part), Value::Lapse(lapse)) if with.is_none() => Value::Int(lapse.part(part)?),
            (Self::StartsWith | Self::EndsWith | Self::Contains, Value::Text(text)) => {
                let Some(Value::Text(with)) = with else {
                    return None;
                };
                Value::Bool(match self {
                    Self::StartsWith => text.starts_with(&*with),
                    Self::EndsWith => text.ends_with(&*with),
                    _ => text.contains(&*with),
                })
            }
            _ => return None,
        })
    }
}

/// A number without what stands behind its point; `None` if it is none of 64 bits.
fn whole(number: f64) -> Option<i64> {
    // Both bounds are numbers that `f64` has, the upper of them is one more than fits.
    let fits = number >= i64::MIN as f64 && number < i64::MAX as f64;
    fits.then_some(number as i64)
}
