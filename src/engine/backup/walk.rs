//! Cuts a fetch answer into blocks' worth of whole batches, by their headers alone.

use bytes::Bytes;

use crate::engine::extents::OPEN_LIMIT;
use crate::record::{BatchRef, LeaderEpoch, Offset, RecordError, batches};

/// A block holds at most this much, unless a single batch is larger.
const BLOCK_BYTES: usize = 1 << 20;

/// Whole batches of one partition, at most a block of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The offset that the reader had reached: batches missing from here to the first are missing in the source.
    pub start: Offset,
    /// The batches as they came.
    pub raw: Bytes,
    /// Records in them that lie outside the backup's bounds.
    pub outside: u64,
}

/// What one partition's share of an answer holds.
#[derive(Debug)]
pub(super) struct Walked {
    /// In order.
    pub pieces: Vec<Piece>,
    /// Base offset of the first batch.
    pub base: Option<Offset>,
    /// Where to go on.
    pub next: Offset,
    /// The bound; lowered when a limit of messages was reached.
    pub end: Offset,
    /// Records within the bounds.
    pub records: u64,
    /// The epoch of the last batch.
    pub last_epoch: Option<LeaderEpoch>,
}

/// Walks the batches of `records`, asked for at `from`, up to `end` and to `limit` records.
/// A partial batch at the end is left for the next fetch.
pub(super) fn walk(
    records: &Bytes,
    from: Offset,
    end: Offset,
    limit: Option<u64>,
) -> Result<Walked, RecordError> {
    let mut walked = Walked {
        pieces: Vec::new(),
        base: None,
        next: from,
        end,
        records: 0,
        last_epoch: None,
    };
    let mut open = Block::begin(from, 0);
    let mut at = 0;
    for batch in batches(records) {
        let batch = batch?;
        if batch.base_offset() >= walked.end {
            break;
        }
        let to = at + batch.len();
        // A compacted log may answer with a batch that ends before the offset asked for.
        if batch.next_offset() <= walked.next {
            open.flush(records, at, &mut walked.pieces);
            open = Block::begin(walked.next, to);
            at = to;
            continue;
        }
        if to - open.from > BLOCK_BYTES && at > open.from {
            open.flush(records, at, &mut walked.pieces);
            open = Block::begin(walked.next, at);
        }
        let inside = count_inside(
            &batch,
            from,
            &mut walked.end,
            limit.map(|limit| limit.saturating_sub(walked.records)),
        )?;
        walked.base = walked.base.or(Some(batch.base_offset()));
        walked.records += inside;
        open.outside += data_records(&batch) - inside;
        walked.next = batch.next_offset();
        walked.last_epoch = Some(batch.leader_epoch());
        at = to;
        open.to = at;
        if limit.is_some_and(|limit| walked.records >= limit) {
            walked.end = walked.end.min(walked.next);
            break;
        }
    }
    let to = open.to;
    open.flush(records, to, &mut walked.pieces);
    Ok(walked)
}

struct Block {
    start: Offset,
    from: usize,
    to: usize,
    outside: u64,
}

impl Block {
    /// An empty one that begins at this byte of the answer.
    fn begin(start: Offset, at: usize) -> Self {
        Self {
            start,
            from: at,
            to: at,
            outside: 0,
        }
    }

    fn flush(&self, records: &Bytes, to: usize, pieces: &mut Vec<Piece>) {
        if to > self.from {
            pieces.push(Piece {
                start: self.start,
                raw: records.slice(self.from..to),
                outside: self.outside,
            });
        }
    }
}

/// Records of a batch that a consumer may see.
fn data_records(batch: &BatchRef<'_>) -> u64 {
    if batch.attributes().is_control {
        0
    } else {
        u64::from(batch.record_count())
    }
}

/// How many records of `batch` lie in `[from, end)`, at most `limit`; opens the batch only where a bound
/// cuts it. Reaching the limit within the batch lowers `end` to behind the last record that counts.
fn count_inside(
    batch: &BatchRef<'_>,
    from: Offset,
    end: &mut Offset,
    limit: Option<u64>,
) -> Result<u64, RecordError> {
    let all = data_records(batch);
    let cut = batch.base_offset() < from
        || batch.next_offset() > *end
        || limit.is_some_and(|limit| limit < all);
    if !cut || all == 0 {
        return Ok(all);
    }
    let opened = batch.open(OPEN_LIMIT)?;
    let mut inside = 0;
    for record in opened.records() {
        let offset = record?.offset;
        if offset < from || offset >= *end {
            continue;
        }
        if limit.is_some_and(|limit| inside >= limit) {
            *end = offset;
            break;
        }
        inside += 1;
    }
    Ok(inside)
}
