//! `kafkeep mirror` from sources that make it hard, and of parts of them.

use std::time::Duration;

use crate::fixture::{EAGER, Fixture, numbered};
use crate::mirror::Mirrored;
use crate::testbed::group::{Group, keep_as_compacted};
use crate::testbed::{
    Broker, Client, Cluster, Compression, Message, Properties, Release, TransactionEnd,
};

#[test]
fn a_mirror_ends_at_so_many_records_and_goes_on_behind_them() {
    let mirrored = Mirrored::new("limited");
    let client = &mirrored.source.client;
    client.create_topic("mirror.limited", 2, &[]);
    for partition in 0..2 {
        for codec in [Compression::Lz4, Compression::None] {
            client.produce("mirror.limited", partition, codec, numbered(0, 50));
        }
    }
    let began = std::time::Instant::now();
    let limit = "--rate-limit 40_records/s";
    let mut arguments = mirrored.arguments("--json --topic mirror.limited --max-messages 70");
    arguments.extend(limit.split(' ').map(|word| word.replace('_', " ")));
    let report = crate::kafkeep(arguments).done();
    assert_eq!(
        (&report["records"], &report["status"]),
        (&70.into(), &"completed".into())
    );
    assert!(began.elapsed() > Duration::from_millis(1300), "40 a second");
    let there = || {
        let partitions = mirrored.target.client.read("mirror.limited");
        partitions.iter().map(Vec::len).sum::<usize>()
    };
    assert_eq!(there(), 70);
    for (copied, in_all) in [(70, 140), (60, 200), (0, 200)] {
        let report = mirrored.done("--topic mirror.limited --max-messages 70");
        assert_eq!((&report["records"], there()), (&copied.into(), in_all));
    }
    mirrored.is_same("mirror.limited", "mirror.limited");
}

#[test]
fn a_limit_is_kept_though_brokers_of_the_target_are_killed() {
    let three = Cluster::taken();
    let mirrored = Mirrored {
        source: Fixture::shared(),
        target: Fixture::across(&three),
        name: "limited.killed",
    };
    let (client, topic) = (&mirrored.source.client, "mirror.limited.killed");
    client.create_topic(topic, 2, &[]);
    for partition in 0..2 {
        client.produce(topic, partition, Compression::None, numbered(0, 10_000));
    }
    mirrored
        .target
        .client
        .create_on(topic, &[&[1, 2, 3], &[2, 3, 1]], &[]);
    mirrored.target.client.wait_for_leaders(topic, 2);
    let mut run = mirrored.start(&format!(
        "--topic {topic} --max-messages 15000 --rate-limit 60KiB/s"
    ));
    for broker in [1, 2] {
        std::thread::sleep(Duration::from_secs(2));
        three.broker(broker).kill();
        std::thread::sleep(Duration::from_secs(1));
        three.broker(broker).start_again();
    }
    assert!(run.wait().unwrap().success());
    let there = mirrored.target.client.read(topic);
    assert_eq!(there.iter().map(Vec::len).sum::<usize>(), 15_000);
    for records in there {
        for (record, wanted) in records.iter().zip(numbered(0, 10_000)) {
            assert_eq!(record.value, wanted.value);
        }
    }
}

#[test]
fn a_target_that_is_away_for_longer_than_the_deadline_is_waited_for() {
    let away = Broker::start(Release::V4_1, Properties::default());
    let mirrored = Mirrored {
        source: Fixture::shared(),
        target: Fixture::on(&away),
        name: "away",
    };
    let (client, topic) = (&mirrored.source.client, "mirror.away");
    client.create_topic(topic, 1, &[]);
    client.produce(topic, 0, Compression::None, numbered(0, 100));
    let mut run = mirrored.start(&format!("--topic {topic} --continuous --deadline 2"));
    let has = |count: usize| {
        move |target: &Client| {
            target.topics().contains(&topic.to_owned()) && target.read(topic)[0].len() >= count
        }
    };
    let target = &mirrored.target.client;
    target.wait_until("the first are there", has(100));
    away.kill();
    client.produce(topic, 0, Compression::None, numbered(100, 100));
    std::thread::sleep(Duration::from_secs(20));
    away.start_again();
    target.wait_until("the others are there", has(200));
    assert!(run.try_wait().unwrap().is_none(), "it goes on");
    run.kill().unwrap();
    run.wait().unwrap();
    mirrored.is_same(topic, topic);
}

#[test]
fn a_mirror_begins_and_ends_at_offsets_and_times() {
    let mirrored = Mirrored::new("ranged");
    let client = &mirrored.source.client;
    client.create_topic("mirror.ranged", 1, &[("retention.ms", "-1")]);
    // A record a second of some hour.
    let at = |second: u32| 1_700_000_000_000 + i64::from(second) * 1000;
    let hour = (0..60).map(|n| Message::new(n.to_string(), n.to_string()).at(at(n)));
    client.produce("mirror.ranged", 0, Compression::Zstd, hour);
    let time = |second: u32| {
        let time = chrono::DateTime::from_timestamp_millis(at(second)).unwrap();
        time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let copied = |name: &'static str, bounds: &str| {
        let mirrored = Mirrored::new(name);
        mirrored.done(&format!(
            "--topic mirror.ranged --rename {name}.{{topic}} {bounds}"
        ));
        let there = mirrored
            .target
            .client
            .read(&format!("{name}.mirror.ranged"));
        let values = there[0].iter().map(|record| record.value.clone().unwrap());
        let values: Vec<u32> = values
            .map(|value| String::from_utf8(value).unwrap().parse().unwrap())
            .collect();
        (values.first().copied(), values.len())
    };
    assert_eq!(copied("r1", "--from 10 --until 20"), (Some(10), 10));
    let times = format!("--from {} --until {}", time(30), time(45));
    assert_eq!(copied("r2", &times), (Some(30), 15));
    assert_eq!(copied("r3", "--from latest"), (None, 0));
    assert_eq!(copied("r4", "--from 1000 --until 2000"), (None, 0));
    assert_eq!(copied("r5", "--from 58 --until 2000"), (Some(58), 2));
    let later = format!("--from {} --until {}", time(50), "2200-01-01T00:00:00Z");
    assert_eq!(copied("r6", &later), (Some(50), 10));
    mirrored
        .run("--topic mirror.ranged --from yesterday")
        .refused(64, &["an offset such as 1500"]);
}

#[test]
fn what_compaction_left_is_mirrored_and_groups_in_its_holes_follow() {
    let mirrored = Mirrored::new("compacted");
    let (client, topic) = (&mirrored.source.client, "mirror.compacted");
    client.create_topic(topic, 1, &EAGER);
    for round in 0..4 {
        let versions = (0..6)
            .filter(|n| round == 0 || n % round == 1)
            .map(|n| Message::new(format!("key-{n}"), format!("value-{n}-{round}")));
        client.produce(topic, 0, Compression::Lz4, versions.collect::<Vec<_>>());
    }
    client.wait_until("something is cleaned", |client| {
        // Rolls the segment before, which makes it cleanable.
        client.produce(topic, 0, Compression::None, [Message::new("roll", "x")]);
        let records = client.read(topic).remove(0);
        records
            .windows(2)
            .any(|pair| pair[1].offset - pair[0].offset > 1)
    });
    keep_as_compacted(&mirrored.source.broker.address(), topic);
    let end = client.watermarks(topic, 0).1;
    for offset in 0..=end {
        Group::new(&mirrored.source.servers, &format!("holes-{offset}"))
            .commit(topic, 0, offset, "");
    }
    let records = client.read(topic)[0].len();
    let report = mirrored.done(&format!("--topic {topic} --groups holes-*"));
    assert_eq!(report["records"], records, "{report}");
    mirrored.is_same(topic, topic);
    for offset in 0..=end {
        let next = |servers: &str| Group::new(servers, &format!("holes-{offset}")).next(topic, 0);
        let (there, here) = (
            next(&mirrored.target.servers),
            next(&mirrored.source.servers),
        );
        assert_eq!(there, here, "{offset}");
    }
}

#[test]
fn a_record_of_ten_megabytes_is_mirrored_sealed_and_opened() {
    let mirrored = Mirrored::new("large");
    let settings = [("max.message.bytes", "12000000")];
    mirrored
        .source
        .client
        .create_topic("mirror.large", 1, &settings);
    let client = Client::new(&mirrored.source.servers).with("message.max.bytes", "12000000");
    let mut value: Vec<u8> = (0..10_000_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    for codec in [Compression::None, Compression::Lz4] {
        value[0] += 1;
        client.produce(
            "mirror.large",
            0,
            codec,
            [Message::new("large", value.clone())],
        );
        client.produce("mirror.large", 0, codec, numbered(0, 10));
    }
    let report = mirrored.done("--topic mirror.large --rename sealed.{topic}");
    assert_eq!(
        (&report["records"], &report["status"]),
        (&22.into(), &"completed".into())
    );
    mirrored.is_same("mirror.large", "sealed.mirror.large");
    let opened = Mirrored::new("large.opened");
    let report = opened.done("--topic mirror.large --rename opened.{topic} --header h=v");
    assert_eq!(
        (&report["records"], &report["status"]),
        (&22.into(), &"completed".into())
    );
    let values = |client: &Client, topic: &str| -> Vec<_> {
        let records = client.read(topic).remove(0).into_iter();
        records.map(|record| record.value).collect()
    };
    let (here, there) = (
        values(&mirrored.source.client, "mirror.large"),
        values(&opened.target.client, "opened.mirror.large"),
    );
    assert!(here == there, "other values");
}

#[test]
fn a_transaction_that_hangs_in_the_source_holds_the_mirror_back_and_is_told() {
    let mirrored = Mirrored::new("hung");
    let (client, topic) = (&mirrored.source.client, "mirror.hung");
    client.create_topic(topic, 1, &[]);
    client.produce(topic, 0, Compression::None, numbered(0, 5));
    let open = client.transaction(topic, topic, numbered(5, 5), TransactionEnd::None);
    client.produce(topic, 0, Compression::None, numbered(10, 5));
    let report = mirrored.done(&format!("--topic {topic}"));
    let told = &report["partitions"][0];
    assert_eq!(report["records"], 5, "{report}");
    assert_eq!(
        (&told["held_back"], &told["lag_records"]),
        (&10.into(), &10.into()),
        "{report}"
    );
    let said = mirrored.run(&format!("--topic {topic}"));
    assert_eq!(said.code, 0, "{said}");
    assert!(
        said.stdout
            .contains("10 offsets lie behind a transaction that is open"),
        "{said}"
    );
    let mut run = mirrored.start(&format!("--topic {topic} --continuous"));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(mirrored.target.client.read(topic)[0].len(), 5);
    client.end_transaction(&open, topic, &[0], TransactionEnd::Commit);
    mirrored
        .target
        .client
        .wait_until("it goes on", |target| target.read(topic)[0].len() == 15);
    run.kill().unwrap();
    run.wait().unwrap();
    mirrored.is_same(topic, topic);
}

#[test]
fn groups_that_stand_before_a_run_follow_when_both_sides_hold_the_same_there() {
    let mirrored = Mirrored::new("before");
    let (client, topic) = (&mirrored.source.client, "mirror.before");
    client.create_topic(topic, 1, &[]);
    for round in 0..4 {
        let end = match round % 2 {
            0 => TransactionEnd::Commit,
            _ => TransactionEnd::Abort,
        };
        client.transaction(topic, topic, numbered(round * 10, 10), end);
        client.produce(topic, 0, Compression::Zstd, numbered(1000 + round * 10, 5));
        mirrored.done(&format!("--topic {topic}"));
        // What others write there is passed over.
        mirrored
            .target
            .client
            .produce(topic, 0, Compression::None, numbered(5000 + round, 1));
    }
    let end = client.watermarks(topic, 0).1;
    let group = |offset: i64| format!("before-{offset}");
    for offset in 0..=end {
        Group::new(&mirrored.source.servers, &group(offset)).commit(topic, 0, offset, "");
    }
    let report = mirrored.done(&format!("--topic {topic} --groups before-*"));
    assert_eq!(report["groups"].as_array().unwrap().len() as i64, end + 1);
    for followed in report["groups"].as_array().unwrap() {
        assert_eq!(
            (&followed["offsets"], &followed["waiting"]),
            (&1.into(), &0.into()),
            "{followed}"
        );
    }
    let own = |value: Option<Vec<u8>>| value.filter(|value| !value.starts_with(b"value-500"));
    for offset in 0..=end {
        let source = Group::new(&mirrored.source.servers, &group(offset)).next(topic, 0);
        let target = Group::new(&mirrored.target.servers, &group(offset)).next(topic, 0);
        assert_eq!(own(target), source, "{offset}");
    }
}

#[test]
fn a_group_that_waits_is_told_why() {
    let mirrored = Mirrored::new("waits");
    let (client, topic) = (&mirrored.source.client, "mirror.waits");
    client.create_topic(topic, 1, &[]);
    client.produce(topic, 0, Compression::None, numbered(0, 20));
    mirrored
        .run_with(
            &format!("--topic {topic}"),
            &["--filter", "offset % 2 == 0"],
        )
        .done();
    Group::new(&mirrored.source.servers, "waits").commit(topic, 0, 15, "");
    let waits = |run: crate::testbed::Outcome| {
        let report = run.done();
        let told = &report["groups"][0];
        assert_eq!(
            (&told["offsets"], &told["waiting"]),
            (&0.into(), &1.into()),
            "{report}"
        );
        told["waits"].as_str().unwrap().to_owned()
    };
    let filtering = ["--filter", "offset % 2 == 0"];
    let said = waits(mirrored.run_with(&format!("--topic {topic} --groups waits"), &filtering));
    assert!(
        said.ends_with("its records were changed or filtered"),
        "{said}"
    );
    // The filter was taken away meanwhile: the target has not what the source has.
    let said = waits(mirrored.run_with(&format!("--topic {topic} --groups waits"), &[]));
    assert!(
        said.ends_with("the target has other records there than the source"),
        "{said}"
    );
    assert_eq!(
        Group::new(&mirrored.target.servers, "waits").committed(topic, 0),
        None
    );
}
