//! What each fact does to a policy's state.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::ended_run::RunResult;
use super::protection::{
    Copying, Facts, GroupFacts, MOST_LAG, PolicyState, Protection, RepositoryFacts, Runs, judge,
    rough,
};
use crate::engine::drain::DrainState;

const DAY: TimeDelta = TimeDelta::days(1);

fn now() -> DateTime<Utc> {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

/// Runs of which the last succeeded an hour ago, with a `max_age` of a day.
fn good_runs() -> Runs<'static> {
    let success = now() - TimeDelta::hours(1);
    Runs {
        are_scheduled: true,
        last_success_at: Some(success),
        overdue_at: Some(success + DAY),
        max_age: Some(Duration::from_secs(86_400)),
        failed: None,
        retrying: None,
    }
}

/// Runs of which the last succeeded this long ago.
fn succeeded(ago: TimeDelta) -> Runs<'static> {
    Runs {
        last_success_at: Some(now() - ago),
        overdue_at: Some(now() - ago + DAY),
        ..good_runs()
    }
}

fn backup<'a>(runs: Runs<'a>, repository: RepositoryFacts<'a>) -> Facts<'a> {
    Facts::Backup {
        runs,
        expire_error: None,
        repository,
    }
}

/// A mirror that copies all the time.
fn mirror<'a>(runs: Runs<'a>, copying: Copying<'a>) -> Facts<'a> {
    let runs = Runs {
        are_scheduled: false,
        ..runs
    };
    Facts::Mirror { runs, copying }
}

fn copying() -> Copying<'static> {
    Copying {
        partitions: 12,
        stopped: 0,
        why: None,
        lag: TimeDelta::seconds(2),
    }
}

#[track_caller]
fn expect(facts: &Facts<'_>, state: PolicyState, reason: &str) {
    let Protection {
        state: is,
        reason: why,
    } = judge(facts, now());
    assert_eq!((is, why.as_str()), (state, reason), "{facts:?}");
}

#[test]
fn a_backup_policy_is_judged_by_its_last_success_and_by_how_its_runs_go() {
    use PolicyState::{AtRisk, Protected, Unknown, Unprotected};
    let failed = |result, why| Some((result, why));
    let table = [
        (good_runs(), Protected, "its last success was 1h ago"),
        (succeeded(DAY), Protected, "its last success was 1d ago"),
        (
            succeeded(DAY + TimeDelta::seconds(1)),
            Unprotected,
            "its last success was 1d ago, max_age is 1day",
        ),
        (
            Runs {
                max_age: None,
                ..succeeded(TimeDelta::days(3))
            },
            Unprotected,
            "its last success was 3d ago, two runs have been due since then",
        ),
        (
            Runs {
                last_success_at: None,
                overdue_at: None,
                ..good_runs()
            },
            Unprotected,
            "it has never succeeded",
        ),
        (
            succeeded(-TimeDelta::hours(2)),
            Unknown,
            "its last success lies 2h in the future: set the clock right",
        ),
        (
            succeeded(-TimeDelta::minutes(4)),
            Protected,
            "its last success was 0s ago",
        ),
        (
            Runs {
                overdue_at: None,
                max_age: None,
                ..good_runs()
            },
            Unknown,
            "it is suspended, and without max_age nothing says how old its last success may be",
        ),
        (
            Runs {
                retrying: Some("Connection refused"),
                ..good_runs()
            },
            AtRisk,
            "it is tried again: Connection refused",
        ),
        (
            Runs {
                failed: failed(RunResult::Failed, Some("no topic `orders`")),
                ..good_runs()
            },
            AtRisk,
            "the last run failed: no topic `orders`",
        ),
        (
            Runs {
                failed: failed(RunResult::Incomplete, None),
                ..good_runs()
            },
            AtRisk,
            "the last run is incomplete",
        ),
        (
            Runs {
                failed: failed(RunResult::Cancelled, Some("stopped")),
                retrying: Some("Connection refused"),
                ..succeeded(TimeDelta::hours(76))
            },
            Unprotected,
            "its last success was 3d 4h ago, max_age is 1day; the last run was cancelled: stopped; \
             it is tried again: Connection refused",
        ),
    ];
    for (runs, state, reason) in table {
        expect(&backup(runs, RepositoryFacts::Well), state, reason);
    }
}

#[test]
fn a_backup_policy_is_judged_by_its_repository() {
    let with = |repository| backup(good_runs(), repository);
    expect(
        &with(RepositoryFacts::Unreadable("it is gone")),
        PolicyState::Unprotected,
        "its repository cannot be read: it is gone",
    );
    expect(
        &with(RepositoryFacts::Unwritable("Read-only file system")),
        PolicyState::AtRisk,
        "its repository cannot be written: Read-only file system",
    );
    expect(
        &with(RepositoryFacts::Losses(1, 2)),
        PolicyState::AtRisk,
        "its repository has lost 1 backup(s) and 2 pack(s): kafkeep verify names what is damaged",
    );
    let never = Runs {
        last_success_at: None,
        ..good_runs()
    };
    // What it holds is not known before it is loaded.
    expect(
        &backup(never, RepositoryFacts::Loading(Some("it hangs"))),
        PolicyState::Unknown,
        "its repository is still being loaded: it hangs",
    );
    let old = backup(succeeded(DAY * 9), RepositoryFacts::Loading(None));
    assert_eq!(judge(&old, now()).state, PolicyState::Unprotected);
    let full = Facts::Backup {
        runs: good_runs(),
        expire_error: Some("a manifest is damaged"),
        repository: RepositoryFacts::Well,
    };
    expect(
        &full,
        PolicyState::AtRisk,
        "old backups cannot be expired: a manifest is damaged",
    );
}

#[test]
fn a_mirror_is_judged_by_what_it_copies_now() {
    let never = Runs::default();
    let why = Some("orders-3: the source's topic was deleted and created again");
    let stopped = Copying {
        stopped: 2,
        why,
        ..copying()
    };
    expect(
        &mirror(never.clone(), copying()),
        PolicyState::Protected,
        "12 partitions are mirrored, 2s behind",
    );
    expect(
        &mirror(never.clone(), stopped),
        PolicyState::Unprotected,
        "2 of 12 partitions have permanently stopped: \
         orders-3: the source's topic was deleted and created again",
    );
    let behind = Copying {
        lag: MOST_LAG + TimeDelta::seconds(1),
        ..copying()
    };
    expect(
        &mirror(never.clone(), behind),
        PolicyState::AtRisk,
        "it is 10m 1s behind its source",
    );
    let retrying = Runs {
        retrying: Some("Connection refused"),
        ..never.clone()
    };
    expect(
        &mirror(retrying.clone(), copying()),
        PolicyState::AtRisk,
        "it is tried again: Connection refused",
    );
    expect(
        &mirror(retrying, Copying::default()),
        PolicyState::Unprotected,
        "nothing has been mirrored since the daemon started; it is tried again: Connection refused",
    );
    expect(
        &mirror(never, Copying::default()),
        PolicyState::Unknown,
        "nothing is mirrored yet: it has just begun, or no topic matches",
    );
    let scheduled = Facts::Mirror {
        runs: succeeded(DAY * 2),
        copying: Copying::default(),
    };
    assert_eq!(judge(&scheduled, now()).state, PolicyState::Unprotected);
}

#[test]
fn a_drain_is_judged_by_its_group() {
    let table = [
        (DrainState::Drained, PolicyState::Protected),
        (DrainState::Draining, PolicyState::Protected),
        (DrainState::Stalled, PolicyState::AtRisk),
        (DrainState::Stopped, PolicyState::AtRisk),
        (DrainState::Empty, PolicyState::Protected),
        (DrainState::Unknown, PolicyState::Unknown),
    ];
    assert_eq!(table.map(|(group, _)| group), DrainState::ALL);
    for (group, state) in table {
        let facts = Facts::Drain(GroupFacts::Seen(group, "as the check says"));
        expect(&facts, state, "as the check says");
    }
    let stuck = Facts::Drain(GroupFacts::PartlyStuck("990 left that no member reads"));
    expect(&stuck, PolicyState::AtRisk, "990 left that no member reads");
    let unreadable = Facts::Drain(GroupFacts::Unreadable("Connection refused"));
    let reason = "its group cannot be checked: Connection refused";
    expect(&unreadable, PolicyState::Unknown, reason);
    let new = Facts::Drain(GroupFacts::NotSeen);
    expect(&new, PolicyState::Unknown, "its group was not checked yet");
}

#[test]
fn times_are_said_in_their_two_largest_units() {
    for (seconds, said) in [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (61, "1m 1s"),
        (3_600, "1h"),
        (93_600, "1d 2h"),
        (-5, "0s"),
    ] {
        assert_eq!(rough(TimeDelta::seconds(seconds)), said);
    }
}

/// One thing that is wrong, done to the facts of a policy that is protected.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    NeverSucceeded,
    TooOld(i64),
    InFuture(i64),
    Failed,
    Retrying,
    ExpireFailed,
    Unreadable,
    Unwritable,
    Lost(usize, usize),
    Loading,
}

fn wrong() -> impl Strategy<Value = Wrong> {
    prop_oneof![
        Just(Wrong::NeverSucceeded),
        (86_401..10_000_000i64).prop_map(Wrong::TooOld),
        (301..10_000_000i64).prop_map(Wrong::InFuture),
        Just(Wrong::Failed),
        Just(Wrong::Retrying),
        Just(Wrong::ExpireFailed),
        Just(Wrong::Unreadable),
        Just(Wrong::Unwritable),
        (0..3usize, 1..3usize).prop_map(|(backups, packs)| Wrong::Lost(backups, packs)),
        Just(Wrong::Loading),
    ]
}

proptest! {
    #[test]
    fn a_policy_is_protected_exactly_when_nothing_is_wrong(wrongs in prop::collection::vec(wrong(), 0..4)) {
        let (mut runs, mut expire_error, mut repository) = (good_runs(), None, RepositoryFacts::Well);
        for wrong in &wrongs {
            match *wrong {
                Wrong::NeverSucceeded => {
                    runs.last_success_at = None;
                    repository = RepositoryFacts::Well;
                }
                Wrong::TooOld(seconds) => {
                    runs = Runs { failed: runs.failed, retrying: runs.retrying, ..succeeded(TimeDelta::seconds(seconds)) };
                }
                Wrong::InFuture(seconds) => {
                    runs = Runs { failed: runs.failed, retrying: runs.retrying, ..succeeded(TimeDelta::seconds(-seconds)) };
                }
                Wrong::Failed => runs.failed = Some((RunResult::Failed, Some("x"))),
                Wrong::Retrying => runs.retrying = Some("x"),
                Wrong::ExpireFailed => expire_error = Some("x"),
                Wrong::Unreadable => repository = RepositoryFacts::Unreadable("x"),
                Wrong::Unwritable => repository = RepositoryFacts::Unwritable("x"),
                Wrong::Lost(backups, packs) => repository = RepositoryFacts::Losses(backups, packs),
                Wrong::Loading => repository = RepositoryFacts::Loading(None),
            }
        }
        let facts = Facts::Backup { runs, expire_error, repository };
        let judged = judge(&facts, now());
        prop_assert_eq!(judged.state == PolicyState::Protected, wrongs.is_empty(), "{:?}", judged);
        prop_assert!(!judged.reason.is_empty());
    }
}
