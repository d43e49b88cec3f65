//! What `restore --dry-run` says, and that saying it changes nothing.

use std::sync::Arc;

use kafkeep::engine::NoProgress;
use kafkeep::engine::renames::Renames;
use kafkeep::engine::restore::{self, RestoreOptions};
use kafkeep::kafka::Retry;
use kafkeep::repository::{DirectoryStorage, Repository};

use crate::fixture::{Fixture, entry, numbered};
use crate::testbed::{Compression, TransactionEnd};

#[test]
fn a_dry_run_tells_the_plan_and_changes_nothing() {
    let scene = Fixture::shared();
    scene.client.create_topic(
        "plan.a",
        2,
        &[("cleanup.policy", "compact"), ("segment.ms", "9999")],
    );
    scene
        .client
        .create_topic("plan.b", 1, &[("retention.ms", "5000000")]);
    scene
        .client
        .produce("plan.a", 0, Compression::Gzip, numbered(0, 30));
    scene
        .client
        .produce("plan.b", 0, Compression::None, numbered(0, 12));
    scene.backup("--topic plan.*");
    let mut before = scene.client.topics();
    let plan = scene.plan("latest --rename *=dry.{topic}");

    let a = entry(&plan["topics"], "topic", "plan.a");
    assert_eq!(a["target_topic"], "dry.plan.a");
    assert_eq!(a["target_partitions"], 2);
    let create = &a["action"]["create"];
    assert_eq!(create["replication_factor"], 1);
    assert_eq!(create["configuration"]["cleanup.policy"], "delete");
    assert_eq!(create["afterwards"]["cleanup.policy"], "compact");
    assert_eq!(create["afterwards"]["segment.ms"], "9999");
    assert_eq!(a["partitions"][0]["records"], 30);
    assert!(a["partitions"][0]["bytes"].as_u64().unwrap() > 0);
    let b = entry(&plan["topics"], "topic", "plan.b");
    assert!(
        b["notes"]
            .to_string()
            .contains("retention.ms stays -1 instead of the source's 5000000")
    );
    assert_eq!(plan["refused"], serde_json::json!([]));

    let told = scene.run(
        "restore",
        "latest --dry-run --rename *=dry.{topic} --until 2100-01-01T00:00:00Z --partition 0",
    );
    assert_eq!(told.code, 0, "{told}");
    for text in [
        "dry.plan.a",
        "create, 1 replica(s)",
        "set cleanup.policy=delete, then compact",
        "set segment.ms=9223372036854775807, then 9999",
        "up to 42 records",
        "nothing was changed",
        "skip records from 2100-01-01",
        "not chosen: partition(s) 1",
    ] {
        assert!(told.stdout.contains(text), "{text:?} is not in {told}");
    }
    let mut after = scene.client.topics();
    before.retain(|topic| topic.contains("plan."));
    after.retain(|topic| topic.contains("plan."));
    before.sort();
    after.sort();
    assert_eq!(before, after);
    assert_eq!(scene.files("locks"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_dry_run_tells_everything_that_would_be_refused_at_once() {
    let scene = Fixture::shared();
    scene.client.create_topic("no.a", 2, &[]);
    scene.client.create_topic("no.b", 2, &[]);
    scene.backup("--topic no.*");
    let outcome = scene.run(
        "restore",
        "latest --dry-run --json --replication-factor 3 --rename no.b=no.c --partition 7",
    );
    assert_eq!(outcome.code, 1, "{outcome}");
    let refused = outcome.json()["refused"].to_string();
    for text in [
        "topic no.a exists in the target",
        "--rename",
        "--if-exists append",
        "topic no.c wants 3 replicas, the target has 1 broker",
        "--replication-factor 1",
        "the backup of topic no.a has no partition 7",
    ] {
        assert!(refused.contains(text), "{text:?} is not in {refused}");
    }
    let told = scene.run(
        "restore",
        "latest --dry-run --replication-factor 3 --rename no.b=no.c --partition 7",
    );
    assert_eq!(told.code, 1);
    assert!(told.stdout.contains("refused: topic no.a exists"), "{told}");
    let tried = scene.run(
        "restore",
        "latest --replication-factor 3 --rename no.b=no.c --partition 7",
    );
    tried.refused(1, &["topic no.a exists", "topic no.c wants 3 replicas"]);
    assert!(!scene.client.topics().contains(&"no.c".to_owned()));
}

#[test]
fn a_rename_that_matches_nothing_is_refused_and_one_without_a_pattern_is_for_all() {
    let scene = Fixture::shared();
    scene.client.create_topic("named.a", 1, &[]);
    scene.backup("--topic named.a");
    let slip = "latest --rename named.b=named.c --rename {topic}.back";
    let planned = scene.run("restore", &format!("{slip} --dry-run"));
    assert_eq!(planned.code, 1, "{planned}");
    let said = "rename `named.b=named.c` matches none of the topics that are restored";
    assert!(planned.stdout.contains(said), "{planned}");
    scene.run("restore", slip).refused(1, &[said]);
    let plan = scene.plan("latest --rename {topic}.back");
    assert_eq!(plan["topics"][0]["target_topic"], "named.a.back");
}

#[test]
fn names_that_the_target_cannot_have_are_refused_before_anything_is_created() {
    let scene = Fixture::shared();
    scene.client.create_topic("clash.one", 1, &[]);
    scene.client.create_topic("clash.two", 1, &[]);
    scene.backup("--topic clash.*");
    scene
        .run("restore", "latest --rename clash.*=merged")
        .refused(
            1,
            &[
                "topics clash.one, clash.two would all become merged",
                "change --rename",
            ],
        );
    // `.` and `_` are the same in Kafka's metrics, so brokers refuse names that differ in them alone.
    scene
        .run(
            "restore",
            "latest --topic clash.one --rename clash.one=clash_two",
        )
        .refused(1, &["topic clash_two cannot be created", "collides"]);
    let long = "x".repeat(250);
    scene
        .run(
            "restore",
            &format!("latest --topic clash.one --rename clash.one={long}"),
        )
        .refused(1, &["cannot be created"]);
    let topics = scene.client.topics();
    assert!(
        !topics
            .iter()
            .any(|topic| topic == "merged" || topic == "clash_two")
    );
}

#[test]
fn offsets_are_kept_exactly_or_refused_before_anything_is_created() {
    let scene = Fixture::shared();
    scene.client.create_topic("exact", 2, &[]);
    scene
        .client
        .produce("exact", 0, Compression::Lz4, numbered(0, 50));
    scene.backup("--topic exact");
    let report = scene.restore("latest --rename exact=exact.back --offsets exact");
    assert_eq!(report["offsets"], "exact");
    assert_eq!(scene.client.read("exact.back"), scene.client.read("exact"));
    let report = scene.restore("latest --rename exact=exact.mapped");
    assert_eq!(report["offsets"], "mapped");
    // A log that begins later, and one with markers of transactions.
    scene.client.delete_records("exact", 0, 10);
    let end = TransactionEnd::Commit;
    scene.client.create_topic("exact.txn", 1, &[]);
    let records = numbered(0, 3);
    scene
        .client
        .transaction("exact.txn", "exact.txn", records, end);
    scene
        .run(
            "backup",
            "--json --topic exact --topic exact.txn --start-offset earliest",
        )
        .done();
    scene
        .run(
            "restore",
            "latest --rename exact*=back.{topic} --offsets exact",
        )
        .refused(
            1,
            &[
                "offsets of exact-0 cannot be kept: the backup begins at offset 10",
                "offsets of exact.txn-0 cannot be kept: 1 of them are transaction markers",
            ],
        );
    assert!(!scene.client.topics().contains(&"back.exact".to_owned()));
}

#[test]
fn a_backup_that_is_removed_after_the_plan_is_told_before_anything_is_created() {
    let scene = Fixture::shared();
    let client = &scene.client;
    client.create_topic("removed.plan", 1, &[]);
    client.produce("removed.plan", 0, Compression::None, numbered(0, 10));
    scene.backup("--topic removed.plan");
    let refused = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let storage = DirectoryStorage::open(&scene.repository()).unwrap();
        let repository = Arc::new(Repository::open(Arc::new(storage)).unwrap());
        let servers = scene.servers.split(',').map(str::to_owned).collect();
        let cluster = kafkeep::kafka::Cluster::new(servers);
        let client = kafkeep::kafka::Client::connect(cluster, Retry::default());
        let client = client.await.unwrap();
        let options = RestoreOptions {
            renames: Renames::new(vec!["*={topic}.again".parse().unwrap()]),
            ..RestoreOptions::default()
        };
        let backup_id = repository.backup_ids().unwrap()[0];
        let plan = restore::plan(&client, Arc::clone(&repository), &backup_id, &options);
        let plan = plan.await.unwrap();
        std::fs::remove_file(&scene.files("backups")[0]).unwrap();
        let progress = Arc::new(NoProgress);
        let applied = restore::apply(&client, repository, plan, &options, progress);
        applied.await.unwrap_err().to_string()
    });
    assert!(refused.contains("was removed meanwhile"), "{refused}");
    assert!(!client.topics().contains(&"removed.plan.again".to_owned()));
}

#[test]
fn no_topic_is_restored_into_one_of_kafkas_own() {
    let scene = Fixture::shared();
    scene.client.create_topic("intern.a", 1, &[]);
    scene.backup("--topic intern.a");
    for name in ["__share_group_state", "__consumer_offsets"] {
        let arguments = format!("latest --rename intern.a={name}");
        let said = format!("topic {name} is one of Kafka's internal topics");
        scene
            .run("restore", &arguments)
            .refused(1, &[said.as_str()]);
    }
    let topics = scene.client.topics();
    assert!(!topics.contains(&"__share_group_state".to_owned()));
}
