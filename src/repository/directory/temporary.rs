//! A file that nobody sees until it is whole and durable.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::root::{Root, TEMPORARY_DIRECTORY};
use crate::repository::ObjectName;
use crate::repository::RepositoryError;

/// A file under `.tmp/`; dropped unpublished, it is removed.
pub(super) struct Temporary {
    pub(super) root: Arc<Root>,
    pub(super) file: Arc<OwnedFd>,
    directory: OwnedFd,
    name: String,
    length: u64,
    published: bool,
}

impl Temporary {
    pub(super) fn create(root: &Arc<Root>) -> Result<Self, RepositoryError> {
        let directory = root
            .temporary_directory(true)?
            .ok_or_else(|| root.error("create", TEMPORARY_DIRECTORY, Errno::NOENT))?;
        let name = Uuid::new_v4().to_string();
        let file = root
            .make_file(&directory, &name)
            .map_err(|errno| root.error("create a file in", TEMPORARY_DIRECTORY, errno))?;
        Ok(Self {
            root: Arc::clone(root),
            file: Arc::new(file),
            directory,
            name,
            length: 0,
            published: false,
        })
    }

    /// Appends through the system's cache; not for use together with writes by position.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), RepositoryError> {
        write_all_at(&self.file, bytes, self.length).map_err(|errno| self.error("write", errno))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn error(&self, action: &'static str, errno: Errno) -> RepositoryError {
        self.root.error(
            action,
            &format!("{TEMPORARY_DIRECTORY}/{}", self.name),
            errno,
        )
    }

    /// Syncs the file, gives it its name unless that is taken, and syncs the directory.
    pub(super) fn publish(mut self, name: &ObjectName) -> Result<(), RepositoryError> {
        rustix::fs::fdatasync(&self.file).map_err(|errno| self.error("sync", errno))?;
        let directory = self.root.directory_for(name)?;
        let last = name.split().1;
        match self.rename(&directory, last) {
            Ok(()) => self.published = true,
            Err(Errno::EXIST) => {
                return Err(RepositoryError::AlreadyExists {
                    name: name.to_string(),
                    location: self.root.path.clone(),
                });
            }
            Err(errno) => return Err(self.root.error("publish", name.as_str(), errno)),
        }
        rustix::fs::fsync(&directory)
            .map_err(|errno| self.root.error("sync directory of", name.as_str(), errno))
    }

    fn rename(&self, directory: &OwnedFd, last: &str) -> Result<(), Errno> {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.directory, &self.name, directory, last, flags) {
            // File systems that know no flags (NFS among them) still know that a link replaces nothing.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                rustix::fs::linkat(
                    &self.directory,
                    &self.name,
                    directory,
                    last,
                    AtFlags::empty(),
                )?;
                // What is left, if this fails, is a second name that the next clean-up takes.
                rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty()).ok();
                Ok(())
            }
            result => result,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            // Nobody is left to tell; `remove_leftovers` finds it another day.
            rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty()).ok();
        }
    }
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_all_at(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                offset += count as u64;
                bytes = bytes.get(count..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
