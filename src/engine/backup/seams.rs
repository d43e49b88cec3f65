//! Whether a batch that is held is still in the log: what a chain, and each run that is adopted, must prove before a backup
//! goes on behind it.

use crate::engine::EngineError;
use crate::engine::extents::OPEN_LIMIT;
use crate::record::{BatchRef, RecordError};
use crate::repository::{BatchEvidence, RepositoryError};

/// What the log says about something that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SeamVerdict {
    /// It holds the same batch: all that is held before it is a part of this log.
    Same,
    /// The log holds another batch, in words, where only the cleaner could have changed it; and the leaders' epochs agree.
    Rewritten(String),
    /// Which batch is held last is not known; the leaders' epochs agree.
    Unseen,
    /// The log starts behind it.
    Gone,
    /// It is another log; why, in words.
    Another(String),
}

/// Compares a batch that is held with the first in the log that ends at its last offset or behind it.
pub(super) fn compare(held: &BatchEvidence, found: Option<&BatchEvidence>) -> SeamVerdict {
    let bounds =
        |batch: &BatchEvidence| format!("offsets {} to {}", batch.base_offset, batch.last_offset);
    let Some(found) = found.filter(|found| found.base_offset <= held.last_offset) else {
        return SeamVerdict::Rewritten(format!(
            "the log has no batch at {} any more",
            bounds(held)
        ));
    };
    if found == held {
        return SeamVerdict::Same;
    }
    if (found.base_offset, found.last_offset) != (held.base_offset, held.last_offset) {
        return SeamVerdict::Another(format!(
            "the log has a batch at {} where the backup has one at {}",
            bounds(found),
            bounds(held)
        ));
    }
    if found.leader_epoch != held.leader_epoch {
        return SeamVerdict::Another(format!(
            "the batch at {} was written under leader epoch {}, and the one that the backup has under epoch {}",
            bounds(held),
            found.leader_epoch,
            held.leader_epoch
        ));
    }
    SeamVerdict::Rewritten(format!(
        "the log has another batch at {} than the backup",
        bounds(held)
    ))
}

/// What the records that are left of a batch say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survivors {
    /// Each is in the batch that is held.
    Same,
    /// None is left.
    None,
    /// One is not in the batch that is held.
    Another,
}

/// Looks for the records of `found` in `held`: cleaning takes records away, and changes none.
pub(super) fn survivors(
    found: &BatchRef<'_>,
    held: &BatchRef<'_>,
) -> Result<Survivors, EngineError> {
    let failed = |error: RecordError| EngineError::from(RepositoryError::Batch(error));
    if found.attributes().is_control != held.attributes().is_control {
        return Ok(Survivors::Another);
    }
    let (found, held) = (
        found.open(OPEN_LIMIT).map_err(failed)?,
        held.open(OPEN_LIMIT).map_err(failed)?,
    );
    let mut held = held.records();
    let mut survivors = Survivors::None;
    for record in found.records() {
        let record = record.map_err(failed)?;
        loop {
            match held.next().transpose().map_err(failed)? {
                Some(held) if held.offset < record.offset => {}
                Some(held) if held == record => break,
                _ => return Ok(Survivors::Another),
            }
        }
        survivors = Survivors::Same;
    }
    Ok(survivors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        BatchBuilder, Compression, Headers, LeaderEpoch, Offset, Rebuild, Timestamp, batches,
        rebuild,
    };

    const HELD: BatchEvidence = BatchEvidence {
        base_offset: Offset(10),
        last_offset: Offset(19),
        leader_epoch: LeaderEpoch(3),
        crc32c: 7,
        max_timestamp: Timestamp(5),
    };

    fn is_rewritten(found: Option<&BatchEvidence>) -> bool {
        matches!(compare(&HELD, found), SeamVerdict::Rewritten(_))
    }

    fn is_another(found: BatchEvidence) -> bool {
        matches!(compare(&HELD, Some(&found)), SeamVerdict::Another(_))
    }

    #[test]
    fn the_same_batch_proves_all_before_it() {
        assert_eq!(compare(&HELD, Some(&HELD)), SeamVerdict::Same);
    }

    #[test]
    fn what_the_cleaner_may_have_changed_alone_proves_nothing() {
        let behind = BatchEvidence {
            base_offset: Offset(20),
            last_offset: Offset(29),
            ..HELD
        };
        assert!(is_rewritten(None) && is_rewritten(Some(&behind)));
        let rewritten = BatchEvidence { crc32c: 8, ..HELD };
        assert!(is_rewritten(Some(&rewritten)));
    }

    #[test]
    fn other_bounds_and_another_leader_are_another_log() {
        let base_offset = Offset(11);
        assert!(is_another(BatchEvidence {
            base_offset,
            ..HELD
        }));
        let last_offset = Offset(20);
        assert!(is_another(BatchEvidence {
            last_offset,
            ..HELD
        }));
        let leader_epoch = LeaderEpoch(4);
        assert!(is_another(BatchEvidence {
            leader_epoch,
            ..HELD
        }));
    }

    #[test]
    fn records_survive_cleaning_or_belong_to_another_log() {
        let batch = |values: &[&str]| {
            let mut builder = BatchBuilder::new(Compression::Gzip);
            for value in values {
                let value = Some(value.as_bytes());
                builder.push_parts(Timestamp(1), value, value, Headers::default());
            }
            builder.finish().unwrap().unwrap()
        };
        let held = batch(&["a", "b", "c"]);
        let held = batches(&held).next().unwrap().unwrap();
        let judge = |bytes: &bytes::Bytes| {
            survivors(&batches(bytes).next().unwrap().unwrap(), &held).unwrap()
        };
        assert_eq!(judge(&batch(&["a", "b", "c"])), Survivors::Same);
        assert_eq!(judge(&batch(&["a", "b", "x"])), Survivors::Another);
        assert_eq!(judge(&batch(&["a", "b", "c", "d"])), Survivors::Another);
        let one_left = rebuild(
            &held,
            &Rebuild {
                offsets: Some(Offset(1)..Offset(2)),
                ..Rebuild::default()
            },
            OPEN_LIMIT,
        );
        assert_eq!(judge(&one_left.unwrap().unwrap()), Survivors::Same);
    }
}
