//! Storage that fails, or loses power, at every single operation of a backup.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;

use kafkeep::engine::backup::{BackupOptions, BackupReport, backup};
use kafkeep::engine::expire::{self, ExpireOptions, Retention};
use kafkeep::engine::topics::{TopicPattern, TopicPatterns};
use kafkeep::engine::verify::{Soundness, VerifyOptions, verify};
use kafkeep::engine::{EngineError, NoProgress};
use kafkeep::kafka::{Client, Cluster, Retry};
use kafkeep::record;
use kafkeep::repository::{Manifest, Repository};
use tokio::runtime::Runtime;

use crate::fixture::Fixture;
use crate::testbed::faulty_storage::{EIO, EMFILE, ENOSPC, Fault, FaultyStorage};
use crate::testbed::{Compression, Message};

/// Topics of two partitions each.
const TOPICS: [&str; 2] = ["a", "b"];
const PARTITIONS: i32 = 2;

const EVERY_FAULT: [Fault; 6] = [
    Fault::Once(EIO),
    Fault::Once(EMFILE),
    Fault::From(ENOSPC),
    Fault::Unsynced,
    Fault::PowerLossBefore,
    Fault::PowerLossAfter,
];

/// Raw batches by topic and partition, each with its base offset.
type Batches = BTreeMap<(String, i32), Vec<(i64, Vec<u8>)>>;

/// Topics that grow, and backups of them into storages of the test's making.
struct Faults {
    scene: Fixture<'static>,
    prefix: &'static str,
    client: Client,
    runtime: Runtime,
    options: BackupOptions,
    /// What the brokers hold, as a backup without a fault reads it.
    expected: Batches,
}

impl Faults {
    fn new(prefix: &'static str) -> Self {
        let scene = Fixture::shared();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let cluster = Cluster::new(vec![scene.broker.address()]);
        let client = runtime
            .block_on(Client::connect(cluster, Retry::default()))
            .unwrap();
        let pattern = format!("{prefix}.*").parse().unwrap();
        let options = BackupOptions {
            compression: record::Compression::None,
            pack_size: 40 << 10,
            ..BackupOptions::new(TopicPatterns::new(vec![pattern]))
        };
        for topic in TOPICS {
            scene
                .client
                .create_topic(&format!("{prefix}.{topic}"), PARTITIONS, &[]);
        }
        Self {
            scene,
            prefix,
            client,
            runtime,
            options,
            expected: Batches::new(),
        }
    }

    /// More records in every partition.
    fn grow(&mut self) {
        self.grow_only();
        self.look();
    }

    fn grow_only(&self) {
        for topic in TOPICS.map(|topic| format!("{}.{topic}", self.prefix)) {
            let producer = self.scene.client.producer(Compression::None);
            for partition in 0..PARTITIONS {
                for batch in 0..3_u8 {
                    let message = |n: u8| Message::new([n], vec![batch ^ n; 5000]);
                    producer.produce(&topic, partition, (0..3).map(message));
                }
            }
        }
    }

    /// Takes in what the brokers hold.
    fn look(&mut self) {
        let storage = FaultyStorage::default();
        self.backup(&storage).unwrap();
        let repository = Repository::open(Arc::new(storage)).unwrap();
        let newest = repository.backup_ids().unwrap().pop().unwrap();
        self.expected = held(&repository, &repository.manifest(&newest).unwrap());
        // What the backup holds is what another client sees.
        for ((topic, partition), batches) in &self.expected {
            let seen = &self.scene.client.read(topic)[usize::try_from(*partition).unwrap()];
            let seen = seen
                .iter()
                .map(|record| (record.offset, record.value.clone()));
            assert_eq!(values(batches), seen.collect::<Vec<_>>());
        }
    }

    /// A run as the command does it. One that hangs is no answer to any fault.
    fn backup(&self, storage: &FaultyStorage) -> Result<BackupReport, EngineError> {
        let repository = Arc::new(Repository::open_or_init(Arc::new(storage.clone()))?);
        let run = backup(
            &self.client,
            repository,
            &self.options,
            Arc::new(NoProgress),
        );
        let bounded = async { tokio::time::timeout(Duration::from_secs(20), run).await };
        self.runtime.block_on(bounded).expect("the run hangs")
    }

    /// Every backup verifies and holds exactly the records below its ends; and how many backups there are.
    fn sound_backups(&self, storage: &FaultyStorage, context: &str) -> usize {
        if storage.names("").is_empty() {
            return 0;
        }
        let repository = Repository::open(Arc::new(storage.sound())).unwrap();
        let report = verify(&repository, &VerifyOptions::default(), &NoProgress).unwrap();
        assert_eq!(report.findings, [], "{context}");
        let backups = repository.backup_ids().unwrap();
        for backup in &backups {
            let manifest = repository.manifest(backup).unwrap();
            let held = held(&repository, &manifest);
            for (partition, end) in ends(&manifest) {
                let mut expected = self.expected[&partition].clone();
                expected.retain(|(offset, _)| *offset < end);
                let found = held.get(&partition).cloned().unwrap_or_default();
                assert!(
                    found == expected,
                    "{context}: {backup} holds other batches of {partition:?}"
                );
            }
        }
        backups.len()
    }

    /// A run that must complete, and hold all that there is; nothing of unfinished runs is left.
    fn completes(&self, storage: &FaultyStorage, context: &str) -> FaultyStorage {
        let storage = storage.sound();
        let report = self
            .backup(&storage)
            .unwrap_or_else(|error| panic!("{context}: the next run: {error}"));
        assert_eq!(report.total_messages, self.total(), "{context}");
        // What the run says is safe outlives a loss of power at once.
        let left = storage.after_power_loss();
        self.sound_backups(&left, context);
        assert_eq!(left.names("runs/"), [""; 0], "{context}");
        left
    }

    fn total(&self) -> u64 {
        let batches = self.expected.values();
        batches.map(|batches| values(batches).len() as u64).sum()
    }

    /// Strikes every operation of a run from `begin` on, and looks at what is left. Returns what each left, as a storage.
    fn strike_every_operation(&self, begin: &FaultyStorage, fault: Fault) -> Vec<FaultyStorage> {
        let before = self.sound_backups(begin, "before");
        let mut left = Vec::new();
        for at in 0.. {
            let storage = begin.restarted(at, fault);
            let outcome = self.backup(&storage);
            let Some(struck) = storage.struck() else {
                outcome.unwrap();
                assert!(at > 30, "a run has more operations than {at}");
                eprintln!("{fault:?}: {at} operations");
                break;
            };
            let context = format!("{fault:?} at {struck}");
            let remains = match fault {
                Fault::PowerLossBefore | Fault::PowerLossAfter => storage.after_power_loss(),
                _ => storage.sound(),
            };
            no_lock_is_left(begin, &storage, fault, &struck);
            let after = self.sound_backups(&remains, &context);
            // A run that says that it is done has made a backup; one that failed may have.
            let made = usize::from(outcome.is_ok());
            if let (Fault::Once(EMFILE), Ok(report)) = (fault, outcome) {
                // It says nothing about what could not be opened: no reason to do without it.
                assert!(
                    report.warnings.is_empty(),
                    "{context}: {:?}",
                    report.warnings
                );
            }
            assert!(
                (before + made..=before + 1).contains(&after),
                "{context}: {after} backups"
            );
            self.completes(&remains, &context);
            left.push(remains);
        }
        left
    }
}

/// A process that lives on must not leave a lock that nobody holds, unless it is the removal of one that failed.
fn no_lock_is_left(before: &FaultyStorage, after: &FaultyStorage, fault: Fault, struck: &str) {
    if matches!(fault, Fault::Once(_) | Fault::Unsynced) && !struck.contains("remove locks/") {
        let before = before.names("locks/");
        let left = after.names("locks/");
        let own: Vec<&String> = left.iter().filter(|lock| !before.contains(lock)).collect();
        assert!(own.is_empty(), "{fault:?} at {struck}: {own:?}");
    }
}

/// Where a backup ends, by partition.
fn ends(manifest: &Manifest) -> Vec<((String, i32), i64)> {
    let mut ends = Vec::new();
    for topic in &manifest.topics {
        for entry in &topic.partitions {
            ends.push(((topic.topic.clone(), entry.partition.0), entry.end_offset.0));
        }
    }
    ends
}

/// The batches of a backup, read by its index.
fn held(repository: &Repository, manifest: &Manifest) -> Batches {
    let mut held = Batches::new();
    for topic in &manifest.topics {
        let Some(digest) = &topic.index else { continue };
        let index = repository.index(digest).unwrap();
        for (partition, extents) in &index.partitions {
            let batches = held.entry((topic.topic.clone(), partition.0)).or_default();
            for extent in extents {
                let pack = &index.packs[extent.pack as usize];
                let reader = repository.open_pack(pack).unwrap();
                for block in reader.read_blocks(extent.offset..extent.end()).unwrap() {
                    for batch in record::batches(&block.raw) {
                        let batch = batch.unwrap();
                        batches.push((batch.base_offset().0, batch.as_bytes().to_vec()));
                    }
                }
            }
        }
    }
    held
}

/// Offsets and values of the records of batches.
fn values(batches: &[(i64, Vec<u8>)]) -> Vec<(i64, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for (_, bytes) in batches {
        for batch in record::batches(bytes) {
            let opened = batch.unwrap().open(1 << 20).unwrap();
            for record in opened.records() {
                let record = record.unwrap();
                found.push((record.offset.0, record.value.map(<[u8]>::to_vec)));
            }
        }
    }
    found
}

#[test]
fn whatever_operation_fails_a_first_backup_leaves_nothing_that_stops_the_next() {
    let mut faults = Faults::new("faults.first");
    faults.grow();
    for fault in EVERY_FAULT {
        faults.strike_every_operation(&FaultyStorage::default(), fault);
    }
}

#[test]
fn whatever_operation_fails_earlier_backups_stay_sound_and_the_next_goes_on_from_them() {
    let mut faults = Faults::new("faults.later");
    faults.grow();
    let earlier = FaultyStorage::default();
    faults.backup(&earlier).unwrap();
    faults.grow();
    for fault in EVERY_FAULT {
        faults.strike_every_operation(&earlier, fault);
    }
}

#[test]
fn whatever_operation_of_an_adoption_fails_what_was_sealed_stays_or_is_copied_anew() {
    let mut faults = Faults::new("faults.adoption");
    faults.grow();
    let earlier = FaultyStorage::default();
    faults.backup(&earlier).unwrap();
    faults.grow();
    // One interrupted run for each number of packs that it had sealed.
    let mut interrupted: BTreeMap<usize, FaultyStorage> = BTreeMap::new();
    for left in faults.strike_every_operation(&earlier, Fault::PowerLossBefore) {
        if left.names("backups/").len() == 1 {
            interrupted.insert(left.names("runs/").len(), left);
        }
    }
    let sealed: Vec<usize> = interrupted
        .keys()
        .copied()
        .filter(|packs| *packs > 0)
        .collect();
    assert!(sealed.len() > 1, "too little to adopt: {sealed:?}");
    for packs in sealed {
        let begin = &interrupted[&packs];
        let adopting = begin.sound();
        let report = faults.backup(&adopting).unwrap();
        assert!(
            report
                .warnings
                .iter()
                .any(|warning| warning.to_string().contains("taken over"))
        );
        for fault in [
            Fault::Once(EIO),
            Fault::Unsynced,
            Fault::PowerLossBefore,
            Fault::PowerLossAfter,
        ] {
            faults.strike_every_operation(begin, fault);
        }
    }
}

#[test]
fn whatever_operation_of_an_expiry_fails_the_backups_that_are_left_stay_whole() {
    let mut faults = Faults::new("faults.expired");
    faults.grow();
    let storage = FaultyStorage::default();
    faults.backup(&storage).unwrap();
    // What only the first backup needs can go with it.
    let everything = faults.options.topics.clone();
    let first: TopicPattern = "faults.expired.a".parse().unwrap();
    faults.options.topics = TopicPatterns::new(vec![first]);
    for _ in 0..2 {
        faults.grow_only();
        faults.backup(&storage).unwrap();
    }
    faults.options.topics = everything;
    faults.look();
    let retention = Retention {
        keep_last: Some(1),
        ..Retention::default()
    };
    let options = ExpireOptions {
        retention,
        ..ExpireOptions::default()
    };
    let expire = |storage: &FaultyStorage| {
        let repository = Repository::open(Arc::new(storage.clone()))?;
        expire::apply(&repository, &options, &Utc::now())
    };
    let before = storage.names("packs/").len();
    for fault in EVERY_FAULT {
        for at in 0.. {
            let struck = storage.restarted(at, fault);
            let outcome = expire(&struck);
            let Some(place) = struck.struck() else {
                let plan = outcome.unwrap();
                assert_eq!(plan.removed_backups, 2);
                assert!(plan.removed_packs > 0 && at > 20, "{plan:?}");
                break;
            };
            let context = format!("{fault:?} at {place}");
            no_lock_is_left(&storage, &struck, fault, &place);
            let left = match fault {
                Fault::PowerLossBefore | Fault::PowerLossAfter => struck.after_power_loss(),
                _ => struck.sound(),
            };
            // The one that was cut off left its lock, in a process that is there.
            left.forget("locks/");
            assert!(faults.sound_backups(&left, &context) >= 1, "{context}");
            expire(&left).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(faults.sound_backups(&left, &context), 1, "{context}");
            assert!(left.names("packs/").len() < before, "{context}");
            faults.completes(&left, &context);
        }
    }
}

#[test]
fn whatever_operation_of_a_verification_fails_it_never_says_sound_of_what_it_has_not_seen() {
    let mut faults = Faults::new("faults.verified");
    faults.grow();
    let storage = FaultyStorage::default();
    faults.backup(&storage).unwrap();
    for fault in [Fault::Once(EIO), Fault::From(EIO), Fault::Once(EMFILE)] {
        let mut strikes = 0;
        loop {
            let struck = storage.restarted(strikes, fault);
            let verified = Repository::open(Arc::new(struck.clone()))
                .map_err(EngineError::from)
                .and_then(|repository| verify(&repository, &VerifyOptions::default(), &NoProgress));
            let Some(place) = struck.struck() else { break };
            strikes += 1;
            let context = format!("{fault:?} at {place}: {verified:?}");
            match verified {
                // Given back or not, the lock has done its work.
                _ if place.contains("remove locks/") => {}
                Ok(report) if fault == Fault::Once(EMFILE) => panic!("{context}: {report:?}"),
                Ok(report) => assert_eq!(report.status, Soundness::Damaged, "{context}"),
                Err(_) => {}
            }
        }
        assert!(strikes > 20, "{strikes} operations only");
    }
}
