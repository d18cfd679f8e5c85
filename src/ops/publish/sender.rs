//! The producer: idempotent, acknowledged by all replicas, bounded in memory, and every delivery checked.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use rdkafka::{
    ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};

use super::lines::Record;
use crate::{
    config::{Config, Partitioner},
    domain::Topic,
    source::{self, Cluster},
    wire,
};

/// How long the broker may take to say which topics there are.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a record may take to be acknowledged.
const DELIVERY_TIMEOUT_MS: &str = "120000";
/// For what a client has to tell to be taken in.
const TAKEN_IN: Duration = Duration::from_millis(50);
/// Longer than that: what librdkafka gives up is told by the delivery, not by the flush.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(130);
/// How often a person is told what the records wait for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends records, and knows what became of each.
pub(super) struct Sender {
    cluster: Cluster,
    producer: BaseProducer<Deliveries>,
    structured: OwnedHeaders,
    sent: u64,
    topics: Vec<Topic>,
}

/// Up to which record each partition was filled.
#[derive(Debug, Default)]
pub(super) struct Positions(BTreeMap<(String, i32), i64>);

impl Positions {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As readers name them: `ledger.events/1@77, payment.events/3@1042`.
impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ((topic, partition), offset)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{topic}/{partition}@{offset}")?;
        }
        Ok(())
    }
}

/// What the broker acknowledged, and what it did not.
#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Tally>>);

#[derive(Default)]
struct Tally {
    delivered: u64,
    failed: u64,
    first_failure: Option<String>,
    /// What librdkafka said last: it says it a hundred times a second while brokers are away.
    last_error: Option<String>,
    /// Topic, partition, newest offset: few, so that a search is faster than a hash.
    newest: Vec<(String, i32, i64)>,
}

impl ClientContext for Deliveries {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(cause) = source::cause(&error, reason) {
            self.tally().last_error = Some(cause);
        }
    }
}

impl ProducerContext for Deliveries {
    /// The line that the record was on.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, line: usize) {
        let mut tally = self.tally();
        match result {
            Ok(message) => {
                tally.delivered = tally.delivered.saturating_add(1);
                let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                match tally.newest.iter_mut().find(|(t, p, _)| *p == partition && t == topic) {
                    Some((_, _, newest)) => *newest = offset.max(*newest),
                    None => tally.newest.push((topic.to_owned(), partition, offset)),
                }
            }
            Err((error, _)) => {
                tally.failed = tally.failed.saturating_add(1);
                tally.first_failure.get_or_insert_with(|| format!("line {line}: {error}"));
            }
        }
    }
}

impl Deliveries {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        // Counters stay true whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    pub(super) fn new(config: &Config, partitioner: Partitioner) -> anyhow::Result<Self> {
        let cluster = Cluster::new(config.kafka.clone());
        let client = cluster.client(&[
            ("client.id", "balance-projector-publish"),
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", DELIVERY_TIMEOUT_MS),
            ("compression.type", "lz4"),
            ("linger.ms", "20"),
            ("batch.num.messages", "10000"),
            ("queue.buffering.max.messages", "100000"),
            ("queue.buffering.max.kbytes", "131072"),
            // The broker decides what is too large; the client is not to refuse before it.
            ("message.max.bytes", "100000000"),
            (
                "partitioner",
                match partitioner {
                    Partitioner::ConsistentRandom => "consistent_random",
                    Partitioner::Murmur2Random => "murmur2_random",
                },
            ),
        ]);
        Ok(Sender {
            cluster,
            producer: client
                .create_with_context(Deliveries::default())
                .map_err(|e| anyhow!("the producer cannot start: {e}"))?,
            structured: OwnedHeaders::new()
                .insert(Header { key: "content-type", value: Some(wire::STRUCTURED) }),
            sent: 0,
            topics: Vec::new(),
        })
    }

    /// Hands a line's record to the producer; waits while its queue is full. An error means that nothing more is to be
    /// sent; what was before is still on its way.
    pub(super) fn send(&mut self, line: u64, record: &Record<'_>) -> anyhow::Result<()> {
        /// Acknowledgements are taken in now and then.
        const STRIDE: u64 = 512;
        if !self.topics.contains(&record.topic) {
            self.look_up(record.topic)?;
            self.topics.push(record.topic);
        }
        let topic = self.cluster.topic_name(record.topic);
        let headers = record.headers.as_ref().map_or_else(
            || self.structured.clone(),
            |headers| {
                headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: value.as_ref() })
                })
            },
        );
        let opaque = usize::try_from(line).unwrap_or(usize::MAX);
        let mut message = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, opaque).headers(headers);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        let mut told = Instant::now();
        loop {
            match self.producer.send(message) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(2));
                    self.no_failure()?;
                    self.tell_waiting(&mut told);
                    message = back;
                }
                Err((error, _)) => bail!("line {line}: the record for {topic} cannot be sent: {error}"),
            }
        }
        self.sent = self.sent.saturating_add(1);
        if self.sent.is_multiple_of(STRIDE) {
            self.producer.poll(Duration::ZERO);
            self.no_failure()?;
        }
        Ok(())
    }

    /// Waits until it is known what became of every record, and tells what went wrong: with one of them, or when the last
    /// was handed over.
    pub(super) fn finish(self, sent: anyhow::Result<()>) -> anyhow::Result<Positions> {
        let (begun, mut told) = (Instant::now(), Instant::now());
        while let Err(error) = self.producer.flush(Duration::from_secs(1)) {
            self.tell_waiting(&mut told);
            if begun.elapsed() > FLUSH_TIMEOUT {
                self.no_failure()?;
                sent?;
                bail!("the broker does not acknowledge what was sent: {error}");
            }
        }
        self.no_failure()?;
        sent.with_context(|| format!("{} records were delivered before", self.sent))?;
        let tally = self.producer.context().tally();
        if tally.delivered != self.sent {
            bail!("{} of {} records were acknowledged", tally.delivered, self.sent);
        }
        Ok(Positions(tally.newest.iter().map(|(t, p, offset)| ((t.clone(), *p), *offset)).collect()))
    }

    fn tell_waiting(&self, told: &mut Instant) {
        if told.elapsed() >= PATIENCE {
            *told = Instant::now();
            let tally = self.producer.context().tally();
            let error = tally.first_failure.as_deref().or(tally.last_error.as_deref());
            let error = error.unwrap_or("no error was told");
            eprintln!("waiting for the broker: {} of {} acknowledged; {error}", tally.delivered, self.sent);
        }
    }

    fn no_failure(&self) -> anyhow::Result<()> {
        let tally = self.producer.context().tally();
        match &tally.first_failure {
            None => Ok(()),
            Some(first) => bail!(
                "{} of {} records were not delivered, {} were; the first: {first}",
                tally.failed,
                self.sent,
                tally.delivered
            ),
        }
    }

    /// Asks for the topic first: a missing one would be told half a minute later.
    fn look_up(&self, topic: Topic) -> anyhow::Result<()> {
        let name = self.cluster.topic_name(topic);
        let metadata = self.producer.client().fetch_metadata(Some(name), METADATA_TIMEOUT);
        let brokers = &self.cluster.settings().brokers;
        let metadata = metadata.map_err(|error| {
            self.producer.poll(TAKEN_IN);
            let cause = self.producer.context().tally().last_error.clone();
            let cause = cause.map(|cause| format!("; {cause}")).unwrap_or_default();
            anyhow!("no broker of kafka.brokers ({brokers}) answers: {error}{cause}")
        })?;
        match metadata.topics().iter().find(|t| t.name() == name) {
            Some(found) if found.error().is_none() && !found.partitions().is_empty() => Ok(()),
            Some(_) | None => bail!("the topic {name} does not exist: create it with cleanup.policy=delete"),
        }
    }
}
