//! The birth of a generation, and what outlives a lost store: records of the decisions topic.
//!
//! A missing checkpoint is never read as offset 0. What a partition starts from is written to the decisions
//! topic before anything is folded, and a store that lost everything is filled again from there.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList, consumer::Consumer, error::KafkaError, message::Message,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::{Offset, Parameters, PartitionId, Subject, Topic},
    source::{
        Cluster,
        producer::{Outgoing, Producer},
    },
    store::Generation,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A record of the decisions topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Decision {
    /// A generation begins.
    Born(Birth),
    /// A subject showed up in a second partition: this one is its home.
    Home {
        /// Its topic.
        topic: Topic,
        /// The whole id.
        subject: String,
        /// The partition in which its first event was folded.
        partition: i32,
    },
}

/// How a generation began. The first birth of a generation in the topic is the one that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// Tells two births of one generation apart.
    pub id: Uuid,
    /// Which generation.
    pub generation: Generation,
    /// The topics, by what they carry.
    pub topics: BTreeMap<Topic, BirthTopic>,
    /// Everything besides the log on which a cell depends.
    pub parameters: Parameters,
    /// Readers are pointed to it from its birth: the first generation of a deployment.
    pub active: bool,
}

/// A topic as a generation pins it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthTopic {
    /// Its name on the broker.
    pub name: String,
    /// The first offset to fold, per partition.
    pub starts: Vec<Offset>,
}

impl Birth {
    /// Where a partition starts; `None` for one that did not exist at the birth.
    pub fn start(&self, id: PartitionId) -> Option<Offset> {
        self.topics.get(&id.topic)?.starts.get(usize::try_from(id.partition).ok()?).copied()
    }

    /// Every partition with its start.
    pub fn starts(&self) -> Vec<(PartitionId, Offset)> {
        let of_topic = |(topic, born): (&Topic, &BirthTopic)| {
            let topic = *topic;
            (0..)
                .zip(born.starts.clone())
                .map(move |(partition, start)| (PartitionId { topic, partition }, start))
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    /// How many partitions each topic had.
    pub fn counts(&self) -> BTreeMap<Topic, usize> {
        self.topics.iter().map(|(topic, born)| (*topic, born.starts.len())).collect()
    }
}

/// The decisions topic, read whole.
#[derive(Debug, Clone, Default)]
pub struct Decisions {
    /// The first birth of each generation.
    pub births: BTreeMap<Generation, Birth>,
    /// The recorded homes.
    pub homes: HashMap<Subject, i32>,
}

/// The generation cannot be fed by this process; what a human can do is in the message.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// Records that the projection needs are gone.
    #[error(
        "generation {generation} cannot begin: {partition} starts at offset {low}, not at 0, so records are \
         gone that balances rest on; restore the topic, or begin from a snapshot"
    )]
    NoBeginning {
        /// Which one.
        generation: u32,
        /// As operators know it.
        partition: String,
        /// Its low watermark.
        low: i64,
    },
    /// A setting differs from what the generation was born with.
    #[error(
        "generation {generation} was born with {what} = {born}, this process has {found}: put it back, or \
         rebuild into a new generation"
    )]
    Pinned {
        /// Which one.
        generation: u32,
        /// Which setting.
        what: &'static str,
        /// Its value at the birth.
        born: String,
        /// Its value here.
        found: String,
    },
    /// A record of the decisions topic cannot be read.
    #[error(
        "record {offset} of topic {topic} is not a decision that this version knows ({reason}): upgrade, or correct the topic's name"
    )]
    Unreadable {
        /// The topic's name.
        topic: String,
        /// Which record.
        offset: i64,
        /// Why not.
        reason: String,
    },
    /// Worth another try.
    #[error("the broker did not answer: {0}")]
    Unanswered(#[from] KafkaError),
}

/// Reads the decisions topic from its beginning to the end that it has now; blocking.
pub fn read(cluster: &Cluster) -> Result<Decisions, GenerationError> {
    let inquirer = cluster.inquirer("read_committed")?;
    let topic = &cluster.settings().decisions_topic;
    let (low, end) = inquirer.fetch_watermarks(topic, 0, TIMEOUT)?;
    let mut decisions = Decisions::default();
    if low >= end {
        return Ok(decisions);
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, KafkaOffset::Offset(low))?;
    inquirer.assign(&list)?;
    let deadline = Instant::now().checked_add(TIMEOUT);
    loop {
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(
                KafkaError::MessageConsumption(rdkafka::error::RDKafkaErrorCode::OperationTimedOut).into()
            );
        }
        let next = match inquirer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(decisions),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) => {
                let unreadable = |reason: String| GenerationError::Unreadable {
                    topic: topic.clone(),
                    offset: message.offset(),
                    reason,
                };
                let value = message.payload().unwrap_or_default();
                let decision =
                    serde_json::from_slice(value).map_err(|error| unreadable(error.to_string()))?;
                decisions.adopt(decision);
                Offset(message.offset()).next()
            }
        };
        if next.0 >= end {
            return Ok(decisions);
        }
    }
}

impl Decisions {
    fn adopt(&mut self, decision: Decision) {
        match decision {
            Decision::Born(birth) => {
                self.births.entry(birth.generation).or_insert(birth);
            }
            Decision::Home { topic, subject, partition } => {
                if let Ok(subject) = Subject::of_key(topic, &subject) {
                    self.homes.entry(subject).or_insert(partition);
                }
            }
        }
    }
}

/// Publishes a decision and waits until it is acknowledged.
pub async fn record(cluster: &Cluster, producer: &Producer, decision: &Decision) -> Result<(), KafkaError> {
    let key = match decision {
        Decision::Born(birth) => format!("generation/{}", birth.generation.0),
        Decision::Home { topic, subject, .. } => format!("home/{}/{subject}", cluster.topic_name(*topic)),
    };
    let value = serde_json::to_vec(decision)
        .map_err(|error| KafkaError::ClientCreation(format!("a decision could not be written: {error}")))?;
    let record = Outgoing {
        topic: cluster.settings().decisions_topic.clone(),
        key: Some(key.into_bytes()),
        value: Some(value),
        headers: Vec::new(),
    };
    producer.write(&record).await
}

/// The birth of the generation that this process feeds: the recorded one, if its pinned settings are ours;
/// else a new one, if every partition still has its beginning.
pub async fn settle(
    cluster: &Cluster,
    producer: &Producer,
    generation: Generation,
    parameters: Parameters,
    counts: &[(Topic, usize)],
) -> Result<Birth, GenerationError> {
    if let Some(birth) = read(cluster)?.births.remove(&generation) {
        check_pinned(cluster, &birth, &parameters, counts)?;
        return Ok(birth);
    }
    let inquirer = cluster.inquirer("read_uncommitted")?;
    let mut topics = BTreeMap::new();
    for (topic, count) in counts {
        let mut starts = Vec::new();
        for partition in 0..i32::try_from(*count).unwrap_or(i32::MAX) {
            let id = PartitionId { topic: *topic, partition };
            let (low, _) = crate::source::watermarks(cluster, &inquirer, id, TIMEOUT)?;
            if low > 0 {
                return Err(GenerationError::NoBeginning {
                    generation: generation.0,
                    partition: cluster.display(id),
                    low,
                });
            }
            starts.push(Offset(0));
        }
        topics.insert(*topic, BirthTopic { name: cluster.topic_name(*topic).to_owned(), starts });
    }
    let birth =
        Birth { id: Uuid::new_v4(), generation, topics, parameters: parameters.clone(), active: true };
    record(cluster, producer, &Decision::Born(birth)).await?;
    // Another process may have been first: what the topic says counts.
    let mut births = read(cluster)?.births;
    let birth = births
        .remove(&generation)
        .ok_or_else(|| KafkaError::MessageConsumption(rdkafka::error::RDKafkaErrorCode::OperationTimedOut))?;
    check_pinned(cluster, &birth, &parameters, counts)?;
    Ok(birth)
}

fn check_pinned(
    cluster: &Cluster,
    birth: &Birth,
    ours: &Parameters,
    counts: &[(Topic, usize)],
) -> Result<(), GenerationError> {
    let born = &birth.parameters;
    let generation = birth.generation.0;
    let pairs = [
        ("the fold's version", born.fold_version.to_string(), ours.fold_version.to_string()),
        ("zone", born.zone.clone(), ours.zone.clone()),
        ("wire.event_window", born.event_window.to_string(), ours.event_window.to_string()),
        ("wire.value_bytes_max", born.value_bytes_max.to_string(), ours.value_bytes_max.to_string()),
        ("wire.depth_max", born.depth_max.to_string(), ours.depth_max.to_string()),
    ];
    for (what, born, found) in pairs {
        if born != found {
            return Err(GenerationError::Pinned { generation, what, born, found });
        }
    }
    for (topic, count) in counts {
        let Some(pinned) = birth.topics.get(topic) else { continue };
        let name = cluster.topic_name(*topic);
        if pinned.name != name {
            let (born, found) = (pinned.name.clone(), name.to_owned());
            return Err(GenerationError::Pinned { generation, what: "the topic's name", born, found });
        }
        if pinned.starts.len() != *count {
            return Err(GenerationError::Pinned {
                generation,
                what: "a partition count",
                born: format!("{} of {name}", pinned.starts.len()),
                found: count.to_string(),
            });
        }
    }
    Ok(())
}
