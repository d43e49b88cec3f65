//! Jobs as a restart finds them: a file each, below the state directory. They may be lost without harm.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::api::{OrderKind, Problem, ProblemKind};
use crate::auth::Identity;
use crate::engine::{EngineError, blocking};
use crate::files;

use super::forgetting::{BYTES_LIMIT, ENDED_LIMIT};
use super::jobs::{Idempotency, Job, JobList, JobState, JobTopic};
use super::progress::RunProgress;
use super::state_file;
use super::status::RunId;

const FORMAT: u32 = 1;
const DIRECTORY: &str = "jobs";
/// Jobs that had not ended lie there beside those that had.
const READ_LIMIT: usize = 2 * ENDED_LIMIT;
/// Many jobs that change at once are written down together.
const PAUSE: Duration = Duration::from_millis(200);

/// A job in its file.
#[derive(Serialize, Deserialize)]
struct StoredJob {
    format: u32,
    job_id: RunId,
    kind: OrderKind,
    state: JobState,
    subject: String,
    /// Missing in files of before keys were part of identities: then the job is nobody's who calls.
    #[serde(default)]
    key: String,
    cluster: String,
    topics: Vec<JobTopic>,
    /// Missing in files of before, which hold all topics.
    #[serde(default)]
    topics_count: usize,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    /// Planned, done, bytes.
    progress: (u64, u64, u64),
    result: Option<Box<RawValue>>,
    error: Option<Problem>,
    idempotency: Option<Idempotency>,
}

impl StoredJob {
    fn of(job: &Job) -> Self {
        Self {
            format: FORMAT,
            job_id: job.job_id,
            kind: job.kind,
            state: job.state,
            subject: job.identity.subject.clone(),
            key: job.identity.key.clone(),
            cluster: job.cluster.clone(),
            topics: job.topics.clone(),
            topics_count: job.topics_count,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            progress: job.progress.counts(),
            result: job.result.as_deref().map(ToOwned::to_owned),
            error: job.error.clone(),
            idempotency: job.idempotency.clone(),
        }
    }

    /// What had not ended has now: with the daemon that ran it.
    fn job(self, now: DateTime<Utc>) -> Job {
        let (planned, done, bytes) = self.progress;
        let progress = RunProgress::of(self.kind.into());
        progress.stands_at(planned, done, bytes);
        let mut job = Job {
            job_id: self.job_id,
            kind: self.kind,
            state: self.state,
            waiting_for: None,
            identity: Identity::new(self.key, self.subject),
            cluster: self.cluster,
            topics_count: self.topics_count.max(self.topics.len()),
            topics: self.topics,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            progress: Arc::new(progress),
            result: self.result.map(Arc::from),
            error: self.error,
            idempotency: self.idempotency,
        };
        if !job.state.is_ended() {
            let message = "the daemon ended before the job did: ask for it again";
            job.state = JobState::Failed;
            job.finished_at = Some(now);
            job.error = Some(Problem::new(ProblemKind::InternalError, message));
        }
        job
    }
}

/// The directory of the files.
#[derive(Debug, Clone)]
pub(super) struct JobFiles {
    directory: PathBuf,
}

impl JobFiles {
    pub fn below(state_directory: &Path) -> Self {
        Self {
            directory: state_directory.join(DIRECTORY),
        }
    }

    /// The newest that are there and can be understood, as they stand at `now`: no more are read than are remembered. Others can no
    /// longer read them.
    pub fn read(&self, now: DateTime<Utc>) -> Vec<Job> {
        state_file::close_to_others(&self.directory);
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                let directory = self.directory.display();
                tracing::warn!("the jobs in {directory} are not known: {error}");
                return Vec::new();
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths: Vec<PathBuf> = paths.filter(|path| is_of_job(path)).collect();
        // Ids sort by age, as texts too.
        paths.sort_unstable_by(|a, b| b.cmp(a));
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        for path in paths {
            if jobs.len() >= READ_LIMIT || bytes > BYTES_LIMIT {
                break;
            }
            match read_one(&path) {
                Ok(kept) => {
                    let job = kept.job(now);
                    bytes += job.size();
                    jobs.push(job);
                }
                Err(error) => {
                    tracing::warn!("the job in {} is not known: {error}", path.display());
                }
            }
        }
        jobs
    }

    /// Removes the files of jobs that are not in the list: those that were forgotten while they were read.
    pub(super) fn keep_only(&self, list: &JobList) -> io::Result<()> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_stem().and_then(OsStr::to_str);
            let job_id: Option<RunId> = name.and_then(|name| name.parse().ok());
            if is_of_job(&path) && job_id.is_some_and(|job_id| !list.contains_key(&job_id)) {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, job_id: RunId) -> PathBuf {
        self.directory.join(format!("{job_id}.json"))
    }

    fn write(&self, job: &Job) -> io::Result<()> {
        if !self.directory.exists() {
            files::private_directory(&self.directory)?;
        }
        let json = serde_json::to_vec(&StoredJob::of(job))?;
        files::replace(&self.path(job.job_id), &json)
    }

    /// Makes the files be what the list is, given what they were.
    pub(super) fn update(&self, before: &JobList, now: &JobList) -> io::Result<()> {
        for (job_id, job) in now.iter() {
            let is_written = before
                .get(job_id)
                .is_some_and(|known| Arc::ptr_eq(known, job));
            if !is_written {
                self.write(job)?;
            }
        }
        for job_id in before.keys().filter(|job_id| !now.contains_key(job_id)) {
            match std::fs::remove_file(self.path(*job_id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps them up to date until there is no more to come.
    pub async fn follow(self, mut jobs: watch::Receiver<JobList>) {
        let mut written: JobList = Arc::new(BTreeMap::new());
        let mut is_tidy = false;
        let mut failing = false;
        loop {
            let now = Arc::clone(&jobs.borrow_and_update());
            let (files, before, after) = (self.clone(), Arc::clone(&written), Arc::clone(&now));
            let tidies = !std::mem::replace(&mut is_tidy, true);
            let writing = blocking("the thread that writes the jobs", move || {
                let tidied = match tidies {
                    true => files.keep_only(&after),
                    false => Ok(()),
                };
                Ok::<_, EngineError>(tidied.and_then(|()| files.update(&before, &after)))
            });
            match writing
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
            {
                Ok(()) => {
                    written = now;
                    failing = false;
                }
                // Once, until they can be written again.
                Err(error) if !failing => {
                    let directory = self.directory.display();
                    tracing::warn!("jobs cannot be written to {directory}: {error}");
                    failing = true;
                }
                Err(_) => {}
            }
            if jobs.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn is_of_job(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "json")
}

fn read_one(path: &Path) -> io::Result<StoredJob> {
    let kept: StoredJob = state_file::read(path)?;
    match kept.format {
        FORMAT => Ok(kept),
        other => Err(io::Error::other(format!("it has format {other}"))),
    }
}
