//! What the Java client wrote, read as the Java client reads it. `tests/golden/java/GoldenBatches.java` made the files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

const LIMIT: usize = 1 << 20;

fn golden(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/golden/batches").join(name)
}

fn json_lines(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The golden files by name, without those of old message formats.
fn files() -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(golden("")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, path)
    });
    let files: BTreeMap<String, Vec<u8>> = files
        .filter_map(|(name, path)| {
            let name = name.strip_suffix(".bin")?;
            (!is_old(name)).then(|| (name.to_owned(), std::fs::read(path).unwrap()))
        })
        .collect();
    assert!(files.len() > 15, "golden files are missing");
    files
}

fn is_old(name: &str) -> bool {
    name.starts_with("v0-") || name.starts_with("v1-")
}

fn every_batch(mut check: impl FnMut(&str, BatchRef<'_>)) {
    for (name, bytes) in files() {
        for batch in batches(&bytes) {
            check(&name, batch.unwrap());
        }
    }
}

fn shown(bytes: Option<&[u8]>) -> Value {
    use base64::Engine;
    use sha2::Digest;
    match bytes {
        None => Value::Null,
        Some(bytes) if bytes.len() <= 96 => {
            json!(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        Some(bytes) => {
            let digest = sha2::Sha256::digest(bytes);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"length": bytes.len(), "sha256": digest})
        }
    }
}

/// A batch's header as `GoldenBatches` prints it.
fn header_line(file: &str, batch: &BatchRef<'_>) -> Value {
    let attributes = batch.attributes();
    let last_sequence = match batch.base_sequence() {
        -1 => -1,
        first => next_sequence(first, batch.last_offset_delta() as u32),
    };
    json!({
        "file": file, "magic": 2, "base_offset": batch.base_offset(), "last_offset": batch.last_offset(),
        "next_offset": batch.next_offset(), "size": batch.len(), "count": batch.record_count(),
        "leader_epoch": batch.leader_epoch(), "crc": batch.crc(), "compression": attributes.compression,
        "append_time": attributes.timestamp_type == TimestampType::LogAppendTime,
        "transactional": attributes.is_transactional, "control": attributes.is_control,
        "delete_horizon": attributes.has_delete_horizon.then(|| batch.base_timestamp()),
        "max_timestamp": batch.max_timestamp(), "producer_id": batch.producer_id(),
        "producer_epoch": batch.producer_epoch(), "base_sequence": batch.base_sequence(),
        "last_sequence": last_sequence,
    })
}

/// A record as `GoldenBatches` prints it.
fn record_line(file: &str, record: &RecordRef<'_>, control: Option<ControlType>) -> Value {
    let headers = record.headers.iter();
    let headers: Vec<Value> = headers
        .map(|(key, value)| json!([shown(Some(key)), shown(value)]))
        .collect();
    let mut line = json!({
        "file": file, "offset": record.offset, "timestamp": record.timestamp,
        "key": shown(record.key), "value": shown(record.value), "headers": headers,
    });
    match control {
        None => {}
        Some(ControlType::Commit) => line["control"] = json!("commit"),
        Some(ControlType::Abort) => line["control"] = json!("abort"),
        Some(ControlType::Other(2)) => line["control"] = json!("leader_change"),
        Some(other) => panic!("{other:?}"),
    }
    line
}

fn record_lines(file: &str, batch: &BatchRef<'_>) -> Vec<Value> {
    let control = batch.control_type().unwrap();
    let opened = batch.open(LIMIT).unwrap();
    let records = opened.records();
    records
        .map(|record| record_line(file, &record.unwrap(), control))
        .collect()
}

#[test]
fn batches_and_records_read_as_the_java_client_reads_them() {
    let mut expected = json_lines("batches.jsonl")
        .into_iter()
        .filter(|line| !is_old(line["file"].as_str().unwrap()));
    every_batch(|file, batch| {
        batch.verify_crc().unwrap();
        assert_eq!(Some(header_line(file, &batch)), expected.next());
        for line in record_lines(file, &batch) {
            assert_eq!(Some(line), expected.next());
        }
    });
    assert_eq!(expected.next(), None);
}

#[test]
fn golden_batches_cover_every_codec_and_every_attribute() {
    let mut seen = Vec::new();
    every_batch(|_, batch| {
        let attributes = batch.attributes();
        seen.push((attributes.compression, "any"));
        let append_time = attributes.timestamp_type == TimestampType::LogAppendTime;
        for (is, what) in [
            (append_time, "append time"),
            (attributes.has_delete_horizon, "delete horizon"),
            (batch.has_holes(), "holes"),
            (attributes.is_transactional, "transactional"),
            (attributes.is_control, "control"),
            (batch.record_count() == 0, "empty"),
        ] {
            seen.extend(is.then_some((attributes.compression, what)));
        }
    });
    for codec in Compression::ALL {
        for what in ["any", "append time", "delete horizon", "holes"] {
            assert!(seen.contains(&(codec, what)), "{codec} {what}");
        }
    }
    for what in ["transactional", "control", "empty"] {
        assert!(seen.contains(&(Compression::None, what)), "{what}");
    }
}

#[test]
fn old_message_formats_are_named_with_their_offset() {
    let lines = json_lines("batches.jsonl");
    for magic in [0, 1] {
        for codec in ["none", "gzip", "snappy", "lz4"] {
            let name = format!("v{magic}-{codec}");
            let bytes = std::fs::read(golden(&format!("{name}.bin"))).unwrap();
            let first = lines.iter().find(|line| line["file"] == name).unwrap();
            // A compressed message has the offset of the last one in it.
            let offset = Offset(first["last_offset"].as_i64().unwrap());
            let mut found = batches(&bytes);
            let error = found.next().unwrap().unwrap_err();
            assert_eq!(error, RecordError::OldMessageFormat { magic, offset });
            assert!(found.next().is_none());
            let text = error.to_string();
            assert!(
                text.contains(&format!("format v{magic} at offset {offset}")),
                "{text}"
            );
        }
    }
}

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

#[test]
fn golden_keys_go_where_the_java_client_puts_them() {
    use base64::Engine;
    let lines = json_lines("partitions.jsonl");
    assert_eq!(lines.len(), 64);
    for line in lines {
        let key = base64::engine::general_purpose::STANDARD.decode(line["key"].as_str().unwrap());
        let key = key.unwrap();
        assert_eq!(json!(murmur2(&key) as i32), line["murmur2"]);
        for partitions in [1, 2, 7, 50, 1_000, i32::MAX as u32] {
            assert_eq!(
                json!(partition_for_key(&key, partitions)),
                line[partitions.to_string()]
            );
        }
    }
}
