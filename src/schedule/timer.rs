//! From a timetable and two clocks to "wait" or "run": pure, and right when the wall clock jumps.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::timetable::Timetable;

/// The longest time between two looks at the wall clock: after a jump or a suspend nothing is later than this.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A run that is this late is still on time; later, its moment was missed. Above [`LONGEST_WAIT`], so that looking in time suffices.
pub const ON_TIME: Duration = Duration::from_secs(120);

/// A clock that goes back by more was wrong before and is right now; one that goes back by less will soon have caught up with what
/// it showed before. Vixie cron's bound, for times of day.
const CORRECTION: TimeDelta = TimeDelta::hours(3);

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueVerdict {
    /// Nothing is due: look again, after `look_again_in` at the latest.
    Wait {
        /// The next due moment by the clock as it is; none while suspended.
        next: Option<DateTime<Utc>>,
        /// More than nothing, at most [`LONGEST_WAIT`].
        look_again_in: Duration,
    },
    /// One run is due.
    Run {
        /// The moment it is for.
        scheduled: DateTime<Utc>,
        /// How many moments before it had no look of their own, and get no run of their own.
        missed: u32,
    },
    /// Moments passed too long ago for a run, by `catch_up` and `start_deadline`.
    Skip {
        /// The last of them.
        last: DateTime<Utc>,
        /// How many moments passed, the last one included.
        missed: u32,
    },
}

/// Tells when the runs of one timetable are due.
///
/// Whoever drives it calls [`look`](Self::look) with both clocks until the answer is [`DueVerdict::Wait`], sleeps for as long as that
/// says, and looks again; a look too many does no harm. What holds then:
///
/// - Every due moment gets one verdict, in order, as a run of its own or as one of those missed, however long nobody looked.
/// - After any absence or jump forward there is one run at most, for the last moment.
/// - After a jump back of up to three hours no time of day that had its verdict gets another: it waits until the clock has caught up.
/// - After a longer jump back, and of a period after any, the next run keeps its distance in real time, rounded up to a due moment of
///   the clock as it is now.
#[derive(Debug, Clone)]
pub struct Timer {
    timetable: Timetable,
    /// Due moments up to and including this have had their verdict.
    settled: DateTime<Utc>,
    /// When, by the monotonic clock, the next due moment comes if the wall clock does not go back.
    expected: Option<Instant>,
}

/// For how long a clock that went back may catch up. A period waits for none.
fn waits_for(timetable: &Timetable) -> TimeDelta {
    match timetable.schedule.is_period() {
        true => TimeDelta::zero(),
        false => CORRECTION,
    }
}

impl Timer {
    /// A timer that goes on after `settled`, which an earlier one had reached ([`settled`](Self::settled), or the moment of the last
    /// known run); without one, nothing before `wall` was ever due.
    pub fn new(timetable: Timetable, settled: Option<DateTime<Utc>>, wall: DateTime<Utc>) -> Self {
        let waits = waits_for(&timetable);
        let believable = settled.filter(|settled| *settled - wall <= waits);
        Self {
            timetable,
            settled: believable.unwrap_or(wall),
            expected: None,
        }
    }

    /// The timetable that it tells the due moments of.
    pub fn timetable(&self) -> &Timetable {
        &self.timetable
    }

    /// Due moments up to and including this have had their verdict: what to keep for the timer after a restart.
    pub fn settled(&self) -> DateTime<Utc> {
        self.settled
    }

    /// What is to be done at `wall`. A monotonic clock that stands still while the machine sleeps is right too.
    pub fn look(&mut self, wall: DateTime<Utc>, monotonic: Instant) -> DueVerdict {
        if self.timetable.suspend {
            self.settled = wall;
            return DueVerdict::Wait {
                next: None,
                look_again_in: LONGEST_WAIT,
            };
        }
        let mut next = self.next();
        if let Some(distance) = next.and_then(|next| (next - wall).to_std().ok()) {
            let arrival = monotonic + distance;
            let expected = *self.expected.get_or_insert(arrival);
            let put_off = arrival.saturating_duration_since(expected);
            let waits = waits_for(&self.timetable);
            if TimeDelta::from_std(put_off).is_ok_and(|put_off| put_off <= waits) {
                self.expected = Some(expected.min(arrival));
            } else {
                self.correct(wall, expected.saturating_duration_since(monotonic));
                next = self.next();
            }
        }
        match next {
            Some(due) if due <= wall => self.settle(wall),
            _ => DueVerdict::Wait {
                next,
                look_again_in: next
                    .and_then(|due| (due - wall).to_std().ok())
                    .map_or(LONGEST_WAIT, |distance| distance.min(LONGEST_WAIT)),
            },
        }
    }

    fn next(&self) -> Option<DateTime<Utc>> {
        self.timetable.schedule.next_after(self.settled)
    }

    /// Takes the clock as it is now for right: the next run comes at the first due moment after `remaining`.
    fn correct(&mut self, wall: DateTime<Utc>, remaining: Duration) {
        let floor = TimeDelta::from_std(remaining)
            .ok()
            .and_then(|remaining| wall.checked_add_signed(remaining))
            .unwrap_or(wall);
        self.settled = floor - TimeDelta::nanoseconds(1);
        self.expected = None;
    }

    /// The verdict on all that is due by now.
    fn settle(&mut self, wall: DateTime<Utc>) -> DueVerdict {
        let due = self.timetable.schedule.missed(self.settled, wall);
        let last = due.last.unwrap_or(wall);
        self.settled = last;
        self.expected = None;
        // Not negative.
        let late = (wall - last).to_std().unwrap_or_default();
        let missed_already = !self.timetable.catch_up && late > ON_TIME;
        let too_late = self
            .timetable
            .start_deadline
            .is_some_and(|deadline| late > deadline);
        match missed_already || too_late {
            true => DueVerdict::Skip {
                last,
                missed: due.count,
            },
            false => DueVerdict::Run {
                scheduled: last,
                missed: due.count.saturating_sub(1),
            },
        }
    }
}
