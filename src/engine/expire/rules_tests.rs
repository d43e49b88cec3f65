use std::time::Duration;

use chrono::{DateTime, FixedOffset, NaiveDateTime, Utc};
use proptest::prelude::*;

use crate::repository::{BackupId, Completion, References};

use super::rules::{Candidate, Decision, Retention, Times, decide};

fn at(text: &str) -> DateTime<Utc> {
    let parsed = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M");
    parsed.unwrap().and_utc()
}

fn backup(started_at: DateTime<Utc>, status: Completion) -> Candidate {
    Candidate {
        backup_id: BackupId::from_parts(started_at, [0; 3]),
        previous: None,
        started_at,
        status,
        needed: None,
        references: References::default(),
    }
}

/// Backups that were made in this order, whatever the clock showed.
fn made_in_order(times: &[&str]) -> Vec<Candidate> {
    let mut newest = None;
    let made = times.iter().map(|time| {
        let started_at = at(time);
        newest = Some(BackupId::after(newest, started_at));
        Candidate {
            backup_id: newest.unwrap(),
            ..backup(started_at, Completion::Completed)
        }
    });
    made.collect()
}

fn completed(times: &[&str]) -> Vec<Candidate> {
    let times = times.iter().map(|time| at(time));
    times
        .map(|time| backup(time, Completion::Completed))
        .collect()
}

/// The times of those that are kept, newest first, with the reasons in words.
fn kept(backups: Vec<Candidate>, rules: &Retention, now: &str) -> Vec<(String, String)> {
    let decisions = decide(&backups, rules, Times::InDoubt, &at(now));
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
        count(decide(
            &backups(),
            &rules,
            Times::InDoubt,
            &at("2026-11-24 12:00")
        )),
        1
    );
    let there = at("2026-11-24 12:00").with_timezone(&berlin);
    assert_eq!(count(decide(&backups(), &rules, Times::InDoubt, &there)), 2);
}

#[test]
fn an_incomplete_backup_takes_no_complete_ones_place() {
    let mut backups = completed(&["2026-11-22 02:00", "2026-11-23 02:00"]);
    backups.push(backup(at("2026-11-22 03:00"), Completion::Incomplete));
    backups.push(backup(at("2026-11-24 02:00"), Completion::Incomplete));
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
fn ages_are_counted_from_the_newest_backup() {
    let rules = Retention {
        retention_days: Some(30),
        ..Retention::default()
    };
    // However long ago that is: nothing is expired because nothing is backed up any more.
    let old = completed(&["2026-01-01 02:00", "2026-01-02 02:00"]);
    assert_eq!(
        kept(old, &rules, "2026-11-24 12:00"),
        pairs(&[
            ("2026-01-02 02:00", "retention_days 30, min_backups 1"),
            ("2026-01-01 02:00", "retention_days 30"),
        ])
    );
    let hours = Duration::from_secs(36 * 3600);
    let rules = Retention {
        keep_within: Some(hours),
        ..Retention::default()
    };
    let backups = completed(&["2026-11-21 02:00", "2026-11-22 02:00", "2026-11-23 02:00"]);
    assert_eq!(
        kept(backups, &rules, "2026-11-24 12:00"),
        pairs(&[
            ("2026-11-23 02:00", "within 1day 12h, min_backups 1"),
            ("2026-11-22 02:00", "within 1day 12h"),
        ])
    );
}

#[test]
fn a_clock_that_ran_ahead_takes_nothing_newer_away() {
    let times = [
        "2026-11-21 02:00",
        "2026-11-22 02:00",
        "2027-11-23 02:00",
        "2026-11-23 03:00",
        "2026-11-23 04:00",
    ];
    let rules = Retention {
        keep_last: Some(2),
        ..Retention::default()
    };
    assert_eq!(
        kept(made_in_order(&times), &rules, "2026-11-24 12:00"),
        pairs(&[
            ("2026-11-23 04:00", "last 1, min_backups 1"),
            ("2026-11-23 03:00", "last 2"),
        ])
    );
    let rules = Retention {
        keep_daily: Some(3),
        ..Retention::default()
    };
    let mut times = times.to_vec();
    times.push("2026-11-22 05:00");
    assert_eq!(
        kept(made_in_order(&times), &rules, "2026-11-24 12:00"),
        pairs(&[
            ("2026-11-22 05:00", "daily 2026-11-22, min_backups 1"),
            ("2026-11-23 04:00", "daily 2026-11-23"),
            ("2027-11-23 02:00", "daily 2027-11-23"),
        ])
    );
}

#[test]
fn what_only_a_jump_of_the_clock_makes_old_stays_until_an_operator_says_otherwise() {
    let times = [
        "2026-11-20 02:00",
        "2026-11-21 02:00",
        "2026-11-22 02:00",
        "2027-11-22 02:00",
    ];
    let rules = Retention {
        retention_days: Some(30),
        ..Retention::default()
    };
    let doubt = "its age is in doubt";
    assert_eq!(
        kept(made_in_order(&times), &rules, "2027-11-22 02:01"),
        pairs(&[
            ("2027-11-22 02:00", "retention_days 30, min_backups 1"),
            ("2026-11-22 02:00", doubt),
            ("2026-11-21 02:00", doubt),
            ("2026-11-20 02:00", doubt),
        ])
    );
    let trusted = decide(
        &made_in_order(&times),
        &rules,
        Times::Trusted,
        &at("2027-11-22 02:01"),
    );
    assert_eq!(trusted.iter().filter(|decision| decision.kept).count(), 1);
    // The clock was put right, and no backup was made since.
    let kept = kept(made_in_order(&times), &rules, "2026-11-22 03:00");
    assert_eq!(kept.len(), 4);
    assert!(kept[3].1.contains("lies in the future"), "{kept:?}");
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
            .map(|hour| backup(at("2026-01-01 00:00") + chrono::TimeDelta::hours(*hour), Completion::Completed))
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
        let few = decide(&backups, &rules(0), Times::InDoubt, &now);
        let many = decide(&backups, &rules(1), Times::InDoubt, &now);
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
        let again = decide(&left, &rules(0), Times::InDoubt, &now);
        prop_assert!(again.iter().all(|decision| decision.kept));
    }
}
