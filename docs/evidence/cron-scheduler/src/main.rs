//! When tokio-cron-scheduler 0.15.1 starts a one-shot job. `run.sh` runs all of it.
//!
//! Without arguments: jobs for fractions of a second. With a file of libfaketime's and an offset such as `-8s`: a job for in
//! three seconds, beside `tokio::time::sleep`, while the wall clock is set by that offset after one second.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// Longer than any job here should wait.
const LIMIT: Duration = Duration::from_secs(30);

/// In how many seconds a job started that was asked for in `wait`, as the monotonic clock counts; [`LIMIT`] if it did not.
async fn started_after(scheduler: &JobScheduler, wait: Duration) -> Result<f64, JobSchedulerError> {
    let (start, started) = oneshot::channel();
    let mut start = Some(start);
    let asked = Instant::now();
    let job = Job::new_one_shot(wait, move |_, _| {
        if let Some(start) = start.take() {
            start.send(asked.elapsed()).ok();
        }
    })?;
    scheduler.add(job).await?;
    let after = timeout(LIMIT, started).await;
    Ok(after
        .map_or(LIMIT, |after| after.unwrap_or(LIMIT))
        .as_secs_f64())
}

/// Whole seconds are counted, from the second in which the job was asked for.
async fn fractions(scheduler: &JobScheduler) -> Result<(), JobSchedulerError> {
    println!("{:<10} {:<16} started after", "asked for", "at second's");
    for (n, wait) in (0..).zip([0.4, 1.4, 1.4, 1.4, 2.6]) {
        // Each is asked for in another part of the second.
        sleep(Duration::from_millis(170 * n)).await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = now.unwrap_or_default().subsec_millis();
        let after = started_after(scheduler, Duration::from_secs_f64(wait)).await?;
        println!(
            "{:<10} {:<16} {after:.2} s",
            format!("{wait} s"),
            format!(".{at:03}")
        );
    }
    Ok(())
}

/// The wall clock is set while a job waits.
async fn clock_set(
    scheduler: &JobScheduler,
    file: String,
    offset: String,
) -> Result<(), JobSchedulerError> {
    let set = tokio::spawn({
        let offset = offset.clone();
        async move {
            sleep(Duration::from_secs(1)).await;
            fs::write(file, offset + "\n")
        }
    });
    let wait = Duration::from_secs(3);
    let asked = Instant::now();
    let slept = tokio::spawn(async move {
        sleep(wait).await;
        asked.elapsed().as_secs_f64()
    });
    let after = started_after(scheduler, wait).await?;
    let slept = slept.await.unwrap_or_default();
    assert!(matches!(set.await, Ok(Ok(()))), "the clock was not set");
    println!(
        "asked for 3 s, the clock set by {offset} meanwhile: the job started after {after:.1} s, a sleep ended after {slept:.1} s"
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    scheduler.start().await?;
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(file), Some(offset)) => clock_set(&scheduler, file, offset).await,
        _ => fractions(&scheduler).await,
    }
}
