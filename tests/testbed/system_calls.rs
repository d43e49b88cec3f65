//! The built command, one of whose system calls on a directory fails. All its threads are seen, and calls that go past the C
//! library.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use libc::c_long;

use super::command::{Outcome, ended_within};
use super::seccomp::{Listener, Waiting};

/// What a process asks of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Open,
    /// The size and kind of a file, or the space of a file system.
    Examine,
    Read,
    /// The entries of a directory.
    List,
    Write,
    /// Sets a file's length, or takes space for it.
    Resize,
    Sync,
    Rename,
    Link,
    Unlink,
    MakeDirectory,
}

/// Which argument of a system call says what it is about.
#[derive(Clone, Copy)]
enum Subject {
    Descriptor(usize),
    /// A path, relative to the working directory.
    Path(usize),
    /// A path, relative to the directory whose descriptor is the argument before.
    PathBelow(usize),
}
use Subject::{Descriptor, Path as Named, PathBelow};

impl Call {
    pub const ALL: [Self; 11] = [
        Self::Open,
        Self::Examine,
        Self::Read,
        Self::List,
        Self::Write,
        Self::Resize,
        Self::Sync,
        Self::Rename,
        Self::Link,
        Self::Unlink,
        Self::MakeDirectory,
    ];

    /// The system calls that do it.
    fn numbers(self) -> Vec<(c_long, Subject)> {
        #[allow(unused_mut, reason = "newer machines know no older calls")]
        let mut numbers = match self {
            Self::Open => vec![
                (libc::SYS_openat, PathBelow(1)),
                (libc::SYS_openat2, PathBelow(1)),
            ],
            Self::Examine => vec![
                (libc::SYS_fstat, Descriptor(0)),
                (libc::SYS_newfstatat, PathBelow(1)),
                (libc::SYS_statx, PathBelow(1)),
                (libc::SYS_fstatfs, Descriptor(0)),
            ],
            Self::Read => vec![
                (libc::SYS_read, Descriptor(0)),
                (libc::SYS_pread64, Descriptor(0)),
                (libc::SYS_readv, Descriptor(0)),
                (libc::SYS_preadv, Descriptor(0)),
                (libc::SYS_preadv2, Descriptor(0)),
            ],
            Self::List => vec![(libc::SYS_getdents64, Descriptor(0))],
            Self::Write => vec![
                (libc::SYS_write, Descriptor(0)),
                (libc::SYS_pwrite64, Descriptor(0)),
                (libc::SYS_writev, Descriptor(0)),
                (libc::SYS_pwritev, Descriptor(0)),
                (libc::SYS_pwritev2, Descriptor(0)),
                (libc::SYS_copy_file_range, Descriptor(2)),
            ],
            Self::Resize => vec![
                (libc::SYS_ftruncate, Descriptor(0)),
                (libc::SYS_fallocate, Descriptor(0)),
            ],
            Self::Sync => vec![
                (libc::SYS_fsync, Descriptor(0)),
                (libc::SYS_fdatasync, Descriptor(0)),
                (libc::SYS_syncfs, Descriptor(0)),
            ],
            Self::Rename => vec![
                (libc::SYS_renameat, PathBelow(3)),
                (libc::SYS_renameat2, PathBelow(3)),
            ],
            Self::Link => vec![(libc::SYS_linkat, PathBelow(3))],
            Self::Unlink => vec![(libc::SYS_unlinkat, PathBelow(1))],
            Self::MakeDirectory => vec![(libc::SYS_mkdirat, PathBelow(1))],
        };
        #[cfg(target_arch = "x86_64")]
        numbers.extend(match self {
            Self::Open => vec![(libc::SYS_open, Named(0)), (libc::SYS_creat, Named(0))],
            Self::Examine => vec![(libc::SYS_stat, Named(0)), (libc::SYS_lstat, Named(0))],
            Self::Rename => vec![(libc::SYS_rename, Named(1))],
            Self::Link => vec![(libc::SYS_link, Named(1))],
            Self::Unlink => vec![(libc::SYS_unlink, Named(0)), (libc::SYS_rmdir, Named(0))],
            Self::MakeDirectory => vec![(libc::SYS_mkdir, Named(0))],
            _ => Vec::new(),
        });
        numbers
    }
}

/// A system call that fails, without an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub call: Call,
    /// Which of those calls, counted from 0.
    pub at: usize,
    /// The error number that it fails with.
    pub errno: i32,
    /// Whether all later ones fail as well.
    pub lasting: bool,
}

/// How a command ended that was watched.
pub struct Watched {
    pub outcome: Outcome,
    /// What it called, and on what, in the order of calls; of the kind that was to fail alone.
    pub calls: BTreeMap<Call, Vec<PathBuf>>,
    /// On what the first call that failed was made.
    pub struck: Option<PathBuf>,
}

/// Runs a command whose calls on `directory`, and on all below it, are watched; one fails, where the test wants that. A
/// command that takes longer than `limit` is killed, and the test fails.
#[track_caller]
pub fn watched(
    mut command: Command,
    directory: &Path,
    failure: Option<Failure>,
    limit: Duration,
) -> Watched {
    let kinds = failure.map_or(Call::ALL.to_vec(), |failure| vec![failure.call]);
    let known: Vec<(Call, c_long, Subject)> = kinds
        .iter()
        .flat_map(|kind| {
            let numbers = kind.numbers().into_iter();
            numbers.map(|(number, subject)| (*kind, number, subject))
        })
        .collect();
    let numbers: Vec<c_long> = known.iter().map(|(_, number, _)| *number).collect();
    let (begun, beginning) = sync_channel(1);
    let (calls, struck, outcome) = std::thread::scope(|scope| {
        // The filter stays with the thread that began it, and with the command.
        let starter = scope.spawn(move || {
            begun.send(Listener::begin(&numbers)).unwrap();
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        });
        let listener = beginning.recv().unwrap().unwrap_or_else(|error| {
            panic!("the kernel does not allow seccomp user notification, which this test needs: {error}")
        });
        let watcher = scope.spawn(move || watch(&listener, &known, directory, failure).unwrap());
        let child = starter.join().unwrap().unwrap();
        let outcome = ended_within(child, limit);
        let (calls, struck) = watcher.join().unwrap();
        (calls, struck, outcome)
    });
    Watched {
        outcome,
        calls,
        struck,
    }
}

type Calls = BTreeMap<Call, Vec<PathBuf>>;

/// Answers every call until nobody is left to call.
fn watch(
    listener: &Listener,
    known: &[(Call, c_long, Subject)],
    directory: &Path,
    failure: Option<Failure>,
) -> io::Result<(Calls, Option<PathBuf>)> {
    let (mut calls, mut struck) = (Calls::new(), None);
    while let Some(waiting) = listener.next()? {
        let found = known
            .iter()
            .find(|(_, number, _)| *number == waiting.number)
            // A caller that was killed meanwhile tells nothing any more.
            .and_then(|(call, _, subject)| Some((*call, path_of(&waiting, *subject).ok()?)))
            .filter(|(_, path)| path.starts_with(directory));
        let Some((call, path)) = found else {
            listener.answer(&waiting, None)?;
            continue;
        };
        let of_kind = calls.entry(call).or_default();
        let fails = failure.filter(|failure| {
            let at = of_kind.len();
            failure.at == at || (failure.lasting && failure.at < at)
        });
        listener.answer(&waiting, fails.map(|failure| failure.errno))?;
        if fails.is_some() {
            struck.get_or_insert_with(|| path.clone());
        }
        of_kind.push(path);
    }
    Ok((calls, struck))
}

/// What a call is about. The caller waits, so its memory and its descriptors stay as they are.
fn path_of(waiting: &Waiting, subject: Subject) -> io::Result<PathBuf> {
    let process = format!("/proc/{}", waiting.thread);
    // A descriptor is the lower half of its register.
    let descriptor = |argument: usize| match waiting.arguments[argument] as i32 {
        libc::AT_FDCWD => fs::read_link(format!("{process}/cwd")),
        number => fs::read_link(format!("{process}/fd/{number}")),
    };
    let text = |argument: usize| {
        let mut bytes = vec![0; 4096];
        // Shorter where the memory behind the text is not mapped.
        let memory = fs::File::open(format!("{process}/mem"))?;
        let length = memory.read_at(&mut bytes, waiting.arguments[argument])?;
        bytes.truncate(length);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(length);
        bytes.truncate(end);
        Ok::<PathBuf, io::Error>(std::ffi::OsString::from_vec(bytes).into())
    };
    match subject {
        Descriptor(argument) => descriptor(argument),
        Named(argument) => Ok(fs::read_link(format!("{process}/cwd"))?.join(text(argument)?)),
        PathBelow(argument) => {
            let path = text(argument)?;
            match path.is_absolute() {
                true => Ok(path),
                false => Ok(descriptor(argument - 1)?.join(path)),
            }
        }
    }
}
