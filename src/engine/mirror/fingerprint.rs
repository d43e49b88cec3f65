//! Records as they are compared: by their content, wherever they lie.

use std::ops::Range;

use crate::engine::extents::OPEN_LIMIT;
use crate::record::{BatchRef, Offset, RecordError, Timestamp, TimestampType};
use crate::repository::Sha256;

/// A record, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub offset: Offset,
    timestamp: Timestamp,
    key: Option<Sha256>,
    value: Option<Sha256>,
    headers: Sha256,
}

impl Fingerprint {
    pub fn is_same(&self, other: &Self) -> bool {
        self.differs(other).is_empty()
    }

    /// All but its place, as a number that no other record has.
    pub fn digest(&self) -> u128 {
        let absent = [0; 32];
        let mut bytes = self.timestamp.0.to_be_bytes().to_vec();
        for part in [&self.key, &self.value] {
            bytes.push(u8::from(part.is_some()));
            bytes.extend(part.as_ref().map_or(absent, |part| part.0));
        }
        bytes.extend(self.headers.0);
        let digest = Sha256::of(&bytes).0;
        digest
            .iter()
            .take(16)
            .fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    /// In what two records differ, which ought to be one.
    pub fn differs(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("key", self.key != other.key),
            ("value", self.value != other.value),
            ("headers", self.headers != other.headers),
            ("timestamp", self.timestamp != other.timestamp),
        ];
        differs
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name)
            .collect()
    }
}

/// The records of a batch in `range`.
pub(super) fn fingerprints(
    batch: &BatchRef<'_>,
    range: &Range<Offset>,
) -> Result<Vec<Fingerprint>, RecordError> {
    batch.verify_crc()?;
    let appended = match batch.attributes().timestamp_type {
        TimestampType::LogAppendTime => Some(batch.max_timestamp()),
        TimestampType::CreateTime => None,
    };
    let opened = batch.open(OPEN_LIMIT)?;
    let mut fingerprints = Vec::new();
    for record in opened.records() {
        let record = record?;
        if !range.contains(&record.offset) {
            continue;
        }
        let mut headers = Vec::new();
        for (name, value) in record.headers.iter() {
            headers.extend(Sha256::of(name).0);
            headers.extend(value.map_or([0; 32], |value| Sha256::of(value).0));
        }
        fingerprints.push(Fingerprint {
            offset: record.offset,
            timestamp: appended.unwrap_or(record.timestamp),
            key: record.key.map(Sha256::of),
            value: record.value.map(Sha256::of),
            headers: Sha256::of(&headers),
        });
    }
    Ok(fingerprints)
}
