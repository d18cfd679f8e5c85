//! Kafka: polling and assignment, watermarks, topics, producers; the embedded broker.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::{
    config::{self, KafkaSecurity},
    domain::{Offset, PartitionId, Topic},
};

pub mod batch;
pub mod embedded;
pub mod poller;
pub mod producer;
pub mod queue;
pub mod scan;
pub mod topics;
pub mod watch;

/// Events of a client that wait to be taken in, at most: one that was taken in looks like none.
const EVENTS_MAX: usize = 1_000;

/// A consumer outside the group.
pub type Inquirer = BaseConsumer<Quiet>;

/// Of every client but that of the group: says nothing of the end of a partition, which is an answer and no error, and
/// nothing of brokers that are away.
#[derive(Debug, Default)]
pub struct Quiet {
    failed: ArcSwapOption<String>,
}

impl Quiet {
    /// What the client said, and where it has no broker, why: one that refuses a password or a certificate does not
    /// answer either. What it is told of is taken in by polling the client.
    pub fn with_cause(&self, error: &KafkaError) -> String {
        match self.failed.load().as_deref().filter(|_| is_away(error)) {
            Some(cause) => format!("{error}; {cause}"),
            None => error.to_string(),
        }
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            return;
        }
        if let Some(cause) = cause(&error, reason) {
            self.failed.store(Some(Arc::new(cause)));
        }
        tell(&error, reason);
    }
}

/// Why a connection failed, where an error tells that: not the one that only counts the brokers that are away.
pub(crate) fn cause(error: &KafkaError, reason: &str) -> Option<String> {
    let counts = matches!(error, KafkaError::Global(RDKafkaErrorCode::AllBrokersDown));
    (!counts).then(|| if reason.is_empty() { error.to_string() } else { reason.to_owned() })
}

/// [`Quiet::with_cause`] of a consumer that reads nothing.
pub(crate) fn why(inquirer: &Inquirer, error: &KafkaError) -> String {
    for _ in 0..EVENTS_MAX {
        inquirer.poll(Duration::ZERO);
    }
    inquirer.context().with_cause(error)
}

/// A line of the client's own.
fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // What is set for all clients need not concern each.
        _ if facility == "CONFWARN" && message.contains("property and will be ignored") => {}
        // Each of these is an error as well, which has its own way: `tell`.
        _ if matches!(facility, "FAIL" | "ERROR") => tracing::debug!(facility, message, "kafka client"),
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "kafka client"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, message, "kafka client"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "kafka client"),
    }
}

/// An error of a client's. That brokers are away comes many times a second, from each client, and goes on for a while
/// after they are back: who asks them something tells of it.
fn tell(error: &KafkaError, reason: &str) {
    if is_away(error) {
        tracing::debug!(%error, reason, "kafka client");
    } else {
        tracing::warn!(%error, reason, "kafka client");
    }
}

/// Lets go of a client that may have lost its brokers for good: to close it takes as long as it waits for them.
pub(crate) fn discard<C: Send + 'static>(client: C) {
    let closing = std::thread::Builder::new().name("replaced".to_owned()).spawn(move || drop(client));
    if let Err(error) = closing {
        tracing::warn!(%error, "a client was closed while others waited");
    }
}

/// Whether an error says no more than that brokers do not answer.
fn is_away(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
        )
    )
}

impl ConsumerContext for Quiet {}

/// Where the log is and what its topics are called.
#[derive(Debug, Clone)]
pub struct Cluster {
    settings: config::Kafka,
    embedded: bool,
}

impl Cluster {
    /// A cluster of real brokers.
    pub fn new(settings: config::Kafka) -> Self {
        Cluster { settings, embedded: false }
    }

    /// The same cluster, for a member of another group.
    #[must_use]
    pub fn in_group(mut self, group: String) -> Self {
        self.settings.group = group;
        self
    }

    /// The name of a topic on the broker.
    pub fn topic_name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Ledger => &self.settings.ledger_topic,
            Topic::Payment => &self.settings.payment_topic,
        }
    }

    /// The topic of a name on the broker.
    pub fn topic(&self, name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| self.topic_name(*topic) == name)
    }

    /// The topic that an operator means: by its name on the broker, or as `ledger` or `payment`.
    pub fn topic_meant(&self, name: &str) -> Option<Topic> {
        self.topic(name).or(match name {
            "ledger" => Some(Topic::Ledger),
            "payment" => Some(Topic::Payment),
            _ => None,
        })
    }

    /// The partition that an operator means by `TOPIC/PARTITION`.
    pub fn partition_meant(&self, text: &str) -> Option<PartitionId> {
        let (topic, partition) = text.rsplit_once('/')?;
        let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
        Some(PartitionId { topic: self.topic_meant(topic)?, partition })
    }

    /// The record that an operator means by `TOPIC/PARTITION@OFFSET`.
    pub fn record_meant(&self, text: &str) -> Option<(PartitionId, Offset)> {
        let (partition, offset) = text.rsplit_once('@')?;
        let offset = offset.parse().ok().filter(|offset| *offset >= 0)?;
        Some((self.partition_meant(partition)?, Offset(offset)))
    }

    /// `ledger.events/1`: a partition as operators know it.
    pub fn display(&self, id: PartitionId) -> String {
        format!("{}/{}", self.topic_name(id.topic), id.partition)
    }

    /// The settings of the topics.
    pub fn settings(&self) -> &config::Kafka {
        &self.settings
    }

    /// Whether this is librdkafka's in-process broker, which has no topic settings to check.
    pub fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// What every client of this cluster starts from; the operator's own settings stand over it.
    pub fn client(&self, role: &[(&str, &str)]) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Warning);
        client.set("bootstrap.servers", &self.settings.brokers);
        client.set("client.id", "balance-projector");
        client.set("allow.auto.create.topics", "false");
        // A broker that comes back is to be found at once, not after the default's ten seconds.
        client.set("reconnect.backoff.max.ms", "1000");
        client.set("topic.metadata.refresh.interval.ms", "30000");
        self.secured(&mut client);
        for (key, value) in role {
            client.set(*key, *value);
        }
        for (key, value) in &self.settings.properties {
            client.set(key, value);
        }
        client
    }

    /// TLS, and who this program is. Files are read for each client.
    fn secured(&self, client: &mut ClientConfig) {
        let config::Kafka { security, tls, sasl, .. } = &self.settings;
        let secure = *security == KafkaSecurity::Tls;
        match (secure, sasl.mechanism.is_some()) {
            (false, false) => {}
            (false, true) => drop(client.set("security.protocol", "sasl_plaintext")),
            (true, false) => drop(client.set("security.protocol", "ssl")),
            (true, true) => drop(client.set("security.protocol", "sasl_ssl")),
        }
        if secure {
            // The bundled OpenSSL does not know where this system keeps its authorities.
            let authority = tls.ca_file.as_ref().map_or("probe".into(), |path| path.to_string_lossy());
            client.set("ssl.ca.location", authority);
            if let (Some(certificate), Some(key)) = (&tls.certificate_file, &tls.key_file) {
                client.set("ssl.certificate.location", certificate.to_string_lossy());
                client.set("ssl.key.location", key.to_string_lossy());
            }
        }
        if let (Some(mechanism), Some(username), Some(file)) =
            (&sasl.mechanism, &sasl.username, &sasl.password_file)
        {
            client.set("sasl.mechanism", mechanism).set("sasl.username", username);
            match crate::tls::read_password(file) {
                Ok(password) => drop(client.set("sasl.password", password)),
                // Without a password the client cannot be made: that is told where it is.
                Err(error) => tracing::error!(%error, "kafka.sasl.password_file cannot be read"),
            }
        }
    }

    /// A consumer outside the group, for questions and for reading a topic from a chosen offset.
    ///
    /// With `read_uncommitted` the end that the broker names is the high watermark: a record behind an open
    /// transaction is not applied, and an answer without it is not fresh.
    pub fn inquirer(&self, isolation: &str) -> Result<Inquirer, KafkaError> {
        self.client(&[
            ("group.id", &format!("{}-inquirer", self.settings.group)),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
            // The default waits a second once the prefetch is full.
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.wait.max.ms", "100"),
            ("isolation.level", isolation),
        ])
        .create_with_context(Quiet::default())
    }

    fn list(&self, ids: impl IntoIterator<Item = PartitionId>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for id in ids {
            list.add_partition(self.topic_name(id.topic), id.partition);
        }
        list
    }
}

/// The low and the high watermark, as the broker answers now; blocking.
pub fn watermarks(
    cluster: &Cluster,
    inquirer: &Inquirer,
    id: PartitionId,
    timeout: Duration,
) -> Result<(i64, i64), KafkaError> {
    inquirer.fetch_watermarks(cluster.topic_name(id.topic), id.partition, timeout)
}
