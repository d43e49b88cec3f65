//! A zero-copy view of one record batch, and iteration over batches that lie one behind the other.

use super::crc32c::crc32c;
use super::{Compression, LeaderEpoch, Offset, ProducerId, RecordError, Timestamp};

/// Bytes of a batch in front of its records (`DefaultRecordBatch.RECORD_BATCH_OVERHEAD`).
pub const HEADER_LEN: usize = 61;
/// Base offset and length: what lies in front of what the length counts.
const LOG_OVERHEAD: usize = 12;
/// From here on the CRC32C covers everything.
pub(super) const CRC_START: usize = 21;

pub(super) const TIMESTAMP_TYPE: i16 = 0x08;
pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;
pub(super) const DELETE_HORIZON: i16 = 0x40;

/// Whose clock a batch's timestamps are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's clock (`CreateTime`).
    CreateTime,
    /// The broker's: then all records have the batch's max timestamp.
    LogAppendTime,
}

/// What the attributes of a batch say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// How the payload is compressed.
    pub compression: Compression,
    /// Whose clock the timestamps are of.
    pub timestamp_type: TimestampType,
    /// Whether it belongs to a transaction.
    pub is_transactional: bool,
    /// Whether it holds markers instead of records.
    pub is_control: bool,
    /// Whether the base timestamp is when the batch's tombstones may go (KIP-534).
    pub has_delete_horizon: bool,
}

/// What a control batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    /// A transaction was aborted.
    Abort,
    /// A transaction was committed.
    Commit,
    /// Something else, such as a KRaft leader change.
    Other(i16),
}

/// A view of one whole batch of format v2, whose header is possible. Its CRC32C is checked by [`BatchRef::verify_crc`].
#[derive(Debug, Clone, Copy)]
pub struct BatchRef<'a> {
    bytes: &'a [u8],
    compression: Compression,
}

impl<'a> BatchRef<'a> {
    /// Views the batch at the front of `bytes`; returns what lies behind it too.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), RecordError> {
        let length = batch_len(bytes)?;
        let (batch, rest) = bytes
            .split_at_checked(length)
            .ok_or(RecordError::Truncated {
                expected: length,
                found: bytes.len(),
            })?;
        let mut view = Self {
            bytes: batch,
            compression: Compression::None,
        };
        view.check_header()?;
        view.compression = Compression::from_attributes(view.raw_attributes())?;
        Ok((view, rest))
    }

    fn check_header(&self) -> Result<(), RecordError> {
        let impossible = |detail| {
            Err(RecordError::ImpossibleHeader {
                offset: self.base_offset(),
                detail,
            })
        };
        let (delta, count) = (self.last_offset_delta(), self.raw_count());
        if self.base_offset().0 < 0 {
            return impossible("a negative base offset");
        }
        if delta < 0 {
            return impossible("a negative last offset delta");
        }
        if self
            .base_offset()
            .0
            .checked_add(i64::from(delta) + 1)
            .is_none()
        {
            return impossible("offsets beyond the greatest");
        }
        if count < 0 {
            return impossible("a negative record count");
        }
        if i64::from(count) > i64::from(delta) + 1 {
            return impossible("more records than offsets");
        }
        Ok(())
    }

    /// `N` bytes at `at`: zeros where they are missing, which [`BatchRef::parse`] rules out.
    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or([0; N])
    }

    fn raw_count(&self) -> i32 {
        i32::from_be_bytes(self.field(57))
    }

    pub(super) fn raw_attributes(&self) -> i16 {
        i16::from_be_bytes(self.field(21))
    }

    /// The whole batch as it lies in a log, its header included.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its length in bytes.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a batch has a header, and so is never empty"
    )]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The 61 bytes of header.
    pub fn header(&self) -> [u8; HEADER_LEN] {
        self.field(0)
    }

    /// What lies behind the header: records, compressed as the attributes say.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }

    /// The offset that record deltas count from; compaction keeps it when it takes records away.
    pub fn base_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(self.field(0)))
    }

    /// The epoch of the leader that appended it; -1 in what a producer sends.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32::from_be_bytes(self.field(12)))
    }

    /// The CRC32C that its producer computed.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(17))
    }

    /// What the attributes say.
    pub fn attributes(&self) -> Attributes {
        let bits = self.raw_attributes();
        Attributes {
            compression: self.compression,
            timestamp_type: if bits & TIMESTAMP_TYPE == 0 {
                TimestampType::CreateTime
            } else {
                TimestampType::LogAppendTime
            },
            is_transactional: bits & TRANSACTIONAL != 0,
            is_control: bits & CONTROL != 0,
            has_delete_horizon: bits & DELETE_HORIZON != 0,
        }
    }

    /// The last offset less the base offset.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(23))
    }

    /// The last offset that it occupies, whether a record is left there or not.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset().0 + i64::from(self.last_offset_delta()))
    }

    /// Where the next batch begins at the earliest: where a reader goes on.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0 + 1)
    }

    /// What timestamp deltas count from; with a delete horizon, the horizon.
    pub fn base_timestamp(&self) -> Timestamp {
        Timestamp(i64::from_be_bytes(self.field(27)))
    }

    /// The largest timestamp of its records, or the time of the append.
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(i64::from_be_bytes(self.field(35)))
    }

    /// Who produced it; -1 without idempotence.
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(i64::from_be_bytes(self.field(43)))
    }

    /// The epoch of the producer's id; -1 without idempotence.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.field(51))
    }

    /// The sequence number of its first record; -1 without idempotence.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.field(53))
    }

    /// How many records it says it holds; 0 after compaction took them all.
    pub fn record_count(&self) -> u32 {
        u32::try_from(self.raw_count()).unwrap_or(0)
    }

    /// Whether compaction has taken records away: fewer are left than offsets.
    pub fn has_holes(&self) -> bool {
        i64::from(self.raw_count()) != i64::from(self.last_offset_delta()) + 1
    }

    /// Checks the bytes against the producer's CRC32C.
    pub fn verify_crc(&self) -> Result<(), RecordError> {
        let found = crc32c(self.bytes.get(CRC_START..).unwrap_or_default());
        if found == self.crc() {
            Ok(())
        } else {
            Err(RecordError::WrongCrc {
                offset: self.base_offset(),
                expected: self.crc(),
                found,
            })
        }
    }

    /// What a control batch says; `None` for data, and for a control batch that compaction emptied.
    ///
    /// The key of its only record is a version and a type (`ControlRecordType`).
    pub fn control_type(&self) -> Result<Option<ControlType>, RecordError> {
        if !self.attributes().is_control || self.record_count() == 0 {
            return Ok(None);
        }
        let malformed = |detail| RecordError::MalformedRecord {
            offset: self.base_offset(),
            detail,
        };
        let opened = self.open(1 << 16)?;
        let record = opened
            .records()
            .next()
            .ok_or(malformed("a control batch without a record"))??;
        match record.key {
            Some([_, _, high, low, ..]) => Ok(Some(match i16::from_be_bytes([*high, *low]) {
                0 => ControlType::Abort,
                1 => ControlType::Commit,
                other => ControlType::Other(other),
            })),
            _ => Err(malformed("a control record without a type")),
        }
    }
}

/// The length of the batch at the front of `bytes`, when its header is there to tell it.
fn batch_len(bytes: &[u8]) -> Result<usize, RecordError> {
    let cut_off = |expected| RecordError::Truncated {
        expected,
        found: bytes.len(),
    };
    let header = bytes.first_chunk::<17>().ok_or(cut_off(HEADER_LEN))?;
    let [
        o0,
        o1,
        o2,
        o3,
        o4,
        o5,
        o6,
        o7,
        l0,
        l1,
        l2,
        l3,
        _,
        _,
        _,
        _,
        magic,
    ] = *header;
    let offset = Offset(i64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]));
    let length = i32::from_be_bytes([l0, l1, l2, l3]);
    match magic {
        2 => {}
        0 | 1 => return Err(RecordError::OldMessageFormat { magic, offset }),
        _ => {
            return Err(RecordError::ImpossibleHeader {
                offset,
                detail: "an unknown message format",
            });
        }
    }
    let length = usize::try_from(length).unwrap_or(0) + LOG_OVERHEAD;
    if length < HEADER_LEN {
        return Err(RecordError::ImpossibleHeader {
            offset,
            detail: "a length below a header's",
        });
    }
    Ok(length)
}

/// Iterates over the whole batches in `bytes`. A partial one at the end, normal in fetch answers, ends it.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches {
        rest: bytes,
        consumed: 0,
        failed: false,
    }
}

/// See [`batches`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
    consumed: usize,
    failed: bool,
}

impl Batches<'_> {
    /// How many bytes were whole batches so far.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchRef<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        match BatchRef::parse(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                self.consumed += batch.len();
                Some(Ok(batch))
            }
            Err(RecordError::Truncated { .. }) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
