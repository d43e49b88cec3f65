//! The golden repository of manifests that name their cluster, beside one of an older version that does not. Written once, and read
//! in every test run from then on: `KAFKEEP_WRITE_GOLDEN=1 cargo test --lib golden_cluster` writes it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::json;
use uuid::Uuid;

use super::golden::{at, python_on, written};
use super::manifest_tests::manifest;
use super::testing::storage;
use super::*;

fn golden() -> &'static Path {
    static GOLDEN: OnceLock<PathBuf> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        written("golden/repository-v1-cluster", |path| {
            write(path);
            fs::remove_dir_all(path.join(".tmp")).ok();
        })
    })
}

/// The name of the cluster in each backup.
const NAMES: [Option<&str>; 2] = [None, Some("prod")];

fn write(path: &Path) {
    let repository_id = RepositoryId(Uuid::from_u128(0x6b61_666b_6565_7040_8000_0000_0000_0003));
    let storage = Arc::new(DirectoryStorage::create(path).unwrap());
    let repository = Repository::init_as(storage, repository_id, at(0)).unwrap();
    let configuration = repository.put_state(&json!({"entries": []})).unwrap();
    let mut previous = None;
    for (number, name) in (1..).zip(NAMES) {
        let backup_id = BackupId::from_parts(at(3600 * i64::from(number)), [0, 0, number]);
        let mut manifest = manifest(&repository, backup_id);
        manifest.sequence = u64::from(number);
        manifest.previous = previous;
        manifest.cluster_name = name.map(str::to_owned);
        manifest.groups = None;
        for topic in &mut manifest.topics {
            (topic.index, topic.configuration) = (None, configuration);
        }
        repository.publish(&manifest).unwrap();
        let (_, sha256) = repository.manifest_with_digest(&backup_id).unwrap();
        previous = Some(PreviousBackup { backup_id, sha256 });
    }
}

#[test]
fn the_golden_clusters_have_their_names() {
    let repository = Repository::open(storage(golden())).unwrap();
    let ids = repository.backup_ids().unwrap();
    let manifests = ids.iter().map(|id| repository.manifest(id).unwrap());
    let names: Vec<Option<String>> = manifests.map(|manifest| manifest.cluster_name).collect();
    assert_eq!(names, NAMES.map(|name| name.map(str::to_owned)));
}

#[test]
fn the_independent_reader_proves_the_golden_clusters() {
    python_on(golden(), &["list"], "repository-v1-cluster.list");
}
