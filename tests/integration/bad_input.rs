//! What cannot be done is said clearly, with what to do instead, and leaves nothing half done.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::fixture::{Fixture, hex, numbered};
use crate::kafkeep;
use crate::testbed::{Compression, Outcome};

/// A backup with these arguments alone.
fn backup(arguments: &str) -> Outcome {
    kafkeep(std::iter::once("backup").chain(arguments.split_whitespace()))
}

#[test]
fn a_cluster_that_cannot_be_reached_is_given_up_within_the_deadline() {
    let scene = Fixture::shared();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = free.local_addr().unwrap();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (address, said) in [
        (closed.to_string(), "Connection refused"),
        // It accepts, and never answers.
        (mute.to_string(), "did not answer within 3 s"),
    ] {
        let clock = Instant::now();
        let outcome = scene.run(
            "backup",
            &format!("--topic t --deadline 3 --bootstrap-servers {address}"),
        );
        outcome.refused(75, &[said]);
        assert!(
            clock.elapsed() < Duration::from_secs(6),
            "{address} took {:?}",
            clock.elapsed()
        );
        assert!(!scene.repository().exists(), "nothing is begun");
    }
    let json = scene.run(
        "backup",
        &format!("--json --topic t --deadline 1 --bootstrap-servers {closed}"),
    );
    assert_eq!(json.code, 75);
    let report = json.json();
    assert_eq!(
        (&report["status"], &report["exit_code"]),
        (&"failed".into(), &75.into())
    );
}

#[test]
fn what_is_not_kafka_is_said_to_be_something_else() {
    let scene = Fixture::shared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::Write;
            stream
                .unwrap()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .ok();
        }
    });
    let outcome = scene.run(
        "backup",
        &format!("--topic t --deadline 2 --bootstrap-servers {address}"),
    );
    assert!([1, 75].contains(&outcome.code), "{outcome}");
    assert!(outcome.stderr.contains(&address.to_string()), "{outcome}");
    assert!(!scene.repository().exists(), "nothing is begun");
}

#[test]
fn a_topic_that_does_not_exist_fails_the_run() {
    let scene = Fixture::shared();
    scene.client.create_topic("existing", 1, &[]);
    scene.run("backup", "--topic existin").refused(
        1,
        &["no topic `existin` in cluster", "did you mean `existing`?"],
    );
    scene
        .run("backup", "--topic existing --topic missing.*")
        .refused(
            1,
            &["pattern `missing.*` matches no topic", "--allow-empty"],
        );
    assert_eq!(scene.files("backups").len(), 0);
    let report = scene.backup("--topic existing --topic missing.* --allow-empty");
    assert_eq!(report["topics"].as_array().unwrap().len(), 1);
    let empty = scene.backup("--topic missing.* --allow-empty");
    assert_eq!(empty["topics"], serde_json::json!([]));
    scene.verify();

    scene
        .run("backup", "--topic existing --partition 5")
        .refused(1, &["topic existing has no partition 5; it has 1"]);
    scene
        .run("restore", "latest --topic other")
        .refused(1, &["no backup holds a topic `other`", "topics existing"]);
    let held = report["backup_id"].as_str().unwrap();
    scene.run("restore", "latest --topic existing").refused(
        1,
        &[
            "no topic `existing` in backup",
            &format!("backup {held} of"),
            "holds it",
        ],
    );
}

#[test]
fn a_wrong_command_line_is_a_matter_of_usage_and_shows_the_right_one() {
    let scene = Fixture::shared();
    for (verb, arguments, said) in [
        ("backup", "", "--topic"),
        ("backup", "--topic /(/", "unclosed group"),
        (
            "backup",
            "--topic t --start-offset soon",
            "earliest, latest or a number",
        ),
        (
            "backup",
            "--topic t --start-offset 9 --end-offset 3",
            "beyond --end-offset 3",
        ),
        ("backup", "--topic t --rate-limit fast", "50MiB/s"),
        (
            "backup",
            "--topic t --compression brotli",
            "none, gzip, snappy, lz4",
        ),
        ("restore", "latest --rename !a=b", "[PATTERN=]TEMPLATE"),
        ("restore", "latest --rename a=b{x}", "{topic}"),
        ("restore", "latest --until yesterday", "--until"),
        (
            "restore",
            "latest --from 2026-01-02T00:00:00Z --until 2026-01-01T00:00:00Z",
            "--from must be earlier",
        ),
        ("restore", "", "<BACKUP>"),
        ("list", "--nonsense", "--nonsense"),
    ] {
        let outcome = scene.run(verb, arguments);
        assert_eq!(outcome.code, 64, "{verb} {arguments}: {outcome}");
        assert!(
            outcome.stderr.contains(said),
            "{verb} {arguments}: {said:?} is not in {outcome}"
        );
    }
    let none = backup("--topic t --repository /tmp/nowhere");
    none.refused(64, &["--bootstrap-servers"]);
    assert!(!scene.repository().exists());
}

#[test]
fn the_configuration_is_named_where_it_is_wrong() {
    let scene = Fixture::shared();
    let directory = scene.beside("etc");
    std::fs::create_dir(&directory).unwrap();
    let config = format!("--config {}", directory.display());
    let run = |arguments: &str| backup(&format!("--topic t {config} {arguments}"));
    run("--cluster prod --repository /tmp/nowhere").refused(78, &["kafkeep.toml"]);
    std::fs::write(
        directory.join("kafkeep.toml"),
        "[clusters.prod]\nbootstrap_servers = [\"127.0.0.1:1\"]\nnonsense = 1\n",
    )
    .unwrap();
    run("--cluster prod --repository /tmp/nowhere")
        .refused(78, &["kafkeep.toml", "nonsense", "kafkeep.toml:3:1"]);
    std::fs::write(
        directory.join("kafkeep.toml"),
        "[clusters.prod]\nbootstrap_servers = [\"127.0.0.1:1\"]\n",
    )
    .unwrap();
    run("--cluster prd --repository /tmp/nowhere").refused(78, &["no cluster `prd`", "prod"]);
    run(&format!(
        "--bootstrap-servers {} --repository main",
        scene.broker.address()
    ))
    .refused(78, &["no repository `main`"]);
    assert!(!std::path::Path::new("/tmp/nowhere").exists());
}

#[test]
fn a_path_that_is_no_repository_is_refused_and_left_alone() {
    let scene = Fixture::shared();
    scene.client.create_topic("placed", 1, &[]);
    let at = |verb: &str, path: &std::path::Path, rest: &str| {
        let mut words = vec![
            verb.to_owned(),
            "--repository".to_owned(),
            path.display().to_string(),
        ];
        words.extend(rest.split_whitespace().map(str::to_owned));
        if verb == "backup" {
            words.extend(["--topic".to_owned(), "placed".to_owned()]);
            words.extend(["--bootstrap-servers".to_owned(), scene.broker.address()]);
        }
        kafkeep(words)
    };
    let file = scene.beside("file");
    std::fs::write(&file, "precious").unwrap();
    at("backup", &file, "").refused(
        1,
        &["is not a kafkeep repository", "a file, not a directory"],
    );
    at("backup", &file.join("below"), "").refused(
        1,
        &["is not a kafkeep repository", "a file, not a directory"],
    );
    at("list", &file, "").refused(
        1,
        &["is not a kafkeep repository", "a file, not a directory"],
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let other = scene.beside("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("photo.jpg"), "precious").unwrap();
    at("backup", &other, "").refused(1, &["holds other things", "choose another directory"]);
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);

    at("list", &scene.beside("nothing"), "").refused(
        1,
        &["nothing is not a kafkeep repository: it does not exist"],
    );
    at("verify", &scene.beside("nothing"), "").refused(1, &["it does not exist"]);
    at("backup", std::path::Path::new("s3://bucket/prefix"), "").refused(64, &["directories only"]);
}

#[test]
fn a_repository_of_a_newer_format_is_left_to_a_newer_kafkeep() {
    let scene = Fixture::shared();
    scene.client.create_topic("newer", 1, &[]);
    scene
        .client
        .produce("newer", 0, Compression::None, numbered(0, 3));
    scene.backup("--topic newer");
    let identity = scene.repository().join("kafkeep.json");
    let text = std::fs::read_to_string(&identity).unwrap();
    let content = &text[text.find(": {").unwrap() + 2..text.rfind(",\n").unwrap()];
    let newer = content.replacen("\"format\": 1", "\"format\": 2", 1);
    let digest = hex(&Sha256::digest(newer.as_bytes()));
    let sealed = format!("{{\n\"repository\": {newer},\n\"sha256\": \"{digest}\"\n}}\n");
    std::fs::write(&identity, sealed).unwrap();
    for (verb, arguments) in [
        ("backup", "--topic newer"),
        ("list", ""),
        ("show", "latest"),
        ("verify", ""),
        ("restore", "latest --rename newer=newer.back"),
    ] {
        scene.run(verb, arguments).refused(
            1,
            &[
                "has format 2",
                "reads formats up to 1",
                "use a newer kafkeep",
            ],
        );
    }
    assert_eq!(scene.files("backups").len(), 1);
}

#[test]
fn a_repository_whose_identity_was_exchanged_is_not_written_to() {
    let scene = Fixture::shared();
    scene.client.create_topic("identity", 1, &[]);
    scene
        .client
        .produce("identity", 0, Compression::None, numbered(0, 3));
    scene.backup("--topic identity");
    let other = Fixture::shared();
    other.backup("--topic identity");
    let identity = |scene: &Fixture<'_>| scene.repository().join("kafkeep.json");
    let own = std::fs::read(identity(&scene)).unwrap();
    std::fs::copy(identity(&other), identity(&scene)).unwrap();
    scene
        .run("backup", "--topic identity")
        .refused(1, &["belongs to repository", "kafkeep.json"]);
    assert_eq!(scene.files("backups").len(), 1);
    assert_eq!(scene.run("verify", "").code, 2);
    scene
        .run("restore", "latest --rename identity=identity.back")
        .refused(1, &["belongs to repository"]);
    std::fs::write(identity(&scene), own).unwrap();
    scene.verify();

    // A stray manifest of another repository is passed over.
    let stray = &other.files("backups")[0];
    std::fs::copy(
        stray,
        scene
            .repository()
            .join("backups")
            .join(stray.file_name().unwrap()),
    )
    .unwrap();
    let report = scene.backup("--topic identity");
    assert_eq!(report["new_messages"], 0);
    let outcome = scene.run("list", "");
    assert_eq!(outcome.code, 2, "{outcome}");
    assert!(
        outcome.stdout.contains("belongs to repository"),
        "{outcome}"
    );
}

#[test]
fn a_damaged_manifest_leaves_the_other_backups_usable() {
    let scene = Fixture::shared();
    scene.client.create_topic("manifests", 1, &[]);
    let mut ids = Vec::new();
    for run in 0..3 {
        scene
            .client
            .produce("manifests", 0, Compression::None, numbered(run * 10, 10));
        ids.push(
            scene.backup("--topic manifests")["backup_id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let newest = &scene.files("backups")[2];
    let mut bytes = std::fs::read(newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(newest, bytes).unwrap();

    let listed = scene.run("list", "--json");
    assert_eq!(listed.code, 2, "{listed}");
    let listing = listed.json();
    assert_eq!(listing["backups"].as_array().unwrap().len(), 2);
    assert_eq!(listing["damaged"][0]["backup_id"], *ids[2]);
    let told = scene.run("list", "");
    assert!(
        told.stdout.contains(&format!("damaged: backup {}", ids[2])),
        "{told}"
    );

    scene
        .run("restore", "latest --rename manifests=manifests.latest")
        .refused(
            1,
            &[&format!("the manifest of backup {} is damaged", ids[2])],
        );
    scene.run("show", &ids[2]).refused(1, &["is damaged"]);
    scene.run("verify", &ids[1]).refused(0, &[]);
    let report = scene.restore(&format!("{} --rename manifests=manifests.second", ids[1]));
    assert_eq!(report["messages_restored"], 20);

    // The next run goes on from the last one that can be read, and says so.
    let next = scene.backup("--topic manifests");
    assert_eq!(
        (&next["new_messages"], &next["total_messages"]),
        (&10.into(), &30.into())
    );
    assert!(
        next["warnings"]
            .to_string()
            .contains(&format!("backup {} is passed over", ids[2]))
    );
    let found = scene.run("verify", "--json");
    assert_eq!(found.code, 2);
    let findings = &found.json()["findings"];
    assert_eq!(findings.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(findings[0]["backups"], serde_json::json!([ids[2]]));
}

#[test]
fn an_unknown_backup_is_answered_with_the_nearest() {
    let scene = Fixture::shared();
    scene.client.create_topic("ids", 1, &[]);
    let id = scene.backup("--topic ids")["backup_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let slip = format!("{}0", &id[..id.len() - 1]);
    let slip = if slip == id {
        format!("{}1", &id[..id.len() - 1])
    } else {
        slip
    };
    for verb in ["show", "verify", "restore"] {
        let said = format!("there is no backup \"{slip}\" in the repository; the nearest");
        scene.run(verb, &slip).refused(1, &[&said, &id]);
    }
    let start = &id[..id.len() - 3];
    assert_eq!(
        scene.run("show", start).code,
        0,
        "the start of an id is enough"
    );

    let empty = Fixture::shared();
    empty.backup("--topic ids");
    for manifest in empty.files("backups") {
        std::fs::remove_file(manifest).unwrap();
    }
    empty
        .run("show", "latest")
        .refused(1, &["no backup \"latest\"", "it holds no backups"]);
}

#[test]
fn a_batch_that_the_target_would_not_take_is_refused_before_anything_is_written() {
    let scene = Fixture::shared();
    scene.client.create_topic("toolarge", 1, &[]);
    scene
        .client
        .create_topic("toolarge.small", 1, &[("max.message.bytes", "1000")]);
    let big = [crate::testbed::Message::new("k", "v".repeat(50_000))];
    scene
        .client
        .produce("toolarge", 0, Compression::None, numbered(0, 3).chain(big));
    scene.backup("--topic toolarge");
    let arguments = "latest --rename toolarge=toolarge.small --if-exists append";
    let said = [
        "the largest batch has 50",
        "topic toolarge.small takes 1000",
        "raise its max.message.bytes",
    ];
    scene.run("restore", arguments).refused(1, &said);
    assert_eq!(scene.client.watermarks("toolarge.small", 0), (0, 0));
}

#[test]
fn a_repository_given_by_a_bare_name_is_told_from_a_directory() {
    let scene = Fixture::shared();
    let directory = scene.beside("");
    std::fs::create_dir(scene.beside("backups")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kafkeep"))
        .args([
            "list",
            "--repository",
            "backups",
            "--config",
            "/nonexistent",
        ])
        .current_dir(directory)
        .output()
        .unwrap();
    Outcome::of(output).refused(
        64,
        &["repository backups is taken for a name", "write ./backups"],
    );
}
