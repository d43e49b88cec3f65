//! `kafkeep run`: real files, real signals, a real broker.

use crate::daemon_process::{Daemon, policy};
use crate::fixture::{Fixture, assert_same_records, entry, numbered};
use crate::testbed::Compression;

#[test]
fn a_daemon_backs_up_verifies_and_expires_on_schedule_and_tells_of_it() {
    let scene = Fixture::shared();
    scene.client.create_topic("served", 1, &[]);
    scene
        .client
        .produce("served", 0, Compression::None, numbered(0, 500));
    let policies = policy(
        "served",
        "served",
        "1s",
        "verify = 'full'\nretention = { keep_last = 2 }",
    );
    let mut daemon = Daemon::start(&scene, &policies);
    daemon.wait_until("four runs succeed", |daemon| {
        let runs = "kafkeep_policy_runs_total{policy=\"served\",result=\"success\"}";
        daemon.metric(runs).is_some_and(|runs| runs >= 4.0)
    });
    for (series, value) in [
        (
            "kafkeep_policy_info{kind=\"backup\",policy=\"served\"}",
            1.0,
        ),
        (
            "kafkeep_policy_last_run_status{policy=\"served\",status=\"success\"}",
            1.0,
        ),
        ("kafkeep_policy_max_age_seconds{policy=\"served\"}", 3600.0),
        ("kafkeep_backup_records_total{policy=\"served\"}", 500.0),
        ("kafkeep_backup_partitions{policy=\"served\"}", 1.0),
        ("kafkeep_verify_findings{policy=\"served\"}", 0.0),
        ("kafkeep_config_last_reload_success", 1.0),
    ] {
        assert_eq!(daemon.metric(series), Some(value), "{series}");
    }
    daemon.wait_until("the repository is measured", |daemon| {
        daemon.metric("kafkeep_repository_backups{repository=\"main\"}") == Some(2.0)
    });
    assert!(daemon.metric("kafkeep_repository_free_bytes{repository=\"main\"}") > Some(1.0));
    assert!(daemon.metric("process_resident_memory_bytes") > Some(1.0));
    let status = daemon.status();
    let told = entry(&status["policies"], "policy", "served");
    assert_eq!(told["last_run"]["result"], "success", "{told}");
    assert!(told["next_run_at"].is_string(), "{told}");
    daemon.wait_until_told(&["READY=1", "STATUS="]);

    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.process.wait().unwrap().success());
    daemon.wait_until_told(&["STOPPING=1"]);
    assert!(scene.files("locks").is_empty());
    scene.verify();
    scene.restore("latest --rename served=served.back");
    let read = |topic: &str| scene.client.read(topic);
    assert_same_records(&read("served"), &read("served.back"), "served.back");
}

#[test]
fn files_and_a_hangup_reload_and_a_wrong_file_changes_nothing() {
    let scene = Fixture::shared();
    for topic in ["reloaded.one", "reloaded.two"] {
        scene.client.create_topic(topic, 1, &[]);
    }
    let one = policy("one", "reloaded.one", "1s", "");
    let daemon = Daemon::start(&scene, &one);
    let runs = |daemon: &Daemon<'_>, name: &str| {
        let series = format!("kafkeep_policy_runs_total{{policy=\"{name}\",result=\"success\"}}");
        daemon.metric(&series)
    };
    daemon.wait_until("a run", |daemon| runs(daemon, "one") >= Some(1.0));
    daemon.write_policies(&one.replace("every", "evry"));
    daemon.wait_until("the wrong file is told", |daemon| {
        daemon.metric("kafkeep_config_last_reload_success") == Some(0.0)
    });
    let told = daemon.status()["configuration"].clone();
    assert!(told.to_string().contains("unknown key `evry`"), "{told}");
    let before = runs(&daemon, "one");
    daemon.wait_until("runs go on", |daemon| runs(daemon, "one") > before);

    let two = policy("two", "reloaded.two", "1s", "");
    daemon.write_policies(&two);
    daemon.wait_until("the new policy runs", |daemon| {
        runs(daemon, "two") >= Some(1.0)
    });
    assert_eq!(
        daemon.metric("kafkeep_config_last_reload_success"),
        Some(1.0)
    );
    assert_eq!(
        runs(&daemon, "one"),
        None,
        "the series of a policy that is gone"
    );
    daemon.wait_until_told(&["READY=1"]);
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_until_told(&["RELOADING=1", "MONOTONIC_USEC=", "READY=1"]);
}

#[test]
fn a_daemon_does_not_start_with_a_wrong_configuration_or_a_taken_port() {
    let scene = Fixture::shared();
    scene.client.create_topic("twice", 1, &[]);
    let daemon = Daemon::start(&scene, &policy("twice", "twice", "1h", ""));
    let run = ["run", "--config", daemon.directory.to_str().unwrap()];
    crate::kafkeep(run).refused(1, &["cannot listen on 127.0.0.1", "[http] listen"]);
    daemon.write_policies("[backup.twice]\ncluster = 'dev'\n");
    crate::kafkeep(run).refused(78, &["policies.d/test.toml:2", "dev"]);
    assert_eq!(daemon.get("/nowhere").0, 404);
    let post =
        "POST /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(daemon.ask(post).0, 405);
    let long = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    assert_eq!(daemon.ask(&long).0, 431);
    assert!(daemon.get("/readyz?verbose").1.contains("[+]supervisor ok"));
    assert_eq!(daemon.get("/livez"), (200, "ok\n".to_owned()));
}
