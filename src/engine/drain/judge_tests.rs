//! Every verdict, at its borders.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;

use super::criteria::{Criteria, Strategy as Consumed, TimeBound};
use super::history::GroupPast;
use super::judge::judge;
use super::observation::{Ahead, Commit, Observation, SeenGroup, SeenLog, SeenTopic};
use super::report::{GroupReport, PartitionReport, PartitionState};
use super::{DrainState, Verdict};
use crate::engine::refusal::Reader;
use crate::kafka::{BrokerId, GroupDescription, GroupMember, GroupType, IsolationLevel};
use crate::record::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};

const GROUP: &str = "g";
const TOPIC: &str = "t";

/// A group that is looked at again and again. At first it has one member, and a topic without partitions.
struct Story {
    criteria: Criteria,
    seen: Observation,
    past: Option<GroupPast>,
    partitions: Vec<PartitionReport>,
}

impl Story {
    fn new() -> Self {
        let topic = SeenTopic {
            topic_id: TopicId([1; 16]),
            partitions: BTreeMap::new(),
        };
        let group = SeenGroup {
            topics: [TOPIC.to_owned()].into(),
            ..SeenGroup::default()
        };
        let mut story = Self {
            criteria: Criteria {
                stable_checks: 1,
                ..Criteria::default()
            },
            seen: Observation {
                at: DateTime::UNIX_EPOCH,
                groups: BTreeMap::from([(GROUP.to_owned(), group)]),
                topics: BTreeMap::from([(TOPIC.to_owned(), topic)]),
            },
            past: None,
            partitions: Vec::new(),
        };
        story.members(&["a"]);
        story
    }

    /// One partition with offsets 0 to 100, of which so many are consumed.
    fn at(offset: i64) -> Self {
        let mut story = Self::new();
        story.log(0, 0, 100);
        story.commit(0, offset);
        story
    }

    fn group(&mut self) -> &mut SeenGroup {
        self.seen.groups.get_mut(GROUP).unwrap()
    }

    fn topic(&mut self) -> &mut SeenTopic {
        self.seen.topics.get_mut(TOPIC).unwrap()
    }

    fn log(&mut self, partition: i32, start: i64, end: i64) -> &mut SeenLog {
        let log = SeenLog {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(5),
            start: Offset(start),
            high_watermark: Offset(end),
            last_stable: Offset(end),
            open: Vec::new(),
            moment: None,
            ahead: BTreeMap::new(),
        };
        let partitions = &mut self.topic().partitions;
        partitions.insert(PartitionId(partition), log);
        partitions.get_mut(&PartitionId(partition)).unwrap()
    }

    fn commit(&mut self, partition: i32, offset: i64) {
        self.commit_of(partition, offset, -1);
    }

    fn commit_of(&mut self, partition: i32, offset: i64, epoch: i32) {
        let commit = Commit {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(epoch),
        };
        let topic = self.group().committed.entry(TOPIC.to_owned()).or_default();
        topic.insert(PartitionId(partition), commit);
    }

    fn forget_commits(&mut self) {
        self.group().committed.clear();
    }

    fn members(&mut self, names: &[&str]) {
        let state = if names.is_empty() { "Empty" } else { "Stable" };
        let members = names.iter().map(|name| GroupMember {
            member_id: (*name).to_owned(),
            client_id: format!("client-{name}"),
            host: "/10.0.0.1".to_owned(),
            assignment: BTreeMap::from([(TOPIC.to_owned(), vec![PartitionId(0)])]),
        });
        self.group().description = Some(GroupDescription {
            group_type: GroupType::Classic,
            state: state.to_owned(),
            epoch: None,
            members: members.collect(),
        });
    }

    fn state(&mut self, state: &str) {
        self.group().description.as_mut().unwrap().state = state.to_owned();
    }

    fn after(&mut self, seconds: i64) -> &mut Self {
        self.seen.at += TimeDelta::seconds(seconds);
        self
    }

    fn check(&mut self) -> GroupReport {
        let judged = judge(&self.criteria, &self.seen, GROUP, self.past.as_ref()).unwrap();
        self.past = Some(judged.past);
        self.partitions = judged.partitions;
        judged.group
    }

    #[track_caller]
    fn expect(&mut self, verdict: Verdict, state: DrainState) -> GroupReport {
        let report = self.check();
        assert_eq!(
            (report.status, report.state),
            (verdict, state),
            "{}",
            report.reason
        );
        report
    }

    fn deciding(report: &GroupReport) -> Vec<i32> {
        let partitions = report.deciding_partitions.iter();
        partitions.map(|partition| partition.partition.0).collect()
    }
}

#[test]
fn a_group_at_the_end_is_drained_when_enough_checks_agree() {
    let mut story = Story::at(100);
    story.criteria.stable_checks = 3;
    for stable in 1..3 {
        let report = story
            .after(5)
            .expect(Verdict::Draining, DrainState::Draining);
        assert_eq!(report.stable_checks, stable);
        assert_eq!(
            report.reason.to_string(),
            format!("within its bounds in {stable} of 3 checks in a row")
        );
    }
    let report = story.after(5).expect(Verdict::Drained, DrainState::Drained);
    assert_eq!((report.total_lag, report.eta_seconds), (0, Some(0)));
    assert_eq!(report.reason.to_string(), "all is consumed in 1 partition");
    assert_eq!(Story::deciding(&report), [0; 0]);
}

#[test]
fn one_check_out_of_bounds_begins_the_count_anew() {
    let mut story = Story::at(100);
    story.criteria.stable_checks = 2;
    story.check();
    story.log(0, 0, 101);
    assert_eq!(story.after(5).check().stable_checks, 0);
    story.commit(0, 101);
    story
        .after(5)
        .expect(Verdict::Draining, DrainState::Draining);
    story.after(5).expect(Verdict::Drained, DrainState::Drained);
}

#[test]
fn so_many_records_may_be_left_over_all_partitions_and_not_one_more() {
    let mut story = Story::at(95);
    story.log(1, 0, 10);
    story.commit(1, 5);
    story.criteria.strategy = Consumed::Lag { max_lag: 10 };
    let report = story.expect(Verdict::Drained, DrainState::Drained);
    assert_eq!(report.total_lag, 10);
    assert_eq!(
        report.reason.to_string(),
        "10 left in 2 partitions, within the 10 that may be"
    );
    story.log(1, 0, 11);
    story
        .after(1)
        .expect(Verdict::Draining, DrainState::Draining);
}

#[test]
fn offsets_that_hold_no_record_are_no_lag() {
    let mut story = Story::at(98);
    story
        .log(0, 0, 100)
        .ahead
        .insert(Offset(98), Ahead::Nothing);
    let report = story.expect(Verdict::Drained, DrainState::Drained);
    assert_eq!(report.total_lag, 0);
    assert_eq!(story.partitions[0].offsets_without_records, 2);
    assert_eq!(story.partitions[0].state, PartitionState::Consumed);
    // What was proven once stays proven, and only what comes behind it counts.
    story.log(0, 0, 103);
    let report = story
        .after(5)
        .expect(Verdict::Draining, DrainState::Draining);
    assert_eq!(report.total_lag, 3);
    assert_eq!(story.partitions[0].offsets_without_records, 2);
}

#[test]
fn offsets_that_could_not_be_looked_at_count_and_say_why() {
    let mut story = Story::at(98);
    let unread = Ahead::Unread("not allowed".to_owned());
    story.log(0, 0, 100).ahead.insert(Offset(98), unread);
    let report = story.expect(Verdict::Draining, DrainState::Draining);
    assert_eq!(report.total_lag, 2);
    assert_eq!(story.partitions[0].note.as_deref(), Some("not allowed"));
    let why = &report.deciding_partitions[0].why;
    assert_eq!(
        why,
        "not consumed; committed 98 of 100; read by client-a at 10.0.0.1; not allowed"
    );
}

#[test]
fn a_group_that_moves_is_draining_with_its_pace_and_the_time_left() {
    let mut story = Story::at(0);
    let first = story.expect(Verdict::Draining, DrainState::Draining);
    assert_eq!((first.consumed_per_second, first.eta_seconds), (None, None));
    story.commit(0, 40);
    story.log(0, 0, 110);
    let report = story
        .after(10)
        .expect(Verdict::Draining, DrainState::Draining);
    assert_eq!(report.consumed_per_second, Some(4.0));
    assert_eq!(report.arriving_per_second, Some(1.0));
    // 70 left, and 3 less each second.
    assert_eq!(report.eta_seconds, Some(24));
    assert_eq!(report.reason.to_string(), "4 records/s, and 24 s to go");
    assert_eq!(report.still_seconds, Some(0));
}

#[test]
fn what_no_member_reads_will_never_drain_and_no_time_is_told() {
    let mut story = Story::at(0);
    // The one member reads partition 0 alone.
    story.log(1, 0, 1_000);
    story.commit(1, 10);
    story.check();
    story.commit(0, 40);
    let report = story
        .after(10)
        .expect(Verdict::Draining, DrainState::Draining);
    assert_eq!(report.eta_seconds, None);
    assert_eq!(
        report.reason.to_string(),
        "4 records/s, but 990 left in 1 partition that no member reads: it will not drain like this"
    );
    // Somebody reads it now.
    let both = BTreeMap::from([(TOPIC.to_owned(), vec![PartitionId(0), PartitionId(1)])]);
    story.group().description.as_mut().unwrap().members[0].assignment = both;
    story.commit(0, 60);
    let report = story.after(10).check();
    // It was not seen to move yet: only the 40 that are left in the other one count.
    assert_eq!(report.eta_seconds, Some(14));
    story.commit(0, 70);
    story.commit(1, 15);
    let report = story.after(10).check();
    // Of 1075, 75 in 30 s.
    assert_eq!((report.total_lag, report.eta_seconds), (1_015, Some(406)));
}

#[test]
fn what_stands_still_beside_what_moves_is_said_and_no_time_is_told() {
    let mut story = Story::at(20);
    story.log(1, 0, 5_000);
    story.commit(1, 0);
    let both = BTreeMap::from([(TOPIC.to_owned(), vec![PartitionId(0), PartitionId(1)])]);
    story.group().description.as_mut().unwrap().members[0].assignment = both;
    story.check();
    story.commit(1, 100);
    assert_eq!(story.after(10).check().eta_seconds, Some(490));
    for round in 2..=3 {
        story.commit(1, 100 * round);
        story.after(10).check();
    }
    let report = story.check();
    assert_eq!(report.eta_seconds, None);
    assert_eq!(
        report.reason.to_string(),
        "10 records/s, but 80 left in 1 partition without progress for 30 s: it will not drain like this"
    );
}

#[test]
fn no_time_is_left_to_tell_when_more_arrives_than_is_consumed() {
    let mut story = Story::at(0);
    story.check();
    story.commit(0, 10);
    story.log(0, 0, 200);
    let report = story
        .after(10)
        .expect(Verdict::Draining, DrainState::Draining);
    assert_eq!(report.eta_seconds, None);
    assert_eq!(
        report.reason.to_string(),
        "1 records/s, but 10 records/s arrive"
    );
}

#[test]
fn a_group_with_members_that_stands_still_is_stalled_after_a_while() {
    let mut story = Story::at(20);
    story.check();
    let report = story
        .after(29)
        .expect(Verdict::Draining, DrainState::Draining);
    assert_eq!(
        report.reason.to_string(),
        "no progress for 29 s; it counts as stalled after 30 s"
    );
    let report = story.after(1).expect(Verdict::Stalled, DrainState::Stalled);
    assert_eq!(report.still_seconds, Some(30));
    assert_eq!(
        report.reason.to_string(),
        "1 member, and no progress in 1 partition for 30 s: look at what the consumers do"
    );
    assert_eq!(Story::deciding(&report), [0]);
    let since = report.since;
    assert_eq!(story.after(60).check().since, since);
    story.commit(0, 21);
    story
        .after(1)
        .expect(Verdict::Draining, DrainState::Draining);
}

#[test]
fn one_look_does_not_tell_that_anything_stands_still() {
    let mut story = Story::at(20);
    story.criteria.stall_after = Duration::ZERO;
    story.expect(Verdict::Draining, DrainState::Draining);
    story.expect(Verdict::Stalled, DrainState::Stalled);
}

#[test]
fn a_partition_that_is_stuck_is_seen_beside_others_that_keep_up() {
    let mut story = Story::at(20);
    story.log(1, 0, 50);
    story.commit(1, 50);
    story.check();
    for round in 1..=4 {
        // The other one has something left at every check, and yet consumes all that comes.
        story.log(1, 0, 50 + 10 * round);
        story.commit(1, 45 + 10 * round);
        let report = story.after(10).check();
        let expected = if round < 3 {
            Verdict::Draining
        } else {
            Verdict::Stalled
        };
        assert_eq!(report.status, expected, "round {round}: {}", report.reason);
        if expected == Verdict::Stalled {
            assert_eq!(Story::deciding(&report), [0]);
        }
    }
}

#[test]
fn a_partition_that_waits_for_its_turn_while_a_backlog_is_consumed_is_not_stuck() {
    let mut story = Story::at(20);
    story.log(1, 0, 5_000);
    story.commit(1, 0);
    story.check();
    for round in 1..=10 {
        story.commit(1, 100 * round);
        story
            .after(10)
            .expect(Verdict::Draining, DrainState::Draining);
    }
    assert_eq!(story.partitions[0].still_seconds, Some(100));
}

#[test]
fn a_group_without_members_that_has_something_left_is_stopped() {
    let mut story = Story::at(20);
    story.members(&[]);
    let report = story.expect(Verdict::Stopped, DrainState::Stopped);
    assert_eq!(Story::deciding(&report), [0]);
    story
        .after(100)
        .expect(Verdict::Stopped, DrainState::Stopped);
}

#[test]
fn nobody_will_consume_what_a_group_without_members_may_have_left() {
    let mut story = Story::at(99);
    story.members(&[]);
    story.criteria.strategy = Consumed::Lag { max_lag: 10 };
    story.expect(Verdict::Stopped, DrainState::Stopped);
    story.commit(0, 100);
    let report = story
        .after(100)
        .expect(Verdict::Drained, DrainState::Drained);
    assert_eq!(
        report.reason.to_string(),
        "all is consumed in 1 partition; it has no members any more"
    );
}

#[test]
fn a_client_that_commits_without_being_a_member_drains() {
    let mut story = Story::at(20);
    story.members(&[]);
    story.expect(Verdict::Stopped, DrainState::Stopped);
    story.commit(0, 30);
    story
        .after(5)
        .expect(Verdict::Draining, DrainState::Draining);
    story
        .after(29)
        .expect(Verdict::Draining, DrainState::Draining);
    story.after(1).expect(Verdict::Stopped, DrainState::Stopped);
}

#[test]
fn partitions_without_commits_count_from_the_start_of_their_logs() {
    let mut story = Story::new();
    story.log(0, 40, 100);
    let report = story.expect(Verdict::NeverCommitted, DrainState::Stalled);
    assert_eq!(report.total_lag, 60);
    assert_eq!(Story::deciding(&report), [0]);
    story.members(&[]);
    story
        .after(5)
        .expect(Verdict::NeverCommitted, DrainState::Stopped);
}

#[test]
fn partitions_added_meanwhile_decide_when_the_rest_is_consumed() {
    let mut story = Story::at(100);
    story.expect(Verdict::Drained, DrainState::Drained);
    story.log(1, 0, 3);
    story.log(2, 7, 7);
    let report = story
        .after(5)
        .expect(Verdict::NeverCommitted, DrainState::Stalled);
    assert_eq!(Story::deciding(&report), [1]);
    assert_eq!(
        report.deciding_partitions[0].why,
        "never committed here; no member reads it"
    );
    story.commit(1, 1);
    story
        .after(5)
        .expect(Verdict::Draining, DrainState::Draining);
}

#[test]
fn what_holds_nothing_is_consumed_without_a_commit() {
    let mut story = Story::new();
    story.log(0, 0, 0);
    story.log(1, 55, 55);
    story.expect(Verdict::Drained, DrainState::Empty);
    story.log(2, 0, 1).ahead.insert(Offset(0), Ahead::Nothing);
    story.after(5).expect(Verdict::Drained, DrainState::Drained);
}

#[test]
fn a_commit_that_is_gone_is_told() {
    let mut story = Story::at(100);
    story.expect(Verdict::Drained, DrainState::Drained);
    story.forget_commits();
    story.members(&[]);
    let report = story
        .after(5)
        .expect(Verdict::NeverCommitted, DrainState::Stopped);
    assert_eq!(
        report.deciding_partitions[0].why,
        "its commit at 100 is gone"
    );
}

#[test]
fn a_group_that_nothing_can_be_said_of_is_not_drained() {
    let mut story = Story::new();
    story.group().topics.clear();
    let report = story.expect(Verdict::NeverCommitted, DrainState::Stalled);
    assert!(
        report.reason.to_string().ends_with("name its topics"),
        "{}",
        report.reason
    );
}

#[test]
fn a_group_that_nobody_knows_is_not_drained_whatever_the_topics_hold() {
    let mut story = Story::new();
    story.log(0, 0, 0);
    story.group().description = None;
    story.group().similar = Some("gg".to_owned());
    let report = story.expect(Verdict::UnknownGroup, DrainState::Unknown);
    assert!(
        report.reason.to_string().ends_with("did you mean `gg`?"),
        "{}",
        report.reason
    );
    // Whoever may not see all groups is told of no other.
    let told = report.reason.text_for(Reader::Caller);
    assert!(told.ends_with("its offsets are gone"), "{told}");
    // Offsets without a group that would be described are a group nevertheless.
    story.commit(0, 0);
    story.after(5).expect(Verdict::Drained, DrainState::Drained);
}

#[test]
fn a_commit_that_went_back_is_rewound_until_it_moves_on() {
    let mut story = Story::at(90);
    story.check();
    story.commit(0, 10);
    let report = story
        .after(5)
        .expect(Verdict::Rewound, DrainState::Draining);
    assert_eq!(
        report.deciding_partitions[0].why,
        "the commit went back from 90; committed 10 of 100; read by client-a at 10.0.0.1"
    );
    assert_eq!(report.consumed_per_second, None);
    story.members(&[]);
    story
        .after(100)
        .expect(Verdict::Rewound, DrainState::Stopped);
    assert_eq!(story.partitions[0].state, PartitionState::Rewound);
    story.members(&["b"]);
    story.commit(0, 11);
    story
        .after(5)
        .expect(Verdict::Draining, DrainState::Draining);
}

#[test]
fn a_commit_that_went_back_a_little_begins_the_count_anew() {
    let mut story = Story::at(100);
    story.criteria.strategy = Consumed::Lag { max_lag: 5 };
    story.criteria.stable_checks = 2;
    story.check();
    story.commit(0, 97);
    story
        .after(5)
        .expect(Verdict::Rewound, DrainState::Draining);
    story.after(5).expect(Verdict::Drained, DrainState::Drained);
}

#[test]
fn records_deleted_before_they_were_consumed_are_unreachable() {
    let mut story = Story::at(40);
    story.log(0, 41, 100);
    let report = story.expect(Verdict::UnreachableLag, DrainState::Stalled);
    assert_eq!(report.total_lag, 60);
    assert_eq!(story.partitions[0].unreachable_offsets, 1);
    assert_eq!(Story::deciding(&report), [0]);
    story.members(&[]);
    // Nothing is left to consume, and yet something was lost.
    story.log(0, 100, 100);
    story
        .after(5)
        .expect(Verdict::UnreachableLag, DrainState::Stopped);
    story.commit(0, 100);
    story.after(5).expect(Verdict::Drained, DrainState::Drained);
}

#[test]
fn a_commit_at_the_start_of_the_log_has_lost_nothing() {
    let mut story = Story::at(40);
    story.log(0, 40, 100);
    story.expect(Verdict::Draining, DrainState::Draining);
}

#[test]
fn markers_that_were_deleted_are_no_loss() {
    let mut story = Story::at(98);
    story
        .log(0, 0, 100)
        .ahead
        .insert(Offset(98), Ahead::Nothing);
    story.expect(Verdict::Drained, DrainState::Drained);
    story.log(0, 100, 100);
    story
        .after(86_400)
        .expect(Verdict::Drained, DrainState::Drained);
    // One who comes later cannot know.
    story.past = None;
    story.expect(Verdict::UnreachableLag, DrainState::Stalled);
}

#[test]
fn a_commit_beyond_the_end_is_of_another_log() {
    let mut story = Story::at(101);
    let report = story.expect(Verdict::Recreated, DrainState::Stalled);
    assert!(
        report.deciding_partitions[0]
            .why
            .starts_with("the log ends at 100, before the commit")
    );
    story.log(0, 0, 0);
    story
        .after(5)
        .expect(Verdict::Recreated, DrainState::Stalled);
    story.log(0, 0, 101);
    story.after(5).expect(Verdict::Drained, DrainState::Drained);
}

#[test]
fn a_topic_with_another_id_is_another_log_until_something_is_committed_there() {
    let mut story = Story::at(50);
    story.check();
    story.topic().topic_id = TopicId([2; 16]);
    for _ in 0..2 {
        let report = story
            .after(5)
            .expect(Verdict::Recreated, DrainState::Stalled);
        let why = &report.deciding_partitions[0].why;
        assert!(
            why.starts_with("the topic was deleted and created anew: its id was AQEBAQ"),
            "{why}"
        );
        assert_eq!(report.total_lag, 100);
    }
    story.commit(0, 100);
    story.after(5).expect(Verdict::Drained, DrainState::Drained);
}

#[test]
fn a_commit_of_an_epoch_that_the_log_has_not_come_to_is_of_another_log() {
    let mut story = Story::at(50);
    story.commit_of(0, 100, 5);
    story.expect(Verdict::Drained, DrainState::Drained);
    story.commit_of(0, 100, 6);
    story
        .after(5)
        .expect(Verdict::Recreated, DrainState::Stalled);
}

#[test]
fn a_rebalance_is_a_verdict_of_its_own_and_begins_the_count_anew() {
    for state in [
        "PreparingRebalance",
        "CompletingRebalance",
        "Assigning",
        "Reconciling",
    ] {
        let mut story = Story::at(100);
        story.criteria.stable_checks = 2;
        story.check();
        story.state(state);
        let report = story
            .after(5)
            .expect(Verdict::Rebalancing, DrainState::Draining);
        assert_eq!(report.stable_checks, 0);
        assert!(
            report.reason.to_string().contains(state),
            "{}",
            report.reason
        );
        story.state("Stable");
        story
            .after(5)
            .expect(Verdict::Draining, DrainState::Draining);
        story.after(5).expect(Verdict::Drained, DrainState::Drained);
    }
}

#[test]
fn a_rebalance_between_two_checks_is_seen_by_its_traces() {
    let mut story = Story::at(100);
    story.criteria.stable_checks = 2;
    story.check();
    story.members(&["a", "b"]);
    assert_eq!(story.after(5).check().stable_checks, 1);
    story.group().description.as_mut().unwrap().epoch = Some(7);
    assert_eq!(story.after(5).check().stable_checks, 1);
    story.after(5).expect(Verdict::Drained, DrainState::Drained);
}

#[test]
fn a_topic_that_the_group_has_left_is_told_with_how_to_leave_it_out() {
    let mut story = Story::at(100);
    let old = story.seen.topics[TOPIC].clone();
    story.seen.topics.insert("old".to_owned(), old);
    story.group().topics.insert("old".to_owned());
    let commits = story.group().committed[TOPIC].clone();
    story.group().committed.insert("old".to_owned(), commits);
    let behind = Commit {
        offset: Offset(88),
        leader_epoch: LeaderEpoch(-1),
    };
    let commits = story.group().committed.get_mut("old").unwrap();
    commits.insert(PartitionId(0), behind);
    let told = "12 left in `old`, which no member of 1 reads: if the group has left that behind, name the \
                topics that count, or delete its offsets there";
    let report = story.expect(Verdict::Draining, DrainState::Draining);
    assert_eq!(report.reason.to_string(), told);
    let report = story
        .after(30)
        .expect(Verdict::Stalled, DrainState::Stalled);
    assert_eq!(report.reason.to_string(), told);
    // Where it reads what is left, it is the consumers' matter.
    story.commit(0, 90);
    story.check();
    let report = story.after(60).check();
    assert!(
        !report.reason.to_string().contains("which no member"),
        "{}",
        report.reason
    );
}

#[test]
fn a_group_that_cannot_be_looked_at_is_not_drained_and_what_is_known_of_it_stays() {
    let mut story = Story::at(50);
    story.check();
    let seen = story.group().clone();
    *story.group() = SeenGroup {
        unread: Some("its coordinator does not answer".to_owned()),
        ..SeenGroup::default()
    };
    let report = story
        .after(5)
        .expect(Verdict::Draining, DrainState::Unknown);
    let told = "it cannot be looked at at present: its coordinator does not answer";
    assert_eq!(report.reason.to_string(), told);
    // Its commits went back meanwhile, which is seen.
    *story.group() = seen;
    story.commit(0, 40);
    story
        .after(5)
        .expect(Verdict::Rewound, DrainState::Draining);
}

#[test]
fn a_group_that_does_nothing_but_rebalance_is_stalled_in_metrics() {
    let mut story = Story::at(50);
    story.state("PreparingRebalance");
    story.expect(Verdict::Rebalancing, DrainState::Draining);
    story
        .after(30)
        .expect(Verdict::Rebalancing, DrainState::Stalled);
}

#[test]
fn an_open_transaction_counts_unless_the_group_reads_committed_records() {
    let mut story = Story::at(80);
    story.log(0, 0, 100).last_stable = Offset(80);
    let report = story.expect(Verdict::Draining, DrainState::Draining);
    assert_eq!(report.total_lag, 20);
    let why = &report.deciding_partitions[0].why;
    assert!(
        why.contains("a transaction that is open from there on"),
        "{why}"
    );
    story.criteria.isolation = IsolationLevel::ReadCommitted;
    story.past = None;
    story.expect(Verdict::Drained, DrainState::Drained);
    assert_eq!(story.partitions[0].latest_offset, Offset(80));
    // It got further: it does not read as was said, and has consumed even more.
    story.commit(0, 90);
    story.after(5).expect(Verdict::Drained, DrainState::Drained);
    story.commit(0, 101);
    story
        .after(5)
        .expect(Verdict::Recreated, DrainState::Stalled);
}

fn by_time(commit: i64, moment: i64, ahead: Option<Ahead>) -> Story {
    let mut story = Story::at(commit);
    story.criteria.strategy = Consumed::Time(TimeBound::ProducedBefore(Timestamp(1_000)));
    let log = story.log(0, 0, 100);
    log.moment = Some(Offset(moment));
    log.ahead = ahead
        .map(|ahead| (Offset(commit), ahead))
        .into_iter()
        .collect();
    story
}

#[test]
fn by_time_what_is_young_enough_may_be_left() {
    let at = |time| Some(Ahead::Records(Some(Timestamp(time))));
    let drained = (Verdict::Drained, DrainState::Drained);
    let draining = (Verdict::Draining, DrainState::Draining);
    let cases = [
        ("young", 60, 60, at(1_000), drained),
        ("before the first young one", 59, 60, at(999), draining),
        (
            "a younger one was written before older ones",
            60,
            10,
            at(999),
            draining,
        ),
        ("nothing is as young", 99, 100, None, draining),
        ("nothing is left", 100, 100, None, drained),
        (
            "only markers are left",
            98,
            100,
            Some(Ahead::Nothing),
            drained,
        ),
        ("the record has no time", 60, 60, at(-1), draining),
        ("nobody looked", 60, 60, None, draining),
        (
            "nobody could look",
            60,
            60,
            Some(Ahead::Unread(String::new())),
            draining,
        ),
        (
            "nobody looked at the time",
            60,
            60,
            Some(Ahead::Records(None)),
            draining,
        ),
    ];
    for (what, commit, moment, ahead, (verdict, state)) in cases {
        let report = by_time(commit, moment, ahead).check();
        assert_eq!(
            (report.status, report.state),
            (verdict, state),
            "{what}: {}",
            report.reason
        );
    }
}

#[test]
fn by_time_the_age_is_counted_from_each_check() {
    let mut story = by_time(60, 60, Some(Ahead::Records(Some(Timestamp(20_000)))));
    story.criteria.strategy = Consumed::Time(TimeBound::YoungerThan(Duration::from_secs(10)));
    let report = story
        .after(30)
        .expect(Verdict::Drained, DrainState::Drained);
    assert_eq!(
        report.reason.to_string(),
        "the 40 left in 1 partition are young enough"
    );
    assert_eq!(
        story.partitions[0].oldest_unconsumed,
        DateTime::from_timestamp_millis(20_000)
    );
    story
        .after(1)
        .expect(Verdict::Draining, DrainState::Draining);
}

#[test]
fn by_time_a_group_without_members_that_has_something_left_is_stopped() {
    let mut story = by_time(60, 60, Some(Ahead::Records(Some(Timestamp(1_000)))));
    story.members(&[]);
    story.expect(Verdict::Stopped, DrainState::Stopped);
}

#[test]
fn by_time_what_was_never_committed_counts_as_well() {
    let mut story = by_time(60, 60, Some(Ahead::Records(Some(Timestamp(1_000)))));
    story.log(1, 0, 5).moment = Some(Offset(5));
    let report = story.expect(Verdict::Draining, DrainState::Draining);
    assert_eq!(report.total_lag, 45);
}

#[test]
fn a_group_that_the_observation_does_not_have_is_not_judged() {
    let story = Story::at(100);
    assert!(judge(&story.criteria, &story.seen, "other", None).is_none());
}

/// One partition as a check may find it.
#[derive(Debug, Clone)]
struct Found {
    start: i64,
    length: i64,
    stable: i64,
    commit: Option<i64>,
    is_clear: bool,
    topic: u8,
}

fn found() -> impl Strategy<Value = Found> {
    let commit = prop::option::weighted(0.8, 0..45_i64);
    (
        0..20_i64,
        0..20_i64,
        0..20_i64,
        commit,
        any::<bool>(),
        1..3_u8,
    )
        .prop_map(|(start, length, stable, commit, is_clear, topic)| Found {
            start,
            length,
            stable: stable.min(length),
            commit,
            is_clear,
            topic,
        })
}

proptest! {
    #[test]
    fn whatever_is_found_a_verdict_says_what_it_rests_on(
        checks in prop::collection::vec((prop::collection::vec(found(), 1..4), 0..3_usize, 0..4_usize, 0..40_i64), 1..6),
        max_lag in 0..10_u64,
        stable_checks in 1..3_u32,
        committed in any::<bool>(),
    ) {
        let mut story = Story::new();
        story.criteria.strategy = Consumed::Lag { max_lag };
        story.criteria.stable_checks = stable_checks;
        if committed {
            story.criteria.isolation = IsolationLevel::ReadCommitted;
        }
        for (number, (partitions, members, state, seconds)) in checks.into_iter().enumerate() {
            story.topic().partitions.clear();
            story.forget_commits();
            for (partition, found) in (0..).zip(&partitions) {
                let end = found.start + found.length;
                let log = story.log(partition, found.start, end);
                log.last_stable = Offset(found.start + found.stable);
                if found.is_clear {
                    let all = found.start..end;
                    log.ahead = all.map(|offset| (Offset(offset), Ahead::Nothing)).collect();
                }
                if let Some(commit) = found.commit {
                    story.commit(partition, commit);
                }
                story.topic().topic_id = TopicId([found.topic; 16]);
            }
            story.members(&["a", "b"][..members.min(2)]);
            if state == 3 {
                story.state("PreparingRebalance");
            }
            let report = story.after(seconds).check();

            let lags: u64 = story.partitions.iter().map(|partition| partition.lag).sum();
            prop_assert_eq!(report.total_lag, lags);
            prop_assert_eq!(report.partitions_checked, partitions.len() as u64);
            let has = |state| story.partitions.iter().any(|partition| partition.state == state);
            prop_assert_eq!(report.status == Verdict::Recreated, has(PartitionState::Recreated));
            if report.status == Verdict::Drained {
                prop_assert!(lags <= max_lag);
                prop_assert!(report.stable_checks >= stable_checks);
                prop_assert!(!has(PartitionState::Unreachable));
                // Later, a client that assigns partitions itself may have been seen to move.
                prop_assert!(lags == 0 || report.members > 0 || number > 0);
                prop_assert!(report.deciding_partitions.is_empty());
            } else if report.stable_checks == 0 && report.status != Verdict::Rebalancing {
                prop_assert!(!report.deciding_partitions.is_empty(), "{}", report.reason);
            }
            for partition in &story.partitions {
                let is_left = partition.lag > 0;
                let consumed = partition.state == PartitionState::Consumed;
                let lost = matches!(partition.state, PartitionState::Recreated | PartitionState::Unreachable);
                prop_assert!(lost || is_left != consumed);
                // No more is left than the log and what was deleted from it.
                let span = (partition.high_watermark.0 - partition.log_start_offset.0) as u64;
                prop_assert!(partition.lag <= span + partition.unreachable_offsets);
            }
            prop_assert_eq!(report.state == DrainState::Stopped && report.members > 0, false);
        }
    }
}
