//! Which backups a retention keeps: a pure function of backups, rules and the clock.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Datelike, FixedOffset, TimeDelta, TimeZone, Utc};
use serde::{Serialize, Serializer};

use crate::engine::EngineError;
use crate::engine::size::Size;
use crate::repository::{BackupId, Completion, PreviousBackup, References};

use super::ages::{Age, AgeRule};

/// What an operator wants to be kept. A backup that any rule wants is kept; the words are restic's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many.
    pub keep_last: Option<u32>,
    /// The newest of each of the last so many hours that have any.
    pub keep_hourly: Option<u32>,
    /// The same for days.
    pub keep_daily: Option<u32>,
    /// The same for ISO weeks.
    pub keep_weekly: Option<u32>,
    /// The same for months.
    pub keep_monthly: Option<u32>,
    /// The same for years.
    pub keep_yearly: Option<u32>,
    /// All that began less than this before the newest of them.
    pub keep_within: Option<Duration>,
    /// All that began less than so many days before the newest of them.
    pub retention_days: Option<u32>,
    /// What the kept ones may take on disk: the oldest go until the rest fits, whatever the other rules want.
    pub max_size: Option<Size>,
    /// So many complete ones are kept whatever the rules say; at least 1.
    pub min_backups: u32,
}

impl Default for Retention {
    /// No rule but for the least number of backups, 1.
    fn default() -> Self {
        Self {
            keep_last: None,
            keep_hourly: None,
            keep_daily: None,
            keep_weekly: None,
            keep_monthly: None,
            keep_yearly: None,
            keep_within: None,
            retention_days: None,
            max_size: None,
            min_backups: 1,
        }
    }
}

impl Retention {
    /// Refuses no rules at all, rules that keep nothing, and giving up the last complete backup.
    pub fn check(&self) -> Result<(), InvalidRetention> {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
            self.retention_days,
        ];
        let within = self.keep_within.map(|within| !within.is_zero());
        let size = self.max_size.map(|Size(bytes)| bytes > 0);
        let mut rules = counts.iter().map(|count| count.map(|count| count > 0));
        let named = rules
            .clone()
            .chain([within, size])
            .any(|rule| rule.is_some());
        let keeps =
            rules.any(|rule| rule == Some(true)) || within == Some(true) || size == Some(true);
        let (problem, advice) = match (named, keeps, self.min_backups) {
            (false, ..) => (
                "no rule says which backups to keep",
                "give one, such as keep_daily = 7 or retention_days = 30",
            ),
            (true, false, _) => ("these rules keep nothing", "give one of them more than 0"),
            (true, true, 0) => (
                "min_backups = 0",
                "the last complete backup is never given up; give 1 or more",
            ),
            (true, true, _) => return Ok(()),
        };
        Err(InvalidRetention { problem, advice })
    }
}

/// Why rules are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem}: {advice}")]
pub struct InvalidRetention {
    /// What is wrong.
    pub problem: &'static str,
    /// What to do.
    pub advice: &'static str,
}

impl From<InvalidRetention> for EngineError {
    fn from(error: InvalidRetention) -> Self {
        Self::refused(error.to_string())
    }
}

/// A backup that is to be judged.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its id, which tells its place among the others.
    pub backup_id: BackupId,
    /// The backup that it was planned on.
    pub previous: Option<PreviousBackup>,
    /// When it began, by the clock of then.
    pub started_at: DateTime<Utc>,
    /// Whether it holds all that it set out to.
    pub status: Completion,
    /// Whether something needs it, whatever the rules say.
    pub needed: Option<Reason>,
    /// What it references.
    pub references: References,
}

impl Candidate {
    fn is_completed(&self) -> bool {
        self.status == Completion::Completed
    }
}

/// Why a backup is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the so-many-th from the end.
    Last(u32),
    /// It is the newest of its hour, day, week, month or year, in words.
    Period(&'static str, String),
    /// It is younger than this.
    Within(Duration),
    /// It is not older than so many days.
    RetentionDays(u32),
    /// It is too old only by one step in time that is much longer than the others: a clock may have been wrong.
    AgeInDoubt,
    /// The newest backup lies in the future: the clock is wrong, or was.
    ClockInDoubt,
    /// So many are kept at least.
    MinBackups(u32),
    /// It is incomplete, but newer than every complete one.
    Newest,
    /// A restore from it was interrupted, and may go on.
    InterruptedRestore,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last(place) => write!(f, "last {place}"),
            Self::Period(rule, period) => write!(f, "{rule} {period}"),
            Self::Within(within) => write!(f, "within {}", humantime::format_duration(*within)),
            Self::RetentionDays(days) => write!(f, "retention_days {days}"),
            Self::AgeInDoubt => f.write_str("its age is in doubt"),
            Self::ClockInDoubt => f.write_str("the newest backup lies in the future"),
            Self::MinBackups(count) => write!(f, "min_backups {count}"),
            Self::Newest => f.write_str("newest, though incomplete"),
            Self::InterruptedRestore => f.write_str("an interrupted restore may go on"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What becomes of a backup: it is kept when there is a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The backup.
    pub backup_id: BackupId,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Whether it holds all that it set out to.
    pub status: Completion,
    /// Whether it stays.
    pub kept: bool,
    /// Why it stays, or why it goes though a rule wanted it.
    pub reasons: Vec<Reason>,
    /// Whether only the limit of size takes it away.
    pub over_max_size: bool,
}

/// Whether the times in manifests are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// A backup that only times make old which contradict the clock or the rhythm of its group stays.
    #[default]
    InDoubt,
    /// An operator says that no clock was wrong.
    Trusted,
}

/// A newest backup that began later than this after the clock lies in the future.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Decides about the backups of one policy and cluster, newest first: in the order in which they were made, which their ids tell.
/// Periods are those of the calendar of `now`.
pub fn decide<Tz: TimeZone>(
    backups: &[Candidate],
    rules: &Retention,
    times: Times,
    now: &DateTime<Tz>,
) -> Vec<Decision> {
    let mut backups: Vec<&Candidate> = backups.iter().collect();
    backups.sort_by_key(|backup| std::cmp::Reverse(backup.backup_id));
    let newest = backups.first().map(|backup| backup.started_at);
    let is_in_future = newest.is_some_and(|newest| newest > now.clone().to_utc() + TOLERANCE);
    let mut counting = Counting::new(rules, &backups, times, now);
    let mut decisions = Vec::with_capacity(backups.len());
    for (place, backup) in backups.iter().enumerate() {
        let mut reasons = counting.reasons(place, backup);
        if is_in_future && times == Times::InDoubt {
            reasons.push(Reason::ClockInDoubt);
        }
        decisions.push(Decision {
            backup_id: backup.backup_id,
            started_at: backup.started_at,
            status: backup.status,
            kept: !reasons.is_empty(),
            reasons,
            over_max_size: false,
        });
    }
    if let Some(Size(limit)) = rules.max_size {
        fit(&mut decisions, &backups, limit);
    }
    decisions
}

/// Gives up the oldest until the rest fits, but for what must stay.
fn fit(decisions: &mut [Decision], backups: &[&Candidate], limit: u64) {
    let mut kept = References::default();
    let mut full = false;
    for (decision, backup) in decisions.iter_mut().zip(backups) {
        if !decision.kept {
            continue;
        }
        let must_stay = decision.reasons.iter().any(|reason| {
            matches!(
                reason,
                Reason::MinBackups(_)
                    | Reason::Newest
                    | Reason::InterruptedRestore
                    | Reason::ClockInDoubt
            )
        });
        if !full {
            kept.extend(&backup.references);
            full = kept.pack_bytes() > limit;
        }
        if full && !must_stay {
            decision.kept = false;
            decision.over_max_size = true;
        }
    }
}

/// How far the counts of the rules are used up, from the newest backup on.
struct Counting<'a, Tz: TimeZone> {
    rules: &'a Retention,
    now: &'a DateTime<Tz>,
    within: Option<AgeRule>,
    retention_days: Option<(u32, AgeRule)>,
    completed: u32,
    periods: Vec<Periods>,
}

/// A rule of the calendar.
struct Periods {
    rule: &'static str,
    left: u32,
    of: Name,
    had: BTreeSet<String>,
}

/// Names the period that a moment lies in.
type Name = fn(&DateTime<FixedOffset>) -> String;

impl<'a, Tz: TimeZone> Counting<'a, Tz> {
    fn new(
        rules: &'a Retention,
        backups: &[&Candidate],
        times: Times,
        now: &'a DateTime<Tz>,
    ) -> Self {
        let periods: [(&'static str, Option<u32>, Name); 5] = [
            // With the offset, since an hour comes twice when summer time ends.
            ("hourly", rules.keep_hourly, |time| {
                time.format("%F %Hh%:z").to_string()
            }),
            ("daily", rules.keep_daily, |time| {
                time.date_naive().to_string()
            }),
            ("weekly", rules.keep_weekly, |time| {
                let week = time.iso_week();
                format!("{}-W{:02}", week.year(), week.week())
            }),
            ("monthly", rules.keep_monthly, |time| {
                format!("{}-{:02}", time.year(), time.month())
            }),
            ("yearly", rules.keep_yearly, |time| time.year().to_string()),
        ];
        let periods = periods.into_iter().map(|(rule, left, of)| Periods {
            rule,
            left: left.unwrap_or(0),
            of,
            had: BTreeSet::new(),
        });
        let started_at: Vec<_> = backups.iter().map(|backup| backup.started_at).collect();
        let younger = |limit| AgeRule::new(limit, &started_at, times == Times::Trusted);
        let days = |days: u32| (days, younger(Duration::from_secs(u64::from(days) * 86_400)));
        Self {
            rules,
            now,
            within: rules.keep_within.map(younger),
            retention_days: rules.retention_days.map(days),
            completed: 0,
            periods: periods.collect(),
        }
    }

    /// Why a backup stays by its age.
    fn young(&self, place: usize) -> Vec<Reason> {
        let within = self.within.iter();
        let within = within.map(|rule| (rule, Reason::Within(rule.limit())));
        let days = self.retention_days.iter();
        let days = days.map(|(days, rule)| (rule, Reason::RetentionDays(*days)));
        let mut reasons = Vec::new();
        for (rule, reason) in within.chain(days) {
            match rule.age(place) {
                Age::Young => reasons.push(reason),
                Age::InDoubt if !reasons.contains(&Reason::AgeInDoubt) => {
                    reasons.push(Reason::AgeInDoubt);
                }
                Age::InDoubt | Age::Old => {}
            }
        }
        reasons
    }

    fn reasons(&mut self, place: usize, backup: &Candidate) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = backup.needed.iter().cloned().collect();
        reasons.extend(self.young(place));
        if !backup.is_completed() {
            // It must not take the place of a complete one.
            if self.completed == 0 {
                reasons.push(Reason::Newest);
            }
            return reasons;
        }
        self.completed += 1;
        if self
            .rules
            .keep_last
            .is_some_and(|count| self.completed <= count)
        {
            reasons.push(Reason::Last(self.completed));
        }
        let local = backup.started_at.with_timezone(&self.now.timezone());
        for periods in &mut self.periods {
            reasons.extend(periods.reason(&local.fixed_offset()));
        }
        if self.completed <= self.rules.min_backups {
            reasons.push(Reason::MinBackups(self.rules.min_backups));
        }
        reasons
    }
}

impl Periods {
    fn reason(&mut self, time: &DateTime<FixedOffset>) -> Option<Reason> {
        if self.left == 0 {
            return None;
        }
        let period = (self.of)(time);
        // Not only the last: times that contradict the order come back to a period.
        if !self.had.insert(period.clone()) {
            return None;
        }
        self.left -= 1;
        Some(Reason::Period(self.rule, period))
    }
}
