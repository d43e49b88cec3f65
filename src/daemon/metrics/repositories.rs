//! What repositories hold, when they were last looked at.

use crate::daemon::ended_run::RunResult;
use crate::daemon::repositories::RepositoryStatus;

use super::metric::{Metric, counter, gauge};
use super::observed::Observed;
use super::sample::{Sample, one_if};

pub(super) const METRICS: &[Metric] = &[
    gauge(
        "repository_up",
        "Whether the repository could be read when it was last looked at.",
        |observed| usable(observed, |repository| repository.readable),
    ),
    gauge(
        "repository_writable",
        "Whether something could be written to the repository when it was last looked at.",
        |observed| usable(observed, |repository| repository.writable),
    ),
    gauge(
        "repository_objects",
        "Objects in the repository; absent while it cannot be read.",
        |observed| observed.repositories(|repository| repository.objects),
    ),
    counter(
        "repository_runs_total",
        "Runs of policies of the repository that ended, by how.",
        |observed| {
            let repositories = observed.repositories.iter();
            let samples = repositories.flat_map(|repository| {
                let name = repository.repository.as_str();
                RunResult::ALL.map(|result| {
                    let runs = &observed.status.repository_runs;
                    let count = runs.get(&(name.to_owned(), result)).copied();
                    let labels = [("repository", name), ("result", result.name())];
                    Sample::new(&labels, count.unwrap_or_default() as f64)
                })
            });
            samples.collect()
        },
    ),
    gauge(
        "repository_size_bytes",
        "Bytes that all objects of the repository take; absent while it cannot be read.",
        |observed| observed.repositories(|repository| repository.size_bytes),
    ),
    gauge(
        "repository_backups",
        "Backups in the repository; absent while it cannot be read.",
        |observed| observed.repositories(|repository| repository.backups),
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

/// Whether each repository can be used. One that is being loaded is left out, unless its storage does not answer.
fn usable(observed: &Observed<'_>, is_usable: fn(&RepositoryStatus) -> bool) -> Vec<Sample<f64>> {
    let known = observed.repositories.iter();
    let known = known.filter(|known| known.looked_at.is_some() || known.error.is_some());
    let samples = known.map(|repository| {
        let labels = [("repository", repository.repository.as_str())];
        Sample::new(&labels, one_if(is_usable(repository)))
    });
    samples.collect()
}
