//! Values. What lies in the record or in the expression is borrowed, and copies share what they hold.

use std::cmp::Ordering;
use std::ops::Deref;
use std::rc::Rc;

use super::budget::Budget;
use super::error::Reason;

/// What a shared value takes beside its contents.
pub(super) const SHARED: usize = 48;

/// A part of the record or the expression, or something that was made.
#[derive(Debug)]
pub enum Part<'e, T: ?Sized> {
    /// It lies elsewhere.
    Borrowed(&'e T),
    /// It was made.
    Made(Rc<T>),
}

impl<T: ?Sized> Clone for Part<'_, T> {
    fn clone(&self) -> Self {
        match self {
            Self::Borrowed(part) => Self::Borrowed(part),
            Self::Made(made) => Self::Made(Rc::clone(made)),
        }
    }
}

impl<T: ?Sized> Deref for Part<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(part) => part,
            Self::Made(made) => made,
        }
    }
}

/// A value of the language.
#[derive(Debug, Clone)]
pub enum Value<'e> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A signed whole number.
    Int(i64),
    /// An unsigned whole number.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// Text.
    Text(Part<'e, str>),
    /// Bytes.
    Bytes(Part<'e, [u8]>),
    /// A list.
    List(Rc<Vec<Value<'e>>>),
    /// A map.
    Map(Rc<Map<'e>>),
    /// A type, by its name.
    Type(&'static str),
    /// A value that may be missing.
    Optional(Option<Rc<Value<'e>>>),
}

/// A key of a map. Whole numbers are equal across types. Bytes are keys only of maps that kafkeep makes.
#[derive(Debug, Clone)]
pub enum Key<'e> {
    /// `true` or `false`.
    Bool(bool),
    /// A signed whole number.
    Int(i64),
    /// An unsigned whole number.
    Uint(u64),
    /// Text.
    Text(Part<'e, str>),
    /// Bytes that are no text.
    Bytes(Part<'e, [u8]>),
}

impl Key<'_> {
    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some((*number).into()),
            Self::Uint(number) => Some((*number).into()),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Int(_) | Self::Uint(_) => 1,
            Self::Text(_) => 2,
            Self::Bytes(_) => 3,
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(two)) => (**one).cmp(&**two),
            (Self::Bytes(one), Self::Bytes(two)) => (**one).cmp(&**two),
            (Self::Bool(one), Self::Bool(two)) => one.cmp(two),
            _ => match (self.whole(), other.whole()) {
                (Some(one), Some(two)) => one.cmp(&two),
                _ => self.rank().cmp(&other.rank()),
            },
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

impl<'e> Key<'e> {
    /// The key that a value is; a double is one where it is a whole number.
    pub(super) fn from_value(value: Value<'e>) -> Result<Self, Reason> {
        Ok(match value {
            Value::Bool(holds) => Self::Bool(holds),
            Value::Int(number) => Self::Int(number),
            Value::Uint(number) => Self::Uint(number),
            Value::Text(text) => Self::Text(text),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Double(number) => match whole(number) {
                Some(number) => match i64::try_from(number) {
                    Ok(number) => Self::Int(number),
                    Err(_) => u64::try_from(number)
                        .map_or(Err(Reason::NoSuchKey), |number| Ok(Self::Uint(number)))?,
                },
                None => return Err(Reason::NoSuchKey),
            },
            other => return Err(Reason::NoKey(other.type_name())),
        })
    }

    /// The value that it is.
    pub(super) fn to_value(&self) -> Value<'e> {
        match self {
            Self::Bool(holds) => Value::Bool(*holds),
            Self::Int(number) => Value::Int(*number),
            Self::Uint(number) => Value::Uint(*number),
            Self::Text(text) => Value::Text(text.clone()),
            Self::Bytes(bytes) => Value::Bytes(bytes.clone()),
        }
    }

    /// How many bytes a comparison with it reads.
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 8,
        }
    }
}

/// The whole number that a double is, within 65 bits.
pub(super) fn whole(number: f64) -> Option<i128> {
    let is_whole = number.trunc() == number && number.abs() < 2_f64.powi(65);
    is_whole.then_some(number as i128)
}

/// A map, by its keys' order.
#[derive(Debug, Clone, Default)]
pub struct Map<'e>(Vec<(Key<'e>, Value<'e>)>);

impl<'e> Map<'e> {
    /// A map of entries. `None` where a key comes twice and `last_wins` is false.
    pub(super) fn new(
        mut entries: Vec<(Key<'e>, Value<'e>)>,
        last_wins: bool,
        budget: &Budget<'_>,
    ) -> Result<Self, Reason> {
        let keys: usize = entries.iter().map(|(key, _)| key.size()).sum();
        let rounds = entries
            .len()
            .checked_ilog2()
            .map_or(1, |log| u64::from(log) + 1);
        budget.spend((keys as u64 / 16 + entries.len() as u64).saturating_mul(rounds))?;
        // Sorting takes half as much again.
        budget.allocate(
            entries
                .len()
                .saturating_mul(size_of::<(Key<'_>, Value<'_>)>())
                / 2,
        )?;
        entries.sort_by(|(one, _), (two, _)| one.cmp(two));
        let all = entries.len();
        // Of equal keys the later one is the second.
        entries.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        if entries.len() < all && !last_wins {
            return Err(Reason::KeyTwice);
        }
        Ok(Self(entries))
    }

    /// What lies under a key.
    pub(super) fn get(
        &self,
        key: &Key<'_>,
        budget: &Budget<'_>,
    ) -> Result<Option<&Value<'e>>, Reason> {
        let rounds = self
            .0
            .len()
            .checked_ilog2()
            .map_or(1, |log| log as usize + 1);
        budget.touch(key.size().saturating_mul(rounds))?;
        Ok(self.text_or_other(key))
    }

    fn text_or_other(&self, key: &Key<'_>) -> Option<&Value<'e>> {
        let place = self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// The entries, by key.
    pub fn entries(&self) -> &[(Key<'e>, Value<'e>)] {
        &self.0
    }
}

impl<'e> Value<'e> {
    /// Text that was made.
    pub(super) fn made_text(text: &str, budget: &Budget<'_>) -> Result<Self, Reason> {
        budget.touch(text.len())?;
        budget.allocate(text.len() + SHARED)?;
        Ok(Self::Text(Part::Made(text.into())))
    }

    /// Bytes that were made.
    pub(super) fn made_bytes(bytes: &[u8], budget: &Budget<'_>) -> Result<Self, Reason> {
        budget.touch(bytes.len())?;
        budget.allocate(bytes.len() + SHARED)?;
        Ok(Self::Bytes(Part::Made(bytes.into())))
    }

    /// A list of values that are counted already.
    pub(super) fn list(values: Vec<Self>, budget: &Budget<'_>) -> Result<Self, Reason> {
        budget.allocate(SHARED)?;
        Ok(Self::List(Rc::new(values)))
    }

    /// A map of entries that are counted already.
    pub(super) fn map(map: Map<'e>, budget: &Budget<'_>) -> Result<Self, Reason> {
        budget.allocate(SHARED)?;
        Ok(Self::Map(Rc::new(map)))
    }

    /// Text where it is UTF-8, else bytes; null where there is nothing.
    pub fn text_or_bytes(bytes: Option<&'e [u8]>, budget: &Budget<'_>) -> Result<Self, Reason> {
        let Some(bytes) = bytes else {
            return Ok(Self::Null);
        };
        budget.touch(bytes.len())?;
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(Part::Borrowed(text)),
            Err(_) => Self::Bytes(Part::Borrowed(bytes)),
        })
    }

    /// A map of names, text where they are UTF-8 and else bytes, to values; of a name that comes twice the last.
    pub fn named<'r: 'e>(
        pairs: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>,
        budget: &Budget<'_>,
    ) -> Result<Self, Reason> {
        let mut entries = Vec::new();
        for (name, value) in pairs {
            let key = Key::from_value(Self::text_or_bytes(Some(name), budget)?)?;
            let value = Self::text_or_bytes(value, budget)?;
            budget.push(&mut entries, (key, value))?;
        }
        Self::map(Map::new(entries, true, budget)?, budget)
    }

    /// Whether it refers to no memory.
    pub(super) fn holds_nothing(&self) -> bool {
        matches!(
            self,
            Self::Null
                | Self::Bool(_)
                | Self::Int(_)
                | Self::Uint(_)
                | Self::Double(_)
                | Self::Type(_)
        )
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
        }
    }
}
