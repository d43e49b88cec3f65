use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{Missed, Schedule};

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn berlin(expression: &str) -> Schedule {
    Schedule::cron(expression, "Europe/Berlin").unwrap()
}

/// The first due moments after `since`.
fn first(schedule: &Schedule, since: &str, count: usize) -> Vec<String> {
    let mut instant = at(since);
    (0..count)
        .map(|_| {
            instant = schedule.next_after(instant).unwrap();
            instant.format("%m-%d %H:%M:%S").to_string()
        })
        .collect()
}

fn error(expression: &str, zone: &str) -> String {
    Schedule::cron(expression, zone).unwrap_err().to_string()
}

#[test]
fn fields_names_and_nicknames_mean_what_crontab_says() {
    for (expression, expected) in [
        ("15 2 * * *", "01-01 02:15:00"),
        ("30 15 2 * * *", "01-01 02:15:30"),
        ("0 0 * * MON", "01-05 00:00:00"),
        ("0 0 * * mon-wed", "01-05 00:00:00"),
        ("0 0 * * 7", "01-04 00:00:00"),
        ("0 0 * * FRI-SUN", "01-02 00:00:00"),
        ("0 0 * * 5L", "01-30 00:00:00"),
        ("0 0 * * FRI#2", "01-09 00:00:00"),
        ("0 0 L * ?", "01-31 00:00:00"),
        ("0 0 LW feb *", "02-27 00:00:00"),
        ("0 0 31W 1 *", "01-30 00:00:00"),
        ("0 0 1 MAR,SEP *", "03-01 00:00:00"),
        ("0 0 13 * FRI", "01-02 00:00:00"),
        ("10-20/5 3 * * *", "01-01 03:10:00"),
        ("*/7 * * * *", "01-01 00:07:00"),
        ("0,*,5 4 * * *", "01-01 04:00:00"),
        ("  0   4 * * * ", "01-01 04:00:00"),
        ("@hourly", "01-01 01:00:00"),
        ("@Daily", "01-02 00:00:00"),
        ("@midnight", "01-02 00:00:00"),
        ("@weekly", "01-04 00:00:00"),
        ("@monthly", "02-01 00:00:00"),
        ("@yearly", "01-01 00:00:00"),
        ("0 0 29 2 *", "02-29 00:00:00"),
    ] {
        let schedule = Schedule::cron(expression, "UTC").unwrap();
        assert_eq!(
            first(&schedule, "2026-01-01T00:00:00Z", 1)[0],
            expected,
            "{expression}"
        );
    }
}

#[test]
fn a_wrong_expression_is_refused_with_the_field_and_what_may_stand_there() {
    for (expression, message) in [
        ("60 * * * *", "minute `60`: `60` is not in the range 0-59"),
        ("60 * * * * *", "second `60`: `60` is not in the range 0-59"),
        ("0 24 * * *", "hour `24`: `24` is not in the range 0-23"),
        ("0 1,25 * * *", "hour `1,25`: `25` is not in the range 0-23"),
        (
            "0 0 0 * *",
            "day of month `0`: `0` is not in the range 1-31",
        ),
        (
            "0 0 40W * *",
            "day of month `40W`: `40` is not in the range 1-31",
        ),
        (
            "0 0 1 13 *",
            "month `13`: `13` is not in the range 1-12, nor a name from JAN to DEC",
        ),
        (
            "0 0 1 MON *",
            "month `MON`: `MON` is not in the range 1-12, nor a name from JAN to DEC",
        ),
        (
            "0 0 * * 8",
            "day of week `8`: `8` is not in the range 0-7, nor a name from SUN to SAT",
        ),
        (
            "0 0 * * MONDAY",
            "day of week `MONDAY`: `MONDAY` is not in the range 0-7, nor a name from SUN to SAT",
        ),
        (
            "0 0 * * FRI#6",
            "day of week `FRI#6`: after `#` stands which one of the month, 1-5 or L, not `6`",
        ),
        (
            "0 0 * * L",
            "day of week `L`: `L` needs a day, as in `5L` for the last Friday",
        ),
        (
            "0 22-4 * * *",
            "hour `22-4`: a range ends after it begins; write `22-23,0-4`",
        ),
        (
            "5/15 * * * *",
            "minute `5/15`: a step needs a range: `5-59/15` or `*/15`",
        ),
        (
            "*/0 * * * *",
            "minute `*/0`: a step of `0` is no number from 1 to 59",
        ),
        (
            "*/99 * * * *",
            "minute `*/99`: a step of `99` is no number from 1 to 59",
        ),
        (
            "1,,2 * * * *",
            "minute `1,,2`: nothing is not in the range 0-59",
        ),
        ("+1 * * * *", "minute `+1`: `+1` is not in the range 0-59"),
        ("L * * * *", "minute `L`: `L` is not in the range 0-59"),
        (
            "0 0 30 2 *",
            "`0 0 30 2 *` is never due: no year has such a day",
        ),
        (
            "0 0 31 4,6,9,11 *",
            "`0 0 31 4,6,9,11 *` is never due: no year has such a day",
        ),
        (
            "@dayly",
            "no schedule is called `@dayly`; the names are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually",
        ),
        (
            "@reboot",
            "no schedule is called `@reboot`; the names are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually",
        ),
    ] {
        assert_eq!(error(expression, "UTC"), message);
    }
    for (expression, count) in [
        ("", 0),
        ("* * * *", 4),
        ("0 0 0 1 1 ? 2026", 7),
        ("daily", 1),
    ] {
        let message = error(expression, "UTC");
        assert!(
            message.contains(&format!("has {count} fields")),
            "{message}"
        );
    }
}

#[test]
fn an_unknown_time_zone_is_refused_with_the_nearest_name() {
    for (zone, nearest) in [
        ("Europe/Berln", "`Europe/Berlin`?"),
        ("europe/berlin", "`Europe/Berlin`?"),
        ("Berlin", "`Europe/Berlin`?"),
        ("America/New York", "`America/New_York`?"),
        ("utc", "`UTC`?"),
    ] {
        let message = error("@daily", zone);
        assert!(message.contains(nearest), "{zone}: {message}");
    }
}

#[test]
fn periods_from_a_second_to_a_year_are_multiples_since_the_epoch() {
    let hourly = Schedule::every(Duration::from_secs(3600)).unwrap();
    assert_eq!(
        first(&hourly, "2026-01-01T00:59:59.9Z", 2),
        ["01-01 01:00:00", "01-01 02:00:00"]
    );
    assert_eq!(hourly.to_string(), "every 1h");
    let odd = Schedule::every(Duration::from_millis(1500)).unwrap();
    assert_eq!(
        odd.next_after(at("1970-01-01T00:00:00Z")),
        Some(at("1970-01-01T00:00:01.5Z"))
    );
    assert_eq!(
        odd.next_after(at("1969-12-31T23:59:58Z")),
        Some(at("1969-12-31T23:59:58.5Z"))
    );
    for (period, problem) in [
        (Duration::ZERO, "every `0s` is too short"),
        (Duration::from_millis(999), "every `999ms` is too short"),
        (Duration::from_secs(367 * 86400), "is too long"),
        (Duration::MAX, "is too long"),
    ] {
        let message = Schedule::every(period).unwrap_err().to_string();
        assert!(message.contains(problem), "{message}");
    }
    assert!(Schedule::every(humantime::parse_duration("1year").unwrap()).is_ok());
}

#[test]
fn what_falls_into_a_skipped_hour_is_due_once_right_after_it() {
    // 02:00 to 03:00 of 2026-03-29 does not exist; 03:00 is 01:00Z.
    assert_eq!(
        first(&berlin("30 2 * * *"), "2026-03-28T00:00:00Z", 3),
        ["03-28 01:30:00", "03-29 01:00:00", "03-30 00:30:00"]
    );
    for together in ["*/15 2 * * *", "0,30 2 * * *", "0 2,3 * * *"] {
        let due = first(&berlin(together), "2026-03-29T00:00:00Z", 2);
        assert_eq!(due[0], "03-29 01:00:00", "{together}");
        assert_eq!(&due[1][..5], "03-30", "{together}");
    }
    // Asked from within what the clock skipped, and from its very end.
    assert_eq!(
        first(&berlin("30 2 * * *"), "2026-03-29T00:59:59.5Z", 1),
        ["03-29 01:00:00"]
    );
    assert_eq!(
        first(&berlin("30 2 * * *"), "2026-03-29T01:00:00Z", 1),
        ["03-30 00:30:00"]
    );
}

#[test]
fn what_falls_into_an_hour_that_comes_twice_is_due_once() {
    // 02:00 to 03:00 of 2026-10-25 comes from 00:00Z and again from 01:00Z on.
    assert_eq!(
        first(&berlin("30 2 * * *"), "2026-10-24T12:00:00Z", 2),
        ["10-25 00:30:00", "10-26 01:30:00"]
    );
    assert_eq!(
        first(&berlin("30 2 * * *"), "2026-10-25T01:15:00Z", 1),
        ["10-26 01:30:00"]
    );
    assert_eq!(
        first(&berlin("*/30 2 * * *"), "2026-10-24T12:00:00Z", 3),
        ["10-25 00:00:00", "10-25 00:30:00", "10-26 01:00:00"]
    );
}

#[test]
fn what_is_due_every_hour_follows_real_time_however_it_is_written() {
    for hourly in [
        "30 * * * *",
        "30 0-23 * * *",
        "30 */1 * * *",
        "0 30 * * * *",
    ] {
        assert_eq!(
            first(&berlin(hourly), "2026-10-24T23:00:00Z", 4),
            [
                "10-24 23:30:00",
                "10-25 00:30:00",
                "10-25 01:30:00",
                "10-25 02:30:00"
            ]
        );
        assert_eq!(
            first(&berlin(hourly), "2026-03-29T00:00:00Z", 3),
            ["03-29 00:30:00", "03-29 01:30:00", "03-29 02:30:00"]
        );
    }
}

#[test]
fn a_day_that_a_zone_skipped_loses_no_daily_run() {
    // Samoa went from 2011-12-29 straight to 2011-12-31, which began at 10:00Z on the 30th.
    let noon = Schedule::cron("0 12 * * *", "Pacific/Apia").unwrap();
    assert_eq!(
        first(&noon, "2011-12-29T00:00:00Z", 3),
        ["12-29 22:00:00", "12-30 10:00:00", "12-30 22:00:00"]
    );
}

#[test]
fn jitter_puts_every_moment_off_by_the_same_part_of_it() {
    let jitter = Duration::from_secs(600);
    let plain = berlin("15 2 * * *");
    let mut shifts = Vec::new();
    for name in ["orders", "payments", "clicks", "users"] {
        let jittered = plain.clone().jittered(jitter, name);
        assert_eq!(jittered, plain.clone().jittered(jitter, name));
        let (mut before, mut after) = (at("2026-03-01T12:00:00Z"), at("2026-03-01T12:00:00Z"));
        let mut shift = None;
        for _ in 0..60 {
            before = plain.next_after(before).unwrap();
            after = jittered.next_after(after).unwrap();
            assert!((TimeDelta::zero()..TimeDelta::seconds(600)).contains(&(after - before)));
            assert_eq!(*shift.get_or_insert(after - before), after - before);
        }
        shifts.extend(shift);
    }
    shifts.sort();
    shifts.dedup();
    assert_eq!(shifts.len(), 4);
    assert_eq!(plain.clone().jittered(Duration::ZERO, "orders"), plain);
    // Written down in a first version: an update must not move anybody's backups.
    let orders = plain
        .jittered(jitter, "orders")
        .next_after(at("2026-01-01T00:00:00Z"));
    assert_eq!(orders, Some(at("2026-01-01T01:19:12.388Z")));
}

#[test]
fn counting_what_was_missed_stops_but_the_last_is_found() {
    let every_second = Schedule::cron("* * * * * *", "UTC").unwrap();
    let (since, now) = (at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:00.3Z"));
    let expected = Missed {
        count: Missed::COUNTED,
        last: Some(at("2026-01-01T00:00:00Z")),
    };
    assert_eq!(every_second.missed(since, now), expected);
    // The last one long before now.
    let bursts = Schedule::cron("* * 2 1 1 *", "Europe/Berlin").unwrap();
    let last = bursts.missed(since, at("2026-09-01T00:00:00Z")).last;
    assert_eq!(last, Some(at("2026-01-01T01:59:59Z")));
}

#[test]
fn at_the_ends_of_the_calendar_nothing_is_due() {
    let daily = berlin("@daily");
    assert_eq!(daily.next_after(DateTime::<Utc>::MAX_UTC), None);
    assert_eq!(daily.next_after(DateTime::<Utc>::MIN_UTC), None);
    let every = Schedule::every(Duration::from_secs(60)).unwrap();
    assert_eq!(every.next_after(DateTime::<Utc>::MAX_UTC), None);
    let nothing = daily.missed(at("2026-01-02T00:00:00Z"), at("2026-01-01T00:00:00Z"));
    assert_eq!(nothing, Missed::default());
}

/// Any schedule, in zones whose clocks change by an hour, by half of one, at midnight, or not at all.
pub(super) fn schedules() -> impl Strategy<Value = Schedule> {
    let minutes = prop::sample::select(vec!["0", "30", "*/20", "5,59", "*", "13-16"]);
    let hours = prop::sample::select(vec!["*", "0", "1", "2", "3", "*/6", "1-3", "2,14", "23"]);
    let days = prop::sample::select(vec![
        "* * *", "* * *", "* * SUN", "1 * *", "L * *", "29 2 *", "15 * MON", "* * 0#5",
    ]);
    let zones = prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Cairo",
        "America/Havana",
        "Asia/Kolkata",
    ]);
    let cron = (minutes, hours, days, zones).prop_map(|(minute, hour, day, zone)| {
        Schedule::cron(&format!("{minute} {hour} {day}"), zone).unwrap()
    });
    let every = (1000u64..100_000_000)
        .prop_map(|millis| Schedule::every(Duration::from_millis(millis)).unwrap());
    let jitter = prop_oneof![Just(0u64), 1..100_000_000u64];
    (prop_oneof![3 => cron, 1 => every], jitter)
        .prop_map(|(schedule, jitter)| schedule.jittered(Duration::from_millis(jitter), "any"))
}

/// Often close to a change of clocks.
pub(super) fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    let anywhere = 1_600_000_000_000..2_200_000_000_000i64;
    let changes = [
        1_774_742_400i64,
        1_772_953_200,
        1_792_886_400,
        1_793_512_800,
        1_775_314_800,
    ]
    .map(|second| second * 1000);
    let close = (
        prop::sample::select(changes.to_vec()),
        -90_000_000..90_000_000i64,
    )
        .prop_map(|(change, off)| change + off);
    prop_oneof![anywhere, close].prop_map(|millis| DateTime::from_timestamp_millis(millis).unwrap())
}

proptest! {
    #[test]
    fn due_moments_increase_and_are_the_same_from_wherever_one_asks(
        schedule in schedules(), start in instants(), part in 0.0..1.0f64,
    ) {
        let mut instant = start;
        for _ in 0..50 {
            let due = schedule.next_after(instant).unwrap();
            prop_assert!(due > instant);
            prop_assert!(instant == start || due - instant >= TimeDelta::seconds(1));
            let between = instant
                + TimeDelta::milliseconds(((due - instant).num_milliseconds() as f64 * part) as i64);
            if between < due {
                prop_assert_eq!(schedule.next_after(between), Some(due));
            }
            instant = due;
        }
    }

    #[test]
    fn what_was_missed_is_what_can_be_enumerated(
        schedule in schedules(), since in instants(), hours in 0..4000i64, odd in 0..3_600_000i64,
    ) {
        let now = since + TimeDelta::hours(hours) + TimeDelta::milliseconds(odd);
        let dues = std::iter::successors(schedule.next_after(since), |due| schedule.next_after(*due));
        let dues: Vec<_> = dues.take_while(|due| *due <= now).collect();
        let missed = schedule.missed(since, now);
        prop_assert_eq!(missed.last, dues.last().copied());
        prop_assert_eq!(missed.count as usize, dues.len().min(Missed::COUNTED as usize));
    }
}

#[test]
fn the_longest_gap_of_a_schedule_is_that_of_its_nights_and_weekends() {
    const HOUR: u64 = 3600;
    for (expression, hours) in [
        ("0 * * * *", 1),
        ("15 2 * * *", 24),
        ("0 8-18 * * *", 14),
        ("0 12 * * 1-5", 72),
        ("0 0 1 * *", 31 * 24),
    ] {
        let schedule = Schedule::cron(expression, "UTC").unwrap();
        let longest = schedule.longest_gap(DateTime::UNIX_EPOCH);
        assert_eq!(
            longest,
            Some(Duration::from_secs(hours * HOUR)),
            "{expression}"
        );
    }
    let period = Duration::from_secs(90);
    let every = Schedule::every(period).unwrap();
    assert_eq!(every.longest_gap(DateTime::UNIX_EPOCH), Some(period));
}
