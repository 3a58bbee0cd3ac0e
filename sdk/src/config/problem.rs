//! What is wrong with somebody's YAML, in terms they can act on.

use std::fmt;
use std::sync::Arc;

use crate::name::ResourceRef;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something that was written is not enforced; strict mode refuses it.
    Ignored,
    /// It applies, but probably not as its author meant.
    Warning,
    /// It does not apply, or its target denies.
    Error,
}

impl Severity {
    /// `ignored`, `warning` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignored => "ignored",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where in which file; line and column count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file as the source was told it, or the name of another source.
    pub file: Arc<str>,
    /// The line, 1 for the first; 0 if unknown.
    pub line: u32,
    /// The column, 1 for the first; 0 if unknown.
    pub column: u32,
}

/// `file:line:column`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

/// One thing that is wrong with the configuration, for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// Which object, where that much could be read.
    pub resource: Option<ResourceRef>,
    /// The field, as a dotted path such as `spec.rules[0].filters[1].type`; empty for the whole object.
    pub field: String,
    /// What is wrong.
    pub text: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

/// `error: mesh/a.yaml:12:5: HTTPRoute default/reviews: spec.rules[0]: what (remedy)`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.severity, self.place)?;
        if let Some(resource) = &self.resource {
            write!(f, "{resource}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.text)?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}
