//! From text to an expression.

use super::attribute::Attribute;
use super::{Error, Literal, Node, Relation, TextTest};

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
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn error(&self, text: impl Into<String>) -> Error {
        Error {
            at: self.at + 1,
            text: text.into(),
        }
    }

    pub(super) fn skip(&mut self) {
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

    fn expect(&mut self, token: &str) -> Result<(), Error> {
        match self.eat(token) {
            true => Ok(()),
            false => Err(self.error(format!("`{token}` was expected"))),
        }
    }

    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
        }
    }

    /// The whole expression: `condition ? one : other`, or what comes before the question.
    pub(super) fn expression(&mut self) -> Result<Node, Error> {
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
        let mut sides = vec![self.not()?];
        while self.eat("&&") {
            sides.push(self.not()?);
        }
        Ok(joined(sides, Node::And))
    }

    fn not(&mut self) -> Result<Node, Error> {
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

    fn comparison(&mut self) -> Result<Node, Error> {
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
        self.skip();
        if self.rest().starts_with("in ") || self.rest().starts_with("in[") {
            self.at += "in".len();
            self.skip();
            if self.rest().starts_with('[') {
                return Ok(Node::In(Box::new(left), self.list()?));
            }
            return self.within(left);
        }
        Ok(left)
    }

    /// `'x-tenant' in request.headers` asks what `has(request.headers['x-tenant'])` does.
    fn within(&mut self, left: Node) -> Result<Node, Error> {
        let begins = self.at;
        let Node::Literal(Literal::Text(key)) = left else {
            return Err(self.error("only a text between quotes can be looked for in headers"));
        };
        let path = self.path();
        let attribute = Attribute::named(path, Some(&key)).map_err(|text| Error { at: begins + 1, text })?;
        Ok(Node::Has(attribute))
    }

    fn sum(&mut self) -> Result<Node, Error> {
        let mut sides = vec![self.term()?];
        while self.eat("+") {
            sides.push(self.term()?);
        }
        Ok(joined(sides, Node::Sum))
    }

    fn list(&mut self) -> Result<Vec<Node>, Error> {
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

    fn term(&mut self) -> Result<Node, Error> {
        let mut term = self.primary()?;
        // A text may be asked something; the answer is none.
        if self.eat(".") {
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

    fn primary(&mut self) -> Result<Node, Error> {
        self.skip();
        if self.eat("(") {
            let inner = self.expression()?;
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

    fn number(&mut self) -> Result<Node, Error> {
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

    fn named(&mut self) -> Result<Node, Error> {
        let begins = self.at;
        let first = self.word();
        match first {
            "true" | "false" => return Ok(Node::Literal(Literal::Bool(first == "true"))),
            "has" if self.eat("(") => {
                let attribute = self.attribute()?;
                self.expect(")")?;
                return Ok(Node::Has(attribute));
            }
            "string" | "int" | "size" if self.eat("(") => {
                let inner = Box::new(self.expression()?);
                self.expect(")")?;
                return Ok(match first {
                    "string" => Node::ToText(inner),
                    "int" => Node::ToInt(inner),
                    _ => Node::Size(inner),
                });
            }
            _ => self.at = begins,
        }
        Ok(Node::Attribute(self.attribute()?))
    }

    fn attribute(&mut self) -> Result<Attribute, Error> {
        self.skip();
        let begins = self.at;
        let path = self.path();
        let mut key = None;
        if self.rest().starts_with('[') {
            self.at += 1;
            key = Some(self.string()?);
            self.expect("]")?;
        }
        Attribute::named(path, key.as_deref()).map_err(|text| Error { at: begins + 1, text })
    }

    /// Words between dots, up to a function of what came before.
    fn path(&mut self) -> &'t str {
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
        &self.text[begins..self.at]
    }

    fn word(&mut self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// A text between quotes of either kind; `\` takes the next character as it is.
    fn string(&mut self) -> Result<String, Error> {
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
