//! Whose the files of a repository are. What root makes in a repository of another user is given to that user: the daemon must be able
//! to read what was done by hand. And where the system keeps something from this user, it is said whose it is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Once;

use rustix::fs::{AtFlags, Gid, Stat, Uid};
use rustix::io::Errno;

use crate::repository::RepositoryError;

/// Who gets what is made: the owner and the group of the repository's own directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// Of this directory; none where this process is not root's, or the directory is.
    pub(super) fn to_give_to(directory: &OwnedFd) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let stat = rustix::fs::fstat(directory).ok()?;
        let owner = Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
        };
        (owner.uid != 0 || owner.gid != 0).then_some(owner)
    }

    /// Gives it a file or a directory that was made or may have been made by a run that was killed before it did.
    pub(super) fn give(self, made: impl AsFd) -> Result<(), Errno> {
        let made = made.as_fd();
        let stat = rustix::fs::fstat(made)?;
        if stat.st_uid != 0 || (stat.st_uid, stat.st_gid) == (self.uid, self.gid) {
            return Ok(());
        }
        match change(made, self) {
            // A root that may give nothing away, in a container or over NFS, has always left its own files.
            Err(Errno::PERM | Errno::INVAL | Errno::NOTSUP) => {
                static TOLD: Once = Once::new();
                TOLD.call_once(|| {
                    tracing::warn!(
                        "what root writes stays root's: this root may not give it to uid {}, whose the repository is",
                        self.uid
                    );
                });
                Ok(())
            }
            changed => changed,
        }
    }
}

fn change(file: BorrowedFd<'_>, owner: Owner) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))
}

/// What the system said no to, for a name below the repository's directory: who owns what, and what to do.
pub(super) fn denied(
    action: &'static str,
    (path, directory): (&str, &OwnedFd),
    name: &str,
    errno: Errno,
) -> RepositoryError {
    let why = match rustix::fs::fstat(directory) {
        Ok(root) => match culprit(directory, &root, name) {
            Some((below, stat)) => reason(path, &root, &below, &stat),
            None => reason(path, &root, "", &root),
        },
        Err(_) => "look at its owner and mode".to_owned(),
    };
    RepositoryError::Denied {
        action,
        path: match name {
            "" => path.to_owned(),
            name => format!("{path}/{name}"),
        },
        why,
        source: errno.into(),
    }
}

/// The same, of the repository's own directory or one above it.
pub(super) fn denied_at(action: &'static str, path: &str, errno: Errno) -> RepositoryError {
    let me = rustix::process::geteuid().as_raw();
    let above = std::path::Path::new(path).ancestors();
    let seen = above
        .filter(|part| !part.as_os_str().is_empty())
        .find_map(|part| Some((part, rustix::fs::stat(part).ok()?)));
    let why = match seen {
        Some((part, stat)) => format!(
            "{} belongs to uid {}, gid {}, with mode {:04o}, and this process is uid {me}; run kafkeep as a user who may use it \
             (sudo -u '#{}' kafkeep …), or as root",
            part.display(),
            stat.st_uid,
            stat.st_gid,
            stat.st_mode & 0o7777,
            stat.st_uid
        ),
        None => format!("this process is uid {me}; look at the directory's owner and mode"),
    };
    RepositoryError::Denied {
        action,
        path: path.to_owned(),
        why,
        source: errno.into(),
    }
}

/// What is in the way of `name`: the first part of its path that is not the repository's owner's, else the last that can be seen. None
/// for the repository's directory itself.
fn culprit(directory: &OwnedFd, root: &Stat, name: &str) -> Option<(String, Stat)> {
    let ends = name.char_indices().filter(|(_, c)| *c == '/');
    let parts = ends.map(|(at, _)| at).chain([name.len()]);
    let seen: Vec<(String, Stat)> = parts
        .filter_map(|end| {
            let part = name.get(..end).filter(|part| !part.is_empty())?;
            let stat = rustix::fs::statat(directory, part, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            Some((part.to_owned(), stat))
        })
        .collect();
    let foreign = seen.iter().find(|(_, stat)| stat.st_uid != root.st_uid);
    foreign.or(seen.last()).cloned()
}

/// Whose `below` is in the repository at `path`, and what makes it accessible.
fn reason(path: &str, root: &Stat, below: &str, stat: &Stat) -> String {
    let me = rustix::process::geteuid().as_raw();
    let what = match below {
        "" => path.to_owned(),
        below => format!("{path}/{below}"),
    };
    let mode = stat.st_mode & 0o7777;
    let whose = format!(
        "{what} belongs to uid {}, gid {}, with mode {mode:04o}, and this process is uid {me}",
        stat.st_uid, stat.st_gid
    );
    let todo = if stat.st_uid != root.st_uid {
        format!(
            "the repository is uid {}'s, so give it all that is in it, as root: chown -R --reference={path} {path}",
            root.st_uid
        )
    } else if stat.st_uid != me {
        format!(
            "run kafkeep as the repository's owner (sudo -u '#{}' kafkeep …), or as root",
            root.st_uid
        )
    } else {
        format!("give its owner the rights to it: chmod -R u+rwX {path}")
    };
    format!("{whose}; {todo}")
}
