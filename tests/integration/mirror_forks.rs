//! `kafkeep mirror` from a source whose log is not the one any more that was mirrored.

use crate::fixture::{Fixture, numbered};
use crate::mirror::Mirrored;
use crate::testbed::{Broker, Client, Cluster, Compression, wait_for};

/// Records that were mirrored and are lost in the source, and others in their place: as many, more, and none.
#[test]
fn a_bounded_mirror_notices_a_source_that_was_truncated_or_rewritten_though_nothing_is_new() {
    let three = Cluster::taken();
    let mirrored = Mirrored {
        source: Fixture::across(&three),
        target: Fixture::on(Broker::shared()),
        name: "forked",
    };
    let client = &mirrored.source.client;
    let topics = [
        ("mforked.equal", 50),
        ("mforked.longer", 70),
        ("mforked.cut", 0),
    ];
    for (topic, _) in topics {
        let settings = [
            ("unclean.leader.election.enable", "true"),
            ("min.insync.replicas", "1"),
        ];
        client.create_on(topic, &[&[1, 2]], &settings);
        client.produce(topic, 0, Compression::None, numbered(0, 50));
    }
    wait_for("the follower has everything", || {
        let placed = |topic: &(&str, i64)| client.placement(topic.0)[0].in_sync.len() == 2;
        topics.iter().all(placed)
    });
    three.broker(2).stop();
    for (topic, _) in topics {
        client.produce(topic, 0, Compression::None, numbered(50, 50));
    }
    assert_eq!(mirrored.done("--topic mforked.*")["records"], 300);
    assert_eq!(mirrored.done("--topic mforked.*")["records"], 0);
    three.broker(1).kill();
    three.broker(2).start_again();
    for (topic, count) in topics {
        wait_for("an unclean election", || {
            client.placement(topic)[0].leader == 2
        });
        client.produce(topic, 0, Compression::None, numbered(1_000, count));
    }
    for (topic, _) in topics {
        let run = mirrored.run(&format!("--json --topic {topic}"));
        assert_eq!(run.code, 2, "{topic}: {run}");
        let report = run.json();
        assert_eq!(report["records"], 0, "{run}");
        let told = &report["partitions"][0];
        assert_eq!(told["state"], "truncated", "{run}");
        let problem = told["problem"].as_str().unwrap();
        assert!(problem.contains("delete the topic in the target"), "{run}");
    }
    // The advice works.
    mirrored.target.client.delete_topic("mforked.equal");
    assert_eq!(mirrored.done("--topic mforked.equal")["records"], 100);
    mirrored.is_same("mforked.equal", "mforked.equal");
    three.broker(1).start_again();
}

/// The first log began at 30, the second one at 0.
#[test]
fn a_source_topic_that_was_created_again_is_mirrored_when_the_target_is_deleted_while_the_mirror_runs()
 {
    let mirrored = Mirrored::new("second");
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    client.create_topic("second", 1, &[]);
    client.produce("second", 0, Compression::None, numbered(0, 50));
    client.delete_records("second", 0, 30);
    // A mirror of which all partitions stand still ends.
    client.create_topic("second.beside", 1, &[]);
    let mut run = mirrored.start("--topic second --topic second.beside --continuous");
    let begins_with = |first: i64| {
        move |target: &Client| {
            let wanted = numbered(first, 20).map(|message| message.value);
            target.topics().contains(&"second".to_owned())
                && target.read("second")[0]
                    .iter()
                    .map(|record| record.value.clone())
                    .eq(wanted)
        }
    };
    target.wait_until("the first log is there", begins_with(30));
    client.delete_topic("second");
    client.create_topic("second", 1, &[]);
    client.produce("second", 0, Compression::None, numbered(1_000, 20));
    target.delete_topic("second");
    target.wait_until("the second log is there", begins_with(1_000));
    assert!(run.try_wait().unwrap().is_none(), "it goes on");
    run.kill().unwrap();
    run.wait().unwrap();
    mirrored.is_same("second", "second");
}
