//! Each verb of the built command while the file system below its repository fails: every system call, or a sample of them.
//! What another client reads of the log judges what the command says, and what it leaves behind.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Fixture, Random};
use crate::testbed::system_calls::{Call, Failure, Watched, watched};
use crate::testbed::{Compression, Message, Record};

/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// What each call fails with. A rename with EINVAL is that of a file system which knows no flags: a link does the work.
const ERRORS: [(Call, &[i32]); 11] = [
    (Call::Open, &[libc::EMFILE, libc::EIO]),
    (Call::Examine, &[libc::EIO]),
    (Call::Read, &[libc::EIO]),
    (Call::List, &[libc::EIO]),
    (Call::Write, &[libc::EIO, libc::ENOSPC]),
    (Call::Resize, &[libc::EIO, libc::ENOSPC]),
    (Call::Sync, &[libc::EIO, libc::ENOSPC]),
    (Call::Rename, &[libc::EIO, libc::ENOSPC, libc::EINVAL]),
    (Call::Link, &[libc::EIO]),
    (Call::Unlink, &[libc::EIO]),
    (Call::MakeDirectory, &[libc::EIO, libc::ENOSPC]),
];

/// How many failures of each kind of call are tried: `KAFKEEP_FAULTS`, which may be `all`, for every call with every error, once
/// and from then on. Thousands of runs are then judged, for an hour or more.
fn sample() -> usize {
    match std::env::var("KAFKEEP_FAULTS").as_deref() {
        Err(_) => 1,
        Ok("all") => usize::MAX,
        Ok(count) => count.parse().unwrap(),
    }
}

/// Records by topic and partition.
type Log = BTreeMap<String, Vec<Vec<Record>>>;

/// A repository that each run finds as it was, and what its backups must hold.
struct Faults {
    scene: Fixture<'static>,
    /// Each backup's log, the oldest first.
    backups: Vec<(String, Log)>,
    /// How many restores there were: each has topics of its own.
    restores: Cell<u32>,
}

impl Faults {
    fn new(topics: &[&str]) -> Self {
        let scene = Fixture::shared();
        for topic in topics {
            scene.client.create_topic(topic, 2, &[]);
        }
        Self {
            scene,
            backups: Vec::new(),
            restores: Cell::new(0),
        }
    }

    /// Half a MiB more in each partition.
    fn grow(&self, topic: &str) {
        let producer = self.scene.client.producer(Compression::None);
        for partition in 0..2_u8 {
            let message = |n: u8| Message::new([n], vec![n ^ partition; 32 << 10]);
            producer.produce(topic, i32::from(partition), (0..16).map(message));
        }
    }

    /// A backup without a fault, of one topic.
    fn back_up(&mut self, topic: &str) {
        let report = self.scene.backup(&backup_of(topic));
        let id = report["backup_id"].as_str().unwrap().to_owned();
        self.backups.push((id, self.log(&[topic])));
    }

    /// What the brokers hold.
    fn log<'t>(&self, topics: impl IntoIterator<Item = &'t &'t str>) -> Log {
        let read = |topic: &&str| ((*topic).to_owned(), self.scene.client.read(topic));
        topics.into_iter().map(read).collect()
    }

    fn saved(&self) -> PathBuf {
        self.scene.beside("saved")
    }

    /// The repository as every run finds it.
    fn save(&self) {
        copy(&self.scene.repository(), &self.saved());
    }

    fn bring_back(&self) {
        std::fs::remove_dir_all(self.scene.repository()).ok();
        if self.saved().exists() {
            copy(&self.saved(), &self.scene.repository());
        }
    }

    /// Runs a verb whose calls on the repository are watched.
    fn run(&self, verb: &str, arguments: &str, failure: Option<Failure>) -> Watched {
        let mut command: Command = self.scene.command(verb, &format!("--json {arguments}"));
        command.env_remove("RUST_LOG").env_remove("KAFKEEP_CONFIG");
        watched(command, &self.scene.repository(), failure, LIMIT)
    }

    /// Runs a verb on the saved repository with each fault, or with a sample of them, and shows `judge` how each ended, and what
    /// a run without a fault said. `arguments` gives each run its own.
    fn strike(
        &self,
        verb: &str,
        arguments: impl Fn(u32) -> String,
        judge: impl Fn(&Struck<'_>, &Watched),
    ) {
        let mut random = Random::seeded();
        self.bring_back();
        let clean = self.run(verb, &arguments(self.next_restore()), None);
        let said = clean.outcome.done();
        let mut count = 0;
        for failure in failures(&clean, &mut random) {
            self.bring_back();
            let arguments = arguments(self.next_restore());
            let run = self.run(verb, &arguments, Some(failure));
            let struck = Struck {
                faults: self,
                failure,
                arguments,
                clean: &said,
                context: format!("{verb}, {failure:?} on {:?}: {}", run.struck, run.outcome),
            };
            struck.is_explained(&run);
            judge(&struck, &run);
            count += u32::from(run.struck.is_some());
        }
        eprintln!("{verb}: {count} calls failed");
        assert!(count > 2, "{verb}: only {count} calls failed");
    }

    fn next_restore(&self) -> u32 {
        self.restores.set(self.restores.get() + 1);
        self.restores.get()
    }

    /// Restores a backup, and compares.
    fn holds(&self, id: &str, log: &Log, context: &str) {
        let number = self.next_restore();
        let arguments = format!("{id} --json --rename *={{topic}}.{number}");
        let outcome = self.scene.run("restore", &arguments);
        assert_eq!(outcome.code, 0, "{context}\nrestore of {id}: {outcome}");
        self.is_restored(log, number, context);
    }

    /// The topics of a restore hold what the log did.
    fn is_restored(&self, log: &Log, number: u32, context: &str) {
        for (topic, records) in log {
            let target = format!("{topic}.{number}");
            // Without the records, which nobody wants to read.
            let same = self.scene.client.read(&target) == *records;
            assert!(same, "{context}\n{target} is not as {topic} was");
            self.scene.client.delete_topic(&target);
        }
    }

    fn is_sound(&self, context: &str) -> Value {
        let outcome = self.scene.run("verify", "--json");
        assert_eq!(outcome.code, 0, "{context}\nverify: {outcome}");
        outcome.json()
    }

    /// A backup that must complete and hold all of `topic`, as must a restore of it; nothing of other runs is left.
    fn goes_on(&self, topic: &str, log: &Log, context: &str) {
        let outcome = self
            .scene
            .run("backup", &format!("--json {}", backup_of(topic)));
        assert_eq!(outcome.code, 0, "{context}\nthe next backup: {outcome}");
        let report = outcome.json();
        let records: usize = log[topic].iter().map(Vec::len).sum();
        assert_eq!(report["total_messages"], records, "{context}");
        assert!(self.scene.files("runs").is_empty(), "{context}");
        self.holds(report["backup_id"].as_str().unwrap(), log, context);
        self.is_unlocked(context);
    }

    /// Nothing is in the way of whoever wants the repository alone, and no lock of a process that is gone is left by him.
    fn is_unlocked(&self, context: &str) {
        let outcome = self.scene.run("expire", "--keep-last 99");
        assert_eq!(outcome.code, 0, "{context}\nexpire: {outcome}");
        assert!(self.scene.files("locks").is_empty(), "{context}");
    }
}

/// A run one of whose calls was to fail.
struct Struck<'f> {
    faults: &'f Faults,
    failure: Failure,
    /// What it was called with.
    arguments: String,
    /// The report of the run without a fault.
    clean: &'f Value,
    /// For whoever reads of a test that failed.
    context: String,
}

impl Struck<'_> {
    /// It ended well, or said what is wrong with which file.
    fn is_explained(&self, run: &Watched) {
        let (outcome, context) = (&run.outcome, &self.context);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!said.contains("panicked"), "{context}");
        if outcome.code == 0 {
            return;
        }
        assert!([1, 2, 75].contains(&outcome.code), "{context}");
        assert!(run.struck.is_some(), "failed without a fault: {context}");
        let cause = match self.failure.errno {
            libc::ENOSPC => "no space left",
            libc::EMFILE => "Too many open files",
            _ => "Input/output error",
        };
        assert!(said.contains(cause), "{cause:?} is not in {context}");
        let repository = self.faults.scene.repository();
        let named = said.contains(&repository.display().to_string());
        assert!(named, "no path in {context}");
    }
}

/// Which calls of a run are to fail, and how.
fn failures(clean: &Watched, random: &mut Random) -> Vec<Failure> {
    let mut chosen = Vec::new();
    for (call, errors) in ERRORS {
        let count = clean.calls.get(&call).map_or(0, Vec::len);
        let mut of_call = Vec::new();
        for errno in errors.iter().copied() {
            for lasting in [false, true] {
                of_call.extend((0..count).map(|at| Failure {
                    call,
                    at,
                    errno,
                    lasting,
                }));
            }
        }
        let surplus = of_call.len().saturating_sub(sample());
        for _ in 0..surplus {
            of_call.swap_remove(random.below(of_call.len() as u64) as usize);
        }
        chosen.extend(of_call);
    }
    chosen
}

fn backup_of(topic: &str) -> String {
    format!("--topic {topic} --compression none --pack-size 1MiB")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn whatever_system_call_of_a_first_backup_fails_the_next_completes() {
    let topic = "system.first";
    let faults = Faults::new(&[topic]);
    faults.grow(topic);
    let log = faults.log(&[topic]);
    faults.strike(
        "backup",
        |_| backup_of(topic),
        |struck, run| {
            let context = &struck.context;
            if run.outcome.code == 0 {
                assert_eq!(faults.is_sound(context)["backups"], 1, "{context}");
            }
            faults.goes_on(topic, &log, context);
            faults.is_sound(context);
        },
    );
}

#[test]
fn whatever_system_call_of_a_backup_fails_earlier_ones_stay_whole_and_the_next_completes() {
    let topic = "system.later";
    let mut faults = Faults::new(&[topic]);
    faults.grow(topic);
    faults.back_up(topic);
    faults.save();
    faults.grow(topic);
    let log = faults.log(&[topic]);
    faults.strike(
        "backup",
        |_| backup_of(topic),
        |struck, run| {
            let context = &struck.context;
            let (earlier, earlier_log) = &faults.backups[0];
            let made = u64::from(run.outcome.code == 0);
            // A run that says that it is done has made a backup; one that failed may have.
            let found = faults.is_sound(context)["backups"].as_u64().unwrap();
            assert!((1 + made..=2).contains(&found), "{found}: {context}");
            if found == 2 && (made == 1 || sample() > 1) {
                faults.holds("latest", &log, context);
            }
            if sample() > 1 {
                faults.holds(earlier, earlier_log, context);
            }
            faults.goes_on(topic, &log, context);
            faults.is_sound(context);
        },
    );
}

#[test]
fn whatever_system_call_of_an_expiry_fails_what_is_kept_stays_whole_and_the_next_completes() {
    let (passing, aging) = ("system.passing", "system.aging");
    let mut faults = Faults::new(&[passing, aging]);
    for topic in [passing, aging, aging] {
        faults.grow(topic);
        faults.back_up(topic);
    }
    faults.save();
    let packs = faults.scene.files("packs").len();
    let (newest, log) = faults.backups.last().unwrap();
    faults.strike(
        "expire",
        |_| "--keep-last 1".to_owned(),
        |struck, run| {
            let context = &struck.context;
            let scene = &faults.scene;
            if run.outcome.stderr.contains("told as lost") {
                // On a disk that stays full there is no room to write down what was removed.
                assert_eq!(struck.failure.errno, libc::ENOSPC, "{context}");
                let left = scene.files("backups");
                let is_gone =
                    |id: &str| !left.iter().any(|file| file.ends_with(format!("{id}.json")));
                let doomed = faults.backups[..2].iter().map(|(id, _)| id);
                for id in doomed.filter(|id| is_gone(id)) {
                    scene
                        .run("expire", &format!("--forget-lost {id}"))
                        .done_plain();
                }
            } else {
                faults.is_sound(context);
            }
            let left = |what: &str| scene.files(what).len();
            if run.outcome.code == 0 {
                assert!(left("backups") == 1 && left("packs") < packs, "{context}");
            }
            let outcome = scene.run("expire", "--keep-last 1");
            assert_eq!(outcome.code, 0, "{context}\nthe next expire: {outcome}");
            assert_eq!(left("backups"), 1, "{context}");
            assert!(left("packs") < packs, "{context}");
            assert_eq!(faults.is_sound(context)["backups"], 1, "{context}");
            faults.holds(newest, log, context);
            faults.goes_on(aging, log, context);
        },
    );
}

#[test]
fn whatever_system_call_of_a_restore_fails_it_says_so_and_goes_on_when_it_is_run_again() {
    let topic = "system.restored";
    let mut faults = Faults::new(&[topic]);
    for _ in 0..2 {
        faults.grow(topic);
        faults.back_up(topic);
    }
    faults.save();
    let (newest, log) = faults.backups.last().unwrap();
    faults.strike(
        "restore",
        |number| {
            let servers = &faults.scene.servers;
            format!("{newest} --bootstrap-servers {servers} --rename *={{topic}}.{number}")
        },
        |struck, run| {
            let context = &struck.context;
            let number = faults.restores.get();
            if run.outcome.code != 0 {
                let again = format!("--json {}", struck.arguments);
                let outcome = faults.scene.run("restore", &again);
                assert_eq!(outcome.code, 0, "{context}\nthe same again: {outcome}");
            }
            faults.is_restored(log, number, context);
            faults.is_unlocked(context);
            faults.is_sound(context);
        },
    );
}

#[test]
fn whatever_system_call_of_a_verification_fails_it_is_sound_only_of_what_it_has_seen() {
    let topic = "system.verified";
    let mut faults = Faults::new(&[topic]);
    for _ in 0..2 {
        faults.grow(topic);
        faults.back_up(topic);
    }
    faults.save();
    faults.strike(
        "verify",
        |_| String::new(),
        |struck, run| {
            let context = &struck.context;
            match run.outcome.code {
                0 => assert_eq!(run.outcome.json(), *struck.clean, "{context}"),
                // Descriptors that are used up say nothing of what is stored.
                2 => assert_eq!(struck.failure.errno, libc::EIO, "{context}"),
                _ => {}
            }
            assert_eq!(faults.is_sound(context), *struck.clean, "{context}");
            faults.is_unlocked(context);
        },
    );
}

#[test]
fn whatever_system_call_of_a_listing_fails_no_backup_is_left_out_without_a_word() {
    let topic = "system.listed";
    let mut faults = Faults::new(&[topic]);
    for _ in 0..2 {
        faults.grow(topic);
        faults.back_up(topic);
    }
    faults.save();
    faults.strike(
        "list",
        |_| String::new(),
        |struck, run| {
            let context = &struck.context;
            match run.outcome.code {
                0 => assert_eq!(run.outcome.json(), *struck.clean, "{context}"),
                2 => assert_eq!(struck.failure.errno, libc::EIO, "{context}"),
                _ => {}
            }
        },
    );
}
