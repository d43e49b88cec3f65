//! What a source says, as a tree of bounded depth.

use super::pattern::Pattern;

/// How deep a tree may be. Everything that goes down a tree goes down by the stack.
pub const DEPTH: usize = 100;
/// How deep brackets and signs may lie in one another: the parser goes down them by the stack.
pub const NESTING: usize = 32;
/// How many nodes a tree may have.
pub const NODES: usize = 2_000;

/// A part of a tree.
#[derive(Debug)]
pub(super) struct Node {
    pub what: What,
    /// Where in the source, in bytes.
    pub at: usize,
    /// 1 for a leaf.
    pub depth: usize,
}

#[derive(Debug)]
pub(super) enum What {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Type(&'static str),
    /// By its place among the names.
    Variable(usize),
    /// A variable of a comprehension, by its place from the outside.
    Local(usize),
    Select(Box<Node>, String, Access),
    /// `has(map.field)`.
    Has(Box<Node>, String),
    Index(Box<Node>, Box<Node>, Access),
    List(Vec<Element<Node>>),
    Map(Vec<Element<(Node, Node)>>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    /// A chain of any length is one node.
    All(Vec<Node>),
    Any(Vec<Node>),
    Conditional(Box<Node>, Box<Node>, Box<Node>),
    /// The receiver of a method is the first argument.
    Call(Function, Vec<Node>),
    /// `text.matches(pattern)` with a pattern that was written.
    Matches(Box<Node>, Pattern),
    Comprehension(Box<Comprehension>),
}

/// How a field or an element is accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It must be there.
    Plain,
    /// What comes is an optional.
    Optional,
}

/// An element of a list or an entry of a map.
#[derive(Debug)]
pub(super) struct Element<T> {
    pub of: T,
    /// Whether an empty optional leaves it out.
    pub is_optional: bool,
}

#[derive(Debug)]
pub(super) struct Comprehension {
    pub kind: Kind,
    pub range: Node,
    /// `filter`'s, `all`'s and `exists`' condition; with three arguments `map`'s.
    pub condition: Option<Node>,
    /// What `map` makes of an element.
    pub result: Option<Node>,
}

/// What becomes of the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whether the condition holds for each.
    All,
    /// Whether it holds for one or more.
    Exists,
    /// Whether it holds for exactly one.
    ExistsOne,
    /// What each becomes.
    Map,
    /// Those for which it holds.
    Filter,
}

/// Comprehensions by name.
pub(super) const COMPREHENSIONS: [(&str, Kind); 6] = [
    ("all", Kind::All),
    ("exists", Kind::Exists),
    ("exists_one", Kind::ExistsOne),
    ("existsOne", Kind::ExistsOne),
    ("map", Kind::Map),
    ("filter", Kind::Filter),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
}

/// Operators by how tightly they bind, the loosest first.
pub(super) const BINARY: [(&str, Binary, u8); 12] = [
    ("==", Binary::Equal, 1),
    ("!=", Binary::Unequal, 1),
    ("<", Binary::Less, 1),
    ("<=", Binary::AtMost, 1),
    (">", Binary::Greater, 1),
    (">=", Binary::AtLeast, 1),
    ("in", Binary::In, 1),
    ("+", Binary::Add, 2),
    ("-", Binary::Subtract, 2),
    ("*", Binary::Multiply, 3),
    ("/", Binary::Divide, 3),
    ("%", Binary::Remainder, 3),
];

impl Binary {
    /// As it is written.
    pub fn sign(self) -> &'static str {
        let known = BINARY.iter().find(|(_, binary, _)| *binary == self);
        known.map_or("", |(sign, _, _)| sign)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Bool,
    Dyn,
    Type,
    Json,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    None,
    Of,
    OfNonZero,
    HasValue,
    Value,
    OrValue,
    Or,
}

/// A function: its name, how many arguments it takes, with the receiver, and whether it is called as a function and as a
/// method.
pub(super) const FUNCTIONS: [(&str, Function, usize, bool, bool); 21] = [
    ("size", Function::Size, 1, true, true),
    ("int", Function::Int, 1, true, false),
    ("uint", Function::Uint, 1, true, false),
    ("double", Function::Double, 1, true, false),
    ("string", Function::Text, 1, true, false),
    ("bytes", Function::Bytes, 1, true, false),
    ("bool", Function::Bool, 1, true, false),
    ("dyn", Function::Dyn, 1, true, false),
    ("type", Function::Type, 1, true, false),
    ("json", Function::Json, 1, true, false),
    ("contains", Function::Contains, 2, false, true),
    ("startsWith", Function::StartsWith, 2, false, true),
    ("endsWith", Function::EndsWith, 2, false, true),
    ("matches", Function::Matches, 2, true, true),
    ("optional.none", Function::None, 0, true, false),
    ("optional.of", Function::Of, 1, true, false),
    (
        "optional.ofNonZeroValue",
        Function::OfNonZero,
        1,
        true,
        false,
    ),
    ("hasValue", Function::HasValue, 1, false, true),
    ("value", Function::Value, 1, false, true),
    ("orValue", Function::OrValue, 2, false, true),
    ("or", Function::Or, 2, false, true),
];

impl Function {
    /// As it is written.
    pub fn name(self) -> &'static str {
        let known = FUNCTIONS.iter().find(|(_, function, ..)| *function == self);
        known.map_or("", |(name, ..)| name)
    }
}

/// Names that are types.
pub(super) const TYPES: [&str; 11] = [
    "null_type",
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "type",
    "optional_type",
];

impl What {
    /// How deep what lies under it is.
    pub fn depth_below(&self) -> usize {
        let deepest = |nodes: &mut dyn Iterator<Item = &Node>| {
            nodes.map(|node| node.depth).max().unwrap_or(0)
        };
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Double(_) => 0,
            Self::Text(_) | Self::Bytes(_) | Self::Type(_) => 0,
            Self::Variable(_) | Self::Local(_) => 0,
            Self::Select(of, ..) | Self::Has(of, _) | Self::Matches(of, _) => of.depth,
            Self::Not(of) | Self::Negate(of) => of.depth,
            Self::Index(one, two, _) | Self::Binary(_, one, two) => one.depth.max(two.depth),
            Self::Conditional(one, two, three) => one.depth.max(two.depth).max(three.depth),
            Self::List(elements) => deepest(&mut elements.iter().map(|element| &element.of)),
            Self::Map(entries) => {
                let pairs = entries.iter().map(|entry| &entry.of);
                deepest(&mut pairs.flat_map(|(key, value)| [key, value]))
            }
            Self::All(nodes) | Self::Any(nodes) | Self::Call(_, nodes) => {
                deepest(&mut nodes.iter())
            }
            Self::Comprehension(comprehension) => {
                let parts = [&comprehension.condition, &comprehension.result];
                let parts = parts.into_iter().flatten().chain([&comprehension.range]);
                deepest(&mut parts.into_iter())
            }
        }
    }
}
