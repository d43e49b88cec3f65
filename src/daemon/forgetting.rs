//! Which jobs that ended are remembered: so many, and so many bytes of them. Beyond that, whoever has most of them loses the
//! oldest, so that nobody makes others' results and idempotency keys be forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::auth::Identity;

use super::jobs::Job;
use super::status::RunId;

/// Ended jobs that are remembered, and the bytes of all of them.
pub(super) const ENDED_LIMIT: usize = 1000;
pub(super) const BYTES_LIMIT: usize = 16 << 20;

/// The ended jobs of one caller.
#[derive(Default)]
struct Held {
    count: usize,
    bytes: usize,
    oldest: Option<RunId>,
}

/// The job that is to be forgotten next; none while all may be remembered.
pub(super) fn next_to_forget(all: &BTreeMap<RunId, Arc<Job>>) -> Option<RunId> {
    let ended = || all.values().filter(|job| job.state.is_ended());
    // It is there for who waits for it, however large it is.
    let latest = ended().max_by_key(|job| (job.finished_at, job.job_id))?;
    let (mut count, mut bytes) = (0, 0);
    let mut held: HashMap<&Identity, Held> = HashMap::new();
    for job in ended() {
        let size = job.size();
        (count, bytes) = (count + 1, bytes + size);
        let held = held.entry(&job.identity).or_default();
        (held.count, held.bytes) = (held.count + 1, held.bytes + size);
        if job.job_id != latest.job_id {
            held.oldest.get_or_insert(job.job_id);
        }
    }
    let is_too_many = count > ENDED_LIMIT;
    if !is_too_many && bytes <= BYTES_LIMIT {
        return None;
    }
    let candidates = held.values().filter_map(|held| {
        let most = match is_too_many {
            true => held.count,
            false => held.bytes,
        };
        Some((most, held.oldest?))
    });
    candidates.max().map(|(_, oldest)| oldest)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::api::{OrderKind, Problem, ProblemKind};
    use crate::daemon::jobs::JobState;
    use crate::daemon::progress::RunProgress;
    use crate::daemon::status::Work;

    fn ended(subject: &str, topic_bytes: usize) -> Arc<Job> {
        let topic = super::super::jobs::JobTopic {
            cluster: "prod".to_owned(),
            topic: "t".repeat(topic_bytes),
        };
        Arc::new(Job {
            job_id: RunId::now(),
            kind: OrderKind::Drain,
            state: JobState::Failed,
            waiting_for: None,
            identity: Identity::new("ops", subject),
            cluster: "prod".to_owned(),
            topics: vec![topic],
            topics_count: 1,
            created_at: Utc::now(),
            started_at: None,
            finished_at: Some(Utc::now()),
            progress: Arc::new(RunProgress::of(Work::Drain)),
            result: None,
            error: Some(Problem::new(ProblemKind::NotFound, "no such topic")),
            idempotency: None,
        })
    }

    fn remembered(jobs: impl IntoIterator<Item = Arc<Job>>) -> BTreeMap<RunId, Arc<Job>> {
        let mut all = BTreeMap::new();
        for job in jobs {
            all.insert(job.job_id, job);
            while let Some(forgotten) = next_to_forget(&all) {
                all.remove(&forgotten);
            }
        }
        all
    }

    fn of(all: &BTreeMap<RunId, Arc<Job>>, subject: &str) -> usize {
        let jobs = all.values();
        jobs.filter(|job| job.identity.subject == subject).count()
    }

    #[test]
    fn who_floods_makes_nobody_elses_jobs_be_forgotten() {
        let alice = (0..10).map(|_| ended("alice", 10));
        let many = (0..ENDED_LIMIT + 50).map(|_| ended("mallory", 10));
        let all = remembered(alice.chain(many));
        assert_eq!((of(&all, "alice"), all.len()), (10, ENDED_LIMIT));
        let alice = (0..10).map(|_| ended("alice", 10));
        let large = (0..40).map(|_| ended("mallory", 1 << 20));
        let all = remembered(alice.chain(large));
        assert_eq!((of(&all, "alice"), of(&all, "mallory")), (10, 15));
    }

    #[test]
    fn what_ended_last_is_there_for_who_waits_for_it() {
        let small = (0..3).map(|_| ended("alice", 10));
        let last = ended("bob", BYTES_LIMIT + 1);
        let all = remembered(small.chain([Arc::clone(&last)]));
        assert_eq!(all.keys().collect::<Vec<_>>(), [&last.job_id]);
    }
}
