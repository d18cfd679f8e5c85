//! What was seen, and what of it needs a person.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::log::{LogView, Partition};
use crate::{
    domain::{PartitionId, Subject},
    ops::partitions::{and_others, said_once},
    source::Cluster,
    store::{Halt, PartitionState, Quarantine, Snapshot, StoreError},
};

type States = Option<(Snapshot, Vec<(PartitionId, PartitionState)>)>;

/// What was seen in two looks.
pub(super) struct Looks {
    pub(super) cluster: Cluster,
    pub(super) first: States,
    pub(super) second: States,
    pub(super) unhealthy: Option<StoreError>,
    pub(super) log: LogView,
    /// Some of the keys on hold.
    pub(super) keys: Vec<(Subject, Quarantine)>,
    /// Nobody decided about them; `None` where they could not be counted.
    pub(super) dead_letters_without_key: Option<usize>,
}

/// What `status` tells; its JSON form is stable.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The generation that readers are served.
    generation: Option<u32>,
    partitions: Vec<PartitionReport>,
    quarantined_keys: u64,
    /// The first of them.
    quarantined: Vec<KeyReport>,
    /// Undecided ones: no reader can be told of them. Null where they could not be counted.
    dead_letters_without_key: Option<usize>,
    /// Empty: all is well.
    pub(super) needs_person: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PartitionReport {
    topic: String,
    partition: i32,
    next_offset: Option<i64>,
    high_watermark: Option<i64>,
    lag: Option<i64>,
    oldest_unapplied_ms: Option<u64>,
    caught_up_ms_ago: Option<u64>,
    complete: bool,
    owner: Option<String>,
    owner_lives: bool,
    quarantined_keys: u64,
    waiting_records: u64,
    halt: Option<Halt>,
    /// By whom and since when it is told to stand still, if it is.
    paused: Option<String>,
}

#[derive(Debug, Serialize)]
struct KeyReport {
    topic: String,
    partition: i32,
    key: String,
    offset: i64,
    class: &'static str,
    since: String,
    waiting: u64,
}

impl Report {
    pub(super) fn new(looks: &Looks, max_staleness_ms: u64) -> Report {
        let cluster = &looks.cluster;
        let mut needs_person = Vec::new();
        if let Some(error) = &looks.unhealthy {
            needs_person.push(format!("the store is not to be believed: {error}"));
        }
        needs_person.extend(looks.log.faults.iter().cloned());
        if looks.second.is_none() {
            needs_person.push("no generation is active: no `project` has begun one".to_owned());
        }
        let before: BTreeMap<_, _> =
            looks.first.iter().flat_map(|(_, states)| states).map(|(p, s)| (*p, s)).collect();
        let now: BTreeMap<_, _> =
            looks.second.iter().flat_map(|(_, states)| states).map(|(p, s)| (*p, s)).collect();
        let positions: BTreeMap<_, _> = looks
            .second
            .iter()
            .flat_map(|(snapshot, _)| &snapshot.positions)
            .map(|(p, position)| (*p, position.checkpoint))
            .collect();

        let mut all: Vec<PartitionId> =
            positions.keys().chain(looks.log.partitions.keys()).copied().collect();
        all.sort_unstable();
        all.dedup();
        let mut partitions = Vec::new();
        let mut said: Vec<(String, String)> = Vec::new();
        for partition in all {
            let log = looks.log.partitions.get(&partition);
            let state = now.get(&partition).copied();
            let Some(checkpoint) = positions.get(&partition) else {
                if looks.second.is_some() {
                    needs_person.push(format!(
                        "{} is not part of the generation: partitions must not be added",
                        cluster.display(partition)
                    ));
                }
                partitions.push(PartitionReport::unknown(cluster, partition, log));
                continue;
            };
            let owner_lives = state.is_some_and(|now| {
                before
                    .get(&partition)
                    .is_none_or(|before| now.claim != before.claim || now.beat > before.beat)
            });
            let report = PartitionReport {
                topic: cluster.topic_name(partition.topic).to_owned(),
                partition: partition.partition,
                next_offset: Some(checkpoint.next.0),
                high_watermark: log.map(|log| log.high.0),
                lag: log.map(|log| log.high.0.saturating_sub(checkpoint.next.0).max(0)),
                oldest_unapplied_ms: log.and_then(|log| log.oldest_unapplied_ms),
                caught_up_ms_ago: state.filter(|_| owner_lives).and_then(|s| s.caught_up_ms_ago),
                complete: checkpoint.complete,
                owner: state.map(|s| s.owner.clone()),
                owner_lives,
                quarantined_keys: state.map_or(0, |s| s.quarantined_keys),
                waiting_records: state.map_or(0, |s| s.waiting_records),
                halt: state.and_then(|s| s.halt.clone()),
                paused: state.and_then(|s| s.paused.clone()),
            };
            said.extend(report.judge(log, max_staleness_ms).map(|what| (report.name(), what)));
            partitions.push(report);
        }
        needs_person.extend(said_once(&said));
        if looks.second.is_some() && looks.log.partitions.is_empty() && partitions.is_empty() {
            needs_person.push("the generation has no partitions".to_owned());
        }
        let served = looks.second.as_ref().map(|(snapshot, _)| snapshot.generation.0);
        needs_person.extend(without_owner(&partitions, served));
        // Known by the heartbeats; where none was sent yet, by the store's index.
        let told: u64 = partitions.iter().map(|p| p.quarantined_keys).fold(0, u64::saturating_add);
        let quarantined_keys = told.max(u64::try_from(looks.keys.len()).unwrap_or(u64::MAX));
        if quarantined_keys > 0 {
            let keys = if quarantined_keys == 1 { "key is" } else { "keys are" };
            needs_person.push(format!("{quarantined_keys} {keys} on hold: decide on the dead letters"));
        }
        let nobodys = looks.dead_letters_without_key;
        if let Some(nobodys) = nobodys.filter(|nobodys| *nobodys > 0) {
            let letters = if nobodys == 1 { "dead letter names" } else { "dead letters name" };
            needs_person.push(format!(
                "{nobodys} {letters} nobody who could be told: `dead-letters list`, and decide"
            ));
        }
        Report {
            generation: served,
            partitions,
            quarantined_keys,
            quarantined: looks
                .keys
                .iter()
                .map(|(subject, quarantine)| KeyReport::new(cluster, subject, quarantine))
                .collect(),
            dead_letters_without_key: nobodys,
            needs_person,
        }
    }

    pub(super) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    pub(super) fn table(&self) -> String {
        let generation = self.generation.map_or("none".to_owned(), |g| g.to_string());
        let mut text = format!("generation {generation}, {} partitions\n\n", self.partitions.len());
        let header = [
            "PARTITION",
            "NEXT",
            "END",
            "LAG",
            "OLDEST",
            "CAUGHT UP",
            "ON HOLD",
            "WAITING",
            "STATE",
            "OWNER",
        ];
        let rows = self.partitions.iter().map(PartitionReport::row);
        columns(&mut text, std::iter::once(header.map(str::to_owned)).chain(rows));
        if !self.quarantined.is_empty() {
            text.push('\n');
            let header = ["ON HOLD", "PARTITION", "OFFSET", "CLASS", "SINCE", "WAITING"].map(str::to_owned);
            columns(&mut text, std::iter::once(header).chain(self.quarantined.iter().map(KeyReport::row)));
            let rest = self
                .quarantined_keys
                .saturating_sub(u64::try_from(self.quarantined.len()).unwrap_or(u64::MAX));
            if rest > 0 {
                let _infallible = writeln!(text, "… and {rest} more");
            }
        }
        text.push('\n');
        for line in &self.needs_person {
            let _infallible = writeln!(text, "! {line}");
        }
        if self.needs_person.is_empty() {
            text.push_str("all is well\n");
        }
        text
    }
}

/// Partitions that stand still because no process feeds them: mostly all of them, for one reason.
fn without_owner(partitions: &[PartitionReport], served: Option<u32>) -> Option<String> {
    let alone = partitions.iter().filter(|p| p.next_offset.is_some() && p.halt.is_none() && !p.owner_lives);
    let alone: Vec<_> = alone.collect();
    let (first, others) = alone.split_first()?;
    let have = if others.is_empty() { "has" } else { "have" };
    let which = format!("{} {have}", first.name() + &and_others(others.len()));
    let lag = alone.iter().filter_map(|p| p.lag).fold(0, i64::saturating_add);
    let lag = if lag > 0 { format!(" and {lag} records wait") } else { String::new() };
    let feeds = match served {
        // A `project` of another generation's configuration feeds that one.
        Some(served) if served > 1 => {
            format!(" with `generation = {served}`, or `rebuild start --generation {served}`")
        }
        Some(_) | None => String::new(),
    };
    Some(format!("{which} no living owner{lag}: start a `project`{feeds}"))
}

impl PartitionReport {
    /// A partition of the log that the projection does not know.
    fn unknown(cluster: &Cluster, partition: PartitionId, log: Option<&Partition>) -> Self {
        PartitionReport {
            topic: cluster.topic_name(partition.topic).to_owned(),
            partition: partition.partition,
            next_offset: None,
            high_watermark: log.map(|log| log.high.0),
            lag: None,
            oldest_unapplied_ms: None,
            caught_up_ms_ago: None,
            complete: false,
            owner: None,
            owner_lives: false,
            quarantined_keys: 0,
            waiting_records: 0,
            halt: None,
            paused: None,
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.topic, self.partition)
    }

    /// What a person has to look at; that no owner lives is told once for all partitions.
    fn judge(&self, log: Option<&Partition>, max_staleness_ms: u64) -> Option<String> {
        let next = self.next_offset.unwrap_or_default();
        if let Some(halt) = &self.halt {
            return Some(format!("is halted: {}; remedy: {}", halt.reason, halt.remedy));
        }
        if let Some(Partition { low, .. }) = log.filter(|log| next < log.low.0) {
            return Some(format!("needs offset {next}, but the log begins at {low}: retention removed it"));
        }
        if let Some(Partition { high, .. }) = log.filter(|log| next > log.high.0) {
            return Some(format!("is at offset {next}, but the log ends at {high}: it is another log"));
        }
        if !self.owner_lives {
            return None;
        }
        if let Some(paused) = &self.paused {
            return Some(format!("is {paused}; `resume` lets it go on"));
        }
        if !self.complete {
            return Some("is not complete: it has not reached the log's end since its birth".to_owned());
        }
        let stale = self.caught_up_ms_ago.is_none_or(|ms| ms > max_staleness_ms);
        stale.then(|| "is stale: readers get 503".to_owned())
    }

    fn row(&self) -> [String; 10] {
        let running = if self.paused.is_some() { "paused" } else { "running" };
        let state = match (&self.halt, self.owner_lives, self.complete, self.next_offset) {
            (Some(_), _, _, _) => "halted",
            (None, _, _, None) => "unknown",
            (None, false, _, Some(_)) => "no owner",
            (None, true, false, Some(_)) => "incomplete",
            (None, true, true, Some(_)) => running,
        };
        [
            self.name(),
            or_dash(self.next_offset),
            or_dash(self.high_watermark),
            or_dash(self.lag),
            or_dash(self.oldest_unapplied_ms.map(age)),
            or_dash(self.caught_up_ms_ago.map(|ms| format!("{} ago", age(ms)))),
            self.quarantined_keys.to_string(),
            self.waiting_records.to_string(),
            state.to_owned(),
            or_dash(self.owner.clone()),
        ]
    }
}

impl KeyReport {
    fn new(cluster: &Cluster, subject: &Subject, quarantine: &Quarantine) -> Self {
        KeyReport {
            topic: cluster.topic_name(quarantine.partition.topic).to_owned(),
            partition: quarantine.partition.partition,
            key: subject.as_str().to_owned(),
            offset: quarantine.offset.0,
            class: quarantine.class.name(),
            since: quarantine.since.0.to_string(),
            waiting: quarantine.waiting,
        }
    }

    fn row(&self) -> [String; 6] {
        [
            self.key.clone(),
            format!("{}/{}", self.topic, self.partition),
            self.offset.to_string(),
            self.class.to_owned(),
            self.since.clone(),
            self.waiting.to_string(),
        ]
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// A duration for humans, in one unit.
fn age(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    for (unit, name) in UNITS {
        if let Some(count @ 1..) = ms.checked_div(unit) {
            return format!("{count} {name}");
        }
    }
    format!("{ms} ms")
}

/// Rows in columns as wide as their widest cell.
pub(in crate::ops) fn columns<const N: usize>(text: &mut String, rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<_> = rows.collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _infallible = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{AccountId, Checkpoint, Class, Offset, Time, Topic},
        store::{Generation, Position, Token},
    };

    const LEDGER: PartitionId = PartitionId { topic: Topic::Ledger, partition: 0 };

    fn state(beat: u64) -> PartitionState {
        PartitionState {
            claim: 1,
            beat,
            caught_up_ms_ago: Some(300),
            next: Offset(70),
            high_watermark: Some(Offset(77)),
            halt: None,
            paused: None,
            cut: None,
            zone: None,
            quarantined_keys: 0,
            waiting_records: 0,
            owner: "host/1".to_owned(),
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "what the store answers is optional")]
    fn states(state: PartitionState, complete: bool) -> States {
        let checkpoint = Checkpoint { next: Offset(70), commit: 9, complete, last: None };
        let position = Position { token: Token([0; 16]), checkpoint };
        let snapshot = Snapshot { generation: Generation(3), positions: vec![(LEDGER, position)] };
        Some((snapshot, vec![(LEDGER, state)]))
    }

    /// One partition that runs, seven records behind.
    fn looks() -> Looks {
        let view = Partition { low: Offset(0), high: Offset(77), oldest_unapplied_ms: Some(1_500) };
        Looks {
            cluster: Cluster::new(crate::config::Kafka::default()),
            first: states(state(4), true),
            second: states(state(6), true),
            unhealthy: None,
            dead_letters_without_key: Some(0),
            log: LogView { partitions: BTreeMap::from([(LEDGER, view)]), faults: Vec::new() },
            keys: Vec::new(),
        }
    }

    #[test]
    fn a_partition_that_runs_needs_nobody() {
        let report = Report::new(&looks(), 30_000);
        assert!(report.needs_person.is_empty(), "{report:?}");
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["generation"], 3);
        let partition = &json["partitions"][0];
        assert_eq!(partition["topic"], "ledger.events");
        assert_eq!(partition["partition"], 0);
        assert_eq!(partition["next_offset"], 70);
        assert_eq!(partition["high_watermark"], 77);
        assert_eq!(partition["lag"], 7);
        assert_eq!(partition["oldest_unapplied_ms"], 1_500);
        let expected = "generation 3, 1 partitions\n\n\
            PARTITION        NEXT  END  LAG  OLDEST  CAUGHT UP   ON HOLD  WAITING  STATE    OWNER\n\
            ledger.events/0  70    77   7    1 s     300 ms ago  0        0        running  host/1\n\nall is well\n";
        assert_eq!(report.table(), expected);
    }

    #[test]
    fn what_needs_a_person_is_named() {
        let halt = Halt { reason: "the log is another one".to_owned(), remedy: "rebuild".to_owned() };
        let quarantine = Quarantine {
            partition: LEDGER,
            offset: Offset(12),
            class: Class::BadAmount,
            since: Time::from_millis(0),
            waiting: 2,
            heals: false,
        };
        let key = (Subject::Account(AccountId::parse("A1").unwrap()), quarantine);
        let view = |low, high| Partition { low: Offset(low), high: Offset(high), oldest_unapplied_ms: None };
        let with_log = |log| LogView { partitions: BTreeMap::from([log]), faults: Vec::new() };
        let other = PartitionId { topic: Topic::Payment, partition: 5 };
        let rows: Vec<(Looks, &str)> = vec![
            (Looks { first: None, second: None, ..looks() }, "no generation is active"),
            (
                Looks { second: states(PartitionState { halt: Some(halt), ..state(6) }, true), ..looks() },
                "ledger.events/0 is halted: the log is another one; remedy: rebuild",
            ),
            (
                Looks { second: states(state(4), true), ..looks() },
                "ledger.events/0 has no living owner and 7 records wait",
            ),
            (Looks { second: states(state(6), false), ..looks() }, "ledger.events/0 is not complete"),
            (
                Looks {
                    second: states(PartitionState { caught_up_ms_ago: Some(30_001), ..state(6) }, true),
                    ..looks()
                },
                "ledger.events/0 is stale",
            ),
            (
                Looks {
                    second: states(PartitionState { caught_up_ms_ago: None, ..state(6) }, true),
                    ..looks()
                },
                "ledger.events/0 is stale",
            ),
            (
                Looks { log: with_log((LEDGER, view(71, 99))), ..looks() },
                "ledger.events/0 needs offset 70, but the log begins at 71",
            ),
            (
                Looks { log: with_log((LEDGER, view(0, 69))), ..looks() },
                "ledger.events/0 is at offset 70, but the log ends at 69",
            ),
            (
                Looks { log: with_log((other, view(0, 1))), ..looks() },
                "payment.events/5 is not part of the generation",
            ),
            (
                Looks {
                    log: LogView { faults: vec!["no broker answers".to_owned()], ..LogView::default() },
                    ..looks()
                },
                "no broker answers",
            ),
            (
                Looks { unhealthy: Some(StoreError::Corrupt { reason: "it evicts".to_owned() }), ..looks() },
                "the store is not to be believed: it evicts",
            ),
            (Looks { keys: vec![key], ..looks() }, "1 key is on hold"),
            (Looks { dead_letters_without_key: Some(2), ..looks() }, "2 dead letters name nobody"),
        ];
        for (looks, expected) in rows {
            let report = Report::new(&looks, 30_000);
            assert!(report.needs_person.iter().any(|line| line.contains(expected)), "{expected}: {report:?}");
            assert!(report.table().contains(expected));
        }
    }

    #[test]
    fn keys_on_hold_are_listed_up_to_a_number() {
        let quarantine = Quarantine {
            partition: LEDGER,
            offset: Offset(12),
            class: Class::SequenceGap,
            since: Time::from_millis(1_735_689_600_000),
            waiting: 2,
            heals: false,
        };
        let key = (Subject::Account(AccountId::parse("A1").unwrap()), quarantine);
        let second = states(PartitionState { quarantined_keys: 4, waiting_records: 9, ..state(6) }, true);
        let table = Report::new(&Looks { second, keys: vec![key], ..looks() }, 30_000).table();
        assert!(
            table.contains("A1       ledger.events/0  12      sequence-gap  2025-01-01T00:00:00Z  2"),
            "{table}"
        );
        assert!(table.contains("… and 3 more"), "{table}");
        assert!(table.contains("! 4 keys are on hold"), "{table}");
    }

    #[test]
    fn a_new_claim_between_the_looks_is_a_living_owner() {
        let second = states(PartitionState { claim: 2, beat: 1, ..state(0) }, true);
        assert!(Report::new(&Looks { second, ..looks() }, 30_000).needs_person.is_empty());
    }
}
