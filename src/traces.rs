//! OpenTelemetry traces: from a record to the commit that has it, and from a request to the store, over OTLP.
//!
//! Everything about them is here; the others call [`records()`], [`request`] and [`round_trip`], which cost a branch
//! where no collector is named. A `traceparent` decides whether its trace is followed; where there is none, chance
//! does. No id of a subject, no amount, no name and no text of a caller gets into a span: what its attributes hold is
//! configuration, numbers, and words of this program.

mod context;
mod export;
mod records;
mod requests;
mod span;

use std::{sync::OnceLock, time::Duration};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, ConfigError},
    fetch::Fetcher,
    telemetry::{metric, register},
};
use context::Parent;
use export::Queue;
use span::Open;

pub use records::{Records, Sent};
pub use requests::{request, round_trip};

/// Set once, as the log is: where nothing is set, nothing is followed.
static TRACES: OnceLock<Traces> = OnceLock::new();

struct Traces {
    sampled_per_million: u32,
    queue: Queue,
}

/// The traces of this process, where a collector is named.
fn on() -> Option<&'static Traces> {
    TRACES.get()
}

impl Traces {
    /// Begins a span, where its trace is followed: a caller that follows one is followed, one that does not is not,
    /// and without a caller chance decides.
    fn begin(&self, parent: Option<Parent>) -> Option<Open> {
        match parent {
            Some(Parent::Followed(caller)) => Some(Open::of_caller(caller)),
            Some(Parent::NotFollowed) => None,
            None => (rand::random_range(0..1_000_000) < self.sampled_per_million).then(Open::root),
        }
    }
}

/// The spans of a partition's records; `None` where no collector is named.
pub fn records(group: &str, topic: &str, partition: i32) -> Option<Records> {
    on().map(|traces| Records::new(traces, group, topic, partition))
}

/// Registers what is counted of spans, whether or not there are any.
pub fn count_in(registry: &mut Registry) {
    register(registry, metric::TRACE_SPANS, export::counted().clone());
}

/// Begins to follow traces, for the rest of the process and within its runtime, where a collector is named.
pub fn start(settings: &config::Traces) -> anyhow::Result<Running> {
    let Some(endpoint) = &settings.endpoint else { return Ok(Running { exporter: None }) };
    let timeout = Duration::from_millis(settings.timeout_ms);
    let collector = Fetcher::new(endpoint, settings.ca_file.as_deref(), timeout)
        .map_err(|error| ConfigError::of("traces.endpoint", format!("cannot be used: {error}")))?;
    let bounds = export::Bounds {
        batch_spans: settings.batch_spans_max,
        interval: Duration::from_millis(settings.interval_ms),
    };
    let (queue, spans) = Queue::new(settings.queue_spans_max);
    let traces = Traces { sampled_per_million: settings.sampled_per_million, queue };
    TRACES.set(traces).ok().context("traces are set up twice")?;
    let stop = CancellationToken::new();
    let task = tokio::spawn(export::run(spans, collector, bounds, stop.clone()));
    Ok(Running { exporter: Some(Exporter { task, stop, timeout }) })
}

/// Traces on their way to the collector.
#[must_use = "what is on its way is lost unless it is finished"]
pub struct Running {
    exporter: Option<Exporter>,
}

struct Exporter {
    task: JoinHandle<()>,
    stop: CancellationToken,
    timeout: Duration,
}

impl Running {
    /// Hands over what is queued, within the time that the collector has for one batch.
    pub async fn finish(self) {
        let Some(Exporter { mut task, stop, timeout }) = self.exporter else { return };
        stop.cancel();
        if tokio::time::timeout(timeout, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("the collector did not take the last spans in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use context::Context;

    fn begun(sampled_per_million: u32, parent: Option<Parent>) -> usize {
        let traces = Traces { sampled_per_million, queue: Queue::new(1).0 };
        (0..10_000).filter(|_| traces.begin(parent).is_some()).count()
    }

    #[test]
    fn a_caller_decides_and_without_one_chance_does() {
        let caller = Context { trace: [1; 16], span: [2; 8] };
        for sampled_per_million in [0, 1_000_000] {
            assert_eq!(begun(sampled_per_million, Some(Parent::Followed(caller))), 10_000);
            assert_eq!(begun(sampled_per_million, Some(Parent::NotFollowed)), 0);
        }
        assert_eq!(begun(0, None), 0);
        assert_eq!(begun(1_000_000, None), 10_000);
        // A tenth, give or take seven standard deviations.
        assert!((790..=1_210).contains(&begun(100_000, None)));
    }
}
