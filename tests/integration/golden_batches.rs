//! What the Java client wrote, read as the Java client reads it. `tests/golden/java/GoldenBatches.java` made the files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use kafkeep::record::{
    BatchRef, Compression, ControlType, Offset, RecordError, RecordRef, TimestampType, batches,
    murmur2, next_sequence, partition_for_key,
};

pub const LIMIT: usize = 1 << 20;

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

pub fn every_batch(mut check: impl FnMut(&str, BatchRef<'_>)) {
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
pub fn header_line(file: &str, batch: &BatchRef<'_>) -> Value {
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

pub fn record_lines(file: &str, batch: &BatchRef<'_>) -> Vec<Value> {
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
