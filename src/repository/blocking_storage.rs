//! The one bridge from the repository's code, which blocks, to storages, which are asynchronous.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;

use super::storage::{ObjectInfo, ObjectWriter, Page, Put, Storage};
use super::{ObjectName, RepositoryError};

/// A storage whose calls block. Clones are the same storage.
#[derive(Debug, Clone)]
pub struct BlockingStorage(Arc<dyn Storage>);

/// Wakes the thread that waits.
struct Waiting(Thread);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until the future is ready.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Waiting(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            // Returns at once when it was woken since.
            Poll::Pending => thread::park(),
        }
    }
}

/// All objects of a listing of `place`, whose pages `list` gives from behind a name on.
fn all_pages(
    place: &str,
    mut list: impl FnMut(Option<&ObjectName>) -> Result<Page, RepositoryError>,
) -> Result<Vec<ObjectInfo>, RepositoryError> {
    let mut objects = Vec::new();
    let mut after: Option<ObjectName> = None;
    loop {
        let page = list(after.as_ref())?;
        objects.extend(page.objects);
        if page.next.is_none() {
            return Ok(objects);
        }
        if page.next <= after {
            return Err(RepositoryError::Io {
                action: "list",
                path: place.to_owned(),
                source: io::Error::other("the listing does not go on"),
            });
        }
        after = page.next;
    }
}

impl BlockingStorage {
    /// Of this storage.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self(storage)
    }

    /// See [`Storage::location`].
    pub fn location(&self) -> String {
        self.0.location()
    }

    /// See [`Storage::is_empty`].
    pub fn is_empty(&self) -> Result<bool, RepositoryError> {
        wait(self.0.is_empty())
    }

    /// See [`Storage::put`].
    pub fn put(&self, name: &ObjectName, content: Bytes) -> Result<Put, RepositoryError> {
        wait(self.0.put(name, content))
    }

    /// [`Self::put`] under a name that only its writer knows: taken, it is an error.
    pub fn put_new(
        &self,
        name: &ObjectName,
        content: impl Into<Bytes>,
    ) -> Result<(), RepositoryError> {
        self.put(name, content.into())?
            .created(name, self.location())
    }

    /// See [`Storage::create`].
    pub fn create(&self, name: &ObjectName) -> Result<BlockingWriter, RepositoryError> {
        wait(self.0.create(name)).map(BlockingWriter)
    }

    /// See [`Storage::get`].
    pub fn get(&self, name: &ObjectName, limit: u64) -> Result<Bytes, RepositoryError> {
        wait(self.0.get(name, limit))
    }

    /// See [`Storage::get_range`].
    pub fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
    ) -> Result<Bytes, RepositoryError> {
        wait(self.0.get_range(name, range))
    }

    /// See [`Storage::sync`].
    pub fn sync(&self, directory: &str) -> Result<(), RepositoryError> {
        wait(self.0.sync(directory))
    }

    /// See [`Storage::prefetch`].
    pub fn prefetch(&self, name: &ObjectName, range: Range<u64>) {
        self.0.prefetch(name, range);
    }

    /// See [`Storage::size`].
    pub fn size(&self, name: &ObjectName) -> Result<u64, RepositoryError> {
        wait(self.0.size(name))
    }

    /// All pages of [`Storage::list`].
    pub fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, RepositoryError> {
        let place = format!("{}/{prefix}", self.location());
        all_pages(&place, |after| wait(self.0.list(prefix, after)))
    }

    /// See [`Storage::free_bytes`].
    pub fn free_bytes(&self) -> Result<Option<u64>, RepositoryError> {
        wait(self.0.free_bytes())
    }

    /// See [`Storage::keep_reserve`].
    pub fn keep_reserve(&self) -> Result<(), RepositoryError> {
        wait(self.0.keep_reserve())
    }

    /// See [`Storage::use_reserve`].
    pub fn use_reserve(&self) -> Result<bool, RepositoryError> {
        wait(self.0.use_reserve())
    }

    /// See [`Storage::probe`].
    pub fn probe(&self) -> Result<(), RepositoryError> {
        wait(self.0.probe())
    }

    /// See [`Storage::delete`].
    pub fn delete(&self, name: &ObjectName) -> Result<(), RepositoryError> {
        wait(self.0.delete(name))
    }

    /// See [`Storage::remove_leftovers`].
    pub fn remove_leftovers(&self, age: Duration) -> Result<usize, RepositoryError> {
        wait(self.0.remove_leftovers(age))
    }
}

/// An [`ObjectWriter`] whose calls block.
pub struct BlockingWriter(Box<dyn ObjectWriter>);

impl BlockingWriter {
    /// See [`ObjectWriter::write`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RepositoryError> {
        wait(self.0.write(bytes))
    }

    /// See [`ObjectWriter::finish`].
    pub fn finish(self) -> Result<u64, RepositoryError> {
        wait(self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    fn page(names: &[&str], next: Option<&str>) -> Page {
        let object = |text: &&str| ObjectInfo {
            name: name(text),
            size: 1,
        };
        Page {
            objects: names.iter().map(object).collect(),
            next: next.map(name),
        }
    }

    fn listed(pages: Vec<Page>) -> Result<usize, RepositoryError> {
        let mut pages = pages.into_iter();
        all_pages("here", |_| Ok(pages.next().unwrap())).map(|objects| objects.len())
    }

    #[test]
    fn a_listing_ends_with_its_last_page_and_not_with_an_empty_one() {
        let empty = page(&[], Some("b"));
        let pages = vec![page(&["a"], Some("a")), empty, page(&["c"], None)];
        assert_eq!(listed(pages).unwrap(), 2);
    }

    #[test]
    fn a_listing_that_does_not_go_on_is_an_error() {
        let again = page(&["a"], Some("a"));
        let error = listed(vec![again.clone(), again]).unwrap_err();
        assert!(error.to_string().contains("does not go on"), "{error}");
    }

    #[test]
    fn a_future_that_is_woken_by_another_thread_is_waited_for() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            sender.send(7).unwrap();
        });
        assert_eq!(wait(receiver).unwrap(), 7);
        other.join().unwrap();
    }
}
