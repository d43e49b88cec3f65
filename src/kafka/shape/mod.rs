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
#[cfg(test)]
mod tests;
mod walk;

use kafka_protocol::protocol::{Decodable, HeaderVersion};

/// An answer whose shape is known.
pub(super) trait Shaped: Decodable + HeaderVersion {
    /// Its shape, in all versions.
    const SHAPE: Shape;

    /// Whether `bytes` have this shape in this version, or where they have not.
    fn check(bytes: &[u8], version: i16) -> Result<(), String> {
        walk::check(&Self::SHAPE, bytes, version).map(drop)
    }
}

/// Kafka's message definitions (`clients/src/main/resources/common/message/*.json`), as far as lengths go.
pub(super) struct Shape {
    /// From this version on lengths are varints, and structs end in tagged fields (KIP-482).
    flexible: i16,
    fields: &'static [Field],
}

/// A field of a struct.
struct Field {
    name: &'static str,
    kind: Kind,
    since: i16,
    until: i16,
    tag: Option<u32>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, perhaps null.
    Text,
    /// Bytes, perhaps null.
    Bytes,
    /// A struct.
    Struct(&'static [Field]),
    /// An array, perhaps null.
    Array(&'static Kind),
}

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            since: 0,
            until: i16::MAX,
            tag: None,
        }
    }

    /// It is there from this version on.
    const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    /// It is there up to this version.
    const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    /// It stands among the tagged fields.
    const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}
