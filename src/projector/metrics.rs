//! What the write side counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    domain::{Class, PartitionId, Topic},
    telemetry::{metric, register},
};

/// The labels of a figure per partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfPartition {
    topic: &'static str,
    partition: i32,
}

impl From<PartitionId> for OfPartition {
    fn from(id: PartitionId) -> Self {
        OfPartition { topic: topic(id.topic), partition: id.partition }
    }
}

/// The label of a figure per topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfTopic {
    topic: &'static str,
}

/// The label of an event that changed nothing, and of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfReason {
    reason: &'static str,
}

/// The label of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfResult {
    result: &'static str,
}

/// The label of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfClass {
    class: &'static str,
}

/// Every counter and gauge of the write side.
#[derive(Debug, Clone)]
pub struct Metrics {
    records: Family<OfTopic, Counter>,
    applied: Family<OfTopic, Counter>,
    ignored: Family<OfReason, Counter>,
    statements: Family<OfResult, Counter>,
    dead_letters: Family<OfClass, Counter>,
    dead_letters_without_key: Family<OfClass, Counter>,
    commits: Family<OfTopic, Counter>,
    refused: Family<OfReason, Counter>,
    claims: Family<OfTopic, Counter>,
    /// Partitions that this process feeds.
    pub owned: Gauge,
    lag: Family<OfPartition, Gauge>,
    quarantined_keys: Family<OfPartition, Gauge>,
    waiting_records: Family<OfPartition, Gauge>,
    halted: Family<OfPartition, Gauge>,
}

impl Metrics {
    /// Makes and registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        Metrics {
            records: register(registry, metric::RECORDS, Family::default()),
            applied: register(registry, metric::EVENTS_APPLIED, Family::default()),
            ignored: register(registry, metric::EVENTS_IGNORED, Family::default()),
            statements: register(registry, metric::STATEMENTS, Family::default()),
            dead_letters: register(registry, metric::DEAD_LETTERS, Family::default()),
            dead_letters_without_key: register(registry, metric::DEAD_LETTERS_WITHOUT_KEY, Family::default()),
            commits: register(registry, metric::COMMITS, Family::default()),
            refused: register(registry, metric::COMMITS_REFUSED, Family::default()),
            claims: register(registry, metric::CLAIMS, Family::default()),
            owned: register(registry, metric::PARTITIONS_OWNED, Gauge::default()),
            lag: register(registry, metric::LAG_RECORDS, Family::default()),
            quarantined_keys: register(registry, metric::QUARANTINED_KEYS, Family::default()),
            waiting_records: register(registry, metric::WAITING_RECORDS, Family::default()),
            halted: register(registry, metric::HALTED, Family::default()),
        }
    }

    /// Counts records taken, and among them the events applied.
    pub fn folded(&self, of: Topic, records: u64, applied: u64) {
        let label = OfTopic { topic: topic(of) };
        self.records.get_or_create(&label).inc_by(records);
        self.applied.get_or_create(&label).inc_by(applied);
    }

    /// Counts events that changed no figure.
    pub fn ignored(&self, reason: &'static str, count: u64) {
        if count > 0 {
            self.ignored.get_or_create(&OfReason { reason }).inc_by(count);
        }
    }

    /// Counts statements.
    pub fn statements(&self, result: &'static str, count: u64) {
        if count > 0 {
            self.statements.get_or_create(&OfResult { result }).inc_by(count);
        }
    }

    /// Counts a dead letter; without a usable key nobody can be told.
    pub fn dead_letter(&self, class: Class, usable_key: bool) {
        let label = OfClass { class: class.name() };
        self.dead_letters.get_or_create(&label).inc();
        if !usable_key {
            self.dead_letters_without_key.get_or_create(&label).inc();
        }
    }

    /// Counts an acknowledged commit.
    pub fn committed(&self, of: Topic) {
        self.commits.get_or_create(&OfTopic { topic: topic(of) }).inc();
    }

    /// Counts a refusal by its remedy.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&OfReason { reason }).inc();
    }

    /// Counts a claim.
    pub fn claimed(&self, of: Topic) {
        self.claims.get_or_create(&OfTopic { topic: topic(of) }).inc();
    }

    /// Notes a partition's lag.
    pub fn lag(&self, id: PartitionId, records: i64) {
        self.lag.get_or_create(&id.into()).set(records);
    }

    /// Notes what a heartbeat says.
    pub fn beat(&self, id: PartitionId, quarantined_keys: u64, waiting_records: u64, halted: bool) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.quarantined_keys.get_or_create(&id.into()).set(gauge(quarantined_keys));
        self.waiting_records.get_or_create(&id.into()).set(gauge(waiting_records));
        self.halted.get_or_create(&id.into()).set(i64::from(halted));
    }

    /// Forgets a partition that another process feeds now.
    pub fn forget(&self, id: PartitionId) {
        for family in [&self.lag, &self.quarantined_keys, &self.waiting_records, &self.halted] {
            family.remove(&id.into());
        }
    }
}

fn topic(topic: Topic) -> &'static str {
    match topic {
        Topic::Ledger => "ledger",
        Topic::Payment => "payment",
    }
}
