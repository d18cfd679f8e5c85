//! What operators decide on: keys on hold with their dead letters, and dead letters without a key.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rdkafka::{
    Message as _, Offset as KafkaOffset, TopicPartitionList,
    consumer::Consumer as _,
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};
use serde::Serialize;

use super::{UsageError, console::Console, parts};
use crate::{
    decisions::{self, Act, Amendments, Birth, Decisions, DecisionsError, Patch, Remedy},
    domain::{Class, Offset, PartitionId, Subject, Time, Topic},
    projector::lane::Kept,
    source::{Cluster, scan::Scan, topics},
    store::{Quarantine, ReadStore as _},
};

/// Without a record or an end for this long, the broker is held to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which ones.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Of this account or customer alone.
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// Of this class alone, such as `sequence-gap`.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub class: Option<Class>,
    /// Of this topic alone, by its name on the broker, or `ledger` or `payment`.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
}

fn class(name: &str) -> Result<Class, String> {
    Class::ALL.into_iter().find(|class| class.name() == name).ok_or_else(|| {
        let names: Vec<_> = Class::ALL.iter().map(|class| class.name()).collect();
        format!("not one of {}", names.join(", "))
    })
}

/// A record on the dead-letter topic, by where it came from.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The class.
    pub class: Class,
    /// What, where, and what would be right.
    pub message: String,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// Its value, where it was not too large.
    pub value: Option<Vec<u8>>,
    /// When it was set aside.
    pub written: Time,
}

/// A dead letter that waits for a decision.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// The account or customer on hold; absent where the record names none, so nobody is told.
    pub key: Option<String>,
    /// The class.
    pub class: Class,
    /// What, where, and what would be right.
    pub message: Option<String>,
    /// The record's Kafka timestamp: since then readers are told.
    pub since: String,
    /// How long ago that is.
    pub held_for_s: u64,
    /// How many later records of the key wait.
    pub waiting: u64,
    /// Until when the topic's retention keeps the record; absent where for ever.
    pub kept_until: Option<String>,
    /// Retention has removed it already.
    pub gone: bool,
    /// What was decided so far, in vain.
    pub decided: Vec<String>,
    /// Where it is, for the commands.
    #[serde(skip)]
    pub at: (PartitionId, Offset),
    /// Whose it is.
    #[serde(skip)]
    pub subject: Option<Subject>,
}

/// Every case there is, and what they rest on.
pub struct Desk {
    /// Kafka and Redis.
    pub console: Console,
    /// Everything decided so far.
    pub decisions: Decisions,
    /// Of the generation that readers are served.
    pub birth: Birth,
    /// Keys on hold in the generation that readers are served.
    pub held: Vec<(Subject, Quarantine)>,
    /// The cases, by topic and place.
    pub cases: Vec<Case>,
    /// The dead letters of the cases.
    pub letters: BTreeMap<(PartitionId, Offset), Letter>,
}

impl Desk {
    /// Looks at the store, the decisions, the dead-letter topic and the logs.
    pub async fn look(console: Console) -> anyhow::Result<Self> {
        let decisions = console.decisions().await?;
        let (snapshot, _) = console
            .store
            .states()
            .await
            .with_context(|| console.unread())?
            .context("no generation is served: start a `project`")?;
        let birth = decisions.births.get(&snapshot.generation).cloned();
        let birth = birth.context("the generation's birth is not recorded")?;
        let amendments = decisions.of(&birth);
        let mut held = Vec::new();
        for (partition, _) in &snapshot.positions {
            held.extend(console.store.quarantined(*partition).await.with_context(|| console.unread())?);
        }
        let places: BTreeSet<(PartitionId, Offset)> =
            held.iter().map(|(_, held)| (held.partition, held.offset)).collect();
        let (cluster, settled) = (console.cluster.clone(), Arc::clone(&amendments));
        let ids: Vec<PartitionId> = snapshot.positions.iter().map(|(id, _)| *id).collect();
        let (letters, lows) = tokio::task::spawn_blocking(move || {
            let wanted = |at: &(PartitionId, Offset), key: Option<&[u8]>| {
                places.contains(at) || waits_for_a_person(at, key, &settled)
            };
            let letters = letters(&cluster, wanted)?;
            let scan = Scan::new(&cluster).context("kafka settings")?;
            let lows =
                ids.into_iter().map(|id| Ok((id, scan.bounds(id).context("the log cannot be read")?.0)));
            anyhow::Ok((letters, lows.collect::<anyhow::Result<BTreeMap<_, _>>>()?))
        })
        .await??;
        let mut kept = BTreeMap::new();
        for topic in Topic::ALL {
            kept.insert(topic, topics::retention(&console.cluster, topic).await?);
        }
        let now = parts::now();
        let case = |at: (PartitionId, Offset), subject: Option<&Subject>, class, since: Time, waiting| {
            let until = kept.get(&at.0.topic).copied().flatten();
            let until =
                until.and_then(|kept| since.0.checked_add(jiff::SignedDuration::try_from(kept).ok()?).ok());
            let letter = letters.get(&at);
            Case {
                topic: console.cluster.topic_name(at.0.topic).to_owned(),
                partition: at.0.partition,
                offset: at.1.0,
                key: subject.map(|subject| subject.as_str().to_owned()),
                class,
                message: letter.map(|letter| letter.message.clone()),
                since: since.to_string(),
                held_for_s: u64::try_from(now.0.duration_since(since.0).as_secs()).unwrap_or_default(),
                waiting,
                kept_until: until.map(|until| Time(until).to_string()),
                gone: lows.get(&at.0).is_some_and(|low| at.1 < *low),
                decided: amendments.patches_of(at.0, at.1).iter().map(told).collect(),
                at,
                subject: subject.cloned(),
            }
        };
        let mut cases: Vec<Case> = held
            .iter()
            .map(|(subject, held)| {
                case((held.partition, held.offset), Some(subject), held.class, held.since, held.waiting)
            })
            .collect();
        cases.extend(letters.iter().filter_map(|(at, letter)| {
            let nobody = subject(at.0.topic, letter.key.as_deref()).is_none();
            nobody.then(|| case(*at, None, letter.class, letter.written, 0))
        }));
        cases.sort_by_key(|case| case.at);
        Ok(Desk { console, decisions, birth, held, cases, letters })
    }

    /// What amends the log that readers are served from.
    pub fn amendments(&self) -> Arc<Amendments> {
        self.decisions.of(&self.birth)
    }

    /// A decision about a record of that log.
    pub fn patch(&self, at: (PartitionId, Offset), key: Option<String>, remedy: &Remedy, act: &Act) -> Patch {
        let ((partition, offset), log) = (at, Some(self.birth.log()));
        Patch { partition, offset, key, remedy: remedy.clone(), log, act: act.clone() }
    }

    /// The cases that a filter lets through.
    pub fn select(&self, filter: &Filter) -> anyhow::Result<Vec<&Case>> {
        let topic = match &filter.topic {
            Some(name) => Some(self.topic(name)?),
            None => None,
        };
        let fits = |case: &&Case| {
            topic.is_none_or(|topic| case.at.0.topic == topic)
                && filter.class.is_none_or(|class| case.class == class)
                && filter.key.as_ref().is_none_or(|key| case.key.as_ref() == Some(key))
        };
        Ok(self.cases.iter().filter(fits).collect())
    }

    fn topic(&self, name: &str) -> anyhow::Result<Topic> {
        let unknown = || UsageError(format!("{name} is none of the topics: say ledger or payment"));
        Ok(self.console.cluster.topic_meant(name).ok_or_else(unknown)?)
    }

    /// Reads `TOPIC/PARTITION@OFFSET`.
    pub fn place(&self, text: &str) -> anyhow::Result<(PartitionId, Offset)> {
        let [topic, _] = Topic::ALL.map(|topic| self.console.cluster.topic_name(topic));
        let wrong = || UsageError(format!("{text} is no TOPIC/PARTITION@OFFSET, such as {topic}/1@4711"));
        Ok(self.console.cluster.record_meant(text).ok_or_else(wrong)?)
    }

    /// Reads `TOPIC/PARTITION`.
    pub fn partition(&self, text: &str) -> anyhow::Result<PartitionId> {
        let [topic, _] = Topic::ALL.map(|topic| self.console.cluster.topic_name(topic));
        let wrong = || UsageError(format!("{text} is no TOPIC/PARTITION, such as {topic}/1"));
        Ok(self.console.cluster.partition_meant(text).ok_or_else(wrong)?)
    }
}

/// What a patch says, on one line.
pub fn told(patch: &Patch) -> String {
    let remedy = patch.remedy.name();
    let why = if patch.act.why.is_empty() { String::new() } else { format!(": {}", patch.act.why) };
    format!("{remedy} by {} at {}{why}", patch.act.who, patch.act.at)
}

fn subject(topic: Topic, key: Option<&[u8]>) -> Option<Subject> {
    Subject::of_key(topic, std::str::from_utf8(key?).ok()?).ok()
}

/// Whether a dead letter names nobody, and nobody has decided about it.
fn waits_for_a_person(at: &(PartitionId, Offset), key: Option<&[u8]>, settled: &Amendments) -> bool {
    subject(at.0.topic, key).is_none() && settled.patches_of(at.0, at.1).is_empty()
}

/// How many dead letters name nobody and wait for a decision: no reader can be told of them. Blocking.
pub fn without_key(cluster: &Cluster) -> anyhow::Result<usize> {
    let settled = match decisions::read(cluster) {
        Ok(decisions) => {
            let served = decisions.serving().and_then(|serving| decisions.births.get(&serving));
            served.map(|birth| decisions.of(birth)).unwrap_or_default()
        }
        Err(DecisionsError::Missing { .. }) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    // Their places alone: there may be many, and each may be large. Of two of one record one counts.
    let places = std::cell::RefCell::new(BTreeSet::new());
    letters(cluster, |at, key| {
        if waits_for_a_person(at, key, &settled) {
            places.borrow_mut().insert(*at);
        }
        false
    })?;
    Ok(places.into_inner().len())
}

/// Reads one record of the log; `None` where it is gone.
pub fn record(cluster: &Cluster, (id, offset): (PartitionId, Offset)) -> anyhow::Result<Option<Kept>> {
    let scan = Scan::new(cluster).context("kafka settings")?;
    let (low, _) = scan.bounds(id).context("the log cannot be read")?;
    if offset < low {
        return Ok(None);
    }
    let mut found = None;
    scan.read(id, offset, offset.next(), |record| {
        if record.offset == offset {
            found = Some(Kept::from(record));
        }
        ControlFlow::Continue(())
    })
    .context("the log cannot be read")?;
    Ok(found)
}

/// The dead-letter topic from its beginning to the end that it has now; of two of one record the later counts.
fn letters(
    cluster: &Cluster,
    wanted: impl Fn(&(PartitionId, Offset), Option<&[u8]>) -> bool,
) -> anyhow::Result<BTreeMap<(PartitionId, Offset), Letter>> {
    let consumer = cluster.inquirer("read_committed").context("kafka settings")?;
    let name = &cluster.settings().dead_letter_topic;
    let mut letters = BTreeMap::new();
    let partitions = topics::partitions(&consumer, name)?.unwrap_or_default();
    let mut list = TopicPartitionList::new();
    // The end of a partition is told again where it has moved since.
    let mut left = BTreeSet::new();
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        let (low, end) = consumer.fetch_watermarks(name, partition, PATIENCE)?;
        if low < end {
            list.add_partition_offset(name, partition, KafkaOffset::Offset(low))?;
            left.insert(partition);
        }
    }
    consumer.assign(&list)?;
    let mut heard = Instant::now();
    while !left.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            None if heard.elapsed() > PATIENCE => anyhow::bail!("the broker does not hand over topic {name}"),
            None => continue,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                left.remove(&partition);
            }
            Some(Err(error)) => return Err(error).with_context(|| format!("topic {name} cannot be read")),
            Some(Ok(message)) => {
                if let Some((at, letter)) = letter(cluster, &message)
                    && wanted(&at, letter.key.as_deref())
                {
                    letters.insert(at, letter);
                }
            }
        }
        heard = Instant::now();
    }
    Ok(letters)
}

fn letter(cluster: &Cluster, message: &BorrowedMessage<'_>) -> Option<((PartitionId, Offset), Letter)> {
    let headers = message.headers()?;
    // Ours stand behind the record's own, whose names may be any bytes.
    let own = |back: usize| {
        let at = headers.count().checked_sub(back)?;
        let header = headers.try_get(at)?;
        Some((header.key, std::str::from_utf8(header.value?).ok()?))
    };
    let find = |name: &str| {
        let back = (1..=5_usize).find(|back| own(*back).is_some_and(|(key, _)| key == name))?;
        Some(own(back)?.1)
    };
    let topic = cluster.topic(find("dead-letter-topic")?)?;
    let id = PartitionId { topic, partition: find("dead-letter-partition")?.parse().ok()? };
    let offset = Offset(find("dead-letter-offset")?.parse().ok()?);
    let class = class(find("dead-letter-class")?).ok()?;
    let letter = Letter {
        class,
        message: find("dead-letter-message")?.to_owned(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        written: Time::from_millis(message.timestamp().to_millis().unwrap_or_default()),
    };
    Some(((id, offset), letter))
}
