//! Why a verb could not be carried out.

use std::io;
use std::path::PathBuf;

use crate::kafka::KafkaError;
use crate::record::{Offset, PartitionId, RecordError};
use crate::repository::RepositoryError;

use super::refusal::Refusal;

/// What stops a run. Everything that is only worth a line in a report is not an error.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The cluster could not be reached, or refused.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The repository could not be read or written.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A topic, a pattern or an option that this cluster or backup cannot serve.
    #[error("{0}")]
    Refused(Refusal),
    /// Something that was named is not there.
    #[error("{0}")]
    NotFound(Refusal),
    /// What is there already stands in the way.
    #[error("{0}")]
    Conflict(Refusal),
    /// Bytes of one partition that are not what Kafka promises.
    #[error("{topic}-{partition} at offset {offset}: {source}")]
    Batch {
        /// The topic read from.
        topic: String,
        /// The partition read from.
        partition: PartitionId,
        /// Where the bytes were asked for.
        offset: Offset,
        /// What is wrong with them.
        source: RecordError,
    },
    /// Nothing moved until the deadline.
    #[error("{what}: no progress for {seconds} s; last error: {last}")]
    Stalled {
        /// Which partitions stand still.
        what: String,
        /// How long.
        seconds: u64,
        /// The last error that was retried.
        last: String,
    },
    /// What a run goes by is not so any more; one that begins now sees what is.
    #[error("{0}")]
    Changed(String),
    /// A restore ended before its end.
    #[error("{source}; {remains}")]
    Unfinished {
        /// Why it ended.
        source: Box<EngineError>,
        /// What it leaves in the target, and what to do about it.
        remains: String,
    },
    /// What goes out of a repository into files could not be written.
    #[error("cannot {action} {}: {source}{}", .path.display(), space_hint(.source))]
    Output {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The repository may not hold what there is to add.
    #[error("no room for the backup: {detail}; keep fewer backups, or give it more room")]
    NoRoom {
        /// How much it is, and what bounds it.
        detail: String,
    },
    /// It was told to stop.
    #[error("stopped before its end; what was sealed is kept, and the next run goes on behind it")]
    Stopped,
    /// A thread of the run is gone: a bug, or the process is being stopped.
    #[error("{0} stopped before its work was done; this is a bug in kafkeep")]
    Lost(&'static str),
}

impl EngineError {
    /// [`EngineError::Refused`], for this reason.
    pub fn refused(why: impl Into<Refusal>) -> Self {
        Self::Refused(why.into())
    }

    /// [`EngineError::NotFound`], for this reason.
    pub fn not_found(why: impl Into<Refusal>) -> Self {
        Self::NotFound(why.into())
    }

    /// [`EngineError::Conflict`], for this reason.
    pub fn conflict(why: impl Into<Refusal>) -> Self {
        Self::Conflict(why.into())
    }

    /// Whether trying the same again later may succeed without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Kafka(error) => error.is_transient(),
            Self::Repository(error) => error.is_transient(),
            Self::Stalled { .. } | Self::Changed(_) | Self::Stopped => true,
            Self::Unfinished { source, .. } => source.is_transient(),
            Self::Refused(_)
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::NoRoom { .. }
            | Self::Batch { .. }
            | Self::Output { .. }
            | Self::Lost(_) => false,
        }
    }
}

impl EngineError {
    /// Whether it ended for want of space: what it wrote is better given back.
    pub(super) fn is_for_want_of_space(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Repository(error) => matches!(error, RepositoryError::NoSpace { .. }),
            _ => false,
        }
    }
}

fn space_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space or choose another place, then run again"
        }
        _ => "",
    }
}
