//! `kafkeep mirror`: every record once and in order, whatever happens.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::daemon_process::Daemon;
use crate::fixture::{
    Fixture, Random, assert_same_records, awkward, entry, kills, numbered, without_offsets,
};
use crate::testbed::group::Group;
use crate::testbed::{Broker, Cluster, Compression, Message, Outcome, TransactionEnd};

/// A mirror from the shared broker to another one.
pub struct Mirrored<'a> {
    pub source: Fixture<'a>,
    pub target: Fixture<'a>,
    pub name: &'static str,
}

impl Mirrored<'_> {
    pub fn new(name: &'static str) -> Mirrored<'static> {
        Mirrored {
            source: Fixture::shared(),
            target: Fixture::elsewhere(),
            name,
        }
    }

    pub fn arguments(&self, more: &str) -> Vec<String> {
        let mut all = ["mirror", "--name", self.name, "--bootstrap-servers"]
            .map(str::to_owned)
            .to_vec();
        all.extend([
            self.source.servers.clone(),
            "--to-bootstrap-servers".to_owned(),
            self.target.servers.clone(),
        ]);
        all.extend(more.split_whitespace().map(str::to_owned));
        all
    }

    pub fn run(&self, more: &str) -> Outcome {
        self.source.kafkeep(self.arguments(more))
    }

    #[track_caller]
    pub fn done(&self, more: &str) -> Value {
        self.run(&format!("--json {more}")).done()
    }

    /// With arguments that have blanks in them.
    pub fn run_with(&self, more: &str, words: &[&str]) -> Outcome {
        let mut arguments = self.arguments(&format!("--json {more}"));
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
        crate::kafkeep(arguments)
    }

    /// To be killed.
    pub fn start(&self, more: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_kafkeep"))
            .args(self.arguments(more))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// To be waited for, with what it prints.
    pub fn start_piped(&self, more: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_kafkeep"))
            .args(self.arguments(more))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The target has what the source has, in its order; offsets differ.
    #[track_caller]
    pub fn is_same(&self, topic: &str, target: &str) {
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
    let plan = mirrored
        .done("--topic mirror.codecs --rename *.codecs=dr.{topic} --rename {topic}.x --dry-run");
    assert_eq!(plan["topics"][0]["target_topic"], "dr.mirror.codecs");
    mirrored
        .run("--topic mirror.codecs --rename other=dr.{topic} --dry-run")
        .refused(1, &["rename `other=dr.{topic}` matches none of the topics"]);
    let report = mirrored.done("--topic mirror.codecs --rename dr.{topic}");
    assert_eq!(
        (&report["status"], &report["records"]),
        (&"completed".into(), &600.into())
    );
    mirrored.is_same("mirror.codecs", "dr.mirror.codecs");
    let setting = |name: &str| mirrored.target.client.setting("dr.mirror.codecs", name);
    assert_eq!(setting("segment.bytes").as_deref(), Some("1048576"));

    client.produce("mirror.codecs", 1, Compression::Zstd, numbered(0, 50));
    client.change_settings(
        "mirror.codecs",
        &[("retention.ms", "-1"), ("segment.bytes", "2097152")],
    );
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
    // Two million records in all when it is asked for.
    let (rounds, each, size) = match std::env::var_os("KAFKEEP_KILLS") {
        Some(_) => (kills(), 500_000 / kills().max(1), 100),
        None => (10, 500, 1000),
    };
    for _ in 0..rounds {
        for partition in 0..4 {
            let records =
                (made..made + each).map(|n| Message::new(n.to_be_bytes(), vec![n as u8; size]));
            producer.produce("mirror.killed", partition, records);
        }
        made += each;
        let mut run = mirrored.start("--topic mirror.killed --continuous");
        std::thread::sleep(Duration::from_millis(20 + random.below(1500)));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    mirrored.done("--topic mirror.killed");
    for records in mirrored.target.client.read("mirror.killed") {
        assert_eq!(records.len(), made as usize);
        for (n, record) in (0..made).zip(records) {
            let wanted = (&n.to_be_bytes()[..], vec![n as u8; size]);
            assert_eq!(record.key.as_deref(), Some(wanted.0), "record {n}");
            assert!(record.value == Some(wanted.1), "the value of record {n}");
        }
    }
}

#[test]
fn two_clusters_that_mirror_each_other_do_not_loop() {
    let there = Mirrored::new("there");
    let back = Mirrored {
        source: Fixture::elsewhere(),
        target: Fixture::shared(),
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

#[test]
fn a_daemon_keeps_a_mirror_going_with_topics_that_come_and_tells_how_far_it_is() {
    let mirrored = Mirrored::new("daemon");
    let (source, target) = (&mirrored.source.client, &mirrored.target.client);
    source.create_topic("keptgoing.one", 1, &[]);
    source.produce("keptgoing.one", 0, Compression::None, numbered(0, 100));
    let dr = format!(
        "[clusters.dr]\nbootstrap_servers = ['{}']\n",
        mirrored.target.broker.address()
    );
    let policy = "[mirror.kept]\nsource = 'prod'\ntarget = 'dr'\ntopics = ['keptgoing.*']\nrename = 'dr.{topic}'\n";
    let mut daemon = Daemon::start_with(&mirrored.source, &dr, policy);
    let copied = |daemon: &Daemon<'_>| {
        daemon.metric("kafkeep_mirror_records_total{policy=\"kept\",result=\"copied\"}")
    };
    daemon.wait_until("it copied", |daemon| copied(daemon) == Some(100.0));
    assert_eq!(
        daemon.metric("kafkeep_mirror_lag_records{policy=\"kept\"}"),
        Some(0.0)
    );
    assert_eq!(
        daemon.metric("kafkeep_mirror_lag_seconds{policy=\"kept\"}"),
        Some(0.0)
    );
    let status = daemon.status();
    let told = entry(&status["policies"], "policy", "kept");
    assert_eq!(told["running"][0]["work"], "mirror", "{told}");
    assert_eq!(
        told["mirror"]["partitions"][0]["state"], "mirroring",
        "{told}"
    );
    source.create_topic("keptgoing.two", 2, &[]);
    source.produce("keptgoing.two", 1, Compression::Lz4, numbered(0, 10));
    daemon.wait_until("a new topic is mirrored", |_| {
        target.topics().contains(&"dr.keptgoing.two".to_owned())
            && target.watermarks("dr.keptgoing.two", 1).1 >= 10
    });
    source.produce("keptgoing.one", 0, Compression::None, numbered(100, 1));
    daemon.wait_until("what comes is mirrored", |daemon| {
        copied(daemon) == Some(111.0)
    });
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.process.wait().unwrap().success());
    for topic in ["keptgoing.one", "keptgoing.two"] {
        mirrored.is_same(topic, &format!("dr.{topic}"));
    }
}

#[test]
fn brokers_that_restart_on_either_side_cost_no_record_and_repeat_none() {
    let three = Cluster::taken();
    let mirrored = Mirrored {
        source: Fixture::across(&three),
        target: Fixture::on(Broker::shared()),
        name: "restarts",
    };
    let client = &mirrored.source.client;
    client.create_on("mirror.restarts", &[&[1, 2, 3], &[2, 3, 1]], &[]);
    client.wait_for_leaders("mirror.restarts", 2);
    let mut run = mirrored.start("--topic mirror.restarts --continuous");
    let producer = client.producer(Compression::Lz4);
    for round in 0..20 {
        for partition in 0..2 {
            producer.produce("mirror.restarts", partition, numbered(round * 50, 50));
        }
        match round {
            5 => three.broker(1).stop(),
            10 => three.broker(1).start_again(),
            12 => three.broker(2).kill(),
            16 => three.broker(2).start_again(),
            _ => {}
        }
    }
    let target = &mirrored.target.client;
    target.wait_until("all is there", |target| {
        let there = target.topics().contains(&"mirror.restarts".to_owned());
        there
            && target
                .read("mirror.restarts")
                .iter()
                .map(Vec::len)
                .sum::<usize>()
                >= 2000
    });
    run.kill().unwrap();
    run.wait().unwrap();
    mirrored.is_same("mirror.restarts", "mirror.restarts");
}

#[test]
fn groups_follow_to_where_their_next_records_are() {
    let mirrored = Mirrored::new("groups");
    let client = &mirrored.source.client;
    client.create_topic("mirror.groups", 1, &[]);
    let topic = "mirror.groups";
    for round in 0..5 {
        let end = if round % 2 == 0 {
            TransactionEnd::Commit
        } else {
            TransactionEnd::Abort
        };
        client.transaction(topic, topic, numbered(round * 10, 10), end);
        client.produce(topic, 0, Compression::Lz4, numbered(1000 + round * 10, 5));
    }
    let end = client.watermarks(topic, 0).1;
    let source = |group: &str| Group::new(&mirrored.source.servers, group);
    let target = |group: &str| Group::new(&mirrored.target.servers, group);
    // Everywhere: on records, in aborted transactions, on markers, at the end.
    for offset in 0..=end {
        source(&format!("follows-{offset}")).commit(topic, 0, offset, "noted");
    }
    let report = mirrored.done("--topic mirror.groups --groups follows-*");
    let followed = report["groups"].as_array().unwrap();
    assert_eq!(followed.len() as i64, end + 1, "{report}");
    for offset in 0..=end {
        let group = format!("follows-{offset}");
        let (_, metadata) = target(&group).committed(topic, 0).unwrap();
        assert_eq!(metadata, "noted");
        // What a reader of what was committed gets next is the same record on both sides.
        assert_eq!(
            source(&group).next(topic, 0),
            target(&group).next(topic, 0),
            "{group}"
        );
    }
}

#[test]
fn a_comparison_finds_the_first_difference() {
    let mirrored = Mirrored::new("compared");
    let client = &mirrored.source.client;
    client.create_topic("mirror.compared", 2, &[("retention.ms", "-1")]);
    for codec in [Compression::Zstd, Compression::None] {
        client.produce("mirror.compared", 0, codec, awkward(30));
        client.produce("mirror.compared", 1, codec, numbered(0, 30));
    }
    mirrored.done("--topic mirror.compared");
    let equal = mirrored.done("--topic mirror.compared --compare");
    assert_eq!(
        (&equal["status"], &equal["records"]),
        (&"equal".into(), &120.into()),
        "{equal}"
    );
    // What lies before the rest may be gone on either side.
    client.delete_records("mirror.compared", 0, 10);
    mirrored
        .target
        .client
        .delete_records("mirror.compared", 1, 7);
    let partial = mirrored.run("--json --topic mirror.compared --compare");
    assert_eq!(partial.code, 2, "{partial}");
    let partial = partial.json();
    assert_eq!(
        (&partial["status"], &partial["records"]),
        (&"partial".into(), &103.into()),
        "{partial}"
    );
    let only = |partition: usize, side: &str| partial["partitions"][partition][side].clone();
    assert_eq!(
        (only(0, "only_in_target"), only(1, "only_in_source")),
        (10.into(), 7.into())
    );
    let forged = mirrored_with_one_other_record();
    let differs = forged.run("--json --topic mirror.forged --compare");
    assert_eq!(differs.code, 2, "{differs}");
    let differs: Value = serde_json::from_str(&differs.stdout).unwrap();
    let found = &differs["partitions"][0];
    assert_eq!(
        (&differs["status"], &found["records"]),
        (&"different".into(), &7.into()),
        "{differs}"
    );
    assert_eq!(found["difference"]["source_offset"], 7, "{differs}");
    assert_eq!(
        found["difference"]["differs"],
        serde_json::json!(["value"]),
        "{differs}"
    );
}

/// A topic that was mirrored, and is another one now: its record 7 has another value.
fn mirrored_with_one_other_record() -> Mirrored<'static> {
    let forged = Mirrored {
        source: Fixture::elsewhere(),
        target: Fixture::shared(),
        name: "forged",
    };
    forged.source.client.create_topic("mirror.forged", 1, &[]);
    let now = chrono::Utc::now().timestamp_millis();
    let records = || numbered(0, 20).map(move |record| record.at(now));
    let client = &forged.source.client;
    client.produce("mirror.forged", 0, Compression::None, records());
    forged.done("--topic mirror.forged");
    let client = &forged.source.client;
    client.delete_topic("mirror.forged");
    client.create_topic("mirror.forged", 1, &[]);
    let mut records: Vec<Message> = records().collect();
    records[7].value = Some(b"other".to_vec());
    client.produce("mirror.forged", 0, Compression::None, records);
    forged
}
