//! Debian's faketime: the wall clock that a process sees. The monotonic clock stays right, as it does when somebody sets a
//! machine's clock.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A wall clock that a test sets while the process runs.
pub struct WrongClock {
    file: PathBuf,
}

impl WrongClock {
    /// Off by `offset` as faketime writes it (`+365d`, `-1h`), kept in a file at `path`.
    pub fn at(path: PathBuf, offset: &str) -> Self {
        let clock = Self { file: path };
        clock.set(offset);
        clock
    }

    /// Sets it.
    pub fn set(&self, offset: &str) {
        // A process that reads it sees the one offset or the other.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// Gives it to a command.
    pub fn put_on(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }
}

fn library() -> PathBuf {
    let name = Path::new("faketime/libfaketimeMT.so.1");
    let architectures = std::fs::read_dir("/usr/lib").unwrap();
    architectures
        .map(|entry| entry.unwrap().path().join(name))
        .find(|path| path.exists())
        .expect("faketime is needed: apt-get install faketime, or run tests/setup.sh")
}
