//! The birth of a generation: what it starts from, and whether this process may feed it.
//!
//! A missing checkpoint is never read as offset 0. What a partition starts from is written to the decisions
//! topic before anything is folded, and a store that lost everything is filled again from there.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::error::KafkaError;
use uuid::Uuid;

use crate::{
    decisions::{self, Birth, BirthTopic, Decision, Decisions, DecisionsError, Origin},
    domain::{Offset, Parameters, PartitionId, Topic},
    source::{Cluster, producer::Producer},
    store::Generation,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The generation cannot be fed by this process; what a human can do is in the message.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// Records that the projection needs are gone.
    #[error(
        "generation {generation} cannot begin: {partition} starts at offset {low}, not at 0, so records are \
         gone that balances rest on; restore the topic, or begin with `rebuild start` from a snapshot or from where the log starts"
    )]
    NoBeginning {
        /// Which one.
        generation: u32,
        /// As operators know it.
        partition: String,
        /// Its low watermark.
        low: i64,
    },
    /// Only the first generation of a deployment begins by itself.
    #[error(
        "generation {generation} was never begun, there is {known}: set `generation` to one of those, or begin a new \
         one with `rebuild start`"
    )]
    NotBegun {
        /// Which one.
        generation: u32,
        /// Those that are fed.
        known: String,
    },
    /// Nothing is left to be fed.
    #[error(
        "generation {generation} was retired by {who} at {at}, and readers are served no other: begin a new one with `rebuild start`"
    )]
    Retired {
        /// Which one.
        generation: u32,
        /// By whom.
        who: String,
        /// When.
        at: String,
    },
    /// A setting differs from what the generation was born with.
    #[error(
        "generation {generation} was born with {what} = {born}, this process has {found}: put it back, or \
         rebuild into a generation of another number (`rebuild start --generation N`)"
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
    /// The decisions topic cannot be used.
    #[error(transparent)]
    Decisions(#[from] DecisionsError),
    /// Worth another try.
    #[error("the broker did not answer: {0}")]
    Unanswered(#[from] KafkaError),
}

/// The birth of the generation that this process feeds: the recorded one, if its pinned settings are ours. Where
/// the configured one is retired, that is the one that readers are served. The first of a deployment is born here,
/// if every partition still has its beginning; later ones begin with `rebuild start`.
pub async fn settle(
    cluster: &Cluster,
    producer: &Producer,
    configured: Generation,
    parameters: Parameters,
    counts: &[(Topic, usize)],
) -> Result<Birth, GenerationError> {
    let mut decisions = decisions::read(cluster)?;
    let generation = followed(&decisions, configured)?;
    if let Some(birth) = decisions.births.remove(&generation) {
        check_pinned(cluster, &birth, &parameters, counts)?;
        return Ok(birth);
    }
    if !decisions.births.is_empty() {
        let known: Vec<_> = decisions.live().map(|birth| birth.generation.0.to_string()).collect();
        let (generation, known) = (generation.0, known.join(", "));
        return Err(GenerationError::NotBegun { generation, known });
    }
    let mut topics = BTreeMap::new();
    let starts = heads(cluster, counts)?;
    for (topic, partitions) in starts {
        if let Some((partition, low)) = (0..).zip(&partitions).find(|(_, low)| low.0 > 0) {
            return Err(GenerationError::NoBeginning {
                generation: generation.0,
                partition: cluster.display(PartitionId { topic, partition }),
                low: low.0,
            });
        }
        let name = cluster.topic_name(topic).to_owned();
        topics.insert(topic, BirthTopic { name, starts: partitions, cuts: Vec::new() });
    }
    let birth = Birth {
        id: Uuid::new_v4(),
        generation,
        topics,
        parameters: parameters.clone(),
        active: true,
        origin: Origin::Beginning,
        made_anew: 0,
        act: None,
    };
    let birth = record(cluster, producer, birth).await?;
    check_pinned(cluster, &birth, &parameters, counts)?;
    Ok(birth)
}

/// Records a birth and returns the one that counts: another process may have been first.
pub async fn record(cluster: &Cluster, producer: &Producer, birth: Birth) -> Result<Birth, GenerationError> {
    let generation = birth.generation;
    decisions::record(cluster, producer, &Decision::Born(birth)).await?;
    let mut births = decisions::read(cluster)?.births;
    let unread = || KafkaError::MessageConsumption(rdkafka::error::RDKafkaErrorCode::OperationTimedOut);
    Ok(births.remove(&generation).ok_or_else(unread)?)
}

/// The first offset that each partition still holds.
pub fn heads(
    cluster: &Cluster,
    counts: &[(Topic, usize)],
) -> Result<BTreeMap<Topic, Vec<Offset>>, KafkaError> {
    let inquirer = cluster.inquirer("read_uncommitted")?;
    let mut heads = BTreeMap::new();
    for (topic, count) in counts {
        let mut lows = Vec::new();
        for partition in 0..i32::try_from(*count).unwrap_or(i32::MAX) {
            let id = PartitionId { topic: *topic, partition };
            let (low, _) = crate::source::watermarks(cluster, &inquirer, id, TIMEOUT)?;
            lows.push(Offset(low));
        }
        heads.insert(*topic, lows);
    }
    Ok(heads)
}

fn followed(decisions: &Decisions, configured: Generation) -> Result<Generation, GenerationError> {
    let Some(act) = decisions.retired.get(&configured) else { return Ok(configured) };
    let serving = decisions.serving().filter(|serving| !decisions.retired.contains_key(serving));
    serving.ok_or_else(|| GenerationError::Retired {
        generation: configured.0,
        who: act.who.clone(),
        at: format!("{:.0}", act.at.0),
    })
}

fn listed(types: &[String]) -> String {
    if types.is_empty() { "none".to_owned() } else { types.join(" ") }
}

/// A process whose settings are not those that the generation was born with may not feed it.
pub fn check_pinned(
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
        ("wire.types_ignored", listed(&born.types_ignored), listed(&ours.types_ignored)),
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
