//! Building a batch anew from its records: where it must be cut, renumbered, or lose its keys or headers.

use std::ops::Range;

use bytes::Bytes;

use super::batch::CRC_START;
use super::stamp::put;
use super::varint::write_varlong;
use super::{
    BatchRef, Compression, HEADER_LEN, Headers, Offset, RecordError, RecordRef, Timestamp,
    TimestampType, compress,
};

/// Makes a batch as a producer would: base offset 0, dense offsets, CreateTime.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    payload: Vec<u8>,
    scratch: Vec<u8>,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    count: i32,
}

impl BatchBuilder {
    /// An empty one, whose payload will be compressed so.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            payload: Vec::new(),
            scratch: Vec::new(),
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
        write_record(
            &mut self.payload,
            &mut self.scratch,
            delta,
            self.count,
            key,
            value,
            headers,
        );
        self.count += 1;
    }

    /// Bytes so far, before compression.
    pub fn size(&self) -> usize {
        HEADER_LEN + self.payload.len()
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
        whole(header, self.compression, self.payload).map(Some)
    }
}

/// A header, with length and CRC32C filled in, and its compressed payload.
fn whole(
    mut header: [u8; HEADER_LEN],
    codec: Compression,
    payload: Vec<u8>,
) -> Result<Bytes, RecordError> {
    let payload = if codec == Compression::None {
        payload
    } else {
        compress(codec, &payload)?
    };
    let length =
        i32::try_from(HEADER_LEN - 12 + payload.len()).map_err(|_| RecordError::Overflow)?;
    put(&mut header, 8, length.to_be_bytes());
    let covered = crc32c::crc32c(header.get(CRC_START..).unwrap_or_default());
    let crc = crc32c::crc32c_append(covered, &payload);
    put(&mut header, 17, crc.to_be_bytes());
    let mut batch = Vec::with_capacity(HEADER_LEN + payload.len());
    batch.extend_from_slice(&header);
    batch.extend_from_slice(&payload);
    Ok(batch.into())
}

/// Appends one record (`DefaultRecord.writeTo`).
fn write_record(
    out: &mut Vec<u8>,
    body: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: Headers<'_>,
) {
    body.clear();
    body.push(0);
    write_varlong(timestamp_delta, body);
    write_varlong(offset_delta.into(), body);
    for field in [key, value] {
        match field {
            Some(field) => {
                write_varlong(field.len() as i64, body);
                body.extend_from_slice(field);
            }
            None => write_varlong(-1, body),
        }
    }
    write_varlong(headers.len() as i64, body);
    body.extend_from_slice(headers.as_bytes());
    write_varlong(body.len() as i64, out);
    out.extend_from_slice(body);
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
    let mut kept = Kept::new(batch);
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
struct Kept<'a> {
    batch: &'a BatchRef<'a>,
    payload: Vec<u8>,
    scratch: Vec<u8>,
    max_timestamp: Timestamp,
    count: i32,
}

impl<'a> Kept<'a> {
    fn new(batch: &'a BatchRef<'a>) -> Self {
        Self {
            batch,
            payload: Vec::new(),
            scratch: Vec::new(),
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
        let (out, body) = (&mut self.payload, &mut self.scratch);
        write_record(
            out,
            body,
            delta,
            offset_delta,
            record.key,
            record.value,
            record.headers,
        );
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
        whole(header, compression, self.payload).map(Some)
    }
}
