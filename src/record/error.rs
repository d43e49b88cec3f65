//! What can be wrong with the bytes of a batch.

use super::Offset;

/// Bytes that are not what Kafka writes. Never transient: the same bytes will not read better.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer bytes than a batch has at least, or than it says it has.
    #[error("record batch is cut off: {found} of {expected} bytes")]
    Truncated {
        /// Bytes that the batch must have.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// A message format from before Kafka 0.11.
    #[error(
        "the log holds messages of format v{magic} at offset {offset}, which no Kafka since 0.11 writes: let a consumer and \
         a producer copy the topic, or wait until retention has deleted them"
    )]
    OldMessageFormat {
        /// 0 or 1.
        magic: u8,
        /// The offset of the first such message.
        offset: Offset,
    },
    /// A header that no broker would write.
    #[error("record batch at offset {offset} has an impossible header: {detail}")]
    ImpossibleHeader {
        /// What it says its base offset is.
        offset: Offset,
        /// Which field is impossible, and why.
        detail: &'static str,
    },
    /// The bytes have changed since their producer wrote them.
    #[error(
        "record batch at offset {offset} is damaged: its CRC32C is {found:08x}, its producer computed {expected:08x}"
    )]
    WrongCrc {
        /// The batch's base offset.
        offset: Offset,
        /// What the header says.
        expected: u32,
        /// What the bytes have.
        found: u32,
    },
    /// Records that cannot be read.
    #[error("record in the batch at offset {offset} is malformed: {detail}")]
    MalformedRecord {
        /// The batch's base offset.
        offset: Offset,
        /// Which part of the record does not fit.
        detail: &'static str,
    },
    /// A codec id that no Kafka knows.
    #[error("unknown compression codec {0}")]
    UnknownCodec(u8),
    /// Bytes that do not decompress.
    #[error("{codec} data does not decompress: {detail}")]
    Undecodable {
        /// The codec that the batch names.
        codec: super::Compression,
        /// What the codec says.
        detail: String,
    },
    /// More bytes would come out of a decompression than the caller is ready to hold.
    #[error("{codec} data decompresses to more than {limit} bytes")]
    TooLarge {
        /// The codec that the batch names.
        codec: super::Compression,
        /// The most that was allowed.
        limit: usize,
    },
    /// A batch that would not fit a batch's own fields.
    #[error("a record batch cannot hold this much")]
    Overflow,
}
