//! A repository's objects in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafkeep::repository::{
    Answer, ObjectInfo, ObjectName, ObjectWriter, Page, Put, RepositoryError, Storage, answer,
};

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

    fn is_empty(&self) -> Answer<'_, bool> {
        answer(|| Ok(self.objects().is_empty()))
    }

    fn put<'a>(&'a self, name: &'a ObjectName, content: Bytes) -> Answer<'a, Put> {
        answer(move || {
            self.objects().insert(name.to_string(), content);
            Ok(Put::Created)
        })
    }

    fn create<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, Box<dyn ObjectWriter>> {
        unreachable!("{name}: nothing that is fuzzed writes packs")
    }

    fn get<'a>(&'a self, name: &'a ObjectName, limit: u64) -> Answer<'a, Bytes> {
        answer(move || {
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
        })
    }

    fn get_range<'a>(&'a self, name: &'a ObjectName, range: Range<u64>) -> Answer<'a, Bytes> {
        answer(move || {
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
        })
    }

    fn size<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, u64> {
        answer(|| Ok(self.object(name)?.len() as u64))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a ObjectName>) -> Answer<'a, Page> {
        answer(move || {
            let objects = self.objects();
            let below = objects.iter().filter(|(name, _)| {
                name.starts_with(prefix) && after.is_none_or(|after| name.as_str() > after.as_str())
            });
            let infos = below.map(|(name, object)| {
                Ok(ObjectInfo {
                    name: ObjectName::new(name)?,
                    size: object.len() as u64,
                })
            });
            Ok(Page {
                objects: infos.collect::<Result<_, RepositoryError>>()?,
                next: None,
            })
        })
    }

    fn delete<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, ()> {
        answer(|| {
            self.objects().remove(name.as_str());
            Ok(())
        })
    }

    fn remove_leftovers(&self, _: Duration) -> Answer<'_, usize> {
        answer(|| Ok(0))
    }
}
