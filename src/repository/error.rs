//! What can go wrong in a repository.

use std::io;

use rustix::io::Errno;

use super::{BackupId, LockHolder, PackId, RepositoryId};
use crate::record::RecordError;

/// Everything that reading or writing a repository can fail with. Damage always names the object that it is in, and what is
/// displayed says the cause as well: much of it ends up in a log or a report, where nobody follows sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// No repository is there, or none can be.
    #[error("{location} is not a kafkeep repository: {reason}")]
    NotARepository {
        /// The directory or bucket prefix.
        location: String,
        /// What is there instead, and what to do.
        reason: String,
    },
    /// `init` was asked for where a repository is already.
    #[error("{location} holds a kafkeep repository already")]
    AlreadyARepository {
        /// The directory or bucket prefix.
        location: String,
    },
    /// A later kafkeep wrote this.
    #[error(
        "{object} has format {found}, and this kafkeep reads formats up to {supported}: use a newer kafkeep"
    )]
    NewerFormat {
        /// The object whose format is too new.
        object: String,
        /// The format it says it has.
        found: u32,
        /// The newest format this program reads.
        supported: u32,
    },
    /// No backup has this id.
    #[error(
        "there is no backup {id:?} in the repository{}",
        nearest_ids("nearest", nearest)
    )]
    UnknownBackup {
        /// What was asked for.
        id: String,
        /// Up to three existing ids that look most like it.
        nearest: Vec<BackupId>,
    },
    /// Several backups' ids begin like this.
    #[error(
        "{count} backups begin with {id:?}: write more of the id{}",
        nearest_ids("newest", newest)
    )]
    AmbiguousBackup {
        /// What was asked for.
        id: String,
        /// How many begin with it.
        count: usize,
        /// The newest of them, at most three.
        newest: Vec<BackupId>,
    },
    /// A manifest that cannot be believed; other backups are not touched by it.
    #[error("the manifest of backup {id} is damaged: {detail}")]
    DamagedManifest {
        /// The backup as named by its file.
        id: BackupId,
        /// What is wrong with it.
        detail: String,
    },
    /// A whole manifest, but of another repository.
    #[error(
        "the manifest of backup {id} belongs to repository {found}, and kafkeep.json says that this is {expected}: bring the one that is wrong back to where it belongs"
    )]
    ForeignManifest {
        /// The backup as named by its file.
        id: BackupId,
        /// The repository that the manifest was written for.
        found: RepositoryId,
        /// The repository that was opened.
        expected: RepositoryId,
    },
    /// A pack that a backup references is not there.
    #[error("pack {pack} is missing")]
    PackMissing {
        /// The missing pack.
        pack: PackId,
    },
    /// A pack is shorter than it was when it was sealed.
    #[error("pack {pack} is truncated: {expected} bytes were written, {found} are there")]
    PackTruncated {
        /// The truncated pack.
        pack: PackId,
        /// Its length in bytes when it was sealed.
        expected: u64,
        /// Its length in bytes now.
        found: u64,
    },
    /// A whole pack, but not the one that belongs here.
    #[error(
        "pack {pack} is not the pack that was written here: it says it is pack {found_pack} of repository {found_repository}"
    )]
    PackForeign {
        /// The pack that should be here.
        pack: PackId,
        /// The pack that is.
        found_pack: PackId,
        /// The repository that it was written for.
        found_repository: RepositoryId,
    },
    /// Bytes of a pack are not those that were written.
    #[error("pack {pack} is damaged at byte {offset}: {detail}")]
    PackDamaged {
        /// The damaged pack.
        pack: PackId,
        /// Where the damaged part (header, block, footer, trailer) begins.
        offset: u64,
        /// Which part is damaged, and how that shows.
        detail: String,
    },
    /// The pack has no room for another block: finish it and begin the next.
    #[error("pack {pack} is full")]
    PackFull {
        /// The pack that is being written.
        pack: PackId,
    },
    /// Batches that cannot be sealed into a block.
    #[error("cannot store these batches: {detail}")]
    UnfitBatches {
        /// Which rule of blocks they break.
        detail: String,
    },
    /// A record batch is not what Kafka writes.
    #[error("bad record batch: {0}")]
    Batch(#[from] RecordError),
    /// New extents that do not follow those already indexed.
    #[error("index of topic {topic:?}: {detail}")]
    UnfitIndex {
        /// The topic whose index was to be extended.
        topic: String,
        /// What does not fit.
        detail: String,
    },
    /// An object (index layer, state, manifest ...) is not there.
    #[error("{name} is missing in {location}")]
    ObjectMissing {
        /// The object's name.
        name: String,
        /// The repository's directory or bucket prefix.
        location: String,
    },
    /// An object cannot be believed.
    #[error("{name} is damaged: {detail}")]
    ObjectDamaged {
        /// The object's name.
        name: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Objects are immutable: this name is taken.
    #[error("{name} exists already in {location}")]
    AlreadyExists {
        /// The object's name.
        name: String,
        /// The repository's directory or bucket prefix.
        location: String,
    },
    /// The storage cannot keep anybody from removing an object.
    #[error(
        "{location} cannot keep objects from being removed: use a repository whose storage can"
    )]
    NoRetention {
        /// The repository's directory or bucket prefix.
        location: String,
    },
    /// More bytes than the caller is ready to hold.
    #[error("{name} is {size} bytes long, more than the {limit} that it may have")]
    ObjectTooLarge {
        /// The object's name.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// The most that is read of such an object, in bytes.
        limit: u64,
    },
    /// A range that an object does not have.
    #[error("{name} has {size} bytes: cannot read bytes {start}..{end}")]
    OutOfRange {
        /// The object's name.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
    },
    /// A text that is not an object's name.
    #[error("{name:?} is not a valid object name")]
    InvalidName {
        /// The text that was given, cut to the length of a name.
        name: String,
    },
    /// The disk, or the user's quota on it, is full.
    #[error("no space left in {location}: free some space or move the repository, then run again")]
    NoSpace {
        /// The repository's directory.
        location: String,
        /// The system's error.
        source: io::Error,
    },
    /// Another process holds a lock that does not go together with the one asked for.
    #[error("the repository is locked: {holder}")]
    Locked {
        /// The process that holds the lock, and what for.
        holder: Box<LockHolder>,
    },
    /// The own lock is gone: somebody broke it, or it could not be refreshed.
    #[error(
        "the lock for {purpose:?} was lost: it was removed or could not be refreshed; nothing more is written"
    )]
    LockLost {
        /// What the lock was taken for.
        purpose: String,
    },
    /// The system lets others do this, and not this user: nothing is damaged.
    #[error("cannot {action} {path}: {source}; {why}")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Who owns what, and what to do.
        why: String,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}{}", read_only_advice(source))]
    Io {
        /// The call that failed, as a verb: `read`, `create`, ….
        action: &'static str,
        /// The path that it was made on.
        path: String,
        /// The system's error.
        source: io::Error,
    },
}

impl RepositoryError {
    /// Whether the same call may well succeed a little later, without anybody doing something about it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Locked { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::Interrupted
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::WouldBlock
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::StaleNetworkFileHandle
            ),
            _ => false,
        }
    }

    /// Whether it tells of something wrong with what the repository holds, rather than with using it.
    pub fn is_damage(&self) -> bool {
        if let Self::Io { source, .. } = self {
            return is_unreadable(source);
        }
        !matches!(
            self,
            Self::Denied { .. }
                | Self::NotARepository { .. }
                | Self::AlreadyARepository { .. }
                | Self::AlreadyExists { .. }
                | Self::NoRetention { .. }
                | Self::UnknownBackup { .. }
                | Self::AmbiguousBackup { .. }
                | Self::NoSpace { .. }
                | Self::PackFull { .. }
                | Self::InvalidName { .. }
                | Self::Locked { .. }
                | Self::LockLost { .. }
        )
    }

    /// The same for readers who are not to know where the repository lies.
    pub fn without_path(&self) -> String {
        match self {
            Self::ObjectMissing { name, .. } => format!("{name} is missing"),
            Self::Io { .. } => "a part of it cannot be read".to_owned(),
            Self::NotARepository { .. } | Self::AlreadyARepository { .. } => {
                "it is not the repository that it was".to_owned()
            }
            Self::AlreadyExists { name, .. } => format!("{name} exists already"),
            Self::NoSpace { .. } => "no space is left".to_owned(),
            error => error.to_string(),
        }
    }

    /// Whether one object cannot be read, and others may be: it is damaged, or not for this user.
    pub fn is_of_one_object(&self) -> bool {
        self.is_damage() || matches!(self, Self::Denied { .. })
    }

    /// Whether what was stored is not there any more as it was: who may not read it, or has too old a kafkeep, has lost nothing.
    pub fn is_lost_content(&self) -> bool {
        let is_readable_by_others =
            self.takes_no_writes() || matches!(self, Self::NewerFormat { .. });
        self.is_damage() && !is_readable_by_others
    }

    /// Whether nothing can be written there, by this user at least, or because it is full: no reason not to read.
    pub fn takes_no_writes(&self) -> bool {
        match self {
            Self::NoSpace { .. } | Self::Denied { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
            ),
            _ => false,
        }
    }

    /// Whether the object that was asked for is simply not there.
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::ObjectMissing { .. } | Self::PackMissing { .. } | Self::UnknownBackup { .. }
        )
    }

    pub(super) fn system(action: &'static str, path: &str, errno: Errno) -> Self {
        let source = io::Error::from(errno);
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace {
                location: path.to_owned(),
                source,
            },
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }
}

/// Whether the medium does not give back what it was given. Anything else (rights, descriptors or memory used up, a server that does not
/// answer) says nothing about the object.
fn is_unreadable(error: &io::Error) -> bool {
    let damage = [Errno::IO, Errno::BADMSG, Errno::UCLEAN];
    Errno::from_io_error(error).is_some_and(|errno| damage.contains(&errno))
}

/// What to do where nothing may be written: the shipped unit leaves only its state directories writable.
fn read_only_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "; as a service, kafkeep writes only below /var/lib/kafkeep and where ReadWritePaths= of its unit allows \
             (systemctl edit kafkeep)"
        }
        _ => "",
    }
}

fn nearest_ids(which: &str, ids: &[BackupId]) -> String {
    if ids.is_empty() {
        return "; it holds no backups".to_owned();
    }
    let ids: Vec<String> = ids.iter().map(BackupId::to_string).collect();
    format!("; the {which} are {}", ids.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_may_be_written_the_error_says_what_the_unit_allows() {
        let refused = |errno| RepositoryError::system("create", "/srv/main", errno).to_string();
        let read_only = refused(Errno::ROFS);
        for text in ["Read-only file system", "ReadWritePaths=", "/srv/main"] {
            assert!(read_only.contains(text), "{read_only}");
        }
        assert!(!refused(Errno::IO).contains("ReadWritePaths"));
    }
}
