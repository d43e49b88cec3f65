//! From what was seen, and what was seen before, to a verdict. Pure: no clock, no network.

use chrono::DateTime;

use super::case::Case;
use super::criteria::Criteria;
use super::history::GroupPast;
use super::observation::{Ahead, Observation};
use super::report::{DecidingPartition, GroupReport, PartitionReport};
use super::row::{Row, rows, span, whole_seconds};
use super::standing::Standing;
use super::{Verdict, reason};

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

impl Row<'_> {
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

impl Case<'_> {
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
                _ => self.eta_seconds(&next.pace),
            },
            stuck_partitions: self.stuck().len() as u64,
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
}
