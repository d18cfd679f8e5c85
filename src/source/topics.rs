//! What the topics must be, checked at the start; the two that the projector needs are created if missing.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use super::{Cluster, Inquirer, Quiet};
use crate::domain::Topic;

const TIMEOUT: Duration = Duration::from_secs(10);
/// What keeps a topic for ever, each at -1.
const KEPT: [&str; 2] = ["retention.ms", "retention.bytes"];

/// The topics are not what they must be.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// Nobody can say what is missing but an operator.
    #[error("topic {topic} does not exist: create it, or correct its name in the configuration")]
    Missing {
        /// Its name.
        topic: String,
    },
    /// Compaction drops what a rebuild would need.
    #[error(
        "topic {topic} has cleanup.policy={policy}: a balance needs every record, so set cleanup.policy=delete"
    )]
    Compacted {
        /// Its name.
        topic: String,
        /// What the broker said.
        policy: String,
    },
    /// Decisions are read in order and for ever.
    #[error("topic {topic} has {setting}={found}: it must be {wanted}")]
    Setting {
        /// Its name.
        topic: String,
        /// Which setting.
        setting: &'static str,
        /// What the broker said.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// No other try changes that.
    #[error(
        "the broker denies topic {topic} to this user: {error}; grant what deploy/kafka/acls lists for its role"
    )]
    Denied {
        /// Its name.
        topic: String,
        /// What the broker said.
        error: KafkaError,
    },
    /// An operator creates it, or lets this program do so.
    #[error(
        "topic {topic} does not exist, and this user may not create it ({code}): create it with one partition, \
         cleanup.policy=delete, retention.ms=-1 and retention.bytes=-1"
    )]
    NotCreated {
        /// Its name.
        topic: String,
        /// What the broker said.
        code: RDKafkaErrorCode,
    },
    /// The broker did not answer: worth another try.
    #[error("the broker did not answer about topic {topic}: {reason}")]
    Unanswered {
        /// Its name.
        topic: String,
        /// What the client said.
        reason: String,
    },
}

impl TopicError {
    /// `why` tells what keeps a client from its brokers.
    fn of(topic: &str, error: KafkaError, why: impl FnOnce(&KafkaError) -> String) -> Self {
        let topic = topic.to_owned();
        let code =
            if let KafkaError::AdminOp(code) = &error { Some(*code) } else { error.rdkafka_error_code() };
        if code.is_some_and(is_denied) {
            return TopicError::Denied { topic, error };
        }
        TopicError::Unanswered { topic, reason: why(&error) }
    }
}

/// Whether another try brings the same answer.
fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::PolicyViolation
    )
}

/// How many partitions a topic has; `None` where it does not exist.
pub fn partitions(inquirer: &Inquirer, topic: &str) -> Result<Option<usize>, TopicError> {
    let failed = |error| TopicError::of(topic, error, |error| super::why(inquirer, error));
    let metadata = inquirer.fetch_metadata(Some(topic), TIMEOUT).map_err(failed)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    if found.error() == Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) {
        let denied = KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed);
        return Err(failed(denied));
    }
    let count = found.partitions().len();
    Ok(Some(count).filter(|count| found.error().is_none() && *count > 0))
}

/// Checks the two topics that are folded and returns their partition counts.
pub async fn check_folded(cluster: &Cluster, inquirer: &Inquirer) -> Result<Vec<(Topic, usize)>, TopicError> {
    let mut counts = Vec::new();
    for topic in Topic::ALL {
        let name = cluster.topic_name(topic);
        let count =
            partitions(inquirer, name)?.ok_or_else(|| TopicError::Missing { topic: name.to_owned() })?;
        if !cluster.is_embedded() {
            let policy = setting(cluster, name, "cleanup.policy").await?;
            if policy != "delete" {
                return Err(TopicError::Compacted { topic: name.to_owned(), policy });
            }
        }
        counts.push((topic, count));
    }
    Ok(counts)
}

/// The cleanup policy of a topic that is not kept whole; `None` where it is.
pub async fn compaction(cluster: &Cluster, topic: &str) -> Result<Option<String>, TopicError> {
    if cluster.is_embedded() {
        return Ok(None);
    }
    let policy = setting(cluster, topic, "cleanup.policy").await?;
    Ok(Some(policy).filter(|policy| policy != "delete"))
}

/// Creates the decisions and the dead-letter topic where missing, and checks their settings.
pub async fn check_own(cluster: &Cluster, inquirer: &Inquirer) -> Result<(), TopicError> {
    if cluster.is_embedded() {
        return Ok(());
    }
    let settings = cluster.settings();
    for name in [&settings.decisions_topic, &settings.dead_letter_topic] {
        if partitions(inquirer, name)?.is_none() {
            create(cluster, name).await?;
        }
        let policy = setting(cluster, name, "cleanup.policy").await?;
        if policy != "delete" {
            return Err(TopicError::Compacted { topic: name.clone(), policy });
        }
    }
    let decisions = &settings.decisions_topic;
    if let Some(count) = partitions(inquirer, decisions)?
        && count != 1
    {
        return Err(TopicError::Setting {
            topic: decisions.clone(),
            setting: "partitions",
            found: count.to_string(),
            wanted: "1, for decisions have one order",
        });
    }
    for key in KEPT {
        let retention = setting(cluster, decisions, key).await?;
        if retention != "-1" {
            return Err(TopicError::Setting {
                topic: decisions.clone(),
                setting: key,
                found: retention,
                wanted: "-1, for a rebuild needs every decision",
            });
        }
    }
    Ok(())
}

/// How long the broker keeps a record of a topic that is folded; `None` where it keeps them all.
pub async fn retention(cluster: &Cluster, topic: Topic) -> Result<Option<Duration>, TopicError> {
    if cluster.is_embedded() {
        return Ok(None);
    }
    let told = setting(cluster, cluster.topic_name(topic), "retention.ms").await?;
    // -1 is for ever.
    Ok(told.parse().ok().map(Duration::from_millis))
}

/// One partition, kept for ever.
async fn create(cluster: &Cluster, name: &str) -> Result<(), TopicError> {
    let admin = admin(cluster, name)?;
    let failed = |error| TopicError::of(name, error, |error| admin.inner().context().with_cause(error));
    let copies = TopicReplication::Fixed(cluster.settings().replication_factor);
    let topic = NewTopic::new(name, 1, copies).set("cleanup.policy", "delete");
    let topic = KEPT.into_iter().fold(topic, |topic, key| topic.set(key, "-1"));
    let results = admin
        .create_topics([&topic], &AdminOptions::new().operation_timeout(Some(TIMEOUT)))
        .await
        .map_err(failed)?;
    for result in results {
        match result {
            // Another process may have created it meanwhile.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) if is_denied(code) => {
                return Err(TopicError::NotCreated { topic: name.to_owned(), code });
            }
            Err((_, code)) => return Err(failed(KafkaError::AdminOp(code))),
        }
    }
    Ok(())
}

async fn setting(cluster: &Cluster, topic: &str, key: &str) -> Result<String, TopicError> {
    let admin = admin(cluster, topic)?;
    let failed = |error| TopicError::of(topic, error, |error| admin.inner().context().with_cause(error));
    let answers = admin
        .describe_configs(
            [&ResourceSpecifier::Topic(topic)],
            &AdminOptions::new().request_timeout(Some(TIMEOUT)),
        )
        .await
        .map_err(failed)?;
    let mut found = None;
    for answer in answers {
        let resource = answer.map_err(|code| failed(KafkaError::AdminOp(code)))?;
        found = resource.get(key).and_then(|entry| entry.value.clone()).or(found);
    }
    // A topic that was made a moment ago may have no settings yet.
    found.ok_or_else(|| failed(KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopicOrPartition)))
}

fn admin(cluster: &Cluster, topic: &str) -> Result<AdminClient<Quiet>, TopicError> {
    let made = cluster.client(&[]).create_with_context(Quiet::default());
    made.map_err(|error| TopicError::of(topic, error, ToString::to_string))
}
