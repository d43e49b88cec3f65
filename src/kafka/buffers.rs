//! Receive buffers: large, and used again when the last view of them is dropped.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Keeps a few large buffers; small ones are not worth keeping.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

const KEPT: usize = 4;
const WORTH_KEEPING: usize = 256 << 10;

impl Buffers {
    /// So much memory is taken for what is only promised.
    pub const AT_ONCE: usize = 1 << 20;

    /// An empty buffer; with room for `length` bytes if one is kept, else for the first of them.
    pub fn take(&self, length: usize) -> Vec<u8> {
        if length >= WORTH_KEEPING {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = kept.iter().position(|buffer| buffer.capacity() >= length) {
                return kept.swap_remove(at);
            }
            kept.pop();
        }
        Vec::with_capacity(length.min(Self::AT_ONCE))
    }

    /// The bytes of a filled buffer, which comes back when nobody views them any more.
    pub fn share(&self, buffer: Vec<u8>) -> Bytes {
        if buffer.capacity() < WORTH_KEEPING {
            return buffer.into();
        }
        Bytes::from_owner(Lent {
            buffer,
            home: self.clone(),
        })
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_comes_back_when_its_last_view_is_gone() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(1 << 20);
        buffer.resize(1 << 20, 7);
        let address = buffer.as_ptr();
        let view = buffers.share(buffer);
        let part = view.slice(10..20);
        drop(view);
        let other = buffers.take(1 << 20);
        assert_ne!(other.as_ptr(), address);
        assert_eq!(&part[..], [7; 10]);
        drop(part);
        let again = buffers.take(1 << 19);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }
}
