//! Predicates with no meaning of their own, shared by routes and authorization.

mod cidr;
mod header;
mod host;
mod path;
mod regex;
mod template;
mod text;

pub use cidr::{CidrError, CidrSet, parse_block};
pub(crate) use header::with_joined;
pub use header::{HeaderPattern, QueryPattern, ValuePattern};
pub use host::HostPattern;
pub use path::{PathPattern, method_of};
pub use regex::{FullRegex, RegexError};
pub use template::{PathTemplate, TemplateError, Width};
pub use text::{Glob, TextMatch, TextSet};
