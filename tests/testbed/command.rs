//! The built `kafkeep` command.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How a run of the command ended.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Of a process that has ended.
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The report that `--json` printed.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The report of a run that must have ended with exit code 0.
    #[track_caller]
    pub fn done(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self}");
        self.json()
    }

    /// What was printed for people, when it went well.
    #[track_caller]
    pub fn done_plain(&self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout.trim_end().to_owned()
    }

    /// Of a run that must have ended with this exit code, and said all this on standard error.
    #[track_caller]
    pub fn refused(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code, "{self}");
        for text in said {
            assert!(self.stderr.contains(text), "{text:?} is not in: {self}");
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit code {}\n--- stdout\n{}\n--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// The command, not run yet; it sees no configuration of this machine.
fn kafkeep_command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .stdin(Stdio::null())
        .env_remove("KAFKEEP_CONFIG")
        .env_remove("RUST_LOG");
    command
}

/// Runs the command to its end.
pub fn kafkeep<S: AsRef<OsStr>>(binary: &Path, arguments: impl IntoIterator<Item = S>) -> Outcome {
    Outcome::of(kafkeep_command(binary).args(arguments).output().unwrap())
}

/// Runs the command to its end, and kills it when that takes longer than `limit`: the test then fails, and shows what was printed.
#[track_caller]
pub fn kafkeep_within<S: AsRef<OsStr>>(
    binary: &Path,
    arguments: impl IntoIterator<Item = S>,
    limit: Duration,
) -> Outcome {
    let mut command = kafkeep_command(binary);
    let child = command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ended_within(child, limit)
}

/// How a process with piped output ends, which is killed after `limit`: the test then fails.
#[track_caller]
pub fn ended_within(mut child: Child, limit: Duration) -> Outcome {
    let deadline = Instant::now() + limit;
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => break None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    if status.is_none() {
        child.kill().unwrap();
    }
    let printed = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
        reader.map_or_else(Vec::new, |reader| reader.join().unwrap())
    };
    let outcome = Outcome::of(Output {
        status: child.wait().unwrap(),
        stdout: printed(stdout),
        stderr: printed(stderr),
    });
    assert!(
        status.is_some(),
        "not ended within {limit:?}, and killed: {outcome}"
    );
    outcome
}

fn read_all(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}
