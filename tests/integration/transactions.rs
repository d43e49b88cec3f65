//! Of transactions, what was committed comes back, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::fixture::{Fixture, numbered, values};
use crate::testbed::{Client, Compression, TransactionEnd};

fn texts(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|n| format!("value-{n}")).collect()
}

#[test]
fn committed_records_come_back_and_those_of_aborted_and_open_transactions_do_not() {
    let scene = Fixture::shared();
    scene.client.create_topic("txn", 1, &[]);
    let write = |id: &str, first, end| {
        let id = format!("txn-{id}");
        scene
            .client
            .transaction(&id, "txn", numbered(first, 10), end)
    };
    scene
        .client
        .produce("txn", 0, Compression::None, numbered(0, 10));
    write("committed", 10, TransactionEnd::Commit);
    write("aborted", 20, TransactionEnd::Abort);
    let open = write("open", 30, TransactionEnd::None);
    scene
        .client
        .produce("txn", 0, Compression::None, numbered(40, 10));
    write("later", 50, TransactionEnd::Commit);
    let (_, end) = scene.client.watermarks("txn", 0);

    let report = scene.backup("--topic txn");
    let partition = &report["topics"][0]["partitions"][0];
    assert_eq!(partition["end_offset"], end);
    // Two markers of commits and one of an abort are no records.
    assert_eq!(partition["records"], end - 3);
    assert_eq!(partition["last_stable_offset"], 10 + 11 + 11);
    let plan = scene.run("restore", "latest --dry-run --rename txn=txn.back");
    assert!(plan.stdout.contains("skip 3 transaction markers"), "{plan}");
    assert!(
        plan.stdout
            .contains("skip the records of 1 transaction(s) that were still open")
    );

    let restored = scene.restore("latest --rename txn=txn.back");
    let expected: Vec<String> = [0..20, 40..60].into_iter().flat_map(texts).collect();
    assert_eq!(values(&scene.client.read("txn.back")[0]), expected);
    let skipped = &restored["topics"][0]["skipped"];
    assert_eq!(
        *skipped,
        serde_json::json!({ "aborted": 10, "open": 10, "control": 3, "cut": 0 })
    );

    // The transaction that was open ends: the next backup has it, and the one before still has not.
    let end = TransactionEnd::Commit;
    scene.client.end_transaction(&open, "txn", &[0], end);
    let next = scene.backup("--topic txn");
    assert_eq!(next["new_messages"], 0, "only a marker is new");
    scene.verify();
    scene.restore("latest --rename txn=txn.later");
    assert_eq!(
        values(&scene.client.read("txn.later")[0]),
        texts(0..20)
            .into_iter()
            .chain(texts(30..60))
            .collect::<Vec<_>>()
    );
    let committed = Client::new(&scene.broker.address()).with("isolation.level", "read_committed");
    assert_eq!(
        values(&scene.client.read("txn.later")[0]),
        values(&committed.read("txn")[0])
    );
    let first = report["backup_id"].as_str().unwrap();
    scene.restore(&format!("{first} --rename txn=txn.first"));
    assert_eq!(values(&scene.client.read("txn.first")[0]), expected);
}

#[test]
fn a_transaction_over_several_runs_that_is_aborted_stays_out() {
    let scene = Fixture::shared();
    scene.client.create_topic("txn.long", 1, &[]);
    scene
        .client
        .produce("txn.long", 0, Compression::None, numbered(0, 5));
    let open = scene
        .client
        .transaction("long", "txn.long", numbered(5, 5), TransactionEnd::None);
    scene.backup("--topic txn.long");
    scene
        .client
        .produce("txn.long", 0, Compression::None, numbered(10, 5));
    scene.backup("--topic txn.long");
    let end = TransactionEnd::Abort;
    scene.client.end_transaction(&open, "txn.long", &[0], end);
    scene
        .client
        .produce("txn.long", 0, Compression::None, numbered(15, 5));
    scene.backup("--topic txn.long");
    let report = scene.restore("latest --rename txn.long=txn.long.back --partitions 2");
    assert_eq!(report["topics"][0]["skipped"]["aborted"], 5);
    let mut back: Vec<String> = scene
        .client
        .read("txn.long.back")
        .iter()
        .flat_map(|records| values(records))
        .collect();
    back.sort();
    let mut expected: Vec<String> = texts(0..5).into_iter().chain(texts(10..20)).collect();
    expected.sort();
    assert_eq!(back, expected);
}

#[test]
fn internal_topics_are_taken_only_when_named() {
    let scene = Fixture::shared();
    scene.client.create_topic("txn.inner", 1, &[]);
    scene
        .client
        .transaction("inner", "txn.inner", numbered(0, 1), TransactionEnd::Commit);
    let report = scene.backup("--topic *txn.inner --topic __transaction* --allow-empty");
    assert_eq!(report["topics"].as_array().unwrap().len(), 1);
    let report = scene.backup("--topic __transaction_state");
    assert_eq!(report["topics"][0]["topic"], "__transaction_state");
}

/// The age of a transaction is told by the timestamp of its last batch, as Kafka's own tool does.
#[test]
fn a_transaction_that_may_hang_is_named_with_its_producer_and_how_to_find_out() {
    let scene = Fixture::shared();
    let (client, topic) = (&scene.client, "txn.hangs");
    client.create_topic(topic, 2, &[]);
    client.produce(topic, 0, Compression::None, numbered(0, 5));
    let old = numbered(5, 3).map(|message| message.at(1_600_000_000_000));
    let open = client.transaction(topic, topic, old, TransactionEnd::None);
    let said = scene.run("backup", &format!("--topic {topic}"));
    assert_eq!(said.code, 0, "{said}");
    for told in [
        "txn.hangs-0: a transaction of producer ",
        " is open from offset 5 on, its last record is of 2020-09-13T12:26:40Z",
        "kafka-transactions.sh find-hanging --topic txn.hangs --partition 0",
    ] {
        assert!(said.stdout.contains(told), "{told:?} is not in {said}");
    }
    client.end_transaction(&open, topic, &[0], TransactionEnd::Abort);
    let said = scene.run("backup", &format!("--topic {topic}"));
    assert!(!said.stdout.contains("find-hanging"), "{said}");
}

#[test]
fn without_transactions_a_log_is_stable_to_its_end_however_busy_its_producer_is() {
    let scene = Fixture::shared();
    scene.client.create_topic("txn.busy", 1, &[]);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let producer = scene.client.producer(Compression::None);
            // An end of its own, in case that a backup fails.
            for _ in 0..20_000 {
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                producer.produce("txn.busy", 0, numbered(0, 20));
            }
        });
        for _ in 0..5 {
            let report = scene.backup("--topic txn.busy");
            let partition = &report["topics"][0]["partitions"][0];
            assert_eq!(partition["last_stable_offset"], partition["end_offset"]);
        }
        is_done.store(true, Ordering::Relaxed);
    });
}
