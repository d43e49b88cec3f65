//! The order of backups is that in which they were made, whatever the wall clock showed.

use std::path::Path;

use serde_json::Value;

use crate::daemon_process::{Daemon, policy};
use crate::fixture::{Fixture, numbered};
use crate::testbed::{Compression, Outcome, WrongClock};

/// A backup of `topic` that is new by one record, made while the clock is off by `offset`: its id.
fn backup_under(scene: &Fixture<'_>, topic: &str, offset: &str) -> Value {
    let partition = scene.client.read(topic).remove(0);
    let next = partition.len() as i64;
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(next, 1));
    let report = under(scene, offset, "backup", &format!("--json --topic {topic}")).done();
    assert_eq!(report["total_messages"], next + 1, "{report}");
    assert_eq!(report["new_messages"], 1, "{report}");
    report["backup_id"].clone()
}

/// What a command does while the clock is off by `offset`.
fn under(scene: &Fixture<'_>, offset: &str, verb: &str, arguments: &str) -> Outcome {
    let mut command = scene.command(verb, arguments);
    if offset != "0" {
        WrongClock::at(scene.beside("clock"), offset).put_on(&mut command);
    }
    Outcome::of(command.output().unwrap())
}

fn listed(scene: &Fixture<'_>) -> Vec<Value> {
    let backups = scene.run("list", "--json").done()["backups"].clone();
    let backups = backups.as_array().unwrap().iter();
    backups.map(|backup| backup["backup_id"].clone()).collect()
}

#[test]
fn the_backup_made_last_is_the_newest_and_stays_whatever_the_clock_showed() {
    let offsets = ["+1h", "+1d", "+365d", "-1h", "-1d"];
    for (number, offset) in offsets.into_iter().enumerate() {
        let scene = Fixture::shared();
        let topic = format!("clock.order-{number}");
        scene.client.create_topic(&topic, 1, &[]);
        let mut made = Vec::new();
        for clock in ["0", offset, "0"] {
            made.insert(0, backup_under(&scene, &topic, clock));
            assert_eq!(listed(&scene), made, "{offset}: after one under {clock}");
            let latest = scene.run("show", "latest --json").done();
            assert_eq!(latest["backup_id"], made[0], "{offset}");
            assert_eq!(latest["sequence"], made.len(), "{offset}");
        }
        scene.verify();
        scene.run("expire", "--keep-last 1 --json").done();
        assert_eq!(listed(&scene), made[..1], "{offset}");
        scene.verify();
        scene.restore(&format!("latest --rename {topic}={topic}.back"));
        assert_eq!(scene.client.read(&format!("{topic}.back"))[0].len(), 3);
    }
}

#[test]
fn a_clock_that_runs_ahead_expires_nothing_by_age() {
    let scene = Fixture::shared();
    scene.client.create_topic("clock.age", 1, &[]);
    let mut made: Vec<Value> = (0..3)
        .map(|_| backup_under(&scene, "clock.age", "0"))
        .collect();
    made.push(backup_under(&scene, "clock.age", "+365d"));
    made.reverse();
    let doubtful = under(&scene, "+365d", "expire", "--retention-days 30");
    assert_eq!(doubtful.code, 0, "{doubtful}");
    for text in [
        "removed 0 backup(s)",
        "its age is in doubt",
        "--trust-times",
    ] {
        assert!(doubtful.stdout.contains(text), "{text:?}: {doubtful}");
    }
    assert_eq!(listed(&scene), made);
    // Back in time, where the newest backup lies in the future.
    scene.run("expire", "--retention-days 30 --json").done();
    assert_eq!(listed(&scene), made);
    let trusted = under(
        &scene,
        "+365d",
        "expire",
        "--retention-days 30 --trust-times --json",
    );
    assert_eq!(trusted.done()["removed_backups"], 3);
    assert_eq!(listed(&scene), made[..1]);
}

/// The ids of the daemon's backups, newest first, and that of its last success.
fn made_by(daemon: &Daemon<'_>, scene: &Fixture<'_>) -> (Vec<Value>, Value) {
    let last = daemon.status()["policies"][0]["last_run"]["backup_id"].clone();
    (listed(scene), last)
}

fn successes(daemon: &Daemon<'_>) -> f64 {
    daemon
        .metric("kafkeep_policy_runs_total{policy=\"clocked\",result=\"success\"}")
        .unwrap()
}

#[test]
fn a_daemon_whose_clock_jumps_goes_on_and_keeps_its_newest_backups() {
    let scene = Fixture::shared();
    scene.client.create_topic("clock.daemon", 1, &[]);
    scene
        .client
        .produce("clock.daemon", 0, Compression::None, numbered(0, 10));
    let clock = WrongClock::at(scene.beside("clock"), "+0");
    let policies = policy(
        "clocked",
        "clock.daemon",
        "2s",
        "retention.keep_last = 3\nverify = 'quick'",
    );
    let state = scene.beside("state");
    std::fs::create_dir(&state).unwrap();
    let daemon = Daemon::start_with_clock(&scene, &policies, &state, &clock);
    for offset in ["+0", "+365d", "+0", "-1h", "+0"] {
        clock.set(offset);
        let before = successes(&daemon);
        // A period and what a run takes, not the hours that a clock may need to catch up.
        daemon.wait_until(&format!("four runs under {offset}"), |daemon| {
            successes(daemon) >= before + 4.0
        });
    }
    let is_kept = |daemon: &Daemon<'_>| {
        let (listed, last) = made_by(daemon, &scene);
        listed.len() == 3 && listed[0] == last
    };
    daemon.wait_until("the newest three are there, the last run's first", is_kept);
    let age = daemon
        .metric("kafkeep_policy_last_success_timestamp_seconds{policy=\"clocked\"}")
        .unwrap();
    let now = chrono::Utc::now().timestamp() as f64;
    assert!((now - age).abs() < 60.0, "{age} is not about {now}");
    scene.verify();
    assert!(Path::new(&state.join("state.json")).exists());
}
