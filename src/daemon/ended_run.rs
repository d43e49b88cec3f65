//! Runs that have ended, and what came of them.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::quote::quote;
use crate::repository::BackupId;
use crate::words::words;

/// What names a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(Uuid);

impl RunId {
    /// A new one, greater than those before.
    pub(super) fn now() -> Self {
        Self(Uuid::now_v7())
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRun {
    /// Its name.
    pub run_id: RunId,
    /// The moment that it was for.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// When it was accepted.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// In a word.
    pub result: RunResult,
    /// The backup that it made.
    pub backup_id: Option<BackupId>,
    /// Why it failed, or what is to be looked at.
    pub error: Option<String>,
    /// What it moved.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What a run moved and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Records copied.
    pub new_messages: u64,
    /// Bytes of record batches copied.
    pub new_bytes: u64,
    /// The same as they were stored.
    pub new_stored_bytes: u64,
    /// What the whole backup takes as it is stored, what it shares with earlier ones included. Missing in files of before this
    /// was noted.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Partitions in the backup.
    pub partitions: u64,
    /// Offsets in gaps of the backup.
    pub gap_offsets: u64,
    /// What the verification found, where there was one.
    pub verify_findings: Option<u64>,
}

words! {
    /// How a run ended.
    pub enum RunResult {
        /// All was done.
        Success = "success",
        /// There is a backup, but not all of it could be had, or it did not verify.
        Incomplete = "incomplete",
        /// There is none.
        Failed = "failed",
        /// It was told to stop.
        Cancelled = "cancelled",
    }
}

impl Outcome {
    /// A run that made nothing.
    pub fn without_backup(result: RunResult, error: impl fmt::Display) -> Self {
        Self {
            result,
            backup_id: None,
            error: Some(quote(error)),
            figures: Figures::default(),
        }
    }
}

/// What came of applying a policy's retention.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// Backups that no rule kept.
    pub removed_backups: u64,
    /// Bytes that became free.
    pub freed_bytes: u64,
    /// Why it failed.
    pub error: Option<String>,
}

impl Expired {
    /// In a word.
    pub(super) fn result(&self) -> RunResult {
        match self.error {
            Some(_) => RunResult::Failed,
            None => RunResult::Success,
        }
    }
}
