//! What the write side counts.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    domain::{Class, PartitionId, Time, Topic},
    store::PartitionState,
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

#[allow(clippy::disallowed_types, reason = "seconds, not money")]
type Seconds = Gauge<f64, AtomicU64>;

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
    cells_written: Family<OfTopic, Counter>,
    cells_loaded: Family<OfTopic, Counter>,
    commit_seconds: Histogram,
    cache_bytes: Family<OfPartition, Gauge>,
    /// Partitions that this process feeds.
    pub owned: Gauge,
    lag: Family<OfPartition, Gauge>,
    quarantined_keys: Family<OfPartition, Gauge>,
    waiting_records: Family<OfPartition, Gauge>,
    halted: Family<OfPartition, Gauge>,
    paused: Family<OfPartition, Gauge>,
    caught_up_ago: Family<OfPartition, Seconds>,
    retention_ends: Family<OfPartition, Seconds>,
}

impl Metrics {
    /// Makes and registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Metrics::registered(registry);
        metrics.begin();
        metrics
    }

    /// What has not happened yet is zero and not absent: nobody sees an increase from nothing.
    fn begin(&self) {
        for topic in Topic::ALL.map(topic) {
            for family in [
                &self.records,
                &self.applied,
                &self.commits,
                &self.claims,
                &self.cells_written,
                &self.cells_loaded,
            ] {
                drop(family.get_or_create(&OfTopic { topic }));
            }
        }
        for class in Class::ALL.map(Class::name) {
            drop(self.dead_letters.get_or_create(&OfClass { class }));
            drop(self.dead_letters_without_key.get_or_create(&OfClass { class }));
        }
        for reason in ["fenced", "unchained", "missing", "guarded", "transient", "broker", "corrupt"] {
            drop(self.refused.get_or_create(&OfReason { reason }));
        }
        for reason in ["duplicate", "without-effect", "replayed", "type", "waiting"] {
            drop(self.ignored.get_or_create(&OfReason { reason }));
        }
        for result in ["opened", "agrees", "drifts", "counted"] {
            drop(self.statements.get_or_create(&OfResult { result }));
        }
    }

    fn registered(registry: &mut Registry) -> Self {
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
            cells_written: register(registry, metric::CELLS_WRITTEN, Family::default()),
            cells_loaded: register(registry, metric::CELLS_LOADED, Family::default()),
            commit_seconds: register(
                registry,
                metric::COMMIT_SECONDS,
                Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            ),
            cache_bytes: register(registry, metric::CACHE_BYTES, Family::default()),
            owned: register(registry, metric::PARTITIONS_OWNED, Gauge::default()),
            lag: register(registry, metric::LAG_RECORDS, Family::default()),
            quarantined_keys: register(registry, metric::QUARANTINED_KEYS, Family::default()),
            waiting_records: register(registry, metric::WAITING_RECORDS, Family::default()),
            halted: register(registry, metric::HALTED, Family::default()),
            paused: register(registry, metric::PAUSED, Family::default()),
            caught_up_ago: register(registry, metric::CAUGHT_UP_SECONDS_AGO, Family::default()),
            retention_ends: register(registry, metric::RETENTION_ENDS, Family::default()),
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

    /// Notes what the store wrote, and how long its acknowledgement took.
    pub fn wrote(&self, of: Topic, cells: usize, took: Duration) {
        let cells = u64::try_from(cells).unwrap_or(u64::MAX);
        self.cells_written.get_or_create(&OfTopic { topic: topic(of) }).inc_by(cells);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts cells that the cache did not hold.
    pub fn loaded(&self, of: Topic, cells: usize) {
        let cells = u64::try_from(cells).unwrap_or(u64::MAX);
        self.cells_loaded.get_or_create(&OfTopic { topic: topic(of) }).inc_by(cells);
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
    pub fn beat(&self, id: PartitionId, state: &PartitionState) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.quarantined_keys.get_or_create(&id.into()).set(gauge(state.quarantined_keys));
        self.waiting_records.get_or_create(&id.into()).set(gauge(state.waiting_records));
        self.halted.get_or_create(&id.into()).set(i64::from(state.halt.is_some()));
        self.paused.get_or_create(&id.into()).set(i64::from(state.paused.is_some()));
        match state.caught_up_ms_ago {
            Some(ms) => {
                let ago = Duration::from_millis(ms).as_secs_f64();
                self.caught_up_ago.get_or_create(&id.into()).set(ago);
            }
            // Not known is not zero.
            None => drop(self.caught_up_ago.remove(&id.into())),
        }
    }

    /// Notes the memory that a partition's cells take.
    pub fn cached(&self, id: PartitionId, bytes: usize) {
        self.cache_bytes.get_or_create(&id.into()).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Notes when retention may remove what still has to be read; `None` where nothing is in danger.
    pub fn retention_ends(&self, id: PartitionId, at: Option<Time>) {
        match at {
            Some(at) => {
                let since_1970 = at.0.duration_since(jiff::Timestamp::UNIX_EPOCH).as_secs_f64();
                self.retention_ends.get_or_create(&id.into()).set(since_1970);
            }
            None => drop(self.retention_ends.remove(&id.into())),
        }
    }

    /// Forgets a partition that another process feeds now.
    pub fn forget(&self, id: PartitionId) {
        let gauges = [&self.lag, &self.quarantined_keys, &self.waiting_records, &self.halted, &self.paused];
        for family in gauges.into_iter().chain([&self.cache_bytes]) {
            family.remove(&id.into());
        }
        for family in [&self.caught_up_ago, &self.retention_ends] {
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
