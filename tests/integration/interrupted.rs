//! Backups that are killed, and the runs after them.

use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Fixture, Random, kills};
use crate::testbed::{Compression, Message};

/// A topic that is backed up, its codec and packs such that there is something to interrupt.
struct Interrupted {
    scene: Fixture<'static>,
    topic: &'static str,
}

impl Interrupted {
    fn new(topic: &'static str, partitions: i32) -> Self {
        let scene = Fixture::shared();
        scene
            .client
            .create_topic(topic, partitions, &[("retention.ms", "-1")]);
        Self { scene, topic }
    }

    fn arguments(&self) -> String {
        format!("--topic {} --compression none --pack-size 1MiB", self.topic)
    }

    /// A backup to be killed.
    fn start(&self, more: &str) -> Child {
        let arguments = format!("--json {} {more}", self.arguments());
        self.scene.start("backup", &arguments)
    }

    fn bytes_in_packs(&self) -> u64 {
        let length = |pack: PathBuf| std::fs::metadata(pack).unwrap().len();
        self.scene.files("packs").into_iter().map(length).sum()
    }

    /// A backup that completes, a sound repository, and a topic restored from it that equals the source.
    fn proves_itself(&self) -> Value {
        let report = self.scene.backup(&self.arguments());
        self.scene.verify();
        self.scene.restore("latest --rename *={topic}.restored");
        let restored = format!("{}.restored", self.topic);
        let client = &self.scene.client;
        assert_eq!(client.read(self.topic), client.read(&restored));
        report
    }
}

fn records(from: u32, count: u32, size: usize) -> impl Iterator<Item = Message> {
    (from..from + count).map(move |n| Message::new(n.to_be_bytes(), vec![n as u8; size]))
}

#[test]
fn what_an_interrupted_backup_sealed_is_adopted_and_not_copied_again() {
    let interrupted = Interrupted::new("interrupted.adopted", 2);
    let (scene, topic) = (&interrupted.scene, interrupted.topic);
    for partition in 0..2 {
        scene
            .client
            .produce(topic, partition, Compression::None, records(0, 8000, 1000));
    }
    let mut run = interrupted.start("--rate-limit 8MiB/s");
    while scene.files("runs").len() < 3 {
        assert!(
            run.try_wait().unwrap().is_none(),
            "the run ended before it could be interrupted"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    let sealed = interrupted.bytes_in_packs();
    assert!(scene.files("backups").is_empty());
    // A plain consumer's view of what came in meanwhile must be in it as well.
    scene
        .client
        .produce(topic, 1, Compression::None, records(8000, 100, 1000));
    let report = interrupted.proves_itself();
    assert_eq!(report["total_messages"], 16_100);
    assert!(
        report["warnings"][0]
            .as_str()
            .unwrap()
            .contains("taken over"),
        "{report}"
    );
    let all = interrupted.bytes_in_packs();
    let raw = report["total_size_bytes"].as_u64().unwrap();
    assert!(
        sealed > 2 << 20 && all < raw + raw / 50,
        "{sealed} sealed, {all} of {raw} in packs"
    );
    assert!(
        scene.files("runs").is_empty(),
        "records of runs are forgotten"
    );
}

#[test]
fn a_backup_that_is_told_to_stop_seals_what_it_copied_however_little() {
    let interrupted = Interrupted::new("interrupted.stopped", 2);
    let (scene, topic) = (&interrupted.scene, interrupted.topic);
    for partition in 0..2 {
        let records = records(0, 1000, 8000);
        scene
            .client
            .produce(topic, partition, Compression::None, records);
    }
    let slow = format!("--json --topic {topic} --compression none --rate-limit 4MiB/s");
    let mut run = scene.start("backup", &slow);
    // Long after the first fetch, long before the last: packs of 256 MiB would not be full for minutes.
    std::thread::sleep(Duration::from_millis(1500));
    let process = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(75));
    assert!(scene.files("locks").is_empty() && scene.files("backups").is_empty());
    let sealed = interrupted.bytes_in_packs();
    assert!(sealed > 1 << 20, "{sealed}");
    let report = interrupted.proves_itself();
    let told = report["warnings"].to_string();
    assert!(told.contains("taken over"), "{told}");
    let (all, raw) = (
        interrupted.bytes_in_packs(),
        report["total_size_bytes"].as_u64().unwrap(),
    );
    assert!(
        sealed < raw && all < raw + raw / 50,
        "{sealed} sealed, {all} of {raw} in packs"
    );
}

#[test]
fn killed_at_any_moment_a_backup_leaves_a_sound_repository_and_the_next_goes_on() {
    let interrupted = Interrupted::new("interrupted.killed", 3);
    let (scene, topic) = (&interrupted.scene, interrupted.topic);
    let producer = scene.client.producer(Compression::None);
    let (mut made, mut random) = (0_u32, Random::seeded());
    for round in 0..kills() {
        if round % 4 == 0 {
            for partition in 0..3 {
                producer.produce(topic, partition, records(made, 200, 4000));
            }
            made += 200;
        }
        let mut run = interrupted.start("");
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        run.kill().unwrap();
        run.wait().unwrap();
        if round % 20 == 19 {
            scene.verify();
        }
    }
    let report = interrupted.proves_itself();
    assert_eq!(report["total_messages"], made * 3);
}

#[test]
fn killed_at_any_moment_while_producers_write_a_backup_leaves_earlier_ones_whole() {
    let interrupted = Interrupted::new("interrupted.busy", 3);
    let (scene, topic) = (&interrupted.scene, interrupted.topic);
    let over = AtomicBool::new(false);
    let write = |partition: i32, codec: Compression| {
        let producer = scene.client.producer(codec);
        for round in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            producer.produce(topic, partition, records(round * 20, 20, 200));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    std::thread::scope(|scope| {
        for (partition, codec) in [Compression::None, Compression::Lz4, Compression::Zstd]
            .into_iter()
            .enumerate()
        {
            scope.spawn(move || write(partition as i32, codec));
        }
        // Also when the test fails: nobody waits for producers that nobody stops.
        let _stop = Stop(&over);
        let (mut random, mut restores) = (Random::seeded(), 0);
        for round in 0..kills_with_producers() {
            let mut run = interrupted.start("");
            std::thread::sleep(Duration::from_micros(random.below(80_000)));
            run.kill().unwrap();
            run.wait().unwrap();
            if round % 5 != 4 {
                continue;
            }
            // A backup in between completes beside the producers, and holds what the log did.
            let least = ends(scene, topic);
            let report = scene.backup(&interrupted.arguments());
            let most = ends(scene, topic);
            scene.verify();
            restores += 1;
            let target = format!("{topic}.{restores}");
            scene.restore(&format!(
                "{} --rename {topic}={target}",
                report["backup_id"].as_str().unwrap()
            ));
            let (log, found) = (scene.client.read(topic), scene.client.read(&target));
            for partition in 0..3 {
                let length = found[partition].len();
                let expected = least[partition]..=most[partition];
                assert!(expected.contains(&length), "{length} records: {report}");
                assert!(log[partition][..length] == found[partition], "{report}");
            }
            scene.client.delete_topic(&target);
        }
    });
    interrupted.proves_itself();
}

/// Where each partition ends.
fn ends(scene: &Fixture<'_>, topic: &str) -> Vec<usize> {
    let end = |partition| scene.client.watermarks(topic, partition).1;
    (0..3).map(|partition| end(partition) as usize).collect()
}

/// Ends the producers when it is dropped.
struct Stop<'o>(&'o AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Ten, unless `KAFKEEP_KILLS` says how many.
fn kills_with_producers() -> u32 {
    match std::env::var_os("KAFKEEP_KILLS") {
        Some(_) => kills(),
        None => 10,
    }
}
