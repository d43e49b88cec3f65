//! The sessions of README.md and of the pages that need clusters.

use std::fs;

use crate::fixture::{Fixture, numbered};
use crate::kafkeep;
use crate::sessions::{Session, is_shown, run, sessions};
use crate::testbed::Compression;
use crate::testbed::group::Group;

#[test]
fn the_demonstration_prints_what_the_readme_shows() {
    let [demo, _] = readme();
    let (command, shown) = &demo[0];
    assert_eq!(command, "make demo");
    let printed = kafkeep(["demo"]).done_plain();
    assert!(is_shown(&printed, shown), "{printed}\nis not\n{shown}");
}

/// The README's sessions: the demonstration, and a first backup.
fn readme() -> [Session; 2] {
    sessions(include_str!("../../README.md"))
        .try_into()
        .expect("two sessions")
}

/// The session with some words replaced in its commands.
fn replaced(session: &Session, words: &[(&str, &str)]) -> Session {
    let replace = |command: &str| {
        let replaced = words.iter();
        replaced.fold(command.to_owned(), |command, (from, to)| {
            command.replace(from, to)
        })
    };
    let commands = session.iter();
    commands
        .map(|(command, shown)| (replace(command), shown.clone()))
        .collect()
}

#[test]
fn the_first_backup_of_the_readme_is_made_and_restored() {
    let scene = Fixture::shared();
    let client = &scene.client;
    for (topic, count) in [("readme.eu", 1000), ("readme.us", 500)] {
        client.create_topic(topic, 1, &[]);
        client.produce(topic, 0, Compression::None, numbered(0, count));
    }
    let [_, session] = readme();
    let repository = scene.repository();
    let words = [
        ("kafka1:9092", scene.servers.as_str()),
        ("/var/lib/kafkeep", repository.to_str().unwrap()),
        ("orders.*", "readme.*"),
    ];
    run(
        &replaced(&session, &words),
        "",
        repository.parent().unwrap(),
    );
    assert_eq!(client.read("readme.eu"), client.read("restored.readme.eu"));
}

const TOPICS: [(&str, i32); 2] = [("shop.orders", 2), ("shop.payments", 1)];

/// The logs' ends, which records of a mirror's transactions and their markers make.
fn ends(scene: &Fixture<'_>) -> Vec<(&'static str, i32, i64)> {
    let partitions = TOPICS
        .into_iter()
        .flat_map(|(topic, count)| (0..count).map(move |partition| (topic, partition)));
    partitions
        .map(|(topic, partition)| {
            (
                topic,
                partition,
                scene.client.watermarks(topic, partition).1,
            )
        })
        .collect()
}

#[test]
fn the_runbook_moves_topics_and_groups_to_another_cluster_and_back() {
    let (old, new) = (Fixture::shared(), Fixture::elsewhere());
    for (topic, partitions) in TOPICS {
        old.client.create_topic(topic, partitions, &[]);
        for partition in 0..partitions {
            let codec = Compression::Lz4;
            old.client
                .produce(topic, partition, codec, numbered(0, 500));
        }
    }
    let configuration = old.beside("etc");
    fs::create_dir(&configuration).unwrap();
    let clusters = format!(
        "[clusters.old]\nbootstrap_servers = ['{}']\n[clusters.new]\nbootstrap_servers = ['{}']\n",
        old.servers, new.servers
    );
    fs::write(configuration.join("kafkeep.toml"), clusters).unwrap();
    let before = format!(
        "kafkeep() {{ command kafkeep --config '{}' \"$@\"; }}",
        configuration.display()
    );
    let page = sessions(include_str!("../../docs/migration.md"));
    let [copy, drain, switch, back] = page.as_slice() else {
        panic!("four sessions");
    };
    let act = |session: &Session| run(session, &before, &configuration);
    let group = Group::new(&old.servers, "shop-checkout");
    group.commit("shop.orders", 0, 300, "");
    act(copy);

    // The producers write their last records, and the consumers read all.
    old.client
        .produce("shop.orders", 1, Compression::None, numbered(500, 20));
    for (topic, partition, end) in ends(&old) {
        group.commit(topic, partition, end, "");
    }
    act(drain);
    act(switch);

    // The group has read everything in the new cluster, too, and producers go on there.
    let moved = Group::new(&new.servers, "shop-checkout");
    for (topic, partition, _) in ends(&new) {
        assert_eq!(moved.next(topic, partition), None, "{topic}-{partition}");
    }
    new.client
        .produce("shop.orders", 0, Compression::None, numbered(500, 10));
    act(back);
    let records = old.client.read("shop.orders");
    assert_eq!(records.iter().map(Vec::len).sum::<usize>(), 1030);
    assert_eq!(group.next("shop.orders", 0), Some(b"value-500".to_vec()));
}
