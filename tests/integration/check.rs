//! `kafkeep check`, and what wrong files leave alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::kafkeep;
use crate::testbed::Outcome;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("policies.d")).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn check(directory: &Path, more: &[&str]) -> crate::testbed::Outcome {
    let directory = directory.to_str().unwrap();
    kafkeep([&["check", "--config", directory], more].concat())
}

const KAFKEEP: &str = "[clusters.prod]\nbootstrap_servers = ['k:9092']\n[repositories.main]\npath = '/var/lib/kafkeep'\n";
const ORDERS: &str = "[backup.orders]\ncluster = 'prod'\nrepository = 'main'\ntopics = ['orders.*']\nschedule = '30 4 * * *'\ntimezone = 'Asia/Tokyo'\n";

#[test]
fn the_shipped_examples_pass_with_their_next_runs() {
    let outcome = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("etc"), &[]);
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(
        outcome.stdout.contains("02:15:00 Europe/Berlin"),
        "{outcome}"
    );
    assert!(
        outcome.stdout.contains("nothing is wrong: 2 file(s)"),
        "{outcome}"
    );
}

#[test]
fn next_runs_are_told_in_json_in_utc() {
    let directory = directory(&[("kafkeep.toml", KAFKEEP), ("policies.d/a.toml", ORDERS)]);
    let report = check(directory.path(), &["--json"]).done();
    assert_eq!(report["status"], "ok");
    assert_eq!(report["policies"][0]["policy"], "orders");
    let next_run = report["policies"][0]["next_run"].as_str().unwrap();
    assert!(next_run.ends_with("T19:30:00Z"), "{next_run}");
}

#[test]
fn errors_of_all_files_are_told_and_listed_in_json() {
    let directory = directory(&[
        ("kafkeep.toml", &format!("{KAFKEEP}nonsense = 1\n")),
        ("policies.d/a.toml", &ORDERS.replace("'prod'", "'prd'")),
        ("policies.d/b.toml", "[backup\n"),
        ("policies.d/.#b.toml", "an editor's own"),
        ("policies.d/notes.txt", "no policies"),
    ]);
    let outcome = check(directory.path(), &["--json"]);
    outcome.refused(
        78,
        &[
            "unknown key `nonsense`",
            "did you mean `prod`?",
            "b.toml:1:8",
            "3 errors",
        ],
    );
    let report = outcome.json();
    assert_eq!(report["status"], "failed");
    let diagnostics = report["diagnostics"].as_array().unwrap();
    assert_eq!(diagnostics.len(), 3);
    let second = &diagnostics[1];
    assert!(
        second["file"]
            .as_str()
            .unwrap()
            .ends_with("policies.d/a.toml")
    );
    assert_eq!(
        (&second["line"], &second["column"]),
        (&2.into(), &11.into())
    );
    assert_eq!(second["message"], "no cluster is called `prd`");
    assert_eq!(second["help"], "did you mean `prod`?");
}

#[test]
fn a_command_by_hand_says_how_to_get_a_credential_and_takes_it_so() {
    let sasl = "sasl = { mechanism = 'PLAIN', username = 'u', password = { credential = 'pw' } }\n";
    let kafkeep_toml = format!("[clusters.prod]\nbootstrap_servers = ['127.0.0.1:1']\n{sasl}");
    let directory = directory(&[("kafkeep.toml", &kafkeep_toml), ("pw", "secret")]);
    let run = |credentials: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafkeep"));
        command.args([
            "drain",
            "--cluster",
            "prod",
            "--group",
            "g",
            "--deadline",
            "1",
        ]);
        command.arg("--config").arg(directory.path());
        match credentials {
            Some(credentials) => command.env("CREDENTIALS_DIRECTORY", credentials),
            None => command.env_remove("CREDENTIALS_DIRECTORY"),
        };
        Outcome::of(command.output().unwrap())
    };
    run(None).refused(
        78,
        &[
            "credential `pw`",
            "systemd-run --pipe --wait",
            "CREDENTIALS_DIRECTORY=DIR",
        ],
    );
    // The secret is there: what fails now is the connection.
    run(Some(directory.path())).refused(75, &["127.0.0.1:1"]);
}

#[test]
fn credentials_of_the_service_are_not_missed_outside_of_it() {
    let sasl = "sasl = { mechanism = 'PLAIN', username = 'u', password = { credential = 'pw' } }\n";
    let api = "[api]\nissuer = 'i'\naudience = 'a'\n[api.keys.ops]\nalgorithm = 'HS256'\nsecret = { credential = 'key' }\n";
    let kafkeep_toml = KAFKEEP.replace("[repositories", &format!("{sasl}{api}[repositories"));
    let directory = directory(&[
        ("kafkeep.toml", &kafkeep_toml),
        ("policies.d/a.toml", ORDERS),
    ]);
    let outcome = check(directory.path(), &[]);
    assert_eq!(outcome.code, 0, "{outcome}");
    for said in [
        "cluster prod: its credential",
        "key ops of the API: its credential",
        "1 cluster(s)",
    ] {
        assert!(outcome.stdout.contains(said), "{outcome}");
    }
}

#[test]
fn a_wrong_policy_stops_no_command() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/repository-v1");
    let kafkeep_toml = format!("[repositories.main]\npath = '{}'\n", golden.display());
    let directory = directory(&[
        ("kafkeep.toml", &kafkeep_toml),
        ("policies.d/a.toml", "[wrong"),
    ]);
    assert_eq!(check(directory.path(), &[]).code, 78);
    let config = directory.path().to_str().unwrap();
    let outcome = kafkeep(["list", "--repository", "main", "--config", config]);
    assert_eq!(outcome.code, 0, "{outcome}");
}

#[test]
fn what_is_no_file_among_the_policies_is_told_and_not_waited_for() {
    let directory = directory(&[]);
    let policies = directory.path().join("policies.d");
    std::fs::create_dir_all(&policies).unwrap();
    let fifo = policies.join("fifo.toml");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    std::os::unix::fs::symlink("/dev/zero", policies.join("endless.toml")).unwrap();
    let told = check(directory.path(), &[]);
    for text in [
        "fifo.toml",
        "it is a FIFO, not a file",
        "endless.toml",
        "it is a device, not a file",
    ] {
        assert!(told.to_string().contains(text), "{text:?} is not in {told}");
    }
}
