//! From what was seen, and what was seen before, to a verdict. Pure: no clock, no network.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::kafka::{GroupDescription, GroupMember, Isolation};
use crate::record::{Offset, PartitionId, Timestamp};

use super::criteria::{Criteria, Strategy};
use super::history::{GroupPast, PartitionPast};
use super::observation::{Ahead, Commit, Observation, SeenGroup, SeenLog};
use super::report::{DecidingPartition, GroupReport, PartitionReport, PartitionState};
use super::standing::Standing;
use super::{DrainState, Verdict, reason};

/// A group that was judged.
pub(super) struct Judged {
    pub group: GroupReport,
    pub partitions: Vec<PartitionReport>,
    /// What the next check needs to know.
    pub past: GroupPast,
}

/// Judges a group of an observation; none where that has no such group.
pub(super) fn judge(
    criteria: &Criteria,
    seen: &Observation,
    name: &str,
    past: Option<&GroupPast>,
) -> Option<Judged> {
    let group = seen.groups.get(name)?;
    let rows = rows(criteria, seen, group, past);
    let case = Case::new(criteria, seen.at, name, group, past, &rows);
    let verdict = case.verdict();
    let next = match (&group.unread, past) {
        // What is known of it stays what it was.
        (Some(_), Some(past)) => past.clone(),
        _ => case.next_past(verdict),
    };
    Some(Judged {
        group: case.report(verdict, &next),
        partitions: rows.iter().map(|row| row.report(name)).collect(),
        past: next,
    })
}

/// A group's place in one partition, now and before.
pub(super) struct Row<'a> {
    /// When it was looked at.
    pub at: DateTime<Utc>,
    pub topic: &'a str,
    pub partition: PartitionId,
    pub log: &'a SeenLog,
    pub end: Offset,
    pub commit: Option<Commit>,
    pub standing: Standing,
    pub lag: u64,
    /// Nothing is left that the criteria want to be consumed.
    is_within_time: bool,
    pub past: Option<&'a PartitionPast>,
    pub now: PartitionPast,
    pub member: Option<&'a GroupMember>,
}

fn rows<'a>(
    criteria: &Criteria,
    seen: &'a Observation,
    group: &'a SeenGroup,
    past: Option<&'a GroupPast>,
) -> Vec<Row<'a>> {
    let members = group.description.iter().flat_map(|found| &found.members);
    let mut readers: BTreeMap<(&str, PartitionId), &GroupMember> = BTreeMap::new();
    for member in members {
        for (topic, partitions) in &member.assignment {
            readers.extend(partitions.iter().map(|id| ((topic.as_str(), *id), member)));
        }
    }
    let moment = criteria.strategy.moment(seen.at);
    let topics = group.topics.iter();
    let topics = topics.filter_map(|topic| seen.topics.get_key_value(topic));
    let mut rows = Vec::new();
    for (topic, found) in topics {
        for (partition, log) in &found.partitions {
            let commit = group.committed.get(topic).and_then(|of| of.get(partition));
            let commit = commit.copied();
            let past = past.and_then(|past| past.partition(topic, *partition));
            let isolation = criteria.isolation;
            let standing = Standing::of(commit, found.topic_id, log, past, isolation);
            let lag = standing.lag(log, isolation);
            let end = log.end(isolation);
            let offset = commit.map(|commit| commit.offset);
            rows.push(Row {
                at: seen.at,
                topic,
                partition: *partition,
                log,
                end,
                commit,
                standing,
                lag,
                is_within_time: is_within_time(standing, lag, log, moment),
                past,
                now: follow(past, seen.at, found.topic_id, offset, standing, lag, end),
                member: readers.get(&(topic.as_str(), *partition)).copied(),
            });
        }
    }
    rows
}

/// Whether all that is left is as young as the moment. The time index finds the first offset that is: what lies before it is
/// older. And the first record that is left must be as young itself, since a record from the future would mislead the index.
fn is_within_time(standing: Standing, lag: u64, log: &SeenLog, moment: Option<Timestamp>) -> bool {
    let (Some(moment), Some(first)) = (moment, log.moment) else {
        return lag == 0;
    };
    let from = match standing {
        Standing::Behind(from) | Standing::NeverCommitted(from) => from,
        Standing::AtEnd => return true,
        Standing::Unreachable(_) | Standing::Recreated(_) => return false,
    };
    lag == 0
        || from >= first
            && matches!(standing.ahead(log), Some(Ahead::Records(Some(time))) if *time >= moment)
}

/// What the next check has to know of a partition.
fn follow(
    past: Option<&PartitionPast>,
    at: DateTime<Utc>,
    topic_id: crate::record::TopicId,
    committed: Option<Offset>,
    standing: Standing,
    lag: u64,
    end: Offset,
) -> PartitionPast {
    let fresh = PartitionPast {
        topic_id,
        committed,
        consumed_to: None,
        end,
        rewound_from: None,
        since: at,
        moved_at: None,
        caught_up_at: None,
    };
    let is_consumed =
        lag == 0 && !matches!(standing, Standing::Unreachable(_) | Standing::Recreated(_));
    let mut now = match past {
        None => fresh,
        // The log that the commit is of stays what it was, until another is committed.
        Some(past) if past.committed == committed => PartitionPast {
            topic_id: if committed.is_some() {
                past.topic_id
            } else {
                topic_id
            },
            consumed_to: past.consumed_to.filter(|_| past.topic_id == topic_id),
            end,
            ..*past
        },
        Some(past) if past.committed > committed => PartitionPast {
            rewound_from: past
                .rewound_from
                .max(past.committed)
                .filter(|_| committed.is_some()),
            ..fresh
        },
        Some(past) => PartitionPast {
            moved_at: Some(at),
            since: past.since,
            caught_up_at: past.caught_up_at,
            ..fresh
        },
    };
    if is_consumed {
        now.consumed_to = now.consumed_to.max(Some(end));
    }
    let had_caught_up = past.is_some_and(|past| committed >= Some(past.end));
    if is_consumed || had_caught_up {
        now.caught_up_at = Some(at);
    }
    now
}

impl Row<'_> {
    fn state(&self) -> PartitionState {
        match self.standing {
            Standing::Recreated(_) => PartitionState::Recreated,
            Standing::Unreachable(_) => PartitionState::Unreachable,
            _ if self.lag == 0 => PartitionState::Consumed,
            _ if self.now.rewound_from.is_some() => PartitionState::Rewound,
            Standing::NeverCommitted(_) => PartitionState::NeverCommitted,
            Standing::AtEnd | Standing::Behind(_) => PartitionState::Lagging,
        }
    }

    /// How long it has not moved.
    pub fn still_for(&self) -> TimeDelta {
        (self.at - self.now.still_since()).max(TimeDelta::zero())
    }

    /// Offsets consumed since the check before.
    fn consumed(&self) -> u64 {
        let before = self.past.and_then(|past| past.committed);
        match (before, self.commit) {
            (Some(before), Some(now)) => span(before, now.offset),
            (None, Some(now)) if self.past.is_some() => span(self.log.start, now.offset),
            _ => 0,
        }
    }

    fn arrived(&self) -> u64 {
        self.past.map_or(0, |past| span(past.end, self.end))
    }

    fn report(&self, group: &str) -> PartitionReport {
        let from = self.commit.map_or(self.log.start, |commit| commit.offset);
        let is_bounded = matches!(
            self.standing,
            Standing::Unreachable(_) | Standing::Recreated(_)
        );
        let without_records = match is_bounded {
            true => 0,
            false => span(from, self.end).saturating_sub(self.lag),
        };
        let oldest = match self.standing.ahead(self.log) {
            Some(Ahead::Records(Some(time))) => DateTime::from_timestamp_millis(time.0),
            _ => None,
        };
        PartitionReport {
            group_id: group.to_owned(),
            topic: self.topic.to_owned(),
            partition: self.partition,
            current_offset: self.commit.map(|commit| commit.offset),
            latest_offset: self.end,
            lag: self.lag,
            state: self.state(),
            log_start_offset: self.log.start,
            high_watermark: self.log.high_watermark,
            last_stable_offset: self.log.last_stable,
            offsets_without_records: without_records,
            unreachable_offsets: match self.standing {
                Standing::Unreachable(lost) => lost,
                _ => 0,
            },
            oldest_unconsumed: oldest.filter(|_| self.log.moment.is_some()),
            still_seconds: (self.lag > 0 && self.past.is_some())
                .then(|| whole_seconds(self.still_for())),
            member: self.member.map(reason::member),
            note: reason::note(self),
        }
    }
}

fn span(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0)
}

pub(super) fn whole_seconds(time: TimeDelta) -> u64 {
    u64::try_from(time.num_seconds()).unwrap_or(0)
}

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
    fn new(
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

    /// Whether some row was seen to move, not too long ago.
    fn moves(&self) -> bool {
        let moved_at = self.rows.iter().filter_map(|row| row.now.moved_at).max();
        moved_at.is_some_and(|when| self.at - when < self.stall_after)
    }

    fn verdict(&self) -> Verdict {
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

    fn state(&self, verdict: Verdict) -> DrainState {
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

    fn next_past(&self, verdict: Verdict) -> GroupPast {
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

    fn report(&self, verdict: Verdict, next: &GroupPast) -> GroupReport {
        let deciding = self.deciding(verdict);
        let description = self.group.description.as_ref();
        let pace = next.pace.per_second();
        let still = self.left().filter(|row| row.past.is_some());
        let still = still.map(|row| row.still_for()).min();
        GroupReport {
            group_id: self.name.to_owned(),
            status: verdict,
            state: self.state(verdict),
            reason: reason::of(self, verdict, &deciding, &next.pace),
            since: next.verdict.1,
            group_type: description.map(|found| found.group_type),
            group_state: description.map(|found| found.state.clone()),
            members: self.members().len() as u64,
            total_lag: self.total_lag,
            partitions_checked: self.rows.len() as u64,
            stable_checks: self.stable_checks,
            consumed_per_second: pace.map(|(consumed, _)| consumed),
            arriving_per_second: pace.map(|(_, arriving)| arriving),
            eta_seconds: match verdict {
                Verdict::Drained => Some(0),
                _ => next.pace.seconds_to(self.criteria.strategy.max_lag()),
            },
            still_seconds: still.map(whole_seconds),
            deciding_partitions: deciding
                .into_iter()
                .map(|row| DecidingPartition {
                    topic: row.topic.to_owned(),
                    partition: row.partition,
                    lag: row.lag,
                    why: reason::why(self, row),
                })
                .collect(),
        }
    }

    /// Whether an open transaction may be what holds a row's reader back.
    pub fn is_held_back(row: &Row<'_>, isolation: Isolation) -> bool {
        isolation == Isolation::ReadUncommitted
            && row.log.last_stable < row.log.high_watermark
            && row
                .commit
                .is_some_and(|commit| commit.offset == row.log.last_stable)
    }
}
