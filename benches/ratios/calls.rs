//! The daemon's port: how long answers take while a backup runs at full speed, what that costs the backup, and how long a list of
//! ten thousand backups takes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kafkeep::repository::{BackupId, DirectoryStorage, Repository};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Arguments;
use crate::measure::kafkeep;
use crate::testbed::{Broker, free_port};
use crate::traffic::{PARTITIONS, SHAPES, fill};

/// Requests a second, over all endpoints together.
const RATE: u32 = 200;
/// Connections that they come over.
const CLIENTS: u32 = 8;
/// Quiet and busy times that take turns, and how long each takes: requests are made for 30 s in all.
const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_secs(5);
/// What 99 of 100 answers of an endpoint must take at most.
const P99: Duration = Duration::from_millis(50);
/// How much longer a backup may take beside them.
const SLOWER: f64 = 1.1;
/// How long a page of a list may take, and how many backups there are.
const PAGE: Duration = Duration::from_millis(100);
const BACKUPS: i64 = 10_000;

/// Measures all; returns how many bounds were missed.
pub fn measure(broker: &Broker, arguments: &Arguments) -> usize {
    // A backup of about a second: several fit into a round.
    let bytes = (arguments.size << 20).min(512 << 20);
    println!(
        "\nthe port at {RATE} requests a second for {} s, beside backups of {} MiB",
        (ROUND * ROUNDS as u32).as_secs(),
        bytes >> 20
    );
    let shape = &SHAPES[0];
    fill(broker, shape, bytes, arguments.batch);
    let daemon = Daemon::start(broker);
    daemon.backup(shape.topic);
    let missed = beside_a_backup(&daemon, shape.topic) + many_backups(&daemon);
    crate::testbed::Client::new(&broker.address()).delete_topic(shape.topic);
    missed
}

fn beside_a_backup(daemon: &Daemon, topic: &str) -> usize {
    let kept = daemon.backup(topic);
    let jobs = daemon.client().get("/api/kafka/jobs");
    let job = jobs["jobs"][0]["job_id"].as_str().unwrap();
    let paths: Arc<[String]> = [
        "/livez",
        "/readyz?verbose",
        "/metrics",
        "/status",
        "/",
        "/api/openapi.json",
        "/api/kafka/metrics",
        "/api/kafka/backups",
        "/api/kafka/jobs",
        &format!("/api/kafka/backups/{kept}"),
        &format!("/api/kafka/jobs/{job}"),
    ]
    .map(str::to_owned)
    .into();
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    let mut latencies: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        quiet.extend(daemon.backups_for(ROUND, topic));
        let until = Instant::now() + ROUND;
        let callers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (mut client, paths) = (daemon.client(), Arc::clone(&paths));
                thread::spawn(move || client.call_until(until, number, &paths))
            })
            .collect();
        busy.extend(daemon.backups_for(ROUND, topic));
        for caller in callers {
            for (path, took) in caller.join().unwrap() {
                latencies.entry(path).or_default().push(took);
            }
        }
    }
    let mut missed = 0;
    for (path, mut took) in latencies {
        took.sort();
        let (half, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
        let fast = p99 <= P99;
        missed += usize::from(!fast);
        println!(
            "{:<34}{:>6} calls, half of them within {:.1} ms, 99 % within {:.1} ms (≤ {}){}",
            path.replace(&kept, "{id}").replace(job, "{id}"),
            took.len(),
            half.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3,
            P99.as_millis(),
            mark(fast)
        );
    }
    let (quiet, busy) = (median(quiet), median(busy));
    let slower = busy.as_secs_f64() / quiet.as_secs_f64();
    println!(
        "a backup takes {:.2} s alone, {:.2} s beside them: {slower:.2} (≤ {SLOWER}){}",
        quiet.as_secs_f64(),
        busy.as_secs_f64(),
        mark(slower <= SLOWER)
    );
    missed + usize::from(slower > SLOWER)
}

/// Copies the manifest that is there until there are ten thousand, and reads them all, page by page.
fn many_backups(daemon: &Daemon) -> usize {
    let storage = DirectoryStorage::open(&daemon.directory.path().join("repository")).unwrap();
    let repository = Repository::open(Arc::new(storage)).unwrap();
    let known = repository.backup_ids().unwrap();
    let mut manifest = repository.manifest(&known[0]).unwrap();
    for number in known.len() as i64..BACKUPS {
        let minute = chrono::TimeDelta::minutes(number);
        manifest.backup_id = BackupId::new(known[0].started_at() - minute);
        repository.publish(&manifest).unwrap();
    }
    let mut client = daemon.client();
    let began = Instant::now();
    client.get("/api/kafka/backups");
    let first = began.elapsed();
    let (mut pages, mut found) = (Vec::new(), 0);
    let mut after = String::new();
    loop {
        let began = Instant::now();
        let page = client.get(&format!("/api/kafka/backups?limit=100{after}"));
        pages.push(began.elapsed());
        found += page["backups"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(found as i64, BACKUPS);
    let slowest = *pages.iter().max().unwrap();
    let kept = slowest <= PAGE;
    println!(
        "{BACKUPS} backups in pages of 100: {:.1} ms each, the slowest {:.1} ms (≤ {}){}; the first time {:.0} ms",
        median(pages).as_secs_f64() * 1e3,
        slowest.as_secs_f64() * 1e3,
        PAGE.as_millis(),
        mark(kept),
        first.as_secs_f64() * 1e3
    );
    usize::from(!kept)
}

fn mark(kept: bool) -> &'static str {
    if kept { "" } else { " MISSED" }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// A daemon with an API, and nothing to do but what it is told.
struct Daemon {
    directory: TempDir,
    port: u16,
    token: String,
    process: Child,
}

impl Daemon {
    fn start(broker: &Broker) -> Self {
        let directory = TempDir::new().unwrap();
        let at = directory.path();
        let port = free_port();
        fs::write(at.join("api.key"), "0123456789abcdef0123456789abcdef").unwrap();
        fs::set_permissions(at.join("api.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let toml = format!(
            "[http]\nlisten = '127.0.0.1:{port}'\n\
             [clusters.prod]\nbootstrap_servers = ['{}']\n[repositories.main]\npath = '{}'\n\
             [limits]\ncalls_per_minute = 1000000\n[api]\nissuer = 'bench'\naudience = 'bench'\n\
             [api.keys.bench]\nalgorithm = 'HS256'\nsecret = {{ file = '{}' }}\n",
            broker.address(),
            at.join("repository").display(),
            at.join("api.key").display()
        );
        fs::write(at.join("kafkeep.toml"), toml).unwrap();
        let process = Command::new(kafkeep())
            .arg("run")
            .arg("--config")
            .arg(at)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the daemon does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        let token = token(at);
        Self {
            directory,
            port,
            token,
            process,
        }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream: BufReader::new(stream),
            token: self.token.clone(),
        }
    }

    /// Backs all of the topic up, apart from any chain, so that each backup does the same work.
    fn backup(&self, topic: &str) -> String {
        let order = json!({
            "topic": topic, "partitions": (0..PARTITIONS).collect::<Vec<_>>(), "compression": "none",
            "rate_limit_per_second": 1_000_000_000_000_u64,
        });
        let path = "/api/kafka/clusters/prod/backup";
        let done = self.client().call("POST", path, &order.to_string());
        done["backup_id"].as_str().unwrap().to_owned()
    }

    /// How long backups take that are made one after the other, and deleted.
    fn backups_for(&self, time: Duration, topic: &str) -> Vec<Duration> {
        let until = Instant::now() + time;
        let mut took = Vec::new();
        while Instant::now() < until {
            let began = Instant::now();
            let id = self.backup(topic);
            took.push(began.elapsed());
            let path = format!("/api/kafka/backups/{id}");
            self.client().call("DELETE", &path, "");
        }
        took
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn token(config: &Path) -> String {
    let minted = Command::new(kafkeep())
        .args([
            "token",
            "--subject",
            "bench",
            "--scope",
            "admin",
            "--config",
        ])
        .arg(config)
        .output()
        .unwrap();
    let token = String::from_utf8(minted.stdout).unwrap();
    token.trim().to_owned()
}

/// A connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Client {
    fn get(&mut self, path: &str) -> Value {
        self.call("GET", path, "")
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> Value {
        let (code, body) = self.answer(method, path, body);
        assert_eq!(code, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    fn answer(&mut self, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut code, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(status) = line.strip_prefix("http/1.1 ") {
                code = status[..3].parse().unwrap();
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (code, body)
    }

    /// Calls the paths in turn, at this client's part of the rate. A call's time runs from when it was due: one that comes late
    /// because the one before took long has waited, too.
    fn call_until(
        &mut self,
        until: Instant,
        number: u32,
        paths: &[String],
    ) -> Vec<(String, Duration)> {
        let each = Duration::from_secs(1) * CLIENTS / RATE;
        let mut due = Instant::now() + each * number / CLIENTS;
        let mut took = Vec::new();
        for path in paths.iter().cycle().skip(number as usize) {
            if due >= until {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (code, _) = self.answer("GET", path, "");
            assert_eq!(code, 200, "{path}");
            took.push((path.clone(), due.elapsed()));
            due += each;
        }
        took
    }
}
