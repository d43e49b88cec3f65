//! Where an export goes: a directory in which nothing appears before it is whole and durable.
//!
//! Every name below it is opened from the directory's own descriptor, without following symbolic links.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use uuid::Uuid;

use crate::engine::EngineError;

const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
/// Small writes are gathered up to this much.
const BUFFER: usize = 256 << 10;
/// The longest text file that is read.
const TEXT_LIMIT: u64 = 64 << 20;
/// What the name of an unfinished export begins with.
const UNFINISHED: &str = ".kafkeep-export-";

/// The directory that is exported into.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    descriptor: OwnedFd,
}

fn failed(action: &'static str, path: &Path, error: impl Into<io::Error>) -> EngineError {
    EngineError::Output {
        action,
        path: path.to_owned(),
        source: error.into(),
    }
}

impl Directory {
    /// Opens the directory; makes it, and those above it, where they are not there.
    pub fn create(path: &Path) -> Result<Self, EngineError> {
        std::fs::create_dir_all(path)
            .map_err(|error| failed("create the directory", path, error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| failed("open", path, errno))?;
        Ok(Self {
            path: path.to_owned(),
            descriptor,
        })
    }

    /// The text of a file below the directory at `path`; empty when it is not there.
    pub fn read(path: &Path, name: &str) -> Result<String, EngineError> {
        let path = path.join(name);
        let failed = |error| failed("read", &path, error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
            Err(errno) => return Err(failed(errno.into())),
        };
        let mut text = String::new();
        file.take(TEXT_LIMIT)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Ok(text)
    }

    /// Begins something that gets its name when it is whole.
    pub fn begin(&self) -> Result<Unfinished<'_>, EngineError> {
        let name = format!("{UNFINISHED}{}", Uuid::new_v4());
        let path = self.path.join(&name);
        rustix::fs::mkdirat(&self.descriptor, &name, DIRECTORY_MODE)
            .map_err(|errno| failed("create the directory", &path, errno))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(&self.descriptor, &name, flags, Mode::empty())
            .map_err(|errno| failed("open", &path, errno))?;
        Ok(Unfinished {
            parent: self,
            name,
            path,
            descriptor,
        })
    }

    /// Puts a small file in the place of one of the same name.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), EngineError> {
        let unfinished = self.begin()?;
        let mut file = unfinished.create(name)?;
        file.append(content)?;
        file.finish()?;
        rustix::fs::renameat(&unfinished.descriptor, name, &self.descriptor, name)
            .map_err(|errno| failed("write", &self.path.join(name), errno))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), EngineError> {
        rustix::fs::fsync(&self.descriptor)
            .map_err(|errno| failed("sync the directory", &self.path, errno))
    }
}

/// A directory under a temporary name, and files in it; dropped unpublished, it is removed with all that it holds.
#[derive(Debug)]
pub(super) struct Unfinished<'a> {
    parent: &'a Directory,
    name: String,
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Unfinished<'_> {
    /// Creates a file in it.
    pub fn create(&self, name: &str) -> Result<OutputFile, EngineError> {
        let path = self.path.join(name);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.descriptor, name, flags, FILE_MODE)
            .map_err(|errno| failed("create", &path, errno))?;
        Ok(OutputFile {
            path,
            length: 0,
            file: BufWriter::with_capacity(BUFFER, File::from(file)),
        })
    }

    /// Makes the whole directory appear as `name`, in the place of nothing or of an empty directory.
    pub fn publish(self, name: &str) -> Result<PathBuf, EngineError> {
        let (parent, target) = (self.parent, self.parent.path.join(name));
        rustix::fs::fsync(&self.descriptor)
            .map_err(|errno| failed("sync the directory", &self.path, errno))?;
        // The kernel itself refuses to put a directory in the place of one that is not empty, or of a file.
        rustix::fs::renameat(&parent.descriptor, &self.name, &parent.descriptor, name)
            .map_err(|errno| not_published(&target, errno))?;
        parent.sync()?;
        Ok(target)
    }

    /// Makes one of its files appear as `target`, in the place of nothing.
    pub fn publish_file(self, name: &str, target: &str) -> Result<PathBuf, EngineError> {
        let parent = self.parent;
        let path = parent.path.join(target);
        let (from, to) = (&self.descriptor, &parent.descriptor);
        match rustix::fs::renameat_with(from, name, to, target, RenameFlags::NOREPLACE) {
            // File systems that know no flags (NFS among them) still know that a link replaces nothing.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                rustix::fs::linkat(from, name, to, target, AtFlags::empty())
            }
            result => result,
        }
        .map_err(|errno| not_published(&path, errno))?;
        parent.sync()?;
        Ok(path)
    }
}

fn not_published(target: &Path, errno: Errno) -> EngineError {
    match errno {
        Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR => {
            EngineError::refused(taken(target))
        }
        _ => failed("write", target, errno),
    }
}

/// What is said of a target that is there already.
pub(super) fn taken(target: &Path) -> String {
    format!(
        "{} exists already and nothing is overwritten: remove it, or export into another directory",
        target.display()
    )
}

/// Whether a target is free: nothing is there, or only an empty directory where a directory is to be.
pub(super) fn is_free(target: &Path, directory: bool) -> bool {
    match std::fs::symlink_metadata(target) {
        // A file in the place of the export's directory is told of when that is made.
        Err(error) => matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ),
        Ok(found) => {
            let is_empty =
                || std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
            directory && found.is_dir() && is_empty()
        }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // After publishing there is nothing of this name; after a failure nobody is left to tell.
        std::fs::remove_dir_all(&self.path).ok();
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    length: u64,
    file: BufWriter<File>,
}

impl OutputFile {
    /// Appends.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.write_all(bytes)
            .map_err(|error| failed("write", &self.path, error))
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Makes it durable.
    pub fn finish(mut self) -> Result<u64, EngineError> {
        let synced = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| failed("write", &self.path, error))?;
        Ok(self.length)
    }

    /// What a write through [`Write`] failed with.
    pub fn failed(&self, error: io::Error) -> EngineError {
        failed("write", &self.path, error)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = Directory::create(scratch.path()).unwrap();
        let unfinished = directory.begin().unwrap();
        unfinished.create("a").unwrap().append(b"half").unwrap();
        assert_eq!(names(scratch.path()).len(), 1);
        drop(unfinished);
        assert!(names(scratch.path()).is_empty());
    }

    #[test]
    fn a_directory_takes_the_place_of_an_empty_one_only() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = Directory::create(scratch.path()).unwrap();
        std::fs::create_dir(scratch.path().join("t-0")).unwrap();
        let publish = || {
            let unfinished = directory.begin().unwrap();
            unfinished.create("a").unwrap().finish().unwrap();
            unfinished.publish("t-0")
        };
        publish().unwrap();
        assert!(matches!(publish(), Err(EngineError::Refused(_))));
        assert_eq!(names(scratch.path()), ["t-0"]);
        assert_eq!(names(&scratch.path().join("t-0")), ["a"]);
    }

    #[test]
    fn a_file_and_a_symbolic_link_are_not_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = Directory::create(scratch.path()).unwrap();
        std::os::unix::fs::symlink("/nowhere", scratch.path().join("linked")).unwrap();
        std::fs::write(scratch.path().join("file"), b"mine").unwrap();
        for target in ["linked", "file"] {
            let unfinished = directory.begin().unwrap();
            unfinished.create("a").unwrap().finish().unwrap();
            let published = unfinished.publish_file("a", target);
            assert!(
                matches!(published, Err(EngineError::Refused(_))),
                "{target}"
            );
            let published = directory.begin().unwrap().publish(target);
            assert!(
                matches!(published, Err(EngineError::Refused(_))),
                "{target}"
            );
        }
        assert_eq!(std::fs::read(scratch.path().join("file")).unwrap(), b"mine");
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let full = failed("write", Path::new("/out/t-0"), Errno::NOSPC);
        assert!(full.to_string().contains("free some space"), "{full}");
        assert!(!full.is_transient());
    }
}
