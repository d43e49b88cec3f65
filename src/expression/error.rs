//! Why an expression is wrong, or fails over a record. Neither tells what is in a record.

use std::fmt;

/// Why a source is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// What is wrong, and where: `line:column`, from 1.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Why an evaluation ended without a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", Place(.at))]
pub struct EvaluationError {
    /// What happened.
    pub reason: Reason,
    /// Where in the source, in bytes.
    pub at: Option<usize>,
}

struct Place<'a>(&'a Option<usize>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, "at byte {at} of the expression: "),
            None => Ok(()),
        }
    }
}

/// What ended an evaluation. The texts name types and places, and never print a value: records are private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// An operator or function that its operands' types do not have.
    #[error("`{0}` does not take {1}")]
    NoOverload(&'static str, &'static str),
    /// An operator over two types that do not go together.
    #[error("`{0}` does not take {1} and {2}")]
    NoOverloads(&'static str, &'static str, &'static str),
    /// A map without the field or key.
    #[error("the map has no such key")]
    NoSuchKey,
    /// An index beyond a list.
    #[error("the list has no such index")]
    NoSuchIndex,
    /// A key that maps cannot have.
    #[error("{0} cannot be a key of a map")]
    NoKey(&'static str),
    /// Twice the same key in one map.
    #[error("the map has a key twice")]
    KeyTwice,
    /// A number beyond its type.
    #[error("`{0}` overflows")]
    Overflow(&'static str),
    /// A division or a remainder by zero.
    #[error("`{0}` by zero")]
    ByZero(&'static str),
    /// A text or number that a conversion does not take.
    #[error("`{0}` cannot convert this {1}")]
    Conversion(&'static str, &'static str),
    /// A pattern that is computed, and is none.
    #[error("`matches` got an invalid or too large pattern")]
    Pattern,
    /// No JSON, at this place.
    #[error("this is no JSON, at line {0} column {1}")]
    Json(usize, usize),
    /// The value of an empty optional.
    #[error("the optional has no value")]
    NoValue,
    /// Too many steps, see [`COST`](super::COST).
    #[error("it takes too many steps for one record")]
    Cost,
    /// Too much memory, see [`MEMORY`](super::MEMORY).
    #[error("its intermediate values are too large for one record")]
    Memory,
    /// Whoever evaluates does not want the value any more.
    #[error("it was stopped")]
    Stopped,
}

impl From<Reason> for EvaluationError {
    fn from(reason: Reason) -> Self {
        Self { reason, at: None }
    }
}

impl Reason {
    /// Whether the evaluation may not go on: nothing makes up for such an error.
    pub fn is_of_budget(self) -> bool {
        matches!(self, Self::Cost | Self::Memory | Self::Stopped)
    }
}
