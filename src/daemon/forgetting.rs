//! Which jobs that ended are remembered: so many, and so many bytes of them. Beyond that, whoever has most of them loses the
//! oldest, so that nobody makes others' results and idempotency keys be forgotten.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::auth::Identity;

use super::ended_run::RunId;

/// Ended jobs that are remembered, and the bytes of all of them.
pub(super) const ENDED_LIMIT: usize = 1000;
pub(super) const BYTES_LIMIT: usize = 16 << 20;

/// What decides about a job that ended.
pub(super) struct EndedJob<'a> {
    pub job_id: RunId,
    pub identity: &'a Identity,
    pub finished_at: Option<DateTime<Utc>>,
    /// Bytes that are kept of it.
    pub size: usize,
}

/// The ended jobs of one caller.
#[derive(Default)]
struct Held {
    count: usize,
    bytes: usize,
    oldest: Option<RunId>,
}

/// The job that is to be forgotten next, of these, the oldest first; none while all may be remembered.
pub(super) fn next_to_forget<'a>(
    ended: impl Iterator<Item = EndedJob<'a>> + Clone,
) -> Option<RunId> {
    // It is there for who waits for it, however large it is.
    let latest = ended
        .clone()
        .max_by_key(|job| (job.finished_at, job.job_id));
    let latest = latest?.job_id;
    let (mut count, mut bytes) = (0, 0);
    let mut held: HashMap<&Identity, Held> = HashMap::new();
    for job in ended {
        (count, bytes) = (count + 1, bytes + job.size);
        let held = held.entry(job.identity).or_default();
        (held.count, held.bytes) = (held.count + 1, held.bytes + job.size);
        if job.job_id != latest {
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
    use super::*;

    /// How many jobs of each are left, when jobs of these owners and sizes end one after the other.
    fn left(owners: &[(Identity, usize)], ended: &[(usize, usize)]) -> Vec<usize> {
        let mut all: Vec<(RunId, usize)> = Vec::new();
        for (owner, count) in ended {
            for _ in 0..*count {
                all.push((RunId::now(), *owner));
                let jobs = all.iter().map(|(job_id, owner)| EndedJob {
                    job_id: *job_id,
                    identity: &owners[*owner].0,
                    finished_at: None,
                    size: owners[*owner].1,
                });
                if let Some(forgotten) = next_to_forget(jobs) {
                    all.retain(|(job_id, _)| *job_id != forgotten);
                }
            }
        }
        let of = |owner| all.iter().filter(|(_, own)| *own == owner).count();
        (0..owners.len()).map(of).collect()
    }

    #[test]
    fn who_floods_makes_nobody_elses_jobs_be_forgotten() {
        let owner = |subject: &str, size| (Identity::new("ops", subject), size);
        let owners = [owner("alice", 500), owner("mallory", 500)];
        assert_eq!(left(&owners, &[(0, 10), (1, 1050)]), [10, 990]);
        let owners = [owner("alice", 500), owner("mallory", 1 << 20)];
        assert_eq!(left(&owners, &[(0, 10), (1, 40)]), [10, 15]);
    }

    #[test]
    fn what_ended_last_is_there_for_who_waits_for_it() {
        let bob = (Identity::new("ops", "bob"), BYTES_LIMIT + 1);
        assert_eq!(left(&[bob], &[(0, 1)]), [1]);
        let bob = (Identity::new("ops", "bob"), BYTES_LIMIT + 1);
        assert_eq!(left(&[bob], &[(0, 2)]), [1]);
    }
}
