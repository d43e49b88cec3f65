//! Where records lie in the target that were copied before this session: the records before its beginning are read on both sides,
//! backwards from there as many as on the other side, and must be the same ones.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::engine::EngineError;
use crate::kafka::{Client, OffsetSpec, TopicPartition};
use crate::record::{BatchRef, Offset, ProducerId, TopicId};

use super::fingerprint::fingerprints;
use super::offsets::offset;
use super::scan::{Scan, Scanning, Whose};

/// Offsets before the beginning that are looked at: more would take minutes, and memory.
pub(super) const FARTHEST: i64 = 200_000;

/// One partition, on both sides.
pub(super) struct Before<'a> {
    pub source: &'a Client,
    pub target: &'a Client,
    pub source_key: TopicPartition,
    pub target_key: TopicPartition,
    pub source_id: TopicId,
    pub target_id: TopicId,
    /// Under which ids the mirror has written into the target.
    pub producers: BTreeSet<ProducerId>,
    /// Under which ids others have written into the source what came from the target.
    pub returning: BTreeSet<ProducerId>,
    /// From where in the source, and to where this session began.
    pub wanted: Range<Offset>,
    /// Where the target ended then.
    pub target_end: Offset,
    pub scanning: &'a Scanning,
}

/// A record: what it is, and where.
type Seen = (u128, Offset);

/// Records of the source with their places in the target, both ascending.
pub(super) type OffsetPairs = Vec<(Offset, Offset)>;

impl Before<'_> {
    /// Where all records of the source lie that are wanted; or why that is not known.
    pub async fn places(&self) -> Result<Result<OffsetPairs, &'static str>, EngineError> {
        let (key, id) = (self.source_key.clone(), self.source_id);
        let whose = Whose::NotBy(self.returning.clone());
        let scan = Scan::new(
            self.source,
            key,
            id,
            self.wanted.clone(),
            whose,
            self.scanning,
        );
        let Some(copied) = read(scan, &self.source_key, &self.wanted).await? else {
            return Ok(Err("compaction has taken records away in the source"));
        };
        let start = offset(self.target, &self.target_key, OffsetSpec::Earliest).await?;
        let stable = offset(self.target, &self.target_key, OffsetSpec::LastStable).await?;
        if stable < self.target_end {
            return Ok(Err("a transaction is open in the target"));
        }
        // Markers take offsets of their own, so do others' records.
        let mut distance = i64::try_from(copied.len()).unwrap_or(i64::MAX) + 100;
        loop {
            distance = distance.saturating_mul(2);
            let from = Offset(self.target_end.0.saturating_sub(distance)).max(start);
            let range = from..self.target_end;
            let (key, id) = (self.target_key.clone(), self.target_id);
            let whose = Whose::By(self.producers.clone());
            let scan = Scan::new(self.target, key, id, range.clone(), whose, self.scanning);
            let Some(there) = read(scan, &self.target_key, &range).await? else {
                return Ok(Err("compaction has taken records away in the target"));
            };
            match there.len().checked_sub(copied.len()) {
                Some(surplus) => return Ok(paired(&copied, there.get(surplus..))),
                None if from == start => {
                    return Ok(Err("the target does not hold all records that follow"));
                }
                None if distance > FARTHEST * 4 => {
                    return Ok(Err("others have written much into the target meanwhile"));
                }
                None => {}
            }
        }
    }
}

fn paired(copied: &[Seen], there: Option<&[Seen]>) -> Result<OffsetPairs, &'static str> {
    let pairs = copied.iter().zip(there.unwrap_or_default());
    let places = pairs
        .map(|((record, source), (other, target))| (record == other).then_some((*source, *target)));
    let places: Option<OffsetPairs> = places.collect();
    places.ok_or("the target has other records there than the source")
}

/// The records of a range; none when some may be missing.
async fn read(
    mut scan: Scan,
    key: &TopicPartition,
    range: &Range<Offset>,
) -> Result<Option<Vec<Seen>>, EngineError> {
    let mut seen = Vec::new();
    while let Some(scanned) = scan.next().await? {
        for batch in scanned.batches() {
            let batch: BatchRef<'_> = batch?;
            let records = fingerprints(&batch, range).map_err(|source| EngineError::Batch {
                topic: key.topic.clone(),
                partition: key.partition,
                offset: batch.base_offset(),
                source,
            })?;
            seen.extend(
                records
                    .iter()
                    .map(|record| (record.digest(), record.offset)),
            );
        }
        tokio::task::yield_now().await;
    }
    Ok(scan.is_whole().then_some(seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_known_only_where_all_records_are_the_same() {
        let seen = |records: &[(u128, i64)]| -> Vec<Seen> {
            let records = records.iter();
            records
                .map(|&(record, offset)| (record, Offset(offset)))
                .collect()
        };
        let copied = seen(&[(7, 10), (8, 11), (9, 14)]);
        let there = seen(&[(7, 3), (8, 5), (9, 6)]);
        let places = paired(&copied, Some(&there)).unwrap();
        let wanted = [(10, 3), (11, 5), (14, 6)];
        assert_eq!(places, wanted.map(|(a, b)| (Offset(a), Offset(b))));
        let filtered = seen(&[(6, 2), (7, 3), (9, 6)]);
        assert!(paired(&copied, Some(&filtered)).is_err());
    }
}
