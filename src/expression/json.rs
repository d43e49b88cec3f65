//! `json(text)`: from a text straight into values, each counted before it is made.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::budget::Budget;
use super::error::Reason;
use super::value::{Key, Map, Part, SHARED, Value};

/// The value of a JSON text. Whole numbers are ints where they fit, else uints or doubles. Of a name that comes twice the
/// last one counts.
pub(super) fn parse<'e>(text: &'e str, budget: &Budget<'_>) -> Result<Value<'e>, Reason> {
    // Reading takes longer than comparing.
    budget.spend(text.len() as u64 / 4)?;
    let failed = std::cell::Cell::new(None);
    let seed = Seed {
        budget,
        failed: &failed,
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let parsed = seed.deserialize(&mut reader).and_then(|value| {
        reader.end()?;
        Ok(value)
    });
    parsed.map_err(|error| {
        let failed: Option<Reason> = failed.get();
        failed.unwrap_or(Reason::Json(error.line(), error.column()))
    })
}

/// The same of a text that was made: what is in it is copied.
pub(super) fn parse_made<'e>(text: &str, budget: &Budget<'_>) -> Result<Value<'e>, Reason> {
    let parsed = parse(text, budget)?;
    owned(&parsed, budget)
}

fn owned<'e>(value: &Value<'_>, budget: &Budget<'_>) -> Result<Value<'e>, Reason> {
    budget.spend(1)?;
    Ok(match value {
        Value::Bool(holds) => Value::Bool(*holds),
        Value::Int(number) => Value::Int(*number),
        Value::Uint(number) => Value::Uint(*number),
        Value::Double(number) => Value::Double(*number),
        Value::Text(text) => Value::made_text(text, budget)?,
        Value::List(values) => {
            let mut copied = budget.list(values.len())?;
            for value in values.iter() {
                copied.push(owned(value, budget)?);
            }
            Value::list(copied, budget)?
        }
        Value::Map(map) => {
            let mut copied = budget.list(map.entries().len())?;
            for (key, value) in map.entries() {
                let key = Key::from_value(owned(&key.to_value(), budget)?)?;
                copied.push((key, owned(value, budget)?));
            }
            Value::map(Map::new(copied, true, budget)?, budget)?
        }
        // JSON has nothing else.
        _ => Value::Null,
    })
}

#[derive(Clone, Copy)]
struct Seed<'b, 's> {
    budget: &'b Budget<'s>,
    failed: &'b std::cell::Cell<Option<Reason>>,
}

impl Seed<'_, '_> {
    fn counted<T, E: serde::de::Error>(self, counted: Result<T, Reason>) -> Result<T, E> {
        counted.map_err(|reason| {
            self.failed.set(Some(reason));
            E::custom("the budget is used up")
        })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value<'de>, D::Error> {
        let step = self.budget.spend(1);
        self.counted::<_, D::Error>(step)?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, holds: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(holds))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(number).map_or(Value::Uint(number), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Double(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Part::Borrowed(text)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value<'de>, E> {
        // The parser keeps the longest text with escapes, too.
        let room = self.budget.allocate(text.len() + SHARED);
        self.counted::<_, E>(room)?;
        self.counted(Value::made_text(text, self.budget))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value<'de>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = from.next_element_seed(self)? {
            self.counted::<_, A::Error>(self.budget.push(&mut values, value))?;
        }
        self.counted(Value::list(values, self.budget))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = from.next_key_seed(self)? {
            let key = Key::from_value(name).map_err(A::Error::custom)?;
            let value = from.next_value_seed(self)?;
            self.counted::<_, A::Error>(self.budget.push(&mut entries, (key, value)))?;
        }
        let map = Map::new(entries, true, self.budget);
        self.counted(map.and_then(|map| Value::map(map, self.budget)))
    }
}
