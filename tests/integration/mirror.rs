//! `kafkeep mirror`: every record once and in order, whatever happens.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::scene::{
    Random, Scene, assert_same_records, awkward, entry, kills, numbered, without_offsets,
};
use crate::testbed::{Compression, Message, Outcome, TransactionEnd};

/// A mirror from the shared broker to another one.
struct Mirrored {
    source: Scene<'static>,
    target: Scene<'static>,
    name: &'static str,
}

impl Mirrored {
    fn new(name: &'static str) -> Self {
        Self {
            source: Scene::shared(),
            target: Scene::elsewhere(),
            name,
        }
    }

    fn arguments(&self, more: &str) -> Vec<String> {
        let mut all = ["mirror", "--name", self.name, "--bootstrap-servers"]
            .map(str::to_owned)
            .to_vec();
        all.extend([
            self.source.broker.address(),
            "--to-bootstrap-servers".to_owned(),
            self.target.broker.address(),
        ]);
        all.extend(more.split_whitespace().map(str::to_owned));
        all
    }

    fn run(&self, more: &str) -> Outcome {
        crate::kafkeep(self.arguments(more))
    }

    #[track_caller]
    fn done(&self, more: &str) -> Value {
        self.run(&format!("--json {more}")).done()
    }

    /// To be killed.
    fn start(&self, more: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_kafkeep"))
            .args(self.arguments(more))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The target has what the source has, in its order; offsets differ.
    #[track_caller]
    fn is_same(&self, topic: &str, target: &str) {
        let source = without_offsets(self.source.client.read(topic));
        let target = without_offsets(self.target.client.read(target));
        assert_same_records(&source, &target, topic);
    }
}

#[test]
fn records_of_all_codecs_are_mirrored_with_their_settings_and_a_second_run_adds_what_is_new() {
    let mirrored = Mirrored::new("codecs");
    let client = &mirrored.source.client;
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    client.create_topic(
        "mirror.codecs",
        3,
        &[("retention.ms", "-1"), ("segment.bytes", "1048576")],
    );
    for codec in codecs {
        for partition in 0..3 {
            client.produce("mirror.codecs", partition, codec, awkward(40));
        }
    }
    let plan = mirrored.done("--topic mirror.codecs --rename dr.{topic} --dry-run");
    assert_eq!(plan["topics"][0]["target_topic"], "dr.mirror.codecs");
    assert!(
        !mirrored
            .target
            .client
            .topics()
            .contains(&"dr.mirror.codecs".to_owned()),
        "a plan changes nothing"
    );
    let report = mirrored.done("--topic mirror.codecs --rename dr.{topic}");
    assert_eq!(
        (&report["status"], &report["records"]),
        (&"completed".into(), &600.into())
    );
    mirrored.is_same("mirror.codecs", "dr.mirror.codecs");
    let setting = |name: &str| mirrored.target.client.setting("dr.mirror.codecs", name);
    assert_eq!(setting("segment.bytes").as_deref(), Some("1048576"));

    client.produce("mirror.codecs", 1, Compression::Zstd, numbered(0, 50));
    client.change_settings("mirror.codecs", &[("segment.bytes", "2097152")]);
    client.add_partitions("mirror.codecs", 5);
    client.produce("mirror.codecs", 4, Compression::None, numbered(0, 7));
    let report = mirrored.done("--topic mirror.codecs --rename dr.{topic}");
    assert_eq!(report["records"], 57);
    mirrored.is_same("mirror.codecs", "dr.mirror.codecs");
    assert_eq!(setting("segment.bytes").as_deref(), Some("2097152"));
    assert_eq!(
        mirrored.done("--topic mirror.codecs --rename dr.{topic}")["records"],
        0
    );
}

#[test]
fn only_what_was_committed_in_the_source_is_mirrored_and_only_once() {
    let mirrored = Mirrored::new("committed");
    let client = &mirrored.source.client;
    client.create_topic("mirror.committed", 1, &[]);
    for round in 0..6 {
        let end = match round % 3 {
            1 => TransactionEnd::Abort,
            _ => TransactionEnd::Commit,
        };
        client.transaction(
            "mirror.committed",
            "mirror.committed",
            numbered(round * 10, 10),
            end,
        );
        client.produce(
            "mirror.committed",
            0,
            Compression::None,
            numbered(1000 + round, 1),
        );
    }
    let report = mirrored.done("--topic mirror.committed");
    assert_eq!(report["records"], 46);
    assert_eq!(report["partitions"][0]["aborted_records"], 20);
    mirrored.is_same("mirror.committed", "mirror.committed");
}

#[test]
fn killed_again_and_again_a_mirror_neither_repeats_nor_drops_a_record() {
    let mirrored = Mirrored::new("killed");
    let client = &mirrored.source.client;
    client.create_topic("mirror.killed", 4, &[("retention.ms", "-1")]);
    let producer = client.producer(Compression::Lz4);
    let (mut made, mut random) = (0_u32, Random::seeded());
    let rounds = (kills() / 4).max(10);
    for _ in 0..rounds {
        for partition in 0..4 {
            let records =
                (made..made + 500).map(|n| Message::new(n.to_be_bytes(), vec![n as u8; 1000]));
            producer.produce("mirror.killed", partition, records);
        }
        made += 500;
        let mut run = mirrored.start("--topic mirror.killed --continuous");
        std::thread::sleep(Duration::from_millis(20 + random.below(1500)));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    mirrored.done("--topic mirror.killed");
    mirrored.is_same("mirror.killed", "mirror.killed");
}

#[test]
fn two_clusters_that_mirror_each_other_do_not_loop() {
    let there = Mirrored::new("there");
    let back = Mirrored {
        source: Scene::elsewhere(),
        target: Scene::shared(),
        name: "back",
    };
    for client in [&there.source.client, &there.target.client] {
        client.create_topic("mirror.cycle", 1, &[]);
    }
    there
        .source
        .client
        .produce("mirror.cycle", 0, Compression::None, numbered(0, 5));
    there
        .target
        .client
        .produce("mirror.cycle", 0, Compression::None, numbered(100, 5));
    let append = "--topic mirror.cycle --if-exists append";
    for round in 0..3 {
        let (one, other) = (there.done(append), back.done(append));
        let wanted = if round == 0 { 5 } else { 0 };
        assert_eq!(
            (&one["records"], &other["records"]),
            (&wanted.into(), &wanted.into()),
            "{one} {other}"
        );
    }
    for client in [&there.source.client, &there.target.client] {
        assert_eq!(client.read("mirror.cycle")[0].len(), 10);
    }
}

#[test]
fn a_topic_that_is_another_one_and_a_target_that_holds_others_records_stand_still() {
    let mirrored = Mirrored::new("strange");
    let client = &mirrored.source.client;
    for topic in ["mirror.recreated", "mirror.filled"] {
        client.create_topic(topic, 1, &[]);
        client.produce(topic, 0, Compression::None, numbered(0, 10));
    }
    mirrored.target.client.create_topic("mirror.filled", 1, &[]);
    mirrored
        .target
        .client
        .produce("mirror.filled", 0, Compression::None, numbered(0, 3));
    let run = || mirrored.run("--json --topic mirror.recreated --topic mirror.filled");
    let first = run();
    assert_eq!(first.code, 2, "{first}");
    let report: Value = serde_json::from_str(&first.stdout).unwrap();
    let filled = entry(&report["partitions"], "topic", "mirror.filled");
    assert_eq!(filled["state"], "unknown");
    assert!(
        filled["problem"]
            .as_str()
            .unwrap()
            .contains("--if-exists append"),
        "{filled}"
    );
    mirrored.is_same("mirror.recreated", "mirror.recreated");
    client.delete_topic("mirror.recreated");
    client.create_topic("mirror.recreated", 1, &[]);
    client.produce("mirror.recreated", 0, Compression::None, numbered(50, 20));
    let report: Value = serde_json::from_str(&run().stdout).unwrap();
    let recreated = entry(&report["partitions"], "topic", "mirror.recreated");
    assert_eq!(recreated["state"], "recreated");
    assert_eq!(mirrored.target.client.read("mirror.recreated")[0].len(), 10);
}

#[test]
fn of_two_mirrors_with_one_name_the_older_is_fenced() {
    let mirrored = Mirrored::new("fenced");
    mirrored.source.client.create_topic("mirror.fenced", 1, &[]);
    let older = Command::new(env!("CARGO_BIN_EXE_kafkeep"))
        .args(mirrored.arguments("--topic mirror.fenced --continuous"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let target = &mirrored.target.client;
    target.wait_until("the first mirror is at work", |target| {
        target.topics().contains(&"mirror.fenced".to_owned())
    });
    std::thread::sleep(Duration::from_secs(1));
    let mut newer = mirrored.start("--topic mirror.fenced --continuous");
    std::thread::sleep(Duration::from_secs(1));
    mirrored
        .source
        .client
        .produce("mirror.fenced", 0, Compression::None, numbered(0, 10));
    let older = older.wait_with_output().unwrap();
    let said = String::from_utf8(older.stderr).unwrap();
    assert!(said.contains("has taken over"), "{said}");
    target.wait_until("the second one goes on", |target| {
        target.read("mirror.fenced")[0].len() == 10
    });
    newer.kill().unwrap();
    newer.wait().unwrap();
}
