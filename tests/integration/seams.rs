//! Where a backup goes on behind what an earlier backup or an interrupted run had copied, the log must still be the same one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::during;
use crate::fixture::{EAGER, Fixture, entry, numbered, values};
use crate::hostile_repository::forge;
use crate::testbed::{Broker, Cluster, Compression, Message, Properties, Release, wait_for};

/// Topics of a cluster that gives them no ids, made again between two backups.
struct Recreated<'a> {
    scene: Fixture<'a>,
}

impl Recreated<'_> {
    fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        self.scene.client.create_topic(topic, partitions, settings);
    }

    /// The topic is deleted and made again.
    fn recreate(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let client = &self.scene.client;
        client.recreate_topic(topic, partitions, settings);
    }

    fn produce(&self, topic: &str, messages: impl IntoIterator<Item = Message>) {
        self.scene
            .client
            .produce(topic, 0, Compression::None, messages);
    }

    /// Whether the newest backup of a topic began a new chain, and says why.
    fn has_restarted(&self, report: &Value, topic: &str) -> bool {
        let shown = self.scene.run("show", "latest --json").done();
        let told = format!("topic {topic} is copied anew, since ");
        let is_told = report["warnings"].to_string().contains(&told);
        let reason = &entry(&shown["topics"], "topic", topic)["chain_restarted"];
        assert_eq!(is_told, reason.is_string(), "{report:#}\n{reason}");
        is_told
    }
}

/// The newest backup gives back what the source holds now, and its evidence is what another reader of the format finds.
#[track_caller]
fn comes_back(scene: &Fixture<'_>, topics: &[&str]) {
    scene.verify();
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format/reader.py");
    let read = std::process::Command::new("python3")
        .args([reader, "dump"])
        .arg(scene.repository())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{said}");
    scene.restore("latest --rename *={topic}.back");
    for topic in topics {
        let back = format!("{topic}.back");
        assert_eq!(
            scene.client.read(&back),
            scene.client.read(topic),
            "{topic}"
        );
        scene.client.delete_topic(&back);
    }
}

#[test]
fn a_topic_that_was_made_again_is_copied_from_its_start_where_the_cluster_gives_no_ids() {
    let properties = Properties::default().set("inter.broker.protocol.version", "2.7");
    let broker = Broker::start(Release::V2_8, properties);
    let play = Recreated {
        scene: Fixture::on(&broker),
    };
    // What the first topic held, what the one in its place holds, and how many partitions each has.
    let equal = "again.equal";
    let higher = "again.higher";
    let other_bounds = "again.bounds";
    let fewer = "again.fewer";
    let copy = "again.copy";
    let untouched = "again.untouched";
    let all = [other_bounds, copy, equal, fewer, higher, untouched];
    let at =
        |from: i64, count: i64| numbered(from, count).map(|message| message.at(1_700_000_000_000));
    for topic in all {
        play.create(topic, 2, &[("retention.ms", "-1")]);
        play.produce(topic, at(0, 10));
        play.produce(topic, at(50, 40));
    }
    let first = play.scene.backup("--topic again.*");
    assert_eq!(first["total_messages"], 300);

    for topic in all.into_iter().filter(|topic| *topic != untouched) {
        let partitions = if topic == fewer { 1 } else { 2 };
        play.recreate(topic, partitions, &[("retention.ms", "-1")]);
    }
    play.produce(equal, at(1_000, 10));
    play.produce(equal, at(1_050, 40));
    play.produce(higher, at(2_000, 10));
    play.produce(higher, at(2_050, 40));
    play.produce(higher, at(2_100, 30));
    play.produce(other_bounds, at(3_000, 80));
    play.produce(fewer, at(0, 10));
    play.produce(fewer, at(50, 40));
    // The last batch is the same to the byte, the first is not.
    play.produce(copy, at(4_000, 10));
    play.produce(copy, at(50, 40));
    play.produce(untouched, at(5_000, 5));
    let second = play.scene.backup("--topic again.*");
    for topic in all {
        let is_another = topic != untouched;
        assert_eq!(
            play.has_restarted(&second, topic),
            is_another,
            "{topic}: {second:#}"
        );
    }
    assert_eq!(second["total_messages"], 50 + 80 + 80 + 50 + 50 + 55);
    comes_back(&play.scene, &all);

    // Every chain goes on now.
    play.produce(equal, at(6_000, 5));
    let third = play.scene.backup("--topic again.*");
    assert_eq!(third["new_messages"], 5, "{third:#}");
    assert_eq!(third["warnings"], json!([]));
    comes_back(&play.scene, &all);
}

/// New versions of the keys of `topic`, until the cleaner has taken the oldest ones away.
fn clean(scene: &Fixture<'_>, topic: &str, keys: i64) {
    for _ in 0..2 {
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(0, keys));
        std::thread::sleep(Duration::from_millis(300));
    }
    scene.client.wait_until("the cleaner", |client| {
        // Rolls the segment before, which makes it cleanable.
        let roll = Message::new("roll", "x");
        client.produce(topic, 0, Compression::None, [roll]);
        client.read(topic)[0].len() < usize::try_from(keys).unwrap() * 2
    });
}

#[test]
fn a_compacted_topic_goes_on_though_the_cleaner_has_rewritten_the_end_of_the_chain() {
    let scene = Fixture::shared();
    let topic = "seams.compacted";
    scene.client.create_topic(topic, 1, &EAGER);
    let kept = (0..3).map(|n| Message::new(format!("kept-{n}"), format!("value-{n}")));
    scene.client.produce(topic, 0, Compression::None, kept);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 100));
    let first = scene.backup("--topic seams.compacted");
    clean(&scene, topic, 100);
    let second = scene.backup("--topic seams.compacted");
    assert_eq!(second["warnings"], json!([]), "{second:#}");
    assert_eq!(second["reused_bytes"], first["total_size_bytes"]);
    scene.verify();
}

#[test]
fn a_compacted_topic_without_an_id_goes_on_as_long_as_records_of_the_chain_are_left() {
    let properties = Properties::default().set("inter.broker.protocol.version", "2.7");
    let broker = Broker::start(Release::V2_8, properties);
    let play = Recreated {
        scene: Fixture::on(&broker),
    };
    let (same, another) = ("compacted.same", "compacted.another");
    for topic in [same, another] {
        play.create(topic, 1, &EAGER);
        let kept = (0..3).map(|n| Message::new(format!("kept-{n}"), format!("value-{n}")));
        play.produce(topic, kept);
        play.produce(topic, numbered(0, 100));
    }
    play.scene.backup("--topic compacted.*");
    clean(&play.scene, same, 100);
    play.recreate(another, 1, &EAGER);
    let others = (0..3).map(|n| Message::new(format!("other-{n}"), format!("value-{n}")));
    play.produce(another, others);
    play.produce(another, numbered(0, 100));
    clean(&play.scene, another, 100);
    let second = play.scene.backup("--topic compacted.*");
    assert!(!play.has_restarted(&second, same), "{second:#}");
    assert!(play.has_restarted(&second, another), "{second:#}");
    play.scene.verify();
    play.scene.restore("latest --rename *={topic}.back");
    // The cleaner goes on meanwhile: what is left of each key in the end is what counts.
    let newest = |topic: &str| {
        let records = play.scene.client.read(topic).remove(0).into_iter();
        records
            .map(|record| (record.key, record.timestamp.to_millis()))
            .collect::<BTreeMap<_, _>>()
    };
    for topic in [same, another] {
        assert_eq!(newest(&format!("{topic}.back")), newest(topic), "{topic}");
    }
}

#[test]
fn chains_of_earlier_versions_are_proven_by_their_packs_and_go_on() {
    let properties = Properties::default().set("inter.broker.protocol.version", "2.7");
    let broker = Broker::start(Release::V2_8, properties);
    let play = Recreated {
        scene: Fixture::on(&broker),
    };
    let (same, another) = ("earlier.same", "earlier.another");
    for topic in [same, another] {
        play.create(topic, 1, &[]);
        play.produce(topic, numbered(0, 50));
    }
    play.scene.backup("--topic earlier.*");
    forge(&play.scene.repository(), |manifest| {
        for topic in manifest["topics"].as_array_mut().unwrap() {
            let partition = topic["partitions"][0].as_object_mut().unwrap();
            assert!(partition.remove("first_batch").is_some());
            assert!(partition.remove("last_batch").is_some());
        }
    });
    play.recreate(another, 1, &[]);
    play.produce(another, numbered(1_000, 50));
    play.produce(same, numbered(50, 10));
    let second = play.scene.backup("--topic earlier.*");
    assert!(!play.has_restarted(&second, same), "{second:#}");
    assert!(play.has_restarted(&second, another), "{second:#}");
    assert_eq!(second["new_messages"], 10 + 50, "{second:#}");
    comes_back(&play.scene, &[same, another]);
}

/// A log that gets another history while backups of it are killed.
struct Histories<'a> {
    scene: Fixture<'a>,
    topic: &'static str,
}

/// Bytes of a record.
const RECORD: usize = 2_000;

impl<'a> Histories<'a> {
    /// On two brokers, of which the second can be without what the first has written since it stopped.
    fn across(cluster: &'a Cluster, topic: &'static str) -> Self {
        let scene = Fixture::across(cluster);
        let settings = [
            ("unclean.leader.election.enable", "true"),
            ("min.insync.replicas", "1"),
            ("retention.ms", "-1"),
        ];
        scene.client.create_on(topic, &[&[1, 2]], &settings);
        Self { scene, topic }
    }

    /// Records of one history of the log, in batches of less than 100 KB.
    fn produce(&self, history: u8, count: i64) {
        let producer = self.scene.client.producer(Compression::None);
        let record = |n: i64| {
            let mut value = format!("{history}/{n}").into_bytes();
            value.resize(RECORD, b'.');
            Message::new(n.to_string(), value)
        };
        for first in (0..count).step_by(40) {
            producer.produce(self.topic, 0, (first..count.min(first + 40)).map(record));
        }
    }

    fn both_have_everything(&self) {
        wait_for("the follower has everything", || {
            self.scene.client.placement(self.topic)[0].in_sync.len() == 2
        });
    }

    /// The second broker, which lacks the end of the log, leads.
    fn is_torn(&self, cluster: &Cluster) {
        cluster.broker(1).kill();
        cluster.broker(2).start_again();
        wait_for("an unclean election", || {
            self.scene.client.placement(self.topic)[0].leader == 2
        });
    }

    fn arguments(&self, more: &str) -> String {
        format!(
            "--json --topic {} --compression none --pack-size 1MiB {more}",
            self.topic
        )
    }

    /// A backup that is killed when it has sealed this many packs.
    fn killed_after(&self, packs: usize) {
        let before = self.scene.files("runs").len();
        let mut run = self
            .scene
            .start("backup", &self.arguments("--rate-limit 4MiB/s"));
        wait_for("packs are sealed", || {
            assert!(run.try_wait().unwrap().is_none(), "it ended too early");
            self.scene.files("runs").len() >= before + packs
        });
        run.kill().unwrap();
        run.wait().unwrap();
    }

    /// Records by history, by their offsets.
    fn is_what_the_log_holds(&self) {
        self.scene.verify();
        self.scene.restore("latest --rename *={topic}.back");
        let histories = |topic: &str| {
            let records = values(&self.scene.client.read(topic)[0]);
            let of = |value: &String| value.split('.').next().unwrap().to_owned();
            records.iter().map(of).collect::<Vec<_>>()
        };
        let back = histories(&format!("{}.back", self.topic));
        let source = histories(self.topic);
        let first = back
            .iter()
            .zip(&source)
            .position(|(back, source)| back != source);
        assert_eq!(
            (first, back.len()),
            (None, source.len()),
            "{:?} is restored where the log holds {:?}",
            first.map(|at| &back[at]),
            first.map(|at| &source[at])
        );
    }
}

#[test]
fn what_a_killed_backup_copied_of_a_topic_without_an_id_is_dropped_when_the_topic_was_made_again() {
    let properties = Properties::default().set("inter.broker.protocol.version", "2.7");
    let broker = Broker::start(Release::V2_8, properties);
    let log = Histories {
        scene: Fixture::on(&broker),
        topic: "killed.again",
    };
    let settings = [("retention.ms", "-1")];
    log.scene.client.create_topic(log.topic, 1, &settings);
    log.produce(1, 5_000);
    log.killed_after(3);
    log.scene.client.recreate_topic(log.topic, 1, &settings);
    log.produce(2, 9_000);
    log.killed_after(2);
    let report = log.scene.run("backup", &log.arguments("")).done();
    assert_eq!(report["total_messages"], 9_000, "{report:#}");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("are taken over"), "{report:#}");
    log.is_what_the_log_holds();
    assert!(log.scene.files("runs").is_empty());
}

#[test]
fn what_killed_backups_copied_of_two_histories_is_not_mixed() {
    let cluster = Cluster::taken();
    let torn = Histories::across(&cluster, "torn.killed");
    torn.produce(1, 1_000);
    torn.both_have_everything();
    cluster.broker(2).stop();
    torn.produce(2, 5_000);
    torn.killed_after(3);
    torn.is_torn(&cluster);
    torn.produce(3, 9_000);
    torn.killed_after(5);
    torn.killed_after(2);
    let report = torn.scene.run("backup", &torn.arguments("")).done();
    assert_eq!(report["status"], "completed", "{report:#}");
    assert_eq!(report["total_messages"], 10_000, "{report:#}");
    cluster.broker(1).start_again();
    torn.is_what_the_log_holds();
}

#[test]
fn a_log_that_is_torn_under_a_run_which_has_sealed_packs_is_read_again_from_where_the_chain_ends() {
    let cluster = Cluster::taken();
    let torn = Histories::across(&cluster, "torn.running");
    torn.produce(1, 500);
    torn.both_have_everything();
    let first = torn.scene.run("backup", &torn.arguments("")).done();
    cluster.broker(2).stop();
    torn.produce(2, 9_000);
    let sealed = || torn.scene.files("runs").len() >= 3;
    let outcome = during(
        || {
            torn.scene
                .run("backup", &torn.arguments("--rate-limit 3MiB/s"))
        },
        sealed,
        || torn.is_torn(&cluster),
        || torn.produce(3, 9_000),
    );
    let report = outcome.done();
    assert_eq!(report["status"], "completed", "{report:#}");
    // The chain ends before the two histories part: it goes on.
    assert_eq!(
        report["reused_bytes"], first["total_size_bytes"],
        "{report:#}"
    );
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("was rewritten while it was read"),
        "{report:#}"
    );
    cluster.broker(1).start_again();
    let last = torn.scene.run("backup", &torn.arguments("")).done();
    assert_eq!(last["total_messages"], 9_500, "{last:#}");
    torn.is_what_the_log_holds();
}

/// The log's start is moved into a batch that a running backup has not read yet.
#[test]
fn a_gap_names_only_what_is_not_held_of_the_batch_at_its_end() {
    let scene = Fixture::shared();
    let topic = "seams.gap";
    scene
        .client
        .create_topic(topic, 1, &[("retention.ms", "-1")]);
    let producer = scene.client.producer(Compression::None);
    let record = |n: i64| Message::new(n.to_string(), vec![b'.'; 2_000]);
    for first in (0..6_000).step_by(40) {
        producer.produce(topic, 0, (first..first + 40).map(record));
    }
    let arguments =
        format!("--json --topic {topic} --compression none --pack-size 1MiB --rate-limit 2MiB/s");
    let report = during(
        || scene.run("backup", &arguments),
        || !scene.files("runs").is_empty(),
        || scene.client.delete_records(topic, 0, 5_001),
        || {},
    );
    assert_eq!(report.code, 2, "{report}");
    let report = report.json();
    let gap = &report["topics"][0]["partitions"][0]["gaps"][0];
    let end = gap["end_offset"].as_i64().unwrap();
    assert!(end < 5_001, "{report:#}");
    scene.verify();
    scene.restore(&format!("latest --rename {topic}={topic}.again"));
    let held = scene.client.read(&format!("{topic}.again")).remove(0).len() as i64;
    let start = gap["start_offset"].as_i64().unwrap();
    assert_eq!(held, 6_000 - (end - start), "{report:#}");
    assert_eq!(report["total_messages"], held, "{report:#}");
}
