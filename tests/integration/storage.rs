//! The disk below a repository fills up, or takes no writes.

use std::process::Command;

use crate::fixture::{Fixture, numbered, values};
use crate::testbed::{Compression, Message, Outcome};

/// Runs a shell script in a mount namespace of its own, with `$KAFKEEP`, `$BROKER`, and `$PLACE` to mount on.
fn with_mounts(scene: &Fixture<'_>, script: &str) -> Outcome {
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| {
        use std::os::unix::fs::MetadataExt;
        process.uid() == 0
    });
    let place = scene.beside("mounted");
    std::fs::create_dir_all(&place).unwrap();
    let output = Command::new("unshare")
        .args(if root { &["-m"][..] } else { &["-r", "-m"] })
        .args(["sh", "-c", script])
        .env("KAFKEEP", env!("CARGO_BIN_EXE_kafkeep"))
        .env("BROKER", scene.broker.address())
        .env("PLACE", place)
        .env("REPOSITORY", scene.repository())
        .env_remove("RUST_LOG")
        .output()
        .expect("unshare, of util-linux");
    Outcome::of(output)
}

#[test]
fn a_full_disk_is_said_and_the_next_run_works_when_there_is_space() {
    let scene = Fixture::shared();
    scene.client.create_topic("full", 1, &[]);
    scene
        .client
        .produce("full", 0, Compression::None, numbered(0, 10));
    let noise = |n: u32| -> Vec<u8> {
        (0..20_000_u32)
            .map(|i| ((i ^ n).wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    };
    let script = r#"
        mount -t tmpfs -o size=6m tmpfs "$PLACE" || exit 99
        kafkeep() { "$KAFKEEP" "$@" --repository "$PLACE/repository"; }
        backup() { kafkeep backup --bootstrap-servers "$BROKER" --topic "$1" --compression none --pack-size 1MiB; }
        backup full || exit 98
        backup full.large 2>"$PLACE/../error"
        echo "code $?"
        cat "$PLACE/../error" >&2
        kafkeep verify && echo sound
        find "$PLACE/repository/.tmp" "$PLACE/repository/locks" "$PLACE/repository/runs" -type f
        echo "packs $(find "$PLACE/repository/packs" -type f | wc -l)"
        kafkeep list --json | grep -c '"backup_id"'
        backup full || exit 96
        # Not a byte is left: a backup cannot even be begun, and what is there can be read.
        cat /dev/zero >"$PLACE/filler" 2>/dev/null
        backup full 2>"$PLACE/../error"
        echo "again $?"
        cat "$PLACE/../error" >&2
        kafkeep verify && echo "still sound"
        kafkeep restore latest --bootstrap-servers "$BROKER" --rename full=full.back || exit 97
        # Only backups that are expired make room now.
        kafkeep expire --keep-last 1 2>"$PLACE/../error"
        echo "expired $?"
        cat "$PLACE/../error" >&2
        kafkeep verify && echo "sound and expired"
        rm "$PLACE/filler"
        mount -o remount,size=64m "$PLACE"
        backup full.large && kafkeep verify && echo "sound again"
    "#;
    scene.client.create_topic("full.large", 1, &[]);
    let large = (0..500).map(|n| Message::new("k", noise(n)));
    scene
        .client
        .produce("full.large", 0, Compression::None, large);
    let outcome = with_mounts(&scene, script);
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(outcome.stdout.contains("code 1\n"), "{outcome}");
    let said = "no space left in";
    assert!(
        outcome.stderr.contains(said) && outcome.stderr.contains("free some space"),
        "{outcome}"
    );
    assert!(
        outcome.stdout.contains("\nsound\npacks 1\n1\n"),
        "leftovers, or damage: {outcome}"
    );
    for text in [
        "again 1\n",
        "still sound\n",
        "expired 0\n",
        "sound and expired\n",
        "sound again\n",
    ] {
        assert!(
            outcome.stdout.contains(text),
            "{text:?} is not in {outcome}"
        );
    }
    assert_eq!(values(&scene.client.read("full.back")[0]).len(), 10);
}

#[test]
fn a_read_only_repository_is_read_and_not_written_to() {
    let scene = Fixture::shared();
    scene.client.create_topic("readonly", 1, &[]);
    scene
        .client
        .produce("readonly", 0, Compression::Gzip, numbered(0, 10));
    scene.backup("--topic readonly");
    let script = r#"
        mount --bind -o ro "$REPOSITORY" "$PLACE" && mount -o remount,bind,ro "$PLACE" || exit 99
        kafkeep() { "$KAFKEEP" "$@" --repository "$PLACE"; }
        kafkeep backup --bootstrap-servers "$BROKER" --topic readonly
        echo "backup $?"
        kafkeep list; echo "list $?"
        kafkeep show latest; echo "show $?"
        kafkeep verify; echo "verify $?"
        kafkeep restore latest --bootstrap-servers "$BROKER" --rename readonly=readonly.back
        echo "restore $?"
    "#;
    let outcome = with_mounts(&scene, script);
    for text in [
        "backup 1\n",
        "list 0\n",
        "show 0\n",
        "verify 0\n",
        "restore 0\n",
    ] {
        assert!(
            outcome.stdout.contains(text),
            "{text:?} is not in {outcome}"
        );
    }
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{outcome}"
    );
    assert_eq!(
        scene.client.read("readonly"),
        scene.client.read("readonly.back")
    );
    scene.verify();
}

/// Runs the command where it may have only so many files open.
fn with_descriptors(scene: &Fixture<'_>, limit: u32, arguments: &str) -> Outcome {
    let script = format!("ulimit -n {limit} && exec \"$KAFKEEP\" {arguments}");
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("KAFKEEP", env!("CARGO_BIN_EXE_kafkeep"))
        .env("BROKER", scene.broker.address())
        .env("REPOSITORY", scene.repository())
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    Outcome::of(output)
}

const DESCRIPTORS_USED_UP: [&str; 2] = ["Too many open files", "raise the limit (ulimit -n"];

#[test]
fn too_few_descriptors_are_said_and_a_few_are_enough_for_any_number_of_partitions() {
    let scene = Fixture::shared();
    scene.client.create_topic("descriptors", 100, &[]);
    let to_each = (0..100).map(|partition| (partition, Message::new("k", "v")));
    scene.client.produce_to_each("descriptors", to_each);
    scene.backup("--topic descriptors");
    let cluster = "--bootstrap-servers \"$BROKER\" --deadline 20";
    let verbs = [
        format!("backup {cluster} --topic descriptors"),
        "list".to_owned(),
        "show latest".to_owned(),
        "verify".to_owned(),
        format!("restore latest {cluster} --rename descriptors=descriptors.LIMIT"),
        "export latest --topic descriptors --format jsonl --out \"$REPOSITORY.LIMIT\"".to_owned(),
    ];
    let run = |verb: &str, limit: u32| {
        let verb = verb.replace("LIMIT", &limit.to_string());
        with_descriptors(
            &scene,
            limit,
            &format!("{verb} --repository \"$REPOSITORY\""),
        )
    };
    // A handful for the process, and some for each core's thread.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let enough = 16 + 8 * u32::try_from(cores).unwrap();
    for verb in &verbs {
        let mut refused = 0;
        for limit in (8..20).chain([enough]) {
            let outcome = run(verb, limit);
            if outcome.code != 0 {
                assert!(limit < enough, "{limit} are too few: {outcome}");
                outcome.refused(1, &DESCRIPTORS_USED_UP);
                assert!(
                    outcome
                        .stderr
                        .contains(&format!("may have {limit} files open")),
                    "{outcome}"
                );
                refused += 1;
            }
        }
        assert!(refused > 4, "{verb} was refused {refused} times only");
    }
    scene.verify();
    let restored = scene.client.read(&format!("descriptors.{enough}"));
    assert_eq!(scene.client.read("descriptors"), restored);
}
