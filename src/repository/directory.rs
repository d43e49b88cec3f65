//! A repository in a directory of a local or mounted file system.
//!
//! An object is written under `.tmp/`, synced, renamed to its name without replacing, and its directory is synced. Every
//! path is walked from the repository's directory without following symbolic links, and only regular files are opened.

mod buffers;
mod ownership;
mod reserve;
mod root;
mod temporary;
#[cfg(test)]
mod tests;
mod writer;

use std::fs;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{Advice, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::ObjectName;
use super::RepositoryError;
use super::storage::{Answer, ObjectInfo, ObjectWriter, Page, Put, Storage, answer};
use root::{DIRECTORY_MODE, Root, TEMPORARY_DIRECTORY};
use temporary::Temporary;
use writer::DirectoryWriter;

/// The directory backend. Clones share the open directory and the recycled buffers.
#[derive(Debug, Clone)]
pub struct DirectoryStorage {
    root: Arc<Root>,
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
                Errno::ACCESS => ownership::denied_at("open", &location, errno),
                _ => RepositoryError::system("open", &location, errno),
            }
        })?;
        Ok(Self {
            root: Arc::new(Root::new(location, directory)),
        })
    }

    /// Opens a directory; makes it, and the directories above it, when they do not exist.
    pub fn create(path: &Path) -> Result<Self, RepositoryError> {
        make_durable_directory(path)?;
        Self::open(path)
    }
}

/// `mkdir -p`, with every directory that gained an entry synced, be it that a run before made the entry and was killed.
fn make_durable_directory(path: &Path) -> Result<(), RepositoryError> {
    let location = path.display().to_string();
    let failed = |errno| match errno {
        Errno::NOTDIR => RepositoryError::NotARepository {
            location: location.clone(),
            reason: "a part of this path is a file, not a directory".to_owned(),
        },
        Errno::ACCESS => ownership::denied_at("create directory", &location, errno),
        _ => RepositoryError::system("create directory", &location, errno),
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut made = rustix::fs::mkdirat(CWD, path, DIRECTORY_MODE);
    if made == Err(Errno::NOENT) && parent != Path::new(".") {
        make_durable_directory(parent)?;
        made = rustix::fs::mkdirat(CWD, path, DIRECTORY_MODE);
    }
    let existed = match made {
        Ok(()) => false,
        Err(Errno::EXIST) => true,
        Err(errno) => return Err(failed(errno)),
    };
    match fs::File::open(parent).and_then(|directory| directory.sync_all()) {
        Ok(()) => Ok(()),
        // What others made for this user, in a directory that is not this user's to open, was not made by a killed run.
        Err(_) if existed => Ok(()),
        Err(source) => Err(RepositoryError::Io {
            action: "sync directory",
            path: parent.display().to_string(),
            source,
        }),
    }
}

/// The calls themselves, which block.
impl DirectoryStorage {
    fn has_nothing(&self) -> Result<bool, RepositoryError> {
        let nothing = [".", "..", TEMPORARY_DIRECTORY, "lost+found"].map(str::as_bytes);
        for entry in self.root.entries(&self.root.directory, "")? {
            let entry = entry.map_err(|errno| self.root.error("list", "", errno))?;
            if !nothing.contains(&entry.file_name().to_bytes()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn publish(&self, name: &ObjectName, content: &[u8]) -> Result<Put, RepositoryError> {
        let mut temporary = Temporary::create(&self.root)?;
        temporary.append(content)?;
        match temporary.publish(name) {
            Err(RepositoryError::AlreadyExists { .. }) => self.compare(name, content),
            published => published.map(|()| Put::Created),
        }
    }

    /// Whether the object that has this name already holds `content`.
    fn compare(&self, name: &ObjectName, content: &[u8]) -> Result<Put, RepositoryError> {
        let (file, size) = self.root.open_file(name)?;
        let is_same =
            size == content.len() as u64 && self.root.read(&file, name, 0..size, size)? == content;
        Ok(match is_same {
            true => Put::Same,
            false => Put::Different,
        })
    }

    fn begin(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>, RepositoryError> {
        Ok(Box::new(DirectoryWriter::begin(
            Temporary::create(&self.root)?,
            name.clone(),
        )?))
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Bytes, RepositoryError> {
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

    fn sync_directory(&self, directory: &str) -> Result<(), RepositoryError> {
        let name = ObjectName::new(directory)?;
        let (parents, last) = name.split();
        match self.root.walk(parents.chain([last]), directory) {
            Ok(opened) => rustix::fs::fsync(&opened)
                .map_err(|errno| self.root.error("sync directory", directory, errno)),
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn objects(&self, prefix: &str) -> Result<Vec<ObjectInfo>, RepositoryError> {
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

    fn remove(&self, name: &ObjectName) -> Result<(), RepositoryError> {
        let (parents, last) = name.split();
        let directory = match self.root.walk(parents, name.as_str()) {
            Err(error) if error.is_missing() => return Ok(()),
            opened => opened?,
        };
        match rustix::fs::unlinkat(&directory, last, AtFlags::empty()) {
            // Whoever removed it may not have come to sync the directory.
            Ok(()) | Err(Errno::NOENT) => rustix::fs::fsync(&directory),
            Err(errno) => Err(errno),
        }
        .map_err(|errno| self.root.error("remove", name.as_str(), errno))
    }

    fn remove_untouched(&self, age: Duration) -> Result<usize, RepositoryError> {
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

/// Each answer is one page, or one call: it blocks where it is polled.
impl Storage for DirectoryStorage {
    fn location(&self) -> String {
        self.root.path.clone()
    }

    fn is_empty(&self) -> Answer<'_, bool> {
        answer(|| self.has_nothing())
    }

    fn put<'a>(&'a self, name: &'a ObjectName, content: Bytes) -> Answer<'a, Put> {
        answer(move || self.publish(name, &content))
    }

    fn create<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, Box<dyn ObjectWriter>> {
        answer(|| self.begin(name))
    }

    fn get<'a>(&'a self, name: &'a ObjectName, limit: u64) -> Answer<'a, Bytes> {
        answer(move || self.read(name, limit))
    }

    fn get_range<'a>(&'a self, name: &'a ObjectName, range: Range<u64>) -> Answer<'a, Bytes> {
        answer(move || {
            let (file, size) = self.root.open_file(name)?;
            self.root.read(&file, name, range, size)
        })
    }

    fn sync<'a>(&'a self, directory: &'a str) -> Answer<'a, ()> {
        answer(|| self.sync_directory(directory))
    }

    fn prefetch(&self, name: &ObjectName, range: Range<u64>) {
        if let Ok((file, _)) = self.root.open_file(name) {
            let length = NonZeroU64::new(range.end.saturating_sub(range.start));
            // Advice only: what goes wrong goes wrong again when the range is read.
            rustix::fs::fadvise(file, range.start, length, Advice::WillNeed).ok();
        }
    }

    fn size<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, u64> {
        answer(|| Ok(self.root.open_file(name)?.1))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a ObjectName>) -> Answer<'a, Page> {
        answer(move || {
            let mut objects = self.objects(prefix)?;
            objects.retain(|object| after.is_none_or(|after| object.name > *after));
            Ok(Page {
                objects,
                next: None,
            })
        })
    }

    fn free_bytes(&self) -> Answer<'_, Option<u64>> {
        answer(|| {
            let system = rustix::fs::fstatvfs(&self.root.directory)
                .map_err(|errno| self.root.error("examine", "", errno))?;
            // What is left for users other than root.
            Ok(Some(system.f_bavail.saturating_mul(system.f_frsize)))
        })
    }

    fn keep_reserve(&self) -> Answer<'_, ()> {
        answer(|| reserve::keep(&self.root))
    }

    fn use_reserve(&self) -> Answer<'_, bool> {
        answer(|| reserve::give_up(&self.root))
    }

    fn probe(&self) -> Answer<'_, ()> {
        answer(|| Temporary::create(&self.root)?.append(b"probe"))
    }

    fn delete<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, ()> {
        answer(|| self.remove(name))
    }

    fn remove_leftovers(&self, age: Duration) -> Answer<'_, usize> {
        answer(move || self.remove_untouched(age))
    }
}
