//! Predicates with no meaning of their own, shared by routes and authorization.

mod cidr;
mod header;
mod host;
mod host_map;
mod path;
mod prefix;
mod regex;
mod substitute;
mod template;
mod text;

pub use cidr::{BlockMap, CidrError, CidrSet, parse_block};
pub use header::{HeaderPattern, QueryPattern, ValuePattern};
pub(crate) use header::{parameter, parameters, with_joined_bytes};
pub use host::HostPattern;
pub use host_map::HostMap;
pub use path::{PathPattern, method_of};
pub use prefix::PrefixMap;
pub use regex::{Automata, FullRegex, Literals, RegexError};
pub use substitute::{Substitution, SubstitutionError};
pub use template::{PathTemplate, TemplateError, Width};
pub use text::{Glob, TextMatch, TextSet};
