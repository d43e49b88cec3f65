//! Building a batch anew from its records: where it must be cut, renumbered, or lose its keys or headers.

use std::ops::Range;

use bytes::Bytes;

use super::batch::CRC_START;
use super::crc32c::{crc32c, crc32c_append};
use super::stamp::put;
use super::varint::{varlong_size, write_varlong};
use super::{
    BatchRef, Compression, HEADER_LEN, Headers, Offset, RecordError, RecordRef, Timestamp,
    TimestampType, compress,
};

/// Makes a batch as a producer would: base offset 0, dense offsets, CreateTime.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    draft: Draft,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    count: i32,
}

impl BatchBuilder {
    /// An empty one, whose payload will be compressed so.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            draft: Draft::new(),
            base_timestamp: Timestamp(-1),
            max_timestamp: Timestamp(-1),
            count: 0,
        }
    }

    /// Adds a record; it gets the next offset.
    pub fn push(&mut self, record: &RecordRef<'_>) {
        self.push_parts(record.timestamp, record.key, record.value, record.headers);
    }

    /// Adds a record of these parts.
    pub fn push_parts(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let delta = timestamp.0.wrapping_sub(self.base_timestamp.0);
        self.draft.push(delta, self.count, key, value, headers);
        self.count += 1;
    }

    /// Bytes so far, before compression.
    pub fn size(&self) -> usize {
        self.draft.size()
    }

    /// The batch; none without a record.
    pub fn finish(self) -> Result<Option<Bytes>, RecordError> {
        if self.count == 0 {
            return Ok(None);
        }
        let mut header = [0; HEADER_LEN];
        put(&mut header, 12, (-1_i32).to_be_bytes());
        put(&mut header, 16, [2]);
        put(
            &mut header,
            21,
            i16::from(self.compression.id()).to_be_bytes(),
        );
        put(&mut header, 23, (self.count - 1).to_be_bytes());
        put(&mut header, 27, self.base_timestamp.0.to_be_bytes());
        put(&mut header, 35, self.max_timestamp.0.to_be_bytes());
        put(&mut header, 43, (-1_i64).to_be_bytes());
        put(&mut header, 51, (-1_i16).to_be_bytes());
        put(&mut header, 53, (-1_i32).to_be_bytes());
        put(&mut header, 57, self.count.to_be_bytes());
        self.draft.finish(header, self.compression).map(Some)
    }
}

/// A batch that is being written: room for its header, then its records.
#[derive(Debug)]
struct Draft(Vec<u8>);

impl Draft {
    fn new() -> Self {
        Self(vec![0; HEADER_LEN])
    }

    /// Bytes so far, before compression.
    fn size(&self) -> usize {
        self.0.len()
    }

    /// Appends one record (`DefaultRecord.writeTo`).
    fn push(
        &mut self,
        timestamp_delta: i64,
        offset_delta: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) {
        let length_of = |field: Option<&[u8]>| field.map_or(-1, |field| field.len() as i64);
        let numbers = [
            timestamp_delta,
            offset_delta.into(),
            length_of(key),
            length_of(value),
            headers.len() as i64,
        ];
        let parts = [key.unwrap_or_default(), value.unwrap_or_default()];
        let size = 1
            + numbers.iter().copied().map(varlong_size).sum::<usize>()
            + parts.iter().map(|part| part.len()).sum::<usize>()
            + headers.size();
        let [
            timestamp_delta,
            offset_delta,
            key_length,
            value_length,
            header_count,
        ] = numbers;
        let [key, value] = parts;
        let out = &mut self.0;
        write_varlong(size as i64, out);
        out.push(0);
        write_varlong(timestamp_delta, out);
        write_varlong(offset_delta, out);
        write_varlong(key_length, out);
        out.extend_from_slice(key);
        write_varlong(value_length, out);
        out.extend_from_slice(value);
        write_varlong(header_count, out);
        out.extend_from_slice(headers.as_bytes());
    }

    /// The batch, with length and CRC32C filled into `header`.
    fn finish(
        self,
        mut header: [u8; HEADER_LEN],
        codec: Compression,
    ) -> Result<Bytes, RecordError> {
        let records = self.0.get(HEADER_LEN..).unwrap_or_default();
        let mut batch = match codec {
            Compression::None => self.0,
            codec => {
                let compressed = compress(codec, records)?;
                drop(self.0);
                [&header, compressed.as_slice()].concat()
            }
        };
        let length = i32::try_from(batch.len() - 12).map_err(|_| RecordError::Overflow)?;
        put(&mut header, 8, length.to_be_bytes());
        let payload = batch.get(HEADER_LEN..).unwrap_or_default();
        let covered = crc32c(header.get(CRC_START..).unwrap_or_default());
        let crc = crc32c_append(covered, payload);
        put(&mut header, 17, crc.to_be_bytes());
        if let Some(front) = batch.first_chunk_mut() {
            *front = header;
        }
        Ok(batch.into())
    }
}

/// Which offsets the records of a rebuilt batch get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbering {
    /// Their own: the batch keeps its bounds, its producer and its attributes.
    #[default]
    Keep,
    /// Dense ones from 0, as a broker demands of a producer.
    Renumber,
}

/// How a batch is rebuilt.
#[derive(Debug, Clone, Default)]
pub struct Rebuild {
    /// Only records in this range.
    pub offsets: Option<Range<Offset>>,
    /// Only records from the first timestamp on, and before the second.
    pub timestamps: Option<(Option<Timestamp>, Option<Timestamp>)>,
    /// Make every key null.
    pub drop_keys: bool,
    /// Leave the headers out.
    pub drop_headers: bool,
    /// Which offsets records get.
    pub numbering: Numbering,
}

impl Rebuild {
    /// Whether a record is among those that are left.
    pub fn keeps(&self, record: &RecordRef<'_>) -> bool {
        let in_range = self
            .offsets
            .as_ref()
            .is_none_or(|range| range.contains(&record.offset));
        let in_time = self.timestamps.is_none_or(|(from, until)| {
            from.is_none_or(|from| record.timestamp >= from)
                && until.is_none_or(|until| record.timestamp < until)
        });
        in_range && in_time
    }
}

/// Rebuilds `batch`, after checking its CRC32C; none when no record is left. At most `limit` bytes are decompressed.
pub fn rebuild(
    batch: &BatchRef<'_>,
    options: &Rebuild,
    limit: usize,
) -> Result<Option<Bytes>, RecordError> {
    batch.verify_crc()?;
    let opened = batch.open(limit)?;
    let compression = batch.attributes().compression;
    let mut renumbered = BatchBuilder::new(compression);
    let mut kept = KeptRecords::new(batch);
    for record in opened.records() {
        let mut record = record?;
        if !options.keeps(&record) {
            continue;
        }
        if options.drop_keys {
            record.key = None;
        }
        if options.drop_headers {
            record.headers = Headers::default();
        }
        match options.numbering {
            Numbering::Renumber => renumbered.push(&record),
            Numbering::Keep => kept.push(&record)?,
        }
    }
    match options.numbering {
        Numbering::Renumber => renumbered.finish(),
        Numbering::Keep => kept.finish(compression),
    }
}

/// A batch that keeps its header's bounds, as the log cleaner would leave it (`DefaultRecordBatch`).
struct KeptRecords<'a> {
    batch: &'a BatchRef<'a>,
    draft: Draft,
    max_timestamp: Timestamp,
    count: i32,
}

impl<'a> KeptRecords<'a> {
    fn new(batch: &'a BatchRef<'a>) -> Self {
        Self {
            batch,
            draft: Draft::new(),
            max_timestamp: Timestamp(-1),
            count: 0,
        }
    }

    fn push(&mut self, record: &RecordRef<'_>) -> Result<(), RecordError> {
        // Under LogAppendTime the deltas are not seen by anybody: they may be any.
        let delta = record
            .timestamp
            .0
            .wrapping_sub(self.batch.base_timestamp().0);
        let offset_delta = i32::try_from(record.offset.0 - self.batch.base_offset().0)
            .map_err(|_| RecordError::Overflow)?;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count += 1;
        let RecordRef {
            key,
            value,
            headers,
            ..
        } = *record;
        self.draft.push(delta, offset_delta, key, value, headers);
        Ok(())
    }

    fn finish(self, compression: Compression) -> Result<Option<Bytes>, RecordError> {
        if self.count == 0 {
            return Ok(None);
        }
        let mut header = self.batch.header();
        if self.batch.attributes().timestamp_type == TimestampType::CreateTime {
            put(&mut header, 35, self.max_timestamp.0.to_be_bytes());
        }
        put(&mut header, 57, self.count.to_be_bytes());
        self.draft.finish(header, compression).map(Some)
    }
}
