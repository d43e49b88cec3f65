//! The codecs that batches are compressed with.

use crate::words::words;

words! {
    /// How a batch's payload is compressed (`CompressionType`).
    pub enum Compression {
        /// Not compressed.
        None = "none",
        /// gzip (RFC 1952).
        Gzip = "gzip",
        /// Snappy in xerial's framing.
        Snappy = "snappy",
        /// LZ4 frames.
        Lz4 = "lz4",
        /// Zstandard (KIP-110).
        Zstd = "zstd",
    }
}

impl Compression {
    /// The lowest three bits of a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }
}
