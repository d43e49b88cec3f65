//! A part of the budget that somebody holds.

use std::sync::Arc;

use bytes::Bytes;

use super::budget::{RunMemory, Shared};
use super::waiting::{RunNumber, Slot};

/// Memory that a run may use; given back when it is dropped, or when the last view of the [`Bytes`] made of it is.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    run: RunNumber,
    bytes: u64,
    /// Where it is a batch that the budget has no room for.
    beyond: Option<Slot>,
}

impl Reservation {
    pub(super) fn new(
        shared: Arc<Shared>,
        run: RunNumber,
        bytes: u64,
        beyond: Option<Slot>,
    ) -> Self {
        Self {
            shared,
            run,
            bytes,
            beyond,
        }
    }

    /// How many bytes it covers.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back what lies beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        if bytes < self.bytes && self.beyond.is_none() {
            self.shared.give_back_part(self.run, self.bytes - bytes);
            self.bytes = bytes;
        }
    }

    /// Gives the reservation back and waits for one of `bytes`, which need more: from the budget, or as the one
    /// oversize batch.
    pub async fn exchange(self, bytes: u64) -> Self {
        if bytes <= self.bytes {
            return self;
        }
        let memory = RunMemory::again(&self.shared, self.run);
        drop(self);
        memory.reserve_whole(bytes).await
    }

    /// An empty buffer for `length` bytes, which this reservation must cover. Its capacity is within the reservation.
    pub fn buffer(&self, length: usize) -> Vec<u8> {
        let reserved = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        // Sizes in steps, so that buffers fit again, and those of a quarter more at most.
        let stepped = length.next_multiple_of((length / 4).max(1).next_power_of_two());
        self.shared.take_buffer(length, stepped.min(reserved))
    }

    /// The bytes of a filled buffer, which hold the reservation until their last view is dropped. What was reserved beyond
    /// the buffer's capacity is given back at once.
    pub fn hold(mut self, buffer: Vec<u8>) -> Bytes {
        self.shrink_to(buffer.capacity() as u64);
        Bytes::from_owner(Held {
            buffer,
            reservation: self,
        })
    }

    /// Bytes that lie elsewhere, which hold the reservation, together with others, until the last view of all is dropped.
    pub fn share(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(HeldBytes {
            bytes,
            _reservation: Arc::clone(self),
        })
    }

    /// Bytes that lie elsewhere, which hold the reservation until their last view is dropped.
    pub fn hold_bytes(mut self, bytes: Bytes) -> Bytes {
        self.shrink_to(bytes.len() as u64);
        Bytes::from_owner(HeldBytes {
            bytes,
            _reservation: self,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        match self.beyond {
            Some(slot) => self.shared.free_slot(self.run, slot),
            None => self.shared.give_back(self.run, self.bytes),
        }
    }
}

struct Held {
    buffer: Vec<u8>,
    reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.reservation.shared.keep_buffer(buffer);
    }
}

struct HeldBytes<R> {
    bytes: Bytes,
    _reservation: R,
}

impl<R> AsRef<[u8]> for HeldBytes<R> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
