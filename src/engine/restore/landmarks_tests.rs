//! Groups' offsets find the record that a consumer would have read next, whatever the log looks like. The judge is a list
//! of the offsets that survive.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::engine::restore::offset_map::PositionMap;
use crate::record::{Compression, ProducerId, crc32c};
use crate::repository::{TransactionEvent, TransactionEventKind};

const ABORTED: ProducerId = ProducerId(7);
const TARGET_BASE: i64 = 1000;

/// A batch of a log: a record each of `timestamps`, or a hole that compaction left.
#[derive(Debug, Clone)]
struct Logged {
    kind: Kind,
    timestamps: Vec<Option<i64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Aborted,
    Control,
}

impl Logged {
    fn bytes(&self, base: i64) -> Bytes {
        const HOLE: i64 = -5;
        let mut builder = BatchBuilder::new(Compression::None);
        for timestamp in &self.timestamps {
            let time = Timestamp(timestamp.unwrap_or(HOLE));
            builder.push_parts(time, Some(b"k"), Some(b"v"), Default::default());
        }
        let mut bytes = builder.finish().unwrap().unwrap().to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        let attributes: i16 = match self.kind {
            Kind::Plain => 0,
            Kind::Aborted => 0x10,
            Kind::Control => 0x30,
        };
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        bytes[43..51].copy_from_slice(&ABORTED.0.to_be_bytes());
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let compacted = Rebuild {
            timestamps: Some((Some(Timestamp(HOLE + 1)), None)),
            ..Rebuild::default()
        };
        let (view, _) = BatchRef::parse(&bytes).unwrap();
        let kept = rebuild(&view, &compacted, OPEN_LIMIT).unwrap();
        // The cleaner keeps a batch whose records are all gone for a while, empty.
        kept.unwrap_or_default()
    }
}

fn logged() -> impl Strategy<Value = Logged> {
    let timestamps = prop::collection::vec(prop::option::weighted(0.8, 0..100_i64), 1..8);
    (0..6, timestamps).prop_map(|(kind, timestamps)| match kind {
        0 => Logged {
            kind: Kind::Aborted,
            timestamps,
        },
        1 => Logged {
            kind: Kind::Control,
            timestamps: vec![Some(50)],
        },
        _ => Logged {
            kind: Kind::Plain,
            timestamps,
        },
    })
}

fn source(start: i64, end: i64, log_end: i64, log: &[Logged]) -> SourcePartition {
    let mut events = Vec::new();
    let mut offset = 0;
    for logged in log {
        if logged.kind == Kind::Aborted {
            let event = |offset, kind| TransactionEvent {
                partition: PartitionId(0),
                producer_id: ABORTED,
                producer_epoch: 0,
                offset: Offset(offset),
                kind,
            };
            let next = offset + logged.timestamps.len() as i64;
            events.push(event(offset, TransactionEventKind::Begin));
            events.push(event(next, TransactionEventKind::Abort));
        }
        offset += logged.timestamps.len() as i64;
    }
    let offset_map: BTreeSet<Offset> = (start..=end).map(Offset).collect();
    SourcePartition {
        partition: PartitionId(0),
        start: Offset(start),
        end: Offset(end),
        uncommitted: UncommittedRanges::below(Offset(log_end + 1), &events),
        routing: Routing::Same(0),
        offset_map: OffsetMap::at(&offset_map),
        skipped: Skipped::default(),
    }
}

/// Restores the log as a producer would, each batch acknowledged behind the one before.
fn restore(source: &mut SourcePartition, log: &[Logged], window: Window) -> PositionMap {
    let stamp = ProducerStamp {
        producer_id: ProducerId(1),
        producer_epoch: 0,
        base_sequence: 0,
    };
    let mut preparer = Preparer::new(vec![stamp], window);
    let mut positions = PositionMap::default();
    let (mut offset, mut target) = (0, TARGET_BASE);
    for logged in log {
        let bytes = logged.bytes(offset);
        offset += logged.timestamps.len() as i64;
        let Ok((view, _)) = BatchRef::parse(&bytes) else {
            continue;
        };
        for sent in preparer.prepare(source, &view, bytes.clone()).unwrap() {
            positions.acknowledged(&sent.offset_map, Offset(target));
            target += i64::from(sent.records);
        }
    }
    for landmark in source.offset_map.left() {
        positions.ended(landmark, Offset(target));
    }
    positions
}

proptest! {
    #[test]
    fn a_group_goes_on_with_the_record_that_it_would_have_read_next(
        log in prop::collection::vec(logged(), 1..12),
        bounds in (0..40_i64, 0..40_i64),
        from in prop::option::of(0..100_i64),
        until in prop::option::of(0..100_i64),
    ) {
        let log_end: i64 = log.iter().map(|logged| logged.timestamps.len() as i64).sum();
        let start = bounds.0.min(log_end);
        let end = (start + bounds.1).min(log_end);
        let visible: Vec<(i64, i64)> = log
            .iter()
            .flat_map(|logged| logged.timestamps.iter().map(move |time| (logged.kind, *time)))
            .enumerate()
            .filter(|(_, (kind, _))| *kind == Kind::Plain)
            .filter_map(|(offset, (_, time))| Some((offset as i64, time?)))
            .filter(|(offset, _)| (start..end).contains(offset))
            .collect();
        let in_time = |time: i64| from.is_none_or(|from| time >= from) && until.is_none_or(|until| time < until);
        let survivors: Vec<i64> = visible.iter().filter(|(_, time)| in_time(*time)).map(|(offset, _)| *offset).collect();

        let window = Window { from: from.map(Timestamp), until: until.map(Timestamp) };
        let positions = restore(&mut source(start, end, log_end, &log), &log, window);
        for landmark in start..=end {
            let index = survivors.partition_point(|survivor| *survivor < landmark);
            let position = positions.get(Offset(landmark)).unwrap();
            prop_assert_eq!(position.target, Offset(TARGET_BASE + index as i64), "{}", landmark);
            let next = visible.iter().find(|(offset, _)| *offset >= landmark);
            let is_cut = next.is_some_and(|(_, time)| !in_time(*time));
            prop_assert_eq!(position.is_cut, is_cut, "{}", landmark);
        }
    }
}

fn plain(timestamps: &[i64]) -> Logged {
    Logged {
        kind: Kind::Plain,
        timestamps: timestamps.iter().copied().map(Some).collect(),
    }
}

#[test]
fn a_log_without_a_record_behind_a_group_leaves_it_at_the_end() {
    let marker = Logged {
        kind: Kind::Control,
        timestamps: vec![Some(1)],
    };
    let log = [plain(&[1, 1]), marker];
    let positions = restore(&mut source(0, 3, 3, &log), &log, Window::default());
    for (landmark, target) in [(0, 1000), (1, 1001), (2, 1002), (3, 1002)] {
        let position = positions.get(Offset(landmark)).unwrap();
        assert_eq!(position.target, Offset(target), "{landmark}");
        assert!(!position.is_cut);
    }
}

#[test]
fn batches_that_are_acknowledged_out_of_turn_place_their_own_landmarks() {
    let mut offset_map = OffsetMap::at(&BTreeSet::from([Offset(1), Offset(4)]));
    let (first, second) = (
        offset_map.place_dense(Offset(0), 3),
        offset_map.place_dense(Offset(3), 3),
    );
    let mut positions = PositionMap::default();
    positions.acknowledged(&second, Offset(13));
    positions.acknowledged(&first, Offset(10));
    assert_eq!(positions.get(Offset(1)).unwrap().target, Offset(11));
    assert_eq!(positions.get(Offset(4)).unwrap().target, Offset(14));
}
