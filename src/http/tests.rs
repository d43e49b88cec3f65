//! The port over real sockets, with a daemon behind it that has nothing to do.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::daemon::Daemon;

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// A port that serves until it is dropped.
struct Port {
    address: SocketAddr,
    _daemon: Daemon,
    _directory: TempDir,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Port {
    async fn open(capacity: Capacity) -> Self {
        let directory = TempDir::new().unwrap();
        let secret = directory.path().join("secret");
        let mut file = std::fs::OpenOptions::new();
        let file = file.write(true).create_new(true).mode(0o600);
        let mut file = file.open(&secret).unwrap();
        std::io::Write::write_all(&mut file, b"0123456789abcdef0123456789abcdef").unwrap();
        let configuration = format!(
            "[api]\nissuer = 'i'\naudience = 'a'\n[api.keys.ops]\nalgorithm = 'HS256'\nsecret = {{ file = '{}' }}\n",
            secret.display()
        );
        std::fs::write(directory.path().join("kafkeep.toml"), configuration).unwrap();
        let daemon = Daemon::prepare(directory.path(), None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server::bind(any, daemon.view()).await.unwrap();
        server.capacity = capacity;
        Self {
            address: server.address().unwrap(),
            _daemon: daemon,
            _directory: directory,
            serving: tokio::spawn(server.serve()),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// All that is answered to `sent` until the connection ends.
    async fn answered(&self, sent: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer
    }
}

/// One answer, head and body; empty where the connection ended instead.
async fn next_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then_some(value)
            });
            if body.len() >= length.unwrap().parse().unwrap() {
                return text;
            }
        }
        let mut more = [0; 4096];
        match timeout(SOON, stream.read(&mut more)).await.unwrap() {
            Ok(0) | Err(_) => return text,
            Ok(read) => answer.extend(&more[..read]),
        }
    }
}

#[tokio::test]
async fn health_is_answered_while_others_hold_all_connections_and_send_nothing() {
    let port = Port::open(Capacity {
        connections: 40,
        of_one_peer: 40,
        reserve: 10,
    })
    .await;
    let mut dripping = Vec::new();
    for _ in 0..45 {
        let mut stream = port.connect().await;
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nX: ")
            .await
            .unwrap();
        dripping.push(stream);
    }
    let began = Instant::now();
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    let health = port
        .answered(&format!("GET /livez HTTP/1.1\r\n{close}"))
        .await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    for path in ["/status", "/api/kafka/backups"] {
        let other = port
            .answered(&format!("GET {path} HTTP/1.1\r\n{close}"))
            .await;
        assert!(other.starts_with("HTTP/1.1 503"), "{other}");
        assert!(other.contains("too many connections"), "{other}");
    }
    // The others are put off after ten seconds.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    // Who drips in the reserve is put off soon: all of it is there for those who come then.
    for _ in 0..45 {
        let mut stream = port.connect().await;
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nX: ")
            .await
            .unwrap();
        dripping.push(stream);
    }
    let health = port
        .answered(&format!("GET /livez HTTP/1.1\r\n{close}"))
        .await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
}

#[tokio::test]
async fn a_head_that_could_mean_two_things_is_refused() {
    let port = Port::open(Capacity::default()).await;
    for path in ["/livez", "/api/kafka/backups"] {
        for (headers, said) in [
            ("", "exactly one Host"),
            ("Host: a\r\nHost: b\r\n", "exactly one Host"),
            (
                "Host: a\r\nAuthorization: Bearer x\r\nAuthorization: Bearer y\r\n",
                "at most one Authorization",
            ),
        ] {
            let sent = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
            let answer = port.answered(&sent).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{sent}{answer}");
            assert!(answer.contains(said), "{sent}{answer}");
        }
    }
    let old = port.answered("GET /livez HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
}

#[tokio::test]
async fn no_request_behind_an_unread_body_is_lost_without_a_word() {
    let port = Port::open(Capacity::default()).await;
    for (size, sent_at_first, is_kept) in [
        (0, 0, true),
        (30_000, 30_000, true),
        (30_000, 0, true),
        (500_000, 500_000, false),
        (2_000_000, 0, false),
    ] {
        for request in [
            "POST /api/kafka/migrate",
            "POST /api/none",
            "PUT /livez",
            "GET /status",
        ] {
            let mut stream = port.connect().await;
            let body = "x".repeat(size);
            let head = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
            let (first, rest) = body.split_at(sent_at_first);
            stream
                .write_all(format!("{head}{first}").as_bytes())
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            if is_kept {
                stream.write_all(rest.as_bytes()).await.unwrap();
            }
            let answer = next_answer(&mut stream).await.to_lowercase();
            assert!(
                answer.starts_with("http/1.1 "),
                "{request} {size}: {answer}"
            );
            let is_announced = answer.contains("\r\nconnection: close\r\n");
            assert_eq!(is_announced, !is_kept, "{request} {size}: {answer}");
            if is_kept {
                let next = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
                stream.write_all(next).await.unwrap();
                let answer = next_answer(&mut stream).await;
                assert!(answer.ends_with("ok\n"), "{request} {size}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_holds_its_body_back_is_not_told_to_send_it() {
    let port = Port::open(Capacity::default()).await;
    let mut stream = port.connect().await;
    let head = "POST /api/kafka/migrate HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = next_answer(&mut stream).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 401"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn answers_tell_browsers_to_trust_them_with_nothing() {
    let port = Port::open(Capacity::default()).await;
    for (path, policy) in [
        ("/", "style-src 'unsafe-inline'"),
        ("/status", "default-src 'none'; frame-ancestors 'none'"),
        (
            "/api/kafka/jobs",
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        let sent = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = port.answered(&sent).await;
        for header in [
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            policy,
        ] {
            assert!(answer.contains(header), "{path}: no {header} in {answer}");
        }
        assert_eq!(
            answer.contains("cache-control: no-store"),
            path.starts_with("/api"),
            "{answer}"
        );
    }
}
