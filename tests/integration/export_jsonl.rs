//! JSON lines hold what a consumer of committed records reads, and an export writes nothing that it should not.

use std::fs;
use std::path::Path;

use base64::Engine;
use rdkafka::Timestamp;
use serde_json::{Value, json};

use crate::fixture::{Fixture, awkward, numbered, values};
use crate::testbed::{Compression, Message, Record, TransactionEnd};

fn bytes(text: &Value) -> Option<Vec<u8>> {
    let (form, text) = text.as_object()?.iter().next().unwrap();
    let text = text.as_str().unwrap();
    match form.as_str() {
        "utf8" => Some(text.into()),
        "base64" => {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap();
            assert!(std::str::from_utf8(&bytes).is_err(), "{text} is UTF-8");
            Some(bytes)
        }
        other => panic!("{other}"),
    }
}

fn record(line: &str, partition: usize) -> Record {
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["partition"], partition);
    let timestamp = line["timestamp"].as_i64().unwrap();
    let headers = line["headers"].as_array().unwrap().iter();
    Record {
        offset: line["offset"].as_i64().unwrap(),
        timestamp: match line["timestamp_type"].as_str().unwrap() {
            "CreateTime" => Timestamp::CreateTime(timestamp),
            "LogAppendTime" => Timestamp::LogAppendTime(timestamp),
            other => panic!("{other}"),
        },
        key: bytes(&line["key"]),
        value: bytes(&line["value"]),
        headers: headers
            .map(|header| {
                let key = String::from_utf8(bytes(&header[0]).unwrap()).unwrap();
                (key, bytes(&header[1]))
            })
            .collect(),
    }
}

/// The records of the first `partitions` partitions.
fn exported(out: &Path, topic: &str, partitions: usize) -> Vec<Vec<Record>> {
    (0..partitions)
        .map(|partition| {
            let path = out.join(format!("{topic}-{partition}.jsonl"));
            let text = fs::read_to_string(path).unwrap();
            text.lines().map(|line| record(line, partition)).collect()
        })
        .collect()
}

#[test]
fn lines_hold_what_a_consumer_reads_record_for_record() {
    let scene = Fixture::shared();
    let topics: Vec<String> = Compression::ALL
        .map(|codec| format!("lines.{}", codec.name()))
        .into();
    for (topic, codec) in topics.iter().zip(Compression::ALL) {
        let clock = ["CreateTime", "LogAppendTime"][usize::from(codec == Compression::Lz4)];
        let settings = [("retention.ms", "-1"), ("message.timestamp.type", clock)];
        scene.client.create_topic(topic, 3, &settings);
        scene.client.produce(topic, 0, codec, awkward(700));
        let not_text = |n: u8| Message::new([n, 0xff], [0xc3, 0x28, n]);
        scene.client.produce(topic, 1, codec, (0..20).map(not_text));
    }
    scene.backup("--topic lines.*");
    let out = scene.beside("out");
    let arguments = format!(
        "latest --topic lines.* --format jsonl --out {}",
        out.display()
    );
    let report = scene.run("export", &format!("{arguments} --json")).done();
    assert_eq!(report["total_messages"], 5 * 720);
    assert_eq!(report["status"], "completed");
    for topic in &topics {
        let read = scene.client.read(topic);
        assert!(exported(&out, topic, 3) == read, "{topic}");
    }

    // Another export may go to the same place, but never over what is there.
    let again = scene.run("export", &arguments);
    again.refused(
        1,
        &[
            "lines.gzip-0.jsonl exists already",
            "nothing is overwritten",
        ],
    );
    let arguments = format!(
        "latest --topic lines.zstd --partition 1 --out {}",
        out.display()
    );
    scene.run("export", &format!("{arguments} --json")).done();
    assert!(out.join("lines.zstd-1/00000000000000000000.log").exists());
    let names: Vec<_> = fs::read_dir(&out).unwrap().collect();
    assert_eq!(names.len(), 5 * 3 + 1);
}

#[test]
fn lines_leave_out_what_was_not_committed_and_count_it() {
    let scene = Fixture::shared();
    let topic = "lines-txn";
    scene.client.create_topic(topic, 1, &[]);
    let write = |id: &str, first, end| {
        let id = format!("{topic}-{id}");
        scene
            .client
            .transaction(&id, topic, numbered(first, 10), end)
    };
    write("committed", 0, TransactionEnd::Commit);
    write("aborted", 10, TransactionEnd::Abort);
    let open = write("open", 20, TransactionEnd::None);
    write("later", 30, TransactionEnd::Commit);
    scene.backup(&format!("--topic {topic}"));
    let out = scene.beside("out");
    let arguments = format!(
        "latest --topic {topic} --format jsonl --json --out {}",
        out.display()
    );
    let report = scene.run("export", &arguments).done();
    let partition = &report["topics"][0]["partitions"][0];
    assert_eq!(
        partition["omitted"],
        json!({ "aborted": 10, "open": 10, "control": 3, "cut": 0 })
    );
    assert_eq!(partition["records"], 20);
    // What was open at the backup's end is not to be seen by a consumer of committed records either.
    let end = TransactionEnd::Abort;
    scene.client.end_transaction(&open, topic, &[0], end);
    let committed = scene.client.read(topic);
    assert_eq!(values(&committed[0]).len(), 20);
    assert!(exported(&out, topic, 1) == committed);
}

#[test]
fn a_damaged_partition_is_named_and_left_out_and_the_others_are_exported() {
    let scene = Fixture::shared();
    let topic = "partly.damaged";
    scene.client.create_topic(topic, 1, &[]);
    scene.client.create_topic("partly.sound", 1, &[]);
    let produce = |topic, count| {
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(0, count))
    };
    produce(topic, 100);
    scene.backup(&format!("--topic {topic}"));
    let pack = scene.files("packs").remove(0);
    produce(topic, 30);
    produce("partly.sound", 50);
    scene.backup("--topic partly.*");
    let mut content = fs::read(&pack).unwrap();
    content[300] ^= 1;
    fs::write(&pack, content).unwrap();
    let id = pack.file_stem().unwrap().to_str().unwrap();
    for format in ["log", "jsonl"] {
        let out = scene.beside(format);
        let arguments = format!(
            "latest --topic partly.* --format {format} --out {}",
            out.display()
        );
        let outcome = scene.run("export", &format!("{arguments} --json"));
        assert_eq!(outcome.code, 2, "{outcome}");
        let report = outcome.json();
        assert_eq!(report["status"], "incomplete");
        let damaged = &report["topics"][0]["partitions"][0];
        assert_eq!(damaged["path"], Value::Null);
        let damage = &damaged["damage"];
        assert_eq!(damage["pack"], id);
        assert_eq!(damage["topic"], topic);
        assert_eq!(damage["partition"], 0);
        assert_eq!([&damage["first_offset"], &damage["last_offset"]], [0, 99]);
        let problem = damage["problem"].as_str().unwrap();
        assert!(problem.contains("checksum"), "{problem}");
        let sound = &report["topics"][1]["partitions"][0];
        assert_eq!(sound["records"], 50);
        let names = fs::read_dir(&out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>().len(), 1, "only what is sound");

        fs::remove_dir_all(&out).unwrap();
        let told = scene.run("export", &arguments);
        assert_eq!(told.code, 2);
        let said = format!("damaged: {topic}-0, offsets 0 to 99, in pack {id}: ");
        assert!(told.stdout.contains(&said), "{told}");
    }
}

#[test]
fn an_export_that_cannot_be_is_refused_before_anything_is_written() {
    let scene = Fixture::shared();
    let topic = "export-refused";
    scene.client.create_topic(topic, 2, &[]);
    scene.backup(&format!("--topic {topic}"));
    let out = scene.beside("out");
    let to = format!("--out {}", out.display());
    let run = |arguments: &str| scene.run("export", &format!("latest {arguments} {to}"));
    run("").refused(64, &["--topic"]);
    run("--topic export-refusd").refused(1, &["did you mean `export-refused`?"]);
    run(&format!("--topic {topic} --partition 7")).refused(1, &["has no partition 7"]);
    run(&format!("--topic {topic} --segment-bytes 3GiB")).refused(64, &["below 2GiB"]);
    let plan = run(&format!("--topic {topic} --dry-run"));
    assert_eq!(plan.code, 0, "{plan}");
    assert!(plan.stdout.contains("export-refused-1"), "{plan}");
    assert!(plan.stdout.contains("nothing was written"), "{plan}");
    assert!(!out.exists());

    // An empty directory is no hindrance; a link, a file and a filled directory are.
    fs::create_dir_all(out.join("export-refused-0")).unwrap();
    std::os::unix::fs::symlink(scene.repository(), out.join("export-refused-1")).unwrap();
    run(&format!("--topic {topic}")).refused(1, &["export-refused-1 exists already"]);
    fs::remove_file(out.join("export-refused-1")).unwrap();
    fs::write(out.join("log-start-offset-checkpoint"), "mine").unwrap();
    run(&format!("--topic {topic}")).refused(1, &["log-start-offset-checkpoint"]);
    fs::remove_file(out.join("log-start-offset-checkpoint")).unwrap();
    assert_eq!(run(&format!("--topic {topic}")).code, 0);
    assert!(
        out.join("export-refused-0/leader-epoch-checkpoint")
            .exists()
    );
}
