//! The record path: batches are opened, each record is judged, and what stays is put into a batch of the same compression. It goes
//! through the same transactions as a batch that stays sealed.

use std::ops::Range;

use crate::engine::extents::OPEN_LIMIT;
use crate::kafka::TopicPartition;
use crate::record::{BatchBuilder, BatchRef, Offset, RecordError, RecordRef};

use super::expression::{Evaluation, Expression};
use super::prepare::{Ready, Skipped};

/// Names the clusters that a record came through, one header each, so that it does not go in circles.
pub(super) const ORIGIN: &[u8] = b"kafkeep-origin";

/// How records change on their way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transform {
    /// Only records that satisfy it.
    pub filter: Option<Expression>,
    /// Headers that every record gets.
    pub headers: Vec<(String, String)>,
    /// What becomes of a record that cannot be judged.
    pub on_error: OnError,
}

/// What becomes of a record over which an expression fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    /// Its partition stands still.
    #[default]
    Fail,
    /// It is left out, and counted.
    Skip,
}

/// Why a batch could not be transformed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransformError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(
        "the filter fails over the record at offset {offset}: {why}; mend it, or set on_error = \"skip\""
    )]
    Expression { offset: Offset, why: String },
}

/// One partition's records on their way from one cluster to another.
pub(super) struct Transformer<'a> {
    pub transform: &'a Transform,
    pub evaluation: &'a Evaluation,
    pub partition: &'a TopicPartition,
    pub source_id: &'a str,
    pub target_id: &'a str,
}

/// What is to become of a record.
enum Judged {
    Kept,
    Filtered,
    Returning,
    Failed,
}

impl Transformer<'_> {
    /// The records of `batch` in `wanted` that stay; none when none does.
    pub fn apply(
        &self,
        batch: &BatchRef<'_>,
        wanted: &Range<Offset>,
        skipped: &mut Skipped,
    ) -> Result<Option<Ready>, TransformError> {
        batch.verify_crc()?;
        let opened = batch.open(OPEN_LIMIT)?;
        let mut builder = BatchBuilder::new(batch.attributes().compression);
        let mut stretches: Vec<(Offset, u32)> = Vec::new();
        let mut scratch = Vec::new();
        for record in opened.records() {
            let record = record?;
            if !wanted.contains(&record.offset) {
                continue;
            }
            match self.judge(&record)? {
                Judged::Kept => {}
                Judged::Filtered => {
                    skipped.filtered += 1;
                    continue;
                }
                Judged::Returning => {
                    skipped.returning += 1;
                    continue;
                }
                Judged::Failed => {
                    skipped.errors += 1;
                    continue;
                }
            }
            scratch.clear();
            let origin = (ORIGIN, self.source_id.as_bytes());
            let added = self.transform.headers.iter();
            let added = added.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let headers = record.headers.with(added.chain([origin]), &mut scratch);
            builder.push_parts(record.timestamp, record.key, record.value, headers);
            match stretches.last_mut() {
                Some((first, count)) if first.0 + i64::from(*count) == record.offset.0 => {
                    *count += 1
                }
                _ => stretches.push((record.offset, 1)),
            }
        }
        let Some(bytes) = builder.finish()? else {
            return Ok(None);
        };
        let records = BatchRef::parse(&bytes)?.0.record_count();
        Ok(Some(Ready {
            bytes,
            records,
            stretches,
        }))
    }

    fn judge(&self, record: &RecordRef<'_>) -> Result<Judged, TransformError> {
        let returns = |(name, value): (&[u8], Option<&[u8]>)| {
            name == ORIGIN && value == Some(self.target_id.as_bytes())
        };
        if record.headers.iter().any(returns) {
            return Ok(Judged::Returning);
        }
        let Some(filter) = &self.transform.filter else {
            return Ok(Judged::Kept);
        };
        match (
            self.evaluation.holds(filter, self.partition, record),
            self.transform.on_error,
        ) {
            (Ok(true), _) => Ok(Judged::Kept),
            (Ok(false), _) => Ok(Judged::Filtered),
            (Err(_), OnError::Skip) => Ok(Judged::Failed),
            (Err(why), OnError::Fail) => Err(TransformError::Expression {
                offset: record.offset,
                why,
            }),
        }
    }
}
