//! What comes back, where, and in which order.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use rdkafka::Timestamp;

use crate::cluster::during;
use crate::fixture::{Fixture, awkward, entry, numbered, values, without_offsets};
use crate::testbed::{Client, Compression, Message, Record};

const DAY: i64 = 86_400_000;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

#[test]
fn two_year_old_records_outlive_the_default_retention() {
    let scene = Fixture::shared();
    let old = now() - 730 * DAY;
    scene
        .client
        .create_topic("old", 1, &[("retention.ms", "-1")]);
    let aged = |n: i64| Message::new("k", "v").at(old + n * DAY);
    scene
        .client
        .produce("old", 0, Compression::None, (0..100).map(aged));
    scene.backup("--topic old");
    scene
        .client
        .change_settings("old", &[("retention.bytes", "-1")]);
    let report = scene.restore("latest --rename old=old.source");
    assert_eq!(report["messages_restored"], 100);
    scene.restore("latest --rename old=old.target --topic-config target");
    assert_eq!(
        scene
            .client
            .setting("old.target", "retention.ms")
            .as_deref(),
        Some("-1")
    );

    // The broker checks every 3 s: a topic that is to lose its records shows that a check has passed.
    let doomed = "old.doomed";
    scene.client.create_topic(
        doomed,
        1,
        &[("retention.ms", "1000"), ("segment.ms", "1000")],
    );
    scene
        .client
        .produce(doomed, 0, Compression::None, (0..5).map(aged));
    scene
        .client
        .wait_until("a check of the retention", |client| {
            client.watermarks(doomed, 0).0 == 5
        });
    for topic in ["old.source", "old.target"] {
        assert_eq!(scene.client.watermarks(topic, 0), (0, 100), "{topic}");
    }
    let segments = std::fs::read_dir(scene.broker.log_directory("old.source", 0)).unwrap();
    let logs = segments.filter(|file| {
        file.as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|extension| extension == "log")
    });
    assert_eq!(
        logs.count(),
        1,
        "years of records do not make a segment each"
    );
}

#[test]
fn a_created_topic_gets_the_settings_and_shape_of_the_source() {
    let scene = Fixture::shared();
    let settings = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "1234567"),
        ("max.message.bytes", "2000000"),
        ("segment.ms", "777777"),
        ("compression.type", "lz4"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    scene.client.create_topic("shaped", 5, &settings);
    scene
        .client
        .produce("shaped", 3, Compression::None, numbered(0, 5));
    scene.backup("--topic shaped");
    let report = scene.restore("latest --rename shaped=shaped.back");
    assert_eq!(scene.client.partitions("shaped.back"), 5);
    let setting = |topic: &str, name: &str| scene.client.setting(topic, name).unwrap();
    for (name, value) in settings {
        let expected = if name == "retention.ms" { "-1" } else { value };
        assert_eq!(setting("shaped.back", name), expected, "{name}");
    }
    assert!(
        report["topics"][0]["notes"]
            .to_string()
            .contains("retention.ms stays -1")
    );
    let aside = &report["set_aside"][0];
    assert_eq!(aside["topics"], serde_json::json!(["shaped.back"]));
    assert_eq!(aside["settings"]["retention.ms"], "1234567");
    let put_back = format!(
        "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name shaped.back \
         --add-config retention.ms=1234567 --delete-config retention.bytes",
        scene.servers
    );
    assert_eq!(aside["put_back"], put_back);
    assert_eq!(
        without_offsets(scene.client.read("shaped"))[3]
            .iter()
            .map(|record| (&record.key, &record.value))
            .collect::<Vec<_>>(),
        without_offsets(scene.client.read("shaped.back"))[3]
            .iter()
            .map(|record| (&record.key, &record.value))
            .collect::<Vec<_>>(),
    );

    let kept = scene.restore("latest --rename shaped=shaped.kept --apply-retention");
    assert_eq!(kept["set_aside"], serde_json::Value::Null);
    assert_eq!(setting("shaped.kept", "retention.ms"), "1234567");
    // The default is set aside as well, and said.
    let told = scene.run(
        "restore",
        "latest --rename shaped=shaped.plain --topic-config target",
    );
    assert_eq!(setting("shaped.plain", "retention.ms"), "-1");
    for said in [
        "retention.ms stays -1 instead of the default",
        "set aside: retention.bytes and retention.ms = -1 in 1 topic(s)",
        "--entity-name shaped.plain --delete-config retention.bytes,retention.ms",
    ] {
        assert!(told.stdout.contains(said), "{said}: {told}");
    }
    assert_eq!(setting("shaped.plain", "cleanup.policy"), "delete");
    assert_eq!(setting("shaped.plain", "segment.ms"), "604800000");
}

#[test]
fn the_time_of_appending_comes_back_as_the_records_time() {
    let scene = Fixture::shared();
    scene.client.create_topic(
        "appended",
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    );
    for codec in [Compression::None, Compression::Gzip] {
        scene.client.produce("appended", 0, codec, numbered(0, 20));
    }
    scene.backup("--topic appended");
    scene.restore("latest --rename appended=appended.back");
    let millis = |records: &[Record]| -> Vec<i64> {
        records
            .iter()
            .map(|record| match record.timestamp {
                Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms,
                Timestamp::NotAvailable => -1,
            })
            .collect()
    };
    assert_eq!(
        millis(&scene.client.read("appended")[0]),
        millis(&scene.client.read("appended.back")[0])
    );
    let setting = scene
        .client
        .setting("appended.back", "message.timestamp.type");
    assert_eq!(setting.as_deref(), Some("LogAppendTime"));
}

#[test]
fn timestamps_of_the_future_and_of_the_epoch_come_back() {
    let scene = Fixture::shared();
    let settings = [
        ("retention.ms", "-1"),
        ("message.timestamp.after.max.ms", "9223372036854775807"),
    ];
    scene.client.create_topic("times", 1, &settings);
    let times = [1, 5, now() + 400 * DAY, 3];
    let messages = times.map(|time| Message::new("k", time.to_string()).at(time));
    scene
        .client
        .produce("times", 0, Compression::Zstd, messages);
    scene.backup("--topic times");
    scene.restore("latest --rename times=times.back");
    assert_eq!(scene.client.read("times"), scene.client.read("times.back"));
}

#[test]
fn batches_larger_than_the_default_limit_come_back() {
    let scene = Fixture::shared();
    let limit = [("max.message.bytes", "6000000")];
    scene.client.create_topic("large", 1, &limit);
    let client = Client::new(&scene.broker.address()).with("message.max.bytes", "6000000");
    let large = (0..3_u8).map(|n| Message {
        value: Some(
            (0..5_000_000_u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ n)
                .collect(),
        ),
        ..Message::default()
    });
    client.produce("large", 0, Compression::None, large);
    let report = scene.backup("--topic large");
    assert!(report["total_size_bytes"].as_u64().unwrap() > 15_000_000);
    scene.verify();
    scene.restore("latest --rename large=large.source");
    scene.restore("latest --rename large=large.target --topic-config target");
    for topic in ["large.source", "large.target"] {
        assert!(
            scene.client.read("large") == scene.client.read(topic),
            "{topic}"
        );
    }
}

#[test]
fn the_topics_and_partitions_asked_for_come_back_under_the_names_asked_for() {
    let scene = Fixture::shared();
    for topic in ["pick.orders", "pick.payments", "pick.tmp"] {
        scene.client.create_topic(topic, 2, &[]);
        for partition in 0..2 {
            scene.client.produce(
                topic,
                partition,
                Compression::None,
                numbered(partition.into(), 3),
            );
        }
    }
    scene.backup("--topic pick.*");
    let report = scene.restore(
        "latest --topic pick.* --topic !pick.tmp --rename pick.orders=other.name --rename pick.*=dr.{topic}.v2",
    );
    let names: Vec<&str> = report["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| topic["target_topic"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["other.name", "dr.pick.payments.v2"]);
    assert_eq!(
        scene.client.read("other.name"),
        scene.client.read("pick.orders")
    );

    scene.restore("latest --topic /^pick.o/ --partition 1 --rename *=one.{topic}");
    let back = scene.client.read("one.pick.orders");
    assert_eq!(values(&back[0]), Vec::<String>::new());
    assert_eq!(values(&back[1]), ["value-1", "value-2", "value-3"]);
}

#[test]
fn a_point_in_time_leaves_out_what_came_before_and_after() {
    let scene = Fixture::shared();
    scene
        .client
        .create_topic("moment", 1, &[("retention.ms", "-1")]);
    let start: i64 = 1_700_000_000_000; // 2023-11-14T22:13:20Z
    let second = |n: i64| Message::new("k", n.to_string()).at(start + n * 1000);
    for codec in [Compression::None, Compression::Lz4] {
        scene
            .client
            .produce("moment", 0, codec, (0..100).map(second));
    }
    // Not in the order of time.
    scene
        .client
        .produce("moment", 0, Compression::Zstd, [90, 10, 50].map(second));
    scene.backup("--topic moment");
    let window = "--from 2023-11-14T22:13:40Z --until 2023-11-14T22:14:20.000Z";
    let plan = scene.plan(&format!("latest {window} --rename moment=moment.back"));
    assert_eq!(plan["from"], "2023-11-14T22:13:40Z");
    let report = scene.restore(&format!("latest {window} --rename moment=moment.back"));
    let numbers: Vec<String> = (20..60)
        .chain(20..60)
        .chain([50])
        .map(|n| n.to_string())
        .collect();
    assert_eq!(values(&scene.client.read("moment.back")[0]), numbers);
    assert_eq!(report["messages_restored"], 81);
    assert_eq!(report["topics"][0]["skipped"]["cut"], 203 - 81);
    let until = scene.restore("latest --until 2023-11-14T22:13:30Z --rename moment=moment.until");
    assert_eq!(until["messages_restored"], 20);
    let from = scene.restore("latest --from 2023-11-14T22:14:50Z --rename moment=moment.from");
    assert_eq!(from["messages_restored"], 21);
    let zone = scene.restore("latest --from 2023-11-14T23:14:50+01:00 --rename moment=moment.zone");
    assert_eq!(zone["messages_restored"], 21);
}

/// Where the keys of a topic lie.
fn places(topic: Vec<Vec<Record>>) -> BTreeMap<Vec<u8>, usize> {
    let mut places = BTreeMap::new();
    for (partition, records) in topic.into_iter().enumerate() {
        for record in records {
            let known = places.insert(record.key.unwrap(), partition);
            assert!(known.is_none_or(|known| known == partition));
        }
    }
    places
}

#[test]
fn with_another_number_of_partitions_records_go_where_the_java_client_puts_their_keys() {
    let scene = Fixture::shared();
    let produce = |topic: &str| {
        let output = scene.broker.tool(
            "org.apache.kafka.tools.VerifiableProducer",
            &[
                "--bootstrap-server",
                &scene.broker.address(),
                "--topic",
                topic,
                "--max-messages",
                "600",
                "--repeating-keys",
                "200",
            ],
        );
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    scene.client.create_topic("keyed", 3, &[]);
    scene.client.create_topic("keyed.java", 7, &[]);
    produce("keyed");
    produce("keyed.java");
    let report = scene.backup("--topic keyed");
    assert_eq!(report["total_messages"], 600);
    let plan = scene.plan("latest --rename keyed=keyed.seven --partitions 7");
    assert!(
        plan["topics"][0]["notes"].to_string().contains("murmur2"),
        "{plan:#}"
    );
    let report = scene.restore("latest --rename keyed=keyed.seven --partitions 7");
    assert_eq!(report["messages_restored"], 600);
    assert!(
        report["topics"][0]["notes"]
            .to_string()
            .contains("3 partitions become 7")
    );
    let places_there = places(scene.client.read("keyed.seven"));
    assert_eq!(places_there.len(), 200);
    assert_eq!(places_there, places(scene.client.read("keyed.java")));
}

#[test]
fn with_another_number_of_partitions_nothing_of_a_record_is_lost_and_its_key_keeps_its_order() {
    let scene = Fixture::shared();
    scene
        .client
        .create_topic("spread", 4, &[("retention.ms", "-1")]);
    for partition in 0..4 {
        for codec in [Compression::Gzip, Compression::None] {
            scene
                .client
                .produce("spread", partition, codec, awkward(200));
        }
    }
    scene.backup("--topic spread");
    scene.restore("latest --rename spread=spread.one --partitions 1");
    let mut one = without_offsets(scene.client.read("spread.one")).remove(0);
    let mut all: Vec<Record> = without_offsets(scene.client.read("spread"))
        .into_iter()
        .flatten()
        .collect();
    let of_a_key = |records: &[Record]| -> Vec<Record> {
        let keyed = records
            .iter()
            .filter(|record| record.key.as_deref() == Some(b"key-2"));
        keyed.cloned().collect()
    };
    assert_eq!(of_a_key(&one), of_a_key(&all));
    let order = |record: &Record| format!("{record:?}");
    one.sort_by_key(order);
    all.sort_by_key(order);
    assert_eq!(one, all);
}

#[test]
fn appending_writes_behind_what_is_there() {
    let scene = Fixture::shared();
    scene.client.create_topic("behind", 2, &[]);
    scene
        .client
        .produce("behind", 0, Compression::Lz4, numbered(0, 40));
    scene.backup("--topic behind");
    let report = scene.restore("latest --if-exists append");
    let partition = entry(&report["topics"][0]["partitions"], "partition", 0);
    assert_eq!(
        (&partition["start_offset"], &partition["end_offset"]),
        (&40.into(), &80.into())
    );
    assert_eq!(report["topics"][0]["created"], false);
    let records = values(&scene.client.read("behind")[0]);
    assert_eq!(records[..40], records[40..]);

    let plan = scene.plan("latest --if-exists append");
    assert_eq!(plan["topics"][0]["action"], "append");
    assert!(
        plan["topics"][0]["notes"]
            .to_string()
            .contains("retention.ms=604800000")
    );
}

#[test]
fn a_restore_keeps_its_rate_limit() {
    let scene = Fixture::shared();
    scene.client.create_topic("gentle", 1, &[]);
    for _ in 0..20 {
        let records = std::iter::repeat_with(|| Message::new("k", "v".repeat(990))).take(10);
        scene
            .client
            .produce("gentle", 0, Compression::None, records);
    }
    scene.backup("--topic gentle");
    let took = |name: &str, limit: &str| {
        let report = scene.restore(&format!(
            "latest --rename gentle={name} --rate-limit {limit}"
        ));
        Duration::from_millis(report["duration_ms"].as_u64().unwrap()).as_secs_f64()
    };
    let (free, limited) = (
        took("gentle.free", "1GiB/s"),
        took("gentle.limited", "100kB/s"),
    );
    assert!(
        limited - free > 1.2,
        "2 s worth of bytes took {limited} s, without a limit {free} s"
    );
}

#[test]
fn a_backup_is_restored_into_another_cluster() {
    let scene = Fixture::shared();
    scene
        .client
        .create_topic("abroad", 2, &[("retention.ms", "-1")]);
    scene
        .client
        .produce("abroad", 1, Compression::Zstd, awkward(100));
    scene
        .client
        .produce("abroad", 0, Compression::Zstd, numbered(0, 100));
    scene.backup("--topic abroad");
    let elsewhere = Fixture::elsewhere().broker.address();
    let report = scene.restore(&format!("latest --bootstrap-servers {elsewhere}"));
    assert_ne!(
        report["cluster_id"],
        scene.run("list", "--json").done()["backups"][0]["cluster_id"]
    );
    let there = Client::new(&elsewhere).read("abroad");
    let source = scene.client.read("abroad");
    assert_eq!(without_offsets(there)[0], without_offsets(source)[0]);
}

#[test]
fn what_the_target_deletes_during_a_restore_is_no_success() {
    let scene = Fixture::shared();
    let client = &scene.client;
    client.create_topic("vanishing", 1, &[]);
    for n in 0..20 {
        let messages = (0..50).map(|_| Message::new(n.to_string(), vec![b'x'; 1000]));
        client.produce("vanishing", 0, Compression::None, messages);
    }
    scene.backup("--topic vanishing");
    for (target, more) in [
        ("vanishing.new", ""),
        ("vanishing.there", "--if-exists append"),
    ] {
        if !more.is_empty() {
            client.create_topic(target, 1, &[]);
        }
        let options = format!("latest --json --rename *={target} --rate-limit 200KiB/s {more}");
        let run = || scene.run("restore", &options);
        let begun = || {
            client.topics().contains(&target.to_owned()) && client.watermarks(target, 0).1 >= 100
        };
        let deletes = || client.delete_records(target, 0, 75);
        let outcome = during(run, begun, deletes, || {});
        let told = [
            "begins at 75 now",
            "75 of the offsets restored",
            "deleted already",
        ];
        outcome.refused(1, &told);
    }
}

#[test]
fn a_partition_that_is_damaged_is_restored_up_to_there_and_the_others_are_restored_whole() {
    let scene = Fixture::shared();
    let client = &scene.client;
    client.create_topic("halfgone.damaged", 2, &[]);
    client.create_topic("halfgone.sound", 1, &[]);
    let produce = |topic, partition, messages| {
        client.produce(topic, partition, Compression::None, messages);
    };
    produce("halfgone.damaged", 0, numbered(0, 100));
    scene.backup("--topic halfgone.damaged");
    let first = scene.files("packs").remove(0);
    produce("halfgone.damaged", 0, numbered(100, 30));
    produce("halfgone.damaged", 1, numbered(0, 40));
    produce("halfgone.sound", 0, numbered(0, 50));
    scene.backup("--topic halfgone.*");
    let second = scene.files("packs").into_iter().find(|pack| *pack != first);
    let second = second.unwrap();
    let arguments = |name: &str| format!("latest --json --rename *={{topic}}.{name}");
    let restore = |arguments: &str, damaged: &[(&str, i64, i64)], records: [usize; 3]| {
        let said = scene.run("restore", arguments);
        let (_, name) = arguments.split_once("{topic}.").unwrap();
        let name = name.split(' ').next().unwrap();
        assert_eq!(said.code, 2, "{said}");
        let report = said.json();
        assert_eq!(report["status"], "incomplete", "{report}");
        assert_eq!(report["checksum_validated"], false, "{report}");
        let told = report["damaged"].as_array().unwrap().iter().map(|told| {
            let number = |field: &str| told[field].as_i64().unwrap();
            let topic = told["topic"].as_str().unwrap();
            (topic, number("partition"), number("from_offset"))
        });
        assert_eq!(told.collect::<Vec<_>>(), damaged, "{report}");
        let torn = client.read(&format!("halfgone.damaged.{name}"));
        let sound = client.read(&format!("halfgone.sound.{name}"));
        let there = [&torn[0], &torn[1], &sound[0]];
        for (partition, records) in there.into_iter().zip(records) {
            let wanted = (0..records).map(|number| format!("value-{number}"));
            assert_eq!(values(partition), wanted.collect::<Vec<_>>());
        }
    };
    let content = fs::read(&first).unwrap();
    let mut damaged = content.clone();
    damaged[300] ^= 1;
    fs::write(&first, damaged).unwrap();
    restore(&arguments("a"), &[("halfgone.damaged", 0, 0)], [0, 40, 50]);
    let told = scene.run("restore", "latest --rename *={topic}.b");
    assert_eq!(told.code, 2, "{told}");
    let said = "damaged: halfgone.damaged-0 is restored up to offset 0 only: pack";
    assert!(told.stdout.contains(said), "{told}");
    assert!(!told.stdout.contains("every checksum was right"), "{told}");
    assert!(
        told.stdout.contains(
            "the restore is not finished, since the backup of halfgone.damaged is damaged"
        ),
        "{told}"
    );
    assert!(
        told.stdout.contains("the same command with --allow-damage"),
        "{told}"
    );
    // It goes on when the pack is as it was, or is finished without the rest.
    restore(
        &format!("{} --allow-damage", arguments("b")),
        &[("halfgone.damaged", 0, 0)],
        [0, 40, 50],
    );
    scene
        .run("restore", &arguments("b"))
        .refused(1, &["halfgone.sound.b"]);
    fs::write(&first, content).unwrap();
    assert_eq!(
        scene.restore("latest --rename *={topic}.a")["status"],
        "completed"
    );
    assert_eq!(values(&client.read("halfgone.damaged.a")[0]).len(), 130);
    // What is known to be gone is told before anything is created; by choice, what came before it is restored.
    fs::rename(&second, scene.beside("away")).unwrap();
    let gone = [
        ("halfgone.damaged", 0, 100),
        ("halfgone.damaged", 1, 0),
        ("halfgone.sound", 0, 0),
    ];
    let refused = scene.run("restore", &arguments("c"));
    refused.refused(
        1,
        &[
            "halfgone.sound cannot be restored whole",
            "leave the topic out (--topic '!halfgone.sound')",
            "--allow-damage",
        ],
    );
    // What is left out is said in the plan, and in its exit code.
    let planned = scene.run(
        "restore",
        &format!("{} --allow-damage --dry-run", arguments("c")),
    );
    assert_eq!(planned.code, 2, "{planned}");
    assert!(!client.topics().contains(&"halfgone.sound.c".to_owned()));
    restore(
        &format!("{} --allow-damage", arguments("c")),
        &gone,
        [100, 0, 0],
    );
}
