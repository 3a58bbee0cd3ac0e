//! Which requests are logged.

use super::{Entry, Wanted};
use crate::telemetry::cel::{Expression, NodeFacts};

pub use crate::telemetry::cel::Error as FilterError;

/// A condition on what is known of a request. A request of which the whole cannot be said is not logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Expression);

impl Filter {
    /// Reads a condition that is asked by nobody in particular.
    ///
    /// # Errors
    /// If it is none, or asks for what is not known here.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Expression::parse(text).map(Self)
    }

    /// Reads a condition that `node` asks.
    ///
    /// # Errors
    /// If it is none, or asks for what is not known here.
    pub fn parse_by(text: &str, node: &NodeFacts) -> Result<Self, FilterError> {
        Expression::parse_by(text, node).map(Self)
    }

    /// The condition, as written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the request is logged.
    pub fn admits(&self, entry: &Entry<'_>) -> bool {
        self.0.holds(entry)
    }

    /// The header fields that it asks for.
    pub fn wanted(&self) -> Wanted {
        self.0.wanted()
    }
}
