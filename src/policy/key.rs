//! Keys: what may stand in a table, what each takes and is for. They drive the reader and the schema alike.

use std::marker::PhantomData;

use serde_json::Value;

pub(super) use super::reader::{Kind, Node};
use super::source::Place;

/// What was read, and where.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
}

/// A key of a table: its name, what it takes and what it is for.
pub(super) struct Key<T> {
    pub name: &'static str,
    pub doc: &'static str,
    pub required: bool,
    takes: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// A key that may be left out.
    pub const fn optional(name: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            doc,
            required: false,
            takes: PhantomData,
        }
    }

    /// A key that must be there.
    pub const fn required(name: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            doc,
            required: true,
            takes: PhantomData,
        }
    }
}

/// A key, whatever it takes.
pub(super) trait AnyKey: Sync {
    fn name(&self) -> &'static str;
    fn doc(&self) -> &'static str;
    fn is_required(&self) -> bool;
    fn schema(&self) -> Value;
}

impl<T: Kind> AnyKey for Key<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn is_required(&self) -> bool {
        self.required
    }

    fn schema(&self) -> Value {
        T::schema()
    }
}

/// All keys of a table.
pub(super) type Keys = &'static [&'static dyn AnyKey];
