//! What functions give.

use std::rc::Rc;

use super::budget::Budget;
use super::error::Reason;
use super::json;
use super::pattern::Pattern;
use super::tree::Function;
use super::value::{Part, Value, whole};

/// What a function of one argument gives; `no_overload` where it does not take it.
pub(super) fn of_one<'e>(
    function: Function,
    value: Value<'e>,
    budget: &Budget<'_>,
) -> Result<Value<'e>, Reason> {
    match function {
        Function::Size => size(&value, budget),
        Function::Int => to_int(&value, budget),
        Function::Uint => to_uint(&value, budget),
        Function::Double => to_double(&value),
        Function::Text => to_text(value, budget),
        Function::Bytes => to_bytes(value, budget),
        Function::Bool => to_bool(&value),
        Function::Dyn => Ok(value),
        Function::Type => Ok(Value::Type(value.type_name())),
        Function::Json => match &value {
            Value::Text(Part::Borrowed(text)) => json::parse(text, budget),
            Value::Text(Part::Made(text)) => json::parse_made(text, budget),
            _ => Err(no_overload(function, &value)),
        },
        _ => optional(function, value, budget),
    }
}

fn no_overload(function: Function, value: &Value<'_>) -> Reason {
    Reason::NoOverload(function.name(), value.type_name())
}

fn conversion(function: Function, value: &Value<'_>) -> Reason {
    Reason::Conversion(function.name(), value.type_name())
}

fn some<'e>(value: Value<'e>, budget: &Budget<'_>) -> Result<Value<'e>, Reason> {
    budget.allocate(super::value::SHARED + size_of::<Value<'_>>())?;
    Ok(Value::Optional(Some(Rc::new(value))))
}

/// An optional with a value, or an empty one.
pub(super) fn maybe<'e>(
    value: Option<Value<'e>>,
    budget: &Budget<'_>,
) -> Result<Value<'e>, Reason> {
    value.map_or(Ok(Value::Optional(None)), |value| some(value, budget))
}

fn optional<'e>(
    function: Function,
    value: Value<'e>,
    budget: &Budget<'_>,
) -> Result<Value<'e>, Reason> {
    match (function, &value) {
        (Function::Of, _) => some(value, budget),
        (Function::OfNonZero, _) if is_zero(&value) => Ok(Value::Optional(None)),
        (Function::OfNonZero, _) => some(value, budget),
        (Function::HasValue, Value::Optional(inner)) => Ok(Value::Bool(inner.is_some())),
        (Function::Value, Value::Optional(inner)) => {
            inner.as_deref().cloned().ok_or(Reason::NoValue)
        }
        _ => Err(no_overload(function, &value)),
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(holds) => !holds,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Double(number) => *number == 0.0,
        Value::Text(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(values) => values.is_empty(),
        Value::Map(map) => map.entries().is_empty(),
        Value::Type(_) => false,
        Value::Optional(inner) => inner.is_none(),
    }
}

fn size<'e>(value: &Value<'e>, budget: &Budget<'_>) -> Result<Value<'e>, Reason> {
    let size = match value {
        Value::Text(text) => {
            budget.touch(text.len())?;
            text.chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::List(values) => values.len(),
        Value::Map(map) => map.entries().len(),
        other => return Err(no_overload(Function::Size, other)),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn to_int<'e>(value: &Value<'e>, budget: &Budget<'_>) -> Result<Value<'e>, Reason> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::Uint(number) => i64::try_from(*number).ok(),
        Value::Double(number) => whole(number.trunc()).and_then(|whole| whole.try_into().ok()),
        Value::Text(text) => {
            // Zeros in front may go on for as long as the text.
            budget.touch(text.len())?;
            text.parse().ok()
        }
        other => return Err(no_overload(Function::Int, other)),
    };
    number
        .map(Value::Int)
        .ok_or_else(|| conversion(Function::Int, value))
}

fn to_uint<'e>(value: &Value<'e>, budget: &Budget<'_>) -> Result<Value<'e>, Reason> {
    let number = match value {
        Value::Uint(number) => Some(*number),
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Double(number) => whole(number.trunc()).and_then(|whole| whole.try_into().ok()),
        Value::Text(text) => {
            budget.touch(text.len())?;
            text.parse().ok()
        }
        other => return Err(no_overload(Function::Uint, other)),
    };
    number
        .map(Value::Uint)
        .ok_or_else(|| conversion(Function::Uint, value))
}

fn to_double<'e>(value: &Value<'e>) -> Result<Value<'e>, Reason> {
    let number = match value {
        Value::Double(number) => Some(*number),
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        // No number is longer, and a longer text is not read.
        Value::Text(text) if text.len() <= 1100 => text.parse().ok(),
        Value::Text(_) => None,
        other => return Err(no_overload(Function::Double, other)),
    };
    number
        .map(Value::Double)
        .ok_or_else(|| conversion(Function::Double, value))
}

fn to_bool<'e>(value: &Value<'e>) -> Result<Value<'e>, Reason> {
    match value {
        Value::Bool(holds) => Ok(Value::Bool(*holds)),
        Value::Text(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(conversion(Function::Bool, value)),
        },
        other => Err(no_overload(Function::Bool, other)),
    }
}

fn to_text<'e>(value: Value<'e>, budget: &Budget<'_>) -> Result<Value<'e>, Reason> {
    match &value {
        Value::Text(_) => Ok(value),
        Value::Bytes(Part::Borrowed(bytes)) => {
            budget.touch(bytes.len())?;
            let text = std::str::from_utf8(bytes);
            let text = text.map_err(|_| conversion(Function::Text, &value))?;
            Ok(Value::Text(Part::Borrowed(text)))
        }
        Value::Bytes(Part::Made(bytes)) => {
            budget.touch(bytes.len())?;
            let text = std::str::from_utf8(bytes);
            let text = text.map_err(|_| conversion(Function::Text, &value))?;
            Value::made_text(text, budget)
        }
        _ => match scalar(&value) {
            Some(text) => Value::made_text(&text, budget),
            None => Err(no_overload(Function::Text, &value)),
        },
    }
}

/// A number, true or false as text; none of anything else.
pub fn scalar(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(holds) => holds.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        _ => return None,
    })
}

fn to_bytes<'e>(value: Value<'e>, budget: &Budget<'_>) -> Result<Value<'e>, Reason> {
    match &value {
        Value::Bytes(_) => Ok(value),
        Value::Text(Part::Borrowed(text)) => Ok(Value::Bytes(Part::Borrowed(text.as_bytes()))),
        Value::Text(Part::Made(text)) => Value::made_bytes(text.as_bytes(), budget),
        other => Err(no_overload(Function::Bytes, other)),
    }
}

/// What a function of two arguments gives, but those of optionals, which do not always look at the second.
pub(super) fn of_two<'e>(
    function: Function,
    one: &Value<'e>,
    two: &Value<'e>,
    budget: &Budget<'_>,
) -> Result<Value<'e>, Reason> {
    let (Value::Text(one), Value::Text(two)) = (one, two) else {
        let types = (one.type_name(), two.type_name());
        return Err(Reason::NoOverloads(function.name(), types.0, types.1));
    };
    let holds = match function {
        Function::Contains => {
            budget.touch(one.len() + two.len())?;
            one.contains(&**two)
        }
        Function::StartsWith => {
            budget.touch(two.len())?;
            one.starts_with(&**two)
        }
        Function::EndsWith => {
            budget.touch(two.len())?;
            one.ends_with(&**two)
        }
        _ => Pattern::compute(two, budget)?.is_in(one, budget)?,
    };
    Ok(Value::Bool(holds))
}
