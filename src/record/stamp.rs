//! A stored batch's new header for Produce; the payload stays byte for byte what it was.

use super::batch::{CONTROL, CRC_START, DELETE_HORIZON, TIMESTAMP_TYPE, TRANSACTIONAL};
use super::crc32c::crc32c_replaced;
use super::{BatchRef, HEADER_LEN, ProducerId, RecordError};

/// What an idempotent producer writes into a batch (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The id that the target's cluster gave the producer.
    pub producer_id: ProducerId,
    /// The epoch of that id; brokers refuse older ones.
    pub producer_epoch: i16,
    /// The sequence number of the batch's first record.
    pub base_sequence: i32,
}

impl ProducerStamp {
    /// Of a producer without idempotence.
    pub const NONE: Self = Self {
        producer_id: ProducerId(-1),
        producer_epoch: -1,
        base_sequence: -1,
    };
}

/// The sequence number behind `count` records (`DefaultRecordBatch.incrementSequence`: wraps to 0).
pub fn next_sequence(sequence: i32, count: u32) -> i32 {
    let next = (i64::from(sequence) + i64::from(count)) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).unwrap_or(0)
}

/// The header under which a broker takes `batch` as if a producer had just made it: base offset 0, no leader
/// epoch, neither transactional nor control nor LogAppendTime nor a delete horizon.
///
/// The stored CRC32C is verified.
pub fn restamp(
    batch: &BatchRef<'_>,
    stamp: &ProducerStamp,
) -> Result<[u8; HEADER_LEN], RecordError> {
    restamped(batch, stamp, 0)
}

/// The same for a batch of a transaction.
pub fn restamp_in_transaction(
    batch: &BatchRef<'_>,
    stamp: &ProducerStamp,
) -> Result<[u8; HEADER_LEN], RecordError> {
    restamped(batch, stamp, TRANSACTIONAL)
}

fn restamped(
    batch: &BatchRef<'_>,
    stamp: &ProducerStamp,
    set: i16,
) -> Result<[u8; HEADER_LEN], RecordError> {
    let old = batch.header();
    batch.verify_crc()?;
    let attributes =
        batch.raw_attributes() & !(TIMESTAMP_TYPE | TRANSACTIONAL | CONTROL | DELETE_HORIZON) | set;
    let mut new = old;
    put(&mut new, 0, 0_i64.to_be_bytes());
    put(&mut new, 12, (-1_i32).to_be_bytes());
    put(&mut new, 21, attributes.to_be_bytes());
    put(&mut new, 43, stamp.producer_id.0.to_be_bytes());
    put(&mut new, 51, stamp.producer_epoch.to_be_bytes());
    put(&mut new, 53, stamp.base_sequence.to_be_bytes());
    let covered = |header| <[u8]>::get(header, CRC_START..).unwrap_or_default();
    let crc = crc32c_replaced(batch.crc(), covered(&old), covered(&new), batch.payload());
    put(&mut new, 17, crc.to_be_bytes());
    Ok(new)
}

/// The stamp that a header holds.
pub fn stamp_of_header(header: &[u8; HEADER_LEN]) -> ProducerStamp {
    ProducerStamp {
        producer_id: ProducerId(i64::from_be_bytes(field(header, 43))),
        producer_epoch: i16::from_be_bytes(field(header, 51)),
        base_sequence: i32::from_be_bytes(field(header, 53)),
    }
}

/// Reads a field of a header.
fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let field = header.get(at..).and_then(|rest| rest.first_chunk());
    field.copied().unwrap_or([0; N])
}

/// Writes a field of a header.
pub(super) fn put<const N: usize>(header: &mut [u8; HEADER_LEN], at: usize, field: [u8; N]) {
    if let Some(place) = header.get_mut(at..at + N) {
        place.copy_from_slice(&field);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Compression, Headers, Timestamp};
    use super::*;

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        assert_eq!(next_sequence(5, 10), 15);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn a_stamped_batch_is_whole_and_keeps_its_payload() {
        for codec in Compression::ALL {
            let mut builder = BatchBuilder::new(codec);
            builder.push_parts(Timestamp(5), Some(b"k"), None, Headers::default());
            let bytes = builder.finish().unwrap().unwrap();
            let (batch, _) = BatchRef::parse(&bytes).unwrap();
            let stamp = ProducerStamp {
                producer_id: ProducerId(7),
                producer_epoch: 1,
                base_sequence: 42,
            };
            let header = restamp(&batch, &stamp).unwrap();
            assert_eq!(stamp_of_header(&header), stamp);
            let mut stamped = header.to_vec();
            stamped.extend_from_slice(batch.payload());
            let (stamped, _) = BatchRef::parse(&stamped).unwrap();
            stamped.verify_crc().unwrap();
            assert_eq!(stamped.payload(), batch.payload());
            assert_eq!(
                (stamped.producer_id(), stamped.base_sequence()),
                (ProducerId(7), 42)
            );
        }
    }

    #[test]
    fn a_damaged_batch_is_not_stamped() {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push_parts(
            Timestamp(5),
            Some(b"key"),
            Some(b"value"),
            Headers::default(),
        );
        let mut bytes = builder.finish().unwrap().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let (batch, _) = BatchRef::parse(&bytes).unwrap();
        assert!(matches!(
            restamp(&batch, &ProducerStamp::NONE),
            Err(RecordError::WrongCrc { .. })
        ));
    }
}
