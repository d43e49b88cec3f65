//! Exported segments are Kafka's own: the same bytes, accepted by Kafka's tool, served by a broker.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::fixture::{EAGER, Fixture, awkward, numbered};
use crate::testbed::{
    Broker, Client, Compression, Message, Properties, Record, Release, TransactionEnd,
};

const FIRST_SEGMENT: &str = "00000000000000000000";

/// The files of a directory, by name.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

/// The batches of a log, whatever its segments.
fn log_bytes(directory: &Path) -> Vec<u8> {
    let logs = files(directory).into_iter();
    logs.filter(|(name, _)| name.ends_with(".log"))
        .flat_map(|(_, bytes)| bytes)
        .collect()
}

fn count(directory: &Path, extension: &str) -> usize {
    let names = files(directory).into_keys();
    names.filter(|name| name.ends_with(extension)).count()
}

/// Kafka's tool reads every record and looks up every entry of every index: what it says, and what it complains about.
fn dumped(broker: &Broker, directory: &Path) -> (String, String) {
    let dump = |option: &str| {
        let extensions = [".log", ".index", ".timeindex", ".txnindex", ".snapshot"];
        let names = files(directory).into_keys();
        let paths: Vec<String> = names
            .filter(|name| extensions.iter().any(|extension| name.ends_with(extension)))
            .map(|name| directory.join(name).display().to_string())
            .collect();
        let arguments = [option, "--files", &paths.join(",")];
        text(broker.tool("kafka.tools.DumpLogSegments", &arguments))
    };
    let (sane, complaints) = dump("--index-sanity-check");
    assert_eq!(complaints, "", "{sane}");
    assert!(sane.contains("timeindex passed sanity check."), "{sane}");
    dump("--deep-iteration")
}

fn text(output: Output) -> (String, String) {
    let of = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (of(output.stdout), of(output.stderr));
    assert!(output.status.success(), "{out}{err}");
    // The tool is run without a configuration of its logs.
    let complaints = err.lines().filter(|line| {
        let logging = ["SLF4J", "ERROR StatusLogger", "main ERROR"];
        !logging.iter().any(|known| line.contains(known))
    });
    (out, complaints.collect::<Vec<_>>().join("\n"))
}

#[track_caller]
fn accepted(broker: &Broker, directory: &Path) {
    let (out, complaints) = dumped(broker, directory);
    assert_eq!(complaints, "", "{out}");
}

#[test]
fn every_codec_is_exported_with_the_brokers_own_bytes() {
    let scene = Fixture::shared();
    for codec in Compression::ALL {
        let topic = format!("segments.{}", codec.name());
        scene
            .client
            .create_topic(&topic, 2, &[("retention.ms", "-1")]);
        let producer = scene.client.producer(codec);
        let messages: Vec<Message> = awkward(3_000).collect();
        for some in messages.chunks(200) {
            producer.produce(&topic, 0, some.iter().cloned());
        }
    }
    scene.backup("--topic segments.*");
    let whole = scene.beside("whole");
    let arguments = format!("latest --topic segments.* --out {}", whole.display());
    let report = scene.run("export", &format!("{arguments} --json")).done();
    assert_eq!(report["status"], "completed");
    assert_eq!(report["total_messages"], 5 * 3_000);
    assert_eq!(
        report["log_start_offset_checkpoint"],
        serde_json::Value::Null
    );
    let small = scene.beside("small");
    let arguments = format!("latest --topic segments.* --out {}", small.display());
    scene
        .run(
            "export",
            &format!("{arguments} --segment-bytes 16KiB --json"),
        )
        .done();
    for codec in Compression::ALL {
        for partition in 0..2 {
            let name = format!("segments.{}-{partition}", codec.name());
            let theirs = scene
                .broker
                .log_directory(&format!("segments.{}", codec.name()), partition);
            let ours = whole.join(&name);
            for file in ["leader-epoch-checkpoint", "partition.metadata"] {
                if partition == 1 && file == "leader-epoch-checkpoint" {
                    continue; // Without a batch there is no epoch that one could tell.
                }
                let read = |directory: &Path| fs::read_to_string(directory.join(file)).unwrap();
                assert_eq!(read(&ours), read(&theirs), "{name}/{file}");
            }
            assert!(log_bytes(&ours) == log_bytes(&theirs), "{name}");
            assert!(
                log_bytes(&small.join(&name)) == log_bytes(&theirs),
                "{name}"
            );
        }
        let name = format!("segments.{}-0", codec.name());
        assert_eq!(count(&whole.join(&name), ".log"), 1);
        assert!(count(&small.join(&name), ".log") > 3, "{name}");
        assert!(!files(&whole.join(&name))[&format!("{FIRST_SEGMENT}.index")].is_empty());
        accepted(scene.broker, &small.join(&name));
        accepted(scene.broker, &whole.join(&name));
    }
    accepted(scene.broker, &whole.join("segments.none-1"));
}

#[test]
fn transactions_are_exported_with_the_brokers_own_index() {
    let scene = Fixture::shared();
    let topic = "segments-txn";
    scene.client.create_topic(topic, 1, &[]);
    let write = |id: &str, first, end| {
        let id = format!("{topic}-{id}");
        scene
            .client
            .transaction(&id, topic, numbered(first, 10), end)
    };
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 10));
    write("aborted", 10, TransactionEnd::Abort);
    write("committed", 20, TransactionEnd::Commit);
    let open = write("open", 30, TransactionEnd::None);
    write("aborted-too", 40, TransactionEnd::Abort);
    write("aborted-thrice", 50, TransactionEnd::Abort);
    scene.backup(&format!("--topic {topic}"));
    let out = scene.beside("out");
    let arguments = format!("latest --topic {topic} --json --out {}", out.display());
    let report = scene.run("export", &arguments).done();
    let partition = &report["topics"][0]["partitions"][0];
    assert_eq!(partition["aborted_transactions"], 3);
    assert_eq!(partition["open_transactions"], 1);
    assert_eq!(partition["control_records"], 4);
    assert_eq!(partition["records"], 60);
    let ours = out.join(format!("{topic}-0"));
    let theirs = scene.broker.log_directory(topic, 0);
    assert!(log_bytes(&ours) == log_bytes(&theirs));
    let index = format!("{FIRST_SEGMENT}.txnindex");
    assert_eq!(files(&ours)[&index].len(), 3 * 34);
    assert_eq!(files(&ours)[&index], files(&theirs)[&index]);
    let (out, complaints) = dumped(scene.broker, &ours);
    assert_eq!(complaints, "", "{out}");
    let first_open = 10 + 11 + 11;
    let said = format!("currentTxnFirstOffset: OptionalLong[{first_open}]");
    assert!(out.contains(&said), "{out}");

    // With the transaction at its end there is no snapshot.
    let end = TransactionEnd::Abort;
    scene.client.end_transaction(&open, topic, &[0], end);
    scene.backup(&format!("--topic {topic}"));
    let out = scene.beside("ended");
    let arguments = format!("latest --topic {topic} --json --out {}", out.display());
    scene.run("export", &arguments).done();
    let ours = out.join(format!("{topic}-0"));
    assert_eq!(count(&ours, ".snapshot"), 0);
    assert_eq!(files(&ours)[&index], files(&theirs)[&index]);
}

#[test]
fn a_compacted_log_is_exported_with_its_holes() {
    let scene = Fixture::shared();
    let topic = "segments-compacted";
    scene.client.create_topic(topic, 1, &EAGER);
    for (round, codec) in Compression::ALL.into_iter().enumerate() {
        let versions = (0..500).filter(|n| n % (round + 1) == 0).map(|n| Message {
            value: (n % 7 != 0).then(|| format!("value-{n}-{round}").into_bytes()),
            key: Some(format!("key-{n}").into_bytes()),
            ..Message::default()
        });
        scene.client.produce(topic, 0, codec, versions);
    }
    scene.client.wait_until("the cleaner", |client| {
        // Rolls the segment before, which makes it cleanable.
        client.produce(topic, 0, Compression::None, [Message::new("roll", "x")]);
        client.read(topic)[0].len() < 600
    });
    scene.backup(&format!("--topic {topic}"));
    let out = scene.beside("out");
    let arguments = format!(
        "latest --topic {topic} --json --segment-bytes 4KiB --out {}",
        out.display()
    );
    scene.run("export", &arguments).done();
    let ours = out.join(format!("{topic}-0"));
    let (dump, complaints) = dumped(scene.broker, &ours);
    // The tool notes holes, and that is all that it notes.
    for line in complaints.lines() {
        let is_hole =
            line.starts_with("Non-consecutive offsets in") || line.contains(" is followed by ");
        assert!(is_hole, "{line}\n{dump}");
    }
    assert!(complaints.contains(" is followed by "), "no hole: {dump}");
}

/// Puts an exported partition in the place of what a stopped broker has of one.
fn place(exported: &Path, log_directory: &Path, keep_metadata: bool) {
    let metadata = fs::read(log_directory.join("partition.metadata")).unwrap();
    fs::remove_dir_all(log_directory).unwrap();
    fs::create_dir(log_directory).unwrap();
    for (name, content) in files(exported) {
        fs::write(log_directory.join(name), content).unwrap();
    }
    if keep_metadata {
        fs::write(log_directory.join("partition.metadata"), metadata).unwrap();
    }
}

/// What a broker makes of a topic, by partition.
#[derive(Debug, PartialEq)]
struct Served {
    uncommitted: Vec<Vec<Record>>,
    committed: Vec<Vec<Record>>,
    /// Log start and high watermark.
    bounds: Vec<(i64, i64)>,
}

fn served(broker: &Broker, topic: &str) -> Served {
    let client = Client::new(&broker.address());
    let bounds = 0..client.partitions(topic);
    let read = |level| {
        let client = Client::new(&broker.address()).with("isolation.level", level);
        client.read(topic)
    };
    Served {
        uncommitted: read("read_uncommitted"),
        committed: read("read_committed"),
        bounds: bounds
            .map(|partition| client.watermarks(topic, partition))
            .collect(),
    }
}

/// A log with an aborted and an open transaction, leaders of two epochs, and all codecs.
fn fill(broker: &Broker, topic: &str) {
    let client = Client::new(&broker.address());
    client.create_topic(topic, 2, &[("retention.ms", "-1")]);
    for codec in Compression::ALL {
        client.produce(topic, 0, codec, awkward(700));
        client.produce(topic, 1, codec, numbered(0, 50));
    }
    client.transaction("filling-1", topic, numbered(0, 30), TransactionEnd::Abort);
    client.transaction("filling-2", topic, numbered(30, 30), TransactionEnd::Commit);
    broker.stop();
    broker.start_again();
    let client = Client::new(&broker.address());
    client.wait_for_leaders(topic, 2);
    client.produce(topic, 0, Compression::Zstd, awkward(700));
    let open = client.transaction("filling-3", topic, numbered(60, 30), TransactionEnd::None);
    client.produce(topic, 0, Compression::Lz4, numbered(90, 30));
    // Its end would abort the transaction.
    std::mem::forget(open);
}

#[test]
fn a_broker_serves_exported_segments_as_the_log_of_another_topic() {
    let broker = Broker::start(Release::V4_1, Properties::default());
    fill(&broker, "source");
    let scene = Fixture::on(&broker);
    scene
        .client
        .create_topic("copy", 2, &[("retention.ms", "-1")]);
    let report = scene.backup("--topic source");
    let stable = report["topics"][0]["partitions"][0]["last_stable_offset"].to_string();
    let out = scene.beside("out");
    let arguments = format!(
        "latest --topic source --segment-bytes 16KiB --json --out {}",
        out.display()
    );
    scene.run("export", &arguments).done();
    let before = served(&broker, "source");
    assert!(before.uncommitted[0].len() > before.committed[0].len() + 30 + 30);
    let epochs = fs::read_to_string(out.join("source-0/leader-epoch-checkpoint")).unwrap();
    assert!(epochs.starts_with("0\n2\n0 0\n"), "{epochs}");
    assert!(count(&out.join("source-0"), ".log") > 3);
    assert!(count(&out.join("source-0"), ".txnindex") > 0);

    // Neither a clean shutdown nor the recovery after a crash changes what is served.
    for recovers in [false, true] {
        broker.stop();
        for partition in 0..2 {
            let exported = out.join(format!("source-{partition}"));
            place(&exported, &broker.log_directory("copy", partition), true);
        }
        if recovers {
            let clean = broker.log_directory("copy", 0);
            fs::remove_file(clean.parent().unwrap().join(".kafka_cleanshutdown")).unwrap();
        }
        broker.start_again();
        Client::new(&broker.address()).wait_for_leaders("copy", 2);
        let after = served(&broker, "copy");
        assert!(after == before, "recovers: {recovers}");
        if !recovers {
            assert_clean(&broker.log());
        }
    }
    // The open transaction is known for what it is: an operator can end it.
    let address = broker.address();
    let abort = [
        &["--bootstrap-server", &address, "abort", "--topic", "copy"][..],
        &["--partition", "0", "--start-offset", &stable],
    ];
    text(broker.tool(
        "org.apache.kafka.tools.TransactionsCommand",
        &abort.concat(),
    ));
    let committed = before.committed[0].len() + 30;
    Client::new(&address).wait_until("the end of the transaction", |client| {
        client.read("copy")[0].len() == committed
    });
    // The log goes on where it ended.
    let client = Client::new(&broker.address());
    let (_, end) = client.watermarks("copy", 0);
    client.produce("copy", 0, Compression::None, numbered(0, 1));
    assert_eq!(client.watermarks("copy", 0).1, end + 1);
}

/// The broker took the indexes as they are.
fn assert_clean(log: &str) {
    for line in log.lines() {
        let rebuilt = ["orrupt", "ebuild", "Recover", "stray", "Stray"];
        assert!(!rebuilt.iter().any(|word| line.contains(word)), "{line}");
    }
}

#[test]
fn a_broker_that_lost_its_log_is_given_it_back() {
    let broker = Broker::start(Release::V4_1, Properties::default());
    let client = Client::new(&broker.address());
    client.create_topic("lost", 3, &[("retention.ms", "-1")]);
    client.produce("lost", 0, Compression::Gzip, numbered(0, 500));
    client.produce("lost", 1, Compression::None, numbered(0, 500));
    client.produce("lost", 2, Compression::None, numbered(0, 500));
    // Within a batch, and everything.
    client.delete_records("lost", 0, 123);
    client.delete_records("lost", 1, 500);
    client.wait_until("the log start", |client| {
        client.watermarks("lost", 0).0 == 123 && client.watermarks("lost", 1) == (500, 500)
    });
    let before = served(&broker, "lost");
    let out = {
        let scene = Fixture::on(&broker);
        scene.backup("--topic lost");
        // Beside the repository, which goes with the scene.
        let out = broker
            .log_directory("lost", 0)
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .join("out");
        let arguments = format!("latest --topic lost --json --out {}", out.display());
        let report = scene.run("export", &arguments).done();
        let partitions = &report["topics"][0]["partitions"];
        assert_eq!(partitions[0]["start_offset"], 123);
        assert_eq!(partitions[0]["first_segment"], 0);
        assert_eq!(partitions[1]["first_segment"], 500);
        let checkpoint = report["log_start_offset_checkpoint"].as_str().unwrap();
        assert_eq!(
            fs::read_to_string(checkpoint).unwrap(),
            "0\n1\nlost 0 123\n"
        );
        accepted(&broker, &out.join("lost-0"));
        accepted(&broker, &out.join("lost-1"));
        out
    };
    broker.stop();
    let log_directory = broker.log_directory("lost", 0);
    let log_dir: PathBuf = log_directory.parent().unwrap().into();
    for partition in 0..3 {
        let exported = out.join(format!("lost-{partition}"));
        place(&exported, &broker.log_directory("lost", partition), false);
    }
    fs::copy(
        out.join("log-start-offset-checkpoint"),
        log_dir.join("log-start-offset-checkpoint"),
    )
    .unwrap();
    broker.start_again();
    Client::new(&broker.address()).wait_for_leaders("lost", 3);
    assert!(served(&broker, "lost") == before);
    assert_clean(&broker.log());
}
