//! Expressions over a record, in the Common Expression Language: compiled once, bounded, and never the end of a run.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::{Context, Env, ExecutionError, Program, Value};

use crate::kafka::TopicPartition;
use crate::record::RecordRef;

/// A longer source is a slip.
const LONGEST: usize = 4096;
/// The parser goes down into the source by the stack.
const DEEPEST: usize = 32;
/// Comprehensions within comprehensions take the power of their number in time.
const COMPREHENSIONS: usize = 2;
const COMPREHENDING: [&str; 6] = [
    ".all(",
    ".exists(",
    ".exists_one(",
    ".map(",
    ".filter(",
    ".sort",
];
/// What may be asked of a record.
const VARIABLES: [&str; 7] = [
    "key",
    "value",
    "headers",
    "timestamp",
    "partition",
    "offset",
    "topic",
];

/// A compiled expression. Two are equal when they are written alike.
#[derive(Clone)]
pub struct Expression {
    source: String,
    compiled: Arc<Compiled>,
}

struct Compiled {
    program: Program,
    /// Which of [`VARIABLES`] it asks for.
    wants: [bool; VARIABLES.len()],
}

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

/// Why an expression is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidExpression {
    /// What is wrong, and where in it.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl std::str::FromStr for Expression {
    type Err = InvalidExpression;

    fn from_str(source: &str) -> Result<Self, InvalidExpression> {
        refuse_large(source)?;
        let example = "for example value.contains('important'), or json(value).amount > 100";
        let compiled = catch_unwind(|| Program::compile(source));
        let program = match compiled {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => {
                let first = errors.errors.first();
                let message = first.map_or_else(
                    || errors.to_string(),
                    |error| {
                        let (line, column) = error.pos;
                        format!("the expression is wrong at {line}:{column}: {}", error.msg)
                    },
                );
                return Err(invalid(message, example));
            }
            Err(_) => return Err(invalid("the expression cannot be parsed".into(), example)),
        };
        let references = program.references();
        if let Some(unknown) = references
            .variables()
            .into_iter()
            .find(|name| !VARIABLES.contains(name))
        {
            let message = format!("a record has no `{unknown}`");
            return Err(invalid(
                message,
                &format!("it has {}", VARIABLES.join(", ")),
            ));
        }
        let wants = VARIABLES.map(|name| references.has_variable(name));
        Ok(Self {
            source: source.to_owned(),
            compiled: Arc::new(Compiled { program, wants }),
        })
    }
}

fn invalid(message: String, help: &str) -> InvalidExpression {
    InvalidExpression {
        message,
        help: help.to_owned(),
    }
}

/// Refuses what could take long to compile or to evaluate.
fn refuse_large(source: &str) -> Result<(), InvalidExpression> {
    if source.len() > LONGEST {
        return Err(invalid(
            format!("it has {} characters", source.len()),
            "4096 are the most",
        ));
    }
    if depth(source) > DEEPEST {
        return Err(invalid(
            "its parentheses are nested too deep".into(),
            "32 levels are the most",
        ));
    }
    let comprehensions: usize = COMPREHENDING
        .iter()
        .map(|name| source.matches(name).count())
        .sum();
    if comprehensions > COMPREHENSIONS {
        return Err(invalid(
            format!("it has {comprehensions} comprehensions (all, exists, map, filter)"),
            "2 are the most",
        ));
    }
    Ok(())
}

/// What a text or bytes hold, and null does not; anything else is given back.
fn bytes(value: Value) -> Result<Option<Vec<u8>>, Value> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.as_bytes().to_vec())),
        Value::Bytes(bytes) => Ok(Some(bytes.to_vec())),
        other => Err(other),
    }
}

/// How deep brackets lie in one another.
fn depth(source: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in source.chars() {
        match c {
            '(' | '[' | '{' | '!' | '-' | '?' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// What all evaluations on one thread share.
pub(super) struct Evaluation {
    root: Context<'static, 'static>,
}

impl Evaluation {
    pub fn new() -> Self {
        let mut root = Context::with_env(Arc::new(Env::stdlib()));
        // The standard library has no function of this name.
        root.add_function("json", json).ok();
        Self { root }
    }

    /// Whether a record satisfies an expression.
    pub fn holds(
        &self,
        expression: &Expression,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
    ) -> Result<bool, String> {
        match self.value(expression, partition, record)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("it is {}, not true or false", other.type_of())),
        }
    }

    /// A key: text or bytes; null is none.
    pub fn key(
        &self,
        expression: &Expression,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
    ) -> Result<Option<Vec<u8>>, String> {
        bytes(self.value(expression, partition, record)?).map_err(|other| {
            format!(
                "it is {}, not text, bytes or null: string(…) makes text of a number",
                other.type_of()
            )
        })
    }

    /// The value of a header: as a key, or a number, true or false as text.
    pub fn header(
        &self,
        expression: &Expression,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
    ) -> Result<Option<Vec<u8>>, String> {
        let text = match bytes(self.value(expression, partition, record)?) {
            Ok(bytes) => return Ok(bytes),
            Err(Value::Bool(holds)) => holds.to_string(),
            Err(Value::Int(number)) => number.to_string(),
            Err(Value::UInt(number)) => number.to_string(),
            Err(Value::Float(number)) => number.to_string(),
            Err(other) => {
                return Err(format!(
                    "it is {}, not text, bytes, a number, true, false or null",
                    other.type_of()
                ));
            }
        };
        Ok(Some(text.into_bytes()))
    }

    fn value(
        &self,
        expression: &Expression,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
    ) -> Result<Value, String> {
        let mut scope = self.root.new_inner_scope();
        for (name, _) in VARIABLES
            .iter()
            .zip(expression.compiled.wants)
            .filter(|(_, wants)| *wants)
        {
            let value = match *name {
                "key" => text(record.key),
                "value" => text(record.value),
                "headers" => headers(record),
                "timestamp" => Value::Int(record.timestamp.0),
                "partition" => Value::Int(partition.partition.0.into()),
                "offset" => Value::Int(record.offset.0),
                _ => Value::String(Arc::new(partition.topic.clone())),
            };
            scope.add_variable_from_value(*name, value);
        }
        // A library that panics over some record must not end the mirror.
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            expression.compiled.program.execute(&scope)
        }));
        match evaluated {
            Ok(evaluated) => evaluated.map_err(|error| error.to_string()),
            Err(_) => Err("it could not be evaluated".to_owned()),
        }
    }
}

/// Text where it is UTF-8, else bytes; null is null.
fn text(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => Value::String(Arc::new(text.to_owned())),
        Some((Err(_), bytes)) => Value::Bytes(Arc::new(bytes.to_vec())),
    }
}

/// By name; of headers with one name the last.
fn headers(record: &RecordRef<'_>) -> Value {
    let named = record
        .headers
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), text(value)));
    let map: std::collections::HashMap<String, Value> = named.collect();
    map.into()
}

fn json(text: Arc<String>) -> Result<Value, ExecutionError> {
    let parsed: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        ExecutionError::function_error("json", format!("this is no JSON: {error}"))
    })?;
    cel::to_value(parsed).map_err(|error| ExecutionError::function_error("json", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchRef, Compression, Headers, PartitionId, Timestamp};

    /// What an expression says of a record of this value, with a header `kind` of `order`.
    fn said(source: &str, value: Option<&[u8]>) -> Result<bool, String> {
        let mut room = Vec::new();
        let kind: [(&[u8], &[u8]); 1] = [(b"kind", b"order")];
        let headers = Headers::default().with(kind.into_iter(), &mut room);
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push_parts(Timestamp(1234), Some(b"key-1"), value, headers);
        let bytes = builder.finish().unwrap().unwrap();
        let (batch, _) = BatchRef::parse(&bytes).unwrap();
        let opened = batch.open(1 << 20).unwrap();
        let record = opened.records().next().unwrap().unwrap();
        let partition = TopicPartition {
            topic: "orders.eu".to_owned(),
            partition: PartitionId(3),
        };
        Evaluation::new().holds(&source.parse().unwrap(), &partition, &record)
    }

    #[test]
    fn everything_of_a_record_can_be_asked_for() {
        let value = br#"{"amount": 120, "to": {"country": "DE"}}"#;
        for source in [
            "value.contains('amount')",
            "key == 'key-1' && headers.kind == 'order'",
            "timestamp == 1234 && partition == 3 && offset == 0",
            "topic.startsWith('orders.')",
            "json(value).amount > 100 && json(value).to.country == 'DE'",
            "value.matches('^[{].*DE')",
            "!('other' in headers)",
        ] {
            assert_eq!(said(source, Some(value)), Ok(true), "{source}");
        }
        assert_eq!(said("value.contains('nothing')", Some(value)), Ok(false));
        assert_eq!(said("value == null", None), Ok(true));
        assert_eq!(said("size(value) == 2", Some(b"\xff\xfe")), Ok(true));
    }

    #[test]
    fn what_fails_over_a_record_is_an_error_and_no_end() {
        for (source, value) in [
            ("json(value).amount > 1", Some(&b"no json"[..])),
            ("json(value).amount > 1", Some(b"{}")),
            ("value.contains('x')", None),
            ("offset / 0 == 1", None),
            ("value", Some(b"text")),
        ] {
            let said = said(source, value);
            assert!(said.is_err(), "{source}: {said:?}");
        }
    }

    #[test]
    fn what_is_no_expression_is_told() {
        let wrong = |source: &str| source.parse::<Expression>().unwrap_err();
        assert!(wrong("value.contains(").message.contains("wrong at 1:"));
        assert_eq!(wrong("valu == 'x'").message, "a record has no `valu`");
        assert!(
            wrong(&format!("{}1{}", "(".repeat(99), ")".repeat(99)))
                .message
                .contains("too deep")
        );
        assert!(
            wrong(&"1+".repeat(3000))
                .message
                .contains("6000 characters")
        );
        let slow = "[1].all(a, [1].all(b, [1].all(c, true)))";
        assert!(wrong(slow).message.contains("3 comprehensions"));
        assert!(wrong("").message.contains("wrong"));
    }
}
