//! Kafka's record batches (message format v2): zero-copy views, the five codecs, re-stamping for Produce, and
//! rebuilding. Pure: nothing here knows networks or files.
//!
//! A batch is 61 bytes of header and a payload of records, compressed as a whole. Its CRC32C covers everything
//! from the attributes on; base offset and leader epoch lie outside, so that brokers can assign them
//! (`DefaultRecordBatch`).

mod batch;
mod codec;
mod compression;
mod coordinates;
mod crc32c;
mod error;
mod lz4;
mod murmur2;
mod opening;
mod rebuild;
mod records;
mod snappy;
mod stamp;
mod varint;

#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod property_tests;

pub use batch::{Attributes, BatchRef, Batches, ControlType, HEADER_LEN, TimestampType, batches};
pub use codec::{compress, decompress};
pub use compression::Compression;
pub use coordinates::{
    LeaderEpoch, Offset, PartitionId, ProducerId, Timestamp, TopicId, is_topic_name,
};
pub use crc32c::{crc32c, crc32c_append};
pub use error::RecordError;
pub use murmur2::{murmur2, partition_for_key};
pub use rebuild::{BatchBuilder, Numbering, Rebuild, rebuild};
pub use records::{Headers, OpenBatch, RecordRef, Records};
pub use stamp::{ProducerStamp, next_sequence, restamp, restamp_in_transaction, stamp_of_header};
