//! A run copies only what is new, and every backup is complete in itself.

use crate::fixture::{Fixture, numbered, values};
use crate::testbed::{Compression, Message, wait_for};

fn texts(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|n| format!("value-{n}")).collect()
}

#[test]
fn every_backup_of_a_chain_is_complete_in_itself() {
    let scene = Fixture::shared();
    scene.client.create_topic("chain", 1, &[]);
    let mut backups = Vec::new();
    for run in 0..5 {
        scene
            .client
            .produce("chain", 0, Compression::Lz4, numbered(run * 100, 100));
        let report = scene.backup("--topic chain");
        assert_eq!(report["new_messages"], 100);
        assert_eq!(report["total_messages"], (run + 1) * 100);
        let sum = report["new_bytes"].as_u64().unwrap() + report["reused_bytes"].as_u64().unwrap();
        assert_eq!(report["total_size_bytes"], sum);
        backups.push(report["backup_id"].as_str().unwrap().to_owned());
    }
    let packs = scene.files("packs");
    assert_eq!(packs.len(), 5);
    let idle = scene.backup("--topic chain");
    assert_eq!(
        (&idle["new_bytes"], &idle["new_messages"]),
        (&0.into(), &0.into())
    );
    assert_eq!(idle["total_messages"], 500);
    assert_eq!(scene.files("packs"), packs, "nothing new is no pack");

    // Without the manifests of the others, and with its source gone, the last one but two still has everything.
    scene.client.delete_topic("chain");
    for other in scene.files("backups") {
        if !other.to_str().unwrap().contains(&backups[2]) {
            std::fs::remove_file(other).unwrap();
        }
    }
    let found = scene.run("verify", "--json").json();
    let findings = found["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{found:#}");
    let advice = format!("--forget-lost {}", backups[1]);
    assert!(findings[0]["problem"].as_str().unwrap().contains(&advice));
    scene.run("expire", &format!("{advice} --json")).done();
    scene.verify();
    scene.restore("latest --rename chain=chain.back");
    assert_eq!(values(&scene.client.read("chain.back")[0]), texts(0..300));
}

#[test]
fn added_partitions_join_the_chain() {
    let scene = Fixture::shared();
    scene.client.create_topic("growing", 1, &[]);
    scene
        .client
        .produce("growing", 0, Compression::None, numbered(0, 10));
    scene.backup("--topic growing");
    scene.client.add_partitions("growing", 3);
    scene
        .client
        .produce("growing", 2, Compression::None, numbered(0, 5));
    let report = scene.backup("--topic growing");
    assert_eq!(
        (&report["new_messages"], &report["total_messages"]),
        (&5.into(), &15.into())
    );
    scene.verify();
    scene.restore("latest --rename growing=growing.back");
    assert_eq!(
        scene.client.read("growing"),
        scene.client.read("growing.back")
    );
}

#[test]
fn partitions_that_are_added_during_a_run_are_in_the_next_backup() {
    let scene = Fixture::shared();
    let client = &scene.client;
    client.create_topic("growing.meanwhile", 2, &[]);
    let value = "x".repeat(1_000);
    for partition in 0..2 {
        let messages = (0..2_000).map(|n| Message::new(format!("{n}"), value.clone()));
        client.produce("growing.meanwhile", partition, Compression::None, messages);
    }
    let arguments = "--json --topic growing.meanwhile --compression none --pack-size 1MiB";
    let outcome = std::thread::scope(|scope| {
        let running =
            scope.spawn(|| scene.run("backup", &format!("{arguments} --rate-limit 1MiB/s")));
        wait_for("the run begins", || !scene.files("runs").is_empty());
        client.add_partitions("growing.meanwhile", 4);
        for partition in 0..4 {
            client.produce(
                "growing.meanwhile",
                partition,
                Compression::None,
                numbered(0, 10),
            );
        }
        assert!(!running.is_finished());
        running.join().unwrap()
    });
    // The bounds were fixed before: what came later is not in it, and nothing says that it were.
    let report = outcome.done();
    assert_eq!(report["total_messages"], 4_000);
    assert_eq!(
        report["topics"][0]["partitions"].as_array().unwrap().len(),
        2
    );
    let plan = scene.plan("latest --rename *={topic}.early");
    assert_eq!(plan["topics"][0]["target_partitions"], 2);

    let report = scene.backup("--topic growing.meanwhile");
    assert_eq!(report["total_messages"], 4_040);
    assert_eq!(report["new_messages"], 40);
    scene.verify();
    scene.restore("latest --rename *={topic}.back");
    assert!(client.read("growing.meanwhile") == client.read("growing.meanwhile.back"));
}

#[test]
fn a_topic_that_was_deleted_and_created_anew_is_another_one() {
    let scene = Fixture::shared();
    scene.client.create_topic("reborn", 1, &[]);
    scene
        .client
        .produce("reborn", 0, Compression::None, numbered(0, 50));
    let first = scene.backup("--topic reborn");
    scene.client.delete_topic("reborn");
    scene.client.create_topic("reborn", 1, &[]);
    scene
        .client
        .produce("reborn", 0, Compression::None, numbered(1000, 80));
    let second = scene.backup("--topic reborn");
    assert_ne!(
        first["topics"][0]["topic_id"],
        second["topics"][0]["topic_id"]
    );
    assert_eq!(second["reused_bytes"], 0);
    assert_eq!(second["total_messages"], 80);
    scene.verify();
    let said = second["warnings"].to_string();
    assert!(
        said.contains("reborn") && said.contains("created anew"),
        "{said}"
    );

    let first = first["backup_id"].as_str().unwrap();
    scene.restore(&format!("{first} --rename reborn=reborn.first"));
    scene.restore("latest --rename reborn=reborn.second");
    assert_eq!(values(&scene.client.read("reborn.first")[0]), texts(0..50));
    assert_eq!(
        values(&scene.client.read("reborn.second")[0]),
        texts(1000..1080)
    );
}

#[test]
fn records_deleted_before_they_were_backed_up_are_a_gap_and_not_a_clean_success() {
    let scene = Fixture::shared();
    scene.client.create_topic("gappy", 1, &[]);
    scene
        .client
        .produce("gappy", 0, Compression::None, numbered(0, 30));
    scene.backup("--topic gappy");
    scene
        .client
        .produce("gappy", 0, Compression::None, numbered(30, 30));
    scene.client.delete_records("gappy", 0, 45);
    let outcome = scene.run("backup", "--topic gappy --json");
    assert_eq!(outcome.code, 2, "{outcome}");
    let report = outcome.json();
    assert_eq!(report["status"], "incomplete");
    let partition = &report["topics"][0]["partitions"][0];
    assert_eq!(partition["gaps"][0]["start_offset"], 30);
    assert_eq!(partition["gaps"][0]["end_offset"], 45);
    assert!(
        partition["gaps"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("deleted")
    );
    assert_eq!(report["new_messages"], 15);
    scene.verify();
    assert_eq!(
        scene.run("list", "--json").done()["backups"][0]["status"],
        "incomplete"
    );
    let shown = scene.run("show", "latest");
    assert!(
        shown.stdout.contains("gap: gappy-0 offsets 30 to 44"),
        "{shown}"
    );

    // What earlier backups hold is not lost with them; the gap is told before a restore, too.
    let plan = scene.plan("latest --rename gappy=gappy.back");
    assert!(
        plan["topics"][0]["notes"].to_string().contains("30 to 44"),
        "{plan:#}"
    );
    scene
        .client
        .produce("gappy", 0, Compression::None, numbered(60, 1));
    let third = scene.backup("--topic gappy");
    assert_eq!(third["status"], "completed");
    assert_eq!(third["new_messages"], 1);
}

#[test]
fn a_log_whose_start_has_moved_is_backed_up_from_there_without_copying_anew() {
    let scene = Fixture::shared();
    scene.client.create_topic("sliding", 1, &[]);
    scene
        .client
        .produce("sliding", 0, Compression::Zstd, numbered(0, 100));
    let first = scene.backup("--topic sliding");
    scene.client.delete_records("sliding", 0, 37);
    scene
        .client
        .produce("sliding", 0, Compression::Zstd, numbered(100, 10));
    let second = scene.backup("--topic sliding");
    assert_eq!(second["new_messages"], 10);
    assert_eq!(second["total_messages"], 73);
    assert_eq!(second["topics"][0]["partitions"][0]["start_offset"], 37);
    scene.verify();
    scene.restore("latest --rename sliding=sliding.second");
    assert_eq!(
        values(&scene.client.read("sliding.second")[0]),
        texts(37..110)
    );
    let first = first["backup_id"].as_str().unwrap();
    scene.restore(&format!("{first} --rename sliding=sliding.first"));
    assert_eq!(
        values(&scene.client.read("sliding.first")[0]),
        texts(0..100)
    );
}

#[test]
fn several_topics_may_be_backed_up_by_turns_into_one_repository() {
    let scene = Fixture::shared();
    for topic in ["turns.a", "turns.b"] {
        scene.client.create_topic(topic, 1, &[]);
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(0, 20));
    }
    scene.backup("--topic turns.a");
    scene.backup("--topic turns.b");
    let both = scene.backup("--topic turns.*");
    assert_eq!(both["new_messages"], 0);
    assert_eq!(both["total_messages"], 40);
}
