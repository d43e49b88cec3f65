//! Who holds a lock, and whether that process is provably gone.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version 7 UUID in a lock's name. It changes whenever the lock is refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LockId(pub Uuid);

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// Which locks go together: shared ones with shared ones, an exclusive one with none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockKind {
    /// Reads backups or adds some.
    Shared,
    /// Removes backups or what they needed.
    Exclusive,
}

/// A lock that is not refreshed for so long is called stale. It still holds.
pub const STALE_AFTER: Duration = Duration::from_secs(30 * 60);

/// The content of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// The lock's present id, which is in its file's name.
    pub lock_id: LockId,
    /// What it goes together with.
    pub kind: LockKind,
    /// What it was taken for, in a word or two.
    pub purpose: String,
    /// When it was taken.
    pub started_at: DateTime<Utc>,
    /// When its holder last said that it is alive.
    pub refreshed_at: DateTime<Utc>,
    /// The process that holds it.
    #[serde(flatten)]
    pub process: Process,
}

impl LockHolder {
    /// Whether it was not refreshed for [`STALE_AFTER`].
    pub fn is_stale(&self, now: DateTime<Utc>) -> bool {
        (now - self.refreshed_at)
            .to_std()
            .is_ok_and(|age| age > STALE_AFTER)
    }

    pub(super) fn conflicts_with(&self, kind: LockKind) -> bool {
        self.kind == LockKind::Exclusive || kind == LockKind::Exclusive
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let Process { host, pid, .. } = &self.process;
        write!(
            f,
            "{} is running as process {pid} on {host} since {}",
            self.purpose,
            time(self.started_at)
        )?;
        if self.is_stale(Utc::now()) {
            let id = self.lock_id;
            write!(
                f,
                ", but gave no sign of life since {}",
                time(self.refreshed_at)
            )?;
            write!(
                f,
                ": when that process is surely gone, remove locks/{id}.json"
            )?;
        }
        Ok(())
    }
}

/// A process, told apart from all that had or will have its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The host's name, as the kernel has it.
    pub host: String,
    /// Its process id in its own namespace.
    pub pid: u32,
    /// The user that it runs as.
    pub uid: u32,
    /// When it began, in the kernel's clock ticks since the host was started.
    pub start_ticks: u64,
    /// The host's identity, from `/etc/machine-id`.
    pub machine_id: String,
    /// Changes whenever the host is started: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The namespace that the number is of: `/proc/self/ns/pid`.
    pub pid_namespace: String,
}

/// The namespace of processes in no container; the kernel's `PROC_PID_INIT_INO`.
const OUTERMOST_NAMESPACE: &str = "pid:[4026531836]";

impl Process {
    /// This process. What the system does not tell stays empty, and proves nothing later.
    pub(super) fn this() -> Self {
        let line = |path: &str| {
            fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let pid = std::process::id();
        Self {
            host: line("/proc/sys/kernel/hostname"),
            pid,
            uid: fs::metadata("/proc/self")
                .map(|process| process.uid())
                .unwrap_or(u32::MAX),
            start_ticks: start_ticks(pid).unwrap_or_default(),
            machine_id: line("/etc/machine-id"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            pid_namespace: fs::read_link("/proc/self/ns/pid")
                .map(|namespace| namespace.display().to_string())
                .unwrap_or_default(),
        }
    }

    /// Whether it is certain that this process, which `witness` asks about, no longer runs.
    pub(super) fn is_gone(&self, witness: &Self) -> bool {
        let known = |process: &Self| {
            ![&process.host, &process.boot_id, &process.pid_namespace]
                .iter()
                .any(|text| text.is_empty())
                && process.start_ticks > 0
        };
        if !known(self) || !known(witness) || self.host != witness.host {
            return false;
        }
        if self.boot_id == witness.boot_id {
            // Numbers mean the same only within a namespace, and `/proc` may hide other users' processes.
            return self.pid_namespace == witness.pid_namespace
                && self.uid == witness.uid
                && proc_shows(witness)
                && start_ticks(self.pid) != Some(self.start_ticks);
        }
        // The host was started anew since. Containers may share names and machine ids, whole hosts do not.
        let outermost = |process: &Self| process.pid_namespace == OUTERMOST_NAMESPACE;
        !self.machine_id.is_empty()
            && self.machine_id == witness.machine_id
            && outermost(self)
            && outermost(witness)
    }
}

/// Whether `/proc` is that of this process's own namespace.
fn proc_shows(witness: &Process) -> bool {
    witness.pid == std::process::id() && start_ticks(witness.pid) == Some(witness.start_ticks)
}

/// When a process began. One that has ended has not, though nobody has asked yet how (a zombie), as where PID 1 of a container
/// asks nobody.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let after_name = stat.rsplit(|byte| *byte == b')').next()?;
    let mut fields = std::str::from_utf8(after_name)
        .ok()?
        .split_ascii_whitespace();
    let state = fields.next()?;
    if ["Z", "X", "x"].contains(&state) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_is_never_taken_for_gone() {
        let this = Process::this();
        assert!(!this.is_gone(&this));
        let elsewhere = Process {
            host: "elsewhere".to_owned(),
            pid: u32::MAX,
            ..this.clone()
        };
        assert!(!elsewhere.is_gone(&this));
        let in_a_container = Process {
            pid_namespace: "pid:[1]".to_owned(),
            pid: u32::MAX,
            ..this.clone()
        };
        assert!(!in_a_container.is_gone(&this));
        let of_another_user = Process {
            uid: this.uid + 1,
            pid: u32::MAX,
            ..this.clone()
        };
        assert!(!of_another_user.is_gone(&this));
        let unknown = Process {
            boot_id: String::new(),
            pid: u32::MAX,
            ..this.clone()
        };
        assert!(!unknown.is_gone(&this));
    }

    #[test]
    fn a_process_is_gone_when_its_number_is_free_or_given_to_another() {
        let this = Process::this();
        assert!(
            Process {
                pid: u32::MAX,
                ..this.clone()
            }
            .is_gone(&this)
        );
        assert!(
            Process {
                start_ticks: this.start_ticks + 1,
                ..this.clone()
            }
            .is_gone(&this)
        );
    }

    #[test]
    fn a_process_that_ended_is_gone_though_its_parent_has_not_asked_how() {
        let this = Process::this();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let running = start_ticks(child.id());
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let stat = || fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        while !stat().contains(") Z ") {
            assert!(std::time::Instant::now() < deadline, "{}", stat());
            std::thread::yield_now();
        }
        let zombie = Process {
            pid: child.id(),
            start_ticks: running.unwrap_or(1),
            ..this.clone()
        };
        assert!(zombie.is_gone(&this));
        child.wait().unwrap();
    }

    #[test]
    fn a_process_is_gone_when_its_host_was_started_anew() {
        let witness = Process {
            pid_namespace: OUTERMOST_NAMESPACE.to_owned(),
            machine_id: "0123".to_owned(),
            ..Process::this()
        };
        let before = Process {
            boot_id: "another".to_owned(),
            ..witness.clone()
        };
        assert!(before.is_gone(&witness));
        assert!(
            !Process {
                machine_id: "4567".to_owned(),
                ..before.clone()
            }
            .is_gone(&witness)
        );
        assert!(
            !Process {
                pid_namespace: "pid:[1]".to_owned(),
                ..before
            }
            .is_gone(&witness)
        );
    }
}
