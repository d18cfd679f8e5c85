//! Every balance, due, dead letter and quarantine against the log itself, folded straight into plain maps.
//!
//! The loop here is the contract's, record by record: no batches, no cache, no store. What it shares with the
//! product is `wire::decode` and `domain::fold`, which have their own tests. Decisions and gaps are folded by a loop
//! of its own, all of it in memory.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use balance_projector::{
    config,
    decisions::{Amendments, Birth, Decisions, Remedy},
    domain::{
        AccountId, Cell, Class, CustomerId, Event, Manner, Offset, PartitionId, RecordAt, Rejection, Rules,
        Subject, Time, Topic, fold_in, number_due, pass_over,
    },
    store::{Generation, Quarantine, contents::Contents, redis::RedisStore},
    wire,
};

use super::{
    eventually,
    kafka::{Broker, Topics},
    oracle::{self, Stored},
};

/// The generation that every test feeds.
const GENERATION: Generation = Generation(1);

/// Both event topics as a reader of committed records sees them, per partition in order.
#[derive(Debug, Clone)]
pub struct Log(BTreeMap<Topic, Vec<Vec<Stored>>>);

impl Log {
    /// Reads both topics whole.
    pub fn read(broker: &Broker, topics: &Topics) -> Self {
        let read = |name| oracle::read(broker, name, topics.partitions);
        Log([(Topic::Ledger, read(&topics.ledger)), (Topic::Payment, read(&topics.payment))].into())
    }

    /// This log, but for one partition of the ledger, which is `other`'s.
    pub fn with_ledger(mut self, partition: usize, other: &Log) -> Self {
        let own = self.0.get_mut(&Topic::Ledger).expect("the ledger");
        own[partition].clone_from(&other.0[&Topic::Ledger][partition]);
        self
    }

    fn partitions(&self) -> impl Iterator<Item = (PartitionId, &[Stored])> {
        self.0.iter().flat_map(|(topic, partitions)| {
            (0..)
                .zip(partitions)
                .map(|(partition, records)| (PartitionId { topic: *topic, partition }, records.as_slice()))
        })
    }
}

/// A record that the dead-letter topic must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub class: &'static str,
    pub message: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What is smaller fits any topic.
const LARGE_BYTES: usize = 100_000;

impl DeadLetter {
    /// Puts back what the dead letter says it left out, where that is large indeed.
    fn put_back(&mut self, source: Option<&DeadLetter>) {
        let Some(source) = source else { return };
        let headers =
            source.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
        let parts = [
            ("key", source.key.as_ref().map_or(0, Vec::len)),
            ("headers", headers.sum()),
            ("value", source.value.as_ref().map_or(0, Vec::len)),
        ];
        let mut large = 0;
        for (part, bytes) in parts {
            let Some(message) = self.message.strip_suffix(&format!(" (left out: {part})")) else { continue };
            self.message = message.to_owned();
            large = large.max(bytes);
            match part {
                "key" => self.key.clone_from(&source.key),
                "headers" => self.headers.clone_from(&source.headers),
                _ => self.value.clone_from(&source.value),
            }
            assert!(large > LARGE_BYTES, "{part} of {bytes} bytes left out: {}", self.message);
        }
    }
}

/// What the log, folded straight, gives.
#[derive(Debug, Default)]
pub struct Expected {
    pub cells: BTreeMap<Subject, Cell>,
    pub dead_letters: BTreeMap<(PartitionId, i64), DeadLetter>,
    pub quarantines: BTreeMap<Subject, BTreeMap<PartitionId, Quarantine>>,
    /// The record that holds a subject back, and those that wait behind it.
    behind: BTreeMap<(Subject, PartitionId), (Stored, Vec<Stored>)>,
}

/// Waits until everything that the log holds is folded, and compares all of it.
#[track_caller]
pub fn whole(broker: &Broker, topics: &Topics, redis_url: &str) -> Expected {
    let log = Log::read(broker, topics);
    folded(&log, redis_url);
    up_to_the_checkpoints(broker, topics, &log, redis_url)
}

/// Waits until the last record of every partition of the log is folded.
#[track_caller]
pub fn folded(log: &Log, redis_url: &str) {
    folded_into(log, redis_url, GENERATION);
}

/// The same for another generation.
#[track_caller]
pub fn folded_into(log: &Log, redis_url: &str, generation: Generation) {
    eventually(Duration::from_secs(60), || {
        let behind = behind(log, redis_url, generation);
        if behind.is_empty() { Ok(()) } else { Err(behind) }
    });
}

/// Whether the last record of every partition of the log is folded by now.
pub fn is_folded(log: &Log, redis_url: &str) -> bool {
    behind(log, redis_url, GENERATION).is_empty()
}

/// The partitions that are not folded to their end, and how far they are.
fn behind(log: &Log, redis_url: &str, generation: Generation) -> Vec<String> {
    let positions = dump_of(redis_url, generation).positions;
    log.partitions()
        .filter_map(|(id, records)| {
            let end = records.last()?.offset + 1;
            let next = positions.get(&id).map_or(-1, |position| position.checkpoint.next.0);
            (next < end).then(|| format!("{id}: {next} of {end}"))
        })
        .collect()
}

/// Compares the store and the dead-letter topic with what the log gives up to the store's checkpoints. Nothing
/// may be folding meanwhile.
#[track_caller]
pub fn up_to_the_checkpoints(broker: &Broker, topics: &Topics, log: &Log, redis_url: &str) -> Expected {
    let expected = generation_up_to_the_checkpoints(broker, topics, log, redis_url, GENERATION);
    let mut letters = dead_letters(broker, topics);
    for (at, letter) in &mut letters {
        letter.put_back(expected.dead_letters.get(at));
    }
    // Set aside before it was decided about: a straight fold knows of the decision when it meets the record.
    let patches = &amendments(broker, topics).patches;
    letters.retain(|(id, offset), _| {
        expected.dead_letters.contains_key(&(*id, *offset)) || !patches.contains_key(&(*id, Offset(*offset)))
    });
    same("dead letters", &expected.dead_letters, &letters);
    expected
}

/// The same for any generation, but for the dead letters: each writes them, and it may be on its way.
#[track_caller]
pub fn generation_up_to_the_checkpoints(
    broker: &Broker,
    topics: &Topics,
    log: &Log,
    redis_url: &str,
    generation: Generation,
) -> Expected {
    let contents = dump_of(redis_url, generation);
    let decisions = decisions(broker, topics);
    let birth = decisions.births.get(&generation).expect("the generation's birth is recorded");
    let expected = straight(log, &contents, birth, &decisions.of(birth));
    same("cells", &expected.cells, &cells(&contents));
    same("who owes what where", &expected_owing(&expected), &contents.owing);
    same("quarantines", &expected.quarantines, &contents.quarantines);
    same("quarantines by partition", &by_partition(&expected.quarantines), &contents.index);
    same("customers who are told", &expected_marks(&expected), &marks(&contents));
    for (id, records) in log.partitions() {
        let checkpoint =
            contents.positions.get(&id).unwrap_or_else(|| panic!("{id} has no checkpoint")).checkpoint;
        let last = records.iter().rev().find(|record| record.offset < checkpoint.next.0);
        assert_eq!(
            checkpoint.last.map(|last| (last.offset.0, last.timestamp_ms)),
            last.map(|record| (record.offset, record.timestamp_ms)),
            "the last record folded of {id}"
        );
    }
    expected
}

/// All that the store holds.
#[track_caller]
pub fn dump(redis_url: &str) -> Contents {
    dump_of(redis_url, GENERATION)
}

/// All that the store holds of a generation.
#[track_caller]
pub fn dump_of(redis_url: &str, generation: Generation) -> Contents {
    let settings = config::Redis { url: redis_url.to_owned(), ..config::Redis::default() };
    // A thread of its own: the caller may be inside a runtime.
    std::thread::scope(|scope| {
        let dump = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .expect("a runtime")
                .block_on(async { RedisStore::new(&settings).expect("a url").dump(generation).await })
        };
        scope.spawn(dump).join().expect("no panic").expect("the store's contents")
    })
}

/// What amends the log of the first generation.
pub fn amendments(broker: &Broker, topics: &Topics) -> Arc<Amendments> {
    let decisions = decisions(broker, topics);
    decisions.of(&decisions.births[&GENERATION])
}

/// What the decisions topic says, parsed record by record.
pub fn decisions(broker: &Broker, topics: &Topics) -> Decisions {
    let mut decisions = Decisions::default();
    for record in oracle::read(broker, &topics.decisions, 1).remove(0) {
        let value = record.value.expect("a value");
        decisions.adopt(serde_json::from_slice(&value).expect("a decision"));
    }
    decisions
}

/// The records of the dead-letter topic by where they came from: each source position counts once.
pub fn dead_letters(broker: &Broker, topics: &Topics) -> BTreeMap<(PartitionId, i64), DeadLetter> {
    const OWN: [&str; 5] = ["topic", "partition", "offset", "class", "message"];
    let mut found = BTreeMap::new();
    for record in oracle::read(broker, &topics.dead_letters, 1).remove(0) {
        let [topic, partition, offset, class, message] =
            OWN.map(|name| record.header(&format!("dead-letter-{name}")).expect("a header").to_owned());
        let topic = match topic {
            t if t == topics.ledger => Topic::Ledger,
            t if t == topics.payment => Topic::Payment,
            other => panic!("a dead letter of topic {other}"),
        };
        let class = Class::ALL.into_iter().find(|c| c.name() == class).expect("a class").name();
        let own = record.headers.split_off_own();
        let letter = DeadLetter { class, message, key: record.key, value: record.value, headers: own };
        let from = PartitionId { topic, partition: partition.parse().expect("a number") };
        let at = (from, offset.parse().expect("a number"));
        if let Some(earlier) = found.insert(at, letter.clone()) {
            assert_eq!(earlier, letter, "a dead letter written twice says the same");
        }
    }
    found
}

trait SplitOffOwn {
    fn split_off_own(&self) -> Self;
}

impl SplitOffOwn for Vec<(String, Option<Vec<u8>>)> {
    /// The record's own headers: without the five that stand behind them.
    fn split_off_own(&self) -> Self {
        let own = self.len().checked_sub(5).expect("five headers of the dead letter's own");
        let names: Vec<&str> = self[own..].iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.iter().all(|name| name.starts_with("dead-letter-")), "{names:?}");
        self[..own].to_vec()
    }
}

fn straight(log: &Log, contents: &Contents, birth: &Birth, amendments: &Amendments) -> Expected {
    let rules = &Rules::new(&birth.parameters).expect("the generation's parameters");
    let law = Law { birth, rules, amendments };
    let mut expected = Expected::default();
    for (id, records) in log.partitions() {
        let next =
            contents.positions.get(&id).unwrap_or_else(|| panic!("{id} has no position")).checkpoint.next;
        for record in records.iter().filter(|record| record.offset < next.0) {
            expected.take(&law, id, record);
        }
    }
    expected
}

impl Expected {
    fn take(&mut self, law: &Law<'_>, id: PartitionId, stored: &Stored) {
        let subject = wire::subject(&stored.record(id.topic, &stored.headers()));
        let Some(subject) = subject else {
            let why = law.decode(id, stored).expect_err("without a usable key nothing can be read");
            return self.set_aside(id, stored, why);
        };
        let at = (subject, id);
        if let Some((poison, behind)) = self.behind.get_mut(&at) {
            behind.push(stored.clone());
            let numbered =
                |stored| law.decode(id, stored).ok().and_then(|event| Some((event.source, event.sequence?)));
            let (waits, comes) = (numbered(poison), numbered(stored));
            self.wait_behind(&at);
            let of_one_source = matches!((waits, comes), (Some((one, _)), Some((other, _))) if one == other);
            if of_one_source && self.quarantines[&at.0][&id].class == Class::SequenceGap {
                self.close_the_gap(law, &at);
            }
        } else if let Err(why) = self.fold(law, id, stored, &at.0) {
            self.hold(id, stored, &at.0, why.class);
            self.set_aside(id, stored, why);
        }
    }

    /// The missing numbers in their order, then the record that waits for them, then the others: or nothing.
    fn close_the_gap(&mut self, law: &Law<'_>, at: &(Subject, PartitionId)) {
        let (subject, id) = at;
        let before = self.cells.get(subject).cloned();
        let (poison, behind) = self.behind.get(at).cloned().expect("it waits");
        let waits = law.decode(*id, &poison).expect("a gap is read");
        let due = number_due(before.as_ref(), &waits, law.rules);
        for number in due..waits.sequence.expect("a number") {
            let bears = |event: &Event| event.source == waits.source && event.sequence == Some(number);
            let mut cell = self.cells.remove(subject);
            let early = behind.iter().any(|stored| {
                let event = law.decode(*id, stored).ok().filter(bears);
                let place = record_at(*id, stored);
                event.is_some_and(|event| {
                    fold_in(&mut cell, &event, &place, None, law.rules, Manner::Early).is_ok()
                })
            });
            self.cells.extend(cell.map(|cell| (subject.clone(), cell)));
            if !early {
                return self.put_back(subject.clone(), before);
            }
        }
        if self.fold(law, *id, &poison, subject).is_err() {
            return self.put_back(subject.clone(), before);
        }
        self.behind.remove(at);
        self.quarantines.get_mut(subject).expect("held").remove(id);
        self.quarantines.retain(|_, held| !held.is_empty());
        let mut why = None;
        for stored in &behind {
            if let Some((_, behind)) = self.behind.get_mut(at) {
                behind.push(stored.clone());
                self.wait_behind(at);
            } else if let Err(rejection) = self.fold(law, *id, stored, subject) {
                self.hold(*id, stored, subject, rejection.class);
                why = Some((stored, rejection));
            }
        }
        let Some((stored, why)) = why else { return };
        if why.class == Class::SequenceGap {
            self.close_the_gap(law, at);
        }
        let still = self.behind.get(at).is_some_and(|(poison, _)| poison.offset == stored.offset);
        if still {
            self.set_aside(*id, stored, why);
        }
    }

    fn put_back(&mut self, key: Subject, cell: Option<Cell>) {
        self.cells.remove(&key);
        self.cells.extend(cell.map(|cell| (key, cell)));
    }

    /// Folds a record as operators decided; as it stands where nobody did, or where that does not help.
    fn fold(
        &mut self,
        law: &Law<'_>,
        id: PartitionId,
        stored: &Stored,
        subject: &Subject,
    ) -> Result<(), Rejection> {
        let key = subject.clone();
        let (read, at) = (law.decode(id, stored), record_at(id, stored));
        let home = law.amendments.homes.get(subject).copied();
        let mut cell = self.cells.remove(&key);
        let remedies =
            law.amendments.patches.get(&(id, at.offset)).into_iter().flatten().map(|patch| &patch.remedy);
        let as_it_stands = [&Remedy::Retry];
        let mut folded = Ok(());
        for remedy in remedies.chain(as_it_stands) {
            let (read, manner) = match remedy {
                Remedy::Skip => {
                    let around = read.is_err().then(|| law.around_the_data(id, stored, subject)).flatten();
                    let event = read.as_ref().ok().or(around.as_ref());
                    pass_over(&mut cell, subject, event, &at, home, law.rules);
                    folded = Ok(());
                    break;
                }
                Remedy::Retry => (read.clone(), Manner::AsItStands),
                Remedy::Accept => (read.clone(), Manner::AsNew),
                Remedy::Replace(text) => {
                    let headers =
                        vec![("content-type".to_owned(), Some(b"application/cloudevents+json".to_vec()))];
                    let value = Some(text.clone().into_bytes());
                    (law.decode(id, &Stored { value, headers, ..stored.clone() }), Manner::AsItStands)
                }
            };
            folded =
                read.and_then(|event| fold_in(&mut cell, &event, &at, home, law.rules, manner)).map(|_| ());
            if folded.is_ok() {
                break;
            }
        }
        self.cells.extend(cell.map(|cell| (key, cell)));
        folded
    }

    fn wait_behind(&mut self, (subject, id): &(Subject, PartitionId)) {
        self.quarantines.get_mut(subject).expect("held").get_mut(id).expect("here").waiting += 1;
    }

    fn hold(&mut self, id: PartitionId, stored: &Stored, subject: &Subject, class: Class) {
        let quarantine = Quarantine {
            partition: id,
            offset: Offset(stored.offset),
            class,
            since: Time::from_millis(stored.timestamp_ms),
            waiting: 0,
            heals: false,
        };
        self.quarantines.entry(subject.clone()).or_default().insert(id, quarantine);
        self.behind.insert((subject.clone(), id), (stored.clone(), Vec::new()));
    }

    fn set_aside(&mut self, id: PartitionId, stored: &Stored, why: Rejection) {
        let value = stored.value.clone().filter(|_| why.class != Class::TooLarge);
        let letter = DeadLetter {
            class: why.class.name(),
            message: why.message,
            key: stored.key.clone(),
            value,
            headers: stored.headers.clone(),
        };
        self.dead_letters.insert((id, stored.offset), letter);
    }
}

/// What the fold rests on besides the log.
struct Law<'a> {
    birth: &'a Birth,
    rules: &'a Rules,
    amendments: &'a Amendments,
}

impl Law<'_> {
    fn decode(&self, id: PartitionId, stored: &Stored) -> Result<Event, Rejection> {
        wire::decode(&stored.record(id.topic, &stored.headers()), &self.birth.parameters)
    }

    fn around_the_data(&self, id: PartitionId, stored: &Stored, subject: &Subject) -> Option<Event> {
        wire::around_the_data(&stored.record(id.topic, &stored.headers()), subject, &self.birth.parameters)
    }
}

fn record_at(id: PartitionId, stored: &Stored) -> RecordAt {
    let timestamp = Time::from_millis(stored.timestamp_ms);
    RecordAt { partition: id, offset: Offset(stored.offset), timestamp }
}

fn cells(contents: &Contents) -> BTreeMap<Subject, Cell> {
    let decode = |(subject, bytes): (&Subject, &bytes::Bytes)| {
        (subject.clone(), Cell::decode(subject, bytes).expect("a cell"))
    };
    contents.cells.iter().map(decode).collect()
}

type OwingOf = BTreeMap<CustomerId, BTreeMap<AccountId, bytes::Bytes>>;

fn expected_owing(expected: &Expected) -> OwingOf {
    let mut owing = OwingOf::new();
    for (key, cell) in &expected.cells {
        if let (Subject::Account(id), Cell::Account(account)) = (key, cell) {
            for (customer, due) in account.encoded_dues() {
                owing.entry(customer).or_default().insert(id.clone(), due.into());
            }
        }
    }
    owing
}

type ByPartition = BTreeMap<PartitionId, BTreeMap<Subject, Quarantine>>;

fn by_partition(quarantines: &BTreeMap<Subject, BTreeMap<PartitionId, Quarantine>>) -> ByPartition {
    let mut by_partition = ByPartition::new();
    for (subject, held) in quarantines {
        for (id, quarantine) in held {
            by_partition.entry(*id).or_default().insert(subject.clone(), quarantine.clone());
        }
    }
    by_partition
}

type Marks = BTreeMap<(CustomerId, AccountId, PartitionId), Quarantine>;

/// Without `waiting`: a customer's mark does not count.
fn marks(contents: &Contents) -> Marks {
    let of = |(customer, marks): (&CustomerId, &BTreeMap<(AccountId, PartitionId), Quarantine>)| {
        let customer = customer.clone();
        let mark = |((account, id), mark): (&(AccountId, PartitionId), &Quarantine)| {
            ((customer.clone(), account.clone(), *id), Quarantine { waiting: 0, ..mark.clone() })
        };
        marks.iter().map(mark).collect::<Vec<_>>()
    };
    contents.due_quarantines.iter().flat_map(of).collect()
}

/// Every customer with a due on an account on hold, in whichever partition.
fn expected_marks(expected: &Expected) -> Marks {
    let mut marks = Marks::new();
    for (subject, held) in &expected.quarantines {
        let Subject::Account(id) = subject else { continue };
        let Some(Cell::Account(account)) = expected.cells.get(subject) else { continue };
        for customer in account.customers() {
            for (partition, quarantine) in held {
                let mark = Quarantine { waiting: 0, ..quarantine.clone() };
                marks.insert((customer.clone(), id.clone(), *partition), mark);
            }
        }
    }
    marks
}

/// Shows what differs, not both maps.
#[track_caller]
fn same<K: Ord + Debug, V: PartialEq + Debug>(what: &str, expected: &BTreeMap<K, V>, found: &BTreeMap<K, V>) {
    let mut differences = Vec::new();
    for (key, value) in expected {
        if found.get(key) != Some(value) {
            differences
                .push(format!("{key:?}\n  by the log   {value:?}\n  in the store {:?}", found.get(key)));
        }
    }
    for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(key)) {
        differences.push(format!("{key:?}\n  by the log   nothing\n  in the store {value:?}"));
    }
    let count = differences.len();
    differences.truncate(5);
    assert!(count == 0, "{count} {what} differ (of {}):\n{}", expected.len(), differences.join("\n"));
}
