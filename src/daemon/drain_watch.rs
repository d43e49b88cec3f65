//! What a drain policy saw last: written by its check, read whenever somebody looks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::engine::EngineError;
use crate::engine::drain::{DrainReport, GroupReport};
use crate::quote::quote;

/// What a drain policy saw last.
#[derive(Debug, Default)]
pub struct DrainWatch {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    report: Option<DrainReport>,
    error: Option<String>,
}

impl DrainWatch {
    /// The policy's group, when it was last looked at. None before, and while the cluster does not answer: an old answer is none.
    pub fn group(&self) -> Option<GroupReport> {
        self.lock().report.as_ref()?.groups.first().cloned()
    }

    /// Why it could not be looked at.
    pub fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    /// Notes what came of a check.
    pub(super) fn saw(&self, checked: Result<DrainReport, EngineError>) {
        let mut last = self.lock();
        *last = match checked {
            Ok(report) => Last {
                report: Some(report),
                error: None,
            },
            Err(error) => Last {
                report: None,
                error: Some(quote(error)),
            },
        };
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `{ checked_at, group, error }`
impl Serialize for DrainWatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let last = self.lock();
        let mut watch = serializer.serialize_struct("DrainWatch", 3)?;
        let checked_at = last.report.as_ref().map(|report| report.last_check_time);
        watch.serialize_field("checked_at", &checked_at)?;
        let group = last
            .report
            .as_ref()
            .and_then(|report| report.groups.first());
        watch.serialize_field("group", &group)?;
        watch.serialize_field("error", &last.error)?;
        watch.end()
    }
}
