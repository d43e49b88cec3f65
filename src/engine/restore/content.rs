//! What one target partition gets from a restore, as one digest: of what is sent, and of what is read back.

use sha2::{Digest, Sha256 as Hasher};

use crate::engine::extents::OPEN_LIMIT;
use crate::record::{BatchRef, HEADER_LEN, RecordError, RecordRef};
use crate::repository::Sha256;

/// What two digests agree on when they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Judged {
    /// The batches as they are, save what the target's broker gives them: offset, leader epoch, and the largest
    /// timestamp, which it corrects where it is wrong.
    #[default]
    Batches,
    /// The records, since the target's brokers compress batches anew or give them other timestamps.
    Records {
        /// Whether timestamps are those that were sent.
        timestamps: bool,
    },
}

/// A digest of batches, in their order. Producer and sequence number count: they tell a batch of this restore from all others.
#[derive(Clone)]
pub(super) struct Content {
    judged: Judged,
    hasher: Hasher,
    records: u64,
}

/// From a batch's attributes to its largest timestamp, and from its producer id to its count of records.
const DIFFERENT_FOR_BATCHES: [std::ops::Range<usize>; 2] = [21..35, 43..HEADER_LEN];
/// From a batch's producer id to its count of records.
const PRODUCER_TO_COUNT: std::ops::Range<usize> = 43..HEADER_LEN;

impl Content {
    /// Of nothing yet.
    pub fn new(judged: Judged) -> Self {
        Self {
            judged,
            hasher: Hasher::new(),
            records: 0,
        }
    }

    /// Adds a batch, whose checksum is known to be right.
    pub fn add(&mut self, header: &[u8; HEADER_LEN], payload: &[u8]) -> Result<(), RecordError> {
        match self.judged {
            Judged::Batches => {
                for range in DIFFERENT_FOR_BATCHES {
                    self.hasher.update(header.get(range).unwrap_or_default());
                }
                self.add_bytes(Some(payload));
                let count = header.last_chunk::<4>().copied().unwrap_or_default();
                self.records += u64::from(u32::from_be_bytes(count));
            }
            Judged::Records { timestamps } => {
                let whole = [header, payload].concat();
                let (batch, _) = BatchRef::parse(&whole)?;
                self.hasher
                    .update(header.get(PRODUCER_TO_COUNT).unwrap_or_default());
                for record in batch.open(OPEN_LIMIT)?.records() {
                    self.add_record(&record?, timestamps);
                }
            }
        }
        Ok(())
    }

    /// How many records went into it.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Of all that was added so far.
    pub fn digest(&self) -> Sha256 {
        Sha256(self.hasher.clone().finalize().into())
    }

    fn add_record(&mut self, record: &RecordRef<'_>, timestamps: bool) {
        if timestamps {
            self.hasher.update(record.timestamp.0.to_be_bytes());
        }
        self.add_bytes(record.key);
        self.add_bytes(record.value);
        self.hasher
            .update((record.headers.len() as u64).to_be_bytes());
        for (key, value) in record.headers.iter() {
            self.add_bytes(Some(key));
            self.add_bytes(value);
        }
        self.records += 1;
    }

    /// With the length in front, so that no two sequences of texts look alike; null is not the same as empty.
    fn add_bytes(&mut self, bytes: Option<&[u8]>) {
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        self.hasher.update(length.to_be_bytes());
        self.hasher.update(bytes.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        BatchBuilder, Compression, Headers, ProducerId, ProducerStamp, Timestamp, restamp,
    };

    struct Sent {
        header: [u8; HEADER_LEN],
        payload: Vec<u8>,
    }

    fn sent(compression: Compression, value: &[u8], timestamp: i64, sequence: i32) -> Sent {
        let mut builder = BatchBuilder::new(compression);
        builder.push_parts(
            Timestamp(timestamp),
            Some(b"k"),
            Some(value),
            Headers::default(),
        );
        let bytes = builder.finish().unwrap().unwrap();
        let (batch, _) = BatchRef::parse(&bytes).unwrap();
        let stamp = ProducerStamp {
            producer_id: ProducerId(7),
            producer_epoch: 0,
            base_sequence: sequence,
        };
        Sent {
            header: restamp(&batch, &stamp).unwrap(),
            payload: batch.payload().to_vec(),
        }
    }

    fn digest(judged: Judged, batches: &[Sent]) -> Sha256 {
        let mut content = Content::new(judged);
        for batch in batches {
            content.add(&batch.header, &batch.payload).unwrap();
        }
        assert_eq!(content.records(), batches.len() as u64);
        content.digest()
    }

    #[test]
    fn what_a_broker_gives_a_batch_makes_no_difference() {
        let before = sent(Compression::None, b"v", 5, 0);
        let mut after = sent(Compression::None, b"v", 5, 0);
        after.header[..8].copy_from_slice(&99_i64.to_be_bytes());
        after.header[12..16].copy_from_slice(&3_i32.to_be_bytes());
        after.header[35..43].copy_from_slice(&6_i64.to_be_bytes());
        assert_eq!(
            digest(Judged::Batches, &[before]),
            digest(Judged::Batches, &[after])
        );
    }

    #[test]
    fn another_value_producer_order_or_compression_makes_another_digest() {
        let of = |batches: &[Sent]| digest(Judged::Batches, batches);
        let plain = of(&[sent(Compression::None, b"v", 5, 0)]);
        assert_ne!(plain, of(&[sent(Compression::None, b"w", 5, 0)]));
        assert_ne!(plain, of(&[sent(Compression::None, b"v", 5, 1)]));
        assert_ne!(plain, of(&[sent(Compression::Gzip, b"v", 5, 0)]));
        let two = |first, second| {
            of(&[
                sent(Compression::None, first, 5, 0),
                sent(Compression::None, second, 5, 0),
            ])
        };
        assert_ne!(two(b"v", b"w"), two(b"w", b"v"));
    }

    #[test]
    fn records_are_the_same_under_another_compression_and_where_asked_for_another_time() {
        let timed = Judged::Records { timestamps: true };
        let plain = || sent(Compression::None, b"v", 5, 0);
        assert_eq!(
            digest(timed, &[plain()]),
            digest(timed, &[sent(Compression::Zstd, b"v", 5, 0)])
        );
        let later = || sent(Compression::None, b"v", 6, 0);
        assert_ne!(digest(timed, &[plain()]), digest(timed, &[later()]));
        let untimed = Judged::Records { timestamps: false };
        assert_eq!(digest(untimed, &[plain()]), digest(untimed, &[later()]));
        assert_ne!(
            digest(untimed, &[plain()]),
            digest(untimed, &[sent(Compression::None, b"w", 5, 0)])
        );
    }
}
