//! `kafkeep run`: how runs are bounded, stopped, remembered and shown.

use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon_process::{Daemon, policy};
use crate::fixture::{Fixture, Random, entry, numbered};
use crate::testbed::{Compression, Message, free_port};

/// Incompressible, and of some size.
fn noise(seed: u64, records: u64) -> impl Iterator<Item = Message> {
    (0..records).map(move |record| {
        let bytes = (0..8000_u64).map(|n| {
            let mixed = (seed << 40 | record << 20 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed >> 33) as u8
        });
        Message::new("k", bytes.collect::<Vec<u8>>())
    })
}

#[test]
fn a_daemon_that_is_told_to_stop_seals_what_runs_copied_and_the_next_one_goes_on_behind_it() {
    let scene = Fixture::shared();
    scene.client.create_topic("sealed", 1, &[]);
    scene
        .client
        .produce("sealed", 0, Compression::None, noise(1, 1500));
    let slow = policy(
        "sealed",
        "sealed",
        "2s",
        "compression = 'none'\nrate_limit = '4MiB/s'",
    );
    let mut daemon = Daemon::start(&scene, &slow);
    daemon.wait_until("the run is under way", |daemon| {
        let status = daemon.status();
        let told = entry(&status["policies"], "policy", "sealed");
        told["running"][0]["progress"]["done_offsets"].as_u64() > Some(100)
    });
    daemon.signal(Signal::TERM);
    assert!(daemon.process.wait().unwrap().success());
    daemon.wait_until_told(&["STOPPING=1"]);
    assert!(scene.files("backups").is_empty() && scene.files("locks").is_empty());
    assert_eq!(
        scene.files("runs").len(),
        1,
        "what was sealed is written down"
    );
    let report = scene.backup("--topic sealed --compression none");
    assert!(
        report["warnings"].to_string().contains("taken over"),
        "{report}"
    );
    scene.verify();
}

#[test]
fn a_backup_that_would_not_fit_is_refused_before_it_starts_and_one_that_does_not_gives_back() {
    let scene = Fixture::shared();
    for topic in ["fits.not", "fits"] {
        scene.client.create_topic(topic, 1, &[]);
    }
    scene
        .client
        .produce("fits.not", 0, Compression::None, noise(2, 400));
    scene
        .client
        .produce("fits", 0, Compression::None, numbered(0, 10));
    let policies = ["fits.not", "fits"]
        .map(|topic| policy(topic, topic, "1s", ""))
        .concat();
    let policies = policies.replace("[backup.fits.not]", "[backup.fits-not]");
    let daemon = Daemon::start_with(&scene, "[limits]\nmax_backup_size = '2MiB'\n", &policies);
    let ended = |daemon: &Daemon<'_>, name: &str, result: &str| {
        let series = format!("kafkeep_policy_runs_total{{policy=\"{name}\",result=\"{result}\"}}");
        daemon.metric(&series) >= Some(1.0)
    };
    daemon.wait_until("both ran", |daemon| {
        ended(daemon, "fits-not", "failed") && ended(daemon, "fits", "success")
    });
    let status = daemon.status();
    let error = &entry(&status["policies"], "policy", "fits-not")["last_run"]["error"];
    let error = error.as_str().unwrap();
    for text in [
        "it would add about 3.",
        "max_backup_size is 2.0 MiB",
        "more room",
    ] {
        assert!(error.contains(text), "{error}");
    }
    drop(daemon);
    let by_hand = scene.run("backup", "--topic fits.not --compression none");
    assert_eq!(by_hand.code, 0, "without a bound it fits: {by_hand}");
}

#[test]
fn status_tells_what_the_daemon_does_and_its_exit_code_whether_all_is_well() {
    let scene = Fixture::shared();
    scene.client.create_topic("told", 1, &[]);
    scene
        .client
        .produce("told", 0, Compression::None, numbered(0, 10));
    let daemon = Daemon::start(&scene, &policy("told", "told", "1s", ""));
    daemon.wait_until("it is protected", |daemon| {
        daemon.metric("kafkeep_policy_state{policy=\"told\",state=\"protected\"}") == Some(1.0)
    });
    let config = daemon.directory.to_str().unwrap().to_owned();
    let status = |more: &[&str]| crate::kafkeep([&["status", "--config", &config], more].concat());
    let shown = status(&[]);
    assert_eq!(shown.code, 0, "{shown}");
    for text in [
        "1 of 1 policies is protected",
        "told",
        "backup",
        "main",
        "next run",
    ] {
        assert!(shown.stdout.to_lowercase().contains(text), "{shown}");
    }
    let json: Value = serde_json::from_str(&status(&["--json"]).stdout).unwrap();
    let repository = entry(&json["repositories"], "repository", "main");
    assert_eq!(repository["writable"], true);
    let kept = &repository["retention"][0]["backups"][0];
    assert_eq!(kept["kept"], true, "{repository}");
    assert!(kept["reasons"][0].is_string(), "{repository}");
    let (code, page) = daemon.get("/");
    assert!(code == 200 && page.contains("<td>told (backup)"), "{page}");

    daemon.write_policies("[backup.told]\ncluster = '<dev>'\n");
    daemon.wait_until("the wrong file is told", |daemon| {
        daemon.metric("kafkeep_config_last_reload_success") == Some(0.0)
    });
    let wrong = status(&[]);
    assert_eq!(wrong.code, 2, "{wrong}");
    assert!(wrong.stdout.contains("run kafkeep check"), "{wrong}");
    let page = daemon.get("/").1;
    assert!(
        page.contains("&lt;dev&gt;") && !page.contains("<dev>"),
        "{page}"
    );
    drop(daemon);
    status(&[]).refused(
        75,
        &["no kafkeep daemon answers", "systemctl status kafkeep"],
    );
}

#[test]
fn the_port_moves_with_the_configuration_and_stays_where_the_new_one_is_taken() {
    let scene = Fixture::shared();
    scene.client.create_topic("moved", 1, &[]);
    let mut daemon = Daemon::start(&scene, &policy("moved", "moved", "1h", ""));
    let file = daemon.directory.join("kafkeep.toml");
    let text = fs::read_to_string(&file).unwrap();
    let (first, second) = (daemon.port, free_port());
    let move_to = |port: u16| {
        fs::write(&file, text.replace(&first.to_string(), &port.to_string())).unwrap();
    };
    move_to(second);
    daemon.wait_until("it serves there", |_| {
        TcpStream::connect(("127.0.0.1", second)).is_ok()
    });
    daemon.port = second;
    assert_eq!(daemon.get("/livez").0, 200);
    daemon.wait_until("and no longer here", |_| {
        TcpStream::connect(("127.0.0.1", first)).is_err()
    });
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    move_to(taken.local_addr().unwrap().port());
    daemon.wait_until("it says so", |daemon| {
        daemon.log().contains("and stays where it was")
    });
    assert_eq!(daemon.get("/livez").0, 200);
}

#[test]
fn a_repository_that_cannot_be_written_makes_the_daemon_unready() {
    let scene = Fixture::shared();
    scene.client.create_topic("unready", 1, &[]);
    let daemon = Daemon::start(&scene, &policy("unready", "unready", "1h", ""));
    fs::write(scene.beside("file"), "").unwrap();
    let file = daemon.directory.join("kafkeep.toml");
    let text = fs::read_to_string(&file).unwrap();
    let below = scene.beside("file").join("repository");
    let more = format!("{text}[repositories.below]\npath = '{}'\n", below.display());
    fs::write(&file, more).unwrap();
    daemon.wait_until("it is unready", |daemon| daemon.get("/readyz").0 == 503);
    let verbose = daemon.get("/readyz?verbose").1;
    for line in [
        "[+]repository/main ok",
        "[-]repository/below failed",
        "[+]supervisor ok",
    ] {
        assert!(verbose.contains(line), "{verbose}");
    }
    fs::write(&file, text).unwrap();
    daemon.wait_until("it is ready again", |daemon| daemon.get("/readyz").0 == 200);
}

#[test]
fn how_a_run_ended_that_made_no_backup_is_remembered_over_a_restart() {
    let scene = Fixture::shared();
    let fails = policy("nothing", "remembered.nothing-*", "1s", "");
    let failed = "kafkeep_policy_last_run_status{policy=\"nothing\",status=\"failed\"}";
    let state = scene.beside("state");
    fs::create_dir(&state).unwrap();
    let daemon = Daemon::start_remembering(&scene, &fails, &state);
    daemon.wait_until("a run failed", |daemon| daemon.metric(failed) == Some(1.0));
    daemon.wait_until("it is written down", |_| {
        fs::read_to_string(state.join("state.json"))
            .is_ok_and(|text| text.contains("remembered.nothing-*"))
    });
    drop(daemon);
    let rarely = policy("nothing", "remembered.nothing-*", "9h", "");
    let daemon = Daemon::start_remembering(&scene, &rarely, &state);
    assert_eq!(daemon.metric(failed), Some(1.0));
    let status = daemon.status();
    let last = &entry(&status["policies"], "policy", "nothing")["last_run"];
    assert!(
        last["error"]
            .as_str()
            .unwrap()
            .contains("remembered.nothing-*"),
        "{last}"
    );
    drop(daemon);
    fs::write(state.join("state.json"), "{").unwrap();
    let daemon = Daemon::start_remembering(&scene, &rarely, &state);
    assert_eq!(
        daemon.metric(failed),
        None,
        "a file that is lost does no harm"
    );
}

#[test]
fn slow_and_greedy_clients_do_not_reach_the_backups() {
    let scene = Fixture::shared();
    scene.client.create_topic("greedy", 1, &[]);
    let daemon = Daemon::start(&scene, &policy("greedy", "greedy", "1s", ""));
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(("127.0.0.1", daemon.port)).unwrap())
        .collect();
    // All places are taken by clients that say nothing, until their time for headers is over.
    daemon.wait_until("it answers", |daemon| daemon.get("/livez").0 == 200);
    let runs = |daemon: &Daemon<'_>| {
        daemon.metric("kafkeep_policy_runs_total{policy=\"greedy\",result=\"success\"}")
    };
    let before = runs(&daemon);
    daemon.wait_until("runs go on", |daemon| runs(daemon) > before);
    drop(silent);
}

#[test]
fn after_a_thousand_edits_the_running_policies_are_those_of_the_files() {
    let scene = Fixture::shared();
    let daemon = Daemon::start(&scene, "");
    let policies = daemon.directory.join("policies.d");
    let mut random = Random::seeded();
    let shown = |daemon: &Daemon<'_>| -> Vec<String> {
        let status = daemon.status();
        let policies = status["policies"].as_array().unwrap().iter();
        policies
            .map(|policy| policy["policy"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut edits = 0;
    let mut names: [Option<String>; 4] = [const { None }; 4];
    while edits < 1000 {
        // A burst, in which files are torn, wrong, swapped and swept away.
        for _ in 0..20 {
            edit(&policies, &mut random, edits);
            edits += 1;
            if random.below(4) == 0 {
                std::thread::sleep(Duration::from_millis(random.below(30)));
            }
        }
        // Then what shall be in force.
        for (place, name) in names.iter_mut().enumerate() {
            *name = (random.below(3) > 0).then(|| format!("p{place}-{edits}"));
            let file = policies.join(format!("{place}.toml"));
            match name {
                Some(name) => fs::write(&file, policy(name, "t", "9h", "")).unwrap(),
                None => drop(fs::remove_file(&file)),
            }
        }
        let wanted: Vec<String> = names.iter().flatten().cloned().collect();
        daemon.wait_until(&format!("{wanted:?} after {edits} edits"), |daemon| {
            shown(daemon) == wanted
                && daemon.metric("kafkeep_config_last_reload_success") == Some(1.0)
        });
    }
}

/// One edit of one of four files, in one of the ways of editors, of tools, and of accidents.
fn edit(policies: &std::path::Path, random: &mut Random, edits: u32) {
    let file = policies.join(format!("{}.toml", random.below(4)));
    let text = policy(&format!("edit-{edits}"), "t", "9h", "");
    match random.below(7) {
        0 => fs::write(&file, text).unwrap(),
        1 => {
            let new = policies.join(".new.toml.swp");
            fs::write(&new, text).unwrap();
            fs::rename(new, &file).unwrap();
        }
        // Torn.
        2 => fs::write(&file, &text[..text.len() / 2]).unwrap(),
        3 => fs::write(&file, "[backup.wrong]\ncluster = 'nowhere'\n").unwrap(),
        4 => drop(fs::remove_file(&file)),
        // What is no policy file.
        5 => fs::write(policies.join("4913~"), text).unwrap(),
        _ => {
            let directory = policies.with_file_name("policies.old");
            fs::rename(policies, &directory).unwrap();
            fs::create_dir(policies).unwrap();
            for entry in fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                fs::rename(entry.path(), policies.join(entry.file_name())).unwrap();
            }
            fs::remove_dir(directory).unwrap();
        }
    }
}

#[test]
fn an_idle_daemon_of_500_policies_takes_little() {
    let scene = Fixture::shared();
    let policies: String = (0..500)
        .map(|n| {
            let topics: Vec<String> = (0..100).map(|t| format!("'idle-{n}-{t}.*'")).collect();
            let one = policy(&format!("idle-{n}"), "x", "9h", "");
            one.replace("'x'", &topics.join(", "))
        })
        .collect();
    let daemon = Daemon::start(&scene, &policies);
    let pid = daemon.process.id();
    std::thread::sleep(Duration::from_secs(3));
    let (before, since) = (cpu_ticks(pid), Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let ticks = cpu_ticks(pid) - before;
    // A hundred ticks a second, by Linux' ABI.
    let share = ticks as f64 / 100.0 / since.elapsed().as_secs_f64();
    let memory = daemon.metric("process_resident_memory_bytes").unwrap();
    let told = format!(
        "{:.1} MiB, {:.2} % of a core",
        memory / f64::from(1 << 20),
        share * 100.0
    );
    assert!(memory <= f64::from(40 << 20) && share <= 0.005, "{told}");
}

/// User and system time of a process, in ticks (proc(5)).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_systemd_that_reads_nothing_holds_nothing_up() {
    let scene = Fixture::shared();
    scene.client.create_topic("deaf", 1, &[]);
    let daemon = Daemon::start_unheard(&scene, &policy("deaf", "deaf", "1s", ""));
    // Each run tells twice at least: the socket's queue, of ten by Linux' default, is long full by then.
    daemon.wait_until("runs go on", |daemon| {
        daemon.metric("kafkeep_policy_runs_total{policy=\"deaf\",result=\"success\"}") >= Some(12.0)
    });
}
