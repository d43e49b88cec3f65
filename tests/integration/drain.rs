//! Whether a group is drained: what a check says of logs of every kind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{EAGER, Fixture, entry, numbered};
use crate::kafkeep;
use crate::testbed::group::{Group, transaction};
use crate::testbed::{
    Broker, Client, Cluster, Compression, Message, Outcome, Release, TransactionEnd, ask, wait_for,
};

/// `kafkeep drain` on these brokers; words are separated by spaces.
pub fn drain(servers: &str, arguments: &str) -> Outcome {
    let fixed = ["drain", "--bootstrap-servers", servers];
    kafkeep(fixed.into_iter().chain(arguments.split_whitespace()))
}

/// The report of one check; the exit code is 0 for drained groups and 2 for all others.
#[track_caller]
pub fn check(servers: &str, arguments: &str) -> Value {
    let outcome = drain(servers, &format!("--json --stable-checks 1 {arguments}"));
    let report = outcome.json();
    let code = if report["status"] == "drained" { 0 } else { 2 };
    assert_eq!(outcome.code, code, "{outcome}");
    report
}

/// Expects a verdict, of which these partitions are the deciding ones.
#[track_caller]
pub fn expect(report: &Value, verdict: &str, deciding: &[i64]) {
    assert_eq!(report["status"], verdict, "{report:#}");
    let partitions = report["groups"][0]["deciding_partitions"]
        .as_array()
        .unwrap();
    let mut partitions: Vec<i64> = partitions
        .iter()
        .map(|row| row["partition"].as_i64().unwrap())
        .collect();
    partitions.sort_unstable();
    assert_eq!(partitions, deciding, "{report:#}");
}

fn commit(broker: &Broker, group: &str, topic: &str, partition: i32, offset: i64) {
    Group::new(&broker.address(), group).commit(topic, partition, offset, "");
}

/// A line that a watch is to show comes within this, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// `kafkeep drain --watch`, whose lines are read one by one.
pub struct Watching {
    process: Child,
    lines: Receiver<String>,
}

impl Watching {
    pub fn start(servers: &str, arguments: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_kafkeep"))
            .args([
                "drain",
                "--watch",
                "--interval",
                "200ms",
                "--bootstrap-servers",
                servers,
            ])
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let shown = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            shown
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    /// The next line that has this text.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        let (mut shown, deadline) = (String::new(), Instant::now() + PATIENCE);
        while let Some(line) = self.next(deadline) {
            if line.contains(text) {
                return line;
            }
            shown += &line;
            shown.push('\n');
        }
        panic!("{text:?} is not in:\n{shown}");
    }

    fn next(&self, deadline: Instant) -> Option<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.lines.recv_timeout(left).ok()
    }

    /// Sends it a signal: `STOP` and `CONT` let it miss what happens in between.
    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill")
            .args([format!("-{name}"), pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// The exit code at the end.
    pub fn ends(mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        while self.next(deadline).is_some() {}
        assert!(Instant::now() < deadline, "the watch does not end");
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn lag_is_told_partition_by_partition_with_the_fields_of_the_documented_answer() {
    let scene = Fixture::shared();
    let (broker, topic, group) = (scene.broker, "drain.numbers", "drain.numbers.g");
    scene.client.create_topic(topic, 3, &[]);
    for (partition, count, offset) in [(0, 10, 10), (1, 20, 5)] {
        scene
            .client
            .produce(topic, partition, Compression::None, numbered(0, count));
        commit(broker, group, topic, partition, offset);
    }
    let report = check(
        &broker.address(),
        &format!("--group {group} --topic {topic}"),
    );
    expect(&report, "stopped", &[1]);
    assert_eq!(report["group_id"], group);
    assert_eq!(report["total_lag"], 15);
    assert_eq!(report["partitions_checked"], 3);
    assert!(report["duration_ms"].as_u64().is_some());
    assert!(report["last_check_time"].as_str().unwrap().ends_with('Z'));
    let details = report["partition_details"].as_array().unwrap();
    let rows: Vec<Value> = details
        .iter()
        .map(|row| {
            json!([
                row["topic"],
                row["partition"],
                row["current_offset"],
                row["latest_offset"],
                row["lag"]
            ])
        })
        .collect();
    assert_eq!(
        rows,
        [
            json!([topic, 0, 10, 10, 0]),
            json!([topic, 1, 5, 20, 15]),
            json!([topic, 2, null, 0, 0]),
        ]
    );
    // Kafka's own tool counts the same.
    let address = broker.address();
    let described = broker.tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        &[
            "--bootstrap-server",
            &address,
            "--describe",
            "--group",
            group,
        ],
    );
    let table = String::from_utf8(described.stdout).unwrap();
    for row in details.iter().take(2) {
        let mut expected = vec![group.to_owned(), topic.to_owned()];
        for field in ["partition", "current_offset", "latest_offset", "lag"] {
            expected.push(row[field].to_string());
        }
        let is_same = |line: &str| line.split_whitespace().take(6).eq(expected.iter());
        assert!(table.lines().any(is_same), "{expected:?} is not in {table}");
    }
}

#[test]
fn markers_of_transactions_at_the_end_of_a_log_are_no_lag() {
    let scene = Fixture::shared();
    let (broker, topic) = (scene.broker, "drain.markers");
    let address = broker.address();
    scene.client.create_topic(topic, 2, &[]);
    let values: Vec<String> = (0..5).map(|n| n.to_string()).collect();
    for id in ["drain-1", "drain-2"] {
        transaction(&address, id, topic, &values, true);
    }
    // Two transactions of five records and a marker each: the last record is at 10.
    assert_eq!(scene.client.watermarks(topic, 0), (0, 12));
    for (group, offset) in [("behind", 11), ("before", 10), ("at", 12), ("between", 5)] {
        commit(broker, &format!("drain.markers.{group}"), topic, 0, offset);
    }
    let lag = |group: &str| {
        let report = check(&address, &format!("--group drain.markers.{group}"));
        let lag = report["partition_details"][0]["lag"].as_u64().unwrap();
        let clear = report["partition_details"][0]["offsets_without_records"]
            .as_u64()
            .unwrap();
        (report["status"].as_str().unwrap().to_owned(), lag, clear)
    };
    assert_eq!(lag("behind"), ("drained".to_owned(), 0, 1));
    assert_eq!(lag("at"), ("drained".to_owned(), 0, 0));
    assert_eq!(lag("before"), ("stopped".to_owned(), 2, 0));
    assert_eq!(lag("between"), ("stopped".to_owned(), 7, 0));
    // All in one look: what is read of the log decides for every group.
    let report = check(&address, "--group drain.markers.*");
    assert_eq!(report["group_id"], Value::Null);
    assert_eq!(report["total_lag"], 9);
    let behind = entry(&report["groups"], "group_id", "drain.markers.behind");
    assert_eq!(behind["status"], "drained");
}

#[test]
fn many_markers_and_large_batches_before_the_end_are_read_through() {
    let scene = Fixture::shared();
    let (broker, topic) = (scene.broker, "drain.many-markers");
    scene.client.create_topic(topic, 1, &[]);
    let large = Message::new("k", vec![b'x'; 200_000]);
    scene
        .client
        .produce(topic, 0, Compression::None, [large.clone()]);
    // Each aborted transaction has a large record, which those who read committed ones are not given, and a marker.
    for round in 0..3 {
        let id = format!("drain-many-{round}");
        scene
            .client
            .transaction(&id, topic, [large.clone()], TransactionEnd::Abort);
    }
    for round in 0..100 {
        let id = format!("drain-many-{round}");
        let end = if round == 0 {
            TransactionEnd::Commit
        } else {
            TransactionEnd::Abort
        };
        scene.client.transaction(&id, topic, numbered(0, 1), end);
        if round == 0 {
            let (_, at) = scene.client.watermarks(topic, 0);
            commit(broker, "drain.many-markers.g", topic, 0, at - 1);
            commit(broker, "drain.many-markers.early", topic, 0, 1);
        }
    }
    let committed = "--isolation read_committed";
    let report = check(
        &broker.address(),
        &format!("--group drain.many-markers.g {committed}"),
    );
    expect(&report, "drained", &[]);
    // One marker, then 99 records with a marker each.
    assert_eq!(
        report["partition_details"][0]["offsets_without_records"],
        1 + 99 * 2
    );
    let report = check(
        &broker.address(),
        &format!("--group drain.many-markers.early {committed}"),
    );
    expect(&report, "stopped", &[0]);
    // How a group reads, Kafka does not tell: what was aborted is left for nobody.
    let report = check(&broker.address(), "--group drain.many-markers.g");
    expect(&report, "drained", &[]);
    // Behind an open transaction it still counts that the transaction may be committed.
    let open = scene.client.transaction(
        "drain-many-open",
        topic,
        numbered(0, 1),
        TransactionEnd::None,
    );
    let report = check(&broker.address(), "--group drain.many-markers.g");
    expect(&report, "stopped", &[0]);
    let end = TransactionEnd::Abort;
    scene.client.end_transaction(&open, topic, &[0], end);
    let report = check(&broker.address(), "--group drain.many-markers.g");
    expect(&report, "drained", &[]);
}

#[test]
fn an_open_transaction_holds_the_verdict_back_unless_the_group_reads_committed_records() {
    let scene = Fixture::shared();
    let (broker, topic, group) = (scene.broker, "drain.open", "drain.open.g");
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 5));
    let open = scene
        .client
        .transaction("drain-open", topic, numbered(5, 3), TransactionEnd::None);
    commit(broker, group, topic, 0, 5);
    let address = broker.address();
    let report = check(&address, &format!("--group {group}"));
    expect(&report, "stopped", &[0]);
    let why = report["groups"][0]["deciding_partitions"][0]["why"]
        .as_str()
        .unwrap();
    assert!(
        why.contains("is open from offset 5 on, its last record is of"),
        "{why}"
    );
    assert!(why.contains("a transaction of producer "), "{why}");
    let reason = report["groups"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("wait until that ends"), "{reason}");
    let committed = format!("--group {group} --isolation read_committed");
    let report = check(&address, &committed);
    expect(&report, "drained", &[]);
    let row = &report["partition_details"][0];
    assert_eq!(
        (&row["latest_offset"], &row["high_watermark"]),
        (&json!(5), &json!(8))
    );
    let end = TransactionEnd::Commit;
    scene.client.end_transaction(&open, topic, &[0], end);
    let report = check(&address, &committed);
    expect(&report, "stopped", &[0]);
    assert_eq!(report["total_lag"], 4);
}

#[test]
fn what_compaction_left_before_the_last_marker_is_no_lag() {
    let scene = Fixture::shared();
    let (broker, topic, group) = (scene.broker, "drain.compacted", "drain.compacted.g");
    let settings: Vec<(&str, &str)> = EAGER
        .into_iter()
        .map(|(name, value)| {
            if name == "delete.retention.ms" {
                (name, "1")
            } else {
                (name, value)
            }
        })
        .collect();
    scene.client.create_topic(topic, 1, &settings);
    scene
        .client
        .produce(topic, 0, Compression::None, [Message::new("kept", "x")]);
    commit(broker, group, topic, 0, 1);
    // Written and deleted again, each in a transaction; the log ends with a marker.
    let tombstone = Message {
        key: Some(b"gone".to_vec()),
        ..Message::default()
    };
    let written = [Message::new("gone", "x"), tombstone];
    let write = |round: i32| {
        for message in written.clone() {
            let id = format!("drain-compacted-{round}");
            scene
                .client
                .transaction(&id, topic, [message], TransactionEnd::Commit);
        }
    };
    write(0);
    expect(
        &check(&broker.address(), &format!("--group {group}")),
        "stopped",
        &[0],
    );
    let mut round = 0;
    wait_for("the cleaner", || {
        // Rolls the segment before; a transaction without records adds nothing but a marker.
        round += 1;
        let id = format!("drain-roll-{round}");
        let rolling = [Message::new("gone", "y")];
        scene
            .client
            .transaction(&id, topic, rolling, TransactionEnd::Abort);
        let committed = Client::new(&broker.address()).with("isolation.level", "read_committed");
        committed.read(topic)[0].len() == 1
    });
    let report = check(
        &broker.address(),
        &format!("--group {group} --isolation read_committed"),
    );
    expect(&report, "drained", &[]);
    let row = &report["partition_details"][0];
    assert!(
        row["offsets_without_records"].as_u64().unwrap() >= 4,
        "{row}"
    );
}

#[test]
fn empty_logs_are_consumed_and_deleted_records_are_not() {
    let scene = Fixture::shared();
    let (broker, topic) = (scene.broker, "drain.deleted");
    let address = broker.address();
    scene.client.create_topic(topic, 2, &[]);
    for group in [
        "drain.deleted.empty",
        "drain.deleted.late",
        "drain.deleted.done",
    ] {
        commit(broker, group, topic, 1, 0);
    }
    let empty = "--group drain.deleted.empty";
    let report = check(&address, empty);
    expect(&report, "drained", &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 10));
    commit(broker, "drain.deleted.late", topic, 0, 3);
    commit(broker, "drain.deleted.done", topic, 0, 10);
    scene.client.delete_records(topic, 0, 7);
    let report = check(&address, "--group drain.deleted.late");
    expect(&report, "unreachable_lag", &[0]);
    assert_eq!(report["total_lag"], 7);
    assert_eq!(report["partition_details"][0]["unreachable_offsets"], 4);
    let report = check(&address, empty);
    expect(&report, "never_committed", &[0]);
    assert_eq!(report["total_lag"], 3);
    scene.client.delete_records(topic, 0, 10);
    expect(
        &check(&address, "--group drain.deleted.late"),
        "unreachable_lag",
        &[0],
    );
    expect(
        &check(&address, "--group drain.deleted.done"),
        "drained",
        &[],
    );
    expect(&check(&address, empty), "drained", &[]);
}

#[test]
fn partitions_that_were_added_count_from_their_start() {
    let scene = Fixture::shared();
    let (broker, topic, group) = (scene.broker, "drain.added", "drain.added.g");
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 5));
    commit(broker, group, topic, 0, 5);
    let arguments = format!("--group {group} --topic drain.add*");
    expect(&check(&broker.address(), &arguments), "drained", &[]);
    scene.client.add_partitions(topic, 3);
    expect(&check(&broker.address(), &arguments), "drained", &[]);
    scene
        .client
        .produce(topic, 2, Compression::None, numbered(0, 4));
    let report = check(&broker.address(), &arguments);
    expect(&report, "never_committed", &[2]);
    assert_eq!(report["total_lag"], 4);
}

#[test]
fn a_recreated_topic_is_another_log_whatever_was_committed() {
    let scene = Fixture::shared();
    let (broker, topic, group) = (scene.broker, "drain.recreated", "drain.recreated.g");
    let address = broker.address();
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 5));
    commit(broker, group, topic, 0, 5);
    let mut watching = Watching::start(
        &address,
        &format!("--group {group} --topic {topic} --stable-checks 1000"),
    );
    watching.shows("draining");
    scene.client.delete_topic(topic);
    scene.client.wait_until("the deletion", |client| {
        !client.topics().contains(&topic.to_owned())
    });
    drop(watching);

    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 3));
    let arguments = format!("--group {group} --topic {topic}");
    // Kafka forgets what was committed on a topic that is deleted; a client that did not notice may commit it again.
    commit(broker, group, topic, 0, 5);
    let report = check(&address, &arguments);
    expect(&report, "recreated", &[0]);
    let why = report["groups"][0]["deciding_partitions"][0]["why"]
        .as_str()
        .unwrap();
    assert!(
        why.starts_with("the log ends at 3, before the commit"),
        "{why}"
    );
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(3, 4));
    expect(&check(&address, &arguments), "stopped", &[0]);
}

#[test]
fn a_topic_that_is_recreated_while_it_is_watched_is_told_by_its_id() {
    let scene = Fixture::shared();
    let (broker, topic, group) = (scene.broker, "drain.reborn", "drain.reborn.g");
    let address = broker.address();
    let create = || {
        scene.client.create_topic(topic, 1, &[]);
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(0, 9));
        commit(broker, group, topic, 0, 5);
    };
    create();
    let mut watching = Watching::start(&address, &format!("--group {group}"));
    watching.shows("stopped, 4 left");
    // All happens between two checks.
    watching.signal("STOP");
    scene.client.delete_topic(topic);
    let is_gone = |client: &Client| !client.topics().contains(&topic.to_owned());
    scene.client.wait_until("the deletion", is_gone);
    create();
    watching.signal("CONT");
    watching.shows("recreated, 9 left");
    commit(broker, group, topic, 0, 7);
    watching.shows("2 left");
}

#[test]
fn a_watch_sees_commits_go_back_and_ends_when_all_is_consumed() {
    let scene = Fixture::shared();
    let (broker, topic, group) = (scene.broker, "drain.rewound", "drain.rewound.g");
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 10));
    commit(broker, group, topic, 0, 8);
    let mut watching = Watching::start(&broker.address(), &format!("--group {group}"));
    watching.shows("drain.rewound.g: stopped, 2 left: it has no members");
    commit(broker, group, topic, 0, 2);
    watching.shows("rewound, 8 left");
    commit(broker, group, topic, 0, 6);
    watching.shows("draining, 4 left");
    commit(broker, group, topic, 0, 10);
    watching.shows("within its bounds in 1 of 2 checks in a row");
    watching.shows("drained: 0 left in 1 partition(s) of 1 group(s)");
    assert_eq!(watching.ends(), 0);
}

#[test]
fn by_time_what_was_produced_before_a_moment_must_be_consumed() {
    let scene = Fixture::shared();
    let (broker, topic, group) = (scene.broker, "drain.time", "drain.time.g");
    let address = broker.address();
    scene
        .client
        .create_topic(topic, 1, &[("retention.ms", "-1")]);
    // A record a second, from 22:13:20 on.
    let timed =
        (0..10).map(|n| Message::new("k", format!("value-{n}")).at(1_700_000_000_000 + n * 1000));
    scene.client.produce(topic, 0, Compression::None, timed);
    let at = |before: &str| {
        check(
            &address,
            &format!("--group {group} --strategy time --before {before}"),
        )
    };
    commit(broker, group, topic, 0, 5);
    expect(&at("2023-11-14T22:13:26Z"), "stopped", &[0]);
    // What is of 22:13:25 may be left, but without members nobody will consume it.
    let report = at("2023-11-14T22:13:25Z");
    expect(&report, "stopped", &[0]);
    let oldest = |report: &Value| report["partition_details"][0]["oldest_unconsumed"].clone();
    assert_eq!(oldest(&report), "2023-11-14T22:13:25Z");
    let member = Group::new(&address, group).join(topic);
    let report = at("2023-11-14T22:13:25Z");
    expect(&report, "drained", &[]);
    assert_eq!(
        (&report["total_lag"], oldest(&report)),
        (&json!(5), json!("2023-11-14T22:13:25Z"))
    );
    expect(&at("2023-11-14T22:13:26Z"), "draining", &[0]);
    let aged = |age: &str| {
        check(
            &address,
            &format!("--group {group} --strategy time_based --max-age {age}"),
        )
    };
    expect(&aged("1h"), "draining", &[0]);
    expect(&aged("1000years"), "drained", &[]);
    drop(member);
    commit(broker, group, topic, 0, 10);
    expect(&at("2023-11-14T22:13:26Z"), "drained", &[]);
}

#[test]
fn a_group_that_is_not_there_is_told_with_one_that_is_like_it() {
    let scene = Fixture::shared();
    let (broker, topic) = (scene.broker, "drain.unknown");
    scene.client.create_topic(topic, 1, &[]);
    commit(broker, "drain.unknown.checkout", topic, 0, 0);
    let arguments = format!("--group drain.unknown.chekout --topic {topic}");
    let report = check(&broker.address(), &arguments);
    expect(&report, "unknown_group", &[]);
    let reason = report["groups"][0]["reason"].as_str().unwrap();
    assert!(
        reason.ends_with("did you mean `drain.unknown.checkout`?"),
        "{reason}"
    );
    let refused =
        |arguments: &str, code, said| drain(&broker.address(), arguments).refused(code, &[said]);
    refused(
        "--group drain.unknown.nobody-*",
        1,
        "no consumer group `drain.unknown.nobody-*`",
    );
    refused(
        "--group g --topic drain.unknow",
        1,
        "did you mean `drain.unknown`?",
    );
    refused("--group g --topic drain.unknown.x*", 1, "matches no topic");
}

#[test]
fn a_share_group_is_refused_by_name_and_left_out_of_patterns() {
    use kafka_protocol::messages::{GroupId, ShareGroupHeartbeatRequest, TopicName};
    use kafka_protocol::protocol::StrBytes;
    let broker = Broker::start(Release::V4_4, Default::default());
    let client = Client::new(&broker.address());
    client.create_topic("shared", 1, &[]);
    commit(&broker, "till", "shared", 0, 0);
    let text = |text: &'static str| StrBytes::from_static_str(text);
    let join = ShareGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("tills")))
        .with_member_id(text("AAAAAAAAAAAAAAAAAAAAAA"))
        .with_subscribed_topic_names(Some(vec![TopicName(text("shared"))]));
    let answer = ask(&broker.address(), &join, 1);
    assert_eq!(answer.error_code, 0, "{answer:?}");
    drain(&broker.address(), "--group tills --stable-checks 1").refused(
        1,
        &["group tills: it is a share group", "kafka-share-groups.sh"],
    );
    let report = check(&broker.address(), "--group till*");
    expect(&report, "drained", &[]);
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("group tills: it is a share group"),
        "{warnings}"
    );
    drain(&broker.address(), "--group /^tills$/").refused(1, &["none of the chosen groups"]);
}

#[test]
fn the_command_line_says_what_does_not_fit_together() {
    let refused = |arguments: &str, code, said: &str| {
        drain("127.0.0.1:1", arguments).refused(code, &[said]);
    };
    refused("", 64, "--group");
    refused("--group g --max-age 5m", 64, "--strategy time");
    refused(
        "--group g --strategy time --max-lag 5",
        64,
        "--strategy lag",
    );
    refused(
        "--group g --strategy time --max-age 5m --before 2023-11-14T22:13:26Z",
        64,
        "cannot be used",
    );
    refused("--group g --interval 1ms", 64, "100ms or more");
    refused("--group g --stable-checks 0", 64, "stable-checks");
    refused("--group g --deadline 1", 75, "127.0.0.1:1");
}

#[test]
fn waiting_ends_in_time() {
    let scene = Fixture::shared();
    let (broker, topic, group) = (scene.broker, "drain.timeout", "drain.timeout.g");
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 3));
    commit(broker, group, topic, 0, 1);
    let arguments = format!("--group {group} --timeout 700ms --interval 200ms");
    let outcome = drain(&broker.address(), &format!("--json {arguments}"));
    assert_eq!(outcome.code, 2, "{outcome}");
    let report = outcome.json();
    assert_eq!(report["timed_out"], true);
    assert!(report["checks"].as_u64().unwrap() >= 2, "{report}");
    let shown = drain(&broker.address(), &arguments).stdout;
    assert!(
        shown.contains("not drained in time: 2 left in 1 partition(s)"),
        "{shown}"
    );
    assert!(shown.contains("drain.timeout.g  stopped"), "{shown}");
}

/// What holds on every supported Kafka.
fn tells_the_verdicts(broker: &Broker) {
    let client = Client::new(&broker.address());
    let address = broker.address();
    client.create_topic("till", 2, &[]);
    client.produce("till", 0, Compression::None, numbered(0, 5));
    transaction(&address, "till", "till", &["x".to_owned()], true);
    let group = Group::new(&address, "till");
    group.join("till").read_and_leave(6);
    expect(&check(&address, "--group till"), "drained", &[]);
    client.produce("till", 1, Compression::None, numbered(0, 5));
    expect(
        &check(&address, "--group till --topic till"),
        "never_committed",
        &[1],
    );
    group.commit("till", 1, 2, "");
    let member = group.join("till");
    let report = check(&address, "--group till");
    expect(&report, "draining", &[1]);
    assert_eq!(report["groups"][0]["members"], 1);
    assert!(
        report["partition_details"][1]["member"]
            .as_str()
            .unwrap()
            .ends_with("127.0.0.1")
    );
    drop(member);
    expect(&check(&address, "--group till*"), "stopped", &[1]);
    expect(&check(&address, "--group tills"), "unknown_group", &[]);
    expect(
        &check(&address, "--group till --strategy time"),
        "stopped",
        // What is certain for one partition spares looking ahead in the other.
        &[0, 1],
    );
}

#[test]
fn the_oldest_supported_kafka_is_understood() {
    tells_the_verdicts(&Broker::start(Release::V2_8, Default::default()));
}

#[test]
fn the_newest_supported_kafka_is_understood() {
    tells_the_verdicts(&Broker::start(Release::V4_4, Default::default()));
}

#[test]
fn groups_and_partitions_on_several_brokers_are_put_together() {
    let cluster = Cluster::taken();
    let client = cluster.client();
    let topic = "drain.cluster";
    client.create_on(topic, &[&[1, 2], &[2, 3], &[3, 1]], &[]);
    for partition in 0..3 {
        let count = 10 * i64::from(partition + 1);
        client.produce(topic, partition, Compression::None, numbered(0, count));
    }
    for number in 0..6 {
        let group = Group::new(&cluster.addresses(), &format!("drain.cluster.{number}"));
        for partition in 0..3 {
            group.commit(topic, partition, number, "");
        }
    }
    let report = check(&cluster.addresses(), "--group drain.cluster.*");
    assert_eq!(report["partitions_checked"], 18);
    for number in 0..6 {
        let group = entry(
            &report["groups"],
            "group_id",
            format!("drain.cluster.{number}"),
        );
        assert_eq!(group["total_lag"], 60 - 3 * number, "{group}");
    }
}
