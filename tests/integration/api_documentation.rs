//! `docs/api.md` and `docs/openapi.json` are what the daemon does.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::called::Called;
use crate::scene::{Scene, numbered};
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
    let scene = Scene::elsewhere();
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
