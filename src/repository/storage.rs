//! The narrow waist to where bytes lie: a directory today, an object store with conditional puts as well.
//!
//! Objects are immutable. They appear whole or not at all, never replace one another, and are durable when the call that
//! publishes them returns.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{ObjectName, RepositoryError};

/// What a call to a storage comes to.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RepositoryError>> + Send + 'a>>;

/// An answer for which nothing is waited: `work` is done when it is first polled.
pub fn answer<'a, T>(
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'a,
) -> Answer<'a, T> {
    Box::pin(async move { work() })
}

/// Where the objects of a repository lie.
///
/// The repository's own code blocks, and goes through [`BlockingStorage`](super::BlockingStorage). Answers of a directory block
/// where they are polled; those of other storages need a runtime of their own.
pub trait Storage: Send + Sync + fmt::Debug {
    /// The directory or bucket prefix, as an operator would write it.
    fn location(&self) -> String;

    /// Whether nothing at all is there, so that a repository may be begun.
    fn is_empty(&self) -> Answer<'_, bool>;

    /// Publishes a small object at once, unless its name is taken: then that object stays, and is compared with `content`.
    fn put<'a>(&'a self, name: &'a ObjectName, content: Bytes) -> Answer<'a, Put>;

    /// Begins a large object, which is published by [`ObjectWriter::finish`].
    fn create<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, Box<dyn ObjectWriter>>;

    /// A whole object of at most `limit` bytes.
    fn get<'a>(&'a self, name: &'a ObjectName, limit: u64) -> Answer<'a, Bytes>;

    /// Exactly the bytes of `range`; an error when the object does not have all of them.
    fn get_range<'a>(&'a self, name: &'a ObjectName, range: Range<u64>) -> Answer<'a, Bytes>;

    /// Makes the objects directly below `directory` durable that others made visible and may not have come to sync: whoever
    /// builds on objects that were there already asks for this first. Nothing to do where visible is durable.
    fn sync<'a>(&'a self, _directory: &'a str) -> Answer<'a, ()> {
        answer(|| Ok(()))
    }

    /// A hint that `range` will be asked for soon.
    fn prefetch(&self, _name: &ObjectName, _range: Range<u64>) {}

    /// An object's size in bytes.
    fn size<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, u64>;

    /// Objects below `prefix`, which is empty or ends in `/`, sorted by name, from behind `after` on. What crashed writers left
    /// is not listed.
    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a ObjectName>) -> Answer<'a, Page>;

    /// Bytes that are free where the objects lie; none where that has no bounds, or cannot be known.
    fn free_bytes(&self) -> Answer<'_, Option<u64>> {
        answer(|| Ok(None))
    }

    /// Keeps a little space in reserve, where space has bounds.
    fn keep_reserve(&self) -> Answer<'_, ()> {
        answer(|| Ok(()))
    }

    /// Frees what was kept in reserve; false when there was nothing.
    fn use_reserve(&self) -> Answer<'_, bool> {
        answer(|| Ok(false))
    }

    /// Whether something can be written there now; nothing is left behind.
    fn probe(&self) -> Answer<'_, ()> {
        answer(|| Ok(()))
    }

    /// Removes an object; gone for good when the call returns, also when it was not there.
    fn delete<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, ()>;

    /// Lets nobody remove an object before this moment; a later moment than the one that holds extends it, an earlier one
    /// changes nothing. [`RepositoryError::NoRetention`] where the storage cannot promise that.
    fn retain<'a>(&'a self, _name: &'a ObjectName, _until: DateTime<Utc>) -> Answer<'a, ()> {
        let location = self.location();
        answer(|| Err(RepositoryError::NoRetention { location }))
    }

    /// Removes what crashed writers left unfinished and did not touch for `age`; returns how many things that were.
    fn remove_leftovers(&self, age: Duration) -> Answer<'_, usize>;
}

/// An object being written. Dropped unfinished, it leaves nothing behind.
pub trait ObjectWriter: Send {
    /// Appends `bytes` to the object, which nobody sees yet.
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> Answer<'a, ()>;

    /// Makes the object durable, then visible, without replacing any; returns its length in bytes.
    fn finish(self: Box<Self>) -> Answer<'static, u64>;
}

/// What came of publishing an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an object of this name may hold something else"]
pub enum Put {
    /// It is there, and durable.
    Created,
    /// An object of this name with the same content was there already. It may not be durable yet: see [`Storage::sync`].
    Same,
    /// An object of this name with another content was there already, and stays.
    Different,
}

impl Put {
    /// Of an object whose name only its writer knows: an error when it was taken.
    pub fn created(self, name: &ObjectName, location: String) -> Result<(), RepositoryError> {
        match self {
            Self::Created => Ok(()),
            Self::Same | Self::Different => Err(RepositoryError::AlreadyExists {
                name: name.to_string(),
                location,
            }),
        }
    }
}

/// A part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects in the order of their names; there may be none, though more follow.
    pub objects: Vec<ObjectInfo>,
    /// The name behind which the listing goes on; none at its end.
    pub next: Option<ObjectName>,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name from the repository's root on.
    pub name: ObjectName,
    /// Its size in bytes.
    pub size: u64,
}
