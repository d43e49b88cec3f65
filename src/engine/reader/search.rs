//! Finds who leads partitions now, and where their logs begin and end where that is asked.

use std::collections::BTreeSet;

use crate::engine::EngineError;
use crate::engine::watchdog::Wait;
use crate::kafka::{KafkaError, Metadata, TopicPartition};

use super::cursor::Homeless;
use super::leaders::Ranges;
use super::shared::{Report, Shared};
use super::{Cursor, Flow, Leaders, Sink, Step};

/// What a search came to.
pub(super) struct Found<P> {
    /// To be read from the leaders that they name.
    pub found: Vec<Cursor<P>>,
    /// To be looked for again later.
    pub homeless: Vec<Homeless<P>>,
    /// Read no further.
    pub settled: Vec<Cursor<P>>,
    /// The sink ended the reading.
    pub is_end: bool,
}

/// Points partitions at their present leaders. When the cluster does not answer, they are tried where they were.
pub(super) async fn search<L: Leaders, S: Sink>(
    shared: &Shared<'_, L, S>,
    wanted: Vec<Homeless<S::Part>>,
) -> Result<Found<S::Part>, EngineError> {
    let reading = shared.reading;
    let names = wanted.iter().map(|homeless| &homeless.cursor);
    let first = names.clone().next().map(ToString::to_string);
    let waiting = Wait::Leadership(first.unwrap_or_default());
    let _waiting = reading.watchdog.waits(waiting);
    let topics: BTreeSet<String> = names.map(|cursor| cursor.key.topic.clone()).collect();
    let topics: Vec<String> = topics.into_iter().collect();
    let metadata = match reading.leaders.find(&topics).await {
        Ok(metadata) => metadata,
        Err(error) if error.is_transient() => {
            return Ok(at_their_old_places(shared, wanted, error));
        }
        Err(error) => return Err(error.into()),
    };
    let outside = wanted.iter().filter(|homeless| homeless.is_outside);
    let outside: Vec<TopicPartition> = outside
        .map(|homeless| TopicPartition::clone(&homeless.cursor.key))
        .collect();
    let ranges = match outside.is_empty() {
        true => Ranges::new(),
        false => reading.leaders.ranges(&metadata, &outside).await?,
    };
    let mut search = Search {
        shared,
        metadata,
        ranges,
        taken: S::Taken::default(),
        found: Found {
            found: Vec::new(),
            homeless: Vec::new(),
            settled: Vec::new(),
            is_end: false,
        },
    };
    for homeless in wanted {
        search.sort_in(homeless)?;
    }
    let Search {
        mut found, taken, ..
    } = search;
    found.is_end = reading.sink.pass_on(taken).await? == Flow::End;
    Ok(found)
}

fn at_their_old_places<L: Leaders, S: Sink>(
    shared: &Shared<'_, L, S>,
    wanted: Vec<Homeless<S::Part>>,
    error: KafkaError,
) -> Found<S::Part> {
    let retry = shared.reading.leaders.retry();
    let (known, unknown): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .partition(|homeless| homeless.cursor.leader.is_some() && !homeless.is_outside);
    let again = unknown
        .into_iter()
        .map(|homeless| match homeless.is_outside {
            true => Homeless::outside(homeless.cursor, retry),
            false => Homeless::failed(homeless.cursor, retry),
        });
    shared.report(Report::Homeless(again.collect(), error));
    Found {
        found: known.into_iter().map(|homeless| homeless.cursor).collect(),
        homeless: Vec::new(),
        settled: Vec::new(),
        is_end: false,
    }
}

struct Search<'a, L: Leaders, S: Sink> {
    shared: &'a Shared<'a, L, S>,
    metadata: Metadata,
    ranges: Ranges,
    taken: S::Taken,
    found: Found<S::Part>,
}

impl<L: Leaders, S: Sink> Search<'_, L, S> {
    fn sort_in(&mut self, homeless: Homeless<S::Part>) -> Result<(), EngineError> {
        let sink = self.shared.reading.sink;
        let retry = self.shared.reading.leaders.retry();
        let Homeless {
            mut cursor,
            is_outside,
            ..
        } = homeless;
        let step = if self.is_another_topic(&cursor) {
            sink.recreated(&mut cursor, &mut self.taken)?
        } else if !is_outside {
            Step::Nothing
        } else if let Some(range) = self.ranges.remove(&*cursor.key) {
            sink.outside(&mut cursor, range, &mut self.taken)?
        } else {
            self.found.homeless.push(Homeless::outside(cursor, retry));
            return Ok(());
        };
        match step {
            Step::Settled => self.found.settled.push(cursor),
            Step::Moved => {
                self.shared.moved();
                cursor.succeeded();
                self.point(cursor);
            }
            Step::Nothing => self.point(cursor),
            Step::Elsewhere(error) => self.shared.failed(vec![cursor], error),
        }
        Ok(())
    }

    fn is_another_topic(&self, cursor: &Cursor<S::Part>) -> bool {
        let found = self.metadata.topics.get(&cursor.key.topic);
        !cursor.topic_id.is_zero()
            && found
                .is_some_and(|topic| !topic.topic_id.is_zero() && topic.topic_id != cursor.topic_id)
    }

    fn point(&mut self, mut cursor: Cursor<S::Part>) {
        let found = self.metadata.topics.get(&cursor.key.topic);
        let found = found.and_then(|topic| topic.partitions.get(&cursor.key.partition));
        // A broker that was cut off for a while may name the leader of an older epoch: itself.
        if let Some(partition) = found
            && cursor
                .leader_epoch
                .is_none_or(|epoch| partition.leader_epoch >= epoch)
        {
            cursor.leader = partition.leader.or(cursor.leader);
            cursor.leader_epoch = cursor.leader_epoch.map(|_| partition.leader_epoch);
        }
        let is_led = found.is_some_and(|partition| partition.leader.is_some());
        if is_led {
            self.found.found.push(cursor);
        } else {
            let error = KafkaError::leaderless(&cursor.key.topic, cursor.key.partition);
            self.shared.failed(vec![cursor], error);
        }
    }
}
