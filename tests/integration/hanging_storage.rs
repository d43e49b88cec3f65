//! A repository's storage answers nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::daemon_process::{Daemon, policy};
use crate::fixture::{Fixture, entry, numbered};
use crate::kafkeep;
use crate::testbed::Compression;

#[test]
fn a_repository_that_hangs_keeps_neither_the_daemon_nor_other_policies_waiting() {
    let scene = Fixture::shared();
    scene.client.create_topic("hangs", 1, &[]);
    scene
        .client
        .produce("hangs", 0, Compression::None, numbered(0, 10));
    let place = scene.beside("hangs");
    let more = format!(
        "[repositories.hung]\npath = '{}'\n",
        place.join("repository").display()
    );
    let well = policy("well", "hangs", "1s", "");
    let hung = policy("hung", "hangs", "1s", "").replace("'main'", "'hung'");
    // Returns when systemd was told that it is ready.
    let mut daemon = Daemon::start_with_a_hang(&scene, &more, &format!("{well}{hung}"), &place);
    daemon.wait_until("the other policy runs", |daemon| {
        daemon.metric("kafkeep_policy_runs_total{policy=\"well\",result=\"success\"}") >= Some(3.0)
    });

    let (code, ready) = daemon.get("/readyz");
    assert_eq!(code, 503, "{ready}");
    for line in ["[+]repository/main ok", "[-]repository/hung loading"] {
        assert!(ready.contains(line), "{ready}");
    }
    let status = daemon.status();
    let told = entry(&status["repositories"], "repository", "hung");
    assert_eq!(told["state"], "loading", "{told}");
    let told = entry(&status["policies"], "policy", "hung");
    assert_eq!(told["loading"], true, "{told}");
    assert_eq!(told["running"].as_array().map(Vec::len), Some(0), "{told}");
    let url = format!("http://127.0.0.1:{}", daemon.port);
    let shown = kafkeep(["status", "--url", &url]);
    assert_eq!(shown.code, 2, "{shown}");
    for text in ["waits for its repository", "loading"] {
        assert!(shown.stdout.contains(text), "{shown}");
    }

    let told_at = Instant::now();
    daemon.signal(Signal::TERM);
    assert!(daemon.process.wait().unwrap().success());
    assert!(told_at.elapsed() < Duration::from_secs(30));
    scene.verify();
}
