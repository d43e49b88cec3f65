//! What came of an answer: gaps, and batches that another log has.

use bytes::Bytes;

use super::*;
use crate::kafka::TopicPartition;
use crate::record::{BatchBuilder, Compression, Headers, PartitionId, Timestamp};

/// A batch of `count` records from `base` on.
fn batch(base: i64, count: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..count {
        builder.push_parts(Timestamp(1), None, Some(b"value"), Headers::default());
    }
    let mut batch = builder.finish().unwrap().unwrap().to_vec();
    batch[..8].copy_from_slice(&base.to_be_bytes());
    batch.into()
}

fn key() -> TopicPartition {
    TopicPartition {
        topic: "orders".to_owned(),
        partition: PartitionId(0),
    }
}

fn answer(records: Bytes) -> FetchedPartition {
    FetchedPartition {
        key: Arc::new(key()),
        error: None,
        high_watermark: Offset(100),
        last_stable_offset: Offset(100),
        log_start_offset: Offset(0),
        diverging_epoch: None,
        aborted: Vec::new(),
        records,
    }
}

fn copying() -> Copying {
    Copying {
        limiter: RateLimiter::new(None),
        chunks: mpsc::channel(1).0,
        forked: Mutex::default(),
        failures: Failures::default(),
    }
}

/// At `next`, behind what is held up to there.
fn cursor_at(next: i64) -> Cursor<Part> {
    let part = Part {
        slot: 0,
        topic: "orders".into(),
        end: Offset(100),
        held: Some(Offset(next)),
        messages_left: None,
        gaps: Vec::new(),
    };
    Cursor::new(key(), Offset(next), part)
}

#[test]
fn a_gap_ends_where_the_batch_behind_it_begins() {
    for (log_start, base, gaps) in [
        (50, 45, vec![(10, 45)]),
        (50, 50, vec![(10, 50)]),
        (15, 10, vec![]),
    ] {
        let (copying, mut cursor) = (copying(), cursor_at(10));
        let log = Offset(log_start)..Offset(100);
        copying
            .outside(&mut cursor, log, &mut Taken::default())
            .unwrap();
        let mut taken = Taken::default();
        let records = answer(batch(base, 10));
        copying.take(&mut cursor, records, &mut taken).unwrap();
        let told = cursor.part.gaps.iter();
        let told: Vec<_> = told
            .map(|gap| (gap.start_offset.0, gap.end_offset.0))
            .collect();
        assert_eq!(told, gaps);
        let piece = &taken.chunks[0].piece;
        assert_eq!((piece.start, piece.outside), (Offset(base), 0));
        assert_eq!((taken.records, cursor.next), (10, Offset(base + 10)));
        assert!(copying.forked().is_empty());
    }
}

#[test]
fn a_batch_that_begins_within_what_is_held_belongs_to_another_log() {
    let (copying, mut cursor) = (copying(), cursor_at(15));
    let mut taken = Taken::default();
    let step = copying.take(&mut cursor, answer(batch(10, 10)), &mut taken);
    assert!(matches!(step, Ok(Step::Settled)));
    assert_eq!(taken.chunks.len(), 0);
    assert_eq!(*copying.forked(), BTreeSet::from([0]));
}
