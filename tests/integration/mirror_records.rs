//! `kafkeep mirror` where records change on their way: filters, headers, keys, dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fixture::{Fixture, Random, numbered};
use crate::mirror::Mirrored;
use crate::testbed::group::Group;
use crate::testbed::{Client, Compression, Message, Record};

#[test]
fn a_filter_keeps_what_satisfies_it_and_headers_are_added() {
    let mirrored = Mirrored::new("filtered");
    let client = &mirrored.source.client;
    client.create_topic("mirror.filtered", 2, &[]);
    for codec in [Compression::None, Compression::Zstd] {
        for partition in 0..2 {
            client.produce("mirror.filtered", partition, codec, numbered(0, 30));
        }
    }
    let mut arguments = mirrored.arguments(
        "--json --topic mirror.filtered --header migrated-from=prod --groups followed --filter",
    );
    arguments.push("value.endsWith('7') || offset == 0".to_owned());
    Group::new(&mirrored.source.servers, "followed").commit("mirror.filtered", 0, 1, "");
    let report = crate::kafkeep(arguments).done();
    // Of thirty, three end with a 7; twice in each partition, and there the first one.
    assert_eq!(report["records"], 14, "{report}");
    assert_eq!(report["partitions"][0]["filtered_records"], 53);
    let there = mirrored.target.client.read("mirror.filtered");
    for records in there {
        let values: Vec<String> = records.iter().map(|record| text(&record.value)).collect();
        let seven = ["value-7", "value-17", "value-27"];
        assert_eq!(values, [&["value-0"], &seven[..], &seven[..]].concat());
        for record in records {
            let names: Vec<&str> = record
                .headers
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(names, ["migrated-from", "kafkeep-origin"]);
            assert_eq!(text(&record.headers[0].1), "prod");
        }
    }
    let next = Group::new(&mirrored.target.servers, "followed").next("mirror.filtered", 0);
    assert_eq!(
        next.as_deref(),
        Some(&b"value-7"[..]),
        "a group goes on with the next record that was kept"
    );
}

#[test]
fn a_record_over_which_the_filter_fails_stops_its_partition_or_is_left_out() {
    let mirrored = Mirrored::new("poisoned");
    let client = &mirrored.source.client;
    client.create_topic("mirror.poisoned", 1, &[]);
    let values = [r#"{"n": 1}"#, "poison", r#"{"n": 3}"#];
    client.produce(
        "mirror.poisoned",
        0,
        Compression::None,
        values.map(|value| Message::new("k", value)),
    );
    let run = |more: &str| {
        let mut arguments =
            mirrored.arguments(&format!("--json --topic mirror.poisoned {more} --filter"));
        arguments.push("json(value).n > 0".to_owned());
        crate::kafkeep(arguments)
    };
    let stopped = run("");
    assert_eq!(stopped.code, 2, "{stopped}");
    assert!(
        stopped.stdout.contains("at offset 1 the filter fails"),
        "{stopped}"
    );
    let report = run("--on-error skip").done();
    assert_eq!(
        (
            &report["records"],
            &report["partitions"][0]["error_records"]
        ),
        (&2.into(), &1.into()),
        "{report}"
    );
    let mut wrong = mirrored.arguments("--topic mirror.poisoned --filter");
    wrong.push("valu.contains('x')".to_owned());
    crate::kafkeep(wrong).refused(64, &["a record has no `valu`"]);
}

fn text(bytes: &Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.clone().unwrap()).unwrap()
}

fn header(record: &Record, name: &str) -> Option<String> {
    let found = record.headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| text(value))
}

/// In which partition of a topic Kafka's default partitioner puts these keys, as librdkafka says.
fn placed(scene: &Fixture<'_>, topic: &str, keys: &BTreeSet<String>) -> BTreeMap<String, usize> {
    scene.client.create_topic(topic, 5, &[]);
    let client = Client::new(&scene.servers).with("partitioner", "murmur2_random");
    // RD_KAFKA_PARTITION_UA
    let anywhere = -1;
    client.produce_to_each(
        topic,
        keys.iter()
            .map(|key| (anywhere, Message::new(key.as_bytes(), "x"))),
    );
    let partitions = scene.client.read(topic).into_iter().enumerate();
    partitions
        .flat_map(|(number, records)| {
            records
                .into_iter()
                .map(move |record| (text(&record.key), number))
        })
        .collect()
}

#[test]
fn with_new_keys_every_record_comes_once_to_its_keys_partition_though_the_mirror_is_killed() {
    let mirrored = Mirrored::new("rekeyed");
    let client = &mirrored.source.client;
    client.create_topic("mirror.rekeyed", 3, &[]);
    mirrored
        .target
        .client
        .create_topic("mirror.rekeyed", 5, &[]);
    let transformation = [
        "--key-transformation",
        "json(value).customer",
        "--header-cel",
        "source=string(partition)",
        "--header-cel",
        "large=size(value) > 1000 ? 'yes' : null",
    ];
    let mut random = Random::seeded();
    let producer = client.producer(Compression::Lz4);
    let value = |partition: i32, n: u32| {
        let customer = match n % 10 {
            0 => "null".to_owned(),
            _ => format!("\"c{}\"", n % 17),
        };
        format!(r#"{{"customer": {customer}, "n": {n}, "from": {partition}}}"#)
    };
    for round in 0..10 {
        for partition in 0..3 {
            let records =
                (round * 200..round * 200 + 200).map(|n| Message::new("old", value(partition, n)));
            producer.produce("mirror.rekeyed", partition, records);
        }
        let mut arguments = mirrored.arguments("--topic mirror.rekeyed --continuous");
        arguments.extend(transformation.map(str::to_owned));
        let mut run = Command::new(env!("CARGO_BIN_EXE_kafkeep"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(50 + random.below(1200)));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    let report = mirrored
        .run_with("--topic mirror.rekeyed", &transformation)
        .done();
    assert_eq!(report["status"], "completed", "{report}");
    let there = mirrored.target.client.read("mirror.rekeyed");
    let keys = (0..17).map(|n| format!("c{n}")).collect();
    let placed = placed(&mirrored.target, "mirror.rekeyed.placed", &keys);
    let mut seen: BTreeMap<(String, i64), Vec<i64>> = BTreeMap::new();
    for (number, records) in there.iter().enumerate() {
        for record in records {
            let value: serde_json::Value =
                serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
            let from = value["from"].as_i64().unwrap();
            let key = value["customer"].as_str().map(str::to_owned);
            let wanted = match &key {
                Some(key) => placed[key],
                None => from as usize,
            };
            assert_eq!(number, wanted, "{value}");
            assert_eq!(record.key.as_ref().map(|key| text(&Some(key.clone()))), key);
            assert_eq!(header(record, "source"), Some(from.to_string()));
            assert_eq!(header(record, "large"), None);
            let of_key = seen.entry((key.unwrap_or_default(), from)).or_default();
            of_key.push(value["n"].as_i64().unwrap());
        }
    }
    assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 6000);
    for (of, numbers) in seen {
        assert!(numbers.is_sorted_by(|a, b| a < b), "{of:?}: {numbers:?}");
    }
    let groups = mirrored.run_with("--topic mirror.rekeyed --groups all", &transformation);
    groups.refused(1, &["groups cannot follow"]);
}

#[test]
fn neither_records_nor_dead_letters_go_into_one_of_kafkas_own_topics() {
    let mirrored = Mirrored::new("internal");
    let client = &mirrored.source.client;
    client.create_topic("mirror.internal", 1, &[]);
    client.produce("mirror.internal", 0, Compression::None, numbered(0, 3));
    let said = "topic __share_group_state is one of Kafka's internal topics";
    mirrored
        .run("--topic mirror.internal --rename __share_group_state")
        .refused(1, &[said]);
    let transform = [
        "--filter",
        "json(value).n >= 0",
        "--on-error",
        "dead_letter",
        "--dead-letter-topic",
        "__share_group_state",
    ];
    mirrored
        .run_with("--topic mirror.internal", &transform)
        .refused(1, &[said]);
    let topics = mirrored.target.client.topics();
    assert!(!topics.contains(&"__share_group_state".to_owned()));
    assert!(!topics.contains(&"mirror.internal".to_owned()));
}

#[test]
fn dead_letters_say_where_they_were_and_why_and_are_written_once() {
    let mirrored = Mirrored::new("buried");
    let client = &mirrored.source.client;
    client.create_topic("mirror.buried", 2, &[]);
    for partition in 0..2 {
        for (round, codec) in [(0, Compression::Zstd), (1, Compression::None)] {
            let values = (0..30).map(|n| match n % 10 {
                7 => Message::new("key", format!("poison-{partition}-{round}-{n}")),
                _ => Message::new("key", format!(r#"{{"n": {n}}}"#)),
            });
            client.produce("mirror.buried", partition, codec, values);
        }
    }
    let transform = [
        "--filter",
        "json(value).n >= 0",
        "--on-error",
        "dead-letter",
        "--dead-letter-topic",
        "mirror.buried.dead",
    ];
    // In pieces: what one run wrote, the next one does not.
    let mut buried = 0;
    for _ in 0..10 {
        let report = mirrored
            .run_with("--topic mirror.buried --max-messages 13", &transform)
            .done();
        let partitions = report["partitions"].as_array().unwrap();
        let of = |partition: &serde_json::Value| partition["dead_letter_records"].as_u64().unwrap();
        buried += partitions.iter().map(of).sum::<u64>();
    }
    let there = mirrored.target.client.read("mirror.buried");
    assert_eq!(there.iter().map(Vec::len).sum::<usize>(), 108);
    let dead = mirrored.target.client.read("mirror.buried.dead").concat();
    let values: BTreeSet<String> = dead.iter().map(|record| text(&record.value)).collect();
    assert_eq!((values.len(), dead.len(), buried >= 12), (12, 12, true));
    for record in dead {
        let value = text(&record.value);
        let [_, partition, round, n] = value.split('-').collect::<Vec<_>>().try_into().unwrap();
        let offset: i64 = round.parse::<i64>().unwrap() * 30 + n.parse::<i64>().unwrap();
        assert_eq!(
            header(&record, "kafkeep-topic").as_deref(),
            Some("mirror.buried")
        );
        assert_eq!(
            header(&record, "kafkeep-partition").as_deref(),
            Some(partition)
        );
        assert_eq!(header(&record, "kafkeep-offset"), Some(offset.to_string()));
        let why = header(&record, "kafkeep-error").unwrap();
        assert!(
            why.contains("the filter fails: ") && why.contains("no JSON"),
            "{why}"
        );
        assert_eq!(text(&record.key), "key");
    }
    let mut own = transform;
    own[5] = "mirror.buried";
    mirrored
        .run_with("--topic mirror.buried", &own)
        .refused(1, &["mirror.buried is a topic that the mirror writes"]);
}
