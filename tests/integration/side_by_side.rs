//! Backups, expiries, verifications and restores of one repository at once, as schedules that overlap make them. Nothing that is
//! kept is ever removed, and whoever cannot go on says why.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::fixture::{Fixture, Random};
use crate::testbed::{Compression, Message, Outcome, Record};

const TOPIC: &str = "side.by.side";
const PARTITIONS: i32 = 2;
/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Exit code of a run that should be tried again.
const TRY_AGAIN: i32 = 75;

/// How long everything runs: `KAFKEEP_MINUTES`, or ten seconds.
fn duration() -> Duration {
    let minutes = std::env::var("KAFKEEP_MINUTES");
    minutes.map_or(Duration::from_secs(10), |minutes| {
        Duration::from_secs(60 * minutes.parse::<u64>().unwrap())
    })
}

/// What each verb came to.
#[derive(Default)]
struct Counts {
    done: AtomicU32,
    /// Told to try again, or that the backup is gone.
    put_off: AtomicU32,
}

impl Counts {
    /// Counts a run that went well or was put off; anything else fails the test. Whether it went well.
    fn count(&self, verb: &str, outcome: &Outcome, expected: &[&str]) -> bool {
        if outcome.code == 0 {
            self.done.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let locked =
            outcome.code == TRY_AGAIN && outcome.stderr.contains("the repository is locked");
        let said = outcome.code == 1 && expected.iter().any(|text| outcome.stderr.contains(text));
        assert!(locked || said, "{verb}: {outcome}");
        self.put_off.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// A backup, and how many records each partition held at least and at most when it was made.
#[derive(Clone)]
struct Made {
    id: String,
    least: Vec<usize>,
    most: Vec<usize>,
}

struct Stage {
    scene: Fixture<'static>,
    made: Mutex<Vec<Made>>,
    over: AtomicBool,
}

/// What a restore brought back, of which backup.
type Restored = (Made, Vec<Vec<Record>>);

impl Stage {
    fn go_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Lets the others have the repository for a moment.
    fn pause(random: &mut Random) {
        std::thread::sleep(Duration::from_millis(random.below(300)));
    }

    fn lengths(&self) -> Vec<usize> {
        let end = |partition| self.scene.client.watermarks(TOPIC, partition).1;
        (0..PARTITIONS).map(|id| end(id) as usize).collect()
    }

    fn produce(&self) {
        let producer = self.scene.client.producer(Compression::None);
        let mut random = Random::seeded();
        let mut number = 0_u32;
        while self.go_on() {
            for partition in 0..PARTITIONS {
                let count = random.below(20) as u32;
                let message = |n: u32| Message::new(n.to_be_bytes(), vec![n as u8; 2000]);
                producer.produce(TOPIC, partition, (number..number + count).map(message));
                number += count;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn back_up(&self, counts: &Counts) {
        let mut random = Random::seeded();
        while self.go_on() {
            let least = self.lengths();
            let arguments = format!("--json --topic {TOPIC} --pack-size 1MiB");
            let outcome = self.scene.run("backup", &arguments);
            let most = self.lengths();
            if counts.count("backup", &outcome, &[]) {
                let id = outcome.json()["backup_id"].as_str().unwrap().to_owned();
                self.made.lock().unwrap().push(Made { id, least, most });
            }
            Self::pause(&mut random);
        }
    }

    fn expire(&self, counts: &Counts) {
        while self.go_on() {
            let outcome = self.scene.run("expire", "--keep-last 2");
            counts.count("expire", &outcome, &[]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn verify(&self, counts: &Counts) {
        let mut random = Random::seeded();
        while self.go_on() {
            let (which, gone) = match random.below(2) {
                0 => ("", &[][..]),
                _ => ("latest", &["there is no backup"][..]),
            };
            let outcome = self.scene.run("verify", which);
            counts.count("verify", &outcome, gone);
            Self::pause(&mut random);
        }
    }

    fn restore(&self, counts: &Counts) -> Vec<Restored> {
        let (mut random, mut restored) = (Random::seeded(), Vec::new());
        let gone = ["there is no backup", "was removed meanwhile"];
        let client = &self.scene.client;
        for number in 0.. {
            if !self.go_on() {
                break;
            }
            Self::pause(&mut random);
            let newest: Vec<Made> = self
                .made
                .lock()
                .unwrap()
                .iter()
                .rev()
                .take(3)
                .cloned()
                .collect();
            if newest.is_empty() {
                continue;
            }
            let made = newest[random.below(newest.len() as u64) as usize].clone();
            let target = format!("{TOPIC}.{number}");
            let arguments = format!("{} --rename {TOPIC}={target}", made.id);
            let outcome = self.scene.run("restore", &arguments);
            if counts.count("restore", &outcome, &gone) {
                restored.push((made, client.read(&target)));
                client.delete_topic(&target);
            }
        }
        restored
    }
}

#[test]
fn backups_expiries_verifications_and_restores_at_once_never_harm_what_is_kept() {
    let scene = Fixture::shared().within(LIMIT);
    scene.client.create_topic(TOPIC, PARTITIONS, &[]);
    scene.backup(&format!("--topic {TOPIC}"));
    let stage = Stage {
        scene,
        made: Mutex::default(),
        over: AtomicBool::new(false),
    };
    let [backups, expiries, verifications, restores] = [(); 4].map(|()| Counts::default());
    let restored = std::thread::scope(|scope| {
        // Ends the others also when one has failed.
        let verbs = [
            scope.spawn(|| ended(&stage, || stage.produce())),
            scope.spawn(|| ended(&stage, || stage.back_up(&backups))),
            scope.spawn(|| ended(&stage, || stage.expire(&expiries))),
            scope.spawn(|| ended(&stage, || stage.verify(&verifications))),
        ];
        let restoring = scope.spawn(|| ended(&stage, || stage.restore(&restores)));
        let end = Instant::now() + duration();
        while stage.go_on() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        stage.over.store(true, Ordering::Relaxed);
        verbs.into_iter().for_each(|verb| verb.join().unwrap());
        restoring.join().unwrap()
    });
    for (verb, counts) in [
        ("backup", &backups),
        ("expire", &expiries),
        ("verify", &verifications),
        ("restore", &restores),
    ] {
        let of = |count: &AtomicU32| count.load(Ordering::Relaxed);
        eprintln!(
            "{verb}: {} done, {} put off",
            of(&counts.done),
            of(&counts.put_off)
        );
        assert!(of(&counts.done) > 0, "no {verb} went well");
    }
    let log = stage.scene.client.read(TOPIC);
    for (made, found) in restored {
        is_a_beginning(&log, &made, &found);
    }
    // With nobody else there, all goes well, and what is left is whole.
    let newest = stage.scene.backup(&format!("--topic {TOPIC}"));
    stage.scene.run("expire", "--keep-last 2").done_plain();
    assert_eq!(stage.scene.verify()["backups"], 2);
    stage
        .scene
        .restore(&format!("latest --rename {TOPIC}={TOPIC}.last"));
    assert!(
        stage.scene.client.read(&format!("{TOPIC}.last")) == log,
        "{newest}"
    );
    assert!(stage.scene.files("locks").is_empty());
}

/// Does `work`, and ends the others when it fails.
fn ended<T>(stage: &Stage, work: impl FnOnce() -> T) -> T {
    struct End<'s>(&'s Stage);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.over.store(true, Ordering::Relaxed);
        }
    }
    let _end = End(stage);
    work()
}

/// What was restored is the log up to somewhere between the backup's beginning and its end.
fn is_a_beginning(log: &[Vec<Record>], made: &Made, found: &[Vec<Record>]) {
    for (partition, found) in found.iter().enumerate() {
        let expected = made.least[partition]..=made.most[partition];
        let length = found.len();
        assert!(expected.contains(&length), "{}: {length} records", made.id);
        assert!(
            log[partition][..length] == *found,
            "{}: other records",
            made.id
        );
    }
}
