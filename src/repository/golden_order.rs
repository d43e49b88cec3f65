//! The golden repository of the order of backups: one of them made while the clock ran a year ahead, one expired. Written once, and
//! read in every test run from then on: `KAFKEEP_WRITE_GOLDEN=1 cargo test --lib golden_order` writes it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::golden::{at, python_on, written};
use super::manifest_tests::manifest;
use super::testing::storage;
use super::*;

fn golden() -> &'static Path {
    static GOLDEN: OnceLock<PathBuf> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        written("golden/repository-v1-order", |path| {
            write(path);
            for left in [".tmp", "locks"] {
                fs::remove_dir_all(path.join(left)).ok();
            }
        })
    })
}

/// When each backup began by the clock of then, and its id's millisecond.
fn moments() -> [(DateTime<Utc>, DateTime<Utc>); 3] {
    let ahead = at(365 * 86_400);
    let behind = (at(7200), ahead + TimeDelta::milliseconds(1));
    [(at(3600), at(3600)), (ahead, ahead), behind]
}

fn write(path: &Path) {
    let repository_id = RepositoryId(Uuid::from_u128(0x6b61_666b_6565_7040_8000_0000_0000_0002));
    let storage = Arc::new(DirectoryStorage::create(path).unwrap());
    let repository = Repository::init_as(storage, repository_id, at(0)).unwrap();
    let configuration = repository.put_state(&json!({"entries": []})).unwrap();
    let mut previous = None;
    for (number, (started_at, named)) in (1..).zip(moments()) {
        let backup_id = BackupId::from_parts(named, [0, 0, number]);
        let mut manifest = manifest(&repository, backup_id);
        manifest.sequence = repository.sequence_at(backup_id).unwrap();
        manifest.previous = previous;
        manifest.started_at = started_at;
        manifest.finished_at = started_at + TimeDelta::milliseconds(1_250);
        manifest.groups = None;
        for topic in &mut manifest.topics {
            (topic.index, topic.configuration) = (None, configuration);
        }
        repository.publish(&manifest).unwrap();
        let (_, sha256) = repository.manifest_with_digest(&backup_id).unwrap();
        previous = Some(PreviousBackup { backup_id, sha256 });
    }
    let first = repository.backup_ids().unwrap()[0];
    let lock = repository.lock_exclusive("golden").unwrap();
    let gone = ExpiredBackup {
        backup_id: first,
        sequence: 1,
        expired_at: at(7300),
        why: WhyGone::Retention,
    };
    repository.record_expired(&lock, [gone]).unwrap();
    let expired = repository.manifest(&first).unwrap();
    repository.remove_backup(&lock, &expired).unwrap();
}

#[test]
fn the_golden_order_is_read_and_goes_on() {
    let repository = Repository::open(storage(golden())).unwrap();
    let ids = repository.backup_ids().unwrap();
    let manifests = ids.iter().map(|id| repository.manifest(id).unwrap());
    let read: Vec<_> = manifests
        .map(|manifest| (manifest.sequence, manifest.started_at))
        .collect();
    let [_, second, third] = moments();
    assert_eq!(read, [(2, second.0), (3, third.0)]);
    let expired = repository.expired_backups().unwrap();
    let first = BackupId::from_parts(at(3600), [0, 0, 1]);
    assert!(!expired.is_lost(first, &ids));
    assert!(expired.is_lost(BackupId::from_parts(at(3601), [0, 0, 1]), &ids));
    let next = repository.next_place(at(7400)).unwrap();
    assert!(next.backup_id > ids[1]);
    assert_eq!(next.previous.unwrap().backup_id, ids[1]);
    assert_eq!(repository.sequence_at(next.backup_id).unwrap(), 4);
}

#[test]
fn the_independent_reader_proves_the_golden_order() {
    python_on(golden(), &["list"], "repository-v1-order.list");
}
