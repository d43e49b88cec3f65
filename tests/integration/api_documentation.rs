//! `docs/api.md` and `docs/openapi.json` are what the daemon does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::api_client::Called;
use crate::fixture::{Fixture, numbered};
use crate::sessions::{run, sessions};
use crate::testbed::Compression;

#[test]
fn the_session_of_the_page_runs_line_by_line_as_it_is_shown() {
    let scene = Fixture::elsewhere();
    scene.client.create_topic("orders", 1, &[]);
    scene
        .client
        .produce("orders", 0, Compression::None, numbered(0, 1000));
    let called = Called::start(&scene);
    let port = format!("127.0.0.1:{}", called.daemon.port);
    let here = |command: &str| {
        command
            .replace("127.0.0.1:9644", &port)
            .replace("/etc/kafkeep", called.daemon.directory.to_str().unwrap())
            .replace("--key ops", "--key test")
    };
    let sessions = sessions(include_str!("../../docs/api.md"));
    let [session] = sessions.as_slice() else {
        panic!("one session");
    };
    assert!(session.len() > 10);
    let session = session.iter();
    let session = session.map(|(command, shown)| (here(command), shown.clone()));
    let complaints = run(&session.collect(), "", &scene.beside("etc"));
    assert_eq!(complaints, "");
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
