use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::due_tests::{at, instants, schedules};
use super::{Alarm, DueVerdict, LONGEST_WAIT, ON_TIME, Schedule, Timer, Timetable};

const HOUR: TimeDelta = hours(1);

const fn hours(hours: i64) -> TimeDelta {
    TimeDelta::hours(hours)
}

/// A timer and its two clocks.
struct Scene {
    timer: Timer,
    wall: DateTime<Utc>,
    monotonic: Instant,
}

impl Scene {
    fn new(expression: &str, wall: &str) -> Self {
        Self::of(
            Timetable::new(Schedule::cron(expression, "UTC").unwrap()),
            None,
            wall,
        )
    }

    fn of(timetable: Timetable, settled: Option<&str>, wall: &str) -> Self {
        Self {
            timer: Timer::new(timetable, settled.map(at), at(wall)),
            wall: at(wall),
            monotonic: Instant::now(),
        }
    }

    fn look(&mut self) -> DueVerdict {
        self.timer.look(self.wall, self.monotonic)
    }

    /// Lets real time pass as a driver does, until the first verdict that is not to wait; none within `limit`.
    fn drive(&mut self, limit: TimeDelta) -> Option<DueVerdict> {
        let end = self.monotonic + limit.to_std().unwrap();
        loop {
            match self.look() {
                DueVerdict::Wait { look_again_in, .. } => {
                    assert!(look_again_in > Duration::ZERO && look_again_in <= LONGEST_WAIT);
                    if self.monotonic + look_again_in > end {
                        return None;
                    }
                    self.monotonic += look_again_in;
                    self.wall += look_again_in;
                }
                verdict => return Some(verdict),
            }
        }
    }

    /// The moment of the next run, within `limit`, which must be its own.
    fn run(&mut self, limit: TimeDelta) -> String {
        match self.drive(limit) {
            Some(DueVerdict::Run {
                scheduled,
                missed: 0,
            }) => {
                assert_eq!(scheduled, self.wall);
                moment(scheduled)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn moment(moment: DateTime<Utc>) -> String {
    moment.format("%Y-%m-%d %H:%M").to_string()
}

#[test]
fn it_waits_in_bounded_steps_and_runs_at_its_moment() {
    let mut scene = Scene::new("15 2 * * *", "2026-05-01T02:14:00Z");
    assert_eq!(
        scene.look(),
        DueVerdict::Wait {
            next: Some(at("2026-05-01T02:15:00Z")),
            look_again_in: LONGEST_WAIT
        }
    );
    assert_eq!(scene.run(HOUR), "2026-05-01 02:15");
    assert_eq!(scene.timer.settled(), at("2026-05-01T02:15:00Z"));
    assert_eq!(scene.drive(hours(23)), None);
    assert_eq!(scene.run(HOUR), "2026-05-02 02:15");
}

#[test]
fn a_new_timer_makes_up_for_nothing() {
    let mut scene = Scene::new("@hourly", "2026-05-01T02:00:00Z");
    assert_eq!(scene.drive(HOUR - TimeDelta::seconds(1)), None);
    assert_eq!(scene.run(HOUR), "2026-05-01 03:00");
}

#[test]
fn after_downtime_one_run_makes_up_for_all_that_was_missed() {
    let hourly = Timetable::new(Schedule::cron("@hourly", "UTC").unwrap());
    let was_down = |timetable: Timetable| {
        Scene::of(
            timetable,
            Some("2026-05-01T02:00:00Z"),
            "2026-05-03T02:30:00Z",
        )
        .look()
    };
    let last = at("2026-05-03T02:00:00Z");
    assert_eq!(
        was_down(hourly.clone()),
        DueVerdict::Run {
            scheduled: last,
            missed: 47
        }
    );
    let no_catch_up = Timetable {
        catch_up: false,
        ..hourly.clone()
    };
    assert_eq!(was_down(no_catch_up), DueVerdict::Skip { last, missed: 48 });
    let within = Timetable {
        start_deadline: Some(Duration::from_secs(1800)),
        ..hourly.clone()
    };
    assert_eq!(
        was_down(within),
        DueVerdict::Run {
            scheduled: last,
            missed: 47
        }
    );
    let too_late = Timetable {
        start_deadline: Some(Duration::from_secs(1799)),
        ..hourly
    };
    assert_eq!(was_down(too_late), DueVerdict::Skip { last, missed: 48 });
}

#[test]
fn without_catch_up_a_run_that_is_a_little_late_still_runs() {
    for (late, runs) in [(ON_TIME, true), (ON_TIME + Duration::from_millis(1), false)] {
        let schedule = Schedule::cron("@hourly", "UTC").unwrap();
        let timetable = Timetable {
            catch_up: false,
            ..Timetable::new(schedule)
        };
        let mut scene = Scene::of(timetable, None, "2026-05-01T02:30:00Z");
        scene.look();
        scene.wall = at("2026-05-01T03:00:00Z") + late;
        assert_eq!(matches!(scene.look(), DueVerdict::Run { .. }), runs);
        // And goes on after it.
        assert_eq!(scene.run(HOUR), "2026-05-01 04:00");
    }
}

#[test]
fn a_machine_that_slept_runs_once_when_it_wakes() {
    let mut scene = Scene::new("@hourly", "2026-05-01T02:30:00Z");
    scene.look();
    // The monotonic clock slept too.
    scene.wall += hours(8);
    let last = at("2026-05-01T10:00:00Z");
    assert_eq!(
        scene.look(),
        DueVerdict::Run {
            scheduled: last,
            missed: 7
        }
    );
    assert_eq!(scene.run(HOUR), "2026-05-01 11:00");
}

#[test]
fn a_clock_put_forward_gives_one_run_and_no_storm() {
    for jump in [HOUR, hours(24), hours(365 * 24)] {
        let mut scene = Scene::new("@hourly", "2026-05-01T02:30:00Z");
        scene.look();
        scene.wall += jump;
        let DueVerdict::Run { scheduled, missed } = scene.look() else {
            panic!()
        };
        assert_eq!(scheduled, scene.wall - HOUR / 2);
        assert_eq!(i64::from(missed), jump.num_hours() - 1);
        assert_eq!(scene.run(HOUR), moment(scheduled + HOUR));
    }
}

#[test]
fn a_clock_put_back_an_hour_repeats_nothing_and_goes_on_when_it_has_caught_up() {
    let mut scene = Scene::new("@hourly", "2026-05-01T01:30:00Z");
    assert_eq!(scene.run(HOUR), "2026-05-01 02:00");
    scene.wall -= HOUR;
    assert_eq!(scene.run(hours(2)), "2026-05-01 03:00");
    let mut scene = Scene::new("0 2 * * *", "2026-05-01T01:30:00Z");
    assert_eq!(scene.run(HOUR), "2026-05-01 02:00");
    scene.wall -= HOUR;
    assert_eq!(scene.run(hours(25)), "2026-05-02 02:00");
}

#[test]
fn a_period_keeps_its_distance_in_real_time_however_far_the_clock_is_put_back() {
    for period in [10, 60, 600] {
        for jump in [1, 5, 10, 61, 3600, 10_800, 86_400, 365 * 86_400] {
            let schedule = Schedule::every(Duration::from_secs(period)).unwrap();
            let period = TimeDelta::seconds(period as i64);
            let timetable = Timetable::new(schedule);
            let mut scene = Scene::of(timetable.clone(), None, "2026-05-01T01:30:01Z");
            assert!(scene.drive(period).is_some());
            scene.look();
            scene.wall -= TimeDelta::seconds(jump);
            let put_back = scene.monotonic;
            let run = scene.drive(period * 2);
            assert!(
                matches!(run, Some(DueVerdict::Run { missed: 0, .. })),
                "{jump}: {run:?}"
            );
            let waited = TimeDelta::from_std(scene.monotonic - put_back).unwrap();
            assert!(waited >= period, "{jump}: after {waited}");
            // And from then on.
            assert!(scene.drive(period).is_some());
            // A daemon that starts then does not wait either.
            let settled = scene.wall + TimeDelta::seconds(jump);
            scene.timer = Timer::new(timetable, Some(settled), scene.wall);
            assert!(scene.drive(period).is_some(), "{jump}");
        }
    }
}

#[test]
fn a_clock_put_back_far_neither_repeats_at_once_nor_stands_still() {
    for jump in [hours(24), hours(365 * 24)] {
        let mut scene = Scene::new("@hourly", "2026-05-01T01:30:00Z");
        assert_eq!(scene.run(HOUR), "2026-05-01 02:00");
        assert_eq!(scene.drive(HOUR / 2), None);
        scene.wall -= jump;
        // In half an hour it would have run; now too, by the new clock.
        let next = scene.run(HOUR / 2);
        assert_eq!(next, moment(at("2026-05-01T03:00:00Z") - jump));
        assert_eq!(scene.run(HOUR), moment(at("2026-05-01T04:00:00Z") - jump));
    }
}

#[test]
fn a_clock_put_back_some_hours_does_not_repeat_the_nightly_run() {
    let mut scene = Scene::new("0 2 * * *", "2026-05-01T01:30:00Z");
    assert_eq!(scene.run(HOUR), "2026-05-01 02:00");
    scene.look();
    // It is 22:00 of the day before once more.
    scene.wall -= hours(4);
    assert_eq!(scene.run(hours(29)), "2026-05-02 02:00");
}

#[test]
fn a_clock_put_back_bit_by_bit_does_not_stop_it() {
    let mut scene = Scene::new("@hourly", "2026-05-01T01:30:00Z");
    assert_eq!(scene.run(HOUR), "2026-05-01 02:00");
    let mut waited = TimeDelta::zero();
    // An hour back every minute.
    while scene.drive(TimeDelta::minutes(1)).is_none() {
        waited += TimeDelta::minutes(1);
        scene.wall -= HOUR;
        assert!(waited < hours(2), "it stands still");
    }
}

#[test]
fn a_wrong_clock_that_is_put_right_again_leaves_no_trace() {
    for wrong in [hours(24), hours(365 * 24)] {
        let mut scene = Scene::new("@hourly", "2026-05-01T02:10:00Z");
        scene.look();
        scene.wall += wrong;
        assert!(matches!(scene.look(), DueVerdict::Run { .. }));
        assert_eq!(scene.drive(HOUR / 3), None);
        scene.wall -= wrong;
        assert_eq!(scene.run(HOUR / 2), "2026-05-01 03:00");
    }
}

#[test]
fn a_start_with_a_clock_behind_the_last_run_neither_repeats_nor_stands_still() {
    let hourly = Timetable::new(Schedule::cron("@hourly", "UTC").unwrap());
    let mut slightly = Scene::of(
        hourly.clone(),
        Some("2026-05-01T02:00:00Z"),
        "2026-05-01T00:30:00Z",
    );
    assert_eq!(slightly.run(hours(3)), "2026-05-01 03:00");
    let mut a_year = Scene::of(hourly, Some("2027-05-01T02:00:00Z"), "2026-05-01T00:30:00Z");
    assert_eq!(a_year.run(HOUR), "2026-05-01 01:00");
}

#[test]
fn while_suspended_nothing_is_due_and_nothing_is_made_up_for_afterwards() {
    let schedule = Schedule::cron("@hourly", "UTC").unwrap();
    let suspended = Timetable {
        suspend: true,
        ..Timetable::new(schedule.clone())
    };
    let mut scene = Scene::of(
        suspended,
        Some("2026-05-01T02:00:00Z"),
        "2026-05-02T02:30:00Z",
    );
    assert_eq!(
        scene.look(),
        DueVerdict::Wait {
            next: None,
            look_again_in: LONGEST_WAIT
        }
    );
    assert_eq!(scene.drive(hours(5)), None);
    scene.timer = Timer::new(
        Timetable::new(schedule),
        Some(scene.timer.settled()),
        scene.wall,
    );
    assert_eq!(scene.run(HOUR), "2026-05-02 08:00");
}

#[tokio::test(start_paused = true)]
async fn an_alarm_and_a_timer_keep_every_hour_of_a_day_within_a_millisecond() {
    let schedule = Schedule::cron("@hourly", "UTC").unwrap();
    let (start, begun) = (at("2026-05-01T00:30:00Z"), tokio::time::Instant::now());
    let mut timer = Timer::new(Timetable::new(schedule), None, start);
    let mut alarm = Alarm::new();
    let (mut runs, mut looks) = (Vec::new(), 0);
    while runs.len() < 24 {
        let wall = start + begun.elapsed();
        looks += 1;
        match timer.look(wall, tokio::time::Instant::now().into_std()) {
            DueVerdict::Wait { look_again_in, .. } => {
                alarm.set(look_again_in);
                alarm.rung().await;
            }
            DueVerdict::Run {
                scheduled,
                missed: 0,
            } => {
                assert!(
                    wall - scheduled <= TimeDelta::milliseconds(2),
                    "{}",
                    wall - scheduled
                );
                runs.push(scheduled);
            }
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<_> = (0..24)
        .map(|hour| at("2026-05-01T01:00:00Z") + HOUR * hour)
        .collect();
    assert_eq!(runs, expected);
    assert!(looks < 24 * 63);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_rings_once_when_it_was_last_set_to_and_never_when_not() {
    let begun = tokio::time::Instant::now();
    let mut alarm = Alarm::new();
    let minute = Duration::from_secs(60);
    assert!(tokio::time::timeout(minute, alarm.rung()).await.is_err());
    alarm.set(10 * minute);
    alarm.set(2 * minute);
    // Given up waiting for, it stays set.
    assert!(tokio::time::timeout(minute, alarm.rung()).await.is_err());
    alarm.rung().await;
    assert_eq!(begun.elapsed().as_secs(), 180);
    assert!(tokio::time::timeout(minute, alarm.rung()).await.is_err());
}

proptest! {
    #[test]
    fn no_due_moment_is_lost_or_doubled_whatever_the_steps(
        schedule in schedules(), start in instants(), catch_up: bool,
        steps in prop::collection::vec(prop_oneof![1..120_000u64, 1..90_000_000u64], 1..60),
    ) {
        let timetable = Timetable { catch_up, ..Timetable::new(schedule.clone()) };
        let mut timer = Timer::new(timetable, None, start);
        let (mut wall, mut monotonic) = (start, Instant::now());
        let (mut accounted, mut last) = (0, start);
        for step in steps {
            wall += Duration::from_millis(step);
            monotonic += Duration::from_millis(step);
            let expected = schedule.missed(last, wall);
            let (moment, count) = match timer.look(wall, monotonic) {
                DueVerdict::Run { scheduled, missed } => (scheduled, missed + 1),
                DueVerdict::Skip { last, missed } => (last, missed),
                DueVerdict::Wait { next, .. } => {
                    prop_assert_eq!(expected.count, 0);
                    prop_assert_eq!(next, schedule.next_after(wall));
                    continue;
                }
            };
            prop_assert_eq!(Some(moment), expected.last);
            accounted += count;
            last = moment;
            let waits = matches!(timer.look(wall, monotonic), DueVerdict::Wait { .. });
            prop_assert!(waits);
        }
        if accounted < 10_000 {
            prop_assert_eq!(accounted, schedule.missed(start, wall).count);
        }
    }

    /// Hours of real time pass while the wall clock jumps about.
    #[test]
    fn however_the_clock_jumps_there_is_neither_storm_nor_stop(
        jumps in prop::collection::vec((1..90i64, prop_oneof![
            -4_000..4_000i64, -90_000..90_000i64, -40_000_000..40_000_000i64,
        ]), 1..20),
    ) {
        let mut scene = Scene::new("@hourly", "2026-05-01T02:30:00Z");
        let (mut runs, mut real_minutes) = (0, 0);
        for (minutes, jump) in &jumps {
            let end = scene.monotonic + Duration::from_secs(*minutes as u64 * 60);
            while let Some(verdict) = scene.drive(TimeDelta::from_std(end - scene.monotonic).unwrap()) {
                let is_run = matches!(verdict, DueVerdict::Run { .. });
                prop_assert!(is_run, "{verdict:?}");
                runs += 1;
            }
            scene.wall += TimeDelta::seconds(*jump);
            real_minutes += minutes;
        }
        prop_assert!(runs <= real_minutes / 60 + 1 + jumps.len() as i64, "{runs} runs in {real_minutes} minutes");
        // The clock may have 3 hours to catch up, then an hour's moment comes.
        prop_assert!(scene.drive(HOUR * 4 + TimeDelta::minutes(1)).is_some(), "it stands still");
        prop_assert!(scene.drive(HOUR + TimeDelta::minutes(1)).is_some());
    }
}
