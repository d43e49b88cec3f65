//! Old backups go, and what only they needed; the rest stays whole.

use std::time::Duration;

use crate::fixture::{Fixture, assert_same_records, entry, numbered};
use crate::testbed::Compression;

#[test]
fn what_no_rule_keeps_goes_with_its_packs_and_the_rest_verifies_and_restores() {
    let scene = Fixture::shared();
    let client = &scene.client;
    for topic in ["aging", "passing"] {
        client.create_topic(topic, 1, &[]);
        client.produce(topic, 0, Compression::None, numbered(0, 2000));
    }
    // Two chains: what only the second holds can go with it.
    scene.backup("--topic aging");
    scene.backup("--topic passing");
    client.produce("aging", 0, Compression::None, numbered(2000, 10));
    let newest = scene.backup("--topic aging");
    let packs = scene.files("packs").len();

    let planned = scene.run("expire", "--keep-last 1 --dry-run");
    assert_eq!(planned.code, 0, "{planned}");
    for text in [
        "last 1, min_backups 1",
        "no rule keeps it",
        "would remove 2 backup(s) and 1 pack(s)",
    ] {
        assert!(planned.stdout.contains(text), "{text:?}: {planned}");
    }
    assert_eq!(scene.files("packs").len(), packs);
    assert_eq!(scene.files("backups").len(), 3);

    let report = scene.run("expire", "--keep-last 1 --json").done();
    assert_eq!(
        (&report["removed_backups"], &report["removed_packs"]),
        (&2.into(), &1.into())
    );
    assert!(report["freed_bytes"].as_u64().unwrap() > 5000, "{report}");
    let backups = &report["groups"][0]["backups"];
    assert_eq!(
        entry(backups, "backup_id", newest["backup_id"].clone())["kept"],
        true
    );
    assert_eq!(scene.files("packs").len(), packs - 1);
    assert_eq!(scene.files("backups").len(), 1);
    assert!(scene.files("locks").is_empty());
    scene.verify();
    scene.restore("latest --rename aging=aging.back");
    assert_same_records(
        &client.read("aging"),
        &client.read("aging.back"),
        "aging.back",
    );
    // One complete backup always stays, be it larger than there is to be.
    for more in ["--dry-run", ""] {
        let full = scene.run("expire", &format!("--max-size 1KiB {more}"));
        assert_eq!(full.code, 2, "{full}");
        assert!(full.stdout.contains("max_size cannot be reached"), "{full}");
    }
    // The chain goes on from what is left.
    let next = scene.backup("--topic aging");
    assert_eq!(next["new_messages"], 0);
}

#[test]
fn nothing_is_removed_while_a_backup_runs_or_when_a_manifest_cannot_be_read() {
    let scene = Fixture::shared();
    scene.client.create_topic("expire.busy", 1, &[]);
    scene
        .client
        .produce("expire.busy", 0, Compression::None, numbered(0, 2000));
    scene.backup("--topic expire.busy");
    scene.backup("--topic expire.busy");
    let mut run = scene.start(
        "backup",
        "--topic expire.busy --no-keys --rate-limit 10KiB/s",
    );
    while scene.files("locks").is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    scene
        .run("expire", "--keep-last 1")
        .refused(75, &["backup is running as process"]);
    run.kill().unwrap();
    run.wait().unwrap();

    let oldest = scene.files("backups").remove(0);
    let text = std::fs::read_to_string(&oldest).unwrap();
    std::fs::write(&oldest, text.replace("expire.busy", "expire.bu5y")).unwrap();
    scene.run("expire", "--keep-last 1").refused(
        1,
        &[
            "nothing is removed",
            "what backup",
            "needs cannot be known",
            "beyond repair",
        ],
    );
    assert_eq!(scene.files("backups").len(), 2);
    std::fs::remove_file(&oldest).unwrap();
    let id = oldest.file_stem().unwrap().to_str().unwrap();
    scene
        .run("expire", &format!("--forget-lost {id} --json"))
        .done();
    // The lock of the killed backup is known to be nobody's.
    scene.run("expire", "--keep-last 1 --json").done();
    scene.verify();
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let scene = Fixture::shared();
    scene.client.create_topic("ruled", 1, &[]);
    scene.backup("--topic ruled");
    scene
        .run("expire", "")
        .refused(64, &["no rule says which backups to keep"]);
    scene
        .run("expire", "--keep-daily 0")
        .refused(64, &["keep nothing"]);
    scene
        .run("expire", "--keep-last 1 --min-backups 0")
        .refused(64, &["never given up"]);
}
