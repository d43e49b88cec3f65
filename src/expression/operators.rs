//! What operators give.

use std::cmp::Ordering;

use super::budget::Budget;
use super::compare::{equal, order, whole};
use super::error::Reason;
use super::tree::Binary;
use super::value::{Key, SHARED, Value};

/// What an operator gives over two values.
pub(super) fn binary<'e>(
    operator: Binary,
    one: &Value<'e>,
    two: &Value<'e>,
    budget: &Budget<'_>,
) -> Result<Value<'e>, Reason> {
    match operator {
        Binary::Equal => equal(one, two, budget).map(Value::Bool),
        Binary::Unequal => equal(one, two, budget).map(|equal| Value::Bool(!equal)),
        Binary::Less => compared(operator, one, two, budget, Ordering::is_lt),
        Binary::AtMost => compared(operator, one, two, budget, Ordering::is_le),
        Binary::Greater => compared(operator, one, two, budget, Ordering::is_gt),
        Binary::AtLeast => compared(operator, one, two, budget, Ordering::is_ge),
        Binary::In => contains(one, two, budget).map(Value::Bool),
        Binary::Add => match joined(one, two, budget)? {
            Some(joined) => Ok(joined),
            None => computed(operator, one, two),
        },
        _ => computed(operator, one, two),
    }
}

fn no_overload(operator: Binary, one: &Value<'_>, two: &Value<'_>) -> Reason {
    Reason::NoOverloads(operator.sign(), one.type_name(), two.type_name())
}

fn compared<'e>(
    operator: Binary,
    one: &Value<'e>,
    two: &Value<'e>,
    budget: &Budget<'_>,
    holds: fn(Ordering) -> bool,
) -> Result<Value<'e>, Reason> {
    match order(one, two, budget)? {
        Some(order) => Ok(Value::Bool(order.is_some_and(holds))),
        None => Err(no_overload(operator, one, two)),
    }
}

/// Whether a list has an element, or a map a key.
fn contains(one: &Value<'_>, two: &Value<'_>, budget: &Budget<'_>) -> Result<bool, Reason> {
    match two {
        Value::List(values) => {
            for value in values.iter() {
                if equal(one, value, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Map(map) => match Key::from_value(one.clone()) {
            Ok(key) => Ok(map.get(&key, budget)?.is_some()),
            Err(Reason::NoSuchKey) => Ok(false),
            Err(reason) => Err(reason),
        },
        _ => Err(no_overload(Binary::In, one, two)),
    }
}

/// Texts, bytes or lists put together; none where the values are something else.
fn joined<'e>(
    one: &Value<'e>,
    two: &Value<'e>,
    budget: &Budget<'_>,
) -> Result<Option<Value<'e>>, Reason> {
    Ok(Some(match (one, two) {
        (Value::Text(one), Value::Text(two)) => {
            budget.touch(one.len() + two.len())?;
            // As it is put together, and as it is shared.
            budget.allocate(2 * (one.len() + two.len()) + SHARED)?;
            let joined = [&**one, &**two].concat();
            Value::Text(super::value::Part::Made(joined.into()))
        }
        (Value::Bytes(one), Value::Bytes(two)) => {
            budget.touch(one.len() + two.len())?;
            budget.allocate(2 * (one.len() + two.len()) + SHARED)?;
            let joined = [&**one, &**two].concat();
            Value::Bytes(super::value::Part::Made(joined.into()))
        }
        (Value::List(one), Value::List(two)) => {
            budget.spend((one.len() + two.len()) as u64)?;
            let mut joined = budget.list(one.len() + two.len())?;
            joined.extend(one.iter().chain(two.iter()).cloned());
            Value::list(joined, budget)?
        }
        _ => return Ok(None),
    }))
}

/// Arithmetic. An int and a uint give an int where it fits, else a uint: what JSON holds goes with either.
fn computed<'e>(operator: Binary, one: &Value<'e>, two: &Value<'e>) -> Result<Value<'e>, Reason> {
    if let (Value::Double(one), Value::Double(two)) = (one, two) {
        return Ok(Value::Double(match operator {
            Binary::Add => one + two,
            Binary::Subtract => one - two,
            Binary::Multiply => one * two,
            Binary::Divide => one / two,
            _ => return Err(Reason::NoOverloads(operator.sign(), "double", "double")),
        }));
    }
    let (Some(first), Some(second)) = (whole(one), whole(two)) else {
        return Err(no_overload(operator, one, two));
    };
    let sign = operator.sign();
    let is_division = [Binary::Divide, Binary::Remainder].contains(&operator);
    if is_division && second == 0 {
        return Err(Reason::ByZero(sign));
    }
    // Two numbers of 64 bits stay within 128, but for the largest products.
    let number = match operator {
        Binary::Add => first.checked_add(second),
        Binary::Subtract => first.checked_sub(second),
        Binary::Multiply => first.checked_mul(second),
        Binary::Divide => first.checked_div(second),
        _ => first.checked_rem(second),
    };
    let number = number.ok_or(Reason::Overflow(sign))?;
    let int = i64::try_from(number).ok().map(Value::Int);
    let uint = u64::try_from(number).ok().map(Value::Uint);
    // The smallest int by -1 has no remainder in 64 bits.
    let overflows = operator == Binary::Remainder && first == i64::MIN.into() && second == -1;
    let fits = match (one, two) {
        (Value::Int(_), Value::Int(_)) => int.filter(|_| !overflows),
        (Value::Uint(_), Value::Uint(_)) => uint,
        _ => int.or(uint),
    };
    fits.ok_or(Reason::Overflow(sign))
}

/// A value with the other sign.
pub(super) fn negated<'e>(value: &Value<'e>) -> Result<Value<'e>, Reason> {
    match value {
        Value::Int(number) => number
            .checked_neg()
            .map(Value::Int)
            .ok_or(Reason::Overflow("-")),
        Value::Double(number) => Ok(Value::Double(-number)),
        other => Err(Reason::NoOverload("-", other.type_name())),
    }
}
