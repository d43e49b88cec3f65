//! Whether policies protect what they name: everything that shows it shows the same, and none of it says that all is well
//! when it is not.

use std::fs;

use serde_json::Value;

use crate::daemon_process::{Daemon, policy};
use crate::fixture::{Fixture, entry, numbered};
use crate::kafkeep;
use crate::testbed::group::Group;
use crate::testbed::{Compression, free_port};

/// The state of a policy in the metrics, the only one that is 1.
fn state_metric(daemon: &Daemon<'_>, policy: &str) -> Option<&'static str> {
    let states = ["protected", "unknown", "at_risk", "unprotected"];
    let is_one = |state: &&str| {
        let series = format!("kafkeep_policy_state{{policy=\"{policy}\",state=\"{state}\"}}");
        daemon.metric(&series) == Some(1.0)
    };
    let mut ones = states.into_iter().filter(is_one);
    ones.next().filter(|_| ones.next().is_none())
}

/// What `/status` says of a policy: its state and the reason.
fn told(daemon: &Daemon<'_>, policy: &str) -> (String, String) {
    let status = daemon.status();
    let policy = entry(&status["policies"], "policy", policy);
    let text = |field: &str| policy[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

/// Waits until a policy is in this state everywhere, for a reason that holds this text.
#[track_caller]
fn expect(daemon: &Daemon<'_>, policy: &str, state: &str, reason: &str) {
    daemon.wait_until(&format!("{policy} is {state}: {reason}"), |daemon| {
        let (is, why) = told(daemon, policy);
        is == state && why.contains(reason)
    });
    assert_eq!(state_metric(daemon, policy), Some(state));
    let phrase = state.replace('_', " ");
    let sign = if state == "protected" { "[+]" } else { "[-]" };
    let ready = daemon.get("/readyz?verbose").1;
    let line = format!("{sign}policy/{policy} {phrase}");
    assert!(ready.contains(&line), "{line}: {ready}");
    let page = daemon.get("/").1;
    assert!(page.contains(&format!(">{phrase}</span>")), "{page}");
    let url = format!("http://127.0.0.1:{}", daemon.port);
    let shown = kafkeep(["status", "--url", &url]);
    assert!(shown.stdout.contains(&phrase), "{shown}");
    if state != "protected" {
        assert_eq!(shown.code, 2, "{shown}");
        assert!(shown.stdout.contains(reason), "{shown}");
    }
}

#[test]
fn policies_that_fail_are_told_from_those_that_protect_everywhere() {
    let scene = Fixture::shared();
    scene.client.create_topic("states", 1, &[]);
    scene
        .client
        .produce("states", 0, Compression::None, numbered(0, 10));
    let nowhere = format!(
        "[clusters.nowhere]\nbootstrap_servers = ['127.0.0.1:{}']\n",
        free_port()
    );
    let good = policy("good", "states", "1s", "");
    let never = policy("never", "no.such.topic.*", "1s", "");
    let refused =
        policy("refused", "states", "1s", "deadline = '2s'").replace("'prod'", "'nowhere'");
    let drain = "[drain.gone]\ncluster = 'prod'\ngroup = 'states.nobody'\ntopics = ['states']\nevery = '1s'\n";
    let policies = format!("{good}{never}{refused}{drain}");
    let daemon = Daemon::start_with(&scene, &nowhere, &policies);
    expect(&daemon, "good", "protected", "its last success was");
    expect(&daemon, "never", "unprotected", "it has never succeeded");
    expect(&daemon, "never", "unprotected", "no.such.topic.*");
    expect(&daemon, "refused", "unprotected", "it is tried again");
    expect(&daemon, "gone", "unknown", "no such group");
    // What is wrong with policies makes the daemon no less ready to run them.
    assert_eq!(daemon.get("/readyz").0, 200);
    let url = format!("http://127.0.0.1:{}", daemon.port);
    let shown = kafkeep(["status", "--url", &url]);
    assert!(
        shown.stdout.contains("2 of 4 policies are unprotected"),
        "{shown}"
    );

    // A success that is older than max_age.
    let late = good.replace("'1s'", "'9h'").replace("'1h'", "'1s'");
    daemon.write_policies(&late);
    expect(&daemon, "good", "unprotected", "max_age is 1s");
    daemon.write_policies(&good);
    expect(&daemon, "good", "protected", "its last success was");
    let shown = kafkeep(["status", "--url", &url]);
    assert_eq!(shown.code, 0, "{shown}");
}

#[test]
fn a_group_without_consumers_shows_as_stopped() {
    let scene = Fixture::shared();
    scene.client.create_topic("states.stopped", 1, &[]);
    scene
        .client
        .produce("states.stopped", 0, Compression::None, numbered(0, 10));
    let group = Group::new(&scene.broker.address(), "states.stopped.group");
    group.commit("states.stopped", 0, 4, "");
    let drain = "[drain.stopped]\ncluster = 'prod'\ngroup = 'states.stopped.group'\n\
                 topics = ['states.stopped']\nevery = '1s'\n";
    let daemon = Daemon::start(&scene, drain);
    expect(&daemon, "stopped", "at_risk", "it has no members");
    let url = format!("http://127.0.0.1:{}", daemon.port);
    let shown = kafkeep(["status", "--url", &url]);
    assert!(shown.stdout.contains("stopped, 6 left"), "{shown}");
}

#[test]
fn a_repository_that_vanished_is_neither_writable_nor_empty() {
    let scene = Fixture::shared();
    scene.client.create_topic("states.vanished", 1, &[]);
    scene
        .client
        .produce("states.vanished", 0, Compression::None, numbered(0, 10));
    scene.backup("--topic states.vanished");
    // Nothing is due that would begin the repository again.
    let rarely = policy("vanished", "states.vanished", "9h", "suspend = true");
    let daemon = Daemon::start(&scene, &rarely);
    let metric = |daemon: &Daemon<'_>, name: &str| {
        daemon.metric(&format!("kafkeep_repository_{name}{{repository=\"main\"}}"))
    };
    daemon.wait_until("it is seen", |daemon| {
        metric(daemon, "backups") == Some(1.0)
            && metric(daemon, "up") == Some(1.0)
            && metric(daemon, "writable") == Some(1.0)
            && metric(daemon, "objects") > Some(3.0)
    });
    fs::rename(scene.repository(), scene.beside("elsewhere")).unwrap();
    // A change is a reason to look at once.
    daemon.write_policies(&rarely.replace("'1h'", "'2h'"));
    daemon.wait_until("it is missed", |daemon| {
        metric(daemon, "writable") == Some(0.0)
    });
    assert_eq!(metric(&daemon, "up"), Some(0.0));
    for absent in ["size_bytes", "backups", "objects"] {
        assert_eq!(metric(&daemon, absent), None, "{absent}");
    }
    expect(&daemon, "vanished", "unprotected", "it held backups");
    assert_eq!(daemon.get("/readyz").0, 503);
    fs::rename(scene.beside("elsewhere"), scene.repository()).unwrap();
    daemon.write_policies(&rarely);
    daemon.wait_until("it is back", |daemon| {
        metric(daemon, "writable") == Some(1.0) && metric(daemon, "backups") == Some(1.0)
    });
}

#[test]
fn past_runs_are_shown_and_outlast_a_restart() {
    let scene = Fixture::shared();
    scene.client.create_topic("states.past", 1, &[]);
    scene
        .client
        .produce("states.past", 0, Compression::None, numbered(0, 10));
    let state = scene.beside("state");
    fs::create_dir(&state).unwrap();
    let policies = policy("past", "states.past", "1s", "verify = 'full'")
        + &policy("failing", "no.such.topic.*", "1s", "");
    let daemon = Daemon::start_remembering(&scene, &policies, &state);
    let runs = |daemon: &Daemon<'_>, policy: &str| -> Vec<Value> {
        let status = daemon.status();
        let policy = entry(&status["policies"], "policy", policy);
        policy["last_runs"].as_array().unwrap().clone()
    };
    daemon.wait_until("both ran", |daemon| {
        runs(daemon, "past").len() >= 2 && !runs(daemon, "failing").is_empty()
    });
    let (first, failed) = (&runs(&daemon, "past")[0], &runs(&daemon, "failing")[0]);
    assert_eq!(first["result"], "success", "{first}");
    assert!(first["backup_id"].is_string(), "{first}");
    assert!(first["new_bytes"].as_u64() > Some(0), "{first}");
    assert_eq!(failed["result"], "failed", "{failed}");
    let why = failed["reason"].as_str().unwrap();
    assert!(why.contains("no.such.topic.*"), "{failed}");
    let metric = |daemon: &Daemon<'_>, name: &str| {
        daemon.metric(&format!("kafkeep_backup_last_{name}{{policy=\"past\"}}"))
    };
    assert!(metric(&daemon, "size_bytes") > Some(0.0));
    assert!(metric(&daemon, "duration_seconds") > Some(0.0));
    let verified = metric(&daemon, "full_verification_timestamp_seconds");
    assert!(verified > Some(1e9), "{verified:?}");
    daemon.wait_until("they are written down", |_| {
        ["past", "failing"].iter().all(|name| {
            let text = fs::read_to_string(state.join(format!("runs/{name}.json")));
            text.is_ok_and(|text| text.contains("run_id"))
        })
    });
    let first = first["run_id"].clone();
    drop(daemon);
    let rarely = policy("past", "states.past", "9h", "verify = 'full'");
    let daemon = Daemon::start_remembering(&scene, &rarely, &state);
    assert_eq!(runs(&daemon, "past")[0]["run_id"], first);
    assert!(metric(&daemon, "size_bytes") > Some(0.0));
    daemon.wait_until("the file of a policy that is gone goes too", |_| {
        !state.join("runs/failing.json").exists()
    });
}
