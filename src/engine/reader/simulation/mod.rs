//! The reader under scripted leaders, in paused time, by seeds: it ends, every batch is passed on once and in order, the
//! budget is kept and whole again afterwards, and nobody starves.
//!
//! `KAFKEEP_SEED` runs one seed alone, `KAFKEEP_SEEDS` another number of them.

mod run;
mod world;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::memory::{MemoryBudget, SMALLEST_BUDGET};
use run::{Fate, Run};

/// Longer than anything waits for an answer, a slot or another try.
const STALLED_AFTER: Duration = Duration::from_secs(3600);

/// Runs scenes with these numbers of leaders, each seed in a runtime of its own.
fn play(leaders: &'static [usize], seeds: u64) {
    let only = std::env::var("KAFKEEP_SEED").map(|seed| seed.parse::<u64>().unwrap());
    let count = std::env::var("KAFKEEP_SEEDS").map_or(seeds, |count| count.parse().unwrap());
    let seeds = match only {
        Ok(seed) => seed..seed + 1,
        Err(_) => 0..count,
    };
    let halves = [0, 1].map(|half| {
        let seeds = seeds.clone().filter(move |seed| seed % 2 == half);
        std::thread::spawn(move || seeds.for_each(|seed| play_one(leaders, seed)))
    });
    for half in halves {
        half.join().expect("a seed failed, see above");
    }
}

fn play_one(leaders: &[usize], seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(scene(leaders, seed));
    }));
    if played.is_err() {
        panic!("the seed that failed: KAFKEEP_SEED={seed}");
    }
}

/// Several runs on one budget.
async fn scene(leaders: &[usize], seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let budget = match random.random_range(0..4) {
        0 | 1 => SMALLEST_BUDGET,
        2 => SMALLEST_BUDGET + random.random_range(0..SMALLEST_BUDGET),
        _ => random.random_range(SMALLEST_BUDGET..48 << 20),
    };
    let budget = MemoryBudget::new(budget);
    let count = leaders[random.random_range(0..leaders.len())];
    let runs = match random.random_range(0..3) {
        0 => random.random_range(2..=4),
        _ => 1,
    };
    let runs: Vec<Run> = (0..runs)
        .map(|_| Run::new(&mut random, &budget, count))
        .collect();
    // One whose sink is stuck must keep nobody from ending.
    let is_stuck = |run: &Run| matches!(run.fate, Fate::Stuck);
    let (stuck, free): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(is_stuck);
    let worlds: Vec<_> = free.iter().map(Run::world).collect();
    let fates: Vec<Fate> = free.iter().chain(&stuck).map(|run| run.fate).collect();
    let free = futures_util::future::join_all(free.into_iter().map(Run::play));
    let stuck = futures_util::future::join_all(stuck.into_iter().map(Run::play));
    let mut stuck = Box::pin(stuck);
    let ends = async {
        let mut free = std::pin::pin!(free);
        let mut stuck_ended = false;
        loop {
            tokio::select! {
                _ = &mut free => break,
                _ = &mut stuck, if !stuck_ended => stuck_ended = true,
            }
        }
    };
    let mut ends = Box::pin(ends);
    let mut before = 0;
    while tokio::time::timeout(STALLED_AFTER, &mut ends)
        .await
        .is_err()
    {
        let batches = worlds.iter().map(|world| world.batches()).sum();
        let held = budget.held();
        assert!(
            batches > before,
            "nothing moves after {batches} batches: {held} of {} bytes are held by {fates:?}",
            budget.bytes()
        );
        before = batches;
    }
    drop(ends);
    drop(stuck);
    assert_eq!(budget.held(), 0, "memory is not given back");
    assert!(budget.is_unused(), "a run or a slot is still taken");
}

#[test]
fn up_to_eight_leaders_are_read_whatever_happens() {
    play(&[1, 2, 3, 6, 8], 10_000);
}

#[test]
fn fifty_leaders_are_read_whatever_happens() {
    play(&[50], 200);
}

#[test]
fn a_thousand_leaders_are_read_whatever_happens() {
    play(&[1_000], 20);
}
