//! Large objects: filled on one thread, written by another, past the system's page cache.
//!
//! O_DIRECT costs a twentieth of the CPU time that buffered writes cost. Where the file system refuses it, writes are
//! buffered, and sent on their way early so that no burst is left for the end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{Advice, OFlags};
use rustix::io::Errno;

use super::buffers::AlignedBuffer;
use super::temporary::{Temporary, write_all_at};
use crate::repository::ObjectName;
use crate::repository::RepositoryError;
use crate::repository::storage::{Answer, ObjectWriter, answer};

/// Buffers of one writer: one being filled, one being written, one in between.
const BUFFERS: usize = 3;
/// Buffered writes are synced whenever this much has been written.
const EARLY_SYNC: u64 = 32 << 20;

/// The writer behind [`super::DirectoryStorage`]'s `create`.
pub(super) struct DirectoryWriter {
    name: ObjectName,
    length: u64,
    filling: AlignedBuffer,
    taken: usize,
    empty: Receiver<AlignedBuffer>,
    // Dropped before the thread is joined: its end is what ends the thread.
    full: Option<SyncSender<AlignedBuffer>>,
    thread: Option<JoinHandle<Result<(), Errno>>>,
    // Last: removed from the disk only when the thread no longer writes to it.
    temporary: Option<Temporary>,
    pool: Arc<super::Root>,
}

impl DirectoryWriter {
    pub(super) fn begin(temporary: Temporary, name: ObjectName) -> Result<Self, RepositoryError> {
        let (full, to_write) = sync_channel(BUFFERS);
        let (written, empty) = channel();
        let output = Output::new(Arc::clone(&temporary.file));
        let thread = std::thread::Builder::new()
            .name("pack-writer".to_owned())
            .spawn(move || output.run(&to_write, &written))
            .map_err(|source| RepositoryError::Io {
                action: "start a thread to write",
                path: name.to_string(),
                source,
            })?;
        let pool = Arc::clone(&temporary.root);
        Ok(Self {
            name,
            length: 0,
            filling: pool.write_buffers.take(),
            taken: 1,
            empty,
            full: Some(full),
            thread: Some(thread),
            temporary: Some(temporary),
            pool,
        })
    }

    /// Sends the filled buffer to the thread and takes an empty one.
    fn turn_over(&mut self) -> Result<(), RepositoryError> {
        let next = match self.empty.try_recv() {
            Ok(recycled) => Some(recycled),
            Err(_) if self.taken < BUFFERS => {
                self.taken += 1;
                Some(self.pool.write_buffers.take())
            }
            Err(_) => self.empty.recv().ok(),
        };
        let (Some(next), Some(full)) = (next, &self.full) else {
            return Err(self.failure());
        };
        let filled = std::mem::replace(&mut self.filling, next);
        full.send(filled).map_err(|_| self.failure())
    }

    /// Waits for the thread, which has met an error or has all it needs.
    fn join(&mut self) -> Result<(), Errno> {
        self.full = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            // A second call after a failure, or a panic: either way, what is on the disk is not known.
            Some(Err(_)) | None => Err(Errno::IO),
        }
    }

    fn failure(&mut self) -> RepositoryError {
        let errno = self.join().err().unwrap_or(Errno::IO);
        match &self.temporary {
            Some(temporary) => temporary.error("write", errno),
            None => RepositoryError::system("write", self.name.as_str(), errno),
        }
    }
}

impl ObjectWriter for DirectoryWriter {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> Answer<'a, ()> {
        answer(|| self.append(bytes))
    }

    fn finish(mut self: Box<Self>) -> Answer<'static, u64> {
        answer(move || self.publish())
    }
}

impl DirectoryWriter {
    fn append(&mut self, mut bytes: &[u8]) -> Result<(), RepositoryError> {
        loop {
            let rest = self.filling.fill(bytes);
            self.length += (bytes.len() - rest.len()) as u64;
            bytes = rest;
            if self.filling.is_full() {
                self.turn_over()?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    fn publish(&mut self) -> Result<u64, RepositoryError> {
        if self.filling.len() > 0 {
            let last = std::mem::replace(&mut self.filling, AlignedBuffer::none());
            let sent = self
                .full
                .as_ref()
                .is_some_and(|full| full.send(last).is_ok());
            if !sent {
                return Err(self.failure());
            }
        }
        let joined = self.join();
        let Some(temporary) = self.temporary.take() else {
            return Err(self.failure());
        };
        joined.map_err(|errno| temporary.error("write", errno))?;
        temporary.publish(&self.name)?;
        Ok(self.length)
    }
}

impl Drop for DirectoryWriter {
    fn drop(&mut self) {
        // An unfinished object is thrown away, whatever the thread says.
        self.join().ok();
        while let Ok(buffer) = self.empty.try_recv() {
            self.pool.write_buffers.give_back(buffer);
        }
        let filling = std::mem::replace(&mut self.filling, AlignedBuffer::none());
        self.pool.write_buffers.give_back(filling);
    }
}

/// What the writing thread owns: the file, and how far it is written and synced.
struct Output {
    file: Arc<OwnedFd>,
    direct: bool,
    offset: u64,
    synced: u64,
}

impl Output {
    fn new(file: Arc<OwnedFd>) -> Self {
        let direct = rustix::fs::fcntl_getfl(&*file)
            .and_then(|flags| rustix::fs::fcntl_setfl(&*file, flags | OFlags::DIRECT))
            .is_ok();
        Self {
            file,
            direct,
            offset: 0,
            synced: 0,
        }
    }

    fn run(
        mut self,
        to_write: &Receiver<AlignedBuffer>,
        written: &Sender<AlignedBuffer>,
    ) -> Result<(), Errno> {
        for mut buffer in to_write {
            self.write(&mut buffer)?;
            buffer.clear();
            // The other side may be gone already; the buffer then goes with it.
            written.send(buffer).ok();
        }
        Ok(())
    }

    fn write(&mut self, buffer: &mut AlignedBuffer) -> Result<(), Errno> {
        let length = buffer.len() as u64;
        let padded = buffer.padded();
        match write_all_at(&self.file, padded, self.offset) {
            // Some file systems take the flag and refuse the write.
            Err(Errno::INVAL) if self.direct => {
                self.direct = false;
                let flags = rustix::fs::fcntl_getfl(&*self.file)?;
                rustix::fs::fcntl_setfl(&*self.file, flags - OFlags::DIRECT)?;
                write_all_at(&self.file, padded, self.offset)?;
            }
            result => result?,
        }
        self.offset += length;
        if padded.len() as u64 != length {
            rustix::fs::ftruncate(&*self.file, self.offset)?;
        }
        if !self.direct && self.offset - self.synced >= EARLY_SYNC {
            self.sync_early()?;
        }
        Ok(())
    }

    fn sync_early(&mut self) -> Result<(), Errno> {
        rustix::fs::fdatasync(&*self.file)?;
        let length = std::num::NonZeroU64::new(self.offset - self.synced);
        // Advice only.
        rustix::fs::fadvise(&*self.file, self.synced, length, Advice::DontNeed).ok();
        self.synced = self.offset;
        Ok(())
    }
}
