//! The whole of 2026, both changes of summer time in it, against what others say is due (`tests/golden/schedule/year.py`).

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::Schedule;
use super::due_tests::at;

/// Where the due moments of a golden file differ from ours, a line for each.
fn differences(golden: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in golden.lines() {
        let [zone, expression, runs] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let theirs = moments(runs);
        let schedule = Schedule::cron(expression, zone).unwrap();
        let start = at("2026-01-01T00:00:00Z") - TimeDelta::nanoseconds(1);
        let ours: BTreeSet<_> =
            std::iter::successors(schedule.next_after(start), |due| schedule.next_after(*due))
                .take_while(|due| *due < at("2027-01-01T00:00:00Z"))
                .collect();
        let differs = theirs.symmetric_difference(&ours);
        found.extend(differs.map(|due| {
            let who = if ours.contains(due) { "ours" } else { "theirs" };
            format!(
                "{zone} {expression}: {who} {}",
                due.format("%m-%dT%H:%M:%SZ")
            )
        }));
    }
    found
}

/// `2026-01-01T00:00:00Z 3600x5`: a first moment, and five more an hour apart.
fn moments(runs: &str) -> BTreeSet<DateTime<Utc>> {
    let mut words = runs.split(' ');
    let mut moment = at(words.next().unwrap());
    let mut moments = BTreeSet::from([moment]);
    for word in words {
        let (step, count) = word.split_once('x').unwrap();
        for _ in 0..count.parse().unwrap() {
            moment += TimeDelta::seconds(step.parse().unwrap());
            moments.insert(moment);
        }
    }
    moments
}

#[test]
fn a_year_of_schedules_is_croniters_but_at_changes_of_clocks() {
    let golden = include_str!("../../tests/golden/schedule/croniter.txt");
    assert_eq!(golden.lines().count(), 6 * 20);
    let expected = [
        // In the hour that comes twice it runs again what names local times.
        "Europe/Berlin 0 */2 * * *: theirs 10-25T01:00:00Z",
        "Europe/Berlin 15 2 * * *: theirs 10-25T01:15:00Z",
        // It is due as many seconds after the gap as the expression says; we at its end.
        "Europe/Berlin 10 30 2 * * *: ours 03-29T01:00:00Z",
        "Europe/Berlin 10 30 2 * * *: theirs 03-29T01:00:10Z",
        "Europe/Berlin 10 30 2 * * *: theirs 10-25T01:30:10Z",
        "Europe/Berlin 15 2,14 * * *: theirs 10-25T01:15:00Z",
        "Europe/Berlin */20 2 * * *: theirs 10-25T01:00:00Z",
        "Europe/Berlin */20 2 * * *: theirs 10-25T01:20:00Z",
        "Europe/Berlin */20 2 * * *: theirs 10-25T01:40:00Z",
        "Europe/Berlin 30 2 * * SUN: theirs 10-25T01:30:00Z",
        "America/New_York 45 1 * * *: theirs 11-01T06:45:00Z",
        "America/New_York 10 30 2 * * *: ours 03-08T07:00:00Z",
        "America/New_York 10 30 2 * * *: theirs 03-08T07:00:10Z",
        // It loses 01:40 in the half hour that comes twice.
        "Australia/Lord_Howe */20 * * * *: ours 04-04T15:10:00Z",
        "Australia/Lord_Howe 45 1 * * *: theirs 04-04T15:15:00Z",
    ];
    assert_eq!(differences(golden), expected);
}

#[test]
fn a_year_of_schedules_is_systemds_but_at_changes_of_clocks() {
    let golden = include_str!("../../tests/golden/schedule/systemd.txt");
    assert_eq!(golden.lines().count(), 6 * 18);
    // It leaves out what falls into a skipped hour, and an hour's second coming even from what is due every hour.
    let expected = [
        "Europe/Berlin 0 * * * *: ours 10-25T01:00:00Z",
        "Europe/Berlin 30 * * * *: ours 10-25T01:30:00Z",
        "Europe/Berlin */20 * * * *: ours 10-25T01:00:00Z",
        "Europe/Berlin */20 * * * *: ours 10-25T01:20:00Z",
        "Europe/Berlin */20 * * * *: ours 10-25T01:40:00Z",
        "Europe/Berlin 0 */2 * * *: ours 03-29T01:00:00Z",
        "Europe/Berlin 15 2 * * *: ours 03-29T01:00:00Z",
        "Europe/Berlin 10 30 2 * * *: ours 03-29T01:00:00Z",
        "Europe/Berlin 15 2,14 * * *: ours 03-29T01:00:00Z",
        "Europe/Berlin */20 2 * * *: ours 03-29T01:00:00Z",
        "Europe/Berlin 30 2 * * SUN: ours 03-29T01:00:00Z",
        "America/New_York 0 * * * *: ours 11-01T06:00:00Z",
        "America/New_York 30 * * * *: ours 11-01T06:30:00Z",
        "America/New_York */20 * * * *: ours 11-01T06:00:00Z",
        "America/New_York */20 * * * *: ours 11-01T06:20:00Z",
        "America/New_York */20 * * * *: ours 11-01T06:40:00Z",
        "America/New_York 0 */2 * * *: ours 03-08T07:00:00Z",
        "America/New_York 15 2 * * *: ours 03-08T07:00:00Z",
        "America/New_York 10 30 2 * * *: ours 03-08T07:00:00Z",
        "America/New_York 15 2,14 * * *: ours 03-08T07:00:00Z",
        "America/New_York */20 2 * * *: ours 03-08T07:00:00Z",
        "America/New_York 30 2 * * SUN: ours 03-08T07:00:00Z",
        "Australia/Lord_Howe 30 * * * *: ours 04-04T15:00:00Z",
        "Australia/Lord_Howe */20 * * * *: ours 04-04T15:10:00Z",
        "Australia/Lord_Howe 0 */2 * * *: ours 10-03T15:30:00Z",
        "Australia/Lord_Howe 15 2 * * *: ours 10-03T15:30:00Z",
        "Australia/Lord_Howe 15 2,14 * * *: ours 10-03T15:30:00Z",
        "Australia/Lord_Howe */20 2 * * *: ours 10-03T15:30:00Z",
    ];
    assert_eq!(differences(golden), expected);
}
