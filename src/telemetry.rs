//! Logs, and every metric's name.

use std::{
    fs::OpenOptions,
    io::{Error, ErrorKind},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use prometheus_client::registry::{Metric, Registry};
use tracing_subscriber::{
    EnvFilter, Layer, Registry as Subscriber, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    config::{ConfigError, Log, LogFormat},
    traces,
};

/// What the name of every metric begins with.
pub const METRICS_PREFIX: &str = "balance_projector";

/// A metric's name and help. The registry puts [`METRICS_PREFIX`] before the name and, for a counter,
/// `_total` after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricName {
    /// Without prefix and `_total`; a unit stands last.
    pub name: &'static str,
    /// One sentence without its full stop, which the registry adds.
    pub help: &'static str,
}

/// Every metric. Labels stand in brackets; none holds an id of an account, a customer or a person.
#[allow(rustdoc::broken_intra_doc_links, reason = "the brackets hold labels, not links")]
pub mod metric {
    use super::MetricName;

    macro_rules! metrics {
        ($($constant:ident = $name:literal, $help:literal;)*) => {
            $(#[doc = $help] pub const $constant: MetricName = MetricName { name: $name, help: $help };)*
            /// Every metric, for the test of their names.
            pub const ALL: &[MetricName] = &[$($constant),*];
        };
    }

    metrics! {
        BUILD = "build", "The version of the binary, as a label of a constant [version]";

        RECORDS = "records", "Records taken from Kafka and decided, whatever came of them [topic]";
        EVENTS_APPLIED = "events_applied", "Events that changed a cell [topic]";
        EVENTS_IGNORED = "events_ignored", "Events that changed no figure [reason]";
        DEAD_LETTERS = "dead_letters", "Records set aside [class]";
        DEAD_LETTERS_WITHOUT_KEY = "dead_letters_without_key", "Records set aside of which no reader can be told [class]";
        STATEMENTS = "statements", "Statements of the ledger of record by how they compared [result]";
        COMMITS = "commits", "Commits that the store acknowledged [topic]";
        COMMITS_REFUSED = "commits_refused", "Commits and loads that the store refused, and looks at one that is not to be believed [reason]";
        CELLS_WRITTEN = "cells_written", "Cells in acknowledged commits [topic]";
        CELLS_LOADED = "cells_loaded", "Cells read because the cache did not hold them [topic]";
        COMMIT_SECONDS = "commit_seconds", "How long a commit took from sending to its acknowledgement";
        CACHE_BYTES = "cache_bytes", "Memory held by decoded cells [topic, partition]";
        CLAIMS = "claims", "Partitions claimed [topic]";
        PARTITIONS_OWNED = "partitions_owned", "Partitions that this process feeds";
        LAG_RECORDS = "lag_records", "High watermark less next offset [topic, partition]";
        CAUGHT_UP_SECONDS_AGO = "caught_up_seconds_ago", "How long ago the partition had reached the log's end [topic, partition]";
        RETENTION_ENDS = "retention_ends_timestamp_seconds", "When retention by time may remove the first record that still has to be read, as seconds since 1970 [topic, partition]";
        PAUSED = "paused", "Whether the partition stands still because an operator said so, 0 or 1 [topic, partition]";
        HALTED = "halted", "Whether the partition stands still until a person helps, 0 or 1 [topic, partition]";
        QUARANTINED_KEYS = "quarantined_keys", "Keys on hold [topic, partition]";
        WAITING_RECORDS = "waiting_records", "Records that wait in the log behind a key on hold [topic, partition]";

        AUDIT_PARTS = "audit_parts", "Parts of partitions that the continuous audit came to an end with [result]";
        AUDIT_SUBJECTS = "audit_subjects", "Subjects recomputed from the log and compared by the continuous audit";
        AUDIT_DIFFERENCES = "audit_differences", "Differences between the projection and the log that the continuous audit found";
        AUDIT_DIFFERING = "audit_differing", "Differences in the part of the partition that was audited last [topic, partition]";

        REQUESTS = "requests", "Requests answered [view, status]";
        REQUESTS_UNAVAILABLE = "requests_unavailable", "Requests answered with 503 [view, reason]";
        REFUSALS = "refusals", "Requests refused for what the caller is or asks for [view, reason]";
        TLS_HANDSHAKES_FAILED = "tls_handshakes_failed", "TLS handshakes that failed, for a bad certificate or for none";
        TLS_CERTIFICATE_ENDS = "tls_certificate_ends_timestamp_seconds", "When the server's certificate ends, in seconds since 1970";
        RELOADS = "reloads", "Reloads of credentials and certificates [result]";
        SEVERAL_CURRENCIES = "several_currencies", "Answers without a balance because the customer's dues are in several currencies";
        REQUEST_SECONDS = "request_seconds", "How long an answer took [view]";
        REQUESTS_OPEN = "requests_open", "Requests being answered";
        MIN_POSITION_WAITERS = "min_position_waiters", "Requests that wait for a position";
        STORE_READ_ERRORS = "store_read_errors", "Reads that the store did not answer";
        READY = "ready", "Whether both views answer, 0 or 1";
        STALENESS_SECONDS = "staleness_seconds", "The age of the oldest partition as readers see it";
        STALENESS_SERVED_SECONDS = "staleness_served_seconds", "How old the figures were that readers got [view]";

        TRACE_SPANS = "trace_spans", "Spans by what came of them: exported, dropped for want of room, or refused by the collector [result]";
    }
}

/// A registry with what every role tells: its build, and what came of spans.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix(METRICS_PREFIX);
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    registry.register(
        metric::BUILD.name,
        metric::BUILD.help,
        prometheus_client::metrics::info::Info::new(version),
    );
    traces::count_in(&mut registry);
    registry
}

/// Registers a metric under its name and gives it back.
pub fn register<M: Metric + Clone>(registry: &mut Registry, name: MetricName, metric: M) -> M {
    registry.register(name.name, name.help, metric.clone());
    metric
}

/// The registry in the text format of `/metrics`.
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail, and a metric that cannot be encoded leaves the others.
    let _ignored = prometheus_client::encoding::text::encode(&mut text, registry);
    text
}

/// The content type of [`encode`]'s text.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Sends the log where the configuration says, for the rest of the process; librdkafka's lines too.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.level).context("log.level")?;
    let layer = fmt::layer();
    let layer: Box<dyn Layer<Subscriber> + Send + Sync> = match (&log.file, log.format) {
        (None, LogFormat::Text) => layer.with_writer(std::io::stderr).with_ansi(is_terminal()).boxed(),
        (None, LogFormat::Json) => layer.json().with_writer(std::io::stderr).boxed(),
        (Some(path), format) => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            let file = Mutex::new(file.map_err(|error| not_opened(path, &error))?);
            match format {
                LogFormat::Text => layer.with_writer(file).with_ansi(false).boxed(),
                LogFormat::Json => layer.json().with_writer(file).boxed(),
            }
        }
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .context("the log is set up twice")
}

/// Whether the log's file can be opened, as far as that is told without making it.
pub fn check(log: &Log) -> Result<(), ConfigError> {
    let Some(path) = &log.file else { return Ok(()) };
    let opened = match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => may_hold_files(path.parent()),
        opened => opened.map(drop),
    };
    opened.map_err(|error| not_opened(path, &error))
}

/// Whether files can be made in a folder; a path without one is in the folder of this process.
fn may_hold_files(folder: Option<&Path>) -> Result<(), Error> {
    use rustix::fs::{Access, access};
    // Behind the dot only a folder is found.
    let folder = folder.unwrap_or(Path::new("")).join(".");
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(Error::from)
}

fn not_opened(path: &Path, error: &Error) -> ConfigError {
    ConfigError::of("log.file", format!("cannot be used: {}: {error}", path.display()))
}

/// For what happens again and again while something is away: it is told once a minute.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    const EVERY: Duration = Duration::from_mins(1);

    /// Whether it is to be told now.
    pub fn is_due(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|told| told.elapsed() >= Self::EVERY);
        if due {
            *told = Some(Instant::now());
        }
        due
    }

    /// It is over: the next time it is told at once. Whether it had been told.
    pub fn end(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn names_of_metrics_hold_to_prometheus_conventions() {
        let mut seen = BTreeSet::new();
        for metric in metric::ALL {
            let name = metric.name;
            assert!(seen.insert(name), "{name} stands twice");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            // The registry adds these itself.
            assert!(!name.ends_with("_total") && !name.starts_with(METRICS_PREFIX), "{name}");
            assert!(
                !name.contains("_ms") && !name.contains("milliseconds"),
                "{name}: base units are seconds and bytes"
            );
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn a_registered_counter_is_found_under_its_full_name() {
        let mut registry = registry();
        let counter: Counter = register(&mut registry, metric::RECORDS, Counter::default());
        counter.inc_by(3);
        let text = encode(&registry);
        assert!(text.contains("\nbalance_projector_records_total 3\n"), "{text}");
        assert!(text.contains("balance_projector_build_info{version=\""), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
