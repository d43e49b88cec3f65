//! Whether a policy protects what it names: one word and the reason, for all who show it. Pure: the facts and the moment are given.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::engine::drain::DrainState;
use crate::quote::quote_within;
use crate::words::words;

use super::ended_run::RunResult;

words! {
    /// Whether a policy protects what it names, the worst last.
    pub enum PolicyState {
        /// Its last success is recent enough, and nothing is wrong.
        Protected = "protected",
        /// Too little is known to say more.
        Unknown = "unknown",
        /// Its last success is recent enough, but something is wrong that needs a look.
        AtRisk = "at_risk",
        /// It has no success that is recent enough, or what it made cannot be used.
        Unprotected = "unprotected",
    }
}

impl PolicyState {
    /// As people write it: `at risk`.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::AtRisk => "at risk",
            other => other.name(),
        }
    }
}

/// The state of a policy, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// The word.
    pub state: PolicyState,
    /// All that is wrong, the worst first. Of a protected policy: what that rests on.
    pub reason: String,
}

/// What is known of a policy.
#[derive(Debug, Clone)]
pub(super) enum Facts<'a> {
    Backup {
        runs: Runs<'a>,
        /// Why its retention could not be applied the last time.
        expire_error: Option<&'a str>,
        repository: RepositoryFacts<'a>,
    },
    Mirror {
        runs: Runs<'a>,
        copying: Copying<'a>,
    },
    Drain(GroupFacts<'a>),
}

/// How the runs of a policy went. A mirror that copies all the time has no schedule, so its successes do not count.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs<'a> {
    /// Whether it runs by a schedule.
    pub are_scheduled: bool,
    pub last_success_at: Option<DateTime<Utc>>,
    /// From when on the last success is too old; none where nothing says so.
    pub overdue_at: Option<DateTime<Utc>>,
    /// `max_age`, as it is written; none where the schedule alone says when a success is too old.
    pub max_age: Option<std::time::Duration>,
    /// How the last run ended, if it ended after the last success and was none.
    pub failed: Option<(RunResult, Option<&'a str>)>,
    /// Why the last try of a run failed that will be tried again.
    pub retrying: Option<&'a str>,
}

/// How the repository of a policy is.
#[derive(Debug, Clone, Copy)]
pub(super) enum RepositoryFacts<'a> {
    /// It is still being loaded, and perhaps does not answer.
    Loading(Option<&'a str>),
    Unreadable(&'a str),
    Unwritable(&'a str),
    /// So many backups and packs are gone though nothing expired them.
    Losses(usize, usize),
    Well,
}

/// How far a mirror is.
#[derive(Debug, Clone, Default)]
pub(super) struct Copying<'a> {
    pub partitions: usize,
    /// Partitions that stopped for good.
    pub stopped: usize,
    /// Why one of them did.
    pub why: Option<&'a str>,
    pub lag: TimeDelta,
}

/// What a drain policy knows of its group.
#[derive(Debug, Clone, Copy)]
pub(super) enum GroupFacts<'a> {
    NotSeen,
    Unreadable(&'a str),
    /// It goes on, but some partitions will not be consumed.
    PartlyStuck(&'a str),
    Seen(DrainState, &'a str),
}

/// Clocks of different machines, and one that is adjusted, differ by less.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(5);
/// A mirror that is further behind is at risk.
pub(super) const MOST_LAG: TimeDelta = TimeDelta::minutes(10);
/// Of an error, in characters: the whole of it is in the log and in `/status`.
const LONGEST_ERROR: usize = 300;

type Finding = (PolicyState, String);

/// What the state of a policy is at a moment, and why.
pub(super) fn judge(facts: &Facts<'_>, now: DateTime<Utc>) -> Protection {
    let mut findings: Vec<Finding> = match facts {
        Facts::Backup {
            runs,
            expire_error,
            repository,
        } => {
            let is_loading = matches!(repository, RepositoryFacts::Loading(_));
            let expiring = expire_error.map(|why| {
                let why = quote_within(why, LONGEST_ERROR);
                (
                    PolicyState::AtRisk,
                    format!("old backups cannot be expired: {why}"),
                )
            });
            let of_runs = of_runs(runs, is_loading, now).into_iter();
            of_runs
                .chain(of_repository(repository))
                .chain(expiring)
                .collect()
        }
        Facts::Mirror { runs, copying } => {
            let of_runs = of_runs(runs, false, now).into_iter();
            of_runs.chain(of_copying(copying, runs)).collect()
        }
        Facts::Drain(group) => of_group(group).into_iter().collect(),
    };
    findings.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
    match findings.first() {
        None => Protection {
            state: PolicyState::Protected,
            reason: rests_on(facts, now),
        },
        Some((state, _)) => Protection {
            state: *state,
            reason: {
                let reasons = findings.iter().map(|(_, reason)| reason.as_str());
                reasons.collect::<Vec<_>>().join("; ")
            },
        },
    }
}

fn of_runs(runs: &Runs<'_>, is_loading: bool, now: DateTime<Utc>) -> Vec<Finding> {
    let cut = |why: &str| quote_within(why, LONGEST_ERROR);
    let success = runs
        .are_scheduled
        .then(|| of_success(runs, is_loading, now));
    let failed = runs.failed.map(|(result, why)| {
        let why = why.map(|why| format!(": {}", cut(why))).unwrap_or_default();
        let how = match result {
            RunResult::Incomplete => "is incomplete",
            RunResult::Cancelled => "was cancelled",
            RunResult::Failed | RunResult::Success => "failed",
        };
        (PolicyState::AtRisk, format!("the last run {how}{why}"))
    });
    let retrying = runs.retrying.map(|why| {
        (
            PolicyState::AtRisk,
            format!("it is tried again: {}", cut(why)),
        )
    });
    success
        .flatten()
        .into_iter()
        .chain(failed)
        .chain(retrying)
        .collect()
}

/// What is wrong with the age of the last success.
fn of_success(runs: &Runs<'_>, is_loading: bool, now: DateTime<Utc>) -> Option<Finding> {
    let Some(success) = runs.last_success_at else {
        // Until its repository is loaded, nobody knows.
        let never = (
            PolicyState::Unprotected,
            "it has never succeeded".to_owned(),
        );
        return (!is_loading).then_some(never);
    };
    let age = now - success;
    if age < -CLOCKS_DIFFER {
        let ahead = rough(-age);
        let reason = format!("its last success lies {ahead} in the future: set the clock right");
        return Some((PolicyState::Unknown, reason));
    }
    let Some(overdue_at) = runs.overdue_at else {
        let reason =
            "it is suspended, and without max_age nothing says how old its last success may be";
        return Some((PolicyState::Unknown, reason.to_owned()));
    };
    (now > overdue_at).then(|| {
        let bound = match runs.max_age {
            Some(max_age) => format!("max_age is {}", humantime::format_duration(max_age)),
            None => "two runs have been due since then".to_owned(),
        };
        let reason = format!("its last success was {} ago, {bound}", rough(age));
        (PolicyState::Unprotected, reason)
    })
}

fn of_repository(repository: &RepositoryFacts<'_>) -> Option<Finding> {
    let cut = |why: &str| quote_within(why, LONGEST_ERROR);
    Some(match repository {
        RepositoryFacts::Well => return None,
        RepositoryFacts::Loading(why) => {
            let why = why.map(|why| format!(": {}", cut(why))).unwrap_or_default();
            (
                PolicyState::Unknown,
                format!("its repository is still being loaded{why}"),
            )
        }
        RepositoryFacts::Unreadable(why) => (
            PolicyState::Unprotected,
            format!("its repository cannot be read: {}", cut(why)),
        ),
        RepositoryFacts::Unwritable(why) => (
            PolicyState::AtRisk,
            format!("its repository cannot be written: {}", cut(why)),
        ),
        RepositoryFacts::Losses(backups, packs) => {
            let lost = format!(
                "its repository has lost {backups} backup(s) and {packs} pack(s): kafkeep verify names what is damaged"
            );
            (PolicyState::AtRisk, lost)
        }
    })
}

fn of_copying(copying: &Copying<'_>, runs: &Runs<'_>) -> Vec<Finding> {
    let Copying {
        partitions,
        stopped,
        why,
        lag,
    } = copying;
    let mut findings = Vec::new();
    if *stopped > 0 {
        let why = quote_within(why.unwrap_or("the log says why"), LONGEST_ERROR);
        let reason =
            format!("{stopped} of {partitions} partitions have permanently stopped: {why}");
        findings.push((PolicyState::Unprotected, reason));
    }
    let is_failing = runs.failed.is_some() || runs.retrying.is_some();
    match (partitions, runs.are_scheduled) {
        // What a scheduled mirror has done is told by its last success.
        (0, false) if is_failing => {
            let reason = "nothing has been mirrored since the daemon started".to_owned();
            findings.push((PolicyState::Unprotected, reason));
        }
        (0, false) => {
            let reason =
                "nothing is mirrored yet: it has just begun, or no topic matches".to_owned();
            findings.push((PolicyState::Unknown, reason));
        }
        (_, false) if *lag > MOST_LAG => {
            findings.push((
                PolicyState::AtRisk,
                format!("it is {} behind its source", rough(*lag)),
            ));
        }
        _ => {}
    }
    findings
}

fn of_group(group: &GroupFacts<'_>) -> Option<Finding> {
    let finding = |state, why: &str| Some((state, quote_within(why, LONGEST_ERROR)));
    match group {
        GroupFacts::NotSeen => finding(PolicyState::Unknown, "its group was not checked yet"),
        GroupFacts::Unreadable(why) => {
            let why = format!("its group cannot be checked: {why}");
            finding(PolicyState::Unknown, &why)
        }
        GroupFacts::PartlyStuck(why)
        | GroupFacts::Seen(DrainState::Stopped | DrainState::Stalled, why) => {
            finding(PolicyState::AtRisk, why)
        }
        GroupFacts::Seen(DrainState::Unknown, why) => finding(PolicyState::Unknown, why),
        GroupFacts::Seen(DrainState::Drained | DrainState::Draining | DrainState::Empty, _) => None,
    }
}

/// Why a policy is protected of which nothing is wrong.
fn rests_on(facts: &Facts<'_>, now: DateTime<Utc>) -> String {
    match facts {
        Facts::Backup { runs, .. } | Facts::Mirror { runs, .. } if runs.are_scheduled => {
            let success = runs.last_success_at.unwrap_or(now);
            format!(
                "its last success was {} ago",
                rough((now - success).max(TimeDelta::zero()))
            )
        }
        Facts::Backup { .. } => "nothing is wrong".to_owned(),
        Facts::Mirror { copying, .. } => {
            format!(
                "{} partitions are mirrored, {} behind",
                copying.partitions,
                rough(copying.lag)
            )
        }
        Facts::Drain(GroupFacts::Seen(_, why)) => quote_within(why, LONGEST_ERROR),
        Facts::Drain(_) => "nothing is wrong".to_owned(),
    }
}

/// A time as people say it: its two largest units at most.
pub fn rough(time: TimeDelta) -> String {
    let seconds = u64::try_from(time.num_seconds()).unwrap_or(0);
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let in_units =
        |large: u64, name: &str, small: u64, small_name: &str| match (seconds % large) / small {
            0 => format!("{}{name}", seconds / large),
            rest => format!("{}{name} {rest}{small_name}", seconds / large),
        };
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => in_units(MINUTE, "m", 1, "s"),
        HOUR..DAY => in_units(HOUR, "h", MINUTE, "m"),
        _ => in_units(DAY, "d", HOUR, "h"),
    }
}
