//! Claims on the topics that a run writes to. Two hosts or two repositories share no lock: what they share is the cluster that they
//! write to. So a claim is a transactional id for each topic of the target, whose epoch the transaction coordinator counts
//! (KIP-98): who takes it next fences the one before, and that one finds out when it renews its claim (KIP-360).
//!
//! No record is safe or lost by a claim: the sequence numbers of the producers see to that. A claim lets the older of two runs end
//! with the reason, before it takes what the newer one writes for damage.

use std::time::Duration;

use futures_util::future::try_join_all;

use crate::kafka::{Client, KafkaError, TransactionalProducer};

use super::EngineError;
use super::refusal::{Part, Refusal};

/// Before the name of the topic. A mirror's own transactional id begins with `kafkeep.`.
const PREFIX: &str = "kafkeep-claim.";
/// Nothing is ever written in a transaction of a claim; the cluster wants a bound.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// A cluster that gives no claims for so long is written to without.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);
/// So many claims are taken or renewed at once.
const AT_ONCE: usize = 16;
/// Claims are renewed after this pause, and after as much more as the coordinators need at a hundred claims a second.
const RENEW_EVERY: Duration = Duration::from_secs(2);
const RENEWAL: Duration = Duration::from_millis(10);

/// The claims of one run. Without claims, nothing is fenced.
pub(super) struct Claims {
    held: Vec<TransactionalProducer>,
}

impl Claims {
    /// Takes the claims on these topics, from whoever holds them. A cluster that does not give them is written to all the same:
    /// that is logged as a warning.
    pub async fn take(client: &Client, topics: &[&str]) -> Self {
        let ids = topics.iter().copied().map(claim_of).collect();
        let why = match tokio::time::timeout(TAKEN_WITHIN, take_all(client, ids)).await {
            Ok(Ok(held)) => return Self { held },
            Ok(Err(error)) => error,
            Err(_) => KafkaError::Unanswered {
                seconds: TAKEN_WITHIN.as_secs(),
            },
        };
        tracing::warn!(
            "the target's topics cannot be claimed ({why}): if another kafkeep writes to them meanwhile, neither will know"
        );
        Self { held: Vec::new() }
    }

    /// How long one that was fenced may take to find out.
    pub fn handover(topics: usize) -> Duration {
        pause(topics) + RENEW_EVERY
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
            tokio::time::sleep(pause(self.held.len())).await;
            if let Err(lost) = self.renew().await {
                return lost;
            }
        }
    }

    /// Renews all claims. What fails in passing is tried again by the next renewal.
    async fn renew(&mut self) -> Result<(), EngineError> {
        for claims in self.held.chunks_mut(AT_ONCE) {
            try_join_all(claims.iter_mut().map(renew)).await?;
        }
        Ok(())
    }
}

async fn take_all(
    client: &Client,
    ids: Vec<String>,
) -> Result<Vec<TransactionalProducer>, KafkaError> {
    let mut held = Vec::with_capacity(ids.len());
    for ids in ids.chunks(AT_ONCE) {
        let mut taking = Vec::with_capacity(ids.len());
        for id in ids {
            taking.push(client.transactional_producer(id, TRANSACTION_TIMEOUT));
        }
        held.extend(try_join_all(taking).await?);
    }
    Ok(held)
}

async fn renew(claim: &mut TransactionalProducer) -> Result<(), EngineError> {
    match tokio::time::timeout(TAKEN_WITHIN, claim.renew()).await {
        Ok(Err(error)) if error.is_fenced() => return Err(fenced(claim.transactional_id())),
        Ok(Err(error)) => tracing::debug!(%error, "a claim cannot be renewed now"),
        Ok(Ok(())) | Err(_) => {}
    }
    Ok(())
}

fn claim_of(topic: &str) -> String {
    format!("{PREFIX}{topic}")
}

fn pause(claims: usize) -> Duration {
    RENEW_EVERY + RENEWAL * u32::try_from(claims).unwrap_or(u32::MAX)
}

fn fenced(claim: &str) -> EngineError {
    let topic = claim.strip_prefix(PREFIX).unwrap_or(claim);
    let why = format!(
        "another kafkeep began to write to topic {topic} of the target, so this run ended: let that one finish, and see to it that only one writes to a topic"
    );
    EngineError::conflict(Refusal::new(why).of(Part::TargetTopic, topic))
}
