//! Recycled memory for bulk reading and writing.
//!
//! Fresh memory costs a page fault for every 4 KiB; at a gigabyte a second that is as dear as the checksums.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::io::Errno;

/// What O_DIRECT wants addresses, lengths and offsets to be multiples of, on every device in use.
pub(super) const ALIGNMENT: usize = 4096;
/// Bytes in a write buffer.
pub(super) const WRITE_BUFFER: usize = 4 << 20;
/// Write buffers that are kept for later packs.
const KEPT_WRITE_BUFFERS: usize = 12;
/// Read buffers that are kept, and the largest that is.
const KEPT_READ_BUFFERS: usize = 8;
const KEPT_READ_SIZE: usize = 16 << 20;
/// Shorter reads get memory of their own: they are kept longer, and should not hold a large buffer.
const POOLED_READ: usize = 256 << 10;

/// Memory for one write, aligned for O_DIRECT.
pub(super) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    fn new() -> Self {
        let memory = vec![0; WRITE_BUFFER + ALIGNMENT];
        // `align_offset` may, by its contract, give up: O_DIRECT then refuses and the writer goes on without it.
        let offset = memory.as_ptr().align_offset(ALIGNMENT);
        Self {
            memory,
            start: if offset < ALIGNMENT { offset } else { 0 },
            length: 0,
        }
    }

    /// No memory: what is left in a place that a buffer was taken from.
    pub(super) fn none() -> Self {
        Self {
            memory: Vec::new(),
            start: 0,
            length: 0,
        }
    }

    /// Takes as many of `bytes` as there is room for; returns the others.
    pub(super) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(WRITE_BUFFER - self.length));
        let begin = self.start + self.length;
        if let Some(free) = self.memory.get_mut(begin..begin + taken.len()) {
            free.copy_from_slice(taken);
        }
        self.length += taken.len();
        rest
    }

    /// Empties it, to be filled again.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_full(&self) -> bool {
        self.length == WRITE_BUFFER
    }

    /// The content, followed by zeros up to a multiple of [`ALIGNMENT`].
    pub(super) fn padded(&mut self) -> &[u8] {
        let end = self.start + self.length;
        let padded = self.start + self.length.next_multiple_of(ALIGNMENT);
        self.memory.get_mut(end..padded).unwrap_or_default().fill(0);
        self.memory.get(self.start..padded).unwrap_or_default()
    }
}

/// Write buffers, handed from pack to pack.
#[derive(Default)]
pub(super) struct WritePool(Mutex<Vec<AlignedBuffer>>);

impl WritePool {
    pub(super) fn take(&self) -> AlignedBuffer {
        let recycled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        recycled.unwrap_or_else(AlignedBuffer::new)
    }

    pub(super) fn give_back(&self, mut buffer: AlignedBuffer) {
        buffer.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_WRITE_BUFFERS && !buffer.memory.is_empty() {
            kept.push(buffer);
        }
    }
}

impl fmt::Debug for WritePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WritePool")
    }
}

/// Read buffers, which come back when the last [`Bytes`] that shows a part of them is dropped.
#[derive(Default)]
pub(super) struct ReadPool(Arc<Mutex<Vec<Vec<u8>>>>);

struct Lent {
    /// As long as it ever was, so that it is zeroed only once.
    memory: Vec<u8>,
    length: usize,
    pool: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_READ_BUFFERS && self.memory.len() <= KEPT_READ_SIZE {
            kept.push(std::mem::take(&mut self.memory));
        }
    }
}

impl ReadPool {
    /// `length` bytes as `read` wrote them.
    pub(super) fn fill(
        &self,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
    ) -> Result<Bytes, Errno> {
        if length < POOLED_READ {
            let mut memory = vec![0; length];
            read(&mut memory)?;
            return Ok(Bytes::from(memory));
        }
        let recycled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut lent = Lent {
            memory: recycled.unwrap_or_default(),
            length,
            pool: Arc::clone(&self.0),
        };
        if lent.memory.len() < length {
            // Not grown: nothing of the old content is worth copying.
            lent.memory = vec![0; length];
        }
        read(lent.memory.get_mut(..length).unwrap_or_default())?;
        Ok(Bytes::from_owner(lent))
    }
}

impl fmt::Debug for ReadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadPool")
    }
}
