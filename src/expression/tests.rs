//! Cases of the language, and of its bounds.

mod bounds;
mod generated;
mod language;

use super::{Budget, EvaluationError, Expression, Key, Reason, Value};

/// The variables of these tests.
const NAMES: [&str; 3] = ["value", "headers", "number"];

/// What an expression gives, written down: types are told apart, and texts are quoted.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(holds) => holds.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => format!("{number}u"),
        Value::Double(number) => format!("{number:?}"),
        Value::Text(text) => format!("'{}'", &**text),
        Value::Bytes(bytes) => format!("b{:?}", &**bytes),
        Value::Type(name) => (*name).to_owned(),
        Value::Optional(None) => "none".to_owned(),
        Value::Optional(Some(inner)) => format!("some({})", shown(inner)),
        Value::List(values) => {
            let values: Vec<String> = values.iter().map(shown).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Map(map) => {
            let entries = map.entries().iter();
            let entries = entries.map(|(key, value)| {
                let key: &Key<'_> = key;
                format!("{}: {}", shown(&key.to_value()), shown(value))
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// What an expression gives over a record's value, within a whole budget.
fn over(source: &str, value: &[u8]) -> Result<String, EvaluationError> {
    let expression =
        Expression::compile(source, &NAMES).unwrap_or_else(|error| panic!("{source}: {error}"));
    let headers: [(&[u8], Option<&[u8]>); 4] = [
        (b"kind", Some(b"order")),
        (b"kind", Some(b"refund")),
        (b"\xff\xfe", Some(b"first")),
        (b"\xff\xfd", Some(b"second")),
    ];
    let variables = |place: usize, budget: &Budget<'_>| match place {
        0 => Value::text_or_bytes(Some(value), budget),
        1 => Value::named(headers.into_iter(), budget),
        _ => Ok(Value::Int(7)),
    };
    let budget = Budget::new(&|| false);
    let shown = expression
        .evaluate(&variables, &budget)
        .map(|value| shown(&value));
    assert!(budget.made() <= super::MEMORY && budget.spent() <= super::COST);
    shown
}

/// Why an expression fails.
fn fails(source: &str, value: &[u8]) -> Reason {
    match over(source, value) {
        Ok(shown) => panic!("{source} gives {:.100}", shown),
        Err(error) => error.reason,
    }
}

/// Why a source is no expression.
fn refused(source: &str) -> String {
    match Expression::compile(source, &NAMES) {
        Ok(_) => panic!("{source:.100} compiles"),
        Err(error) => error.message,
    }
}
