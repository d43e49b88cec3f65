//! Claims on the topics that a run writes to. Two hosts or two repositories share no lock: what they share is the cluster that they
//! write to. So a claim is a transactional id for each topic of the target, whose epoch the transaction coordinator counts
//! (KIP-98): who takes it next fences the one before, and that one finds out when it renews its claim (KIP-360).
//!
//! No record is safe or lost by a claim: the sequence numbers of the producers see to that. A claim lets the older of two runs end
//! with the reason, before it takes what the newer one writes for damage.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use crate::kafka::{Client, KafkaError, Renewal, TransactionalProducer};

use super::EngineError;
use super::refusal::{Part, Refusal};

/// Before the name of the topic. A mirror's own transactional id begins with `kafkeep.`.
const PREFIX: &str = "kafkeep-claim.";
/// Nothing is ever written in a transaction of a claim; the cluster wants a bound.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long all claims of a run may take to be taken, or to be renewed. A cluster that gives none by then is written to without.
const WITHIN: Duration = Duration::from_secs(15);
/// The most claims that are taken or renewed at once.
const AT_ONCE: usize = 16;
/// Claims are renewed after this pause, and after as much more as the coordinators need at a hundred claims a second.
const RENEW_EVERY: Duration = Duration::from_secs(2);
const RENEWAL: Duration = Duration::from_millis(10);
/// A renewal that fails is tried once more: its connection may have ended while nothing went over it.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The claims of one run. Without claims, nothing is fenced.
pub(super) struct Claims {
    held: Vec<Claim>,
}

impl Claims {
    /// Takes the claims on these topics, from whoever holds them. A cluster that does not give them is written to all the same:
    /// that is logged as a warning.
    pub async fn take(client: &Client, topics: &[&str]) -> Self {
        let why = match tokio::time::timeout(WITHIN, take_all(client, topics)).await {
            Ok(Ok(held)) => return Self { held },
            Ok(Err(error)) => error,
            Err(_) => KafkaError::Unanswered {
                seconds: WITHIN.as_secs(),
            },
        };
        tracing::warn!(
            "the target's topics cannot be claimed ({why}): if another kafkeep writes to them meanwhile, neither will know"
        );
        Self { held: Vec::new() }
    }

    /// Waits until whoever was fenced by these claims has found out. Without claims nobody was.
    pub async fn handed_over(&self) {
        if !self.held.is_empty() {
            tokio::time::sleep(self.pause() + RENEW_EVERY).await;
        }
    }

    /// Works as long as the claims hold. Work that fails after a claim was lost fails for that reason.
    ///
    /// # Errors
    ///
    /// Those of the work, and a [`EngineError::Conflict`] when a claim was lost.
    pub async fn hold<T>(
        mut self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let ended = tokio::select! {
            biased;
            ended = work => ended,
            lost = self.lost() => return Err(lost),
        };
        let Err(error) = ended else {
            return ended;
        };
        Err(self.renew().await.err().unwrap_or(error))
    }

    /// Ends when a claim is lost, and says which.
    async fn lost(&mut self) -> EngineError {
        loop {
            tokio::time::sleep(self.pause()).await;
            if let Err(lost) = self.renew().await {
                return lost;
            }
        }
    }

    /// Renews all claims. What fails in passing, or is not done in time, is left to the next renewal. A claim of which nobody can
    /// tell any more who holds it is given up: that is logged as a warning.
    async fn renew(&mut self) -> Result<(), EngineError> {
        let renewing = async {
            for claims in self.held.chunks_mut(AT_ONCE) {
                join_all(claims.iter_mut().map(Claim::renew)).await;
            }
        };
        // What was learnt before the time was over counts.
        tokio::time::timeout(WITHIN, renewing).await.ok();
        let taken = self
            .held
            .iter()
            .find(|claim| claim.stands == Renewal::Taken);
        if let Some(claim) = taken {
            return Err(fenced(claim.topic()));
        }
        self.held.retain(|claim| claim.stands == Renewal::Kept);
        Ok(())
    }

    fn pause(&self) -> Duration {
        RENEW_EVERY + RENEWAL * u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }
}

/// The claim on one topic.
struct Claim {
    name: TransactionalProducer,
    /// What the last answer said of it.
    stands: Renewal,
}

impl Claim {
    async fn take(client: &Client, topic: &str) -> Result<Self, KafkaError> {
        let id = format!("{PREFIX}{topic}");
        let name = client.transactional_producer(&id, TRANSACTION_TIMEOUT);
        Ok(Self {
            name: name.await?,
            stands: Renewal::Kept,
        })
    }

    fn topic(&self) -> &str {
        let id = self.name.transactional_id();
        id.strip_prefix(PREFIX).unwrap_or(id)
    }

    async fn renew(&mut self) {
        let mut answer = self.name.renew().await;
        if answer.is_err() {
            tokio::time::sleep(AGAIN_AFTER).await;
            answer = self.name.renew().await;
        }
        match answer {
            Ok(stands) => self.stands = stands,
            Err(error) => tracing::debug!(%error, "a claim cannot be renewed now"),
        }
        if self.stands == Renewal::Unknown {
            tracing::warn!(
                "the cluster lost the claim on topic {}: if another kafkeep writes to it meanwhile, neither will know",
                self.topic()
            );
        }
    }
}

async fn take_all(client: &Client, topics: &[&str]) -> Result<Vec<Claim>, KafkaError> {
    let mut held = Vec::with_capacity(topics.len());
    for topics in topics.chunks(AT_ONCE) {
        let taking = topics.iter().map(|topic| Claim::take(client, topic));
        held.extend(try_join_all(taking).await?);
    }
    Ok(held)
}

fn fenced(topic: &str) -> EngineError {
    let why = format!(
        "another kafkeep began to write to topic {topic} of the target, so this run ended: let that one finish, and see to it that only one writes to a topic"
    );
    EngineError::conflict(Refusal::new(why).of(Part::TargetTopic, topic))
}
