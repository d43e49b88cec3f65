//! The open directory of a repository, and the only ways from it to a file.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::{Advice, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::buffers::{ReadPool, WritePool};
use super::ownership::{Owner, denied};
use crate::repository::RepositoryError;
use crate::repository::object_name::{ObjectName, is_segment};
use crate::repository::storage::ObjectInfo;

pub(super) const TEMPORARY_DIRECTORY: &str = ".tmp";
pub(super) const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o750);
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
/// Reads from this length on are taken for bulk reads, whose pages are not worth keeping in the system's cache.
const BULK: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Root {
    pub(super) path: String,
    pub(super) directory: OwnedFd,
    /// Who gets what this process makes, if it is root.
    owner: Option<Owner>,
    /// Directories whose entries up to the root this process has synced.
    durable: Mutex<HashSet<String>>,
    pub(super) write_buffers: WritePool,
    pub(super) read_buffers: ReadPool,
}

impl Root {
    pub(super) fn new(path: String, directory: OwnedFd) -> Self {
        Self {
            path,
            owner: Owner::to_give_to(&directory),
            directory,
            durable: Mutex::default(),
            write_buffers: WritePool::default(),
            read_buffers: ReadPool::default(),
        }
    }

    pub(super) fn error(&self, action: &'static str, name: &str, errno: Errno) -> RepositoryError {
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
            Errno::ACCESS => denied(action, (&self.path, &self.directory), name, errno),
            _ => RepositoryError::system(action, &format!("{}/{name}", self.path), errno),
        }
    }

    /// Opens directory after directory, below the root, following no symbolic link.
    pub(super) fn walk<'a>(
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
        open_directory(parent, segment).map_err(|errno| self.error("open", name, errno))
    }

    /// The directory that `name` belongs in, made and synced up to the root where needed.
    pub(super) fn directory_for(&self, name: &ObjectName) -> Result<OwnedFd, RepositoryError> {
        let mut directory = self.walk([].into_iter(), "")?;
        let mut path = String::new();
        for segment in name.split().0 {
            path = format!("{path}{segment}/");
            let made = self
                .make_directory(&directory, segment)
                .map_err(|errno| self.error("create directory", &path, errno))?;
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
            directory = made;
        }
        Ok(directory)
    }

    /// A directory that there is from now on, opened without following a symbolic link; root gives it to the repository's owner.
    fn make_directory(&self, parent: &OwnedFd, segment: &str) -> Result<OwnedFd, Errno> {
        match rustix::fs::mkdirat(parent, segment, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let made = open_directory(parent, segment)?;
        if let Some(owner) = self.owner {
            owner.give(&made)?;
        }
        Ok(made)
    }

    /// A file that was not there, to be written; root gives it to the repository's owner.
    pub(super) fn make_file(&self, parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, FILE_MODE)?;
        if let Some(owner) = self.owner {
            owner.give(&file)?;
        }
        Ok(file)
    }

    pub(super) fn temporary_directory(
        &self,
        create: bool,
    ) -> Result<Option<OwnedFd>, RepositoryError> {
        if create {
            return match self.make_directory(&self.directory, TEMPORARY_DIRECTORY) {
                Ok(directory) => Ok(Some(directory)),
                Err(errno) => Err(self.error("write to", TEMPORARY_DIRECTORY, errno)),
            };
        }
        match self.walk([TEMPORARY_DIRECTORY].into_iter(), TEMPORARY_DIRECTORY) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An object's file and its size. Symbolic links, FIFOs, devices and the like are refused, and never waited for.
    pub(super) fn open_file(&self, name: &ObjectName) -> Result<(OwnedFd, u64), RepositoryError> {
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

    pub(super) fn read(
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
            let length = NonZeroU64::new(range.end - range.start);
            rustix::fs::fadvise(file, range.start, length, Advice::DontNeed).ok();
        }
        match bytes {
            Ok(bytes) => Ok(bytes),
            // The file was cut between looking at its size and reading it.
            Err(Errno::NODATA) => Err(out_of_range()),
            Err(errno) => Err(self.error("read", name.as_str(), errno)),
        }
    }

    pub(super) fn entries(
        &self,
        directory: &OwnedFd,
        name: &str,
    ) -> Result<impl Iterator<Item = Result<rustix::fs::DirEntry, Errno>> + use<>, RepositoryError>
    {
        rustix::fs::Dir::read_from(directory).map_err(|errno| self.error("list", name, errno))
    }

    pub(super) fn collect(
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
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match self.open_directory(directory, segment, name.as_str()) {
                    Ok(below) => self.collect(&below, &format!("{name}/"), found)?,
                    Err(error) if error.is_missing() => {}
                    Err(error) => return Err(error),
                }
            } else {
                // A link, a FIFO or a device in the place of an object does not hide it: who reads it is told.
                let size = regular_size(&stat).unwrap_or_default();
                found.push(ObjectInfo { name, size });
            }
        }
        Ok(())
    }
}

fn open_directory(parent: &OwnedFd, segment: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, segment, flags, Mode::empty())
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
