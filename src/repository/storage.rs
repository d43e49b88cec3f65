//! The narrow waist to where bytes lie: a directory today, an object store with conditional puts as well.
//!
//! Objects are immutable. They appear whole or not at all, never replace one another, and are durable when the call that
//! publishes them returns.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::RepositoryError;

/// Where the objects of a repository lie. Calls block; they come from threads that may.
pub trait Storage: Send + Sync + fmt::Debug {
    /// The directory or bucket prefix, as an operator would write it.
    fn location(&self) -> String;

    /// Whether nothing at all is there, so that a repository may be begun.
    fn is_empty(&self) -> Result<bool, RepositoryError>;

    /// Publishes a small object at once. Fails with [`RepositoryError::AlreadyExists`] when the name is taken.
    fn put_new(&self, name: &ObjectName, content: &[u8]) -> Result<(), RepositoryError>;

    /// Begins a large object, which is published by [`ObjectWriter::finish`].
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>, RepositoryError>;

    /// A whole object of at most `limit` bytes.
    fn get(&self, name: &ObjectName, limit: u64) -> Result<Bytes, RepositoryError>;

    /// Exactly the bytes of `range`; an error when the object does not have all of them.
    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, RepositoryError>;

    /// Makes the objects directly below `directory` durable that others made visible and may not have come to sync: whoever
    /// builds on objects that were there already asks for this first. Nothing to do where visible is durable.
    fn sync(&self, _directory: &str) -> Result<(), RepositoryError> {
        Ok(())
    }

    /// A hint that `range` will be asked for soon.
    fn prefetch(&self, _name: &ObjectName, _range: Range<u64>) {}

    /// An object's size in bytes.
    fn size(&self, name: &ObjectName) -> Result<u64, RepositoryError>;

    /// All objects below `prefix`, which is empty or ends in `/`, sorted by name. What crashed writers left is not listed.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, RepositoryError>;

    /// Bytes that are free where the objects lie; none where that has no bounds, or cannot be known.
    fn free_bytes(&self) -> Result<Option<u64>, RepositoryError> {
        Ok(None)
    }

    /// Keeps a little space in reserve, where space has bounds.
    fn keep_reserve(&self) -> Result<(), RepositoryError> {
        Ok(())
    }

    /// Frees what was kept in reserve; false when there was nothing.
    fn use_reserve(&self) -> Result<bool, RepositoryError> {
        Ok(false)
    }

    /// Whether something can be written there now; nothing is left behind.
    fn probe(&self) -> Result<(), RepositoryError> {
        Ok(())
    }

    /// Removes an object; gone for good when the call returns.
    fn delete(&self, name: &ObjectName) -> Result<(), RepositoryError>;

    /// Removes what crashed writers left unfinished and did not touch for `age`; returns how many things that were.
    fn remove_leftovers(&self, age: Duration) -> Result<usize, RepositoryError>;
}

/// An object being written. Dropped unfinished, it leaves nothing behind.
pub trait ObjectWriter: Send {
    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<(), RepositoryError>;

    /// Makes the object durable, then visible, without replacing any; returns its length in bytes.
    fn finish(self: Box<Self>) -> Result<u64, RepositoryError>;
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its size in bytes.
    pub size: u64,
}

/// A relative path of segments made of `a-z A-Z 0-9 . _ -` that begin with no dot: safe on every file system and in every
/// object store, and never the name of anything unfinished.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

const NAME_LIMIT: usize = 512;
const SEGMENT_LIMIT: usize = 200;

impl ObjectName {
    /// Checks and takes a name.
    pub fn new(name: impl Into<String>) -> Result<Self, RepositoryError> {
        let name = name.into();
        if name.len() <= NAME_LIMIT && name.split('/').all(is_segment) {
            Ok(Self(name))
        } else {
            Err(RepositoryError::InvalidName {
                name: name.chars().take(NAME_LIMIT).collect(),
            })
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories, from the outermost, and the last segment.
    pub fn split(&self) -> (impl Iterator<Item = &str>, &str) {
        let (directories, last) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        (
            directories.split('/').filter(|segment| !segment.is_empty()),
            last,
        )
    }
}

/// Whether `text` may stand between two slashes of an [`ObjectName`].
pub(super) fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty()
        && text.len() <= SEGMENT_LIMIT
        && !text.starts_with('.')
        && text.bytes().all(allowed)
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_but_down() {
        for name in ["kafkeep.json", "packs/3f/0190.pack", "a_b-C/1"] {
            assert_eq!(ObjectName::new(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(SEGMENT_LIMIT + 1);
        for name in [
            "",
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            ".tmp/a",
            "a/.b",
            "a b",
            "a\0",
            "ä",
            &long,
        ] {
            assert!(ObjectName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn names_split_into_directories_and_a_last_segment() {
        let name = ObjectName::new("packs/3f/x.pack").unwrap();
        let (directories, last) = name.split();
        assert_eq!(
            (directories.collect::<Vec<_>>(), last),
            (vec!["packs", "3f"], "x.pack")
        );
        let name = ObjectName::new("kafkeep.json").unwrap();
        let (directories, last) = name.split();
        assert_eq!((directories.count(), last), (0, "kafkeep.json"));
    }
}
