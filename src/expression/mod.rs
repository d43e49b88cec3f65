//! Expressions in the Common Expression Language, bounded in all that they take.
//!
//! ```text
//! source ── lexer ── parser ──> tree    (LONGEST, NESTING, DEPTH, NODES: known before it runs)
//! tree ──── evaluate ─────────> value   (COST, MEMORY: counted while it runs, and it can be stopped)
//! ```
//!
//! Errors say what types were there, and where in the expression; they never print a value.

mod budget;
mod compare;
mod error;
mod evaluate;
mod functions;
mod json;
mod lexer;
mod literal;
mod operators;
mod parser;
mod pattern;
#[cfg(test)]
mod tests;
mod token;
mod tree;
mod value;

use std::fmt;
use std::sync::Arc;

pub use budget::{Budget, COST, MEMORY};
pub use error::{CompileError, EvaluationError, Reason};
pub use functions::scalar;
pub use pattern::{ALL_PATTERNS, LARGEST_PATTERN};
pub use tree::{DEPTH, NESTING, NODES};
pub use value::{Key, Map, Part, Value};

use evaluate::Evaluator;
use tree::Node;

/// The longest source, in bytes.
pub const LONGEST: usize = 4096;

/// What helps where a source is over a bound: one that worked before an upgrade may be.
const SHORTER: &str = "earlier versions took it, and could crash over it: write it shorter, for example key in ['a', 'b'] for \
    key == 'a' || key == 'b'; docs/expressions.md names the bounds";

/// A compiled expression. Clones share it.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
    tree: Arc<Node>,
}

impl Expression {
    /// Compiles a source in which these names are known. At an evaluation each is asked for by its place.
    ///
    /// # Errors
    ///
    /// A source that is wrong, or larger than a bound allows.
    pub fn compile(source: &str, names: &[&str]) -> Result<Self, CompileError> {
        if source.len() > LONGEST {
            let length = source.len();
            return Err(CompileError {
                message: format!("the expression has {length} bytes, and {LONGEST} are the most"),
                help: SHORTER.to_owned(),
            });
        }
        let tokens = lexer::tokens(source);
        let parsed = tokens.and_then(|tokens| parser::Parser::new(tokens, names).parse());
        let tree = parsed.map_err(|(at, message)| {
            let before = source.get(..at).unwrap_or(source);
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let help = if message.starts_with(token::TOO_MUCH) {
                SHORTER.to_owned()
            } else if message.starts_with("a record has no") {
                format!("it has {}", names.join(", "))
            } else {
                "for example value.contains('important'), or json(value).amount > 100".to_owned()
            };
            CompileError {
                message: format!("the expression is wrong at {line}:{column}: {message}"),
                help,
            }
        })?;
        Ok(Self {
            source: source.into(),
            tree: Arc::new(tree),
        })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its value. `variables` gives the variable of a name's place, and is asked once for each that is needed.
    ///
    /// # Errors
    ///
    /// Operands that do not go together, and a budget that is used up.
    pub fn evaluate<'e>(
        &'e self,
        variables: &dyn Fn(usize, &Budget<'_>) -> Result<Value<'e>, Reason>,
        budget: &Budget<'_>,
    ) -> Result<Value<'e>, EvaluationError> {
        let mut evaluator = Evaluator {
            budget,
            variables,
            known: Vec::new(),
            locals: Vec::new(),
        };
        evaluator.value(&self.tree)
    }
}

/// Two are equal when they are written alike.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}
