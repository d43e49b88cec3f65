//! Fixed-size little-endian structures, written and read front to back.

/// Writes integers into an array of `N` bytes; what is not written stays zero.
pub(super) struct Put<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Put<N> {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; N],
            at: 0,
        }
    }

    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        if let Some(place) = self.bytes.get_mut(self.at..self.at + value.len()) {
            place.copy_from_slice(value);
        }
        self.at += value.len();
        self
    }

    pub(super) fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn i32(self, value: i32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn i64(self, value: i64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Leaves so many bytes zero.
    pub(super) fn skip(mut self, count: usize) -> Self {
        self.at += count;
        self
    }

    pub(super) fn finish(self) -> [u8; N] {
        self.bytes
    }

    /// Puts the CRC32 of all bytes before the last four into the last four.
    pub(super) fn finish_with_crc32(mut self) -> [u8; N] {
        if let Some((content, sum)) = self.bytes.split_last_chunk_mut::<4>() {
            *sum = crc32fast::hash(content).to_le_bytes();
        }
        self.bytes
    }
}

/// Whether the last four bytes are the CRC32 of those before.
pub(super) fn crc32_holds(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<4>()
        .is_some_and(|(content, sum)| crc32fast::hash(content) == u32::from_le_bytes(*sum))
}

/// Reads what [`Put`] wrote. Reading past the end gives zeros: callers hold arrays of the right size.
pub(super) struct Take<'a> {
    rest: &'a [u8],
}

impl<'a> Take<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((value, rest)) => {
                self.rest = rest;
                *value
            }
            None => [0; N],
        }
    }

    pub(super) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(super) fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.array())
    }

    pub(super) fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }
}
