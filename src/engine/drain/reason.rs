//! Verdicts in words, with what to do about them.

use std::collections::BTreeSet;

use crate::engine::open_transactions;
use crate::engine::refusal::{Advice, Part, Refusal};
use crate::kafka::{GroupMember, TopicPartition};

use super::Verdict;
use super::case::Case;
use super::criteria::Strategy;
use super::history::Pace;
use super::observation::Ahead;
use super::row::{Row, whole_seconds};
use super::standing::{Replaced, Standing};

/// Why the verdict is what it is.
pub(super) fn of(case: &Case<'_>, verdict: Verdict, deciding: &[&Row<'_>], pace: &Pace) -> Refusal {
    match verdict {
        Verdict::UnknownGroup => unknown(case),
        verdict => of_known(case, verdict, deciding, pace).into(),
    }
}

/// The same of a group that is there.
fn of_known(case: &Case<'_>, verdict: Verdict, deciding: &[&Row<'_>], pace: &Pace) -> String {
    if let Some(why) = &case.group.unread {
        return format!("it cannot be looked at at present: {why}");
    }
    let partitions = counted(deciding.len(), "partition");
    if matches!(verdict, Verdict::Stalled | Verdict::Draining)
        && let Some(reason) = unread_topics(case, deciding)
    {
        return reason;
    }
    match verdict {
        Verdict::Drained => drained(case),
        Verdict::Rebalancing => rebalancing(case),
        Verdict::Draining => draining(case, pace),
        Verdict::Stalled => {
            let stills = deciding.iter().map(|row| whole_seconds(row.still_for()));
            format!(
                "{}, and no progress in {partitions} for {} s: look at what the consumers do",
                counted(case.members().len(), "member"),
                stills.min().unwrap_or(0),
            )
        }
        Verdict::Stopped
            if deciding
                .iter()
                .all(|row| Case::is_held_back(row, case.criteria.isolation)) =>
        {
            format!(
                "it has no members, and in {partitions} it stands where a transaction is open: wait until that ends"
            )
        }
        Verdict::Stopped => "it has no members, and nobody commits: start its consumers".to_owned(),
        Verdict::NeverCommitted => never_committed(case, &partitions),
        Verdict::Rewound => {
            format!(
                "its commits went back in {partitions}: what lies behind them is consumed again"
            )
        }
        Verdict::UnreachableLag => format!(
            "in {partitions} records were deleted before it consumed them: they are lost to it; \
             it goes on when its offsets are set to where the logs begin"
        ),
        Verdict::Recreated => format!(
            "in {partitions} it has committed on another log than there is now: its offsets mean nothing there; \
             set them anew"
        ),
        Verdict::UnknownGroup => UNKNOWN.to_owned(),
    }
}

/// Where all that is left lies in topics that none of its members reads, as after a group has left a topic.
fn unread_topics(case: &Case<'_>, deciding: &[&Row<'_>]) -> Option<String> {
    let assigned = case
        .members()
        .iter()
        .flat_map(|member| member.assignment.keys());
    let read: BTreeSet<&str> = assigned.map(String::as_str).collect();
    let left: BTreeSet<&str> = deciding.iter().map(|row| row.topic).collect();
    let is_within_bounds = case.stable_checks > 0;
    if is_within_bounds || read.is_empty() || left.is_empty() || !left.is_disjoint(&read) {
        return None;
    }
    let topics: Vec<String> = left.iter().map(|topic| format!("`{topic}`")).collect();
    let lag = deciding
        .iter()
        .map(|row| row.lag)
        .fold(0, u64::saturating_add);
    Some(format!(
        "{lag} left in {}, which no member of {} reads: if the group has left that behind, name the topics that count, \
         or delete its offsets there",
        topics.join(", "),
        case.members().len(),
    ))
}

fn rebalancing(case: &Case<'_>) -> String {
    let description = case.group.description.as_ref();
    let state = description.map_or("", |found| found.state.as_str());
    let members = counted(case.members().len(), "member");
    format!("its {members} are finding out who reads what ({state})")
}

fn never_committed(case: &Case<'_>, partitions: &str) -> String {
    if case.rows.is_empty() {
        return "it has committed nothing, and no member has been given a partition: name its topics".to_owned();
    }
    let who = match case.members().len() {
        0 => "it has no members".to_owned(),
        members => format!("it has {}", counted(members, "member")),
    };
    format!("it has never committed in {partitions} with records, and has consumed the rest; {who}")
}

const UNKNOWN: &str =
    "there is no such group, or it has been away for so long that its offsets are gone";

fn unknown(case: &Case<'_>) -> Refusal {
    let unknown = Refusal::new(UNKNOWN).of(Part::Group, case.name);
    match &case.group.similar {
        Some(name) => unknown.advise(Advice::DidYouMean(name.clone())),
        None => unknown,
    }
}

fn drained(case: &Case<'_>) -> String {
    let partitions = counted(case.rows.len(), "partition");
    let away = match case.members().len() {
        0 => "; it has no members any more",
        _ => "",
    };
    let left = case.total_lag;
    match case.criteria.strategy {
        _ if left == 0 => format!("all is consumed in {partitions}{away}"),
        Strategy::Lag { max_lag } => {
            format!("{left} left in {partitions}, within the {max_lag} that may be")
        }
        Strategy::Time(_) => format!("the {left} left in {partitions} are young enough"),
    }
}

fn draining(case: &Case<'_>, pace: &Pace) -> String {
    if case.stable_checks > 0 {
        let (is, wanted) = (case.stable_checks, case.criteria.stable_checks);
        return format!("within its bounds in {is} of {wanted} checks in a row");
    }
    let Some((consumed, arriving)) = pace.per_second() else {
        return "how fast, one check does not tell".to_owned();
    };
    let stuck = case.stuck();
    if consumed > 0.0 && !stuck.is_empty() {
        return format!(
            "{consumed:.0} records/s, but {}",
            never_drained(case, &stuck)
        );
    }
    match case.eta_seconds(pace) {
        _ if consumed <= 0.0 => {
            let still = case.left().map(|row| whole_seconds(row.still_for())).min();
            let limit = case.criteria.stall_after.as_secs();
            format!(
                "no progress for {} s; it counts as stalled after {limit} s",
                still.unwrap_or(0)
            )
        }
        Some(seconds) => format!("{consumed:.0} records/s, and {seconds} s to go"),
        None => format!("{consumed:.0} records/s, but {arriving:.0} records/s arrive"),
    }
}

/// What will not be consumed while the rest is.
fn never_drained(case: &Case<'_>, stuck: &[&Row<'_>]) -> String {
    let lag = stuck.iter().map(|row| row.lag);
    let lag = lag.fold(0, u64::saturating_add);
    let partitions = counted(stuck.len(), "partition");
    let is_unread = |row: &&Row<'_>| row.member.is_none() && !case.members().is_empty();
    let why = match stuck.iter().all(is_unread) {
        true => "that no member reads".to_owned(),
        false => {
            let stills = stuck.iter().map(|row| whole_seconds(row.still_for()));
            format!("without progress for {} s", stills.min().unwrap_or(0))
        }
    };
    format!("{lag} left in {partitions} {why}: it will not drain like this")
}

/// What it is about a partition.
pub(super) fn why(case: &Case<'_>, row: &Row<'_>) -> String {
    let mut why = match row.standing {
        Standing::Recreated(Replaced::Topic(before)) => {
            format!("the topic was deleted and created anew: its id was {before}")
        }
        Standing::Recreated(Replaced::End) => format!(
            "the log ends at {}, before the commit: the topic was created anew, or the log was cut off",
            row.log.high_watermark
        ),
        Standing::Recreated(Replaced::Epoch(epoch)) => format!(
            "the commit is of leader epoch {epoch}, the log of {}: the topic was created anew",
            row.log.leader_epoch
        ),
        Standing::Unreachable(lost) => {
            format!(
                "the log begins at {}, {lost} offsets behind the commit",
                row.log.start
            )
        }
        Standing::NeverCommitted(_) => match row.past.and_then(|past| past.committed) {
            Some(before) => format!("its commit at {before} is gone"),
            None => "never committed here".to_owned(),
        },
        _ => match row.now.rewound_from {
            Some(from) => format!("the commit went back from {from}"),
            None if row.past.is_some() => {
                format!("not moved for {} s", whole_seconds(row.still_for()))
            }
            None => "not consumed".to_owned(),
        },
    };
    if let Some(commit) = row.commit {
        why += &format!("; committed {} of {}", commit.offset, row.end);
    }
    if let Some(reader) = row.member {
        why += &format!("; read by {}", member(reader));
    } else if !case.members().is_empty() {
        why += "; no member reads it";
    }
    if Case::is_held_back(row, case.criteria.isolation) && row.log.open.is_empty() {
        why += "; a transaction that is open from there on may hold it back";
    }
    if let Some(note) = note(row) {
        why += &format!("; {note}");
    }
    why
}

/// What could not be found out about a partition, or is odd about it.
pub(super) fn note(row: &Row<'_>) -> Option<String> {
    let unread = match row.standing.ahead(row.log) {
        Some(Ahead::Unread(reason)) => Some(reason.clone()),
        _ => None,
    };
    let key = TopicPartition {
        topic: row.topic.to_owned(),
        partition: row.partition,
    };
    let open = open_transactions::tell(&key, &row.log.open, row.at);
    let notes: Vec<String> = unread.into_iter().chain(open).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// A member as people know it.
pub(super) fn member(member: &GroupMember) -> String {
    format!(
        "{} at {}",
        member.client_id,
        member.host.trim_start_matches('/')
    )
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
