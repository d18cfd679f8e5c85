//! The log's ends, and the oldest record that is not folded yet.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Message as _, Offset as KafkaOffset, TopicPartitionList, consumer::Consumer as _, error::KafkaError,
};

use crate::{
    domain::{Offset, PartitionId, Topic},
    source::{self, Cluster, Inquirer},
};

/// How long the broker may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the records at the checkpoints.
const RECORDS_TIMEOUT: Duration = Duration::from_secs(3);

/// What the brokers say.
#[derive(Debug, Clone, Default)]
pub(super) struct LogView {
    /// Every partition of the two topics.
    pub(super) partitions: BTreeMap<PartitionId, Partition>,
    /// What they did not say, and why.
    pub(super) faults: Vec<String>,
}

/// One partition of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    /// The oldest offset that is still kept.
    pub(super) low: Offset,
    /// The high watermark.
    pub(super) high: Offset,
    /// How old the record at the checkpoint is, by Kafka's timestamp and this machine's clock, where there
    /// is one.
    pub(super) oldest_unapplied_ms: Option<u64>,
}

impl LogView {
    /// Asks the brokers; what fails is a fault in the view.
    pub(super) fn look(cluster: &Cluster, next: &[(PartitionId, Offset)]) -> LogView {
        let mut view = LogView::default();
        if let Err(fault) = view.fill(cluster, next) {
            view.faults.push(fault);
        }
        view
    }

    fn fill(&mut self, cluster: &Cluster, next: &[(PartitionId, Offset)]) -> Result<(), String> {
        // Records behind an open transaction are not applied either: they are part of the lag.
        let consumer =
            cluster.inquirer("read_uncommitted").map_err(|e| format!("the consumer cannot start: {e}"))?;
        let brokers = &cluster.settings().brokers;
        for topic in Topic::ALL {
            let name = cluster.topic_name(topic);
            let metadata = consumer.fetch_metadata(Some(name), ANSWER_TIMEOUT);
            let metadata = metadata.map_err(|error| {
                let why = source::why(&consumer, &error);
                format!("no broker of kafka.brokers ({brokers}) answers: {why}")
            })?;
            let partitions = metadata
                .topics()
                .iter()
                .filter(|t| t.name() == name)
                .flat_map(rdkafka::metadata::MetadataTopic::partitions);
            let mut none = true;
            for number in partitions.map(rdkafka::metadata::MetadataPartition::id) {
                none = false;
                let partition = PartitionId { topic, partition: number };
                match consumer.fetch_watermarks(name, number, ANSWER_TIMEOUT) {
                    Ok((low, high)) => {
                        let view =
                            Partition { low: Offset(low), high: Offset(high), oldest_unapplied_ms: None };
                        self.partitions.insert(partition, view);
                    }
                    Err(e) => self.faults.push(format!("the ends of {name}/{number} are not told: {e}")),
                }
            }
            if none {
                self.faults.push(format!("the topic {name} does not exist"));
            }
        }
        self.read_oldest(cluster, &consumer, next)
            .map_err(|e| format!("the records at the checkpoints cannot be read: {e}"))
    }

    /// Reads the record at each checkpoint that lags.
    fn read_oldest(
        &mut self,
        cluster: &Cluster,
        consumer: &Inquirer,
        next: &[(PartitionId, Offset)],
    ) -> rdkafka::error::KafkaResult<()> {
        let mut wanted = TopicPartitionList::new();
        for (partition, next) in next {
            if self.partitions.get(partition).is_some_and(|p| (p.low..p.high).contains(next)) {
                let name = cluster.topic_name(partition.topic);
                wanted.add_partition_offset(name, partition.partition, KafkaOffset::Offset(next.0))?;
            }
        }
        let mut missing = wanted.count();
        if missing == 0 {
            return Ok(());
        }
        consumer.assign(&wanted)?;
        let (now, begun) = (now_ms(), std::time::Instant::now());
        while missing > 0 {
            let Some(left) = RECORDS_TIMEOUT.checked_sub(begun.elapsed()) else { break };
            let message = match consumer.poll(left) {
                // Only markers of transactions lie ahead of the checkpoint.
                None | Some(Err(KafkaError::PartitionEOF(_))) => continue,
                Some(message) => message?,
            };
            let Some(topic) = cluster.topic(message.topic()) else { continue };
            let partition = PartitionId { topic, partition: message.partition() };
            if let Some(view) = self.partitions.get_mut(&partition)
                && view.oldest_unapplied_ms.is_none()
            {
                let stamp = message.timestamp().to_millis().unwrap_or(now);
                view.oldest_unapplied_ms = Some(u64::try_from(now.saturating_sub(stamp)).unwrap_or_default());
                missing = missing.saturating_sub(1);
                // One record tells; the others of the partition only cost.
                let mut read = TopicPartitionList::new();
                read.add_partition(message.topic(), message.partition());
                consumer.pause(&read)?;
            }
        }
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "an age by the wall clock, for humans")]
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
