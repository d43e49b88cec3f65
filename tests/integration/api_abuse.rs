//! Clients that mean no good: the daemon's memory stays what it is, its backups go on, and it answers others.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::api_client::{Answer, Called};
use crate::daemon_process::policy;
use crate::fixture::{Fixture, numbered};
use crate::testbed::Compression;

/// What the daemon holds in memory now, in bytes.
fn resident(called: &Called<'_>) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", called.daemon.process.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap()
        * 1024
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

/// A gigabyte in chunks, as far as it is taken; what was answered.
fn pour(port: u16, token: &str) -> String {
    let mut stream = connect(port);
    let head = format!(
        "POST /api/kafka/migrate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..(1 << 30) / 0x10000 {
        if stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn abuse_costs_neither_memory_nor_backups_nor_answers() {
    let scene = Fixture::shared();
    let topic = "abuse";
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 100));
    let called = Called::start(&scene);
    called
        .daemon
        .write_policies(&policy("abused", topic, "1s", ""));
    let succeeded = || {
        let series = "kafkeep_policy_runs_total{policy=\"abused\",result=\"success\"}";
        called.daemon.metric(series).unwrap_or(0.0)
    };
    called
        .daemon
        .wait_until("backups run", |_| succeeded() >= 1.0);
    // What all of it takes once is there before it is measured.
    called.get("/api/kafka/backups").ok();
    called.get("/api/openapi.json").ok();
    let port = called.daemon.port;
    let (before, runs_before) = (resident(&called), succeeded());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(called.daemon.get("/livez").0, 200);
                slowest = slowest.max(began.elapsed());
                std::thread::sleep(Duration::from_millis(50));
            }
            slowest
        });
        // Five hundred that never end their headers.
        let mut slow: Vec<TcpStream> = (0..500).map(|_| connect(port)).collect();
        for stream in &mut slow {
            stream
                .write_all(b"GET /api/kafka/backups HTTP/1.1\r\nX-Slow: ")
                .unwrap();
        }
        // Ten thousand tokens that nobody signed.
        let forging = scope.spawn(|| {
            let token = called.token("--subject eve --scope admin");
            let (head, _) = token.rsplit_once('.').unwrap();
            let mut stream = connect(port);
            let mut answer = vec![0; 1 << 16];
            for number in 0..10_000 {
                let request = format!(
                    "GET /api/kafka/backups HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {head}.{number:043}\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).unwrap();
                let length = stream.read(&mut answer).unwrap();
                assert!(answer[..length].starts_with(b"HTTP/1.1 401"), "{number}");
            }
        });
        for stream in &mut slow {
            stream.write_all(b"x").unwrap();
        }
        let token = called.token("--subject mallory --scope admin");
        let poured = pour(port, &token);
        assert!(
            poured.is_empty() || poured.starts_with("HTTP/1.1 413"),
            "{poured}"
        );
        let said = "POST /api/kafka/migrate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n";
        let said = format!("{said}Connection: close\r\nAuthorization: Bearer {token}\r\n\r\n{{");
        assert_eq!(Answer::to(port, &said).code, 413);
        for nested in ["[", "{\"a\":"] {
            let body = nested.repeat((1 << 20) / nested.len() - 1);
            let answer = called.call("POST", "/api/kafka/migrate", &[], &body);
            assert_eq!(answer.code, 400, "{answer:?}");
        }
        let endless = format!(
            "GET /livez HTTP/1.1\r\nX-Long: {}\r\n\r\n",
            "x".repeat(1 << 20)
        );
        let mut stream = connect(port);
        stream.write_all(endless.as_bytes()).ok();
        forging.join().unwrap();
        called
            .daemon
            .wait_until("backups go on", |_| succeeded() > runs_before + 2.0);
        called
            .post(
                "/api/kafka/clusters/prod/backup",
                &json!({ "topic": topic }),
            )
            .ok();
        over.store(true, Ordering::Relaxed);
        let slowest = watching.join().unwrap();
        // It hangs for nobody; how fast it is is not for a test to say.
        assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    });
    let grown = resident(&called).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more are in memory");
}

#[test]
fn slow_backups_over_http_keep_no_policy_from_its_runs() {
    let scene = Fixture::shared();
    let (slow, fast) = ("abuse.slow", "abuse.fast");
    for topic in [slow, fast] {
        scene.client.create_topic(topic, 1, &[]);
        let records = numbered(0, 5000);
        scene.client.produce(topic, 0, Compression::None, records);
    }
    let limits = "[limits]\ncalls_per_minute = 10000\nmax_concurrent_backups = 1\n";
    let called = Called::start_with(&scene, limits, "", None);
    let order = serde_json::json!({ "topic": slow, "rate_limit_per_second": 1 });
    let path = "/api/kafka/clusters/prod/backup";
    let jobs: Vec<_> = (0..3).map(|_| called.begin(path, &order)).collect();
    called
        .daemon
        .wait_until("a job runs", |_| called.job(&jobs[0])["state"] == "running");
    called
        .daemon
        .write_policies(&policy("every-second", fast, "1s", ""));
    called.daemon.wait_until("the policy runs beside it", |_| {
        let series = "kafkeep_policy_runs_total{policy=\"every-second\",result=\"success\"}";
        called.daemon.metric(series).unwrap_or(0.0) >= 10.0
    });
    assert_eq!(called.job(&jobs[0])["state"], "running");
    for job in jobs.iter().rev() {
        let job_id = job["job_id"].as_str().unwrap();
        let path = format!("/api/kafka/jobs/{job_id}");
        assert_eq!(called.delete(&path).code, 202);
    }
}

#[test]
fn drains_of_topics_that_are_not_there_leave_next_to_nothing() {
    let scene = Fixture::shared();
    let state = tempfile::tempdir().unwrap();
    let limits = "[limits]\ncalls_per_minute = 10000\n";
    let called = Called::start_with(&scene, limits, "", Some(state.path()));
    let path = "/api/kafka/clusters/prod/drain";
    let call = |round: usize| {
        // As long as Kafka lets names be.
        let names = (0..1000).map(|topic| format!("nowhere.{round}.{topic}.{}", "x".repeat(220)));
        let order = json!({ "group_id": "nobody", "topics": names.collect::<Vec<_>>() });
        let answer = called.post(path, &order);
        assert_eq!(answer.code, 404, "{answer:?}");
    };
    call(0);
    let before = resident(&called);
    (1..=250).for_each(call);
    let grown = resident(&called).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more are in memory");
    let list = called.get("/api/kafka/jobs?limit=1000").ok().to_string();
    assert!(list.len() < 2 << 20, "{} bytes of jobs", list.len());
    let files = fs::read_dir(state.path().join("jobs")).unwrap();
    let stored: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(stored < 2 << 20, "{stored} bytes are stored");
}
