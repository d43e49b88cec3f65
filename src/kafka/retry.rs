//! Trying again: with growing pauses, until a deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::KafkaError;

/// How long to try again what failed in passing.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// The first pause; each next one is twice as long.
    pub initial: Duration,
    /// The longest pause between two tries.
    pub max: Duration,
    /// When to give up, counted from the last success.
    pub deadline: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
            deadline: Self::DEADLINE,
        }
    }
}

impl Retry {
    /// The usual deadline: a cluster may be away for more than a minute.
    pub const DEADLINE: Duration = Duration::from_secs(120);

    /// How long a broker may be silent while it owes an answer: a sixth of the deadline, so that a frozen one leaves
    /// time for others to take its place and to be asked instead.
    pub fn patience(&self) -> Duration {
        (self.deadline / 6).clamp(Duration::from_secs(1), Duration::from_secs(40))
    }

    /// The pause before the next try, after `attempts` that failed: doubling, with a fifth of jitter.
    pub fn backoff(&self, attempts: u32) -> Duration {
        let doubled = self
            .initial
            .saturating_mul(1 << attempts.min(16))
            .min(self.max);
        doubled.mul_f64(rand::rng().random_range(0.8..1.2))
    }

    /// What is to be said at the deadline: how long all tries together met with silence, not the last one alone.
    fn given_up(&self, last: Option<KafkaError>) -> KafkaError {
        match last {
            None | Some(KafkaError::Timeout { .. }) => KafkaError::Unanswered {
                seconds: self.deadline.as_secs(),
            },
            Some(error) => error,
        }
    }

    /// Runs `work` until it succeeds, fails for good, or the deadline has passed.
    pub async fn run<T, F: Future<Output = Result<T, KafkaError>>>(
        &self,
        mut work: impl FnMut() -> F,
    ) -> Result<T, KafkaError> {
        let started = Instant::now();
        let mut attempts = 0;
        let mut last = None;
        loop {
            let left = self.deadline.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, work()).await {
                Ok(Err(error)) if error.is_transient() => {
                    let pause = self.backoff(attempts);
                    if started.elapsed() + pause > self.deadline {
                        return Err(self.given_up(Some(error)));
                    }
                    tracing::debug!(%error, "trying again");
                    tokio::time::sleep(pause).await;
                    attempts += 1;
                    last = Some(error);
                }
                Ok(outcome) => return outcome,
                Err(_) => {
                    return Err(self.given_up(last));
                }
            }
        }
    }
}

impl Retry {
    /// Asks for each of `keys` until its answer is no passing failure, or the deadline has passed; then the last failure stands as
    /// its answer. `ask` is given those that are left. One that it gives no answer for is asked for again, and is `missing` in
    /// the end.
    ///
    /// # Errors
    ///
    /// What `ask` fails with as a whole, for good, or up to the deadline without an answer for any.
    pub async fn run_each<K: Ord + Clone, V, F>(
        &self,
        keys: &[K],
        missing: impl Fn(&K) -> KafkaError,
        mut ask: impl FnMut(Vec<K>) -> F,
    ) -> Result<BTreeMap<K, Result<V, KafkaError>>, KafkaError>
    where
        F: Future<Output = Result<BTreeMap<K, Result<V, KafkaError>>, KafkaError>>,
    {
        let started = Instant::now();
        let mut answers = BTreeMap::new();
        let mut left = keys.to_vec();
        let mut attempts = 0;
        loop {
            let failed = match ask(left.clone()).await {
                Ok(found) => {
                    answers.extend(found);
                    None
                }
                Err(error) if error.is_transient() => Some(error),
                Err(error) => return Err(error),
            };
            let passes = |answer: &Result<V, KafkaError>| {
                answer.as_ref().is_err_and(KafkaError::is_transient)
            };
            left.retain(|key| answers.get(key).is_none_or(passes));
            let pause = self.backoff(attempts);
            if failed.is_none() && left.is_empty() {
                break;
            }
            if started.elapsed() + pause > self.deadline {
                match failed {
                    Some(error) if answers.is_empty() => return Err(self.given_up(Some(error))),
                    _ => break,
                }
            }
            if let Some(error) = failed {
                tracing::debug!(%error, "trying again");
            }
            tokio::time::sleep(pause).await;
            attempts += 1;
        }
        for key in left {
            let error = || Err(missing(&key));
            answers.entry(key.clone()).or_insert_with(error);
        }
        Ok(answers)
    }
}

/// How long nothing but failures has been seen: counted from the first failure after the last success, so that time in which there
/// was nothing to do does not count.
#[derive(Debug, Clone, Copy, Default)]
pub struct FailureClock {
    since: Option<Instant>,
}

impl FailureClock {
    /// Takes note of a failure.
    pub fn failed(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Takes note of a success.
    pub fn succeeded(&mut self) {
        self.since = None;
    }

    /// Leaves out a pause that was taken for another reason.
    pub fn paused(&mut self, pause: Duration) {
        if let Some(since) = &mut self.since {
            *since += pause;
        }
    }

    /// The time since the first failure; zero after a success.
    pub fn elapsed(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// The answers of one round; where some failed in passing, the first such error, for all to be asked again.
pub(super) fn settled<K: Ord, V>(
    mut answers: BTreeMap<K, Result<V, KafkaError>>,
) -> Result<BTreeMap<K, Result<V, KafkaError>>, KafkaError> {
    let is_passing =
        |_: &K, answer: &mut Result<V, _>| answer.as_ref().is_err_and(KafkaError::is_transient);
    match answers.extract_if(.., is_passing).next() {
        Some((_, Err(error))) => Err(error),
        _ => Ok(answers),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use super::*;

    fn passing() -> KafkaError {
        KafkaError::disconnected("k:9092", "Metadata", io::ErrorKind::BrokenPipe.into())
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_in_passing_is_tried_until_the_deadline() {
        let retry = Retry::default();
        let started = Instant::now();
        let tries = Cell::new(0);
        let outcome: Result<(), _> = retry
            .run(|| async {
                tries.set(tries.get() + 1);
                Err(passing())
            })
            .await;
        assert!(outcome.unwrap_err().is_transient());
        let waited = started.elapsed();
        assert!(waited <= retry.deadline, "{waited:?}");
        assert!(waited >= retry.deadline - retry.max * 2, "{waited:?}");
        // Pauses of 0.1, 0.2, 0.4, 0.8, 1.6, 3.2 and then 5 s, give or take a fifth.
        assert!((24..=38).contains(&tries.get()), "{}", tries.get());
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_good_is_not_tried_again() {
        let tries = Cell::new(0);
        let outcome: Result<(), _> = Retry::default()
            .run(|| async {
                tries.set(tries.get() + 1);
                Err(KafkaError::Configuration("wrong".into()))
            })
            .await;
        outcome.unwrap_err();
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_ends_it() {
        let tries = Cell::new(0);
        let outcome = Retry::default()
            .run(|| async {
                tries.set(tries.get() + 1);
                if tries.get() < 3 {
                    Err(passing())
                } else {
                    Ok(7)
                }
            })
            .await;
        assert_eq!((outcome.unwrap(), tries.get()), (7, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_never_has_an_answer_keeps_no_other_from_having_its_own() {
        let retry = Retry::default();
        let asked = Cell::new(0);
        let keys = ["answered", "late", "passing", "silent", "refused"];
        let ask = |left: Vec<&'static str>| {
            asked.set(asked.get() + 1);
            let now = asked.get();
            async move {
                // Also a try that fails as a whole is made again.
                if now == 2 {
                    return Err(passing());
                }
                let answers = left.into_iter().filter_map(|key| match key {
                    "late" if now < 5 => Some((key, Err(passing()))),
                    "passing" => Some((key, Err(passing()))),
                    "silent" => None,
                    "refused" => Some((key, Err(KafkaError::Configuration("no".into())))),
                    _ => Some((key, Ok(now))),
                });
                Ok(answers.collect())
            }
        };
        let missing = |key: &&str| KafkaError::Configuration(format!("{key} is missing"));
        let answers = retry.run_each(&keys, missing, ask).await.unwrap();
        let told = |key| answers[key].as_ref().map_err(ToString::to_string);
        assert_eq!((told("answered"), told("late")), (Ok(&1), Ok(&5)));
        assert!(answers["passing"].as_ref().unwrap_err().is_transient());
        assert!(told("silent").unwrap_err().contains("silent is missing"));
        assert!(told("refused").unwrap_err().contains("no"));
        assert!(asked.get() > 20, "until the deadline");
        let never = |_| async { Err::<BTreeMap<&str, Result<(), KafkaError>>, _>(passing()) };
        let error = retry.run_each(&keys, missing, never).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }

    #[test]
    fn pauses_grow_to_the_longest() {
        let retry = Retry::default();
        for attempts in 0..100 {
            let pause = retry.backoff(attempts);
            let exact = (0.1 * 2_f64.powi(attempts.min(16) as i32)).min(5.0);
            let share = pause.as_secs_f64() / exact;
            assert!((0.79..1.21).contains(&share), "{attempts}: {pause:?}");
        }
    }
}
