//! Compacted topics have holes, tombstones and records that today's brokers would refuse.

use crate::fixture::{EAGER, Fixture, values};
use crate::testbed::{Compression, Message};

#[test]
fn a_log_with_holes_comes_back_record_by_record() {
    let scene = Fixture::shared();
    scene.client.create_topic("holes", 1, &EAGER);
    let versions = |round: i64| {
        (0..200)
            .filter(move |n| n % (round + 1) == 0)
            .map(move |n| Message::new(format!("key-{n}"), format!("value-{n}-{round}")))
    };
    for (round, codec) in [Compression::None, Compression::Zstd, Compression::Gzip]
        .into_iter()
        .enumerate()
    {
        scene
            .client
            .produce("holes", 0, codec, versions(round as i64));
    }
    let tombstone = Message {
        key: Some(b"key-7".to_vec()),
        ..Message::default()
    };
    scene
        .client
        .produce("holes", 0, Compression::None, [tombstone]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    scene.client.wait_until("the cleaner", |client| {
        // Rolls the segment before, which makes it cleanable.
        client.produce("holes", 0, Compression::None, [Message::new("roll", "x")]);
        client.read("holes")[0].len() < 250
    });
    let source = scene.client.read("holes").remove(0);
    let offsets: Vec<i64> = source.iter().map(|record| record.offset).collect();
    assert!(
        offsets.windows(2).any(|pair| pair[1] - pair[0] > 1),
        "no holes in {offsets:?}"
    );
    assert!(
        source.iter().any(|record| record.value.is_none()),
        "no tombstone"
    );

    // The cleaner may go on meanwhile: what the backup has is what counts, and its bounds are the log's.
    let report = scene.backup("--topic holes");
    let partition = &report["topics"][0]["partitions"][0];
    assert_eq!(partition["end_offset"], offsets.last().unwrap() + 1);
    assert_eq!(
        partition["gaps"],
        serde_json::json!([]),
        "holes are no gaps"
    );
    scene.verify();
    let again = scene.backup("--topic holes");
    assert_eq!(again["new_messages"], 0);

    let report = scene.restore("latest --rename holes=holes.back");
    let back = scene.client.read("holes.back").remove(0);
    assert_eq!(report["messages_restored"], back.len());
    let last = |records: &[crate::testbed::Record]| {
        let pairs = records
            .iter()
            .map(|record| (record.key.clone(), (record.timestamp, record.value.clone())));
        pairs.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(last(&back), last(&source));
    assert_eq!(
        scene
            .client
            .setting("holes.back", "cleanup.policy")
            .as_deref(),
        Some("compact")
    );
}

#[test]
fn records_without_keys_come_back_although_the_topic_became_compacted_later() {
    let scene = Fixture::shared();
    scene.client.create_topic("keyless", 1, &[]);
    let values_only = (0..20).map(|n| Message {
        value: Some(format!("value-{n}").into_bytes()),
        ..Message::default()
    });
    scene
        .client
        .produce("keyless", 0, Compression::Lz4, values_only);
    scene
        .client
        .change_settings("keyless", &[("cleanup.policy", "compact")]);
    scene.backup("--topic keyless");
    let report = scene.restore("latest --rename keyless=keyless.back");
    assert_eq!(report["messages_restored"], 20);
    assert_eq!(values(&scene.client.read("keyless.back")[0]).len(), 20);

    // A topic that is compacted already refuses them; the plan warns, and the refusal says what to do.
    scene
        .client
        .create_topic("keyless.compacted", 1, &[("cleanup.policy", "compact")]);
    let arguments = "latest --rename keyless=keyless.compacted --if-exists append";
    let plan = scene.plan(arguments);
    assert!(
        plan["topics"][0]["notes"]
            .to_string()
            .contains("refuses records without a key")
    );
    scene.run("restore", arguments).refused(
        1,
        &[
            "keyless.compacted-0 refused a batch",
            "write to a topic that is not compacted",
        ],
    );
    assert_eq!(scene.client.watermarks("keyless.compacted", 0), (0, 0));
}
