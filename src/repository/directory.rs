//! A repository in a directory of a local or mounted file system.
//!
//! An object is written under `.tmp/`, synced, renamed to its name without replacing, and its directory is synced. Every
//! path is walked from the repository's directory without following symbolic links, and only regular files are opened.

mod buffers;
mod temporary;
mod writer;

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{Advice, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::RepositoryError;
use super::storage::{ObjectInfo, ObjectName, ObjectWriter, Storage, is_segment};
use buffers::{ReadPool, WritePool};
use temporary::Temporary;
use writer::DirectoryWriter;

const TEMPORARY_DIRECTORY: &str = ".tmp";
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o750);
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
/// Reads from this length on are taken for bulk reads, whose pages are not worth keeping in the system's cache.
const BULK: u64 = 1 << 20;

/// The directory backend. Clones share the open directory and the recycled buffers.
#[derive(Debug, Clone)]
pub struct DirectoryStorage {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: String,
    directory: OwnedFd,
    /// Directories whose entries up to the root this process has synced.
    durable: Mutex<HashSet<String>>,
    write_buffers: WritePool,
    read_buffers: ReadPool,
}

impl DirectoryStorage {
    /// Opens a directory that exists.
    pub fn open(path: &Path) -> Result<Self, RepositoryError> {
        let location = path.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
            let not_a_repository = |reason: &str| RepositoryError::NotARepository {
                location: location.clone(),
                reason: reason.to_owned(),
            };
            match errno {
                Errno::NOENT => not_a_repository("it does not exist"),
                Errno::NOTDIR => not_a_repository("a file, not a directory, has this path"),
                _ => RepositoryError::system("open", &location, errno),
            }
        })?;
        Ok(Self {
            root: Arc::new(Root {
                path: location,
                directory,
                durable: Mutex::default(),
                write_buffers: WritePool::default(),
                read_buffers: ReadPool::default(),
            }),
        })
    }

    /// Opens a directory; makes it, and the directories above it, when they do not exist.
    pub fn create(path: &Path) -> Result<Self, RepositoryError> {
        make_durable_directory(path)?;
        Self::open(path)
    }
}

/// `mkdir -p`, with every directory that gained an entry synced.
fn make_durable_directory(path: &Path) -> Result<(), RepositoryError> {
    let location = path.display().to_string();
    match rustix::fs::mkdirat(CWD, path, DIRECTORY_MODE) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(Errno::NOENT) => {
            let Some(parent) = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
            else {
                return Err(RepositoryError::system(
                    "create directory",
                    &location,
                    Errno::NOENT,
                ));
            };
            make_durable_directory(parent)?;
            match rustix::fs::mkdirat(CWD, path, DIRECTORY_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => {
                    return Err(RepositoryError::system(
                        "create directory",
                        &location,
                        errno,
                    ));
                }
            }
        }
        Err(Errno::NOTDIR) => {
            return Err(RepositoryError::NotARepository {
                location,
                reason: "a part of this path is a file, not a directory".to_owned(),
            });
        }
        Err(errno) => {
            return Err(RepositoryError::system(
                "create directory",
                &location,
                errno,
            ));
        }
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| RepositoryError::Io {
            action: "sync directory",
            path: parent.display().to_string(),
            source,
        })
}

impl Storage for DirectoryStorage {
    fn location(&self) -> String {
        self.root.path.clone()
    }

    fn is_empty(&self) -> Result<bool, RepositoryError> {
        let nothing = [".", "..", TEMPORARY_DIRECTORY, "lost+found"].map(str::as_bytes);
        for entry in self.root.entries(&self.root.directory, "")? {
            let entry = entry.map_err(|errno| self.root.error("list", "", errno))?;
            if !nothing.contains(&entry.file_name().to_bytes()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn put_new(&self, name: &ObjectName, content: &[u8]) -> Result<(), RepositoryError> {
        let mut temporary = Temporary::create(&self.root)?;
        temporary.append(content)?;
        temporary.publish(name)
    }

    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>, RepositoryError> {
        Ok(Box::new(DirectoryWriter::begin(
            Temporary::create(&self.root)?,
            name.clone(),
        )?))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Bytes, RepositoryError> {
        let (file, size) = self.root.open_file(name)?;
        if size > limit {
            return Err(RepositoryError::ObjectTooLarge {
                name: name.to_string(),
                size,
                limit,
            });
        }
        self.root.read(&file, name, 0..size, size)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, RepositoryError> {
        let (file, size) = self.root.open_file(name)?;
        self.root.read(&file, name, range, size)
    }

    fn size(&self, name: &ObjectName) -> Result<u64, RepositoryError> {
        Ok(self.root.open_file(name)?.1)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, RepositoryError> {
        let mut found = Vec::new();
        let directory = match prefix.strip_suffix('/') {
            Some(path) => {
                let name = ObjectName::new(path)?;
                let (parents, last) = name.split();
                match self.root.walk(parents.chain([last]), name.as_str()) {
                    Ok(directory) => directory,
                    Err(error) if error.is_missing() => return Ok(found),
                    Err(error) => return Err(error),
                }
            }
            None if prefix.is_empty() => self.root.walk([].into_iter(), "")?,
            None => {
                return Err(RepositoryError::InvalidName {
                    name: prefix.to_owned(),
                });
            }
        };
        self.root.collect(&directory, prefix, &mut found)?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), RepositoryError> {
        let (parents, last) = name.split();
        let directory = self.root.walk(parents, name.as_str())?;
        rustix::fs::unlinkat(&directory, last, AtFlags::empty())
            .and_then(|()| rustix::fs::fsync(&directory))
            .map_err(|errno| self.root.error("remove", name.as_str(), errno))
    }

    fn remove_leftovers(&self, age: Duration) -> Result<usize, RepositoryError> {
        let Some(directory) = self.root.temporary_directory(false)? else {
            return Ok(0);
        };
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut removed = 0;
        for entry in self.root.entries(&directory, TEMPORARY_DIRECTORY)? {
            let entry =
                entry.map_err(|errno| self.root.error("list", TEMPORARY_DIRECTORY, errno))?;
            let name = entry.file_name();
            let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let touched = u64::try_from(stat.st_mtime).unwrap_or_default();
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && now.saturating_sub(touched) >= age.as_secs()
                && rustix::fs::unlinkat(&directory, name, AtFlags::empty()).is_ok()
            {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl Root {
    fn error(&self, action: &'static str, name: &str, errno: Errno) -> RepositoryError {
        match errno {
            Errno::NOSPC | Errno::DQUOT => RepositoryError::system(action, &self.path, errno),
            Errno::NOENT => RepositoryError::ObjectMissing {
                name: name.to_owned(),
                location: self.path.clone(),
            },
            Errno::LOOP | Errno::NOTDIR => RepositoryError::ObjectDamaged {
                name: name.to_owned(),
                detail: format!(
                    "something else than a file or directory of {} stands there",
                    self.path
                ),
            },
            _ => RepositoryError::system(action, &format!("{}/{name}", self.path), errno),
        }
    }

    /// Opens directory after directory, below the root, following no symbolic link.
    fn walk<'a>(
        &self,
        segments: impl Iterator<Item = &'a str>,
        name: &str,
    ) -> Result<OwnedFd, RepositoryError> {
        let mut directory = self.open_directory(&self.directory, ".", name)?;
        for segment in segments {
            directory = self.open_directory(&directory, segment, name)?;
        }
        Ok(directory)
    }

    fn open_directory(
        &self,
        parent: &OwnedFd,
        segment: &str,
        name: &str,
    ) -> Result<OwnedFd, RepositoryError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, segment, flags, Mode::empty())
            .map_err(|errno| self.error("open", name, errno))
    }

    /// The directory that `name` belongs in, made and synced up to the root where needed.
    fn directory_for(&self, name: &ObjectName) -> Result<OwnedFd, RepositoryError> {
        let mut directory = self.walk([].into_iter(), "")?;
        let mut path = String::new();
        for segment in name.split().0 {
            path = format!("{path}{segment}/");
            match rustix::fs::mkdirat(&directory, segment, DIRECTORY_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.error("create directory", &path, errno)),
            }
            // Also when another process made it: that one may not have come to sync it yet.
            if !self
                .durable
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&path)
            {
                rustix::fs::fsync(&directory)
                    .map_err(|errno| self.error("sync directory of", &path, errno))?;
                self.durable
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(path.clone());
            }
            directory = self.open_directory(&directory, segment, &path)?;
        }
        Ok(directory)
    }

    fn temporary_directory(&self, create: bool) -> Result<Option<OwnedFd>, RepositoryError> {
        if create {
            match rustix::fs::mkdirat(&self.directory, TEMPORARY_DIRECTORY, DIRECTORY_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.error("write to", "", errno)),
            }
        }
        match self.walk([TEMPORARY_DIRECTORY].into_iter(), TEMPORARY_DIRECTORY) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if error.is_missing() && !create => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An object's file and its size. Symbolic links, FIFOs, devices and the like are refused, and never waited for.
    fn open_file(&self, name: &ObjectName) -> Result<(OwnedFd, u64), RepositoryError> {
        let (parents, last) = name.split();
        let directory = self.walk(parents, name.as_str())?;
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, last, flags, Mode::empty())
            .map_err(|errno| self.error("open", name.as_str(), errno))?;
        let stat = rustix::fs::fstat(&file)
            .map_err(|errno| self.error("examine", name.as_str(), errno))?;
        match regular_size(&stat) {
            Some(size) => Ok((file, size)),
            None => Err(RepositoryError::ObjectDamaged {
                name: name.to_string(),
                detail: "it is not a regular file".to_owned(),
            }),
        }
    }

    fn read(
        &self,
        file: &OwnedFd,
        name: &ObjectName,
        range: Range<u64>,
        size: u64,
    ) -> Result<Bytes, RepositoryError> {
        let out_of_range = || RepositoryError::OutOfRange {
            name: name.to_string(),
            size,
            start: range.start,
            end: range.end,
        };
        if range.start > range.end || range.end > size {
            return Err(out_of_range());
        }
        let bulk = range.end - range.start >= BULK;
        let length = usize::try_from(range.end - range.start).map_err(|_| out_of_range())?;
        let bytes = self
            .read_buffers
            .fill(length, |buffer| read_exactly(file, buffer, range.start));
        if bulk {
            // Advice only: where the file system has no use for it, nothing is lost.
            let length = std::num::NonZeroU64::new(range.end - range.start);
            rustix::fs::fadvise(file, range.start, length, Advice::DontNeed).ok();
        }
        match bytes {
            Ok(bytes) => Ok(bytes),
            // The file was cut between looking at its size and reading it.
            Err(Errno::NODATA) => Err(out_of_range()),
            Err(errno) => Err(self.error("read", name.as_str(), errno)),
        }
    }

    fn entries(
        &self,
        directory: &OwnedFd,
        name: &str,
    ) -> Result<impl Iterator<Item = Result<rustix::fs::DirEntry, Errno>> + use<>, RepositoryError>
    {
        rustix::fs::Dir::read_from(directory).map_err(|errno| self.error("list", name, errno))
    }

    fn collect(
        &self,
        directory: &OwnedFd,
        prefix: &str,
        found: &mut Vec<ObjectInfo>,
    ) -> Result<(), RepositoryError> {
        for entry in self.entries(directory, prefix)? {
            let entry = entry.map_err(|errno| self.error("list", prefix, errno))?;
            let Some(segment) = entry
                .file_name()
                .to_str()
                .ok()
                .filter(|segment| is_segment(segment))
            else {
                continue;
            };
            let Ok(name) = ObjectName::new(format!("{prefix}{segment}")) else {
                continue;
            };
            let stat = match rustix::fs::statat(directory, segment, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Removed by another process since the directory was read.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(self.error("examine", name.as_str(), errno)),
            };
            if let Some(size) = regular_size(&stat) {
                found.push(ObjectInfo { name, size });
            } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match self.open_directory(directory, segment, name.as_str()) {
                    Ok(below) => self.collect(&below, &format!("{name}/"), found)?,
                    Err(error) if error.is_missing() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn regular_size(stat: &Stat) -> Option<u64> {
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    u64::try_from(stat.st_size).ok().filter(|_| regular)
}

/// Fills `buffer` from `offset` on; `NODATA` when the file ends before.
fn read_exactly(file: &OwnedFd, mut buffer: &mut [u8], mut offset: u64) -> Result<(), Errno> {
    while !buffer.is_empty() {
        match rustix::io::pread(file, &mut *buffer, offset) {
            Ok(0) => return Err(Errno::NODATA),
            Ok(count) => {
                offset += count as u64;
                buffer = buffer.get_mut(count..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
