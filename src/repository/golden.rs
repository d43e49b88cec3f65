//! The golden repository: written once by this version of the format, and read in every test run from then on.
//!
//! `KAFKEEP_WRITE_GOLDEN=1 cargo test golden` writes it anew. That is for a new version of the format only: what is checked in
//! stands for the repositories of our users.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::testing::{DELETE_HORIZON, TestBatch, TestRecord, concatenated, source, storage};
use super::*;
use crate::record::{
    self, Compression, ControlType, LeaderEpoch, Offset, PartitionId, ProducerId, TopicId,
};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const LOG_APPEND_TIME: i16 = 0x08;
const EMPTY_TOPIC: TopicId = TopicId(*b"fedcba9876543210");
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qk";

pub(super) fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// The golden repository's directory; written first when that is asked for.
fn golden() -> &'static Path {
    static GOLDEN: OnceLock<PathBuf> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        written("golden/repository-v1", |path| {
            write(path);
            fs::remove_dir_all(path.join(".tmp")).unwrap();
        })
    })
}

/// The directory of a golden repository, which is written anew when that is asked for.
pub(super) fn written(name: &str, write: impl FnOnce(&Path)) -> PathBuf {
    let path = place(name);
    if writes() {
        fs::remove_dir_all(&path).ok();
        write(&path);
    }
    path
}

fn writes() -> bool {
    std::env::var_os("KAFKEEP_WRITE_GOLDEN").is_some()
}

pub(super) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
}

/// Records with everything that must not get lost on the way.
fn awkward(base_offset: i64) -> TestBatch {
    let mut batch = TestBatch::new(base_offset, 4, b"value");
    batch.records[0].key = None;
    batch.records[1].value = None;
    batch.records[1].headers = vec![
        (b"trace".to_vec(), Some(b"1".to_vec())),
        (b"trace".to_vec(), None),
        (b"".to_vec(), Some(b"".to_vec())),
        (vec![0xff, 0xfe], Some(vec![0, 0x80])),
    ];
    batch.records[2] = TestRecord {
        timestamp: -5,
        offset: 2,
        key: Some(vec![]),
        value: Some(vec![]),
        headers: vec![],
    };
    batch.records[3].timestamp = 40 * 24 * 3600 * 1000;
    batch.records[3].value = Some("ünï".as_bytes().to_vec());
    batch
}

/// A batch that was compacted: offsets are missing in and after it.
fn compacted(base_offset: i64) -> TestBatch {
    let mut batch = TestBatch::new(base_offset, 6, b"compacted");
    batch.records.retain(|record| record.offset % 2 == 1);
    batch.last_offset_delta = 9;
    batch.attributes |= DELETE_HORIZON;
    batch
}

/// The blocks of the topic `orders` that the first or the second backup finds new, with the codec that each asks for.
fn blocks(backup: usize) -> Vec<(i32, Vec<TestBatch>, Compression)> {
    let text =
        b"{\"order\": 4711, \"state\": \"accepted\", \"lines\": [1, 1, 1, 1, 1, 1, 1, 1, 1]}";
    if backup == 0 {
        let by_producers = CODECS.into_iter().zip((4..).step_by(8));
        let by_producers =
            by_producers.map(|(codec, offset)| TestBatch::new(offset, 8, text).compressed(codec));
        let transactions = vec![
            TestBatch::new(10, 2, b"committed").transactional(4000),
            TestBatch::new(12, 1, b"aborted")
                .transactional(4001)
                .compressed(Compression::Zstd),
            TestBatch::marker(13, 4000, true),
            TestBatch::marker(14, 4001, false),
        ];
        let open = vec![
            compacted(15),
            TestBatch::new(30, 1, b"open").transactional(4002),
        ];
        // In turns, so that there are several extents, and the second backup's layer hangs on the first's.
        let mut blocks = vec![
            (0, vec![awkward(0)], Compression::None),
            (1, transactions, Compression::None),
            (0, by_producers.collect(), Compression::None),
            (1, open, Compression::None),
        ];
        for (codec, offset) in CODECS.into_iter().zip((44..).step_by(20)) {
            blocks.push((
                0,
                vec![
                    TestBatch::new(offset, 10, text),
                    TestBatch::new(offset + 10, 10, text),
                ],
                codec,
            ));
        }
        return blocks;
    }
    let mut log_append_time = TestBatch::new(144, 3, b"stamped by the broker");
    log_append_time.attributes |= LOG_APPEND_TIME;
    log_append_time.leader_epoch = 4;
    vec![
        (
            1,
            vec![TestBatch::marker(31, 4002, true)],
            Compression::Gzip,
        ),
        (0, vec![log_append_time], Compression::Gzip),
    ]
}

/// Writes both backups: the second holds all of the first, and copies only what is new.
fn write(path: &Path) {
    let repository_id = RepositoryId(Uuid::from_u128(0x6b61_666b_6565_7040_8000_0000_0000_0001));
    let storage = Arc::new(DirectoryStorage::create(path).unwrap());
    let repository = Repository::init_as(storage, repository_id, at(0)).unwrap();
    let (mut index, mut orders): (_, [PartitionEntry; 2]) =
        (None, [partition(0, 0), partition(1, 10)]);
    for backup in 0..2 {
        let pack_id = PackId(Uuid::from_u128(
            0x019a_0000_0000_7000_8000_0000_0000_0000 + backup as u128,
        ));
        let mut writer = PackWriter::begin(repository.storage(), repository_id, pack_id).unwrap();
        let mut placed = Vec::new();
        for entry in &mut orders {
            (entry.new_records, entry.new_bytes) = (0, 0);
        }
        for (partition, batches, compression) in blocks(backup) {
            let block =
                SealedBlock::seal(&source(partition), concatenated(&batches), compression).unwrap();
            placed.push((
                writer.append("orders", &block).unwrap(),
                block.header.clone(),
            ));
            count(&mut orders[partition as usize], &block.header);
        }
        let pack = writer.finish().unwrap();
        let mut layer = Layer::new("orders", source(0).topic_id, CLUSTER);
        for (place, header) in placed {
            let extents = layer.partitions.get(&header.partition);
            let read_to = extents.and_then(|extents| Some(extents.last()?.end_offset()));
            let start = read_to.unwrap_or(header.base_offset);
            let extent = Extent::of_block(0, place, start, &header);
            layer.push(header.partition, &pack, extent).unwrap();
        }
        let new_stored = layer
            .partitions
            .values()
            .flatten()
            .map(|extent| extent.length)
            .sum();
        index = Some(repository.extend_index(index.as_ref(), layer).unwrap());
        finish_bounds(&mut orders, backup);
        repository
            .publish(&manifest(&repository, backup, index, &orders, new_stored))
            .unwrap();
    }
}

fn partition(partition: i32, start_offset: i64) -> PartitionEntry {
    PartitionEntry {
        partition: PartitionId(partition),
        start_offset: Offset(start_offset),
        end_offset: Offset(start_offset),
        last_stable_offset: Offset(start_offset),
        leader_epoch: LeaderEpoch(3),
        records: 0,
        control_records: 0,
        bytes: 0,
        stored_bytes: 0,
        new_records: 0,
        new_bytes: 0,
        largest_batch: 0,
        open_transactions: vec![],
        gaps: vec![],
        first_batch: None,
        last_batch: None,
    }
}

fn count(entry: &mut PartitionEntry, header: &BlockHeader) {
    entry.end_offset = Offset(header.last_offset.0 + 1);
    entry.last_stable_offset = entry.end_offset;
    entry.leader_epoch = entry.leader_epoch.max(header.leader_epoch);
    entry.records += u64::from(header.records);
    entry.control_records += u64::from(header.control_records);
    entry.bytes += u64::from(header.raw_len);
    entry.stored_bytes += header.len();
    entry.new_records += u64::from(header.records);
    entry.new_bytes += u64::from(header.raw_len);
    entry.largest_batch = entry.largest_batch.max(header.largest_batch);
}

fn finish_bounds(orders: &mut [PartitionEntry; 2], backup: usize) {
    // The log began later than the chain did: the first records belong to no backup any more.
    if backup == 1 {
        orders[0].start_offset = Offset(2);
        orders[0].records -= 2;
        orders[1].open_transactions.clear();
        return;
    }
    orders[1].last_stable_offset = Offset(30);
    orders[1].open_transactions = vec![OpenTransaction {
        producer_id: ProducerId(4002),
        first_offset: Offset(30),
    }];
    let reason = "deleted by retention before it was copied".to_owned();
    orders[1].gaps = vec![Gap {
        start_offset: Offset(25),
        end_offset: Offset(30),
        reason,
    }];
}

fn manifest(
    repository: &Repository,
    backup: usize,
    index: Option<Sha256>,
    orders: &[PartitionEntry; 2],
    new_stored: u64,
) -> Manifest {
    let configuration = |policy: &str| {
        let entry = json!({
            "name": "cleanup.policy", "value": policy, "source": "DYNAMIC_TOPIC_CONFIG",
            "is_sensitive": false, "is_read_only": false,
        });
        repository.put_state(&json!({"entries": [entry]})).unwrap()
    };
    let topic =
        |topic: &str, topic_id, index, configuration, partitions: Vec<PartitionEntry>| TopicEntry {
            topic: topic.to_owned(),
            topic_id,
            chain_restarted: None,
            partition_count: partitions.len() as u32,
            replication_factor: 3,
            index,
            configuration,
            partitions,
        };
    let sum = |field: fn(&PartitionEntry) -> u64| orders.iter().map(field).sum::<u64>();
    let started_at = at(3600 * (backup as i64 + 1));
    Manifest {
        format: FORMAT,
        backup_id: BackupId::from_parts(started_at, [0xab, 0xcd, backup as u8]),
        sequence: 0,
        previous: None,
        policy: (backup == 1).then(|| "hourly".to_owned()),
        kafkeep_version: "0.1.0".to_owned(),
        repository_id: repository.id(),
        cluster_id: CLUSTER.to_owned(),
        cluster_name: None,
        started_at,
        finished_at: started_at + chrono::Duration::milliseconds(1_250),
        status: Completion::Completed,
        selection: None,
        topics: vec![
            topic(
                "empty",
                EMPTY_TOPIC,
                None,
                configuration("delete"),
                vec![partition(0, 7)],
            ),
            topic(
                "orders",
                source(0).topic_id,
                index,
                configuration("compact"),
                orders.to_vec(),
            ),
        ],
        groups: None,
        totals: Totals {
            records: sum(|entry| entry.records),
            bytes: sum(|entry| entry.bytes),
            stored_bytes: sum(|entry| entry.stored_bytes),
            new_records: sum(|entry| entry.new_records),
            new_bytes: sum(|entry| entry.new_bytes),
            new_stored_bytes: new_stored,
            reused_bytes: sum(|entry| entry.bytes) - sum(|entry| entry.new_bytes),
        },
    }
}

/// A backup's records as JSON lines, read by this crate.
fn dump(repository: &Repository, backup_id: &BackupId) -> Vec<Value> {
    let mut lines = Vec::new();
    for topic in repository.manifest(backup_id).unwrap().topics {
        let Some(index) = topic.index else { continue };
        let index = repository.index(&index).unwrap();
        for entry in &topic.partitions {
            for extent in &index.partitions[&entry.partition] {
                let pack = repository
                    .open_pack(&index.packs[extent.pack as usize])
                    .unwrap();
                for block in pack.blocks(extent.offset..extent.end()) {
                    let block = block.unwrap();
                    block.verify().unwrap();
                    for batch in record::batches(&block.raw) {
                        dump_batch(&topic.topic, entry, &batch.unwrap(), &mut lines);
                    }
                }
            }
        }
    }
    lines
}

fn dump_batch(
    topic: &str,
    entry: &PartitionEntry,
    batch: &record::BatchRef<'_>,
    lines: &mut Vec<Value>,
) {
    let attributes = batch.attributes();
    let control = batch.control_type().unwrap();
    for record in batch.open(1 << 20).unwrap().records() {
        let record = record.unwrap();
        if record.offset < entry.start_offset || record.offset >= entry.end_offset {
            continue;
        }
        let mut line = json!({
            "topic": topic,
            "partition": entry.partition.0,
            "offset": record.offset.0,
            "timestamp": record.timestamp.0,
        });
        if attributes.is_transactional {
            line["producer_id"] = json!(batch.producer_id().0);
        }
        match control {
            Some(ControlType::Commit) => line["control"] = json!("commit"),
            Some(ControlType::Abort) => line["control"] = json!("abort"),
            _ => {
                let headers = record.headers.iter().map(|header| {
                    let (key, value) = header;
                    json!([shown(Some(key)), shown(value)])
                });
                line["headers"] = headers.collect();
                line["key"] = shown(record.key);
                line["value"] = shown(record.value);
            }
        }
        lines.push(line);
    }
}

fn shown(bytes: Option<&[u8]>) -> Value {
    use base64::Engine;
    let Some(bytes) = bytes else {
        return Value::Null;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    }
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What the independent reader prints, checked against what is checked in.
fn python(arguments: &[&str], expected: &str) -> String {
    python_on(golden(), arguments, &format!("repository-v1.{expected}"))
}

/// The same of another golden repository.
pub(super) fn python_on(repository: &Path, arguments: &[&str], expected: &str) -> String {
    let output = Command::new("python3")
        .arg(place("format/reader.py"))
        .args([arguments[0], repository.to_str().unwrap()])
        .args(&arguments[1..])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python3 is needed: apt-get install python3 python3-zstandard");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    let expected = place(&format!("golden/{expected}.jsonl"));
    if writes() {
        fs::write(&expected, &printed).unwrap();
    }
    assert_eq!(printed, fs::read_to_string(expected).unwrap());
    printed
}

#[test]
fn the_golden_repository_is_read_and_proven() {
    let repository = Repository::open(storage(golden())).unwrap();
    let backups = repository.backup_ids().unwrap();
    assert_eq!(backups.len(), 2);
    assert_eq!(repository.packs().unwrap().len(), 2);
    let newest = repository.manifest(&backups[1]).unwrap().topics[1]
        .index
        .unwrap();
    assert!(repository.layer(&newest).unwrap().parent.is_some());
    for backup_id in &backups {
        let manifest = repository.manifest(backup_id).unwrap();
        let lines = dump(&repository, backup_id);
        let controls = lines
            .iter()
            .filter(|line| line.get("control").is_some())
            .count();
        assert_eq!((lines.len() - controls) as u64, manifest.totals.records);
        for topic in &manifest.topics {
            let configuration: Value = repository.state(&topic.configuration).unwrap();
            assert_eq!(configuration["entries"][0]["name"], "cleanup.policy");
        }
    }
}

#[test]
fn the_independent_reader_lists_the_golden_repository() {
    let lines = json_lines(&python(&["list"], "list"));
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.get("totals").is_some())
            .count(),
        2
    );
}

#[test]
fn the_independent_reader_and_kafkeep_read_the_same_records() {
    let repository = Repository::open(storage(golden())).unwrap();
    for (backup_id, expected) in repository
        .backup_ids()
        .unwrap()
        .iter()
        .zip(["first", "second"])
    {
        let lines = json_lines(&python(&["dump", &backup_id.to_string()], expected));
        let own = dump(&repository, backup_id);
        assert_eq!(lines.len(), own.len());
        for (line, own) in lines.iter().zip(&own) {
            assert_eq!(line, own);
        }
    }
}

#[test]
fn the_golden_blocks_use_every_codec() {
    let repository = Repository::open(storage(golden())).unwrap();
    let manifest = repository
        .manifest(&repository.backup_ids().unwrap()[1])
        .unwrap();
    let index = repository
        .index(&manifest.topics[1].index.unwrap())
        .unwrap();
    let (mut of_blocks, mut of_batches) = (Vec::new(), Vec::new());
    for pack in &index.packs {
        let pack = repository.open_pack(pack).unwrap();
        for block in pack.blocks(pack.block_range()) {
            let block = block.unwrap();
            of_blocks.push(block.header.compression);
            of_batches.extend(
                record::batches(&block.raw).map(|batch| batch.unwrap().attributes().compression),
            );
        }
    }
    assert!(
        CODECS
            .iter()
            .all(|codec| of_blocks.contains(codec) && of_batches.contains(codec))
    );
}
