//! What a request must have for a condition to hold of it.

use http::HeaderName;
use ipnet::IpNet;

use crate::matcher::{Glob, PathTemplate, TextMatch, TextSet};
use crate::policy::authz::rule::{Condition, HeaderKey, RequestPrincipal, Test};

/// What a key is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Attribute {
    Principal,
    /// `/ns/<namespace>/sa/<service account>`.
    Account,
    Namespace,
    TrustDomain,
    Sni,
    /// As two bytes.
    Port,
    SourceIp,
    RemoteIp,
    DestinationIp,
    /// The authority in lower case.
    Host,
    Authority,
    Scheme,
    Method,
    Path,
    /// The path with its query.
    Target,
    /// One segment of the path, counted from zero.
    Segment(usize),
    Header(HeaderName),
    /// A claim, by the keys that lead to it.
    Claim(Vec<Box<str>>),
}

/// How a text is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Form {
    Exact,
    Prefix,
    Suffix,
    Present,
}

/// One thing that a request has or has not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Text(Attribute, Form, Box<[u8]>),
    Block(Attribute, IpNet),
    /// A condition that nothing can be looked up for; it is asked itself, once for all rules that share it.
    Asked(Box<Condition>),
}

/// Keys that say the same of a request in different ways: if the condition holds, the request has all of them.
pub(super) type Choice = Vec<Key>;

impl Key {
    /// The dearer, the later: among keys that as many rules share, the cheaper look-up is taken.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Text(_, Form::Exact, _) => 0,
            Self::Block(..) => 1,
            Self::Text(_, Form::Prefix, _) => 2,
            Self::Text(_, Form::Suffix, _) => 3,
            Self::Text(_, Form::Present, _) => 4,
            Self::Asked(_) => 5,
        }
    }
}

/// The choices of which a request satisfies at least one if the condition holds of it, or if that cannot be judged.
///
/// (A header that is no text has no key; the index looks after it. So it does after connections that are asked about
/// requests.)
pub(super) fn choices(condition: &Condition) -> Vec<Choice> {
    if condition.negated {
        return vec![vec![Key::Asked(Box::new(condition.clone()))]];
    }
    match &condition.test {
        Test::Principal(values) => texts(Attribute::Principal, values),
        Test::Namespace { names, globs } => {
            let mut choices = texts(Attribute::Namespace, names);
            choices.extend(globs.iter().map(glob));
            choices
        }
        Test::ServiceAccount(accounts) => accounts
            .iter()
            .map(|(ns, sa)| {
                vec![text(
                    &Attribute::Account,
                    Form::Exact,
                    &format!("/ns/{ns}/sa/{sa}"),
                )]
            })
            .collect(),
        Test::TrustDomain(values) => texts(Attribute::TrustDomain, values),
        Test::SourceIp(blocks) => blocks
            .blocks()
            .map(|block| vec![Key::Block(Attribute::SourceIp, block)])
            .collect(),
        Test::RemoteIp(blocks) => blocks
            .blocks()
            .map(|block| vec![Key::Block(Attribute::RemoteIp, block)])
            .collect(),
        Test::DestinationIp(blocks) => {
            let key = |block| vec![Key::Block(Attribute::DestinationIp, block)];
            blocks.blocks().map(key).collect()
        }
        Test::Port(ports) => ports
            .iter()
            .map(|port| vec![Key::Text(Attribute::Port, Form::Exact, port.to_be_bytes().into())])
            .collect(),
        Test::Sni(values) => texts(Attribute::Sni, values),
        Test::RequestPrincipal(principals) => principals.iter().map(principal).collect(),
        Test::Claim { path, values } => texts(Attribute::Claim(path.clone()), values),
        Test::Host(values) => texts(Attribute::Host, values),
        Test::Method(values) => texts(Attribute::Method, values),
        Test::Path { values, templates } => {
            let mut choices = texts(Attribute::Path, values);
            choices.extend(templates.iter().map(template));
            choices
        }
        Test::Header { name, values } => texts(Attribute::of_header(name), values),
    }
}

impl Attribute {
    fn of_header(name: &HeaderKey) -> Self {
        match name {
            HeaderKey::Method => Self::Method,
            HeaderKey::Path => Self::Target,
            HeaderKey::Authority => Self::Authority,
            HeaderKey::Scheme => Self::Scheme,
            HeaderKey::Name(name) => Self::Header(name.clone()),
        }
    }
}

fn text(attribute: &Attribute, form: Form, text: &str) -> Key {
    Key::Text(attribute.clone(), form, text.as_bytes().into())
}

fn texts(attribute: Attribute, values: &TextSet) -> Vec<Choice> {
    if values.has_present() {
        return vec![vec![text(&attribute, Form::Present, "")]];
    }
    let exact = values
        .exact()
        .map(|value| vec![text(&attribute, Form::Exact, value)]);
    let prefix = values
        .prefixes()
        .map(|value| vec![text(&attribute, Form::Prefix, value)]);
    let suffix = values
        .suffixes()
        .map(|value| vec![text(&attribute, Form::Suffix, value)]);
    exact.chain(prefix).chain(suffix).collect()
}

fn glob(glob: &Glob) -> Choice {
    vec![
        text(&Attribute::Namespace, Form::Prefix, glob.prefix()),
        text(&Attribute::Namespace, Form::Suffix, glob.suffix()),
    ]
}

fn template(template: &PathTemplate) -> Choice {
    let ends = [
        text(&Attribute::Path, Form::Prefix, template.prefix()),
        text(&Attribute::Path, Form::Suffix, template.suffix()),
    ];
    let segments = template
        .segments()
        .map(|(at, segment)| text(&Attribute::Segment(at), Form::Exact, segment));
    ends.into_iter().chain(segments).collect()
}

fn principal(principal: &RequestPrincipal) -> Choice {
    let claim = |name: &str, value: &TextMatch| {
        let attribute = Attribute::Claim(vec![name.into()]);
        match value {
            TextMatch::Exact(value) => text(&attribute, Form::Exact, value),
            TextMatch::Prefix(value) => text(&attribute, Form::Prefix, value),
            TextMatch::Suffix(value) => text(&attribute, Form::Suffix, value),
            TextMatch::Present => text(&attribute, Form::Present, ""),
        }
    };
    vec![claim("iss", &principal.issuer), claim("sub", &principal.subject)]
}
