//! A repository's objects in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafkeep::repository::{ObjectInfo, ObjectName, ObjectWriter, RepositoryError, Storage};

/// Objects by name.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<String, Bytes>>);

impl Memory {
    /// Of these.
    pub fn of(objects: BTreeMap<String, Bytes>) -> Self {
        Self(Mutex::new(objects))
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &ObjectName) -> Result<Bytes, RepositoryError> {
        let missing = || RepositoryError::ObjectMissing {
            name: name.to_string(),
            location: self.location(),
        };
        self.objects()
            .get(name.as_str())
            .cloned()
            .ok_or_else(missing)
    }
}

impl Storage for Memory {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn is_empty(&self) -> Result<bool, RepositoryError> {
        Ok(self.objects().is_empty())
    }

    fn put_new(&self, name: &ObjectName, content: &[u8]) -> Result<(), RepositoryError> {
        self.objects()
            .insert(name.to_string(), Bytes::copy_from_slice(content));
        Ok(())
    }

    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>, RepositoryError> {
        unreachable!("{name}: nothing that is fuzzed writes packs")
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Bytes, RepositoryError> {
        let object = self.object(name)?;
        let size = object.len() as u64;
        if size > limit {
            return Err(RepositoryError::ObjectTooLarge {
                name: name.to_string(),
                size,
                limit,
            });
        }
        Ok(object)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, RepositoryError> {
        let object = self.object(name)?;
        let size = object.len() as u64;
        if range.start > range.end || range.end > size {
            return Err(RepositoryError::OutOfRange {
                name: name.to_string(),
                size,
                start: range.start,
                end: range.end,
            });
        }
        Ok(object.slice(range.start as usize..range.end as usize))
    }

    fn size(&self, name: &ObjectName) -> Result<u64, RepositoryError> {
        Ok(self.object(name)?.len() as u64)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, RepositoryError> {
        let objects = self.objects();
        let below = objects.iter().filter(|(name, _)| name.starts_with(prefix));
        below
            .map(|(name, object)| {
                Ok(ObjectInfo {
                    name: ObjectName::new(name)?,
                    size: object.len() as u64,
                })
            })
            .collect()
    }

    fn delete(&self, name: &ObjectName) -> Result<(), RepositoryError> {
        self.objects().remove(name.as_str());
        Ok(())
    }

    fn remove_leftovers(&self, _: Duration) -> Result<usize, RepositoryError> {
        Ok(0)
    }
}
