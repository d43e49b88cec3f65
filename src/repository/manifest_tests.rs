//! Manifests are read back as written, proven to be so, and never spoil one another.

use std::fs;

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::testing::{Scratch, TOPIC_ID};
use super::*;
use crate::record::{LeaderEpoch, Offset, PartitionId, ProducerId, Timestamp};

fn second(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn batch(base_offset: i64, last_offset: i64) -> BatchEvidence {
    BatchEvidence {
        base_offset: Offset(base_offset),
        last_offset: Offset(last_offset),
        leader_epoch: LeaderEpoch(2),
        crc32c: 0xfeed_beef,
        max_timestamp: Timestamp(1_795_000_000_000),
    }
}

pub(super) fn manifest(repository: &Repository, backup_id: BackupId) -> Manifest {
    Manifest {
        format: FORMAT,
        backup_id,
        sequence: 0,
        previous: None,
        policy: Some("hourly".to_owned()),
        kafkeep_version: "0.1.0".to_owned(),
        repository_id: repository.id(),
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qk".to_owned(),
        cluster_name: None,
        started_at: backup_id.started_at(),
        finished_at: backup_id.started_at() + chrono::Duration::milliseconds(1_250),
        status: Completion::Completed,
        selection: None,
        topics: vec![TopicEntry {
            topic: "orders".to_owned(),
            topic_id: TOPIC_ID,
            chain_restarted: None,
            partition_count: 1,
            replication_factor: 3,
            index: Some(Sha256::of(b"index")),
            configuration: Sha256::of(b"configuration"),
            partitions: vec![PartitionEntry {
                partition: PartitionId(0),
                start_offset: Offset(5),
                end_offset: Offset(100),
                last_stable_offset: Offset(90),
                leader_epoch: LeaderEpoch(2),
                records: 80,
                control_records: 5,
                bytes: 10_000,
                stored_bytes: 5_000,
                new_records: 80,
                new_bytes: 10_000,
                largest_batch: 900,
                open_transactions: vec![OpenTransaction {
                    producer_id: ProducerId(7),
                    first_offset: Offset(90),
                }],
                gaps: vec![Gap {
                    start_offset: Offset(10),
                    end_offset: Offset(20),
                    reason: "retention".to_owned(),
                }],
                first_batch: Some(batch(4, 9)),
                last_batch: Some(batch(95, 99)),
            }],
        }],
        groups: Some(Sha256::of(b"groups")),
        totals: Totals {
            records: 80,
            bytes: 10_000,
            ..Totals::default()
        },
    }
}

fn publish(scratch: &Scratch, second_of_start: i64) -> BackupId {
    let id = BackupId::from_parts(second(second_of_start), [1, 2, 3]);
    scratch
        .repository
        .publish(&manifest(&scratch.repository, id))
        .unwrap();
    id
}

fn path(scratch: &Scratch, id: &BackupId) -> std::path::PathBuf {
    scratch.directory.path().join(format!("backups/{id}.json"))
}

#[test]
fn manifests_are_read_back_as_written_oldest_first() {
    let scratch = Scratch::new();
    assert!(scratch.repository.backup_ids().unwrap().is_empty());
    let later = publish(&scratch, 1_795_000_100);
    let earlier = publish(&scratch, 1_795_000_000);
    assert_eq!(scratch.repository.backup_ids().unwrap(), [earlier, later]);
    assert_eq!(
        scratch.repository.manifest(&later).unwrap(),
        manifest(&scratch.repository, later)
    );
    let text = fs::read_to_string(path(&scratch, &later)).unwrap();
    assert!(text.lines().count() > 40, "not for people:\n{text}");
    assert!(
        text.contains("\"started_at\": \"2026-11-18T11:08:20Z\""),
        "{text}"
    );
    let published_again = scratch
        .repository
        .publish(&manifest(&scratch.repository, later));
    assert!(matches!(
        published_again,
        Err(RepositoryError::AlreadyExists { .. })
    ));
}

#[test]
fn a_manifest_without_groups_does_not_speak_of_them() {
    let scratch = Scratch::new();
    let id = BackupId::from_parts(second(1_795_000_000), [1, 2, 3]);
    let without = Manifest {
        groups: None,
        ..manifest(&scratch.repository, id)
    };
    scratch.repository.publish(&without).unwrap();
    let text = fs::read_to_string(path(&scratch, &id)).unwrap();
    assert!(!text.contains("groups"), "{text}");
    assert_eq!(scratch.repository.manifest(&id).unwrap(), without);
}

#[test]
fn a_damaged_manifest_spoils_no_other() {
    let scratch = Scratch::new();
    let (damaged, good) = (
        publish(&scratch, 1_795_000_000),
        publish(&scratch, 1_795_000_100),
    );
    let whole = fs::read(path(&scratch, &damaged)).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(path(&scratch, &damaged), flipped).unwrap();
        let found = scratch.repository.manifest(&damaged);
        assert!(
            matches!(found, Err(RepositoryError::DamagedManifest { id, .. }) if id == damaged),
            "bit {bit}: {found:?}"
        );
    }
    for length in 0..whole.len() - 1 {
        fs::write(path(&scratch, &damaged), &whole[..length]).unwrap();
        assert!(
            scratch.repository.manifest(&damaged).is_err(),
            "cut to {length}"
        );
    }
    fs::remove_file(path(&scratch, &damaged)).unwrap();
    std::os::unix::fs::symlink(path(&scratch, &good), path(&scratch, &damaged)).unwrap();
    assert!(matches!(
        scratch.repository.manifest(&damaged),
        Err(RepositoryError::DamagedManifest { .. })
    ));
    assert!(scratch.repository.manifest(&good).is_ok());
}

#[test]
fn manifests_of_other_backups_and_repositories_are_damaged_ones() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let (first, second) = (
        publish(&scratch, 1_795_000_000),
        publish(&scratch, 1_795_000_100),
    );
    fs::copy(path(&scratch, &second), path(&scratch, &first)).unwrap();
    let error = scratch.repository.manifest(&first).unwrap_err().to_string();
    assert!(error.contains(&second.to_string()), "{error}");
    publish(&other, 1_795_000_000);
    fs::copy(path(&other, &first), path(&scratch, &first)).unwrap();
    let error = scratch.repository.manifest(&first).unwrap_err().to_string();
    assert!(
        error.contains(&other.repository.id().to_string()),
        "{error}"
    );
    assert!(
        scratch
            .repository
            .publish(&manifest(&other.repository, first))
            .is_err()
    );
}

#[test]
fn a_newer_manifest_is_said_to_be_one() {
    let scratch = Scratch::new();
    let id = publish(&scratch, 1_795_000_000);
    let inner = r#"{"format": 2, "unheard_of": true}"#;
    let sha256 = Sha256::of(inner.as_bytes());
    fs::write(
        path(&scratch, &id),
        format!(r#"{{"manifest": {inner}, "sha256": "{sha256}"}}"#),
    )
    .unwrap();
    let error = scratch.repository.manifest(&id).unwrap_err();
    assert!(
        matches!(
            error,
            RepositoryError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("newer kafkeep"), "{error}");
}

#[test]
fn an_unknown_backup_names_the_nearest() {
    let scratch = Scratch::new();
    let nobody = scratch
        .repository
        .find_backup("20261118T110640000Z-010203")
        .unwrap_err();
    assert!(nobody.to_string().contains("no backups"), "{nobody}");
    let ids: Vec<BackupId> = (0..5)
        .map(|hour| publish(&scratch, 1_795_000_000 + hour * 3600))
        .collect();
    let mistyped = "20261118T120640001Z-010203";
    for error in [
        scratch.repository.find_backup(mistyped).unwrap_err(),
        scratch
            .repository
            .manifest(&mistyped.parse().unwrap())
            .unwrap_err(),
    ] {
        let RepositoryError::UnknownBackup { id, nearest } = error else {
            panic!("{error:?}")
        };
        assert_eq!(id, mistyped);
        assert_eq!((nearest.len(), nearest[0]), (3, ids[1]));
    }
}

#[test]
fn the_beginning_of_one_id_is_enough() {
    let scratch = Scratch::new();
    let ids: Vec<BackupId> = (0..2)
        .map(|hour| publish(&scratch, 1_795_000_000 + hour * 3600))
        .collect();
    assert_eq!(
        scratch.repository.find_backup("20261118T12").unwrap(),
        ids[1]
    );
    assert_eq!(
        scratch.repository.find_backup(&ids[0].to_string()).unwrap(),
        ids[0]
    );
    assert!(matches!(
        scratch.repository.find_backup(""),
        Err(RepositoryError::UnknownBackup { .. })
    ));
}

#[test]
fn the_beginning_of_several_ids_is_refused_with_the_newest_of_them() {
    let scratch = Scratch::new();
    let older = publish(&scratch, 1_795_000_000);
    let newer = publish(&scratch, 1_795_003_600);
    match scratch.repository.find_backup("2026") {
        Err(RepositoryError::AmbiguousBackup { count, newest, .. }) => {
            assert_eq!((count, newest), (2, vec![newer, older]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_that_are_no_manifests_are_not_listed() {
    let scratch = Scratch::new();
    let id = publish(&scratch, 1_795_000_000);
    for name in [
        "notes.txt",
        "20261118T110640000Z-010203.json.bak",
        "latest.json",
        ".20261118T110640000Z-010203.json",
    ] {
        fs::write(scratch.directory.path().join("backups").join(name), b"").unwrap();
    }
    assert_eq!(scratch.repository.backup_ids().unwrap(), [id]);
}

#[test]
fn a_manifest_that_cannot_be_is_neither_published_nor_believed() {
    let scratch = Scratch::new();
    let repository = &scratch.repository;
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 14] = [
        ("not a name that Kafka gives", |m| {
            m.topics[0].topic = "../../etc/x".to_owned()
        }),
        ("not a name that Kafka gives", |m| {
            m.topics[0].topic = String::new()
        }),
        ("topics are not in order", |m| {
            m.topics.extend_from_within(..)
        }),
        ("partitions of topic orders are not in order", |m| {
            let partition = m.topics[0].partitions[0].clone();
            m.topics[0].partitions.push(partition);
        }),
        ("partitions of topic orders are not in order", |m| {
            m.topics[0].partitions[0].partition = PartitionId(-1);
        }),
        ("offsets -1 to 100 cannot be", |m| {
            m.topics[0].partitions[0].start_offset = Offset(-1)
        }),
        ("offsets 5 to 4 cannot be", |m| {
            m.topics[0].partitions[0].end_offset = Offset(4)
        }),
        ("cannot be", |m| {
            m.topics[0].partitions[0].gaps[0].end_offset = Offset(i64::MIN)
        }),
        ("no batch has offsets 95 to 94", |m| {
            m.topics[0].partitions[0].last_batch = Some(batch(95, 94))
        }),
        ("reason has control characters", |m| {
            m.topics[0].partitions[0].gaps[0].reason = "\u{1b}[2J".to_owned();
        }),
        ("reason has control characters", |m| {
            m.topics[0].chain_restarted = Some("a\nb".to_owned());
        }),
        ("cluster id has control characters", |m| {
            m.cluster_id = "\u{9b}2J".to_owned()
        }),
        ("cluster name has control characters", |m| {
            m.cluster_name = Some("prod\n".to_owned());
        }),
        ("counts more than there can be", |m| {
            let mut next = m.topics[0].partitions[0].clone();
            next.partition = PartitionId(1);
            next.bytes = u64::MAX;
            m.topics[0].partitions.push(next);
        }),
    ];
    let sound = publish(&scratch, 1_795_000_000);
    let id = BackupId::from_parts(second(1_795_000_001), [1, 2, 3]);
    for (said, change) in changes {
        let mut forged = manifest(repository, id);
        change(&mut forged);
        let refused = repository.publish(&forged).unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
        fs::write(
            path(&scratch, &id),
            super::sealed_json::seal("manifest", &forged).unwrap(),
        )
        .unwrap();
        let error = repository.manifest(&id).unwrap_err();
        assert!(
            matches!(&error, RepositoryError::DamagedManifest { detail, .. } if detail.contains(said)),
            "{error}"
        );
    }
    repository.manifest(&sound).unwrap();
}

fn bound() -> impl Strategy<Value = Option<OffsetBound>> {
    let at = (0..i64::MAX).prop_map(|offset| OffsetBound::At(Offset(offset)));
    let bound = prop_oneof![Just(OffsetBound::Earliest), Just(OffsetBound::Latest), at];
    proptest::option::of(bound)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_manifest_that_can_be_is_read_back_as_written(
        texts in proptest::collection::vec("\\PC{0,40}", 4),
        numbers in proptest::collection::vec((0..i64::MAX, 0..1_u64 << 60, any::<u32>()), 0..6),
        nanos in 0..1_000_000_000_u32,
        selected in any::<bool>(),
        bounds in [bound(), bound()],
    ) {
        let scratch = Scratch::new();
        let mut manifest = manifest(&scratch.repository, BackupId::new(second(1_795_000_000)));
        manifest.policy = None;
        manifest.cluster_id = texts[0].clone();
        manifest.started_at = DateTime::from_timestamp(1_795_000_000, nanos).unwrap();
        manifest.status = Completion::Incomplete;
        manifest.selection = selected.then(|| Selection { start_offset: bounds[0], end_offset: bounds[1], ..Selection::default() });
        manifest.groups = selected.then(|| Sha256::of(texts[2].as_bytes()));
        let topic = &mut manifest.topics[0];
        topic.chain_restarted = Some(texts[2].clone());
        topic.index = None;
        topic.partitions[0].gaps[0].reason = texts[3].clone();
        let template = topic.partitions[0].clone();
        topic.partitions.extend((1..).zip(numbers).map(|(number, (offset, count, length))| PartitionEntry {
            partition: PartitionId(number),
            start_offset: Offset(offset),
            end_offset: Offset(i64::MAX),
            records: count,
            largest_batch: length,
            ..template.clone()
        }));
        scratch.repository.publish(&manifest).unwrap();
        prop_assert_eq!(scratch.repository.manifest(&manifest.backup_id).unwrap(), manifest);
    }
}
