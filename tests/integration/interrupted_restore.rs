//! Restores that are killed, and go on.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{
    Fixture, Random, assert_same_records, awkward, entry, kills, numbered, values,
};
use crate::testbed::group::Group;
use crate::testbed::{Client, Compression, Message, TransactionEnd};

/// A scene with a backup of `topic`, which has something to interrupt in each of its partitions: batches of several codecs,
/// aborted transactions, and everything that must not get lost.
fn backed_up(topic: &str, partitions: i32, batches: i64) -> Fixture<'static> {
    let scene = Fixture::shared();
    scene
        .client
        .create_topic(topic, partitions, &[("retention.ms", "-1")]);
    let rounds = [
        (Compression::None, TransactionEnd::Commit),
        (Compression::Lz4, TransactionEnd::Abort),
    ];
    for (compression, transaction) in rounds {
        let client = Client::new(&scene.broker.address()).with("batch.num.messages", "50");
        let producer = client.producer(compression);
        for partition in 0..partitions {
            producer.produce(topic, partition, awkward(batches * 50));
        }
        let records = ["some", "more"].map(|value| Message::new("k", value));
        scene.client.transaction(topic, topic, records, transaction);
    }
    scene.backup(&format!("--topic {topic}"));
    scene
}

fn end(client: &Client, topic: &str, partitions: i32) -> i64 {
    if !client.topics().iter().any(|found| found == topic) {
        return 0;
    }
    client.wait_for_leaders(topic, partitions);
    (0..partitions)
        .map(|partition| client.watermarks(topic, partition).1)
        .sum()
}

/// A restore that is killed when at least `records` of it are in `target`.
fn interrupt(scene: &Fixture<'_>, target: &str, partitions: i32, records: i64, arguments: &str) {
    let before = end(&scene.client, target, partitions);
    let mut run = scene.start("restore", &format!("latest {arguments}"));
    while end(&scene.client, target, partitions) - before < records {
        assert!(
            run.try_wait().unwrap().is_none(),
            "the restore ended before it could be interrupted"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

/// The topic holds the same records as the source, in the same order.
#[track_caller]
fn assert_equal(client: &Client, source: &str, target: &str) {
    assert_same_records(&client.read(source), &client.read(target), target);
}

fn found(report: &Value) -> u64 {
    report["messages_found"].as_u64().unwrap()
}

#[test]
fn a_restore_that_was_killed_goes_on_when_it_is_run_again() {
    let scene = backed_up("killed", 3, 20);
    let options = "--rename killed=killed.back";
    interrupt(
        &scene,
        "killed.back",
        3,
        200,
        &format!("{options} --rate-limit 100KiB/s"),
    );
    assert_eq!(scene.files("restores").len(), 1);
    // Another restore into the same topic would take what is there for somebody else's.
    scene
        .run(
            "restore",
            &format!("latest {options} --until 2026-01-01T00:00:00Z"),
        )
        .refused(
            1,
            &[
                "began at",
                "did not finish",
                "give the same backup and options again",
                "delete the topic",
            ],
        );
    let plan = scene.plan(&format!("latest {options}"));
    assert_eq!(plan["topics"][0]["action"].as_object().unwrap().len(), 1);
    assert!(
        plan["topics"][0]["interrupted"]["started_at"].is_string(),
        "{plan}"
    );
    let shown = scene.run("restore", &format!("latest --dry-run {options}"));
    assert!(shown.stdout.contains("go on"), "{shown}");

    let report = scene.restore(&format!("latest --check {options}"));
    assert!(found(&report) >= 200, "{report}");
    assert!(
        found(&report) < report["messages_restored"].as_u64().unwrap(),
        "{report}"
    );
    assert_equal(&scene.client, "killed", "killed.back");
    assert_eq!(
        scene.client.setting("killed.back", "segment.ms").as_deref(),
        Some("604800000")
    );
    assert!(scene.files("restores").is_empty());
    scene
        .run("restore", &format!("latest {options}"))
        .refused(1, &["killed.back exists"]);
}

#[test]
fn killed_at_any_moment_a_restore_goes_on_without_a_duplicate_and_without_a_hole() {
    let scene = backed_up("restore.kills", 3, 60);
    let client = &scene.client;
    let source = client.read("restore.kills");
    let options =
        |target: &str| format!("latest --json --rename restore.kills={target} --rate-limit 8MiB/s");
    // The moments are those of a whole restore, however fast this machine is.
    let began = Instant::now();
    let whole = scene.run("restore", &options("restore.kills.whole"));
    assert_eq!(whole.code, 0, "{whole}");
    let whole = u64::try_from(began.elapsed().as_micros()).unwrap();
    // One at least has something to go on with.
    let slow = "--rename restore.kills=restore.kills.0 --rate-limit 100KiB/s";
    interrupt(&scene, "restore.kills.0", 3, 1, slow);
    let (mut killed, mut episode, mut gone_on) = (0, 0, 0);
    let mut random = Random::seeded();
    while killed < kills() {
        let target = format!("restore.kills.{episode}");
        let options = options(&target);
        let mut run = scene.start("restore", &options);
        std::thread::sleep(Duration::from_micros(random.below(whole)));
        run.kill().unwrap();
        killed += 1;
        let finished = run.wait().unwrap().success();
        if finished || killed == kills() || random.below(8) == 0 {
            let outcome = scene.run("restore", &options);
            if outcome.code == 0 {
                gone_on += u32::from(found(&outcome.json()) > 0);
            } else {
                outcome.refused(1, &[&format!("topic {target} exists in the target")]);
            }
            assert_same_records(&source, &client.read(&target), &target);
            episode += 1;
        }
    }
    assert!(gone_on > 0);
    assert!(scene.files("restores").is_empty());
    scene.verify();
}

#[test]
fn a_restore_does_not_go_on_in_a_topic_that_somebody_else_wrote_to() {
    let scene = backed_up("meddled", 2, 20);
    for (target, slow) in [("meddled.back", "100KiB/s"), ("meddled.early", "100KiB/s")] {
        let options = format!("--rename meddled={target}");
        interrupt(
            &scene,
            target,
            2,
            50,
            &format!("{options} --rate-limit {slow}"),
        );
        scene
            .client
            .produce(target, 1, Compression::None, numbered(0, 1));
        let before = scene.client.read(target);
        scene.run("restore", &format!("latest {options}")).refused(
            1,
            &[
                &format!("somebody else changed {target}-1 at offset"),
                "delete the topic",
            ],
        );
        assert_eq!(before, scene.client.read(target), "nothing was written");
        // Without the topic there is nothing to go on with.
        scene.client.delete_topic(target);
        let report = scene.restore(&format!("latest {options}"));
        assert_eq!(found(&report), 0);
        assert_equal(&scene.client, "meddled", target);
    }
}

#[test]
fn a_restore_does_not_go_on_in_a_topic_whose_settings_or_partitions_were_changed() {
    let scene = backed_up("altered", 2, 20);
    let interrupted = |target: &str| {
        let options = format!("--rename altered={target}");
        let slow = format!("{options} --rate-limit 100KiB/s");
        interrupt(&scene, target, 2, 50, &slow);
        format!("latest {options}")
    };
    let options = interrupted("altered.settings");
    let changes = [("retention.ms", "1000000000")];
    scene.client.change_settings("altered.settings", &changes);
    scene
        .run("restore", &options)
        .refused(1, &["somebody changed the topic's settings since"]);
    let options = interrupted("altered.partitions");
    scene.client.add_partitions("altered.partitions", 3);
    scene
        .run("restore", &options)
        .refused(1, &["the topic has 3 partitions now, not 2"]);
    scene
        .run("restore", &format!("{options} --forget-unfinished"))
        .refused(1, &["altered.partitions exists in the target"]);
}

#[test]
fn an_interrupted_restore_behind_other_records_goes_on_behind_its_own() {
    let scene = backed_up("further", 2, 20);
    let target = "further.back";
    // Brokers compress anew and give other timestamps: the records are compared, not the batches.
    let settings = [
        ("compression.type", "zstd"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    scene.client.create_topic(target, 2, &settings);
    for partition in 0..2 {
        scene
            .client
            .produce(target, partition, Compression::None, numbered(0, 7));
    }
    let options = "--rename further=further.back --if-exists append";
    interrupt(
        &scene,
        target,
        2,
        50,
        &format!("{options} --rate-limit 100KiB/s"),
    );
    let report = scene.restore(&format!("latest --check {options}"));
    assert!(found(&report) >= 50, "{report}");
    assert_eq!(
        entry(&report["topics"][0]["partitions"], "partition", 0)["start_offset"],
        7
    );
    let (source, all) = (scene.client.read("further"), scene.client.read(target));
    for (source, all) in source.iter().zip(&all) {
        assert_eq!(values(source), values(&all[7..]));
    }
    // Finished: the same again is another restore behind it.
    let report = scene.restore(&format!("latest {options}"));
    assert_eq!(found(&report), 0);

    interrupt(
        &scene,
        target,
        2,
        50,
        &format!("{options} --rate-limit 100KiB/s"),
    );
    scene
        .client
        .produce(target, 0, Compression::None, numbered(0, 1));
    scene.run("restore", &format!("latest {options}")).refused(
        1,
        &[
            "somebody else changed further.back-0",
            "--forget-unfinished",
        ],
    );
    let report = scene.restore(&format!("latest {options} --forget-unfinished"));
    assert_eq!(found(&report), 0);
    assert!(scene.files("restores").is_empty());
}

#[test]
fn an_interrupted_restore_into_other_partitions_and_times_goes_on_with_groups() {
    let scene = backed_up("strewn", 3, 20);
    let options = "--rename strewn=strewn.back --partitions 5 --from 2023-11-14T22:13:25Z --until 2023-11-14T22:27:05Z";
    interrupt(
        &scene,
        "strewn.back",
        5,
        100,
        &format!("{options} --rate-limit 50KiB/s"),
    );
    let report = scene.restore(&format!("latest --check {options}"));
    assert!(found(&report) >= 100, "{report}");
    scene.restore(&format!(
        "latest {}",
        options.replace("strewn.back", "strewn.whole")
    ));
    assert_equal(&scene.client, "strewn.whole", "strewn.back");
}

#[test]
fn groups_stand_on_the_same_records_after_a_restore_that_went_on() {
    let scene = backed_up("followed", 1, 20);
    let end = scene.client.watermarks("followed", 0).1;
    for (group, offset) in [("followed.early", 13), ("followed.late", end - 10)] {
        Group::new(&scene.broker.address(), group).commit("followed", 0, offset, "here");
    }
    scene.backup("--topic followed");
    interrupt(
        &scene,
        "followed.back",
        1,
        60,
        "--rename followed=followed.back --rate-limit 50KiB/s",
    );
    let arguments =
        "latest --rename followed=followed.back --groups followed.early --groups followed.late";
    let report = scene.restore(arguments);
    assert!(found(&report) >= 60, "{report}");
    for group in ["followed.early", "followed.late"] {
        let group = Group::new(&scene.broker.address(), group);
        assert_eq!(group.next("followed", 0), group.next("followed.back", 0));
    }
}

#[test]
fn what_is_read_back_is_compared() {
    let scene = backed_up("checked", 2, 3);
    let report = scene.restore("latest --check --rename checked=checked.back");
    assert_eq!(report["read_back"], true);
    let shown = scene.run("restore", "latest --check --rename checked=checked.again");
    assert!(
        shown.stdout.contains("what was read back is what was sent"),
        "{shown}"
    );
    scene
        .client
        .create_topic("checked.compacted", 2, &[("cleanup.policy", "compact")]);
    scene
        .run(
            "restore",
            "latest --check --if-exists append --rename checked=checked.compacted",
        )
        .refused(1, &["is compacted", "leave --check out"]);
}

#[test]
fn of_two_restores_into_one_topic_the_older_ends_with_the_reason_and_the_newer_finishes() {
    let scene = backed_up("claimed", 3, 20);
    let options = "--rename claimed=claimed.back";
    let mut older = scene.command("restore", &format!("latest {options} --rate-limit 10KiB/s"));
    let older = older.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut older = older.spawn().unwrap();
    while end(&scene.client, "claimed.back", 3) < 50 {
        assert!(
            older.try_wait().unwrap().is_none(),
            "the older one ended before the newer began"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = scene.restore(&format!("latest --check {options}"));
    assert!(found(&report) >= 50, "{report}");
    assert_equal(&scene.client, "claimed", "claimed.back");
    let older = older.wait_with_output().unwrap();
    assert_eq!(older.status.code(), Some(1));
    let said = String::from_utf8(older.stderr).unwrap();
    assert!(
        said.contains("another kafkeep began to write to topic claimed.back"),
        "{said}"
    );
    assert!(!said.contains("run the same restore again"), "{said}");
    assert!(scene.files("restores").is_empty());
}
