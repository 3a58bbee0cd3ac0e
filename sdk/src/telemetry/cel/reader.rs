//! From text to an expression.

use super::attribute::Attribute;
use super::node::Node;
use super::value::{Function, Operator, Relation, Value};
use super::{Error, NodeFacts, token};

/// CEL's macros over lists and maps (CEL language definition, "Macros"). Envoy's runtime has `enable_comprehension` off.
const LOOPS: [&str; 6] = ["all", "exists", "exists_one", "existsOne", "filter", "map"];

/// Nesting that nobody writes by hand.
const DEEPEST: usize = 32;

/// Several sides of one operator in a row are one node, so that a long chain is not a deep tree.
fn joined(mut sides: Vec<Node>, join: fn(Vec<Node>) -> Node) -> Node {
    match sides.pop() {
        Some(only) if sides.is_empty() => only,
        Some(last) => {
            sides.push(last);
            join(sides)
        }
        None => join(sides),
    }
}

pub(super) struct Reader<'t> {
    text: &'t str,
    node: &'t NodeFacts,
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, node: &'t NodeFacts) -> Self {
        Self {
            text,
            node,
            at: 0,
            depth: 0,
        }
    }

    pub(super) fn error(&self, text: impl Into<String>) -> Error {
        Self::error_at(self.at, text)
    }

    fn error_at(at: usize, text: impl Into<String>) -> Error {
        Error {
            at: at + 1,
            text: text.into(),
        }
    }

    /// The text, and nothing behind it.
    pub(super) fn whole(&mut self) -> Result<Node, Error> {
        let node = self.expression()?;
        self.skip();
        match self.rest().is_empty() {
            true => Ok(node),
            false => Err(self.error("nothing was expected")),
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Over spaces, and what `//` leaves to be read by people.
    fn skip(&mut self) {
        loop {
            let rest = self.rest().trim_start();
            let comment = match rest.starts_with("//") {
                true => rest.find('\n').unwrap_or(rest.len()),
                false => 0,
            };
            self.at = self.text.len() - rest.len() + comment;
            if comment == 0 {
                return;
            }
        }
    }

    fn is_next(&mut self, token: &str) -> bool {
        self.skip();
        self.rest().starts_with(token)
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.is_next(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), Error> {
        match self.eat(token) {
            true => Ok(()),
            false => Err(self.error(format!("`{token}` was expected"))),
        }
    }

    /// `condition ? one : other`, or what comes before the question.
    fn expression(&mut self) -> Result<Node, Error> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error("it is nested too deeply"));
        }
        let mut node = self.or()?;
        if self.eat("?") {
            let one = self.expression()?;
            self.expect(":")?;
            node = Node::Choice(Box::new([node, one, self.expression()?]));
        }
        self.depth -= 1;
        Ok(node)
    }

    fn or(&mut self) -> Result<Node, Error> {
        let mut sides = vec![self.and()?];
        while self.eat("||") {
            sides.push(self.and()?);
        }
        Ok(joined(sides, Node::Or))
    }

    fn and(&mut self) -> Result<Node, Error> {
        let mut sides = vec![self.comparison()?];
        while self.eat("&&") {
            sides.push(self.comparison()?);
        }
        Ok(joined(sides, Node::And))
    }

    fn comparison(&mut self) -> Result<Node, Error> {
        let begins = self.at;
        let left = self.sum()?;
        for (token, relation) in [
            ("==", Relation::Equal),
            ("!=", Relation::NotEqual),
            ("<=", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("<", Relation::Less),
            (">", Relation::Greater),
        ] {
            if self.eat(token) {
                let right = self.sum()?;
                return Ok(Node::Compare(relation, Box::new([left, right])));
            }
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.is_next("in") && !self.rest()[2..].starts_with(is_word) {
            self.at += 2;
            return self.within(left, begins);
        }
        Ok(left)
    }

    /// `'x-tenant' in request.headers` asks what `has(request.headers['x-tenant'])` does; else what is looked through is a
    /// list, or a map.
    fn within(&mut self, left: Node, begins: usize) -> Result<Node, Error> {
        self.skip();
        let at = self.at;
        if self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) {
            let path = self.path()?;
            if !matches!(&path[..], [_, headers] if headers == "headers" || headers == "trailers") {
                return Err(Self::error_at(at, "headers, a list or a map was expected"));
            }
            let Node::Literal(Value::Text(key)) = left else {
                return Err(Self::error_at(
                    begins,
                    "only a text between quotes can be looked for in headers",
                ));
            };
            let path = [path, vec![key.into_owned()]].concat();
            let attribute = Attribute::named(&path).map_err(|text| Self::error_at(at, text))?;
            return Ok(Node::Has(Box::new(Node::Attribute(attribute))));
        }
        let of = self.sum()?;
        Ok(Node::In(Box::new([left, of])))
    }

    fn sum(&mut self) -> Result<Node, Error> {
        self.chain(&[("+", Operator::Plus), ("-", Operator::Minus)], Self::product)
    }

    fn product(&mut self) -> Result<Node, Error> {
        let operators = [
            ("*", Operator::Times),
            ("/", Operator::Over),
            ("%", Operator::Modulo),
        ];
        self.chain(&operators, Self::unary)
    }

    fn chain(
        &mut self,
        operators: &[(&str, Operator)],
        side: fn(&mut Self) -> Result<Node, Error>,
    ) -> Result<Node, Error> {
        let first = side(self)?;
        let mut rest = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(token, _)| self.eat(token)) {
            rest.push((*operator, side(self)?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Node::Chain(Box::new(first), rest),
        })
    }

    fn unary(&mut self) -> Result<Node, Error> {
        let mut negations = 0;
        while !self.is_next("!=") && self.eat("!") {
            negations += 1;
        }
        if negations == 0 && self.eat("-") {
            return self.negative();
        }
        let inner = self.member()?;
        Ok(match negations % 2 {
            0 => inner,
            _ => Node::Not(Box::new(inner)),
        })
    }

    /// Behind a minus sign.
    fn negative(&mut self) -> Result<Node, Error> {
        self.skip();
        // The lowest number has no positive one beside it.
        if let Some(lowest) = self.rest().strip_prefix("9223372036854775808")
            && !lowest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.')
        {
            self.at = self.text.len() - lowest.len();
            return Ok(Node::Literal(Value::Int(i64::MIN)));
        }
        Ok(match self.member()? {
            Node::Literal(Value::Int(number)) => Node::Literal(Value::Int(-number)),
            Node::Literal(Value::Double(number)) => Node::Literal(Value::Double(-number)),
            other => Node::Chain(
                Box::new(Node::Literal(Value::Int(0))),
                vec![(Operator::Minus, other)],
            ),
        })
    }

    /// A value, and what is asked of it behind points and in brackets.
    fn member(&mut self) -> Result<Node, Error> {
        let mut node = self.primary()?;
        loop {
            let begins = self.at;
            if self.eat("[") {
                if let Node::Attribute(_) = node {
                    return Err(Self::error_at(begins, "an attribute takes nothing in brackets"));
                }
                let key = self.expression()?;
                self.expect("]")?;
                node = Node::At(Box::new([node, key]));
            } else if self.eat(".") {
                let name = self.word();
                node = match self.eat("(") {
                    true => self.call(begins, name, Some(node))?,
                    false => match node {
                        Node::Map(_) | Node::At(_) if !name.is_empty() => {
                            Node::At(Box::new([node, Node::text(name)]))
                        }
                        _ => return Err(Self::error_at(begins, format!("`{name}` is no field of this"))),
                    },
                };
            } else {
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Result<Node, Error> {
        self.skip();
        if self.eat("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.eat("[") {
            return Ok(Node::List(self.list("]", Self::expression)?));
        }
        if self.eat("{") {
            return Ok(Node::Map(self.list("}", |reader| {
                let key = reader.expression()?;
                reader.expect(":")?;
                Ok([key, reader.expression()?])
            })?));
        }
        if let Some(text) = token::text(self.rest()) {
            let (text, length) = text.map_err(|why| self.error(why))?;
            self.at += length;
            return Ok(Node::text(text));
        }
        match self.rest().chars().next() {
            Some(c) if c.is_ascii_digit() || c == '.' => {
                let (number, length) =
                    token::number(self.rest()).ok_or_else(|| self.error("a number was expected"))?;
                self.at += length;
                Ok(Node::Literal(number))
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.named(),
            _ => Err(self.error("a value was expected")),
        }
    }

    /// What stands between commas, up to `end`. One comma too many is no harm.
    fn list<T>(&mut self, end: &str, item: fn(&mut Self) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        let mut list = Vec::new();
        while !self.eat(end) {
            list.push(item(self)?);
            if !self.eat(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(list)
    }

    fn named(&mut self) -> Result<Node, Error> {
        let begins = self.at;
        let first = self.word();
        match first {
            "true" | "false" => return Ok(Node::Literal(Value::Bool(first == "true"))),
            "null" => return Ok(Node::Literal(Value::Null)),
            "has" if self.eat("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                return match inner {
                    Node::Attribute(_) | Node::At(_) | Node::Literal(_) => Ok(Node::Has(Box::new(inner))),
                    _ => Err(Self::error_at(
                        begins,
                        "`has` takes an attribute, or what is in a map",
                    )),
                };
            }
            _ if self.eat("(") => return self.call(begins, first, None),
            _ => self.at = begins,
        }
        let path = self.path()?;
        let own = match &path[..] {
            [xds, node, rest @ ..] if xds == "xds" && node == "node" => Some(rest),
            [node, rest @ ..] if node == "node" => Some(rest),
            _ => None,
        };
        let found = match own {
            Some(rest) => self.node.named(rest),
            None => Attribute::named(&path).map(Node::Attribute),
        };
        found.map_err(|text| Self::error_at(begins, text))
    }

    /// Behind the `(` of a function, which is asked of what is in front of it, or of what is in its parentheses.
    fn call(&mut self, begins: usize, name: &str, of: Option<Node>) -> Result<Node, Error> {
        if LOOPS.contains(&name) {
            let error = format!(
                "`{name}` is a loop, and there are none in what is asked for each request, as Envoy has them off; write its \
                 cases out (`x == 'a' || x == 'b'`), or use `in`"
            );
            return Err(Self::error_at(begins, error));
        }
        let is_method = of.is_some();
        let mut values: Vec<Node> = of.into_iter().collect();
        values.extend(self.list(")", Self::expression)?);
        let unknown = || {
            let error = format!("`{name}` is no function that is known here");
            Err(Self::error_at(begins, error))
        };
        if name == "matches" {
            let [of, Node::Literal(Value::Text(pattern))] = &values[..] else {
                return Err(Self::error_at(begins, "`matches` takes a pattern between quotes"));
            };
            let regex = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
            let regex = regex.map_err(|_| Self::error_at(begins, "the pattern cannot be read"))?;
            return Ok(Node::Matches(Box::new(of.clone()), regex));
        }
        let Some((function, many)) = Function::named(name) else {
            return unknown();
        };
        let is_elsewhere = match is_method {
            true => function.is_conversion(),
            false => function.is_method(),
        };
        if is_elsewhere || !many.contains(&values.len()) {
            return unknown();
        }
        let mut values = values.into_iter();
        let (Some(of), with) = (values.next(), values.next()) else {
            return unknown();
        };
        // What does not depend on the request is known now, and so is what is wrong with it.
        if let (Node::Literal(of), None) = (&of, &with) {
            let value = function.apply(of.clone(), None);
            let value =
                value.ok_or_else(|| Self::error_at(begins, format!("`{name}` of this comes to nothing")))?;
            return Ok(Node::Literal(value));
        }
        if let (Function::Part(_), Some(Node::Literal(zone))) = (function, &with) {
            let noon = Function::Timestamp.apply(Value::Int(0), None);
            if noon
                .and_then(|noon| function.apply(noon, Some(zone.clone())))
                .is_none()
            {
                let error = "a time zone is written as an offset like '+01:00', or 'UTC'";
                return Err(Self::error_at(begins, error));
            }
        }
        Ok(Node::Call(function, Box::new(of), with.map(Box::new)))
    }

    /// Words between points, or in quotes between brackets, up to a function of what came before.
    fn path(&mut self) -> Result<Vec<String>, Error> {
        let mut path = vec![self.word().to_owned()];
        loop {
            let begins = self.at;
            let rest = self.rest();
            if let Some(inner) = rest.strip_prefix('[') {
                // Anything but a text is no name.
                let Some(text) = token::text(inner.trim_start()) else {
                    return Ok(path);
                };
                self.at += 1;
                self.skip();
                let (text, length) = text.map_err(|why| self.error(why))?;
                self.at += length;
                self.expect("]")?;
                path.push(text);
            } else if rest.starts_with('.') {
                self.at += 1;
                let word = self.word();
                if self.rest().starts_with('(') || word.is_empty() {
                    self.at = begins;
                    return Ok(path);
                }
                path.push(word.to_owned());
            } else {
                return Ok(path);
            }
        }
    }

    fn word(&mut self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        word
    }
}

impl NodeFacts {
    /// What is behind `node`.
    fn named(&self, path: &[String]) -> Result<Node, String> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let known = match &path[..] {
            ["id"] => Some(&self.id),
            ["cluster"] => Some(&self.cluster),
            ["metadata", "LABELS", label] => {
                let found = self.metadata.get(&*format!("LABELS/{label}"));
                return Ok(match found {
                    Some(value) => Node::text(&**value),
                    None => Node::Attribute(Attribute::Absent),
                });
            }
            ["metadata", key] => self.metadata.get(*key),
            _ => None,
        };
        known
            .map(|value| Node::text(&**value))
            .ok_or_else(|| format!("`node.{}` is not known here", path.join(".")))
    }
}
