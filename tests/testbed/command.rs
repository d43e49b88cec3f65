//! The built `kafkeep` command.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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
