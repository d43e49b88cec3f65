//! What a verification finds wrong.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::engine::refusal::Refusal;
use crate::record::{Offset, PartitionId};
use crate::repository::{BackupId, PackId};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub problem: Refusal,
    /// The pack it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pack: Option<PackId>,
    /// The topic it touches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The partition it touches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
    /// The first offset it touches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offset: Option<Offset>,
    /// The last offset it touches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_offset: Option<Offset>,
    /// The backups that it is part of.
    pub backups: BTreeSet<BackupId>,
}

impl Finding {
    /// Something that is wrong with backups, and with no topic of theirs.
    pub(super) fn of(problem: impl Into<Refusal>, backups: BTreeSet<BackupId>) -> Self {
        Self {
            problem: problem.into(),
            pack: None,
            topic: None,
            partition: None,
            first_offset: None,
            last_offset: None,
            backups,
        }
    }
}
