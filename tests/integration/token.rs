//! `kafkeep token`

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tempfile::TempDir;

use crate::api_client::Called;
use crate::fixture::Fixture;
use crate::kafkeep;
use crate::testbed::Outcome;

/// A configuration with these keys for tokens, and what they name.
fn directory(keys: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let secret = at.join("api.key");
    fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tokens");
    let keys = keys
        .replace("DIR", at.to_str().unwrap())
        .replace("GOLDEN", golden);
    let text = format!("[api]\nissuer = 'https://sso.example'\naudience = 'kafkeep'\n{keys}");
    fs::write(at.join("kafkeep.toml"), text).unwrap();
    directory
}

const OPS: &str = "[api.keys.ops]\nalgorithm = 'HS256'\nsecret = { file = 'DIR/api.key' }\n";
const SSO: &str = "[api.keys.sso]\nalgorithm = 'ES256'\npublic_key_file = 'GOLDEN/ec.pem'\n";
const SERVICE: &str =
    "[api.keys.service]\nalgorithm = 'HS256'\nsecret = { credential = 'api.key' }\n";

fn token(directory: &TempDir, arguments: &str) -> Outcome {
    let fixed = ["token", "--config", directory.path().to_str().unwrap()];
    kafkeep(fixed.into_iter().chain(arguments.split_whitespace()))
}

/// What Python reads in a token, with the one library of the standard that knows base64.
fn claims(token: &str) -> Value {
    let script = "import base64, sys\nfor part in sys.argv[1].split('.')[:2]: print(base64.urlsafe_b64decode(part + '==').decode())";
    let read = std::process::Command::new("python3")
        .args(["-c", script, token])
        .output()
        .unwrap();
    let lines = String::from_utf8(read.stdout).unwrap();
    let parts: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(parts[0]["alg"], "HS256");
    assert_eq!(parts[0]["kid"], "ops");
    parts[1].clone()
}

#[test]
fn a_token_says_what_was_asked_for() {
    let directory = directory(&format!("{OPS}{SSO}"));
    let all = "--key ops --subject alice --scope backup --scope read --cluster prod --topic orders.* --expires 15m";
    let printed = token(&directory, all).done_plain();
    let said = claims(&printed);
    for (name, value) in [
        ("iss", "https://sso.example".into()),
        ("aud", "kafkeep".into()),
        ("sub", "alice".into()),
        ("scope", "backup read".into()),
        ("clusters", serde_json::json!(["prod"])),
        ("topics", serde_json::json!(["orders.*"])),
    ] {
        assert_eq!(said[name], value, "{said:#}");
    }
    let lasts = said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap();
    assert_eq!(lasts, 15 * 60);
    let report = token(&directory, &format!("{all} --json")).done();
    let again = claims(report["token"].as_str().unwrap());
    assert_eq!(again["sub"], "alice");
    assert!(report["expires_at"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn no_token_is_made_that_would_be_refused_or_by_a_key_that_cannot() {
    let both = directory(&format!("{OPS}{SSO}"));
    let long = "x".repeat(257);
    let many = " --topic some.topic.with.a.long.name".repeat(250);
    for (arguments, said) in [
        ("--subject a --scope read".to_owned(), "name one with --key"),
        (
            "--key sso --subject a --scope read".to_owned(),
            "key sso verifies only",
        ),
        (
            "--key nobody --subject a --scope read".to_owned(),
            "there are ops",
        ),
        (
            format!("--key ops --subject {long} --scope read"),
            "its subject is no name",
        ),
        (
            format!("--key ops --subject a --scope read {many}"),
            "it is too long",
        ),
        (
            "--key ops --subject a --scope everything".to_owned(),
            "read, backup, restore, migrate, drain, admin",
        ),
        (
            "--key ops --subject a --scope read --topic /(/".to_owned(),
            "unclosed group",
        ),
        (
            "--key ops --subject a --scope read --expires 300000000years".to_owned(),
            "too far away",
        ),
        (
            "--key ops --subject a --scope read --expires 1000years".to_owned(),
            "366 days at most",
        ),
        ("--key ops --subject a".to_owned(), "--scope"),
    ] {
        let outcome = token(&both, &arguments);
        outcome.refused(64, &[said]);
        assert_eq!(outcome.stdout, "", "{outcome}");
    }
    let service = directory(SERVICE);
    token(&service, "--subject a --scope read").refused(64, &["only the service has"]);
    token(&directory(""), "--subject a --scope read").refused(64, &["[api.keys]"]);
    let wrong = directory("[api.keys.ops]\nalgorithm = 'HS256'\n");
    token(&wrong, "--subject a --scope read").refused(78, &["kafkeep.toml:4:1"]);
}

#[test]
fn the_log_tells_who_changed_something_and_by_which_key() {
    let scene = Fixture::shared();
    let called = Called::start(&scene);
    let carol = called.token("--subject carol --scope admin");
    let job = "/api/kafka/jobs/00000000-0000-7000-8000-000000000000";
    let refused = called.call_as(&carol, "DELETE", job, &[], "");
    refused.failed(404, "NotFound", Some("job_id"));
    called.daemon.wait_until("it is told", |daemon| {
        let log = daemon.log();
        let mut lines = log.lines();
        lines.any(|line| {
            line.contains("\"carol\" called DELETE")
                && line.contains("by key test: 404 request_id=")
        })
    });
}
