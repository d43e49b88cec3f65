//! Consumer groups go on in the target with the record that they would have read next in the source.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{EAGER, Fixture};
use crate::testbed::acl::{self, Acl};
use crate::testbed::group::{Group, keep_as_compacted, transaction};
use crate::testbed::{Broker, Compression, Message, Properties, Release};

fn group(scene: &Fixture<'_>, id: &str) -> Group {
    Group::new(&scene.broker.address(), id)
}

/// A topic with values `value-0`, `value-1`, … in each partition, a second apart.
fn topic(scene: &Fixture<'_>, name: &str, partitions: i32, count: i64) {
    let settings = [("retention.ms", "-1")];
    scene.client.create_topic(name, partitions, &settings);
    for partition in 0..partitions {
        scene
            .client
            .produce(name, partition, Compression::Zstd, timed(0, count));
    }
}

fn timed(first: i64, count: i64) -> impl Iterator<Item = Message> {
    (first..first + count).map(|n| {
        Message::new(format!("key-{n}"), format!("value-{n}")).at(1_700_000_000_000 + n * 1000)
    })
}

fn texts(first: i64, count: i64) -> Vec<String> {
    (first..first + count)
        .map(|n| format!("value-{n}"))
        .collect()
}

/// The row of a report for one group and partition.
#[track_caller]
fn row<'v>(report: &'v Value, group: &str, partition: i64) -> &'v Value {
    let groups = report["groups"].as_array().unwrap();
    let found = groups.iter().find(|found| found["group"] == group);
    let rows = found.unwrap()["offsets"].as_array().unwrap();
    rows.iter()
        .find(|row| row["partition"] == partition)
        .unwrap()
}

/// Commits a group at every offset of `topic`, restores into `{topic}.back`, and compares what each reads next.
fn every_position_is_kept(scene: &Fixture<'_>, topic: &str) {
    let (start, end) = scene.client.watermarks(topic, 0);
    let ids: Vec<String> = (start..=end).map(|at| format!("{topic}.at-{at}")).collect();
    for (id, at) in ids.iter().zip(start..) {
        group(scene, id).commit(topic, 0, at, "");
    }
    scene.backup(&format!("--topic {topic} --groups {topic}.at-*"));
    let back = format!("{topic}.back");
    let report = scene.restore(&format!("latest --rename {topic}={back} --groups all"));
    assert_eq!(report["groups"].as_array().unwrap().len(), ids.len());
    for id in &ids {
        let group = group(scene, id);
        assert_eq!(group.next(topic, 0), group.next(&back, 0), "{id}");
        assert_eq!(row(&report, id, 0)["outcome"], "applied");
    }
}

#[test]
fn groups_among_aborted_transactions_and_markers_go_on_where_they_were() {
    let scene = Fixture::shared();
    let topic = "groups.transactions";
    self::topic(&scene, topic, 1, 5);
    let address = scene.broker.address();
    transaction(&address, "groups-1", topic, &texts(5, 3), true);
    transaction(&address, "groups-2", topic, &texts(8, 3), false);
    scene
        .client
        .produce(topic, 0, Compression::Gzip, timed(11, 4));
    transaction(&address, "groups-3", topic, &texts(15, 2), true);
    transaction(&address, "groups-4", topic, &texts(17, 2), false);
    every_position_is_kept(&scene, topic);
}

#[test]
fn groups_in_holes_of_a_compacted_log_go_on_where_they_were() {
    let scene = Fixture::shared();
    let topic = "groups.compacted";
    scene.client.create_topic(topic, 1, &EAGER);
    for round in 0..4 {
        let versions = (0..6)
            .filter(|n| round == 0 || n % round == 1)
            .map(|n| Message::new(format!("key-{n}"), format!("value-{n}-{round}")));
        scene
            .client
            .produce(topic, 0, Compression::None, versions.collect::<Vec<_>>());
    }
    let holes = || {
        let records = scene.client.read(topic).remove(0);
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        offsets.windows(2).any(|pair| pair[1] - pair[0] > 1)
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holes() {
        assert!(std::time::Instant::now() < deadline, "nothing is cleaned");
        // Rolls the segment before, which makes it cleanable.
        scene
            .client
            .produce(topic, 0, Compression::None, [Message::new("roll", "x")]);
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    keep_as_compacted(&scene.broker.address(), topic);
    every_position_is_kept(&scene, topic);
}

#[test]
fn positions_outside_the_backup_are_clamped_and_what_is_not_restored_is_skipped() {
    let scene = Fixture::shared();
    topic(&scene, "groups.edges", 2, 10);
    topic(&scene, "groups.other", 1, 3);
    scene.client.delete_records("groups.edges", 0, 4);
    for (id, at) in [("below", 2), ("inside", 6), ("end", 10), ("beyond", 50)] {
        let group = group(&scene, &format!("groups.edges.{id}"));
        group.commit("groups.edges", 0, at, &format!("note of {id}"));
        group.commit("groups.edges", 1, 1, "");
        group.commit("groups.other", 0, 3, "");
    }
    let report = scene.backup("--topic groups.edges --topic groups.other --groups groups.edges.*");
    assert_eq!(report["groups"].as_array().unwrap().len(), 4);
    assert_eq!(report["groups"][0]["offsets"], 3);

    let shown = scene.run("show", "--json latest").done();
    let groups = shown["consumer_groups"]["groups"].as_array().unwrap();
    let beyond = groups
        .iter()
        .find(|group| group["group"] == "groups.edges.beyond")
        .unwrap();
    let kept = &beyond["topics"][0]["partitions"][0];
    assert_eq!(kept["offset"], 50, "kept as it was found");
    assert_eq!(kept["is_beyond_end"], true);
    assert_eq!(kept["metadata"], "note of beyond");
    let table = scene.run("show", "latest").stdout;
    assert!(table.contains("50 (beyond the end)"), "{table}");
    scene.run("verify", "--json").done();

    let arguments = "latest --topic groups.edges --rename groups.edges=groups.edges.back --partition 0 --groups all";
    let plan = scene.plan(arguments);
    assert_eq!(row(&plan, "groups.edges.inside", 0)["action"], "translate");
    assert_eq!(
        group(&scene, "groups.edges.inside").committed("groups.edges.back", 0),
        None
    );
    let report = scene.restore(arguments);
    let expected = [
        ("below", 0, "clamped", "the backup begins at offset 4"),
        ("inside", 2, "applied", ""),
        ("end", 6, "applied", ""),
        ("beyond", 6, "clamped", "the backup ends at offset 10"),
    ];
    for (id, offset, outcome, reason) in expected {
        let id_of_group = format!("groups.edges.{id}");
        let restored = row(&report, &id_of_group, 0);
        assert_eq!(restored["target_offset"], offset, "{id}");
        assert_eq!(restored["outcome"], outcome, "{id}");
        assert_eq!(restored["reason"].as_str().unwrap_or(""), reason, "{id}");
        let committed = group(&scene, &id_of_group).committed("groups.edges.back", 0);
        assert_eq!(committed, Some((offset, format!("note of {id}"))));
        let elsewhere = row(&report, &id_of_group, 1);
        assert_eq!(elsewhere["outcome"], "skipped");
        assert_eq!(
            group(&scene, &id_of_group).committed("groups.edges.back", 1),
            None
        );
    }
    let skipped = report["groups"][0]["offsets"].as_array().unwrap();
    let other = skipped.iter().find(|row| row["topic"] == "groups.other");
    assert_eq!(
        other.unwrap()["reason"],
        "topic groups.other is not restored"
    );
}

#[test]
fn groups_go_on_behind_a_cut_in_time_and_are_told_so() {
    let scene = Fixture::shared();
    topic(&scene, "groups.window", 1, 10);
    for at in [0, 3, 5, 8] {
        let group = group(&scene, &format!("groups.window.{at}"));
        group.commit("groups.window", 0, at, "");
    }
    scene.backup("--topic groups.window --groups groups.window.*");
    // Values 2 to 6 lie within.
    let report = scene.restore(
        "latest --rename groups.window=groups.window.back --groups all \
         --from 2023-11-14T22:13:22Z --until 2023-11-14T22:13:27Z",
    );
    assert_eq!(report["messages_restored"], 5);
    for (at, offset, outcome) in [
        (0, 0, "clamped"),
        (3, 1, "applied"),
        (5, 3, "applied"),
        (8, 5, "clamped"),
    ] {
        let id = format!("groups.window.{at}");
        assert_eq!(row(&report, &id, 0)["outcome"], outcome, "{at}");
        let committed = group(&scene, &id).committed("groups.window.back", 0);
        assert_eq!(committed.unwrap().0, offset, "{at}");
    }
}

#[test]
fn a_group_with_members_is_refused_by_naming_them_and_the_others_go_on() {
    let scene = Fixture::shared();
    topic(&scene, "groups.live", 1, 6);
    let classic = group(&scene, "groups.live.classic").with("client.id", "till-7");
    let modern = group(&scene, "groups.live.modern")
        .with("client.id", "till-8")
        .with("group.protocol", "consumer");
    for id in ["classic", "modern", "idle"] {
        let group = group(&scene, &format!("groups.live.{id}"));
        group.commit("groups.live", 0, 4, "");
    }
    scene.backup("--topic groups.live --groups groups.live.*");
    let members = [classic.join("groups.live"), modern.join("groups.live")];

    let arguments = "--json latest --rename groups.live=groups.live.back --groups all";
    let plan = scene.run("restore", &format!("{arguments} --dry-run"));
    assert_eq!(plan.code, 2, "{plan}");
    let plan = plan.json();
    let planned = plan["groups"].to_string();
    assert!(
        planned.contains("till-7") && planned.contains("till-8"),
        "{planned}"
    );
    let outcome = scene.run("restore", arguments);
    assert_eq!(outcome.code, 2, "{outcome}");
    let report = outcome.json();
    assert_eq!(report["status"], "incomplete");
    assert_eq!(report["messages_restored"], 6);
    for (id, client) in [("classic", "till-7"), ("modern", "till-8")] {
        let refused = row(&report, &format!("groups.live.{id}"), 0);
        assert_eq!(refused["outcome"], "refused");
        let reason = refused["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("it is Stable in the target, with 1 member(s): "),
            "{reason}"
        );
        assert!(
            reason.contains(&format!("({client} at 127.0.0.1)")),
            "{reason}"
        );
        assert_eq!(refused["target_offset"], 4, "what to set by hand");
    }
    drop(members);
    for (id, committed) in [
        ("classic", None),
        ("modern", None),
        ("idle", Some((4, String::new()))),
    ] {
        let group = group(&scene, &format!("groups.live.{id}"));
        assert_eq!(group.committed("groups.live.back", 0), committed, "{id}");
    }
}

#[test]
fn groups_of_both_protocols_are_backed_up_and_go_on_in_the_target() {
    let scene = Fixture::shared();
    topic(&scene, "groups.both", 1, 12);
    let classic = group(&scene, "groups.both.classic");
    let modern = group(&scene, "groups.both.modern").with("group.protocol", "consumer");
    classic.join("groups.both").read_and_leave(12);
    modern.join("groups.both").read_and_leave(12);
    scene
        .client
        .produce("groups.both", 0, Compression::Lz4, timed(12, 3));
    let report = scene.backup("--topic groups.both");
    let types: Vec<(&str, &str)> = report["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            (
                group["group"].as_str().unwrap(),
                group["type"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        types,
        [
            ("groups.both.classic", "classic"),
            ("groups.both.modern", "consumer")
        ]
    );
    scene.restore("latest --rename groups.both=groups.both.back --groups groups.both.classic --groups groups.both.modern");
    for id in ["groups.both.classic", "groups.both.modern"] {
        assert_eq!(
            group(&scene, id).next("groups.both.back", 0).unwrap(),
            b"value-12"
        );
        let address = scene.broker.address();
        let described = scene.broker.tool(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            &["--bootstrap-server", &address, "--describe", "--group", id],
        );
        let table = String::from_utf8(described.stdout).unwrap();
        let line = table
            .lines()
            .find(|line| line.contains("groups.both.back"))
            .unwrap();
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            columns[..6],
            [id, "groups.both.back", "0", "12", "15", "3"],
            "{table}"
        );
    }
}

#[test]
fn no_group_is_touched_or_captured_without_being_asked_for() {
    let scene = Fixture::shared();
    topic(&scene, "groups.quiet", 1, 4);
    let group = group(&scene, "groups.quiet.g");
    group.commit("groups.quiet", 0, 2, "");
    scene.backup("--topic groups.quiet");
    scene.restore("latest --rename groups.quiet=groups.quiet.back");
    assert_eq!(group.committed("groups.quiet.back", 0), None);
    scene
        .run("restore", "latest --rename groups.quiet=groups.quiet.x --groups groups.quiet.h")
        .refused(1, &["the backup has no offsets of group `groups.quiet.h`; did you mean `groups.quiet.g`?"]);

    let report = scene.backup("--topic groups.quiet --groups none");
    assert_eq!(report["groups"], json!([]));
    assert_eq!(
        scene.run("show", "--json latest").done()["consumer_groups"],
        Value::Null
    );
    scene
        .run(
            "restore",
            "latest --rename groups.quiet=groups.quiet.x --groups all",
        )
        .refused(1, &["holds no consumer groups' offsets"]);
    assert!(!scene.client.topics().contains(&"groups.quiet.x".to_owned()));
    scene
        .run(
            "backup",
            "--topic groups.quiet --groups groups.quiet.nobody",
        )
        .refused(
            1,
            &[
                "no consumer group `groups.quiet.nobody` in cluster",
                "DESCRIBE",
            ],
        );
    scene
        .run("backup", "--topic groups.quiet --groups all --groups x")
        .refused(64, &["stand alone"]);
}

#[test]
fn an_exact_translation_is_not_pretended_where_records_are_spread_anew() {
    let scene = Fixture::shared();
    topic(&scene, "groups.spread", 2, 5);
    let group = group(&scene, "groups.spread.g");
    group.commit("groups.spread", 0, 2, "");
    scene.backup("--topic groups.spread --groups groups.spread.g");
    let outcome = scene.run(
        "restore",
        "--json latest --rename groups.spread=groups.spread.back --partitions 3 --groups all",
    );
    assert_eq!(outcome.code, 2, "{outcome}");
    let report = outcome.json();
    let refused = row(&report, "groups.spread.g", 0);
    assert_eq!(refused["outcome"], "refused");
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .contains("another number of partitions (3)")
    );
    assert_eq!(group.committed("groups.spread.back", 0), None);
}

#[test]
fn behind_what_is_there_a_group_stands_on_the_appended_records() {
    let scene = Fixture::shared();
    topic(&scene, "groups.append", 1, 8);
    topic(&scene, "groups.append.back", 1, 5);
    let group = group(&scene, "groups.append.g");
    group.commit("groups.append", 0, 6, "");
    scene.backup("--topic groups.append --groups groups.append.g");
    group.commit("groups.append.back", 0, 1, "");
    let report = scene.restore(
        "latest --rename groups.append=groups.append.back --if-exists append --groups groups.append.g",
    );
    let restored = row(&report, "groups.append.g", 0);
    assert_eq!(restored["target_offset"], 5 + 6);
    assert_eq!(restored["replaced_offset"], 1);
    assert_eq!(group.next("groups.append.back", 0).unwrap(), b"value-6");
}

#[test]
fn no_group_is_ahead_of_the_records_that_are_backed_up_with_it() {
    let scene = Fixture::shared();
    topic(&scene, "groups.busy", 1, 1);
    let group = group(&scene, "groups.busy.g");
    group.commit("groups.busy", 0, 0, "");
    /// Stops the writer however the test ends.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let writer = scope.spawn(|| group.write_and_commit("groups.busy", 1, &stop));
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut committed = Some(0);
        // As often as it takes for the group to have gone a good way.
        while committed < Some(100) {
            assert!(
                Instant::now() < deadline,
                "the group stands at {committed:?}"
            );
            let report = scene.backup("--topic groups.busy --groups groups.busy.g");
            let end = report["topics"][0]["partitions"][0]["end_offset"].as_i64();
            let shown = scene.run("show", "--json latest").done();
            let group = &shown["consumer_groups"]["groups"][0];
            committed = group["topics"][0]["partitions"][0]["offset"].as_i64();
            assert!(committed <= end, "{committed:?} > {end:?}");
        }
        drop(stopping);
        writer.join().unwrap();
    });
}

#[test]
fn what_a_transaction_is_about_to_commit_is_not_taken_for_committed() {
    let scene = Fixture::shared();
    topic(&scene, "groups.pending", 1, 8);
    let group = group(&scene, "groups.pending.g");
    group.commit("groups.pending", 0, 2, "");
    let transaction = group.send_to_transaction("groups-pending", "groups.pending", 6);
    let report = scene.backup("--topic groups.pending --groups groups.pending.g");
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("a transaction was about to move its offsets"),
        "{warnings}"
    );
    let report = scene.restore("latest --rename groups.pending=groups.pending.back --groups all");
    assert_eq!(row(&report, "groups.pending.g", 0)["target_offset"], 2);
    drop(transaction);
}

#[test]
fn the_groups_of_a_backup_are_proven_and_readable_by_others() {
    let scene = Fixture::shared();
    topic(&scene, "groups.proof", 1, 3);
    group(&scene, "groups.proof.g").commit("groups.proof", 0, 2, "näher");
    scene.backup("--topic groups.proof --groups groups.proof.g");
    let repository = scene.repository();
    let output = std::process::Command::new("python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/format/reader.py"
        ))
        .arg("list")
        .arg(&repository)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listed = String::from_utf8(output.stdout).unwrap();
    let line = listed
        .lines()
        .find(|line| line.contains("groups.proof.g"))
        .unwrap();
    let state: Value = serde_json::from_str(line).unwrap();
    let committed = &state["groups"][0]["topics"][0]["partitions"][0];
    assert_eq!(
        (&committed["offset"], &committed["metadata"]),
        (&json!(2), &json!("näher"))
    );

    let shown = scene.run("show", "--json latest").done();
    let digest = shown["groups"].as_str().unwrap();
    let state = repository.join(format!("states/{digest}.json.zst"));
    let mut bytes = std::fs::read(&state).unwrap();
    bytes[20] ^= 1;
    std::fs::remove_file(&state).unwrap();
    std::fs::write(&state, bytes).unwrap();
    let outcome = scene.run("verify", "--json");
    assert_eq!(outcome.code, 2, "{outcome}");
    assert!(outcome.stdout.contains(digest), "{outcome}");
    let restore = "latest --rename groups.proof=groups.proof.back --groups all";
    scene.run("restore", restore).refused(1, &[digest]);
    assert!(
        !scene
            .client
            .topics()
            .contains(&"groups.proof.back".to_owned())
    );
}

fn goes_on(broker: &Broker) {
    let scene = Fixture::on(broker);
    topic(&scene, "groups.versions", 2, 9);
    let kept = group(&scene, "versions");
    kept.commit("groups.versions", 1, 7, "kept");
    group(&scene, "reader")
        .join("groups.versions")
        .read_and_leave(18);
    let report = scene.backup("--topic groups.versions --groups all");
    assert_eq!(report["groups"].as_array().unwrap().len(), 2);
    let report = scene.restore("latest --rename groups.versions=groups.back --groups all");
    assert_eq!(row(&report, "reader", 0)["target_offset"], 9);
    assert_eq!(
        kept.committed("groups.back", 1),
        Some((7, "kept".to_owned()))
    );
    assert_eq!(kept.next("groups.back", 1).unwrap(), b"value-7");

    let member = group(&scene, "reader").join("groups.versions");
    let again = "--json latest --rename groups.versions=groups.again --groups reader";
    let outcome = scene.run("restore", again);
    assert_eq!(outcome.code, 2, "{outcome}");
    assert_eq!(row(&outcome.json(), "reader", 0)["outcome"], "refused");
    drop(member);
}

#[test]
fn groups_of_the_oldest_supported_kafka_go_on() {
    goes_on(&Broker::start(Release::V2_8, Default::default()));
}

#[test]
fn groups_of_the_newest_supported_kafka_go_on() {
    goes_on(&Broker::start(Release::V4_4, Default::default()));
}

#[test]
fn a_right_to_a_group_that_is_missing_is_named() {
    let properties = Properties::default()
        .set(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .set("allow.everyone.if.no.acl.found", "true");
    let broker = Broker::start(Release::V4_1, properties);
    let scene = Fixture::on(&broker);
    topic(&scene, "secured", 1, 5);
    for id in ["open", "hidden", "guarded"] {
        group(&scene, id).commit("secured", 0, 3, "");
    }
    let rule = |rule: fn(&str, &str, &str, &str) -> Acl, operation: &str, group: &str| {
        acl::add(
            &broker.address(),
            &[rule("ANONYMOUS", operation, "group", group)],
        );
    };
    rule(Acl::deny, "Describe", "hidden");
    let report = scene.backup("--topic secured");
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("group hidden: not allowed: grant ACL DESCRIBE on group hidden"),
        "{warnings}"
    );
    assert_eq!(report["groups"].as_array().unwrap().len(), 2);
    assert_eq!(report["status"], "completed");
    for groups in ["all", "hidden"] {
        scene
            .run("backup", &format!("--topic secured --groups {groups}"))
            .refused(1, &["grant ACL DESCRIBE on group hidden"]);
    }

    // To describe it is all that is left.
    rule(Acl::allow, "Describe", "guarded");
    let outcome = scene.run(
        "restore",
        "--json latest --rename secured=secured.back --groups all",
    );
    assert_eq!(outcome.code, 2, "{outcome}");
    let report = outcome.json();
    let refused = row(&report, "guarded", 0);
    assert_eq!(refused["outcome"], "refused");
    assert_eq!(
        refused["reason"],
        "not allowed: grant ACL READ on group guarded"
    );
    assert_eq!(row(&report, "open", 0)["outcome"], "applied");
    assert_eq!(
        group(&scene, "open")
            .committed("secured.back", 0)
            .unwrap()
            .0,
        3
    );
}
