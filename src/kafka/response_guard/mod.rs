//! A guard before decoding: whether the counts that an answer claims can be true.
//!
//! `kafka-protocol` 0.18 believes them. `types::Array` and `types::CompactArray` (`protocol/types.rs`, lines 988 and 1096)
//! call `Vec::with_capacity(n)` with the `n` from the wire, before a single element is read: one wrong count of 2³¹
//! elements of 100 to 250 bytes ends the process. Neither can a `Buf` of ours stand in between, since the count's reads
//! look like those of any other number, nor would a bound by the bytes that remain do: 250 times a fetched frame is too much.
//! (Texts and bytes are cut from the frame by `try_get_bytes`, which checks.) So each answer that we decode has its shape
//! written down in `answers`, and a walk over the bytes proves every count before the crate sees them: an array of `n`
//! elements is there with all its elements. What decoding takes is then the size of what was really sent.

mod answers;
mod definition;
#[cfg(test)]
mod tests;
mod walk;

use kafka_protocol::protocol::{Decodable, HeaderVersion};

use definition::Shape;

/// An answer whose shape is known.
pub(super) trait GuardedResponse: Decodable + HeaderVersion {
    /// Its shape, in all versions.
    const SHAPE: Shape;

    /// Whether `bytes` have this shape in this version, or where they have not.
    fn check(bytes: &[u8], version: i16) -> Result<(), String> {
        walk::check(&Self::SHAPE, bytes, version).map(drop)
    }
}
