//! What the broker says of the log's ends, asked for twice a second: the ground of freshness.
//!
//! Cached watermarks go on saying "caught up" while a broker hangs. So a thread asks, notes the instant at
//! which it asked, and says nothing where no answer comes.

use std::{
    collections::{BTreeMap, HashMap},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rdkafka::{Offset as KafkaOffset, consumer::Consumer, error::KafkaError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Cluster, Inquirer, topics};
use crate::{
    domain::{Offset, PartitionId, Topic},
    telemetry::Seldom,
};

/// After so many questions without an answer another client asks: one that lost all its brokers may not find back.
const REPLACED_AFTER: u32 = 20;

/// An end of the log, and when the broker was asked for it.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// Before the request was sent: whoever has reached `offset` is caught up as of this instant.
    pub asked: Instant,
    /// The high watermark.
    pub offset: Offset,
}

/// What is known of the log.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// The newest answer for each partition.
    pub ends: HashMap<PartitionId, End>,
    /// Topics whose number of partitions is not the pinned one: what the broker has now.
    pub repartitioned: HashMap<Topic, usize>,
    /// How long the broker keeps a record of a topic; no entry where it keeps them all, or did not say.
    pub retention: HashMap<Topic, Duration>,
}

/// Asks until `stop`, and publishes each answer.
pub fn spawn(
    cluster: &Cluster,
    pinned: BTreeMap<Topic, usize>,
    every: Duration,
    stop: CancellationToken,
) -> Result<(watch::Receiver<Watched>, JoinHandle<()>), KafkaError> {
    let (sender, receiver) = watch::channel(Watched::default());
    let inquirer = cluster.inquirer("read_uncommitted")?;
    let mut watcher =
        Watcher { inquirer, cluster: cluster.clone(), pinned, failed: 0, away: Seldom::default() };
    let thread = std::thread::Builder::new().name("watermarks".to_owned());
    let join = thread
        .spawn(move || {
            let (mut rounds, mut retention_due) = (0_u32, 0);
            while !stop.is_cancelled() {
                watcher.ask_ends(&sender);
                if rounds.is_multiple_of(8) {
                    watcher.ask_partitions(&sender);
                }
                // Only of a broker that answers: the question may take long, and the ends must not wait.
                if rounds >= retention_due && !sender.borrow().ends.is_empty() {
                    let again = if watcher.ask_retention(&sender) { 4_096 } else { 256 };
                    retention_due = rounds.saturating_add(again);
                }
                rounds = rounds.wrapping_add(1);
                std::thread::sleep(every);
            }
        })
        .map_err(|error| KafkaError::ClientCreation(format!("no thread for the watermarks: {error}")))?;
    Ok((receiver, join))
}

struct Watcher {
    cluster: Cluster,
    inquirer: Inquirer,
    pinned: BTreeMap<Topic, usize>,
    /// Questions without an answer, one after the other.
    failed: u32,
    away: Seldom,
}

impl Watcher {
    /// Kafka is lost with the second question that it does not answer, and found with the first that it does.
    fn note(&mut self, error: Option<&KafkaError>) {
        let brokers = &self.cluster.settings().brokers;
        if let Some(error) = error {
            self.failed = self.failed.saturating_add(1);
            if self.failed > 1 && self.away.is_due() {
                tracing::warn!(brokers, %error, "kafka.brokers do not answer");
            }
        } else {
            self.failed = 0;
            if self.away.end() {
                tracing::info!(brokers, "kafka.brokers answer again");
            }
        }
    }

    fn ask_ends(&mut self, sender: &watch::Sender<Watched>) {
        let ids = self.pinned.iter().flat_map(|(topic, partitions)| {
            (0..i32::try_from(*partitions).unwrap_or(i32::MAX))
                .map(|partition| PartitionId { topic: *topic, partition })
        });
        let mut list = self.cluster.list(ids);
        if list.set_all_offsets(KafkaOffset::End).is_err() {
            return;
        }
        let asked = Instant::now();
        let answer = self.inquirer.offsets_for_times(list, Duration::from_secs(1));
        self.note(answer.as_ref().err());
        if self.failed > 0 && self.failed.is_multiple_of(REPLACED_AFTER) {
            match self.cluster.inquirer("read_uncommitted") {
                Ok(another) => super::discard(std::mem::replace(&mut self.inquirer, another)),
                Err(error) => tracing::debug!(%error, "no other client"),
            }
        }
        match answer {
            Ok(answer) => sender.send_modify(|watched| {
                for element in answer.elements() {
                    let (Some(topic), KafkaOffset::Offset(offset), Ok(())) =
                        (self.cluster.topic(element.topic()), element.offset(), element.error())
                    else {
                        continue;
                    };
                    let id = PartitionId { topic, partition: element.partition() };
                    watched.ends.insert(id, End { asked, offset: Offset(offset) });
                }
            }),
            Err(error) => tracing::debug!(%error, "the broker did not name the log's ends"),
        }
        // Errors and throttling are served by a poll; there is nothing to read.
        drop(self.inquirer.poll(Duration::ZERO));
    }

    /// Whether the broker told of every topic.
    fn ask_retention(&self, sender: &watch::Sender<Watched>) -> bool {
        let mut told_all = true;
        for topic in self.pinned.keys() {
            match futures::executor::block_on(topics::retention(&self.cluster, *topic)) {
                Ok(kept) => sender.send_modify(|watched| {
                    watched.retention.remove(topic);
                    watched.retention.extend(kept.map(|kept| (*topic, kept)));
                }),
                Err(error) => {
                    tracing::debug!(%error, "the broker did not name a topic's retention");
                    told_all = false;
                }
            }
        }
        told_all
    }

    fn ask_partitions(&mut self, sender: &watch::Sender<Watched>) {
        for (topic, pinned) in &self.pinned {
            let name = self.cluster.topic_name(*topic);
            let Ok(metadata) = self.inquirer.fetch_metadata(Some(name), Duration::from_secs(1)) else {
                continue;
            };
            let Some(found) = metadata.topics().iter().find(|found| found.name() == name) else { continue };
            let count = found.partitions().len();
            // While a topic is being deleted or elected, the broker names no partition: that is no answer.
            if count == *pinned || count == 0 || found.error().is_some() {
                continue;
            }
            sender.send_modify(|watched| {
                watched.repartitioned.insert(*topic, count);
            });
        }
    }
}
