//! Which values are equal, and which comes first. Numbers compare across types, by what they are worth.

use std::cmp::Ordering;

use super::budget::Budget;
use super::error::Reason;
use super::value::Value;

/// Whether two values are equal: numbers across types; values of other different types never are. Values nest as deep as
/// expressions and JSON may, so it goes down no further.
pub(super) fn equal(one: &Value<'_>, two: &Value<'_>, budget: &Budget<'_>) -> Result<bool, Reason> {
    budget.spend(1)?;
    Ok(match (one, two) {
        (Value::Null, Value::Null) => true,
        (Value::Type(one), Value::Type(two)) => one == two,
        (Value::List(one), Value::List(two)) => {
            if one.len() != two.len() {
                return Ok(false);
            }
            for (one, two) in one.iter().zip(two.iter()) {
                if !equal(one, two, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(one), Value::Map(two)) => {
            if one.entries().len() != two.entries().len() {
                return Ok(false);
            }
            for (key, value) in one.entries() {
                match two.get(key, budget)? {
                    Some(other) if equal(value, other, budget)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Optional(one), Value::Optional(two)) => match (one, two) {
            (Some(one), Some(two)) => equal(one, two, budget)?,
            (one, two) => one.is_none() && two.is_none(),
        },
        _ => order(one, two, budget)? == Some(Some(Ordering::Equal)),
    })
}

/// The order of two values: `None` where their types have none, `Some(None)` where one is not a number.
pub(super) fn order(
    one: &Value<'_>,
    two: &Value<'_>,
    budget: &Budget<'_>,
) -> Result<Option<Option<Ordering>>, Reason> {
    Ok(Some(match (one, two) {
        (Value::Bool(one), Value::Bool(two)) => Some(one.cmp(two)),
        (Value::Text(one), Value::Text(two)) => {
            budget.touch(one.len().min(two.len()))?;
            Some((**one).cmp(&**two))
        }
        (Value::Bytes(one), Value::Bytes(two)) => {
            budget.touch(one.len().min(two.len()))?;
            Some((**one).cmp(&**two))
        }
        (Value::Double(one), Value::Double(two)) => one.partial_cmp(two),
        (Value::Double(one), two) => match whole(two) {
            Some(two) => against(two, *one).map(Ordering::reverse),
            None => return Ok(None),
        },
        (one, Value::Double(two)) => match whole(one) {
            Some(one) => against(one, *two),
            None => return Ok(None),
        },
        (one, two) => match (whole(one), whole(two)) {
            (Some(one), Some(two)) => Some(one.cmp(&two)),
            _ => return Ok(None),
        },
    }))
}

/// The whole number that an int or uint is.
pub(super) fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(number) => Some((*number).into()),
        Value::Uint(number) => Some((*number).into()),
        _ => None,
    }
}

/// A whole number against a double, exactly.
fn against(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // The cast keeps within its type, far beyond 64 bits.
    let order = whole.cmp(&(double.trunc() as i128));
    Some(order.then_with(|| {
        0.0_f64
            .partial_cmp(&double.fract())
            .filter(|_| double.is_finite())
            .unwrap_or(Ordering::Equal)
    }))
}
