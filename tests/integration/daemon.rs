//! `kafkeep run`: real files, real signals, a real broker.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scene::{Scene, assert_same_records, entry, numbered};
use crate::testbed::Compression;

/// A daemon at work, with a configuration directory of its own; killed when the test ends.
struct Daemon<'a> {
    scene: &'a Scene<'a>,
    directory: PathBuf,
    port: u16,
    process: Child,
    /// What systemd is told.
    told: UnixDatagram,
}

impl<'a> Daemon<'a> {
    /// Started with these policies.
    fn start(scene: &'a Scene<'a>, policies: &str) -> Self {
        let directory = scene.beside("etc");
        fs::create_dir_all(directory.join("policies.d")).unwrap();
        let port = free_port();
        let kafkeep = format!(
            "[http]\nlisten = '127.0.0.1:{port}'\n[clusters.prod]\nbootstrap_servers = ['{}']\n[repositories.main]\npath = '{}'\n",
            scene.broker.address(),
            scene.repository().display(),
        );
        fs::write(directory.join("kafkeep.toml"), kafkeep).unwrap();
        fs::write(directory.join("policies.d/test.toml"), policies).unwrap();
        let socket = scene.beside("notify");
        let told = UnixDatagram::bind(&socket).unwrap();
        told.set_nonblocking(true).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_kafkeep"))
            .args(["run", "--config", directory.to_str().unwrap()])
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stderr(fs::File::create(scene.beside("log")).unwrap())
            .spawn()
            .unwrap();
        let daemon = Self {
            scene,
            directory,
            port,
            process,
            told,
        };
        daemon.wait_until("it is ready", |daemon| {
            TcpStream::connect(("127.0.0.1", daemon.port)).is_ok() && daemon.get("/readyz").0 == 200
        });
        daemon
    }

    fn write_policies(&self, policies: &str) {
        // As editors do: a new file takes the old one's name.
        let new = self.directory.join("policies.d/.test.toml.new");
        fs::write(&new, policies).unwrap();
        fs::rename(new, self.directory.join("policies.d/test.toml")).unwrap();
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ))
    }

    fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let code = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (code, body)
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// A metric's value; none where there is no such series.
    fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    #[track_caller]
    fn wait_until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !happened(self) {
            let log = || fs::read_to_string(self.scene.beside("log")).unwrap();
            assert!(Instant::now() < deadline, "never: {what}\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// All that systemd was told since it was last asked.
    fn heard(&self) -> String {
        let mut heard = String::new();
        let mut message = [0; 4096];
        while let Ok(length) = self.told.recv(&mut message) {
            heard.push_str(std::str::from_utf8(&message[..length]).unwrap());
            heard.push('\n');
        }
        heard
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Nobody's at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn policy(name: &str, topic: &str, every: &str, more: &str) -> String {
    format!(
        "[backup.{name}]\ncluster = 'prod'\nrepository = 'main'\ntopics = ['{topic}']\nevery = '{every}'\nmax_age = '1h'\n{more}\n"
    )
}

#[test]
fn a_daemon_backs_up_verifies_and_expires_on_schedule_and_tells_of_it() {
    let scene = Scene::shared();
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
    let heard = daemon.heard();
    assert!(
        heard.contains("READY=1") && heard.contains("STATUS="),
        "{heard}"
    );

    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.process.wait().unwrap().success());
    assert!(daemon.heard().contains("STOPPING=1"));
    assert!(scene.files("locks").is_empty());
    scene.verify();
    scene.restore("latest --rename served=served.back");
    let read = |topic: &str| scene.client.read(topic);
    assert_same_records(&read("served"), &read("served.back"), "served.back");
}

#[test]
fn files_and_a_hangup_reload_and_a_wrong_file_changes_nothing() {
    let scene = Scene::shared();
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
    daemon.heard();
    daemon.signal(rustix::process::Signal::HUP);
    let mut heard = String::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !(heard.contains("RELOADING=1")
        && heard.contains("MONOTONIC_USEC=")
        && heard.contains("READY=1"))
    {
        assert!(Instant::now() < deadline, "{heard}");
        heard.push_str(&daemon.heard());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_daemon_does_not_start_with_a_wrong_configuration_or_a_taken_port() {
    let scene = Scene::shared();
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
