//! The decisions topic: what outlives a lost store. Births of generations, homes of subjects, and everything that
//! an operator decided, each with who, when and why.
//!
//! One partition, kept for ever, read from its beginning at every start and followed from then on. Where two
//! records contradict each other, their order in the topic decides: the first birth of a generation and the first
//! home of a subject count; of the patches of a record the first that gets past it; of everything else the newest.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    message::Message,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::{Offset, Parameters, PartitionId, Subject, Time, Topic},
    source::{
        Cluster, Inquirer,
        producer::{Outgoing, Producer},
    },
    store::Generation,
    telemetry::Seldom,
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a follower makes sure that it still hears of new decisions, and how long the broker may take.
const LOOKED_AFTER_EVERY: Duration = Duration::from_secs(10);
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// How long a follower waits behind an error of its client, and behind a record that it cannot read.
const AFTER_AN_ERROR: Duration = Duration::from_millis(2);
const AFTER_A_RECORD: Duration = Duration::from_secs(1);

/// A record of the decisions topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        /// Of which log: see [`Patch::log`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<String>,
    },
    /// What to do with a record that was set aside.
    Patch(Patch),
    /// Two generations were compared.
    Compared(Comparison),
    /// Readers were pointed to a generation.
    Promoted {
        /// What they read before.
        from: Generation,
        /// What they read from now on.
        to: Generation,
        /// Who, when and why.
        act: Act,
    },
    /// A generation is fed no more, and deleted.
    Retired {
        /// Which one.
        generation: Generation,
        /// Who, when and why.
        act: Act,
    },
    /// Folding is to stand still.
    Paused {
        /// In which generation.
        generation: Generation,
        /// One topic, or all.
        topic: Option<Topic>,
        /// Owners go on by themselves this long after they heard of it; without it, when they are told to. A
        /// command that holds a generation for a moment may be killed in that moment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_ms: Option<u64>,
        /// Who, when and why.
        act: Act,
    },
    /// Folding is to go on.
    Resumed {
        /// In which generation.
        generation: Generation,
        /// One topic, or all.
        topic: Option<Topic>,
        /// Only what was decided by this act; without it, whatever stands. So what a command takes back is its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<Act>,
        /// Who, when and why.
        act: Act,
    },
}

/// Who decided, when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// The operator's name, as the system knows it.
    pub who: String,
    /// By the clock of the operator's machine; informs, and decides nothing.
    pub at: Time,
    /// In the operator's words; empty where none were asked for.
    pub why: String,
}

/// A patch on the log: how to fold the record at a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// The record's partition.
    pub partition: PartitionId,
    /// The record's offset.
    pub offset: Offset,
    /// Its key, where it has a usable one.
    pub key: Option<String>,
    /// What to do.
    pub remedy: Remedy,
    /// Which log it amends ([`Birth::log`]): what lies at that place in another one is another record. Without it, the
    /// log that readers were served from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Who, when and why.
    pub act: Act,
}

/// What to do with a record that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Fold it again as it stands: whatever was in its way is mended.
    Retry,
    /// Pass over it; its number is used up.
    Skip,
    /// Fold this event in its place: a structured `CloudEvents` event.
    Replace(String),
    /// Fold it as new, though it cannot be told from a repeat.
    Accept,
}

impl Remedy {
    /// The name in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Remedy::Retry => "retry",
            Remedy::Skip => "skip",
            Remedy::Replace(_) => "replace",
            Remedy::Accept => "accept",
        }
    }
}

/// What a comparison of two generations came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// The generation that was held still.
    pub candidate: Generation,
    /// The one that it was compared with.
    pub with: Generation,
    /// Cells compared.
    pub cells: u64,
    /// Differences that nobody expected.
    pub differences: u64,
    /// Differences that were named as expected.
    pub expected: u64,
    /// Who, when and why.
    pub act: Act,
}

impl Comparison {
    /// Whether these two were compared, whichever was held still.
    fn is_of(&self, one: Generation, other: Generation) -> bool {
        self.other(one) == Some(other)
    }

    /// The one beside a generation, where that is one of the two.
    fn other(&self, generation: Generation) -> Option<Generation> {
        if generation == self.candidate {
            Some(self.with)
        } else {
            (generation == self.with).then_some(self.candidate)
        }
    }
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
    /// What the log is folded onto.
    #[serde(default)]
    pub origin: Origin,
    /// How often the topics had been made anew under their names: offsets of different logs say nothing of each other.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub made_anew: u32,
    /// Who began it, when and why; nobody in particular began the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Act>,
}

/// What a generation folds the log onto.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Origin {
    /// Nothing: the log is there from its first record on.
    #[default]
    Beginning,
    /// Nothing, though the log's head is gone: subjects without a beginning since then are incomplete.
    LogStart,
    /// A snapshot.
    Seed {
        /// Of the snapshot's contents.
        digest: String,
    },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Origin::Beginning => "beginning",
            Origin::LogStart => "log-start",
            Origin::Seed { .. } => "seed",
        })
    }
}

/// A topic as a generation pins it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthTopic {
    /// Its name on the broker.
    pub name: String,
    /// The first offset to fold, per partition.
    pub starts: Vec<Offset>,
    /// Per partition, the Kafka timestamp of the first record that was there, where those before it were gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Option<Time>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none_yet(times: &u32) -> bool {
    *times == 0
}

impl Birth {
    /// Where a partition starts; `None` for one that did not exist at the birth.
    pub fn start(&self, id: PartitionId) -> Option<Offset> {
        self.topics.get(&id.topic)?.starts.get(usize::try_from(id.partition).ok()?).copied()
    }

    /// Since when a partition is known, where its head was gone at the birth.
    pub fn cut(&self, id: PartitionId) -> Option<Time> {
        self.topics.get(&id.topic)?.cuts.get(usize::try_from(id.partition).ok()?).copied().flatten()
    }

    /// The consumer group of those who feed it: one per generation, so that all of them share its partitions.
    pub fn group(&self, configured: &str) -> String {
        if self.active { configured.to_owned() } else { format!("{configured}-g{}", self.generation.0) }
    }

    /// The log that it folds: generations of one log may be compared by their offsets.
    pub fn log(&self) -> String {
        let names: Vec<_> =
            self.topics.values().map(|born| format!("{}*{}", born.name, born.starts.len())).collect();
        let anew = if self.made_anew == 0 { String::new() } else { format!("#{}", self.made_anew) };
        names.join(",") + &anew
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

/// What amends one log: every generation that folds it obeys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amendments {
    /// The recorded homes.
    pub homes: HashMap<Subject, i32>,
    /// The patches of each record in the topic's order: the first that gets past the record counts.
    pub patches: BTreeMap<(PartitionId, Offset), Vec<Patch>>,
}

impl Amendments {
    /// The patches of a record, in the order in which they are tried.
    pub fn patches_of(&self, partition: PartitionId, offset: Offset) -> &[Patch] {
        self.patches.get(&(partition, offset)).map(Vec::as_slice).unwrap_or_default()
    }

    /// All but the patches of some records.
    #[must_use]
    pub fn without(&self, left_out: impl Fn(PartitionId, Offset) -> bool) -> Amendments {
        let mut amendments = self.clone();
        amendments.patches.retain(|(partition, offset), _| !left_out(*partition, *offset));
        amendments
    }

    /// Takes a patch in, behind the others of its record.
    pub fn patch(&mut self, patch: Patch) {
        self.patches.entry((patch.partition, patch.offset)).or_default().push(patch);
    }
}

/// The decisions topic, read whole.
#[derive(Debug, Clone, Default)]
pub struct Decisions {
    /// The first birth of each generation.
    pub births: BTreeMap<Generation, Birth>,
    /// By the log that they amend.
    amendments: BTreeMap<String, Arc<Amendments>>,
    /// The newest comparison of each two generations, whichever was held still; in the topic's order.
    pub comparisons: Vec<Comparison>,
    /// The generation that readers were pointed to last, where an operator did.
    pub promoted: Option<Generation>,
    /// The last switch: from, to, and who, when and why.
    pub switched: Option<(Generation, Generation, Act)>,
    /// Generations that are fed no more.
    pub retired: BTreeMap<Generation, Act>,
    /// What stands still: a generation, whole or by topic.
    pub paused: BTreeMap<(Generation, Option<Topic>), Pause>,
}

/// Why something stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Who, when and why.
    pub act: Act,
    /// See [`Decision::Paused`].
    pub lease_ms: Option<u64>,
}

/// The decisions topic cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DecisionsError {
    /// A record cannot be read.
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
    /// Records were removed: nobody can say what was decided.
    #[error(
        "topic {topic} begins at offset {low}: births, homes and decisions before it are gone; restore the topic from a \
         copy, or begin anew with another kafka.decisions_topic and redis.prefix"
    )]
    Beheaded {
        /// The topic's name.
        topic: String,
        /// Its first offset.
        low: i64,
    },
    /// Before the first `project`, or under another name.
    #[error("topic {topic} does not exist: no `project` has begun, or kafka.decisions_topic names another")]
    Missing {
        /// The topic's name.
        topic: String,
    },
    /// Worth another try.
    #[error("the broker did not answer: {0}")]
    Unanswered(#[from] KafkaError),
}

impl Decisions {
    /// The newest comparison of two generations, whichever was held still.
    pub fn comparison_of(&self, one: Generation, other: Generation) -> Option<&Comparison> {
        self.comparisons.iter().find(|comparison| comparison.is_of(one, other))
    }

    /// The newest comparison of a generation with any other, and that other one.
    pub fn compared(&self, generation: Generation) -> Option<(Generation, &Comparison)> {
        let mut newest_first = self.comparisons.iter().rev();
        newest_first.find_map(|comparison| Some((comparison.other(generation)?, comparison)))
    }

    /// Takes the next record of the topic in.
    pub fn adopt(&mut self, decision: Decision) {
        match decision {
            Decision::Born(birth) => {
                self.births.entry(birth.generation).or_insert(birth);
            }
            Decision::Home { topic, subject, partition, log } => {
                if let Ok(subject) = Subject::of_key(topic, &subject) {
                    self.amend(log).homes.entry(subject).or_insert(partition);
                }
            }
            Decision::Patch(patch) => self.amend(patch.log.clone()).patch(patch),
            Decision::Compared(comparison) => {
                let Comparison { candidate, with, .. } = comparison;
                self.comparisons.retain(|before| !before.is_of(candidate, with));
                self.comparisons.push(comparison);
            }
            Decision::Promoted { from, to, act } => {
                self.promoted = Some(to);
                self.switched = Some((from, to, act));
            }
            Decision::Retired { generation, act } => {
                self.retired.entry(generation).or_insert(act);
            }
            Decision::Paused { generation, topic, lease_ms, act } => {
                // Who holds for a moment may not have heard yet of who paused until further notice.
                let stands =
                    self.paused.get(&(generation, topic)).is_some_and(|pause| pause.lease_ms.is_none());
                if !stands || lease_ms.is_none() {
                    self.paused.insert((generation, topic), Pause { act, lease_ms });
                }
            }
            Decision::Resumed { generation, topic, of, .. } => {
                self.paused.retain(|(paused, part), pause| {
                    let meant = topic.is_none() || *part == topic;
                    let meant = meant && of.as_ref().is_none_or(|of| pause.act == *of);
                    *paused != generation || !meant
                });
            }
        }
    }

    fn amend(&mut self, log: Option<String>) -> &mut Amendments {
        let served = || self.births.get(&self.serving()?).map(Birth::log);
        let log = log.or_else(served).unwrap_or_default();
        Arc::make_mut(self.amendments.entry(log).or_default())
    }

    /// What amends the log that a generation folds.
    pub fn of(&self, birth: &Birth) -> Arc<Amendments> {
        self.amendments.get(&birth.log()).cloned().unwrap_or_default()
    }

    /// Why a topic of a generation is to stand still: as a whole, or by itself.
    pub fn pauses(&self, generation: Generation, topic: Topic) -> Vec<&Pause> {
        [None, Some(topic)].into_iter().filter_map(|topic| self.paused.get(&(generation, topic))).collect()
    }

    /// The generation that readers are to be pointed to, where the store has lost the pointer.
    pub fn serving(&self) -> Option<Generation> {
        let first = || self.births.values().find(|birth| birth.active).map(|birth| birth.generation);
        self.promoted.or_else(first)
    }

    /// Born and not retired.
    pub fn live(&self) -> impl Iterator<Item = &Birth> {
        self.births.values().filter(|birth| !self.retired.contains_key(&birth.generation))
    }
}

/// Reads the topic from its beginning to the end that it has now; blocking.
pub fn read(cluster: &Cluster) -> Result<Decisions, DecisionsError> {
    Ok(Follower::start(cluster)?.decisions)
}

/// Reads the topic to its end, and goes on until `stop`: every change is published.
pub fn follow(
    cluster: &Cluster,
    stop: CancellationToken,
) -> Result<(watch::Receiver<Arc<Decisions>>, JoinHandle<()>), DecisionsError> {
    let cluster = cluster.clone();
    let mut follower = Follower::start(&cluster)?;
    let (sender, receiver) = watch::channel(Arc::new(follower.decisions.clone()));
    let thread = std::thread::Builder::new().name("decisions".to_owned());
    let join = thread
        .spawn(move || {
            let away = Seldom::default();
            let mut looked = Instant::now();
            while !stop.is_cancelled() {
                if looked.elapsed() > LOOKED_AFTER_EVERY {
                    // A client that lost all its brokers may not find back, and says nothing: another one follows then.
                    if !follower.hears()
                        && let Ok(another) = Follower::start(&cluster)
                    {
                        let before = std::mem::replace(&mut follower, another);
                        crate::source::discard(before.consumer);
                        drop(sender.send(Arc::new(follower.decisions.clone())));
                    }
                    looked = Instant::now();
                }
                match follower.poll_all() {
                    Ok(changed) => {
                        away.end();
                        if changed {
                            drop(sender.send(Arc::new(follower.decisions.clone())));
                        }
                    }
                    // What was read stands; nothing newer is known until the broker answers or the record can be read.
                    Err(error) => {
                        if away.is_due() {
                            tracing::warn!(%error, "decisions are not followed");
                        }
                        // A client keeps what it has to say of an outage: it must be heard out before records come again.
                        let wait = match error {
                            DecisionsError::Unanswered(_) => AFTER_AN_ERROR,
                            DecisionsError::Unreadable { .. }
                            | DecisionsError::Beheaded { .. }
                            | DecisionsError::Missing { .. } => AFTER_A_RECORD,
                        };
                        std::thread::sleep(wait);
                    }
                }
            }
        })
        .map_err(|error| KafkaError::ClientCreation(format!("no thread for the decisions: {error}")))?;
    Ok((receiver, join))
}

struct Follower {
    topic: String,
    consumer: Inquirer,
    decisions: Decisions,
}

impl Follower {
    fn start(cluster: &Cluster) -> Result<Self, DecisionsError> {
        let consumer = cluster.inquirer("read_committed")?;
        let topic = cluster.settings().decisions_topic.clone();
        let (low, end) = consumer.fetch_watermarks(&topic, 0, TIMEOUT).map_err(|error| {
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                    DecisionsError::Missing { topic: topic.clone() }
                }
                _ => error.into(),
            }
        })?;
        if low > 0 {
            return Err(DecisionsError::Beheaded { topic, low });
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, KafkaOffset::Offset(low))?;
        consumer.assign(&list)?;
        let mut follower = Follower { topic, consumer, decisions: Decisions::default() };
        let mut heard = Instant::now();
        let mut next = low;
        // A leader that has just become one may name an end before the one that was told: it is believed the second time.
        let mut ended_before = false;
        while next < end {
            if heard.elapsed() > TIMEOUT {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut).into());
            }
            match follower.consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) if ended_before => break,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    ended_before = true;
                    follower.consumer.seek(&follower.topic, 0, KafkaOffset::Offset(next), TIMEOUT)?;
                }
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => {
                    (heard, ended_before) = (Instant::now(), false);
                    next = Offset(message.offset()).next().0;
                    let decision = parse(&follower.topic, message.offset(), message.payload())?;
                    follower.decisions.adopt(decision);
                }
            }
        }
        Ok(follower)
    }

    /// Whether the broker answers this client.
    fn hears(&self) -> bool {
        self.consumer.fetch_watermarks(&self.topic, 0, HEARD_WITHIN).is_ok()
    }

    /// Waits a moment for the next record, and takes those that are there behind it; whether there was one.
    fn poll_all(&mut self) -> Result<bool, DecisionsError> {
        let changed = self.poll(Duration::from_millis(100))?;
        // Those that were taken count, whatever is behind them: that is met again.
        while changed && matches!(self.poll(Duration::ZERO), Ok(true)) {}
        Ok(changed)
    }

    fn poll(&mut self, wait: Duration) -> Result<bool, DecisionsError> {
        match self.consumer.poll(wait) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => Ok(false),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(message)) => match parse(&self.topic, message.offset(), message.payload()) {
                Ok(decision) => {
                    self.decisions.adopt(decision);
                    Ok(true)
                }
                Err(error) => {
                    // Decisions have one order: none behind it is known before it is.
                    let again = KafkaOffset::Offset(message.offset());
                    self.consumer.seek(&self.topic, 0, again, TIMEOUT)?;
                    Err(error)
                }
            },
        }
    }
}

fn parse(topic: &str, offset: i64, value: Option<&[u8]>) -> Result<Decision, DecisionsError> {
    serde_json::from_slice(value.unwrap_or_default()).map_err(|error| DecisionsError::Unreadable {
        topic: topic.to_owned(),
        offset,
        reason: error.to_string(),
    })
}

/// Publishes a decision and waits until it is acknowledged.
pub async fn record(cluster: &Cluster, producer: &Producer, decision: &Decision) -> Result<(), KafkaError> {
    let key = match decision {
        Decision::Born(Birth { generation, .. })
        | Decision::Compared(Comparison { candidate: generation, .. })
        | Decision::Promoted { to: generation, .. }
        | Decision::Retired { generation, .. }
        | Decision::Paused { generation, .. }
        | Decision::Resumed { generation, .. } => format!("generation/{}", generation.0),
        Decision::Home { topic, subject, .. } => format!("home/{}/{subject}", cluster.topic_name(*topic)),
        Decision::Patch(Patch { partition, offset, .. }) => {
            format!("patch/{}@{offset}", cluster.display(*partition))
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, source::embedded::EmbeddedBroker};

    fn act(who: &str) -> Act {
        Act { who: who.to_owned(), at: Time::from_millis(0), why: String::new() }
    }

    fn home(id: &str, partition: i32, log: Option<String>) -> Decision {
        Decision::Home { topic: Topic::Ledger, subject: id.to_owned(), partition, log }
    }

    fn skip(offset: i64, log: Option<String>) -> Decision {
        let partition = PartitionId { topic: Topic::Ledger, partition: 0 };
        let (offset, remedy) = (Offset(offset), Remedy::Skip);
        Decision::Patch(Patch { partition, offset, key: None, remedy, log, act: act("jana") })
    }

    fn birth(generation: u32, partitions: usize) -> Birth {
        let born =
            BirthTopic { name: "ledger".to_owned(), starts: vec![Offset(0); partitions], cuts: Vec::new() };
        Birth {
            id: Uuid::nil(),
            generation: Generation(generation),
            topics: [(Topic::Ledger, born)].into(),
            parameters: config::Config::default().parameters(),
            active: generation == 1,
            origin: Origin::Beginning,
            made_anew: 0,
            act: None,
        }
    }

    #[test]
    fn what_amends_one_log_says_nothing_of_another() {
        let (one, two) = (birth(1, 2), birth(2, 3));
        let anew = Birth { generation: Generation(3), made_anew: 1, ..one.clone() };
        let mut known = Decisions::default();
        known.adopt(Decision::Born(one.clone()));
        // As versions before wrote them: of the log that readers are served from.
        known.adopt(home("A1", 0, None));
        known.adopt(skip(7, None));
        for other in [&two, &anew] {
            known.adopt(Decision::Born(other.clone()));
            assert_eq!(*known.of(other), Amendments::default());
        }
        known.adopt(home("A1", 1, Some(two.log())));
        known.adopt(skip(8, Some(anew.log())));
        known.adopt(Decision::Promoted { from: Generation(1), to: Generation(3), act: act("jana") });
        known.adopt(skip(9, None));
        let homes = |of: &Birth| known.of(of).homes.values().copied().collect::<Vec<_>>();
        assert_eq!((homes(&one), homes(&two), homes(&anew)), (vec![0], vec![1], vec![]));
        let skipped = |of: &Birth| known.of(of).patches.keys().map(|(_, at)| at.0).collect::<Vec<_>>();
        assert_eq!((skipped(&one), skipped(&two), skipped(&anew)), (vec![7], vec![], vec![8, 9]));
        let again = Birth { generation: Generation(4), ..one };
        assert_eq!(skipped(&again), [7], "a rebuild from the same log repeats them");
    }

    #[test]
    fn the_newest_comparison_of_two_generations_counts_whichever_was_held_still() {
        let mut known = Decisions::default();
        let mut by = |candidate, with, differences| {
            let (candidate, with) = (Generation(candidate), Generation(with));
            let act = act("jana");
            let comparison = Comparison { candidate, with, cells: 9, differences, expected: 0, act };
            known.adopt(Decision::Compared(comparison));
            let of = |one, other| {
                known.comparison_of(Generation(one), Generation(other)).map(|found| found.differences)
            };
            assert_eq!(of(1, 2), of(2, 1));
            let newest =
                |of| known.compared(Generation(of)).map(|(other, found)| (other.0, found.differences));
            (of(1, 2), of(1, 3), [1, 2, 3].map(newest))
        };
        assert_eq!(by(2, 1, 0), (Some(0), None, [Some((2, 0)), Some((1, 0)), None]));
        assert_eq!(by(1, 2, 3), (Some(3), None, [Some((2, 3)), Some((1, 3)), None]));
        assert_eq!(by(3, 1, 5), (Some(3), Some(5), [Some((3, 5)), Some((1, 3)), Some((1, 5))]));
        assert_eq!(by(2, 1, 0), (Some(0), Some(5), [Some((2, 0)), Some((1, 0)), Some((1, 5))]));
    }

    #[test]
    fn a_hold_for_a_moment_does_not_end_a_pause() {
        let pause = |lease_ms, who| Decision::Paused {
            generation: Generation(1),
            topic: Some(Topic::Ledger),
            lease_ms,
            act: act(who),
        };
        let mut known = Decisions::default();
        let mut by = |decision| {
            known.adopt(decision);
            let pauses = known.pauses(Generation(1), Topic::Ledger);
            pauses.iter().map(|pause| pause.act.who.clone()).collect::<Vec<_>>()
        };
        assert_eq!(by(pause(Some(500), "a switch")), ["a switch"]);
        assert_eq!(by(pause(None, "jana")), ["jana"]);
        assert_eq!(by(pause(Some(500), "another switch")), ["jana"]);
        let end = |of| Decision::Resumed {
            generation: Generation(1),
            topic: Some(Topic::Ledger),
            of,
            act: act(""),
        };
        assert_eq!(by(end(Some(act("another switch")))), ["jana"]);
        assert_eq!(by(end(None)), [""; 0]);
    }

    #[tokio::test]
    async fn behind_a_record_that_cannot_be_read_no_decision_is_known() {
        let broker = EmbeddedBroker::start(config::Kafka::default(), 1).unwrap();
        let cluster = broker.cluster();
        let producer = Producer::new(cluster).unwrap();
        let home = |id: &str| home(id, 0, None);
        let homes =
            |known: &Arc<Decisions>| known.amendments.values().map(|of| of.homes.len()).sum::<usize>();
        let stop = CancellationToken::new();
        let (mut followed, thread) = follow(cluster, stop.clone()).unwrap();
        record(cluster, &producer, &home("first")).await.unwrap();
        followed.wait_for(|known| homes(known) == 1).await.unwrap();
        let unreadable = Outgoing {
            topic: cluster.settings().decisions_topic.clone(),
            key: None,
            value: Some(b"{}".to_vec()),
            headers: Vec::new(),
        };
        producer.write(&unreadable).await.unwrap();
        record(cluster, &producer, &home("second")).await.unwrap();
        // Long enough for several tries.
        let more = followed.wait_for(|known| homes(known) > 1);
        assert!(tokio::time::timeout(Duration::from_secs(4), more).await.is_err());
        stop.cancel();
        thread.join().unwrap();
    }
}
