//! Topics go into a repository and come back, on the oldest supported Kafka, the newest, and one between.

use crate::fixture::{Fixture, awkward, numbered, without_offsets};
use crate::testbed::{Broker, Compression, Properties, Release};

fn backs_up_and_restores(broker: &Broker, prefix: &str) {
    let scene = Fixture::on(broker);
    let client = &scene.client;
    for codec in Compression::ALL {
        let topic = format!("{prefix}.{}", codec.name());
        client.create_topic(&topic, 3, &[("retention.ms", "-1")]);
        for partition in 0..2 {
            let count = 500 + 300 * i64::from(partition);
            client.produce(&topic, partition, codec, awkward(count));
        }
    }
    let first = scene.backup(&format!("--topic {prefix}.*"));
    assert_eq!(first["total_messages"], 5 * (500 + 800));

    client.produce(
        &format!("{prefix}.lz4"),
        2,
        Compression::Lz4,
        numbered(0, 40),
    );
    let second = scene.backup(&format!("--topic {prefix}.*"));
    assert_eq!(second["new_messages"], 40);
    assert_eq!(second["total_messages"], 5 * (500 + 800) + 40);
    assert_eq!(second["reused_bytes"], first["total_size_bytes"]);

    scene.verify();
    scene.restore("latest --rename *=restored.{topic}");
    for codec in Compression::ALL {
        let topic = format!("{prefix}.{}", codec.name());
        assert_eq!(
            client.read(&topic),
            client.read(&format!("restored.{topic}")),
            "{topic}"
        );
    }
    let first = first["backup_id"].as_str().unwrap();
    scene.restore(&format!(
        "{first} --topic {prefix}.lz4 --rename *=first.{{topic}}"
    ));
    let earlier = client.read(&format!("first.{prefix}.lz4"));
    assert_eq!(without_offsets(earlier)[2], []);
}

#[test]
fn every_codec_comes_back_on_the_shared_broker() {
    backs_up_and_restores(Broker::shared(), "codecs");
}

#[test]
fn the_oldest_supported_kafka_is_backed_up_and_restored() {
    backs_up_and_restores(&Broker::start(Release::V2_8, Default::default()), "oldest");
}

#[test]
fn topics_are_told_apart_where_the_cluster_gives_them_no_ids() {
    let properties = Properties::default().set("inter.broker.protocol.version", "2.7");
    backs_up_and_restores(&Broker::start(Release::V2_8, properties), "noids");
}

#[test]
fn the_newest_supported_kafka_is_backed_up_and_restored() {
    backs_up_and_restores(&Broker::start(Release::V4_4, Default::default()), "newest");
}
