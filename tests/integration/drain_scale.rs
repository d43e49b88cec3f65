//! A thousand groups of a hundred partitions are looked at by a few dozen requests.

use std::process::Command;
use std::time::Instant;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use serde_json::Value;

use crate::fixture::{Fixture, numbered};
use crate::testbed::group::Group;
use crate::testbed::{Outcome, ask};

const PARTITIONS: i32 = 100;
const GROUPS: usize = 1_000;
const TOPIC: &str = "drain.scale";

/// Commits on every partition, as a simple client does.
fn commit(address: &str, group: &str, offset: i64) {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let partitions = (0..PARTITIONS).map(|partition| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(TOPIC)))
        .with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let answer = ask(address, &request, 8);
    let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
    assert!(codes.into_iter().all(|partition| partition.error_code == 0));
}

/// One check of all groups that match; how many requests it took, and how many seconds.
fn check(address: &str, groups: &str) -> (Value, usize, f64) {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_kafkeep"))
        .args([
            "drain",
            "--bootstrap-servers",
            address,
            "--json",
            "--stable-checks",
            "1",
        ])
        .args(["--group", groups])
        .env("RUST_LOG", "kafkeep::kafka=trace")
        .output()
        .unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let outcome = Outcome::of(output);
    let requests = outcome
        .stderr
        .lines()
        .filter(|line| line.contains("asking"));
    (outcome.json(), requests.count(), seconds)
}

#[test]
fn a_thousand_groups_take_hardly_more_requests_than_ten() {
    let scene = Fixture::shared();
    let address = scene.broker.address();
    scene.client.create_topic(TOPIC, PARTITIONS, &[]);
    scene.client.produce_to_each(
        TOPIC,
        (0..PARTITIONS)
            .flat_map(|partition| numbered(0, 3).map(move |message| (partition, message))),
    );
    // Makes the topic of the offsets, and waits for it.
    Group::new(&address, "drain.scale.first").commit(TOPIC, 0, 0, "");
    let numbers: Vec<usize> = (0..GROUPS).collect();
    std::thread::scope(|scope| {
        for chunk in numbers.chunks(GROUPS / 4) {
            let address = &address;
            scope.spawn(move || {
                for number in chunk {
                    // One in ten is drained, the others lag by 1 to 3 in each partition.
                    let offset = if number % 10 == 0 {
                        3
                    } else {
                        (number % 3) as i64
                    };
                    commit(address, &format!("drain.scale.{number:03}"), offset);
                }
            });
        }
    });
    let (few, requests_of_few, _) = check(&address, "drain.scale.00?");
    let (all, requests_of_all, seconds) = check(&address, "drain.scale.???");
    eprintln!(
        "{GROUPS} groups of {PARTITIONS} partitions: {requests_of_all} requests, {seconds:.2} s in all \
         ({} ms for the check); ten groups: {requests_of_few} requests",
        all["duration_ms"]
    );
    assert_eq!(few["partitions_checked"], 10 * PARTITIONS);
    assert_eq!(
        all["partitions_checked"],
        GROUPS as i64 * i64::from(PARTITIONS)
    );
    let count = |verdict: &str| {
        let groups = all["groups"].as_array().unwrap().iter();
        groups.filter(|group| group["status"] == verdict).count()
    };
    assert_eq!(
        (count("drained"), count("stopped")),
        (GROUPS / 10, GROUPS - GROUPS / 10)
    );
    let lag: usize = (0..GROUPS)
        .filter(|number| number % 10 > 0)
        .map(|number| 3 - number % 3)
        .sum();
    assert_eq!(all["total_lag"], (lag * PARTITIONS as usize) as u64);
    // Groups are described 200 and fetched 50 at a time; what is asked of the logs is the same for ten and for a thousand.
    assert!(
        requests_of_all <= requests_of_few + 40,
        "{requests_of_all} and {requests_of_few}"
    );
    assert!(requests_of_few <= 30, "{requests_of_few}");
}
