//! From where a group stands in its partitions to a verdict.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::kafka::{GroupDescription, GroupMember, IsolationLevel};
use crate::record::PartitionId;

use super::criteria::{Criteria, Strategy};
use super::history::{GroupPast, Pace, PartitionPast};
use super::observation::SeenGroup;
use super::report::PartitionState;
use super::row::Row;
use super::{DrainState, Verdict};

/// A group with its rows.
pub(super) struct Case<'a> {
    pub criteria: &'a Criteria,
    pub at: DateTime<Utc>,
    pub name: &'a str,
    pub group: &'a SeenGroup,
    pub past: Option<&'a GroupPast>,
    pub rows: &'a [Row<'a>],
    pub total_lag: u64,
    pub stall_after: TimeDelta,
    /// So many checks in a row, this one included, found it within its bounds.
    pub stable_checks: u32,
}

impl<'a> Case<'a> {
    pub fn new(
        criteria: &'a Criteria,
        at: DateTime<Utc>,
        name: &'a str,
        group: &'a SeenGroup,
        past: Option<&'a GroupPast>,
        rows: &'a [Row<'a>],
    ) -> Self {
        let lags = rows.iter().map(|row| row.lag);
        let mut case = Self {
            criteria,
            at,
            name,
            group,
            past,
            rows,
            total_lag: lags.fold(0, u64::saturating_add),
            stall_after: TimeDelta::from_std(criteria.stall_after).unwrap_or(TimeDelta::MAX),
            stable_checks: 0,
        };
        case.stable_checks = case.count_stable_checks();
        case
    }

    pub fn members(&self) -> &'a [GroupMember] {
        let description = self.group.description.as_ref();
        description.map_or(&[], |description| &description.members)
    }

    fn is_rebalancing(&self) -> bool {
        let description = self.group.description.as_ref();
        description.is_some_and(GroupDescription::is_rebalancing)
    }

    /// Whether members have changed since the check before.
    fn has_rebalanced(&self) -> bool {
        let epoch = self
            .group
            .description
            .as_ref()
            .and_then(|found| found.epoch);
        self.past.is_some_and(|past| {
            let members = self.members().iter().map(|member| &member.member_id);
            past.epoch != epoch || !past.members.iter().eq(members.collect::<BTreeSet<_>>())
        })
    }

    /// Whether what is left is allowed to be.
    fn is_within_bounds(&self) -> bool {
        match self.criteria.strategy {
            Strategy::Lag { max_lag } => self.total_lag <= max_lag,
            Strategy::Time(_) => self.rows.iter().all(|row| row.is_within_time),
        }
    }

    /// Rows that went back in this check.
    fn has_gone_back(&self) -> bool {
        self.rows.iter().any(|row| {
            let before = row.past.and_then(|past| past.committed);
            row.commit
                .is_some_and(|commit| before > Some(commit.offset))
        })
    }

    fn count_stable_checks(&self) -> u32 {
        if !self.is_within_bounds() || self.is_rebalancing() {
            return 0;
        }
        let before = self.past.map_or(0, |past| past.stable_checks);
        if self.has_rebalanced() || self.has_gone_back() {
            1
        } else {
            before.saturating_add(1)
        }
    }

    fn in_state(&self, state: PartitionState) -> impl Iterator<Item = &'a Row<'a>> {
        self.rows.iter().filter(move |row| row.state() == state)
    }

    /// Rows that have something left.
    pub fn left(&self) -> impl Iterator<Item = &'a Row<'a>> {
        self.rows.iter().filter(|row| row.lag > 0)
    }

    /// Whether a row that has something left has not moved for so long that it counts as stalled.
    fn is_still(&self, row: &Row<'_>) -> bool {
        row.past.is_some() && row.still_for() >= self.stall_after
    }

    /// Whether a row has something left only because producers go on: not long ago it had consumed all that there was.
    fn keeps_up(&self, row: &Row<'_>) -> bool {
        let caught_up_at = row.now.caught_up_at;
        caught_up_at.is_some_and(|when| self.at - when < self.stall_after)
    }

    /// Rows that have something left and will not be consumed when it goes on like this: no member reads them, their commits
    /// are of another log or below its start, or they have stood still for long while others moved.
    pub fn stuck(&self) -> Vec<&'a Row<'a>> {
        let nobody_reads = |row: &Row<'_>| row.member.is_none() && !self.members().is_empty();
        let is_lost = |row: &Row<'_>| {
            let lost = [PartitionState::Recreated, PartitionState::Unreachable];
            lost.contains(&row.state())
        };
        let is_stuck = |row: &&Row<'_>| {
            let moved_at = row.now.moved_at;
            let moves = moved_at.is_some_and(|when| self.at - when < self.stall_after);
            is_lost(row)
                || !moves && (nobody_reads(row) || self.is_still(row) && !self.keeps_up(row))
        };
        self.left().filter(is_stuck).collect()
    }

    /// Seconds until it is drained, when it goes on like this; only what moves counts. None where something does not get less,
    /// or is stuck.
    pub fn eta_seconds(&self, pace: &Pace) -> Option<u64> {
        if !self.stuck().is_empty() {
            return None;
        }
        let beyond_goal = self
            .total_lag
            .saturating_sub(self.criteria.strategy.max_lag());
        let moving = self.left().filter(|row| {
            // After one look nobody knows what moves.
            row.now.moved_at.is_some() || self.keeps_up(row)
        });
        let moving = moving.map(|row| row.lag).fold(0, u64::saturating_add);
        pace.seconds_for(beyond_goal.min(moving))
    }

    /// Whether some row was seen to move, not too long ago.
    fn moves(&self) -> bool {
        let moved_at = self.rows.iter().filter_map(|row| row.now.moved_at).max();
        moved_at.is_some_and(|when| self.at - when < self.stall_after)
    }

    pub fn verdict(&self) -> Verdict {
        if self.group.unread.is_some() {
            return Verdict::Draining;
        }
        if self.group.description.is_none() && self.group.committed.is_empty() {
            return Verdict::UnknownGroup;
        }
        if self.rows.is_empty() {
            return Verdict::NeverCommitted;
        }
        if self.in_state(PartitionState::Recreated).next().is_some() {
            return Verdict::Recreated;
        }
        if self.in_state(PartitionState::Unreachable).next().is_some() {
            return Verdict::UnreachableLag;
        }
        let within = self.is_within_bounds();
        let is_rewound = self.in_state(PartitionState::Rewound).next().is_some();
        if self.has_gone_back() || is_rewound && !within {
            return Verdict::Rewound;
        }
        if self.is_rebalancing() {
            return Verdict::Rebalancing;
        }
        // A client that assigns partitions itself is no member, and yet may go on.
        let is_alone = self.members().is_empty() && !self.moves();
        if within {
            return match () {
                () if is_alone && self.total_lag > 0 => Verdict::Stopped,
                () if self.stable_checks >= self.criteria.stable_checks => Verdict::Drained,
                () => Verdict::Draining,
            };
        }
        self.verdict_out_of_bounds(is_alone)
    }

    fn verdict_out_of_bounds(&self, is_alone: bool) -> Verdict {
        let never = PartitionState::NeverCommitted;
        if self.left().all(|row| row.state() == never) {
            Verdict::NeverCommitted
        } else if is_alone {
            Verdict::Stopped
        } else {
            let backlog = || self.left().filter(|row| !self.keeps_up(row));
            let is_stalled = backlog().next().is_some() && backlog().all(|row| self.is_still(row));
            match is_stalled {
                true => Verdict::Stalled,
                false => Verdict::Draining,
            }
        }
    }

    pub fn state(&self, verdict: Verdict) -> DrainState {
        let has_members = !self.members().is_empty();
        match verdict {
            Verdict::Drained => {
                let is_empty = |row: &Row<'_>| row.commit.is_none() && row.log.start >= row.end;
                match self.rows.iter().all(is_empty) {
                    true => DrainState::Empty,
                    false => DrainState::Drained,
                }
            }
            Verdict::Draining if self.group.unread.is_some() => DrainState::Unknown,
            Verdict::Draining => DrainState::Draining,
            Verdict::Rebalancing => {
                let is_still =
                    self.left().next().is_some() && self.left().all(|row| self.is_still(row));
                match is_still {
                    true => DrainState::Stalled,
                    false => DrainState::Draining,
                }
            }
            // It has begun anew, and goes on if there is somebody to.
            Verdict::Rewound if has_members => DrainState::Draining,
            Verdict::Stalled
            | Verdict::NeverCommitted
            | Verdict::UnreachableLag
            | Verdict::Recreated
                if has_members =>
            {
                DrainState::Stalled
            }
            Verdict::UnknownGroup => DrainState::Unknown,
            _ => DrainState::Stopped,
        }
    }

    pub fn next_past(&self, verdict: Verdict) -> GroupPast {
        let mut partitions: BTreeMap<String, BTreeMap<PartitionId, PartitionPast>> =
            BTreeMap::new();
        for row in self.rows {
            match partitions.get_mut(row.topic) {
                Some(topic) => {
                    topic.insert(row.partition, row.now);
                }
                None => {
                    let first = BTreeMap::from([(row.partition, row.now)]);
                    partitions.insert(row.topic.to_owned(), first);
                }
            }
        }
        let mut pace = match self.past {
            Some(past) if !self.has_gone_back() => past.pace.clone(),
            _ => Default::default(),
        };
        let sum = |of: fn(&Row<'a>) -> u64| self.rows.iter().map(of).fold(0, u64::saturating_add);
        pace.add(
            self.at,
            sum(Row::consumed),
            sum(Row::arrived),
            self.total_lag,
        );
        let unchanged = self.past.filter(|past| past.verdict.0 == verdict);
        GroupPast {
            partitions,
            members: self
                .members()
                .iter()
                .map(|member| member.member_id.clone())
                .collect(),
            epoch: self
                .group
                .description
                .as_ref()
                .and_then(|found| found.epoch),
            verdict: (verdict, unchanged.map_or(self.at, |past| past.verdict.1)),
            stable_checks: self.stable_checks,
            pace,
        }
    }

    /// The rows that a verdict rests on.
    pub fn deciding(&self, verdict: Verdict) -> Vec<&'a Row<'a>> {
        let mut rows: Vec<&Row<'_>> = match verdict {
            Verdict::Drained | Verdict::UnknownGroup => Vec::new(),
            Verdict::Recreated => self.in_state(PartitionState::Recreated).collect(),
            Verdict::UnreachableLag => self.in_state(PartitionState::Unreachable).collect(),
            Verdict::Rewound => self
                .rows
                .iter()
                .filter(|row| row.now.rewound_from.is_some())
                .collect(),
            Verdict::Stalled => self.left().filter(|row| self.is_still(row)).collect(),
            Verdict::Draining
            | Verdict::Rebalancing
            | Verdict::Stopped
            | Verdict::NeverCommitted => self.left().collect(),
        };
        rows.sort_by_key(|row| std::cmp::Reverse(row.lag));
        rows
    }

    /// Whether an open transaction may be what holds a row's reader back.
    pub fn is_held_back(row: &Row<'_>, isolation: IsolationLevel) -> bool {
        isolation == IsolationLevel::ReadUncommitted
            && row.log.last_stable < row.log.high_watermark
            && row
                .commit
                .is_some_and(|commit| commit.offset == row.log.last_stable)
    }
}
