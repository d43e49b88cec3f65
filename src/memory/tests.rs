use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;

async fn waits<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(SECOND, future).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_request_for_more_than_is_free_gets_less() {
    let budget = MemoryBudget::new(10 * MIB);
    let run = budget.run();
    let all = run.reserve(100 * MIB).await;
    assert_eq!(all.bytes(), 8 * MIB);
    assert!(waits(run.reserve(1)).await, "the rest is for others");
    let other = budget.run();
    let part = other.reserve(MIB).await;
    assert_eq!(part.bytes(), MIB);
    drop(all);
    drop(part);
    assert_eq!(budget.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn runs_whose_sinks_are_stuck_leave_something_for_the_next() {
    let budget = MemoryBudget::new(256 * MIB);
    let mut stuck = Vec::new();
    for _ in 0..6 {
        let run = budget.run();
        let reservation = tokio::time::timeout(SECOND, run.reserve(u64::MAX)).await;
        let reservation = reservation.unwrap();
        assert!(reservation.bytes() >= SMALLEST_REQUEST);
        stuck.push((run, reservation));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_beyond_the_budget_is_let_through_alone() {
    let budget = MemoryBudget::new(SMALLEST_BUDGET);
    let run = budget.run();
    let large = run.reserve_whole(100 * MIB).await;
    assert_eq!(budget.held(), 0, "it does not count");
    let ordinary = run.reserve(MIB).await;
    let other = budget.run();
    assert!(waits(other.reserve_whole(100 * MIB)).await);
    let made = run.reserve_made(200 * MIB).await;
    assert!(waits(other.reserve_made(200 * MIB)).await);
    drop((large, made));
    drop(other.reserve_whole(100 * MIB).await);
    drop(ordinary);
}

#[tokio::test(start_paused = true)]
async fn a_whole_batch_is_taken_from_the_budget_where_it_fits() {
    let budget = MemoryBudget::new(SMALLEST_BUDGET);
    let run = budget.run();
    let one = run.reserve_whole(3 * MIB).await;
    assert_eq!(budget.held(), 3 * MIB);
    let other = run.reserve_whole(MIB).await;
    assert_eq!(budget.held(), 3 * MIB, "the slot is free");
    drop((one, other));
    assert_eq!(budget.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn runs_take_turns() {
    let budget = MemoryBudget::new(SMALLEST_BUDGET);
    let all = [(); 4].map(|()| budget.run().try_reserve(u64::MAX));
    let served = Arc::new(Mutex::new(String::new()));
    let (first, second) = (budget.run(), budget.run());
    for (name, run) in [
        ('a', &first),
        ('a', &first),
        ('a', &first),
        ('b', &second),
        ('b', &second),
    ] {
        let (served, run) = (Arc::clone(&served), run.clone());
        tokio::spawn(async move {
            let _reservation = run.reserve(SMALLEST_REQUEST).await;
            served.lock().unwrap().push(name);
            tokio::time::sleep(SECOND).await;
        });
    }
    tokio::time::sleep(SECOND).await;
    assert!(
        served.lock().unwrap().is_empty(),
        "nothing is left for them"
    );
    drop(all);
    tokio::time::sleep(20 * SECOND).await;
    let served = served.lock().unwrap();
    assert!(
        ["abaab", "babaa", "ababa"].contains(&served.as_str()),
        "{served}"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_waiting_keeps_nobody_waiting() {
    let budget = MemoryBudget::new(10 * MIB);
    let run = budget.run();
    let all = run.reserve(8 * MIB).await;
    assert!(waits(run.reserve(8 * MIB)).await);
    assert!(!waits(run.reserve_whole(8 * MIB)).await, "the slot is free");
    drop(all);
    assert_eq!(run.reserve(8 * MIB).await.bytes(), 8 * MIB);
    assert!(run.try_reserve(MIB).is_some());
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_without_waiting_what_others_wait_for() {
    let budget = MemoryBudget::new(10 * MIB);
    let run = budget.run();
    let all = run.reserve(8 * MIB).await;
    let mut waiting = std::pin::pin!(run.reserve(MIB));
    assert!(waits(&mut waiting).await);
    let other = budget.run();
    assert!(other.try_reserve(MIB).is_none());
    drop(all);
    assert_eq!(waiting.await.bytes(), MIB);
    assert!(other.try_reserve(MIB).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_smaller_budget_is_kept_as_soon_as_enough_is_given_back() {
    let budget = MemoryBudget::new(20 * MIB);
    let run = budget.run();
    let all = run.reserve(16 * MIB).await;
    budget.resize(10 * MIB);
    assert!(waits(run.reserve(MIB)).await);
    drop(all);
    assert_eq!(run.reserve(u64::MAX).await.bytes(), 8 * MIB);
}

#[test]
fn a_thread_may_wait_for_memory() {
    let budget = MemoryBudget::new(SMALLEST_BUDGET);
    let run = budget.run();
    let first = run.reserve_whole_blocking(100 * MIB);
    let waiting = std::thread::spawn(move || run.reserve_whole_blocking(100 * MIB).bytes());
    std::thread::sleep(Duration::from_millis(20));
    drop(first);
    assert_eq!(waiting.join().unwrap(), 100 * MIB);
    assert!(budget.is_unused());
}
