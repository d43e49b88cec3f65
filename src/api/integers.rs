//! Whole numbers as JSON Schema has them: `3.0` is one.

use std::fmt::Display;

use serde::de::{Deserialize, Deserializer, Error};

/// As JSON may say a number.
#[derive(serde::Deserialize)]
#[serde(untagged, expecting = "expected a whole number")]
enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

/// Beyond it floating point knows no single numbers any more.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Number {
    fn whole<T: TryFrom<i128>, E: Error>(self) -> Result<T, E> {
        let whole = match self {
            Self::Unsigned(number) => Ok(i128::from(number)),
            Self::Signed(number) => Ok(i128::from(number)),
            Self::Float(number) if number.fract() == 0.0 && number.abs() < EXACT => {
                Ok(number as i128)
            }
            Self::Float(number) => Err(refused(number)),
        }?;
        T::try_from(whole).map_err(|_| refused(whole))
    }
}

fn refused<E: Error>(number: impl Display) -> E {
    E::custom(format!(
        "{number} is no whole number within the bounds of this field"
    ))
}

/// A number that may be missing.
pub(super) fn optional<'de, T: TryFrom<i128>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let number = Option::<Number>::deserialize(deserializer)?;
    number.map(Number::whole).transpose()
}

/// A list that may be missing.
pub(super) fn list<'de, T: TryFrom<i128>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let numbers = Option::<Vec<Number>>::deserialize(deserializer)?;
    let whole = numbers.map(|numbers| numbers.into_iter().map(Number::whole).collect());
    whole.transpose()
}
