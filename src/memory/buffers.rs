//! Receive buffers that are used again: fresh memory costs a page fault for every 4 KiB.

use std::collections::VecDeque;

/// Smaller buffers are not worth keeping.
const WORTH_KEEPING: usize = 256 << 10;
/// Bytes that are kept for reuse, at most. They count beside the budget.
const KEPT_BYTES: usize = 16 << 20;

/// Buffers that nobody uses at present, the latest last.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// An empty buffer with a capacity of at least `length` and at most `most` bytes, unless `length` is more.
    pub fn take(&mut self, length: usize, most: usize) -> Vec<u8> {
        if length < WORTH_KEEPING {
            return Vec::with_capacity(length);
        }
        let fits = |buffer: &Vec<u8>| (length..=most.max(length)).contains(&buffer.capacity());
        match self.kept.iter().rposition(fits) {
            Some(at) => {
                let buffer = self.kept.remove(at).unwrap_or_default();
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(most.max(length)),
        }
    }

    /// Takes a buffer back that nobody views any more.
    pub fn keep(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if !(WORTH_KEEPING..=KEPT_BYTES).contains(&capacity) {
            return;
        }
        buffer.clear();
        self.bytes += capacity;
        self.kept.push_back(buffer);
        while self.bytes > KEPT_BYTES {
            self.bytes -= self.kept.pop_front().map_or(0, |oldest| oldest.capacity());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_used_again_where_it_fits() {
        let mut buffers = Buffers::default();
        buffers.keep(Vec::with_capacity(2 << 20));
        for (length, most, is_used_again) in [
            (3 << 20, 8 << 20, false),
            (1 << 19, 1 << 20, false),
            (1 << 20, 4 << 20, true),
            (1 << 20, 4 << 20, false),
        ] {
            let before = buffers.kept.len();
            let buffer = buffers.take(length, most);
            assert!(buffer.capacity() >= length && buffer.capacity() <= most.max(length));
            assert_eq!(buffers.kept.len() < before, is_used_again, "{length}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut buffers = Buffers::default();
        for size in [1 << 20, 3 << 20, 8 << 20, 15 << 20, 17 << 20, 1 << 10] {
            buffers.keep(Vec::with_capacity(size));
            let kept: usize = buffers.kept.iter().map(Vec::capacity).sum();
            assert_eq!(kept, buffers.bytes);
            assert!(kept <= KEPT_BYTES);
        }
    }
}
