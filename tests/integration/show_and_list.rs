//! What a repository tells of its backups.

use crate::fixture::{Fixture, numbered};
use crate::testbed::Compression;

#[test]
fn backups_are_listed_newest_first_by_cluster_and_by_topic() {
    let scene = Fixture::shared();
    for topic in ["listed.a", "listed.b"] {
        scene.client.create_topic(topic, 2, &[]);
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(0, 1200));
    }
    let a = scene.backup("--topic listed.a")["backup_id"].clone();
    let b = scene.backup("--topic listed.b --partition 0")["backup_id"].clone();
    let both = scene.backup("--topic listed.*");
    let cluster = both["cluster_id"].as_str().unwrap();
    let listed = |arguments: &str| -> Vec<serde_json::Value> {
        let listing = scene.run("list", &format!("--json {arguments}")).done();
        let backups = listing["backups"].as_array().unwrap();
        backups
            .iter()
            .map(|backup| backup["backup_id"].clone())
            .collect()
    };
    let both = both["backup_id"].clone();
    assert_eq!(listed(""), [both.clone(), b.clone(), a.clone()]);
    assert_eq!(listed("--topic listed.a"), [both.clone(), a.clone()]);
    assert_eq!(
        listed(&format!("--cluster {cluster} --topic *.b")),
        [both, b]
    );

    let told = scene.run("list", "");
    assert_eq!(told.code, 0, "{told}");
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    assert!(lines[0].starts_with("BACKUP"), "{told}");
    assert!(
        lines[1].contains("completed") && lines[1].contains("2 400"),
        "{told}"
    );
    assert!(lines[2].contains("completed (one-off)"), "{told}");
    assert!(
        lines.iter().all(|line| line.trim_end().len() == line.len()),
        "{told:?}",
        told = told.stdout
    );
    scene
        .run("list", "--cluster another")
        .refused(1, &["no backup is of cluster `another`", cluster]);
}

/// A configuration that gives the shared cluster this name.
fn named(scene: &Fixture, name: &str) -> String {
    let directory = scene.beside(name);
    std::fs::create_dir_all(&directory).unwrap();
    let servers = &scene.servers;
    let file = format!("[clusters.{name}]\nbootstrap_servers = [\"{servers}\"]\n");
    std::fs::write(directory.join("kafkeep.toml"), file).unwrap();
    directory.display().to_string()
}

#[test]
fn every_verb_chooses_backups_by_policy_cluster_and_topic() {
    let scene = Fixture::shared();
    for topic in ["chosen.a", "chosen.b"] {
        scene.client.create_topic(topic, 1, &[]);
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(0, 10));
    }
    let config = named(&scene, "prod");
    let repository = scene.repository().display().to_string();
    let backup = |topic: &str| {
        let arguments = format!(
            "backup --json --config {config} --cluster prod --repository {repository} --topic {topic}"
        );
        scene
            .kafkeep(arguments.split(' ').map(str::to_owned).collect())
            .done()
    };
    let (a, b) = (backup("chosen.a"), backup("chosen.b"));
    let id = |report: &serde_json::Value| report["backup_id"].as_str().unwrap().to_owned();

    let listed = scene
        .run("list", "--json --cluster prod --topic chosen.a")
        .done();
    assert_eq!(listed["backups"][0]["backup_id"], a["backup_id"]);
    assert_eq!(listed["backups"][0]["cluster_name"], "prod");
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1);
    let shown = scene
        .run("show", "latest --json --policy - --cluster prod")
        .done();
    assert_eq!(shown["backup_id"], b["backup_id"]);
    assert_eq!(shown["cluster_name"], "prod");
    let verified = scene.run("verify", "--json --topic chosen.a").done();
    assert_eq!(verified["backups"], 1);
    let expiry = scene
        .run("expire", "--json --dry-run --keep-last 1 --topic chosen.a")
        .done();
    let decided = expiry["groups"][0]["backups"].as_array().unwrap();
    assert_eq!(decided.len(), 1, "{expiry}");
    assert_eq!(decided[0]["backup_id"], a["backup_id"]);

    // The newest one is of another topic: it is said which backup has it.
    let out = scene.beside("out").display().to_string();
    for (verb, more) in [
        ("restore", "--rename *={topic}.back".to_owned()),
        ("export", format!("--out {out}")),
        ("show", String::new()),
    ] {
        let outcome = scene.run(verb, &format!("latest --topic chosen.a {more}"));
        let other = format!("backup {} of no policy", id(&a));
        outcome.refused(1, &["no topic `chosen.a` in backup", &other]);
    }
    for verb in ["list", "verify"] {
        let none = scene.run(verb, "--policy hourly");
        none.refused(1, &["no backup is of policy `hourly`"]);
    }
    let other = scene.run("show", &format!("{} --topic chosen.b", id(&a)));
    other.refused(1, &["holds topics chosen.a"]);
}

#[test]
fn a_restore_without_a_target_says_how_to_give_one() {
    let scene = Fixture::shared();
    let repository = scene.repository().display().to_string();
    let arguments = [
        "restore",
        "--repository",
        &repository,
        "latest",
        "--cluster",
        "prod",
    ];
    let outcome = scene.kafkeep(arguments.map(str::to_owned).to_vec());
    outcome.refused(64, &["no target: give --to NAME, or --bootstrap-servers"]);
}

#[test]
fn a_backup_is_shown_with_its_bounds() {
    let scene = Fixture::shared();
    scene
        .client
        .create_topic("shown", 2, &[("cleanup.policy", "compact")]);
    scene
        .client
        .produce("shown", 1, Compression::Zstd, numbered(0, 25));
    let report = scene.backup("--topic shown");
    let shown = scene.run("show", "latest --json").done();
    assert_eq!(shown["backup_id"], report["backup_id"]);
    let totals = &shown["totals"];
    assert!(totals["new_stored_bytes"].as_u64().unwrap() > 0);
    assert_eq!(totals["new_stored_bytes"], totals["stored_bytes"]);
    let partition = &shown["topics"][0]["partitions"][1];
    assert_eq!(
        (&partition["start_offset"], &partition["end_offset"]),
        (&0.into(), &25.into())
    );
    let told = scene.run("show", "latest");
    assert_eq!(told.code, 0, "{told}");
    for text in [
        "completed",
        "PARTITION",
        "LAST STABLE",
        "25 records",
        "shown: cleanup.policy=compact",
    ] {
        assert!(told.stdout.contains(text), "{text:?} is not in {told}");
    }
}

#[test]
fn the_report_of_a_backup_has_what_scripts_rely_on() {
    let scene = Fixture::shared();
    scene.client.create_topic("reported", 1, &[]);
    scene
        .client
        .produce("reported", 0, Compression::Lz4, numbered(0, 25));
    let report = scene.backup("--topic reported");
    for name in [
        "backup_id",
        "status",
        "cluster_id",
        "started_at",
        "duration_ms",
        "total_messages",
        "total_size_bytes",
        "compressed_size_bytes",
        "compression_ratio",
        "new_bytes",
        "reused_bytes",
    ] {
        assert!(!report[name].is_null(), "{name} is not in {report:#}");
    }
    for name in [
        "partition",
        "start_offset",
        "end_offset",
        "last_stable_offset",
        "records",
        "bytes",
        "gaps",
    ] {
        let partition = &report["topics"][0]["partitions"][0];
        assert!(!partition[name].is_null(), "{name} is not in {partition:#}");
    }
    assert!(!report["topics"][0]["topic_id"].is_null());
    let restored = scene.restore("latest --rename reported=reported.back");
    for name in [
        "backup_id",
        "topics",
        "offsets",
        "groups",
        "checksum_validated",
    ] {
        assert!(!restored[name].is_null(), "{name} is not in {restored:#}");
    }
    for name in ["partition", "records", "start_offset", "end_offset"] {
        assert!(
            !restored["topics"][0]["partitions"][0][name].is_null(),
            "{name}"
        );
    }
    for name in ["aborted", "open", "control", "cut"] {
        assert!(!restored["topics"][0]["skipped"][name].is_null(), "{name}");
    }
    let told = scene.run("backup", "--topic reported");
    assert!(
        told.stdout.contains("TOPIC") && told.stdout.contains("25 records"),
        "{told}"
    );
    assert_eq!(told.stderr, "", "no progress where nobody watches");
}

#[test]
fn a_backup_is_shown_though_some_of_its_states_are_damaged() {
    let scene = Fixture::shared();
    for (topic, retention) in [("stated.a", "1000000"), ("stated.b", "2000000")] {
        let settings = [("retention.ms", retention)];
        scene.client.create_topic(topic, 1, &settings);
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(0, 5));
    }
    scene.backup("--topic stated.*");
    let shown = scene.run("show", "latest --json").done();
    let state = shown["topics"][0]["configuration"].as_str().unwrap();
    let path = format!("states/{state}.json.zst");
    std::fs::write(scene.repository().join(path), b"damaged").unwrap();
    let outcome = scene.run("show", "latest --json");
    assert_eq!(outcome.code, 2, "{outcome}");
    let partly = outcome.json();
    assert_eq!(partly["topics"], shown["topics"]);
    let configurations = partly["configurations"].as_object().unwrap();
    assert_eq!(configurations.keys().collect::<Vec<_>>(), ["stated.b"]);
    assert_eq!(
        (
            &partly["damaged"][0]["topic"],
            &partly["damaged"][0]["state"]
        ),
        (&"stated.a".into(), &state.into())
    );
    let told = scene.run("show", "latest");
    assert_eq!(told.code, 2, "{told}");
    for said in [
        "damaged: the settings of topic stated.a: states/",
        "stated.b: retention.ms=2000000",
    ] {
        assert!(told.stdout.contains(said), "{said:?} is not in {told}");
    }
}
