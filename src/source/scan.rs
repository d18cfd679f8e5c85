//! Reads a stretch of one partition again, outside the group: for redrives, comparisons, audits, explanations.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    message::Message as _,
};

use super::{
    Cluster, Inquirer,
    batch::{Batch, Stored},
};
use crate::domain::{Offset, PartitionId, Time};

/// Without a record or an end for this long, the broker is held to be gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Records handed over at once: one arena, read in place.
const BATCH_RECORDS: usize = 500;

/// The stretch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Retention has removed its head, or the topic was made anew.
    #[error("{partition} holds offsets {low} to {high}, offset {from} is asked for: the records are gone")]
    Gone {
        /// As operators know it.
        partition: String,
        /// The low watermark.
        low: i64,
        /// The high watermark.
        high: i64,
        /// What was asked for.
        from: i64,
    },
    /// The leader is behind what it, or the one before it, has handed out; or the log lost records.
    #[error("{partition} ends at offset {end}, records up to {to} are asked for")]
    Short {
        /// As operators know it.
        partition: String,
        /// The last stable offset.
        end: i64,
        /// What was asked for.
        to: i64,
    },
    /// Worth another try.
    #[error("the broker did not answer: {0}")]
    Unanswered(#[from] KafkaError),
}

/// A consumer for stretches, one after the other. Blocking: keep it off the asynchronous threads.
pub struct Scan {
    cluster: Cluster,
    consumer: Inquirer,
}

impl Scan {
    /// Reads what is committed, as the fold does.
    pub fn new(cluster: &Cluster) -> Result<Self, KafkaError> {
        Ok(Scan { cluster: cluster.clone(), consumer: cluster.inquirer("read_committed")? })
    }

    /// The low watermark and the last stable offset: where a stretch may begin and end.
    pub fn bounds(&self, id: PartitionId) -> Result<(Offset, Offset), KafkaError> {
        let (low, high) = super::watermarks(&self.cluster, &self.consumer, id, Duration::from_secs(10))?;
        Ok((Offset(low), Offset(high)))
    }

    /// The first offset whose Kafka timestamp is not before `time`; `None` where all are older.
    pub fn offset_at(&self, id: PartitionId, time: Time) -> Result<Option<Offset>, KafkaError> {
        let mut list = TopicPartitionList::new();
        let at = KafkaOffset::Offset(time.0.as_millisecond());
        list.add_partition_offset(self.cluster.topic_name(id.topic), id.partition, at)?;
        let answer = self.consumer.offsets_for_times(list, Duration::from_secs(10))?;
        let offset =
            answer.elements().first().map(rdkafka::topic_partition_list::TopicPartitionListElem::offset);
        Ok(match offset {
            Some(KafkaOffset::Offset(offset)) => Some(Offset(offset)),
            _ => None,
        })
    }

    /// [`Scan::read_some`] of all records.
    pub fn read(
        &self,
        id: PartitionId,
        from: Offset,
        to: Offset,
        each: impl FnMut(&Stored<'_>) -> ControlFlow<()>,
    ) -> Result<Offset, ScanError> {
        self.read_some(id, from, to, |_, _| true, each)
    }

    /// Hands over the records of `from..to` that are wanted, by key and value, in order until `each` breaks or the
    /// stretch ends; the offset at which to go on. `to` may lie past the last record: markers of transactions stand
    /// between. What is not wanted is not copied: of most stretches that is nearly all.
    pub fn read_some(
        &self,
        id: PartitionId,
        from: Offset,
        to: Offset,
        wants: impl FnMut(Option<&[u8]>, Option<&[u8]>) -> bool,
        mut each: impl FnMut(&Stored<'_>) -> ControlFlow<()>,
    ) -> Result<Offset, ScanError> {
        self.stretch(id, from, to, wants, |batch| {
            for record in batch.iter() {
                if each(&record).is_break() {
                    return ControlFlow::Break(record.offset.next());
                }
            }
            ControlFlow::Continue(())
        })
    }

    /// All records of `from..to`, some at a time, until `each` breaks or the stretch ends.
    pub fn read_batches(
        &self,
        id: PartitionId,
        from: Offset,
        to: Offset,
        mut each: impl FnMut(&Batch) -> ControlFlow<()>,
    ) -> Result<(), ScanError> {
        // Nobody goes on where it broke.
        let each = |batch: &Batch| each(batch).map_break(|()| to);
        self.stretch(id, from, to, |_, _| true, each).map(drop)
    }

    fn stretch(
        &self,
        id: PartitionId,
        from: Offset,
        to: Offset,
        mut wants: impl FnMut(Option<&[u8]>, Option<&[u8]>) -> bool,
        mut each: impl FnMut(&Batch) -> ControlFlow<Offset>,
    ) -> Result<Offset, ScanError> {
        if from >= to {
            return Ok(from);
        }
        let (low, high) = self.bounds(id)?;
        if from < low || from > high {
            let partition = self.cluster.display(id);
            return Err(ScanError::Gone { partition, low: low.0, high: high.0, from: from.0 });
        }
        let read = self.follow(id, from, to, &mut wants, &mut each);
        self.consumer.assign(&TopicPartitionList::new())?;
        read
    }

    fn begin_at(&self, id: PartitionId, offset: Offset) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        let topic = self.cluster.topic_name(id.topic);
        list.add_partition_offset(topic, id.partition, KafkaOffset::Offset(offset.0))?;
        self.consumer.assign(&list)
    }

    /// Fails where the log does not reach as far as `to`.
    fn reaches(&self, id: PartitionId, to: Offset) -> Result<(), ScanError> {
        let (_, end) = self.bounds(id)?;
        if end < to {
            return Err(ScanError::Short { partition: self.cluster.display(id), end: end.0, to: to.0 });
        }
        Ok(())
    }

    fn follow(
        &self,
        id: PartitionId,
        from: Offset,
        to: Offset,
        wants: &mut impl FnMut(Option<&[u8]>, Option<&[u8]>) -> bool,
        each: &mut impl FnMut(&Batch) -> ControlFlow<Offset>,
    ) -> Result<Offset, ScanError> {
        self.begin_at(id, from)?;
        let mut next = from;
        // A leader that has just become one may name an end before `to`: it is believed the second time.
        let mut ended_before = false;
        let mut silent_since: Option<Instant> = None;
        let mut batch = Batch::new(0);
        while next < to {
            let mut ended = false;
            match self.consumer.poll(Duration::from_millis(100)) {
                None => {
                    if silent_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                        let silent = RDKafkaErrorCode::OperationTimedOut;
                        return Err(KafkaError::MessageConsumption(silent).into());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => ended = true,
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => {
                    next = Offset(message.offset()).next();
                    if next <= to && wants(message.key(), message.payload()) {
                        batch.push(&message);
                    }
                    silent_since = None;
                    ended_before = false;
                    if next < to && batch.len() < BATCH_RECORDS {
                        continue;
                    }
                }
            }
            if let ControlFlow::Break(next) = each(&batch) {
                return Ok(next);
            }
            batch.clear();
            if ended && next < to {
                self.reaches(id, to)?;
                // What is left of the stretch is markers.
                if ended_before {
                    return Ok(to);
                }
                ended_before = true;
                self.begin_at(id, next)?;
            }
        }
        Ok(to)
    }
}
