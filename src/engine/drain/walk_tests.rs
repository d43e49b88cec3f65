//! Batches that Kafka's own client wrote (`tests/golden/batches`), looked into from everywhere.

use std::path::Path;

use super::walk::{Aborted, Walked, walk};
use crate::record::{BatchRef, Offset, ProducerId, Timestamp, batches};

fn golden(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/batches");
    std::fs::read(directory.join(format!("{name}.bin"))).unwrap()
}

fn all(bytes: &[u8]) -> Vec<BatchRef<'_>> {
    batches(bytes).map(|batch| batch.unwrap()).collect()
}

/// As a broker answers: from the batch on that reaches the offset.
fn fetched(bytes: &[u8], from: i64) -> &[u8] {
    let mut skipped = 0;
    for batch in all(bytes) {
        if batch.next_offset() > Offset(from) {
            break;
        }
        skipped += batch.len();
    }
    &bytes[skipped..]
}

fn look(bytes: &[u8], from: i64, to: i64, aborted: &[(ProducerId, Offset)]) -> Walked {
    let aborted = Aborted::new(aborted);
    walk(fetched(bytes, from), Offset(from), Offset(to), aborted).unwrap()
}

/// Offsets and timestamps of the records that a consumer is given.
fn records(bytes: &[u8]) -> Vec<(i64, Timestamp)> {
    let mut records = Vec::new();
    for batch in all(bytes) {
        if batch.attributes().is_control {
            continue;
        }
        let opened = batch.open(1 << 20).unwrap();
        let found = opened.records().map(|record| record.unwrap());
        records.extend(found.map(|record| (record.offset.0, record.timestamp)));
    }
    records
}

#[test]
fn a_range_is_clear_exactly_where_no_record_lies_in_it() {
    let files = [
        "transactions",
        "emptied",
        "compacted-none",
        "compacted-gzip",
        "compacted-snappy",
        "compacted-lz4",
        "compacted-zstd",
        "append-time-none",
        "leader-change",
    ];
    for name in files {
        let bytes = golden(name);
        let (first, last) = {
            let all = all(&bytes);
            (all[0].base_offset().0, all[all.len() - 1].next_offset().0)
        };
        let records = records(&bytes);
        for from in first..last {
            for to in from + 1..=last {
                let within = records
                    .iter()
                    .any(|(offset, _)| (from..to).contains(offset));
                let walked = look(&bytes, from, to, &[]);
                let expected = if within { "a record" } else { "clear" };
                let found = match walked {
                    Walked::Record(_) => "a record",
                    Walked::Clear => "clear",
                    Walked::UpTo(_) => "no end",
                };
                assert_eq!(found, expected, "{name}: {from} to {to}");
            }
        }
    }
}

#[test]
fn the_first_records_timestamp_is_told_wherever_it_stands() {
    let bytes = golden("compacted-none");
    for (offset, timestamp) in records(&bytes).into_iter().take(4) {
        let walked = look(&bytes, offset, offset + 1, &[]);
        assert_eq!(walked, Walked::Record(timestamp), "{offset}");
    }
    // Within a batch without holes, too.
    let bytes = golden("shapes-gzip");
    for (offset, timestamp) in records(&bytes) {
        let walked = look(&bytes, offset, offset + 1, &[]);
        assert_eq!(walked, Walked::Record(timestamp), "{offset}");
    }
    let bytes = golden("append-time-none");
    let appended = Walked::Record(Timestamp(1_700_000_012_345));
    assert_eq!(look(&bytes, 3, 15, &[]), appended);
}

#[test]
fn records_of_aborted_transactions_count_only_for_those_who_read_them() {
    let bytes = golden("transactions");
    // Producer 4002 aborts 2 to 4 by its marker at 7; 4001 commits 0 and 1 by the one at 6; 5 is of no transaction.
    let aborted = [(ProducerId(4002), Offset(2))];
    assert_eq!(look(&bytes, 2, 5, &aborted), Walked::Clear);
    assert!(matches!(look(&bytes, 2, 5, &[]), Walked::Record(_)));
    assert!(matches!(look(&bytes, 2, 6, &aborted), Walked::Record(_)));
    assert!(matches!(look(&bytes, 0, 2, &aborted), Walked::Record(_)));
    assert_eq!(look(&bytes, 6, 8, &aborted), Walked::Clear);
}

#[test]
fn what_is_cut_off_is_not_taken_for_the_end() {
    let bytes = golden("emptied");
    let first = all(&bytes)[0].len();
    for length in [0, 1, first - 1] {
        let walked = walk(&bytes[..length], Offset(10), Offset(14), Aborted::new(&[]));
        assert_eq!(walked.unwrap(), Walked::UpTo(Offset(10)));
    }
    let walked = walk(
        &bytes[..first + 5],
        Offset(10),
        Offset(14),
        Aborted::new(&[]),
    );
    assert_eq!(walked.unwrap(), Walked::UpTo(Offset(12)));
}

#[test]
fn messages_of_old_formats_are_no_proof() {
    let bytes = golden("v0-none");
    assert!(walk(&bytes, Offset(0), Offset(5), Aborted::new(&[])).is_err());
}

#[test]
fn an_abort_ends_with_its_marker() {
    let mut bytes = golden("transactions");
    let mut again = all(&bytes)[1].as_bytes().to_vec();
    // The base offset lies outside of what the sum covers.
    again[..8].copy_from_slice(&8_i64.to_be_bytes());
    bytes.extend(again);
    let aborted = [(ProducerId(4002), Offset(2))];
    assert_eq!(look(&bytes, 6, 8, &aborted), Walked::Clear);
    assert!(matches!(look(&bytes, 6, 9, &aborted), Walked::Record(_)));
    let twice = [aborted[0], (ProducerId(4002), Offset(8))];
    assert_eq!(look(&bytes, 6, 9, &twice), Walked::Clear);
}
