//! `docs/api.md` and `docs/openapi.json` are what the daemon does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::api_client::Called;
use crate::fixture::{Fixture, numbered};
use crate::testbed::Compression;

/// The commands of the page's session, each with what it shows to be printed.
fn session() -> Vec<(String, String)> {
    let page = include_str!("../../docs/api.md");
    let (_, rest) = page.split_once("```session\n").unwrap();
    let (session, _) = rest.split_once("```").unwrap();
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in session.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, shown))) => shown.push_str(line),
            (None, None) => panic!("{line}"),
        }
    }
    commands
}

/// Whether a text is what is shown, where `…` stands for whatever there is.
fn is_shown(text: &str, shown: &str) -> bool {
    let Some((first, parts)) = shown.split_once('…') else {
        return text == shown;
    };
    let (parts, last) = parts.rsplit_once('…').unwrap_or(("", parts));
    let ends = text
        .strip_prefix(first)
        .and_then(|rest| rest.strip_suffix(last));
    let Some(mut rest) = ends else {
        return false;
    };
    parts.split('…').all(|part| match rest.split_once(part) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

#[test]
fn what_is_left_out_of_a_shown_answer_is_only_what_it_says() {
    assert!(is_shown("{\"a\":1,\"b\":2}", "{\"a\":…,\"b\":2}"));
    assert!(is_shown("abc", "abc"));
    assert!(is_shown("{{}}", "{…}"));
    assert!(!is_shown("abcd", "abc"));
    assert!(!is_shown("{\"a\":1,\"b\":3}", "{\"a\":…,\"b\":2}"));
}

#[test]
fn the_session_of_the_page_runs_line_by_line_as_it_is_shown() {
    let scene = Fixture::elsewhere();
    scene.client.create_topic("orders", 1, &[]);
    scene
        .client
        .produce("orders", 0, Compression::None, numbered(0, 1000));
    let called = Called::start(&scene);
    let commands = session();
    assert!(commands.len() > 10);
    let mut script = String::from("set -uo pipefail\n");
    for (command, _) in &commands {
        script += &format!("{command}\necho @@\n");
    }
    let script = script
        .replace(
            "127.0.0.1:9644",
            &format!("127.0.0.1:{}", called.daemon.port),
        )
        .replace("/etc/kafkeep", called.daemon.directory.to_str().unwrap())
        .replace("--key ops", "--key test");
    let own = Path::new(env!("CARGO_BIN_EXE_kafkeep")).parent().unwrap();
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap());
    let ran = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", path)
        .current_dir(scene.beside("etc"))
        .output()
        .unwrap();
    let (printed, complaints) = (
        String::from_utf8(ran.stdout).unwrap(),
        String::from_utf8(ran.stderr).unwrap(),
    );
    assert_eq!(complaints, "", "{printed}");
    let printed: Vec<&str> = printed.split("@@\n").map(str::trim_end).collect();
    for ((command, shown), printed) in commands.iter().zip(printed) {
        assert!(
            is_shown(printed, shown),
            "$ {command}\n{printed}\nis not\n{shown}"
        );
    }
}

/// `UPDATE_EXPECT=1 cargo test --test integration -- api_documentation` writes it anew.
#[test]
fn the_document_that_is_served_is_the_one_that_is_shipped() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let served = kafkeep::http::openapi();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &served).unwrap();
    }
    let shipped = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        served == shipped,
        "docs/openapi.json is another document: write it anew with UPDATE_EXPECT=1"
    );
}

/// A Python program that `tests/setup.sh` installs.
fn python_program(name: &str) -> Command {
    let cache = std::env::var_os("KAFKEEP_TEST_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home =
            home.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
        home.join("kafkeep-tests")
    });
    Command::new(cache.join("api-tools/bin").join(name))
}

#[test]
fn a_public_validator_finds_the_document_right() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let validated = python_program("openapi-spec-validator")
        .arg(document)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&validated.stdout).into_owned();
    assert!(validated.status.success(), "{printed}");
}

#[test]
fn schemathesis_finds_nothing_that_the_document_does_not_say() {
    let scene = Fixture::shared();
    for topic in ["events", "api.schemathesis"] {
        scene.client.create_topic(topic, 1, &[]);
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(0, 10));
    }
    let dr = format!(
        "[clusters.dr]\nbootstrap_servers = ['{}']\n",
        Fixture::elsewhere().broker.address()
    );
    let limits = "[limits]\ncalls_per_minute = 1000000\nbackups_per_cluster = 1000\n";
    let called = Called::start_with(&scene, &format!("{limits}{dr}"), "", None);
    let order = json!({ "topic": "api.schemathesis" });
    let backup =
        || called.post("/api/kafka/clusters/prod/backup", &order).ok()["backup_id"].clone();
    let (kept, deleted) = (backup(), backup());
    let job = called.get("/api/kafka/jobs").ok()["jobs"][0]["job_id"].clone();
    let directory = scene.beside("schemathesis");
    fs::create_dir(&directory).unwrap();
    // JSON Schema cannot say that two offsets are in order, that a pattern or an expression is one, or what goes with which strategy.
    let beyond = ["backup", "restore", "migrate", "drain", "list_backups"].map(|id| {
        format!("[[operations]]\ninclude-operation-id = {id:?}\nchecks.positive_data_acceptance.enabled = false\n")
    });
    let parameters = format!(
        "[parameters]\ncluster_id = \"prod\"\nbackup_id = {kept}\njob_id = {job}\n{}\
         [[operations]]\ninclude-operation-id = \"delete_backup\"\nparameters = {{ backup_id = {deleted} }}\n",
        beyond.concat()
    );
    fs::write(directory.join("schemathesis.toml"), parameters).unwrap();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let token = called.token("--subject schemathesis --scope admin --expires 2h");
    let ran = python_program("schemathesis")
        .arg("run")
        .arg(document)
        .args(["--url", &format!("http://127.0.0.1:{}", called.daemon.port)])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args([
            "--max-examples",
            "10",
            "--request-timeout",
            "120",
            "--generation-deterministic",
            "--no-color",
        ])
        .current_dir(&directory)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{printed}\n{}", called.daemon.log());
    assert!(printed.contains("Tested: 12"), "{printed}");
}
