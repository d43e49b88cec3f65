//! What a backup takes, and that taking it leaves no trace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::fixture::{Fixture, awkward, entry, numbered, values};
use crate::testbed::{Broker, Client, Compression, Message, Properties, Record, Release};

/// High watermarks of a partition at moments of a run.
fn watch(client: &Client, topic: &str, stop: &AtomicBool) -> Vec<(DateTime<Utc>, i64)> {
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let before = Utc::now();
        seen.push((before, client.watermarks(topic, 0).1));
        std::thread::sleep(Duration::from_millis(50));
    }
    seen
}

#[test]
fn a_backup_ends_at_the_high_watermark_of_its_start_however_busy_the_producers() {
    let scene = Fixture::shared();
    let topic = "busy";
    scene.client.create_topic(topic, 1, &[]);
    let payload = || std::iter::repeat_with(|| Message::new("k", "v".repeat(1000))).take(400);
    scene.client.produce(topic, 0, Compression::None, payload());
    let stop = AtomicBool::new(false);
    let before = scene.client.watermarks(topic, 0).1;
    let (report, seen) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                scene.client.produce(topic, 0, Compression::None, payload());
            }
        });
        let seen = scope.spawn(|| watch(&scene.client, topic, &stop));
        let report = scene.backup(&format!("--topic {topic} --rate-limit 300kB/s"));
        stop.store(true, Ordering::Relaxed);
        (report, seen.join().unwrap())
    });
    let partition = &report["topics"][0]["partitions"][0];
    let end = partition["end_offset"].as_i64().unwrap();
    assert!(end >= before, "{end} lies before {before}");
    assert_eq!(partition["records"], end);
    assert_eq!(report["total_messages"], end);

    // Half of the run later the log had grown beyond it already: the end was fixed before.
    let started: DateTime<Utc> = report["started_at"].as_str().unwrap().parse().unwrap();
    let half =
        started + chrono::Duration::milliseconds(report["duration_ms"].as_i64().unwrap() / 2);
    let later = seen.iter().find(|(time, _)| *time >= half).unwrap().1;
    assert!(
        later > end,
        "the end {end} is not of the start: {later} halfway"
    );
    let last = scene.client.watermarks(topic, 0).1;

    let next = scene.backup(&format!("--topic {topic}"));
    assert_eq!(next["new_messages"], last - end);
    assert_eq!(next["total_messages"], last);
}

#[test]
fn topics_and_partitions_without_records_belong_to_a_backup() {
    let scene = Fixture::shared();
    let (empty, partly) = ("nothing.empty", "nothing.partly");
    scene
        .client
        .create_topic(empty, 2, &[("retention.ms", "86400000")]);
    scene.client.create_topic(partly, 3, &[]);
    scene
        .client
        .produce(partly, 1, Compression::None, numbered(0, 7));
    let report = scene.backup("--topic nothing.*");
    assert_eq!(report["status"], "completed");
    let bounds = |topic: &str| -> Vec<(i64, i64)> {
        let topic = entry(&report["topics"], "topic", topic);
        let partitions = topic["partitions"].as_array().unwrap();
        let offset = |value: &serde_json::Value| value.as_i64().unwrap();
        partitions
            .iter()
            .map(|p| (offset(&p["start_offset"]), offset(&p["end_offset"])))
            .collect()
    };
    assert_eq!(bounds(empty), [(0, 0), (0, 0)]);
    assert_eq!(bounds(partly), [(0, 0), (0, 7), (0, 0)]);
    scene.verify();

    scene.restore("latest --rename nothing.*=back.{topic}");
    assert_eq!(scene.client.partitions("back.nothing.empty"), 2);
    assert_eq!(
        scene.client.read("back.nothing.partly"),
        scene.client.read(partly)
    );
}

#[test]
fn the_settings_of_topics_and_where_they_were_made_belong_to_a_backup() {
    let scene = Fixture::shared();
    let settings = [("cleanup.policy", "compact"), ("min.insync.replicas", "1")];
    scene.client.create_topic("configured", 1, &settings);
    scene.backup("--topic configured");
    let shown = scene.run("show", "latest --json").done();
    let entries = &shown["configurations"]["configured"]["entries"];
    let policy = entry(entries, "name", "cleanup.policy");
    assert_eq!(policy["value"], "compact");
    assert_eq!(policy["source"], "DYNAMIC_TOPIC_CONFIG");
    assert_eq!(
        entry(entries, "name", "retention.ms")["source"],
        "DEFAULT_CONFIG"
    );
    let told = scene.run("show", "latest");
    assert_eq!(told.code, 0, "{told}");
    assert!(told.stdout.contains("cleanup.policy=compact"), "{told}");
    assert!(!told.stdout.contains("retention.ms"), "{told}");
}

#[test]
fn a_backup_leaves_no_trace_in_the_source() {
    // Its own broker: others' tests have groups.
    let broker = Broker::start(Release::V4_1, Properties::default());
    let scene = Fixture::on(&broker);
    scene
        .client
        .create_topic("untouched", 2, &[("retention.ms", "-1")]);
    scene
        .client
        .produce("untouched", 0, Compression::Zstd, awkward(50));
    let log = scene.broker.log_directory("untouched", 0);
    let segment = || std::fs::read(log.join("00000000000000000000.log")).unwrap();
    let before = segment();
    scene.backup("--topic untouched");
    scene.backup("--topic untouched");
    assert_eq!(segment(), before);
    assert_eq!(scene.client.watermarks("untouched", 0), (0, 50));
    assert_eq!(scene.client.watermarks("untouched", 1), (0, 0));
    assert_eq!(scene.client.groups(), Vec::<String>::new());
}

#[test]
fn hundreds_of_partitions_are_backed_up_and_restored() {
    let scene = Fixture::shared();
    scene.client.create_topic("wide", 300, &[]);
    let value = |partition: i32| format!("of partition {partition}");
    scene.client.produce_to_each(
        "wide",
        (0..300)
            .step_by(2)
            .map(|partition| (partition, Message::new("key", value(partition)))),
    );
    let report = scene.backup("--topic wide");
    assert_eq!(report["total_messages"], 150);
    let partitions = report["topics"][0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 300);
    assert_eq!(scene.files("packs").len(), 1, "a quiet run is one pack");

    scene.client.produce_to_each(
        "wide",
        (1..300)
            .step_by(2)
            .map(|partition| (partition, Message::new("key", value(partition)))),
    );
    let report = scene.backup("--topic wide");
    assert_eq!(
        (&report["new_messages"], &report["total_messages"]),
        (&150.into(), &300.into())
    );
    let empty = scene.backup("--topic wide");
    assert_eq!(empty["new_messages"], 0);
    assert_eq!(scene.files("packs").len(), 2);

    scene.restore("latest --rename wide=wide.back");
    let back = scene.client.read("wide.back");
    for (partition, records) in back.iter().enumerate() {
        assert_eq!(values(records), [value(partition as i32)]);
    }
}

/// Offsets of the records that came back of partition 0, found by their value.
fn restored_values(scene: &Fixture<'_>, topic: &str) -> Vec<Vec<String>> {
    let report = scene.restore(&format!("latest --rename {topic}={topic}.back"));
    assert_eq!(
        report["topics"][0]["skipped"]["cut"], 0,
        "what lies beyond the bounds was never part of the backup"
    );
    let back = scene.client.read(&format!("{topic}.back"));
    back.iter().map(|records| values(records)).collect()
}

fn value_range(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|n| format!("value-{n}")).collect()
}

#[test]
fn a_one_off_backup_takes_the_partition_and_offsets_asked_for() {
    let scene = Fixture::shared();
    scene.client.create_topic("part", 2, &[]);
    for partition in 0..2 {
        scene
            .client
            .produce("part", partition, Compression::Gzip, numbered(0, 100));
    }
    let report = scene.backup("--topic part --partition 1 --start-offset 13 --end-offset 77");
    let partitions = report["topics"][0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 1);
    assert_eq!(partitions[0]["partition"], 1);
    assert_eq!(partitions[0]["start_offset"], 13);
    assert_eq!(partitions[0]["end_offset"], 77);
    assert_eq!(report["total_messages"], 64);
    scene.verify();
    assert_eq!(
        restored_values(&scene, "part"),
        [vec![], value_range(13..77)]
    );

    let whole = scene.backup("--topic part");
    assert_eq!(
        whole["reused_bytes"], 0,
        "a chain does not build on a one-off backup"
    );
    assert_eq!(whole["total_messages"], 200);
    let all = scene.backup("--topic part --start-offset earliest --end-offset latest");
    assert_eq!(all["total_messages"], 200);
    let none = scene.backup("--topic part --start-offset latest");
    assert_eq!(none["total_messages"], 0);
}

#[test]
fn a_one_off_backup_takes_no_more_messages_than_asked_for() {
    let scene = Fixture::shared();
    scene.client.create_topic("capped", 2, &[]);
    scene
        .client
        .produce("capped", 0, Compression::Zstd, numbered(0, 500));
    scene
        .client
        .produce("capped", 1, Compression::None, numbered(0, 10));
    let report = scene.backup("--topic capped --max-messages 120");
    assert_eq!(report["total_messages"], 120);
    scene.verify();
    assert_eq!(
        restored_values(&scene, "capped"),
        [value_range(0..110), value_range(0..10)]
    );
}

#[test]
fn keys_and_headers_are_left_out_where_asked_for() {
    let scene = Fixture::shared();
    scene
        .client
        .create_topic("bare", 1, &[("retention.ms", "-1")]);
    scene
        .client
        .produce("bare", 0, Compression::Snappy, awkward(60));
    scene.backup("--topic bare --no-keys --no-headers");
    scene.verify();
    scene.restore("latest --rename bare=bare.back");
    let expected: Vec<Record> = scene.client.read("bare")[0]
        .iter()
        .map(|record| Record {
            key: None,
            headers: Vec::new(),
            ..record.clone()
        })
        .collect();
    assert_eq!(scene.client.read("bare.back")[0], expected);

    scene.backup("--topic bare --no-headers");
    scene.restore("latest --rename bare=bare.keys");
    assert!(
        scene.client.read("bare.keys")[0]
            .iter()
            .any(|record| record.key.is_some())
    );
}

#[test]
fn a_rate_limit_is_kept() {
    let scene = Fixture::shared();
    scene.client.create_topic("slow", 1, &[]);
    let batches = 30;
    for _ in 0..batches {
        let records = std::iter::repeat_with(|| Message::new("k", "v".repeat(380))).take(20);
        scene.client.produce("slow", 0, Compression::None, records);
    }
    let took = |limit: &str| {
        let mut arguments = vec!["backup", "--repository"];
        let place = scene
            .beside(&limit.replace([' ', '/'], "-"))
            .display()
            .to_string();
        let address = scene.broker.address();
        arguments.extend([&*place, "--bootstrap-servers", &address, "--topic", "slow"]);
        arguments.extend(["--json", "--rate-limit", limit]);
        let clock = Instant::now();
        let outcome = crate::kafkeep(arguments);
        assert_eq!(outcome.stderr, "", "nothing went wrong");
        assert_eq!(outcome.done()["total_messages"], 20 * batches);
        clock.elapsed().as_secs_f64()
    };
    let unlimited = took("1GiB/s");
    // 600 records of 400 bytes each: the limit of records lets them all come in one answer, and pauses after it.
    let by_bytes = took("80kB/s") - unlimited;
    let by_records = took("100 records/s") - unlimited;
    let ratio = by_records / by_bytes;
    assert!(by_bytes > 2.0, "3 s of bytes took {by_bytes} s");
    assert!(
        (1.5..2.7).contains(&ratio),
        "6 s against 3 s took {by_records} s and {by_bytes} s"
    );
}
