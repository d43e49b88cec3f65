//! Which backups a retention keeps: a pure function of backups, rules and the moment.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Datelike, FixedOffset, TimeZone, Utc};
use serde::{Serialize, Serializer};

use crate::engine::EngineError;
use crate::engine::size::Size;
use crate::repository::{BackupId, BackupStatus, References};

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
    /// All that are younger.
    pub keep_within: Option<Duration>,
    /// All of the last so many days.
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
    pub fn check(&self) -> Result<(), EngineError> {
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
        let problem = match (named, keeps, self.min_backups) {
            (false, ..) => {
                "no rule says which backups to keep: give one, such as keep_daily = 7 or retention_days = 30"
            }
            (true, false, _) => "these rules keep nothing: give one of them more than 0",
            (true, true, 0) => {
                "min_backups = 0: the last complete backup is never given up; give 1 or more"
            }
            (true, true, _) => return Ok(()),
        };
        Err(EngineError::Refused(problem.to_owned()))
    }
}

/// A backup that is to be judged.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its id.
    pub backup_id: BackupId,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Whether it holds all that it set out to.
    pub status: BackupStatus,
    /// Whether something needs it, whatever the rules say.
    pub needed: Option<Reason>,
    /// What it references.
    pub references: References,
}

impl Candidate {
    fn is_completed(&self) -> bool {
        self.status == BackupStatus::Completed
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
    pub status: BackupStatus,
    /// Whether it stays.
    pub kept: bool,
    /// Why it stays, or why it goes though a rule wanted it.
    pub reasons: Vec<Reason>,
    /// Whether only the limit of size takes it away.
    pub over_max_size: bool,
}

/// Decides about the backups of one policy and cluster, newest first. Periods are those of the calendar of `now`.
pub fn decide<Tz: TimeZone>(
    backups: &[Candidate],
    rules: &Retention,
    now: &DateTime<Tz>,
) -> Vec<Decision> {
    let mut backups: Vec<&Candidate> = backups.iter().collect();
    backups.sort_by_key(|backup| std::cmp::Reverse((backup.started_at, backup.backup_id)));
    let mut counting = Counting::new(rules, now);
    let mut decisions = Vec::with_capacity(backups.len());
    for backup in &backups {
        let reasons = counting.reasons(backup);
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
                Reason::MinBackups(_) | Reason::Newest | Reason::InterruptedRestore
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
    completed: u32,
    periods: Vec<Periods>,
}

/// A rule of the calendar.
struct Periods {
    rule: &'static str,
    left: u32,
    of: Name,
    last: Option<String>,
}

/// Names the period that a moment lies in.
type Name = fn(&DateTime<FixedOffset>) -> String;

impl<'a, Tz: TimeZone> Counting<'a, Tz> {
    fn new(rules: &'a Retention, now: &'a DateTime<Tz>) -> Self {
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
            last: None,
        });
        Self {
            rules,
            now,
            completed: 0,
            periods: periods.collect(),
        }
    }

    fn reasons(&mut self, backup: &Candidate) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = backup.needed.iter().cloned().collect();
        let age = self.now.clone().to_utc() - backup.started_at;
        // One from the future is young.
        let age = age.to_std().unwrap_or_default();
        if let Some(within) = self.rules.keep_within.filter(|within| age < *within) {
            reasons.push(Reason::Within(within));
        }
        let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
        if let Some(count) = self.rules.retention_days.filter(|count| age < days(*count)) {
            reasons.push(Reason::RetentionDays(count));
        }
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
        if self.last.as_ref() == Some(&period) {
            return None;
        }
        self.left -= 1;
        self.last = Some(period.clone());
        Some(Reason::Period(self.rule, period))
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDateTime;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        let parsed = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M");
        parsed.unwrap().and_utc()
    }

    fn backup(started_at: DateTime<Utc>, status: BackupStatus) -> Candidate {
        Candidate {
            backup_id: BackupId::from_parts(started_at, [0; 3]),
            started_at,
            status,
            needed: None,
            references: References::default(),
        }
    }

    fn completed(times: &[&str]) -> Vec<Candidate> {
        let times = times.iter().map(|time| at(time));
        times
            .map(|time| backup(time, BackupStatus::Completed))
            .collect()
    }

    /// The times of those that are kept, newest first, with the reasons in words.
    fn kept(backups: Vec<Candidate>, rules: &Retention, now: &str) -> Vec<(String, String)> {
        let decisions = decide(&backups, rules, &at(now));
        let kept = decisions.into_iter().filter(|decision| decision.kept);
        kept.map(|decision| {
            let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
            (
                decision.started_at.format("%F %H:%M").to_string(),
                reasons.join(", "),
            )
        })
        .collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn the_newest_of_each_period_is_kept_and_says_for_which() {
        let backups = completed(&[
            "2026-11-20 02:00",
            "2026-11-22 02:00",
            "2026-11-23 02:00",
            "2026-11-23 14:00",
            "2026-11-24 02:00",
            "2025-12-31 02:00",
        ]);
        let rules = Retention {
            keep_daily: Some(3),
            keep_yearly: Some(5),
            ..Retention::default()
        };
        assert_eq!(
            kept(backups, &rules, "2026-11-24 12:00"),
            pairs(&[
                (
                    "2026-11-24 02:00",
                    "daily 2026-11-24, yearly 2026, min_backups 1"
                ),
                ("2026-11-23 14:00", "daily 2026-11-23"),
                ("2026-11-22 02:00", "daily 2026-11-22"),
                ("2025-12-31 02:00", "yearly 2025"),
            ])
        );
    }

    #[test]
    fn days_are_those_of_the_calendar_that_is_asked_for() {
        let backups = || completed(&["2026-11-23 22:30", "2026-11-23 23:30"]);
        let rules = Retention {
            keep_daily: Some(9),
            ..Retention::default()
        };
        let berlin = FixedOffset::east_opt(3600).unwrap();
        let count =
            |decisions: Vec<Decision>| decisions.iter().filter(|decision| decision.kept).count();
        assert_eq!(
            count(decide(&backups(), &rules, &at("2026-11-24 12:00"))),
            1
        );
        let there = at("2026-11-24 12:00").with_timezone(&berlin);
        assert_eq!(count(decide(&backups(), &rules, &there)), 2);
    }

    #[test]
    fn an_incomplete_backup_takes_no_complete_ones_place() {
        let mut backups = completed(&["2026-11-22 02:00", "2026-11-23 02:00"]);
        backups.push(backup(at("2026-11-22 03:00"), BackupStatus::Incomplete));
        backups.push(backup(at("2026-11-24 02:00"), BackupStatus::Incomplete));
        let rules = Retention {
            keep_last: Some(1),
            min_backups: 2,
            ..Retention::default()
        };
        assert_eq!(
            kept(backups, &rules, "2026-11-24 12:00"),
            pairs(&[
                ("2026-11-24 02:00", "newest, though incomplete"),
                ("2026-11-23 02:00", "last 1, min_backups 2"),
                ("2026-11-22 02:00", "min_backups 2"),
            ])
        );
    }

    #[test]
    fn ages_are_counted_from_now_and_the_last_one_is_never_given_up() {
        let rules = Retention {
            retention_days: Some(30),
            ..Retention::default()
        };
        let old = completed(&["2026-01-01 02:00", "2026-01-02 02:00"]);
        assert_eq!(
            kept(old, &rules, "2026-11-24 12:00"),
            pairs(&[("2026-01-02 02:00", "min_backups 1")])
        );
        let hours = Duration::from_secs(36 * 3600);
        let rules = Retention {
            keep_within: Some(hours),
            ..Retention::default()
        };
        let backups = completed(&["2026-11-22 23:59", "2026-11-23 02:00"]);
        assert_eq!(
            kept(backups, &rules, "2026-11-24 12:00"),
            pairs(&[("2026-11-23 02:00", "within 1day 12h, min_backups 1")])
        );
    }

    #[test]
    fn rules_that_keep_nothing_are_refused() {
        let refused = |rules: Retention| rules.check().unwrap_err().to_string();
        assert!(refused(Retention::default()).contains("no rule"));
        let nothing = Retention {
            keep_last: Some(0),
            ..Retention::default()
        };
        assert!(refused(nothing).contains("keep nothing"));
        let none = Retention {
            keep_last: Some(1),
            min_backups: 0,
            ..Retention::default()
        };
        assert!(refused(none).contains("min_backups"));
    }

    proptest! {
        #[test]
        fn more_is_kept_under_larger_counts_and_min_backups_is_never_undercut(
            hours in prop::collection::btree_set(0_i64..5000, 0..60),
            counts in prop::array::uniform6(0_u32..9),
            min_backups in 1_u32..5,
        ) {
            let backups: Vec<Candidate> = hours.iter()
                .map(|hour| backup(at("2026-01-01 00:00") + chrono::TimeDelta::hours(*hour), BackupStatus::Completed))
                .collect();
            let rules = |more: u32| Retention {
                keep_last: Some(counts[0] + more),
                keep_hourly: Some(counts[1] + more),
                keep_daily: Some(counts[2] + more),
                keep_weekly: Some(counts[3] + more),
                keep_monthly: Some(counts[4] + more),
                keep_yearly: Some(counts[5] + more),
                min_backups,
                ..Retention::default()
            };
            let now = at("2026-12-31 00:00");
            let few = decide(&backups, &rules(0), &now);
            let many = decide(&backups, &rules(1), &now);
            for (few, many) in few.iter().zip(&many) {
                prop_assert!(!few.kept || many.kept);
                prop_assert_eq!(few.kept, !few.reasons.is_empty());
            }
            let kept = few.iter().filter(|decision| decision.kept).count();
            prop_assert!(kept >= backups.len().min(min_backups as usize));
            // Taking away what is not kept, and deciding again, changes nothing.
            let left: Vec<Candidate> = backups.into_iter()
                .filter(|backup| few.iter().any(|decision| decision.kept && decision.backup_id == backup.backup_id))
                .collect();
            let again = decide(&left, &rules(0), &now);
            prop_assert!(again.iter().all(|decision| decision.kept));
        }
    }
}
