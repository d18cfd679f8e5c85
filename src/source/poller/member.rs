//! One client of the consumer group: how it takes and gives up partitions, and what it tells of itself.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset as KafkaOffset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::KafkaError,
    statistics::Statistics,
    types::RDKafkaRespErr,
};

use super::Owner;
use crate::{
    domain::{PartitionId, Topic},
    source::{self, Cluster},
};

/// How librdkafka writes the zero id.
const NO_TOPIC_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";
/// How long the broker may take to name the ends of what is assigned.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// A client in the group, and what it tells of itself.
pub(super) struct Member {
    pub(super) consumer: BaseConsumer<Context>,
    pub(super) told: Arc<Told>,
}

pub(super) struct Told {
    pub(super) changes: Mutex<Vec<Change>>,
    /// A topic has another id than when its records were polled: what comes now may be another log.
    pub(super) made_anew: AtomicBool,
    /// Since when the client has been in no group.
    pub(super) outside: Mutex<Option<Instant>>,
    /// Another client took its place: what it is told of partitions concerns nobody.
    pub(super) replaced: AtomicBool,
}

impl Member {
    pub(super) fn join(cluster: &Cluster, owner: &Arc<dyn Owner>) -> Result<Self, KafkaError> {
        let told = Arc::new(Told {
            changes: Mutex::new(Vec::new()),
            made_anew: AtomicBool::new(false),
            outside: Mutex::new(Some(Instant::now())),
            replaced: AtomicBool::new(false),
        });
        let context = Context { cluster: cluster.clone(), owner: Arc::clone(owner), told: Arc::clone(&told) };
        Ok(Member { consumer: consumer(cluster, context)?, told })
    }
}

fn consumer(cluster: &Cluster, context: Context) -> Result<BaseConsumer<Context>, KafkaError> {
    let group = &cluster.settings().group;
    let mut client = cluster.client(&[
        ("group.id", group),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "1000"),
        // The default waits a second once the prefetch is full.
        ("fetch.queue.backoff.ms", "10"),
        ("fetch.wait.max.ms", "100"),
        ("queued.min.messages", "50000"),
        ("queued.max.messages.kbytes", "65536"),
        // They tell whether the client is in the group.
        ("statistics.interval.ms", "1000"),
    ]);
    // What `Context::log` listens for is told in no other way.
    let debug = client.get("debug").map_or_else(|| "metadata".to_owned(), |own| format!("metadata,{own}"));
    client.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    let consumer: BaseConsumer<Context> = client.create_with_context(context)?;
    let topics: Vec<&str> = Topic::ALL.into_iter().map(|topic| cluster.topic_name(topic)).collect();
    consumer.subscribe(&topics)?;
    Ok(consumer)
}

#[derive(Clone, Copy)]
pub(super) enum Change {
    Assigned(PartitionId),
    Revoked(PartitionId),
}

pub(super) struct Context {
    cluster: Cluster,
    owner: Arc<dyn Owner>,
    told: Arc<Told>,
}

impl ClientContext for Context {
    /// A topic that is deleted and made anew under its name raises no error: the client learns the new topic's id
    /// and goes on in it at the old offset. It says so in a debug line alone, but before it fetches from there.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The first id of a topic replaces the zero one.
        if message.contains("changed id from") && !message.contains(NO_TOPIC_ID) {
            self.told.made_anew.store(true, Ordering::Release);
        }
        source::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        source::tell(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let Some(group) = statistics.cgrp else { return };
        let inside = group.state == "up" && group.join_state != "init";
        let mut outside = self.told.outside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside {
            *outside = None;
        } else {
            outside.get_or_insert_with(Instant::now);
        }
    }
}

impl ConsumerContext for Context {
    // The default ignores errors and knows nothing of pausing.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        if self.told.replaced.load(Ordering::Acquire) {
            drop(if cooperative { consumer.incremental_unassign(partitions) } else { consumer.unassign() });
            return;
        }
        let ids = self.ids(partitions);
        let result = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.note(ids.iter().map(|id| Change::Assigned(*id)));
            // No committed offset is asked for: the claim tells where to go on.
            let at = Self::at_the_ends(consumer, partitions);
            partitions
                .set_all_offsets(KafkaOffset::Beginning)
                .and_then(|()| {
                    at.iter().try_for_each(|(topic, partition, end)| {
                        partitions.set_partition_offset(topic, *partition, KafkaOffset::Offset(*end))
                    })
                })
                .and_then(|()| {
                    if cooperative {
                        consumer.incremental_assign(partitions)
                    } else {
                        consumer.assign(partitions)
                    }
                })
                .and_then(|()| consumer.pause(partitions))
        } else {
            self.owner.revoke(&ids, consumer.assignment_lost());
            self.note(ids.iter().map(|id| Change::Revoked(*id)));
            if cooperative { consumer.incremental_unassign(partitions) } else { consumer.unassign() }
        };
        match result {
            Ok(()) => tracing::info!(?event, partitions = ids.len(), "rebalanced"),
            Err(error) => tracing::error!(%error, ?event, "rebalancing failed"),
        }
    }

    fn commit_callback(&self, result: Result<(), KafkaError>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "kafka's committed offsets were not updated");
        }
    }
}

impl Context {
    /// Where partitions rest until they are sought to their checkpoints: at the ends of the log, as offsets in so many
    /// words. What lies at the end can be fetched before the pause takes hold; what was at 0 may be gone, and a client
    /// that meets that refuses every seek. The logical beginning is a question to the broker, and an answer that comes
    /// after the seek undoes it: it is left for those whose end is not told, and the fold finds out.
    fn at_the_ends(
        consumer: &BaseConsumer<Self>,
        partitions: &TopicPartitionList,
    ) -> Vec<(String, i32, i64)> {
        let mut asked = partitions.clone();
        if asked.set_all_offsets(KafkaOffset::End).is_err() {
            return Vec::new();
        }
        let Ok(told) = consumer.offsets_for_times(asked, ENDS_WITHIN) else { return Vec::new() };
        let ends = told.elements();
        let end = ends.iter().filter_map(|told| match (told.error(), told.offset()) {
            (Ok(()), KafkaOffset::Offset(end)) => Some((told.topic().to_owned(), told.partition(), end)),
            _ => None,
        });
        end.collect()
    }

    fn ids(&self, list: &TopicPartitionList) -> Vec<PartitionId> {
        list.elements()
            .iter()
            .filter_map(|element| {
                let topic = self.cluster.topic(element.topic())?;
                Some(PartitionId { topic, partition: element.partition() })
            })
            .collect()
    }

    fn note(&self, changes: impl Iterator<Item = Change>) {
        self.told.changes.lock().unwrap_or_else(PoisonError::into_inner).extend(changes);
    }
}
