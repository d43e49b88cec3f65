//! A partition as JSON lines: one object a committed record.

use std::io::Write;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::engine::EngineError;
use crate::engine::extents::OPEN_LIMIT;
use crate::engine::transactions::{Uncommitted, UncommittedRanges};
use crate::record::{BatchRef, Headers, Offset, PartitionId, RecordRef, Timestamp, TimestampType};

use super::directory::OutputFile;
use super::read::{Sink, SinkError};
use super::report::Written;

/// Writes the committed records of one partition.
pub(super) struct LineWriter {
    file: OutputFile,
    partition: PartitionId,
    start: Offset,
    end: Offset,
    uncommitted: UncommittedRanges,
    written: Written,
}

impl LineWriter {
    /// Of a backup of the offsets from `start` to before `end`.
    pub fn new(
        file: OutputFile,
        partition: PartitionId,
        start: Offset,
        end: Offset,
        uncommitted: UncommittedRanges,
    ) -> Self {
        Self {
            file,
            partition,
            start,
            end,
            uncommitted,
            written: Written::default(),
        }
    }

    /// Makes the file durable.
    pub fn finish(self) -> Result<Written, EngineError> {
        Ok(Written {
            bytes: self.file.finish()?,
            ..self.written
        })
    }

    fn write(
        &mut self,
        record: &RecordRef<'_>,
        timestamp_type: TimestampType,
    ) -> Result<(), EngineError> {
        let line = Line {
            partition: self.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            timestamp_type: match timestamp_type {
                TimestampType::CreateTime => "CreateTime",
                TimestampType::LogAppendTime => "LogAppendTime",
            },
            key: record.key.map(Text),
            value: record.value.map(Text),
            headers: HeaderList(record.headers),
        };
        let written = serde_json::to_writer(&mut self.file, &line).map_err(std::io::Error::from);
        written
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(|error| self.file.failed(error))
    }
}

impl Sink for LineWriter {
    fn take(&mut self, batch: &BatchRef<'_>) -> Result<(), SinkError> {
        let omitted = &mut self.written.omitted;
        let count = u64::from(batch.record_count());
        if batch.attributes().is_control {
            omitted.control += count;
            return Ok(());
        }
        match self.uncommitted.covers(batch) {
            Some(Uncommitted::Aborted) => omitted.aborted += count,
            Some(Uncommitted::Open) => omitted.open += count,
            None => {
                let opened = batch.open(OPEN_LIMIT)?;
                for record in opened.records() {
                    let record = record?;
                    if record.offset < self.start || record.offset >= self.end {
                        self.written.omitted.cut += 1;
                        continue;
                    }
                    self.write(&record, batch.attributes().timestamp_type)?;
                    self.written.records += 1;
                }
            }
        }
        Ok(())
    }
}

/// The shape of a line; `docs/export.md` promises it.
#[derive(serde::Serialize)]
struct Line<'a> {
    partition: PartitionId,
    offset: Offset,
    timestamp: Timestamp,
    timestamp_type: &'static str,
    key: Option<Text<'a>>,
    value: Option<Text<'a>>,
    headers: HeaderList<'a>,
}

/// Bytes that say how they are written: `{"utf8": "…"}` where they are UTF-8, else `{"base64": "…"}`.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match std::str::from_utf8(self.0) {
            Ok(text) => map.serialize_entry("utf8", text)?,
            Err(_) => map.serialize_entry("base64", &Base64(self.0))?,
        }
        map.end()
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// Key and value of each header, in order: keys may repeat.
struct HeaderList<'a>(Headers<'a>);

impl Serialize for HeaderList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let headers = self.0.iter();
        serializer.collect_seq(headers.map(|(key, value)| (Text(key), value.map(Text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_say_how_they_are_written() {
        let json = |bytes| serde_json::to_string(&Some(Text(bytes))).unwrap();
        assert_eq!(json(b""), r#"{"utf8":""}"#);
        assert_eq!(json("a\"\n\0é".as_bytes()), r#"{"utf8":"a\"\n\u0000é"}"#);
        assert_eq!(json(&[0xff, 0, b'a']), r#"{"base64":"/wBh"}"#);
        assert_eq!(serde_json::to_string(&None::<Text<'_>>).unwrap(), "null");
    }
}
