//! How old backups are: counted from the newest of their group, along their order, and never from the clock.
//!
//! A clock that ran ahead, or a daemon that was down, leaves a step in time between two backups that is much longer than the
//! others. Nobody can tell the one from the other by the times alone. So such a step counts for no more than three times the
//! longest other one: what is older than a rule allows only by that step is in doubt, and stays.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// A step counts up to so many times the longest other one.
const USUAL: u32 = 3;

/// Whether a backup is younger than a rule wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It is.
    Young,
    /// It is not by the times in the manifests, but one step between them is too long to be believed.
    InDoubt,
    /// It is not.
    Old,
}

/// Tells which backups of a group are younger than a limit.
pub(super) struct AgeRule {
    limit: Duration,
    /// Newest first: by the times in the manifests, and as far as they are certain.
    ages: Vec<(Duration, Duration)>,
}

impl AgeRule {
    /// For backups that began at these moments, in their order, newest first. With `trust_times`, no step is too long.
    pub fn new(limit: Duration, started_at: &[DateTime<Utc>], trust_times: bool) -> Self {
        let steps = steps(started_at);
        let usual = match trust_times {
            true => Duration::MAX,
            false => usual(&steps, limit),
        };
        let (mut told, mut certain) = (Duration::ZERO, Duration::ZERO);
        let ages = steps.into_iter().map(|step| {
            told = told.saturating_add(step);
            certain = certain.saturating_add(step.min(usual));
            (told, certain)
        });
        Self {
            limit,
            ages: ages.collect(),
        }
    }

    /// Of the backup at this place, from the newest on.
    pub fn age(&self, place: usize) -> Age {
        let (told, certain) = self.ages.get(place).copied().unwrap_or_default();
        match (told < self.limit, certain < self.limit) {
            (true, _) => Age::Young,
            (false, true) => Age::InDoubt,
            (false, false) => Age::Old,
        }
    }

    /// The limit.
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

/// How much earlier each began than the one after it. A backup that is dated after a later one was made no later than that.
fn steps(started_at: &[DateTime<Utc>]) -> Vec<Duration> {
    let mut later = started_at.first().copied();
    let steps = started_at.iter().map(|started_at| {
        let step = later.and_then(|later| (later - started_at).to_std().ok());
        later = later.min(Some(*started_at));
        step.unwrap_or_default()
    });
    steps.collect()
}

/// The longest step that counts whole: by the newest steps, as many as the rule reaches, but for the longest one. What is older
/// may have been thinned out by other rules.
fn usual(steps: &[Duration], limit: Duration) -> Duration {
    let (mut longest, mut second, mut others) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for step in steps {
        second = second.max(*step.min(&longest));
        others = others.saturating_add(*step.min(&longest));
        longest = longest.max(*step);
        if others > limit {
            break;
        }
    }
    match second.is_zero() {
        // Two backups have no rhythm.
        true => limit / 2,
        false => second.saturating_mul(USUAL),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    /// The age of backups that began so many seconds after a moment, oldest first, under a limit in seconds.
    fn ages_of(seconds: &[i64], limit: i64) -> Vec<Age> {
        let at = |second: &i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(1_795_000_000 + second);
        let started_at: Vec<_> = seconds.iter().rev().map(at).collect();
        let rule = AgeRule::new(Duration::from_secs(limit as u64), &started_at, false);
        let ages = (0..started_at.len()).map(|place| rule.age(place));
        let mut ages: Vec<_> = ages.collect();
        ages.reverse();
        ages
    }

    /// Every day from 0 on.
    fn daily(count: i64) -> Vec<i64> {
        (0..count).map(|day| day * DAY).collect()
    }

    #[test]
    fn ages_count_from_the_newest_along_the_order() {
        use Age::{Old, Young};
        assert_eq!(ages_of(&daily(5), 3 * DAY), [Old, Old, Young, Young, Young]);
        assert_eq!(ages_of(&[0], DAY), [Young]);
        assert_eq!(ages_of(&[], DAY), []);
        // What is dated after later ones is as old as those.
        let ahead = [0, DAY, 365 * DAY, 2 * DAY, 3 * DAY, 4 * DAY];
        assert_eq!(
            ages_of(&ahead, 3 * DAY),
            [Old, Old, Young, Young, Young, Young]
        );
        assert_eq!(ages_of(&ahead, 2 * DAY), [Old, Old, Old, Old, Young, Young]);
    }

    #[test]
    fn one_long_step_makes_nothing_old_that_was_young_before_it() {
        for jump in [4 * DAY, 30 * DAY, 365 * DAY] {
            for rhythm in [10, HOUR, DAY] {
                let mut times: Vec<i64> = (0..6).map(|number| number * rhythm).collect();
                times.extend((5..8).map(|number| number * rhythm + jump));
                let ages = ages_of(&times, 20 * rhythm);
                let is_kept = |age: &Age| *age != Age::Old;
                assert!(ages.iter().all(is_kept), "{jump} {rhythm}: {ages:?}");
            }
        }
        // Two backups alone.
        assert_eq!(ages_of(&[0, 365 * DAY], DAY), [Age::InDoubt, Age::Young]);
    }

    #[test]
    fn after_an_outage_backups_grow_old_with_those_that_follow() {
        let mut times = daily(10);
        times.extend((30..60).map(|day| day * DAY));
        let ages = ages_of(&times, 20 * DAY);
        assert_eq!(ages[..10], [Age::Old; 10]);
        assert_eq!(ages.iter().filter(|age| **age == Age::Young).count(), 20);
    }

    #[test]
    fn a_burst_every_night_has_the_rhythm_of_a_night() {
        let nights = (0..20).flat_map(|night| (0..30).map(move |number| night * DAY + number));
        let ages = ages_of(&nights.collect::<Vec<_>>(), 5 * DAY);
        assert!(!ages.contains(&Age::InDoubt));
        let young = ages.iter().filter(|age| **age == Age::Young).count();
        assert_eq!(young, 5 * 30);
    }

    #[test]
    fn what_other_rules_thinned_out_long_ago_explains_no_long_step_now() {
        let mut times: Vec<i64> = (0..5).map(|year| year * 365 * DAY).collect();
        times.extend((0..40).map(|day| (5 * 365 + day) * DAY));
        times.push((6 * 365 + 40) * DAY);
        let ages = ages_of(&times, 30 * DAY);
        assert_eq!(ages.last(), Some(&Age::Young));
        let doubtful = ages.iter().filter(|age| **age == Age::InDoubt).count();
        assert_eq!(doubtful, 27);
    }
}
