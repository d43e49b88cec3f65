//! Writes the batches of its target partitions, and keeps count of what each of them got.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::EngineError;
use crate::engine::producer::{Acknowledged, Batch, Mode, PartitionIndex, Producer};
use crate::engine::rate::RateLimiter;
use crate::engine::watchdog::{Wait, Watchdog};
use crate::kafka::Client;

use super::offset_map::Placed;
use super::outcome::Written;
use super::partition_state::PartitionState;
use super::prepare::Outgoing;

pub(super) struct ProducerWorker {
    producer: Producer<Client, Vec<Placed>>,
    /// By place in the producer, each with its place in the restore's table.
    partitions: Vec<(usize, PartitionState)>,
    /// Places in the producer, by place in the restore's table.
    places: BTreeMap<usize, PartitionIndex>,
    incoming: mpsc::UnboundedReceiver<Outgoing>,
}

impl ProducerWorker {
    /// Without partitions; writes what comes in.
    pub fn new(
        client: &Client,
        incoming: mpsc::UnboundedReceiver<Outgoing>,
        limiter: Arc<RateLimiter>,
    ) -> Self {
        Self {
            producer: Producer::new(client.clone(), Mode::Idempotent, Some(limiter)),
            partitions: Vec::new(),
            places: BTreeMap::new(),
            incoming,
        }
    }

    /// Adds the partition at this place in the restore's table.
    pub fn add(&mut self, target: usize, partition: PartitionState) {
        let (leader, identity) = (partition.target.leader(), partition.target.producer);
        let place = self.producer.add_partition(leader, identity, 0);
        self.places.insert(target, place);
        self.partitions.push((target, partition));
    }

    /// Writes until nothing more comes in and all is acknowledged: what was written, by place in the restore's table.
    pub async fn run(mut self, watchdog: &Watchdog) -> Result<Vec<(usize, Written)>, EngineError> {
        let mut is_open = true;
        loop {
            while let Ok(batch) = self.incoming.try_recv() {
                self.enqueue(batch)?;
            }
            {
                let _waiting = watchdog.waits(Wait::Target("to be reached"));
                self.producer.send().await?;
            }
            if !is_open && self.producer.is_idle() {
                return self.written();
            }
            let is_sent = !self.producer.is_idle();
            let _waiting = is_sent.then(|| watchdog.waits(Wait::Target("to acknowledge batches")));
            tokio::select! {
                biased;
                Some(outcome) = self.producer.next(), if is_sent => {
                    watchdog.moved();
                    self.count(outcome?);
                }
                batch = self.incoming.recv(), if is_open => match batch {
                    Some(batch) => self.enqueue(batch)?,
                    None => is_open = false,
                },
            }
        }
    }

    /// Passes on the next batch of a partition, unless the target has it already.
    fn enqueue(&mut self, batch: Outgoing) -> Result<(), EngineError> {
        let place = self.places.get(&batch.target).copied();
        let place = place.ok_or(EngineError::Lost("a partition of the target"))?;
        if let Some((_, partition)) = self.partitions.get_mut(place.0)
            && partition.is_there(&batch)?
        {
            self.producer.skip(place, batch.records);
            return Ok(());
        }
        let batch = Batch {
            header: batch.header,
            payload: batch.payload,
            records: batch.records,
            expected_offset: None,
            note: batch.offset_map,
        };
        self.producer.enqueue(place, batch)
    }

    fn count(&mut self, acknowledged: Vec<Acknowledged<Vec<Placed>>>) {
        for batch in acknowledged {
            if let Some((_, partition)) = self.partitions.get_mut(batch.partition.0) {
                partition.acknowledged(&batch);
            }
        }
    }

    fn written(self) -> Result<Vec<(usize, Written)>, EngineError> {
        let written = self.partitions.into_iter();
        let written = written.map(|(target, partition)| Ok((target, partition.written()?)));
        written.collect()
    }
}
