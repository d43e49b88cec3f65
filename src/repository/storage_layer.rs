//! Layers over a storage: what counts calls, delays them or lets them fail is one method, and layers lie on one another.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::ObjectName;
use super::storage::{Answer, ObjectWriter, Page, Put, Storage};

/// A call to a storage, as a layer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    /// Whether it is empty.
    IsEmpty,
    /// Publishes an object of so many bytes.
    Put(&'a ObjectName, usize),
    /// Begins a large object.
    Create(&'a ObjectName),
    /// Reads an object, or a range of it.
    Get(&'a ObjectName),
    /// Makes a directory durable.
    Sync(&'a str),
    /// Asks for an object's size.
    Size(&'a ObjectName),
    /// Lists a page.
    List(&'a str),
    /// Looks at or uses the space.
    Space,
    /// Removes an object.
    Delete(&'a ObjectName),
    /// Extends an object's retention.
    Retain(&'a ObjectName),
    /// Removes what crashed writers left.
    RemoveLeftovers,
}

/// A storage that is another one, with something before each call. What changes answers, as a cache does, implements [`Storage`]
/// itself.
pub trait StorageLayer: Send + Sync + fmt::Debug {
    /// The storage that the calls go to.
    fn below(&self) -> &dyn Storage;

    /// Comes before each call, which is not made when this fails.
    fn before<'a>(&'a self, call: Call<'a>) -> Answer<'a, ()>;
}

impl<L: StorageLayer> Storage for L {
    fn location(&self) -> String {
        self.below().location()
    }

    fn is_empty(&self) -> Answer<'_, bool> {
        Box::pin(async {
            self.before(Call::IsEmpty).await?;
            self.below().is_empty().await
        })
    }

    fn put<'a>(&'a self, name: &'a ObjectName, content: Bytes) -> Answer<'a, Put> {
        Box::pin(async move {
            self.before(Call::Put(name, content.len())).await?;
            self.below().put(name, content).await
        })
    }

    fn create<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, Box<dyn ObjectWriter>> {
        Box::pin(async move {
            self.before(Call::Create(name)).await?;
            self.below().create(name).await
        })
    }

    fn get<'a>(&'a self, name: &'a ObjectName, limit: u64) -> Answer<'a, Bytes> {
        Box::pin(async move {
            self.before(Call::Get(name)).await?;
            self.below().get(name, limit).await
        })
    }

    fn get_range<'a>(&'a self, name: &'a ObjectName, range: Range<u64>) -> Answer<'a, Bytes> {
        Box::pin(async move {
            self.before(Call::Get(name)).await?;
            self.below().get_range(name, range).await
        })
    }

    fn sync<'a>(&'a self, directory: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.before(Call::Sync(directory)).await?;
            self.below().sync(directory).await
        })
    }

    fn prefetch(&self, name: &ObjectName, range: Range<u64>) {
        self.below().prefetch(name, range);
    }

    fn size<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, u64> {
        Box::pin(async move {
            self.before(Call::Size(name)).await?;
            self.below().size(name).await
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a ObjectName>) -> Answer<'a, Page> {
        Box::pin(async move {
            self.before(Call::List(prefix)).await?;
            self.below().list(prefix, after).await
        })
    }

    fn free_bytes(&self) -> Answer<'_, Option<u64>> {
        Box::pin(async {
            self.before(Call::Space).await?;
            self.below().free_bytes().await
        })
    }

    fn keep_reserve(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.before(Call::Space).await?;
            self.below().keep_reserve().await
        })
    }

    fn use_reserve(&self) -> Answer<'_, bool> {
        Box::pin(async {
            self.before(Call::Space).await?;
            self.below().use_reserve().await
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.before(Call::Space).await?;
            self.below().probe().await
        })
    }

    fn delete<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, ()> {
        Box::pin(async move {
            self.before(Call::Delete(name)).await?;
            self.below().delete(name).await
        })
    }

    fn retain<'a>(&'a self, name: &'a ObjectName, until: DateTime<Utc>) -> Answer<'a, ()> {
        Box::pin(async move {
            self.before(Call::Retain(name)).await?;
            self.below().retain(name, until).await
        })
    }

    fn remove_leftovers(&self, age: Duration) -> Answer<'_, usize> {
        Box::pin(async move {
            self.before(Call::RemoveLeftovers).await?;
            self.below().remove_leftovers(age).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::repository::storage::answer;
    use crate::repository::{BlockingStorage, DirectoryStorage};

    #[derive(Debug)]
    struct Counting<S>(S, AtomicUsize);

    impl<S: Storage> StorageLayer for Counting<S> {
        fn below(&self) -> &dyn Storage {
            &self.0
        }

        fn before<'a>(&'a self, _: Call<'a>) -> Answer<'a, ()> {
            answer(|| {
                self.1.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        }
    }

    #[test]
    fn layers_lie_on_one_another() {
        let directory = tempfile::tempdir().unwrap();
        let storage = DirectoryStorage::open(directory.path()).unwrap();
        let layers = Arc::new(Counting(
            Counting(storage, AtomicUsize::new(0)),
            AtomicUsize::new(0),
        ));
        let blocking = BlockingStorage::new(Arc::clone(&layers) as Arc<dyn Storage>);
        let name = ObjectName::new("a/b").unwrap();
        assert_eq!(blocking.put(&name, "x".into()).unwrap(), Put::Created);
        assert_eq!(blocking.put(&name, "x".into()).unwrap(), Put::Same);
        assert_eq!(blocking.put(&name, "y".into()).unwrap(), Put::Different);
        assert_eq!(blocking.get(&name, 1).unwrap(), "x");
        assert_eq!(layers.1.load(Ordering::Relaxed), 4);
        assert_eq!(layers.0.1.load(Ordering::Relaxed), 4);
    }
}
