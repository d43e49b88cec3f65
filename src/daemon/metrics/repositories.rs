//! What repositories hold, when they were last looked at.

use super::metric::{Metric, gauge};

pub(super) const METRICS: &[Metric] = &[
    gauge(
        "repository_size_bytes",
        "Bytes that all objects of the repository take.",
        |observed| observed.repositories(|repository| Some(repository.size_bytes)),
    ),
    gauge(
        "repository_backups",
        "Backups in the repository.",
        |observed| observed.repositories(|repository| Some(repository.backups)),
    ),
    gauge(
        "repository_free_bytes",
        "Bytes that are free where the repository lies.",
        |observed| observed.repositories(|repository| repository.free_bytes),
    ),
    gauge(
        "repository_lost_backups",
        "Backups that are gone from the repository though nothing expired them.",
        |observed| observed.repositories(|repository| Some(repository.lost_backups.len() as u64)),
    ),
    gauge(
        "repository_lost_packs",
        "Packs that backups in the repository need and that are gone or cut short.",
        |observed| observed.repositories(|repository| Some(repository.lost_packs.len() as u64)),
    ),
];
