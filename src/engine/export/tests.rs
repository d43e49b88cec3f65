//! Logs that no test broker makes in passing: far offsets, bounds within batches, nothing at all, hostile names.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::directory::Directory;
use super::plan::plan_manifest;
use super::read::{Sink, SinkError};
use super::report::Written;
use super::segments::LogWriter;
use super::*;
use crate::record::{
    BatchBuilder, BatchRef, Compression, Headers, Offset, Timestamp, TopicId, batches,
};
use crate::repository::Manifest;

/// A batch of `count` records at `offset`, by the leader of `epoch`.
fn batch(offset: i64, count: i64, epoch: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    for n in 0..count {
        let value = vec![b'x'; 100];
        let (time, key) = (Timestamp(offset + n), Some(&b"key"[..]));
        builder.push_parts(time, key, Some(&value), Headers::default());
    }
    let mut bytes = builder.finish().unwrap().unwrap().to_vec();
    // Both lie outside of what the sum covers.
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    bytes
}

fn write(out: &Path, start: i64, end: i64, segment_bytes: u32, log: &[Vec<u8>]) -> Written {
    let directory = Directory::create(out).unwrap();
    let unfinished = directory.begin().unwrap();
    let mut writer = LogWriter::new(&unfinished, segment_bytes, Offset(start), Offset(end));
    for bytes in log {
        let taken = writer.take(&BatchRef::parse(bytes).unwrap().0);
        assert!(matches!(taken, Ok::<(), SinkError>(())));
    }
    let written = writer.finish(TopicId([7; 16])).unwrap();
    unfinished.publish("t-0").unwrap();
    written
}

/// The names of the segments and their lengths.
fn segments(out: &Path) -> Vec<(i64, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(out.join("t-0")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let base = path.file_stem().unwrap().to_str().unwrap().parse();
            found.push((base.unwrap(), fs::metadata(&path).unwrap().len()));
        }
    }
    found.sort();
    found
}

fn file(out: &Path, name: &str) -> Vec<u8> {
    fs::read(out.join("t-0").join(name)).unwrap()
}

#[test]
fn a_segment_ends_where_its_index_could_not_point_further() {
    let out = tempfile::tempdir().unwrap();
    let far = 10 + i64::from(i32::MAX);
    let log = [batch(10, 1, 0), batch(far, 1, 0), batch(far + 1, 2, 3)];
    let written = write(out.path(), 10, far + 3, SEGMENT_BYTES, &log);
    let (first, second) = (log[0].len() + log[1].len(), log[2].len());
    assert_eq!(
        segments(out.path()),
        [(10, first as u64), (far + 1, second as u64)]
    );
    assert_eq!(written.log.unwrap().segments, 2);
    let epochs = format!("0\n2\n0 10\n3 {}\n", far + 1);
    assert_eq!(
        file(out.path(), "leader-epoch-checkpoint"),
        epochs.as_bytes()
    );
}

#[test]
fn an_index_has_an_entry_every_4096_bytes_and_the_largest_timestamp_last() {
    let out = tempfile::tempdir().unwrap();
    let log: Vec<Vec<u8>> = (0..100).map(|n| batch(n * 10, 10, 0)).collect();
    write(out.path(), 0, 1000, SEGMENT_BYTES, &log);
    let index = file(out.path(), "00000000000000000000.index");
    let length = log[0].len();
    // Offset and position of the first batch that lies more than 4096 bytes behind the last one listed.
    let step = 4096 / length + 1;
    let expected: Vec<u8> = (step..100)
        .step_by(step)
        .flat_map(|n| [n as i32 * 10 + 9, (n * length) as i32])
        .flat_map(i32::to_be_bytes)
        .collect();
    assert_eq!(index, expected);
    let times = file(out.path(), "00000000000000000000.timeindex");
    assert_eq!(times[times.len() - 12..][..8], 999_i64.to_be_bytes());
    assert_eq!(times[times.len() - 4..], 999_i32.to_be_bytes());
}

#[test]
fn a_log_starts_and_ends_where_the_backup_does_though_nothing_lies_there() {
    for (start, end, log, expected) in [
        (0, 0, vec![], vec![0]),
        (500, 500, vec![], vec![500]),
        (500, 600, vec![], vec![500, 600]),
        (500, 600, vec![batch(550, 5, 0)], vec![500, 600]),
        (500, 555, vec![batch(550, 5, 0)], vec![500]),
    ] {
        let out = tempfile::tempdir().unwrap();
        let written = write(out.path(), start, end, SEGMENT_BYTES, &log);
        let bases: Vec<i64> = segments(out.path()).iter().map(|(base, _)| *base).collect();
        assert_eq!(bases, expected);
        assert_eq!(written.log.unwrap().log_end_offset, Offset(end));
        assert_eq!(written.log.unwrap().first_segment, Offset(start));
    }
}

#[test]
fn the_first_batch_stays_whole_and_the_last_is_cut() {
    let out = tempfile::tempdir().unwrap();
    let log = [batch(0, 10, 0), batch(10, 10, 0)];
    let written = write(out.path(), 5, 13, SEGMENT_BYTES, &log);
    assert_eq!(written.records, 13);
    assert_eq!(written.omitted.cut, 7);
    assert_eq!(written.log.unwrap().first_segment, Offset(0));
    let bytes = file(out.path(), "00000000000000000000.log");
    assert_eq!(bytes[..log[0].len()], log[0]);
    let last = batches(&bytes).last().unwrap().unwrap();
    last.verify_crc().unwrap();
    assert_eq!((last.base_offset(), last.record_count()), (Offset(10), 3));
}

/// A manifest of one topic.
fn manifest(topics: &Value) -> Manifest {
    let digest = "0".repeat(64);
    let mut manifest = json!({
        "format": 1, "backup_id": "20261124T114000123Z-3f9a1c", "policy": null,
        "kafkeep_version": "0.1.0", "repository_id": "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "cluster_id": "c", "started_at": "2026-11-24T11:40:00Z",
        "finished_at": "2026-11-24T11:41:00Z", "status": "completed", "selection": null,
        "topics": [], "totals": { "records": 0, "bytes": 0, "stored_bytes": 0, "new_records": 0,
            "new_bytes": 0, "new_stored_bytes": 0, "reused_bytes": 0 },
    });
    for (topic, partition) in topics.as_array().unwrap().iter().map(|t| (&t[0], &t[1])) {
        let entry = json!({
            "topic": topic, "topic_id": "AAAAAAAAAAAAAAAAAAAAAA", "chain_restarted": null,
            "partition_count": 1, "replication_factor": 1, "index": null, "configuration": digest,
            "partitions": [{
                "partition": partition, "start_offset": 0, "end_offset": 0,
                "last_stable_offset": 0, "leader_epoch": 0, "records": 0, "control_records": 0,
                "bytes": 0, "stored_bytes": 0, "new_records": 0, "new_bytes": 0,
                "largest_batch": 0, "open_transactions": [], "gaps": [],
            }],
        });
        manifest["topics"].as_array_mut().unwrap().push(entry);
    }
    serde_json::from_value(manifest).unwrap()
}

fn refusals(out: &Path, topics: &Value, format: ExportFormat) -> Vec<String> {
    let options = ExportOptions {
        topics: TopicPatterns::default(),
        partitions: Vec::new(),
        format,
        out: out.to_owned(),
        segment_bytes: SEGMENT_BYTES,
    };
    plan_manifest(&manifest(topics), &options).unwrap().refused
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let out = tempfile::tempdir().unwrap();
    for format in [ExportFormat::Log, ExportFormat::Jsonl] {
        let refused = |topics| refusals(out.path(), &topics, format);
        assert!(refused(json!([["orders", 0], ["..a", 3]])).is_empty());
        for name in [
            "..",
            "../up",
            "/etc/cron.d/x",
            "a/../../b",
            "nul\0",
            "",
            &"x".repeat(250),
        ] {
            let [refusal] = &refused(json!([["orders", 0], [name, 0]]))[..] else {
                panic!("{name:?}");
            };
            assert!(refusal.contains("not a name that Kafka gives"), "{refusal}");
        }
        assert!(refused(json!([["orders", -1]]))[0].contains("impossible"));
        assert!(refused(json!([["orders", 0], ["orders", 0]]))[0].contains("twice"));
        let long = refused(json!([["x".repeat(249), i32::MAX]]));
        assert!(long[0].contains("longer than the 255 bytes"), "{long:?}");
    }
}
