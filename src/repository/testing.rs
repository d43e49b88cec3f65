//! What the tests of this room share: batches made by hand, repositories in temporary directories.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use rustix::io::Errno;
use tempfile::TempDir;

use super::{
    Answer, BlockSource, Call, DirectoryStorage, PackRef, Repository, RepositoryError, SealedBlock,
    Storage, StorageLayer, answer,
};
use crate::record::{self, Compression, PartitionId, TopicId, crc32c};

pub(super) const TOPIC_ID: TopicId = TopicId(*b"0123456789abcdef");

pub(super) struct Scratch {
    pub(super) directory: TempDir,
    pub(super) repository: Repository,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::init(storage(directory.path())).unwrap();
        Self {
            directory,
            repository,
        }
    }

    pub(super) fn path_of(&self, pack: &PackRef) -> std::path::PathBuf {
        self.directory
            .path()
            .join(super::pack::pack_name(pack.pack_id).unwrap().as_str())
    }

    /// A pack of the blocks.
    pub(super) fn pack(&self, blocks: &[SealedBlock]) -> PackRef {
        let mut writer = self.repository.pack_writer().unwrap();
        for block in blocks {
            writer.append("orders", block).unwrap();
        }
        writer.finish().unwrap()
    }
}

pub(super) fn storage(path: &Path) -> Arc<DirectoryStorage> {
    Arc::new(DirectoryStorage::open(path).unwrap())
}

/// A directory on a file system that hangs now and then, as NFS does whose server is gone, or does not remove what it should.
#[derive(Debug)]
pub(super) struct HangingStorage {
    directory: Arc<DirectoryStorage>,
    /// So many removals fail.
    failing_removals: AtomicUsize,
    /// When so many objects were looked at, the look fails; never with 0.
    failing_look: AtomicUsize,
    /// Whether it hangs, and how many calls do.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl HangingStorage {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            directory: storage(path),
            failing_removals: AtomicUsize::new(0),
            failing_look: AtomicUsize::new(0),
            state: Mutex::new((false, 0)),
            changed: Condvar::new(),
        }
    }

    pub(super) fn hang(&self, hangs: bool) {
        self.state.lock().unwrap().0 = hangs;
        self.changed.notify_all();
    }

    /// The next so many removals fail.
    pub(super) fn fail_removals(&self, count: usize) {
        self.failing_removals.store(count, Ordering::SeqCst);
    }

    /// Of the next looks at an object, the one of this number fails, counted from 1.
    pub(super) fn fail_look(&self, number: usize) {
        self.failing_look.store(number, Ordering::SeqCst);
    }

    /// How many calls hang.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().unwrap().1
    }

    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        let mut state = self.changed.wait_while(state, |state| state.0).unwrap();
        state.1 -= 1;
    }
}

impl StorageLayer for HangingStorage {
    fn below(&self) -> &dyn Storage {
        self.directory.as_ref()
    }

    fn before<'a>(&'a self, call: Call<'a>) -> Answer<'a, ()> {
        answer(move || {
            if let Call::Delete(name) = call {
                let left = |left: usize| left.checked_sub(1);
                let failing = &self.failing_removals;
                let struck = failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
                if struck.is_ok() {
                    let name = name.to_string();
                    return Err(RepositoryError::system("remove", &name, Errno::IO));
                }
            }
            if let Call::Size(name) = call {
                let left = |left: usize| left.checked_sub(1);
                let look = &self.failing_look;
                if look.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left) == Ok(1) {
                    let name = name.to_string();
                    return Err(RepositoryError::system("examine", &name, Errno::MFILE));
                }
            }
            self.wait();
            Ok(())
        })
    }
}

pub(super) fn source(partition: i32) -> BlockSource {
    BlockSource {
        topic_id: TOPIC_ID,
        partition: PartitionId(partition),
    }
}

/// A record as a batch holds it; the timestamp is a delta.
#[derive(Clone, Default)]
pub(super) struct TestRecord {
    pub(super) timestamp: i64,
    pub(super) offset: i32,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A batch as a broker would hand it out.
#[derive(Clone)]
pub(super) struct TestBatch {
    pub(super) base_offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) compression: Compression,
    pub(super) attributes: i16,
    pub(super) base_timestamp: i64,
    pub(super) producer: (i64, i16, i32),
    pub(super) last_offset_delta: i32,
    pub(super) records: Vec<TestRecord>,
}

pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;
pub(super) const DELETE_HORIZON: i16 = 0x40;

impl TestBatch {
    /// `count` records whose values are `value`, one offset after the other.
    pub(super) fn new(base_offset: i64, count: i32, value: &[u8]) -> Self {
        let record = |offset| TestRecord {
            timestamp: i64::from(offset),
            offset,
            key: Some(format!("key-{offset}").into_bytes()),
            value: Some(value.to_vec()),
            headers: Vec::new(),
        };
        Self {
            base_offset,
            leader_epoch: 3,
            compression: Compression::None,
            attributes: 0,
            base_timestamp: 1_795_000_000_000,
            producer: (-1, -1, -1),
            last_offset_delta: count - 1,
            records: (0..count).map(record).collect(),
        }
    }

    pub(super) fn compressed(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Part of a transaction of this producer.
    pub(super) fn transactional(mut self, producer_id: i64) -> Self {
        self.attributes |= TRANSACTIONAL;
        self.producer = (producer_id, 0, 0);
        self
    }

    /// The marker that ends a transaction.
    pub(super) fn marker(offset: i64, producer_id: i64, commit: bool) -> Self {
        let mut batch = Self::new(offset, 1, &[]);
        batch.attributes = TRANSACTIONAL | CONTROL;
        batch.producer = (producer_id, 0, -1);
        batch.records[0].key = Some(vec![0, 0, 0, u8::from(commit)]);
        batch.records[0].value = Some(vec![0; 6]);
        batch
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let records: Vec<u8> = self.records.iter().flat_map(encode_record).collect();
        let records = match self.compression {
            Compression::None => records,
            codec => record::compress(codec, &records).unwrap(),
        };
        let newest = self
            .records
            .iter()
            .map(|record| record.timestamp)
            .max()
            .unwrap_or_default();
        let mut covered = Vec::new();
        covered.extend((self.attributes | i16::from(self.compression.id())).to_be_bytes());
        covered.extend(self.last_offset_delta.to_be_bytes());
        covered.extend(self.base_timestamp.to_be_bytes());
        covered.extend((self.base_timestamp + newest).to_be_bytes());
        covered.extend(self.producer.0.to_be_bytes());
        covered.extend(self.producer.1.to_be_bytes());
        covered.extend(self.producer.2.to_be_bytes());
        covered.extend((self.records.len() as i32).to_be_bytes());
        covered.extend(records);
        let mut batch = Vec::new();
        batch.extend(self.base_offset.to_be_bytes());
        batch.extend((covered.len() as i32 + 9).to_be_bytes());
        batch.extend(self.leader_epoch.to_be_bytes());
        batch.push(2);
        batch.extend(crc32c(&covered).to_be_bytes());
        batch.extend(covered);
        batch
    }
}

fn encode_record(record: &TestRecord) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, record.timestamp);
    varint(&mut body, i64::from(record.offset));
    bytes(&mut body, record.key.as_deref());
    bytes(&mut body, record.value.as_deref());
    varint(&mut body, record.headers.len() as i64);
    for (key, value) in &record.headers {
        bytes(&mut body, Some(key));
        bytes(&mut body, value.as_deref());
    }
    let mut out = Vec::new();
    varint(&mut out, body.len() as i64);
    out.extend(body);
    out
}

fn bytes(out: &mut Vec<u8>, value: Option<&[u8]>) {
    varint(out, value.map_or(-1, |value| value.len() as i64));
    out.extend(value.unwrap_or_default());
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn concatenated(batches: &[TestBatch]) -> Bytes {
    batches
        .iter()
        .flat_map(TestBatch::encode)
        .collect::<Vec<u8>>()
        .into()
}

pub(super) fn sealed(
    partition: i32,
    batches: &[TestBatch],
    compression: Compression,
) -> SealedBlock {
    SealedBlock::seal(&source(partition), concatenated(batches), compression).unwrap()
}

/// Bytes that no codec makes smaller, the same at every call.
pub(super) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(length)
        .collect()
}
