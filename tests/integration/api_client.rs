//! The API of a daemon, called with tokens.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::daemon_process::Daemon;
use crate::fixture::Fixture;
use crate::kafkeep;

/// A daemon with a key for tokens, and what a `read admin` or other token of it gets.
pub struct Called<'a> {
    pub daemon: Daemon<'a>,
    token: String,
}

/// `[api]`, and a key in a file.
fn api(scene: &Fixture<'_>, more: &str) -> String {
    let secret = scene.beside("api.key");
    fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    format!(
        "[api]\nissuer = 'kafkeep'\naudience = 'kafkeep'\n{more}\n\
         [api.keys.test]\nalgorithm = 'HS256'\nsecret = {{ file = '{}' }}\n",
        secret.display()
    )
}

impl<'a> Called<'a> {
    pub fn start(scene: &'a Fixture<'a>) -> Self {
        Self::start_with(scene, "[limits]\ncalls_per_minute = 10000\n", "", None)
    }

    /// With more in `kafkeep.toml`, and in its `[api]`; and a directory for its state.
    pub fn start_with(
        scene: &'a Fixture<'a>,
        more: &str,
        more_of_api: &str,
        state: Option<&Path>,
    ) -> Self {
        let more = format!("{more}{}", api(scene, more_of_api));
        let daemon = match state {
            Some(state) => Daemon::start_remembering_with(scene, &more, "", state),
            None => Daemon::start_with(scene, &more, ""),
        };
        let token = token(&daemon, "--subject alice --scope admin");
        Self { daemon, token }
    }

    /// A token for what these arguments say.
    pub fn token(&self, arguments: &str) -> String {
        token(&self.daemon, arguments)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[], &body.to_string())
    }

    /// Without waiting for what comes of it: the job.
    pub fn begin(&self, path: &str, body: &Value) -> Value {
        let answer = self.call("POST", path, &["Prefer: respond-async"], &body.to_string());
        assert_eq!(answer.code, 202, "{answer:?}");
        answer.body
    }

    pub fn job(&self, job: &Value) -> Value {
        self.get(&format!(
            "/api/kafka/jobs/{}",
            job["job_id"].as_str().unwrap()
        ))
        .ok()
    }

    /// The job when it has ended.
    pub fn ended(&self, job: &Value) -> Value {
        let is_over = |job: &Value| {
            !["waiting", "running", "stopping"].contains(&job["state"].as_str().unwrap())
        };
        self.daemon
            .wait_until("the job ends", |_| is_over(&self.job(job)));
        self.job(job)
    }

    pub fn call(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        self.call_as(&self.token, method, path, headers, body)
    }

    /// The same with another token.
    pub fn call_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Answer {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        if !token.is_empty() {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if !headers
            .iter()
            .any(|header| header.starts_with("Content-Type"))
            && !body.is_empty()
        {
            request += "Content-Type: application/json\r\n";
        }
        for header in headers {
            request += &format!("{header}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        Answer::to(self.daemon.port, &request)
    }
}

fn token(daemon: &Daemon<'_>, arguments: &str) -> String {
    let config = daemon.directory.to_str().unwrap();
    let mut all = vec!["token", "--config", config];
    all.extend(arguments.split(' '));
    kafkeep(all).done_plain()
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: Value,
}

impl Answer {
    /// To a whole request.
    pub fn to(port: u16, request: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        // A body that is refused is not read to its end.
        stream.write_all(request.as_bytes()).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{answer:?}"));
        Self {
            code: head.split_whitespace().nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.code, 200, "{self:?}");
        self.body
    }

    /// A failure, in the documented body: its message.
    #[track_caller]
    pub fn failed(&self, code: u16, error: &str, field: Option<&str>) -> &str {
        assert_eq!(
            (self.code, self.body["error"].as_str()),
            (code, Some(error)),
            "{self:?}"
        );
        assert_eq!(self.body["details"]["field"].as_str(), field, "{self:?}");
        assert!(self.header("x-request-id").is_some(), "{self:?}");
        self.body["message"].as_str().unwrap()
    }
}
