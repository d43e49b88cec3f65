//! The records within a batch: opened only where kafkeep must.

use std::borrow::Cow;

use super::codec::decompress_into;
use super::opening::{Opening, Turn};
use super::varint::{read_varint, read_varlong, write_varlong};
use super::{BatchRef, Compression, HEADER_LEN, Offset, RecordError, Timestamp, TimestampType};

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The batch's base offset plus the record's delta.
    pub offset: Offset,
    /// Its timestamp as a consumer sees it: under LogAppendTime, the batch's.
    pub timestamp: Timestamp,
    /// Its key; null is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// Its value; null is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in the producer's order.
    pub headers: Headers<'a>,
}

/// A record's headers as they lie in the batch: keys may repeat, and are not always UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// These, and more behind them; `room` is empty, and holds all of them.
    pub fn with<'b, 'r>(
        &self,
        more: impl Iterator<Item = (&'b [u8], &'b [u8])>,
        room: &'r mut Vec<u8>,
    ) -> Headers<'r> {
        room.extend_from_slice(self.bytes);
        let mut count = self.count;
        for (name, value) in more {
            count += 1;
            for part in [name, value] {
                write_varlong(part.len() as i64, room);
                room.extend_from_slice(part);
            }
        }
        Headers { count, bytes: room }
    }

    /// Headers that were encoded by hand.
    #[cfg(test)]
    pub(super) fn of_parts(count: usize, bytes: &'a [u8]) -> Self {
        Self { count, bytes }
    }

    /// The number of headers, repeated keys included.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their bytes in a batch, without their count.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// As they lie in the batch, without their count.
    pub(super) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Key and value of each, in order. They were checked when the record was read.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.bytes;
        (0..self.count)
            .map_while(move |_| Some((read_bytes(&mut rest).ok()??, read_bytes(&mut rest).ok()?)))
    }
}

/// A batch with its records decompressed.
#[derive(Debug)]
pub struct OpenBatch<'a> {
    payload: Cow<'a, [u8]>,
    base_offset: Offset,
    last_offset: Offset,
    base_timestamp: Timestamp,
    append_time: Option<Timestamp>,
    count: u32,
    /// Where the records were decompressed.
    _turn: Option<Turn>,
}

/// Decompresses, when there is room for what it opens to.
fn open_in_turn(
    codec: Compression,
    bytes: &[u8],
    limit: usize,
) -> Result<(Vec<u8>, Turn), RecordError> {
    for (opening, bound) in Opening::up_to(limit) {
        let turn = opening.turn();
        // All at once: memory that is left behind by growing would stay with the process.
        let room = Vec::with_capacity(opening.room(bound, bytes.len()));
        match decompress_into(codec, bytes, bound, room) {
            Err(RecordError::TooLarge { .. }) if bound < limit => {}
            opened => {
                let mut opened = opened?;
                if opening != Opening::Small {
                    opened.shrink_to_fit();
                }
                return Ok((opened, turn));
            }
        }
    }
    Err(RecordError::TooLarge { codec, limit })
}

impl<'a> BatchRef<'a> {
    /// Decompresses the records, to at most `limit` bytes. Without compression nothing is copied. Waits while other threads
    /// hold batches that opened to much; whoever holds one must not open another, nor wait for memory.
    pub fn open(&self, limit: usize) -> Result<OpenBatch<'a>, RecordError> {
        let attributes = self.attributes();
        let (payload, turn) = match attributes.compression {
            Compression::None => (Cow::Borrowed(self.payload()), None),
            codec => {
                let (payload, turn) = open_in_turn(codec, self.payload(), limit)?;
                (Cow::Owned(payload), Some(turn))
            }
        };
        let append_time = (attributes.timestamp_type == TimestampType::LogAppendTime)
            .then(|| self.max_timestamp());
        Ok(OpenBatch {
            payload,
            base_offset: self.base_offset(),
            last_offset: self.last_offset(),
            base_timestamp: self.base_timestamp(),
            append_time,
            count: self.record_count(),
            _turn: turn,
        })
    }
}

impl RecordRef<'_> {
    /// Bytes that it takes in a batch at most.
    pub fn largest_size(&self) -> usize {
        // A byte of attributes, two lengths, a count and two deltas of five bytes at most, and one of ten.
        let parts = [self.key, self.value].into_iter().flatten();
        36 + self.headers.size() + parts.map(<[u8]>::len).sum::<usize>()
    }
}

impl OpenBatch<'_> {
    /// The bytes of the batch when it is not compressed.
    pub fn size(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// The records, in order. Ends with an error when they are not as many as the header says, or malformed.
    pub fn records(&self) -> Records<'_> {
        Records {
            batch: self,
            rest: &self.payload,
            left: self.count,
            ended: false,
        }
    }
}

/// See [`OpenBatch::records`].
#[derive(Debug)]
pub struct Records<'a> {
    batch: &'a OpenBatch<'a>,
    rest: &'a [u8],
    left: u32,
    ended: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.left == 0 {
            self.ended = true;
            return (!self.rest.is_empty())
                .then(|| Err(self.malformed("bytes behind the last record")));
        }
        self.left -= 1;
        let record = self.read();
        self.ended = record.is_err();
        Some(record.map_err(|detail| self.malformed(detail)))
    }
}

impl<'a> Records<'a> {
    fn malformed(&self, detail: &'static str) -> RecordError {
        RecordError::MalformedRecord {
            offset: self.batch.base_offset,
            detail,
        }
    }

    /// One record: length, attributes, deltas, key, value, headers (`DefaultRecord`).
    fn read(&mut self) -> Result<RecordRef<'a>, &'static str> {
        let length = read_varint(&mut self.rest).ok_or("a record's length is cut off")?;
        let length = usize::try_from(length).map_err(|_| "a negative length")?;
        let (mut body, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or("a record is cut off")?;
        self.rest = rest;
        let (_attributes, behind) = body.split_first().ok_or("a record without attributes")?;
        body = behind;
        let timestamp_delta = read_varlong(&mut body).ok_or("a timestamp is cut off")?;
        let offset_delta = read_varint(&mut body).ok_or("an offset is cut off")?;
        let offset = i64::from(offset_delta) + self.batch.base_offset.0;
        if offset_delta < 0 || offset > self.batch.last_offset.0 {
            return Err("an offset outside the batch");
        }
        let timestamp = match self.batch.append_time {
            Some(time) => time,
            // Wraps as in Java, where a batch may go from -1 to the greatest timestamp.
            None => Timestamp(self.batch.base_timestamp.0.wrapping_add(timestamp_delta)),
        };
        let key = read_bytes(&mut body)?;
        let value = read_bytes(&mut body)?;
        let headers = read_headers(body)?;
        Ok(RecordRef {
            offset: Offset(offset),
            timestamp,
            key,
            value,
            headers,
        })
    }
}

/// A length and so many bytes; `None` for the length -1.
fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
    let length = read_varint(bytes).ok_or("a field's length is cut off")?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| "a negative length")?;
    let (field, rest) = bytes.split_at_checked(length).ok_or("a field is cut off")?;
    *bytes = rest;
    Ok(Some(field))
}

/// Checks all headers; they must fill `bytes`.
fn read_headers(mut bytes: &[u8]) -> Result<Headers<'_>, &'static str> {
    let count = read_varint(&mut bytes).ok_or("the number of headers is cut off")?;
    let count = usize::try_from(count).map_err(|_| "a negative number of headers")?;
    let headers = Headers { count, bytes };
    for _ in 0..count {
        read_bytes(&mut bytes)?.ok_or("a header without a key")?;
        read_bytes(&mut bytes)?;
    }
    if bytes.is_empty() {
        Ok(headers)
    } else {
        Err("bytes behind the last header")
    }
}
