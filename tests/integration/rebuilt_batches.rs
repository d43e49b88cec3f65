//! Batches that kafkeep builds or stamps anew, against what the Java client wrote and with the Java client as the reader.

use std::path::Path;
use std::process::Command;

use kafkeep::record::{
    Attributes, BatchRef, LeaderEpoch, Numbering, Offset, ProducerId, ProducerStamp, Rebuild,
    Timestamp, TimestampType, rebuild, restamp,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden_batches::{LIMIT, every_batch, header_line, record_lines};
use crate::testbed::Release;

/// The rebuilt batch's records next to the original's.
fn rebuilt_lines(file: &str, batch: &BatchRef<'_>, options: &Rebuild) -> Vec<Value> {
    let Some(bytes) = rebuild(batch, options, LIMIT).unwrap() else {
        return Vec::new();
    };
    let (rebuilt, rest) = BatchRef::parse(&bytes).unwrap();
    assert!(rest.is_empty());
    rebuilt.verify_crc().unwrap();
    record_lines(file, &rebuilt)
}

#[test]
fn a_batch_rebuilt_in_its_bounds_has_the_same_header_and_records() {
    every_batch(|file, batch| {
        let Some(bytes) = rebuild(&batch, &Rebuild::default(), LIMIT).unwrap() else {
            assert_eq!(batch.record_count(), 0);
            return;
        };
        let (rebuilt, _) = BatchRef::parse(&bytes).unwrap();
        let (mut before, mut after) = (header_line(file, &batch), header_line(file, &rebuilt));
        for line in [&mut before, &mut after] {
            line["crc"] = Value::Null;
            line["size"] = Value::Null;
        }
        assert_eq!(after, before);
        assert_eq!(record_lines(file, &rebuilt), record_lines(file, &batch));
    });
}

#[test]
fn a_renumbered_batch_is_dense_and_as_a_producer_would_make_it() {
    let options = Rebuild {
        numbering: Numbering::Renumber,
        ..Rebuild::default()
    };
    every_batch(|file, batch| {
        let mut expected = record_lines(file, &batch);
        for (place, line) in expected.iter_mut().enumerate() {
            line["offset"] = json!(place);
            // What was a marker is a record now.
            line.as_object_mut().unwrap().remove("control");
        }
        assert_eq!(rebuilt_lines(file, &batch, &options), expected);
        let Some(bytes) = rebuild(&batch, &options, LIMIT).unwrap() else {
            return;
        };
        let (rebuilt, _) = BatchRef::parse(&bytes).unwrap();
        let attributes = rebuilt.attributes();
        assert!(!rebuilt.has_holes());
        assert_eq!(attributes.timestamp_type, TimestampType::CreateTime);
        assert!(!attributes.is_transactional && !attributes.has_delete_horizon);
        assert_eq!(attributes.compression, batch.attributes().compression);
        let largest = expected
            .iter()
            .map(|line| line["timestamp"].as_i64().unwrap())
            .max();
        assert_eq!(rebuilt.max_timestamp().0, largest.unwrap());
    });
}

#[test]
fn dropping_keys_or_headers_changes_nothing_else() {
    for (drop_keys, drop_headers) in [(true, false), (false, true), (true, true)] {
        let options = Rebuild {
            drop_keys,
            drop_headers,
            ..Rebuild::default()
        };
        every_batch(|file, batch| {
            if batch.attributes().is_control {
                return;
            }
            let mut expected = record_lines(file, &batch);
            for line in &mut expected {
                if drop_keys {
                    line["key"] = Value::Null;
                }
                if drop_headers {
                    line["headers"] = json!([]);
                }
            }
            assert_eq!(rebuilt_lines(file, &batch, &options), expected);
        });
    }
}

#[test]
fn a_cut_keeps_exactly_the_records_between_the_bounds() {
    every_batch(|file, batch| {
        if batch.attributes().is_control {
            return;
        }
        let all = record_lines(file, &batch);
        let whole = batch.base_offset().0..=batch.next_offset().0;
        for bound in whole.step_by(3) {
            let (before, behind) = (Offset(0)..Offset(bound), Offset(bound)..Offset(i64::MAX));
            for range in [before, behind] {
                let options = Rebuild {
                    offsets: Some(range.clone()),
                    ..Rebuild::default()
                };
                let mut expected = all.clone();
                expected.retain(|line| range.contains(&Offset(line["offset"].as_i64().unwrap())));
                assert_eq!(rebuilt_lines(file, &batch, &options), expected);
            }
        }
    });
}

#[test]
fn a_window_of_time_goes_by_each_records_own_timestamp() {
    let bounds = [-1, 0, 1, 1_700_000_000_000, 1_700_000_000_001, i64::MAX].map(Timestamp);
    every_batch(|file, batch| {
        if batch.attributes().is_control {
            return;
        }
        let all = record_lines(file, &batch);
        for bound in bounds {
            for (from, until) in [(Some(bound), None), (None, Some(bound))] {
                let options = Rebuild {
                    timestamps: Some((from, until)),
                    ..Rebuild::default()
                };
                let mut expected = all.clone();
                expected.retain(|line| {
                    let time = Timestamp(line["timestamp"].as_i64().unwrap());
                    from.is_none_or(|from| time >= from) && until.is_none_or(|until| time < until)
                });
                assert_eq!(rebuilt_lines(file, &batch, &options), expected);
            }
        }
    });
}

#[test]
fn a_stamped_batch_has_a_producers_header_and_the_stored_payload() {
    let stamp = ProducerStamp {
        producer_id: ProducerId(9000),
        producer_epoch: 4,
        base_sequence: 17,
    };
    every_batch(|file, batch| {
        let mut bytes = restamp(&batch, &stamp).unwrap().to_vec();
        bytes.extend_from_slice(batch.payload());
        let (stamped, _) = BatchRef::parse(&bytes).unwrap();
        stamped.verify_crc().unwrap();
        let kept = |batch: &BatchRef<'_>| {
            (
                batch.last_offset_delta(),
                batch.base_timestamp(),
                batch.max_timestamp(),
                batch.record_count(),
            )
        };
        assert_eq!(kept(&stamped), kept(&batch));
        assert_eq!(
            (stamped.base_offset(), stamped.leader_epoch()),
            (Offset(0), LeaderEpoch(-1))
        );
        let producer = (
            stamped.producer_id(),
            stamped.producer_epoch(),
            stamped.base_sequence(),
        );
        assert_eq!(producer, (ProducerId(9000), 4, 17));
        let only_compression = Attributes {
            timestamp_type: TimestampType::CreateTime,
            is_transactional: false,
            is_control: false,
            has_delete_horizon: false,
            ..batch.attributes()
        };
        assert_eq!(stamped.attributes(), only_compression);
        if batch.attributes().is_control
            || batch.attributes().timestamp_type == TimestampType::LogAppendTime
        {
            return;
        }
        let mut expected = record_lines(file, &batch);
        for line in &mut expected {
            line["offset"] = json!(line["offset"].as_i64().unwrap() - batch.base_offset().0);
        }
        assert_eq!(record_lines(file, &stamped), expected);
    });
}

/// What `GoldenBatches.java` prints of the batches in a directory.
fn read_by_java(directory: &Path) -> Vec<Value> {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/java/GoldenBatches.java");
    let output = Command::new("java")
        .args(["-cp", &Release::V4_1.class_path()])
        .arg(program)
        .arg("dump")
        .arg(directory)
        .output()
        .expect("java is needed: run `bash tests/setup.sh`");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_java_client_reads_rebuilt_and_stamped_batches_as_kafkeep_does() {
    let directory = TempDir::new().unwrap();
    let mut written: Vec<(String, Vec<u8>)> = Vec::new();
    every_batch(|file, batch| {
        let name = |how: &str| format!("{file}.{:010}.{how}", batch.base_offset());
        let mut stamped = restamp(&batch, &ProducerStamp::NONE).unwrap().to_vec();
        stamped.extend_from_slice(batch.payload());
        written.push((name("stamped"), stamped));
        let middle = batch.base_offset().0 + i64::from(batch.last_offset_delta() / 2);
        let variants = [
            ("kept", Rebuild::default()),
            (
                "renumbered",
                Rebuild {
                    numbering: Numbering::Renumber,
                    ..Rebuild::default()
                },
            ),
            (
                "bare",
                Rebuild {
                    drop_keys: !batch.attributes().is_control,
                    drop_headers: true,
                    ..Rebuild::default()
                },
            ),
            (
                "cut",
                Rebuild {
                    offsets: Some(Offset(middle)..Offset(i64::MAX)),
                    ..Rebuild::default()
                },
            ),
        ];
        for (how, options) in variants {
            if let Some(bytes) = rebuild(&batch, &options, LIMIT).unwrap() {
                written.push((name(how), bytes.to_vec()));
            }
        }
    });
    written.sort();
    let mut expected = Vec::new();
    for (name, bytes) in &written {
        std::fs::write(directory.path().join(format!("{name}.bin")), bytes).unwrap();
        let (batch, _) = BatchRef::parse(bytes).unwrap();
        expected.push(header_line(name, &batch));
        expected.extend(record_lines(name, &batch));
    }
    assert!(written.len() > 100);
    let found = read_by_java(directory.path());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}
