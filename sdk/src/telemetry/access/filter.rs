//! Which requests are logged: the part of CEL that filters of access logs are written in.
//!
//! ```text
//! response.code >= 400 && !request.path.startsWith('/healthz') && has(request.headers['x-tenant'])
//! ```
//!
//! Comparisons, `&&`, `||`, `!`, parentheses, `in [..]`, `has(..)`, and of texts `startsWith`, `endsWith`, `contains` and
//! `matches`. What asks for anything else is refused when it is read. What cannot be said of a request (a header that it does
//! not have) is an error, as in CEL, and a request of which the whole cannot be said is not logged.

use std::borrow::Cow;

use http::HeaderName;
use regex::Regex;

use super::{Entry, Wanted};

/// A condition on what is known of a request.
#[derive(Clone, Debug)]
pub struct Filter {
    text: Box<str>,
    root: Node,
}

/// Two filters are the same if they are written so.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Why an expression is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} at character {at}")]
pub struct FilterError {
    at: usize,
    text: String,
}

#[derive(Clone, Debug)]
enum Node {
    Or(Box<[Self; 2]>),
    And(Box<[Self; 2]>),
    Not(Box<Self>),
    Compare(Relation, Box<[Self; 2]>),
    In(Box<Self>, Vec<Self>),
    Has(Attribute),
    Text(TextTest, Box<Self>, Box<str>),
    Matches(Box<Self>, Regex),
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

#[derive(Clone, Debug, PartialEq)]
enum Attribute {
    Method,
    Path,
    UrlPath,
    Host,
    Scheme,
    Protocol,
    RequestHeader(HeaderName),
    RequestSize,
    Code,
    CodeDetails,
    GrpcStatus,
    ResponseHeader(HeaderName),
    Trailer(HeaderName),
    ResponseSize,
    SourceAddress,
    SourcePort,
    DestinationAddress,
    DestinationPort,
    Mtls,
    ServerName,
    PeerUri,
    UpstreamAddress,
    UpstreamPort,
    RouteName,
    ClusterName,
}

/// What a part of an expression comes to.
#[derive(Clone, Debug, PartialEq)]
enum Value<'a> {
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
}

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// If it is none, or asks for what is not known here.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut reader = Reader {
            text,
            at: 0,
            depth: 0,
        };
        let root = reader.or()?;
        reader.skip();
        match reader.rest().is_empty() {
            true => Ok(Self {
                text: text.into(),
                root,
            }),
            false => Err(reader.error("nothing was expected")),
        }
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the request is logged.
    pub fn admits(&self, entry: &Entry<'_>) -> bool {
        self.root.value(entry) == Some(Value::Bool(true))
    }

    /// The header fields that it asks for.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        self.root.want(&mut wanted);
        wanted
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
            // As in CEL, one side may decide though the other cannot be said.
            Self::Or(sides) => match (truth(&sides[0]), truth(&sides[1])) {
                (Some(true), _) | (_, Some(true)) => true,
                (Some(false), Some(false)) => false,
                _ => return None,
            },
            Self::And(sides) => match (truth(&sides[0]), truth(&sides[1])) {
                (Some(false), _) | (_, Some(false)) => false,
                (Some(true), Some(true)) => true,
                _ => return None,
            },
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
        }))
    }

    fn want(&self, wanted: &mut Wanted) {
        match self {
            Self::Or(sides) | Self::And(sides) | Self::Compare(_, sides) => {
                sides.iter().for_each(|side| side.want(wanted));
            }
            Self::Not(inner) | Self::Text(_, inner, _) | Self::Matches(inner, _) => inner.want(wanted),
            Self::In(item, list) => {
                item.want(wanted);
                list.iter().for_each(|one| one.want(wanted));
            }
            Self::Has(attribute) | Self::Attribute(attribute) => match attribute {
                Attribute::RequestHeader(name) => wanted.request.push(name.clone()),
                Attribute::ResponseHeader(name) => wanted.response.push(name.clone()),
                Attribute::Trailer(name) => wanted.trailers.push(name.clone()),
                _ => {}
            },
            Self::Literal(_) => {}
        }
    }
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

impl Attribute {
    fn named(path: &str, key: Option<&str>) -> Result<Self, String> {
        let header = |make: fn(HeaderName) -> Self| {
            let key = key.ok_or_else(|| format!("{path} needs a name in brackets: {path}['x-tenant']"))?;
            let name = HeaderName::from_bytes(key.as_bytes());
            name.map(make)
                .map_err(|_| format!("`{key}` is not the name of a header"))
        };
        Ok(match path {
            "request.headers" => header(Self::RequestHeader)?,
            "response.headers" => header(Self::ResponseHeader)?,
            "response.trailers" => header(Self::Trailer)?,
            _ if key.is_some() => return Err(format!("{path} takes nothing in brackets")),
            "request.method" => Self::Method,
            "request.path" => Self::Path,
            "request.url_path" => Self::UrlPath,
            "request.host" => Self::Host,
            "request.scheme" => Self::Scheme,
            "request.protocol" => Self::Protocol,
            "request.useragent" => Self::RequestHeader(http::header::USER_AGENT),
            "request.referer" => Self::RequestHeader(http::header::REFERER),
            "request.id" => Self::RequestHeader(HeaderName::from_static("x-request-id")),
            "request.size" => Self::RequestSize,
            "response.code" => Self::Code,
            "response.code_details" => Self::CodeDetails,
            "response.grpc_status" => Self::GrpcStatus,
            "response.size" => Self::ResponseSize,
            "source.address" => Self::SourceAddress,
            "source.port" => Self::SourcePort,
            "destination.address" => Self::DestinationAddress,
            "destination.port" => Self::DestinationPort,
            "connection.mtls" => Self::Mtls,
            "connection.requested_server_name" => Self::ServerName,
            "connection.uri_san_peer_certificate" => Self::PeerUri,
            "upstream.address" => Self::UpstreamAddress,
            "upstream.port" => Self::UpstreamPort,
            "xds.route_name" => Self::RouteName,
            "xds.cluster_name" => Self::ClusterName,
            other => return Err(format!("`{other}` is no attribute that is known here")),
        })
    }

    fn value<'a>(&self, entry: &'a Entry<'a>) -> Option<Value<'a>> {
        let text = |text: Option<&'a str>| {
            let text = text.filter(|text| !text.is_empty())?;
            Some(Value::Text(Cow::Borrowed(text)))
        };
        let header = |headers: &'a http::HeaderMap, name: &HeaderName| {
            let value = headers.get(name)?;
            Some(Value::Text(String::from_utf8_lossy(value.as_bytes())))
        };
        let int = |number: u64| Some(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
        let address = |addr: Option<std::net::SocketAddr>| Some(Value::Text(Cow::Owned(addr?.to_string())));
        let port = |addr: Option<std::net::SocketAddr>| Some(Value::Int(addr?.port().into()));
        match self {
            Self::Method => text(Some(entry.method)),
            Self::Path => text(Some(entry.path)),
            Self::UrlPath => text(entry.path.split('?').next()),
            Self::Host => text(Some(entry.authority)),
            Self::Scheme => text(Some(entry.scheme)),
            Self::Protocol => text(entry.protocol),
            Self::RequestHeader(name) => header(entry.request, name),
            Self::RequestSize => int(entry.received),
            Self::Code => int(entry.code.into()),
            Self::CodeDetails => text(entry.details),
            Self::GrpcStatus => int(entry.grpc_status?.into()),
            Self::ResponseHeader(name) => header(entry.response, name),
            Self::Trailer(name) => header(entry.trailers, name),
            Self::ResponseSize => int(entry.sent),
            Self::SourceAddress => address(entry.remote),
            Self::SourcePort => port(entry.remote),
            Self::DestinationAddress => address(entry.local),
            Self::DestinationPort => port(entry.local),
            Self::Mtls => Some(Value::Bool(entry.peer.is_some())),
            Self::ServerName => text(entry.sni),
            Self::PeerUri => text(entry.peer),
            Self::UpstreamAddress => address(entry.upstream),
            Self::UpstreamPort => port(entry.upstream),
            Self::RouteName => text(entry.route),
            Self::ClusterName => text(entry.cluster),
        }
    }
}

/// Nesting that nobody writes by hand.
const DEEPEST: usize = 32;

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn error(&self, text: impl Into<String>) -> FilterError {
        FilterError {
            at: self.at + 1,
            text: text.into(),
        }
    }

    fn skip(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), FilterError> {
        match self.eat(token) {
            true => Ok(()),
            false => Err(self.error(format!("`{token}` was expected"))),
        }
    }

    fn or(&mut self) -> Result<Node, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error("it is nested too deeply"));
        }
        let mut left = self.and()?;
        while self.eat("||") {
            left = Node::Or(Box::new([left, self.and()?]));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Node, FilterError> {
        let mut left = self.not()?;
        while self.eat("&&") {
            left = Node::And(Box::new([left, self.not()?]));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Node, FilterError> {
        let mut negations = 0;
        loop {
            self.skip();
            if self.rest().starts_with("!=") || !self.eat("!") {
                break;
            }
            negations += 1;
        }
        let inner = self.comparison()?;
        Ok(match negations % 2 {
            0 => inner,
            _ => Node::Not(Box::new(inner)),
        })
    }

    fn comparison(&mut self) -> Result<Node, FilterError> {
        let left = self.term()?;
        for (token, relation) in [
            ("==", Relation::Equal),
            ("!=", Relation::NotEqual),
            ("<=", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("<", Relation::Less),
            (">", Relation::Greater),
        ] {
            if self.eat(token) {
                let right = self.term()?;
                return Ok(Node::Compare(relation, Box::new([left, right])));
            }
        }
        self.skip();
        if self.rest().starts_with("in ") || self.rest().starts_with("in[") {
            self.at += "in".len();
            return Ok(Node::In(Box::new(left), self.list()?));
        }
        Ok(left)
    }

    fn list(&mut self) -> Result<Vec<Node>, FilterError> {
        self.expect("[")?;
        let mut list = Vec::new();
        while !self.eat("]") {
            list.push(self.term()?);
            if !self.eat(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(list)
    }

    fn term(&mut self) -> Result<Node, FilterError> {
        let mut term = self.primary()?;
        // A text may be asked further.
        while self.eat(".") {
            let name = self.word();
            self.expect("(")?;
            let with = self.string()?;
            self.expect(")")?;
            let of = Box::new(term);
            term = match name {
                "startsWith" => Node::Text(TextTest::StartsWith, of, with.into()),
                "endsWith" => Node::Text(TextTest::EndsWith, of, with.into()),
                "contains" => Node::Text(TextTest::Contains, of, with.into()),
                "matches" => {
                    let regex = regex::RegexBuilder::new(&with).size_limit(1 << 20).build();
                    Node::Matches(of, regex.map_err(|_| self.error("the pattern cannot be read"))?)
                }
                other => return Err(self.error(format!("`{other}` is no function that is known here"))),
            };
        }
        Ok(term)
    }

    fn primary(&mut self) -> Result<Node, FilterError> {
        self.skip();
        if self.eat("(") {
            let inner = self.or()?;
            self.expect(")")?;
            return Ok(inner);
        }
        match self.rest().chars().next() {
            Some('\'' | '"') => Ok(Node::Literal(Literal::Text(self.string()?.into()))),
            Some('-' | '0'..='9') => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.named(),
            _ => Err(self.error("a value was expected")),
        }
    }

    fn number(&mut self) -> Result<Node, FilterError> {
        let rest = self.rest();
        let digits = rest[1..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(rest.len(), |at| at + 1);
        let number = rest[..digits]
            .parse()
            .map_err(|_| self.error("a number was expected"))?;
        self.at += digits;
        Ok(Node::Literal(Literal::Int(number)))
    }

    fn named(&mut self) -> Result<Node, FilterError> {
        let begins = self.at;
        let first = self.word();
        match first {
            "true" | "false" => return Ok(Node::Literal(Literal::Bool(first == "true"))),
            "has" if self.eat("(") => {
                let attribute = self.attribute()?;
                self.expect(")")?;
                return Ok(Node::Has(attribute));
            }
            _ => self.at = begins,
        }
        Ok(Node::Attribute(self.attribute()?))
    }

    fn attribute(&mut self) -> Result<Attribute, FilterError> {
        self.skip();
        let begins = self.at;
        self.word();
        while self.rest().starts_with('.') {
            let dot = self.at;
            self.at += 1;
            self.word();
            // A function of what came before.
            if self.rest().starts_with('(') {
                self.at = dot;
                break;
            }
        }
        let path = &self.text[begins..self.at];
        let mut key = None;
        if self.rest().starts_with('[') {
            self.at += 1;
            key = Some(self.string()?);
            self.expect("]")?;
        }
        Attribute::named(path, key.as_deref()).map_err(|text| FilterError { at: begins + 1, text })
    }

    fn word(&mut self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// A text between quotes of either kind; `\` takes the next character as it is.
    fn string(&mut self) -> Result<String, FilterError> {
        self.skip();
        let mut chars = self.rest().char_indices();
        let Some((_, quote @ ('\'' | '"'))) = chars.next() else {
            return Err(self.error("a text between quotes was expected"));
        };
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.at += at + 1;
                return Ok(text);
            }
            match c {
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        Err(self.error("the text has no end"))
    }
}
