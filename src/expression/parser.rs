//! From tokens to a tree, by precedence. It goes down by the stack no deeper than [`NESTING`].

use super::pattern::{ALL_PATTERNS, LARGEST_PATTERN, Pattern, Unfit};
use super::token::{Kind, Token, Wrong, too_much};
use super::tree::{
    Access, BINARY, COMPREHENSIONS, Comprehension, DEPTH, Element, FUNCTIONS, Function, NESTING,
    NODES, Node, TYPES, What,
};

/// Words that the language keeps for itself.
const RESERVED: [&str; 18] = [
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

type Parsed<T> = Result<T, Wrong>;

/// Reads tokens into a tree.
pub(super) struct Parser<'s> {
    tokens: Vec<Token<'s>>,
    next: usize,
    /// The record's variables.
    names: &'s [&'s str],
    /// The variables of the comprehensions around, from the outside.
    locals: Vec<String>,
    depth: usize,
    nodes: usize,
    /// Bytes that the patterns take so far.
    patterns: usize,
}

impl<'s> Parser<'s> {
    pub fn new(tokens: Vec<Token<'s>>, names: &'s [&'s str]) -> Self {
        Self {
            tokens,
            next: 0,
            names,
            locals: Vec::new(),
            depth: 0,
            nodes: 0,
            patterns: 0,
        }
    }

    /// The whole source.
    pub fn parse(mut self) -> Parsed<Node> {
        let node = self.expression()?;
        match self.peek() {
            Kind::End => Ok(node),
            _ => Err(self.unexpected("an operator, or the end")),
        }
    }

    fn peek(&self) -> &Kind<'s> {
        self.peek_behind(0)
    }

    fn peek_behind(&self, more: usize) -> &Kind<'s> {
        let token = self.tokens.get(self.next + more);
        token.map_or(&Kind::End, |token| &token.kind)
    }

    fn at(&self) -> usize {
        let token = self.tokens.get(self.next).or(self.tokens.last());
        token.map_or(0, |token| token.at)
    }

    fn unexpected(&self, wanted: &str) -> Wrong {
        let found = match self.peek() {
            Kind::End => "the end".to_owned(),
            Kind::Name(name) => format!("`{name}`"),
            Kind::Mark(mark) => format!("`{mark}`"),
            _ => "a literal".to_owned(),
        };
        (self.at(), format!("{found} where {wanted} must be"))
    }

    fn takes(&mut self, mark: &str) -> bool {
        let is_next = matches!(self.peek(), Kind::Mark(next) if *next == mark);
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, mark: &str) -> Parsed<()> {
        match self.takes(mark) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("`{mark}`"))),
        }
    }

    fn node(&mut self, at: usize, what: What) -> Parsed<Node> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(too_much(at, &format!("it has more than {NODES} parts")));
        }
        let depth = what.depth_below() + 1;
        if depth > DEPTH {
            let most =
                format!("nested too deep: {DEPTH} operators within one another are the most");
            return Err(too_much(at, &most));
        }
        Ok(Node { what, at, depth })
    }

    /// Parses something inner; every way down comes through here.
    fn inner<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= NESTING {
            let most = format!(
                "nested too deep: {NESTING} brackets or signs within one another are the most"
            );
            return Err(too_much(self.at(), &most));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn expression(&mut self) -> Parsed<Node> {
        self.inner(|parser| {
            // The last of a chain of conditions lies deepest, and is not gone down to.
            let mut conditions = Vec::new();
            let mut node = parser.any()?;
            loop {
                let at = parser.at();
                if !parser.takes("?") {
                    break;
                }
                let yes = parser.any()?;
                parser.expect(":")?;
                conditions.push((at, node, yes));
                node = parser.any()?;
            }
            for (at, condition, yes) in conditions.into_iter().rev() {
                let what = What::Conditional(condition.into(), yes.into(), node.into());
                node = parser.node(at, what)?;
            }
            Ok(node)
        })
    }

    fn any(&mut self) -> Parsed<Node> {
        self.chain("||", What::Any, Self::all)
    }

    fn all(&mut self) -> Parsed<Node> {
        self.chain("&&", What::All, |parser| parser.binary(1))
    }

    /// One or more of the same, with a mark between them.
    fn chain(
        &mut self,
        mark: &str,
        what: fn(Vec<Node>) -> What,
        parse: impl Fn(&mut Self) -> Parsed<Node>,
    ) -> Parsed<Node> {
        let first = parse(self)?;
        let at = self.at();
        if !self.takes(mark) {
            return Ok(first);
        }
        let mut nodes = vec![first, parse(self)?];
        while self.takes(mark) {
            nodes.push(parse(self)?);
        }
        self.node(at, what(nodes))
    }

    /// Operators that bind as tightly as `lowest` or tighter; those that bind alike go from left to right.
    fn binary(&mut self, lowest: u8) -> Parsed<Node> {
        let mut left = self.unary()?;
        loop {
            let (Kind::Mark(sign) | Kind::Name(sign)) = self.peek() else {
                return Ok(left);
            };
            let known = BINARY.iter().find(|(known, ..)| known == sign);
            let Some((_, binary, tightness)) = known.filter(|(.., tightness)| *tightness >= lowest)
            else {
                return Ok(left);
            };
            let at = self.at();
            self.next += 1;
            let right = self.binary(tightness + 1)?;
            left = self.node(at, What::Binary(*binary, left.into(), right.into()))?;
        }
    }

    fn unary(&mut self) -> Parsed<Node> {
        let at = self.at();
        if self.takes("!") {
            let of = self.inner(Self::unary)?;
            return self.node(at, What::Not(of.into()));
        }
        if matches!(self.peek(), Kind::Mark("-")) {
            let literal = match self.peek_behind(1) {
                Kind::Int(number) => Some(What::Int(signed(at, -i128::from(*number))?)),
                Kind::Double(number) => Some(What::Double(-number)),
                _ => None,
            };
            self.next += 1;
            if let Some(literal) = literal {
                self.next += 1;
                let literal = self.node(at, literal)?;
                return self.members(literal);
            }
            let of = self.inner(Self::unary)?;
            return self.node(at, What::Negate(of.into()));
        }
        let primary = self.primary()?;
        self.members(primary)
    }

    /// Fields, elements and methods of a node.
    fn members(&mut self, mut of: Node) -> Parsed<Node> {
        loop {
            let at = self.at();
            if self.takes(".") {
                let access = self.access();
                let (name, is_plain) = match self.peek() {
                    Kind::Name(name) if !["true", "false", "null", "in"].contains(name) => {
                        (*name, true)
                    }
                    Kind::Quoted(name) => (*name, false),
                    _ => return Err(self.unexpected("a name")),
                };
                self.next += 1;
                of = if is_plain && access == Access::Plain && self.takes("(") {
                    self.method(at, of, name)?
                } else {
                    self.node(at, What::Select(of.into(), name.to_owned(), access))?
                };
            } else if self.takes("[") {
                let access = self.access();
                let index = self.expression()?;
                self.expect("]")?;
                of = self.node(at, What::Index(of.into(), index.into(), access))?;
            } else {
                return Ok(of);
            }
        }
    }

    fn access(&mut self) -> Access {
        match self.takes("?") {
            true => Access::Optional,
            false => Access::Plain,
        }
    }

    fn method(&mut self, at: usize, of: Node, name: &str) -> Parsed<Node> {
        if let Some((_, kind)) = COMPREHENSIONS.iter().find(|(known, _)| *known == name) {
            return self.comprehension(at, of, name, *kind);
        }
        let mut arguments = vec![of];
        arguments.extend(self.until(")", Self::expression)?);
        self.call(at, name, arguments, true)
    }

    fn comprehension(
        &mut self,
        at: usize,
        range: Node,
        name: &str,
        kind: super::tree::Kind,
    ) -> Parsed<Node> {
        let Kind::Name(variable) = *self.peek() else {
            return Err(self.unexpected(&format!("the variable of `{name}`")));
        };
        if RESERVED.contains(&variable) || ["true", "false", "null"].contains(&variable) {
            return Err(self.unexpected(&format!("the variable of `{name}`")));
        }
        self.next += 1;
        self.expect(",")?;
        self.locals.push(variable.to_owned());
        let parts = self.until(")", Self::expression);
        self.locals.pop();
        let mut parts = parts?.into_iter();
        let (first, second) = (parts.next(), parts.next());
        let is_map = kind == super::tree::Kind::Map;
        let (condition, result) = match (first, second, is_map) {
            (Some(condition), None, false) => (Some(condition), None),
            (Some(result), None, true) => (None, Some(result)),
            (Some(condition), Some(result), true) if parts.len() == 0 => {
                (Some(condition), Some(result))
            }
            _ => return Err((at, format!("`{name}` has the wrong number of arguments"))),
        };
        let comprehension = Comprehension {
            kind,
            range,
            condition,
            result,
        };
        self.node(at, What::Comprehension(comprehension.into()))
    }

    fn call(
        &mut self,
        at: usize,
        name: &str,
        mut arguments: Vec<Node>,
        is_method: bool,
    ) -> Parsed<Node> {
        let known = FUNCTIONS
            .iter()
            .find(|(known, .., as_function, as_method)| {
                *known == name && if is_method { *as_method } else { *as_function }
            });
        let Some((_, function, count, ..)) = known else {
            let what = if is_method { "method" } else { "function" };
            return Err((at, format!("there is no {what} `{}`", shortened(name))));
        };
        if arguments.len() != *count {
            return Err((at, format!("`{name}` has the wrong number of arguments")));
        }
        if *function == Function::Matches
            && let Some(What::Text(source)) = arguments.last().map(|pattern| &pattern.what)
        {
            let pattern = Pattern::compile(source).map_err(|unfit| match unfit {
                Unfit::Invalid => (at, "the pattern is invalid".to_owned()),
                Unfit::TooLarge => {
                    let most = LARGEST_PATTERN >> 20;
                    too_much(at, &format!("the pattern takes more than {most} MiB"))
                }
            })?;
            self.patterns += pattern.size();
            if self.patterns > ALL_PATTERNS {
                let most = ALL_PATTERNS >> 20;
                let take = format!("its patterns take more than {most} MiB together");
                return Err(too_much(at, &take));
            }
            let of = arguments.swap_remove(0);
            return self.node(at, What::Matches(of.into(), pattern));
        }
        self.node(at, What::Call(*function, arguments))
    }

    /// What stands between commas up to a closing bracket; a comma may stand before that.
    fn until<T>(&mut self, close: &str, parse: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = Vec::new();
        while !self.takes(close) {
            all.push(parse(self)?);
            if !self.takes(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(all)
    }

    fn primary(&mut self) -> Parsed<Node> {
        let at = self.at();
        let kind = self.peek().clone();
        self.next += 1;
        let what = match kind {
            Kind::Int(number) => What::Int(signed(at, number.into())?),
            Kind::Uint(number) => What::Uint(number),
            Kind::Double(number) => What::Double(number),
            Kind::Text(text) => What::Text(text),
            Kind::Bytes(bytes) => What::Bytes(bytes),
            Kind::Name(name) => return self.named(at, name),
            Kind::Mark("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                return Ok(node);
            }
            Kind::Mark("[") => What::List(self.until("]", |parser| {
                let is_optional = parser.takes("?");
                let of = parser.expression()?;
                Ok(Element { of, is_optional })
            })?),
            Kind::Mark("{") => What::Map(self.until("}", |parser| {
                let is_optional = parser.takes("?");
                let key = parser.expression()?;
                parser.expect(":")?;
                let of = (key, parser.expression()?);
                Ok(Element { of, is_optional })
            })?),
            // A leading dot looks a name up from the outside; there is nothing else.
            Kind::Mark(".") if matches!(self.peek(), Kind::Name(_)) => return self.primary(),
            _ => {
                self.next -= 1;
                return Err(self.unexpected("a value"));
            }
        };
        self.node(at, what)
    }

    fn named(&mut self, at: usize, name: &str) -> Parsed<Node> {
        if RESERVED.contains(&name) {
            return Err((at, format!("`{name}` is a reserved word")));
        }
        if name == "has" && self.takes("(") {
            let of = self.expression()?;
            self.expect(")")?;
            return match of.what {
                What::Select(of, field, Access::Plain) => self.node(at, What::Has(of, field)),
                _ => Err((
                    at,
                    "`has` takes a field, as in has(headers.kind)".to_owned(),
                )),
            };
        }
        if name == "optional"
            && matches!(self.peek(), Kind::Mark("."))
            && let Kind::Name(member) = *self.peek_behind(1)
            && !self.locals.iter().any(|local| local == name)
        {
            self.next += 2;
            self.expect("(")?;
            let arguments = self.until(")", Self::expression)?;
            return self.call(at, &format!("optional.{member}"), arguments, false);
        }
        if self.takes("(") {
            let arguments = self.until(")", Self::expression)?;
            return self.call(at, name, arguments, false);
        }
        if let Some(place) = self.locals.iter().rposition(|local| local == name) {
            return self.node(at, What::Local(place));
        }
        if let Some(place) = self.names.iter().position(|known| *known == name) {
            return self.node(at, What::Variable(place));
        }
        let what = match name {
            "true" => What::Bool(true),
            "false" => What::Bool(false),
            "null" => What::Null,
            _ => match TYPES.iter().find(|known| **known == name) {
                Some(known) => What::Type(known),
                None => return Err((at, format!("a record has no `{}`", shortened(name)))),
            },
        };
        self.node(at, what)
    }
}

fn signed(at: usize, number: i128) -> Parsed<i64> {
    let number = i64::try_from(number);
    number.map_err(|_| (at, "the number is too large for an int".to_owned()))
}

/// Names in messages are bounded.
fn shortened(name: &str) -> &str {
    name.get(..name.floor_char_boundary(64)).unwrap_or_default()
}
