//! Spans on their way to the collector: a bounded queue, and a task that empties it.
//!
//! Nobody waits for the collector. A span that finds the queue full is not even made, and one that the collector
//! does not take is not sent again: both are counted.

use std::{sync::LazyLock, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use prost::Message as _;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::span::text;
use crate::fetch::Fetcher;

const PROTOBUF: &str = "application/x-protobuf";
/// More than a collector has to say.
const REPLY_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfResult {
    result: &'static str,
}

struct Counts {
    all: Family<OfResult, Counter>,
    exported: Counter,
    dropped: Counter,
    refused: Counter,
}

/// Zero from the beginning: nobody sees an increase from nothing.
static COUNTS: LazyLock<Counts> = LazyLock::new(|| {
    let all = Family::<OfResult, Counter>::default();
    let of = |result| all.get_or_create(&OfResult { result }).clone();
    let (exported, dropped, refused) = (of("exported"), of("dropped"), of("refused"));
    Counts { all, exported, dropped, refused }
});

/// What is counted of spans.
pub(super) fn counted() -> &'static Family<OfResult, Counter> {
    &COUNTS.all
}

/// Counts spans for which there is no room.
pub(super) fn dropped(spans: u64) {
    COUNTS.dropped.inc_by(spans);
}

/// Where spans wait for their batch.
pub(super) struct Queue(mpsc::Sender<Span>);

impl Queue {
    pub(super) fn new(spans_max: usize) -> (Self, mpsc::Receiver<Span>) {
        let (sender, receiver) = mpsc::channel(spans_max);
        (Queue(sender), receiver)
    }

    /// Puts a span into the queue, if there is room.
    pub(super) fn put(&self, span: impl FnOnce() -> Span) {
        match self.0.try_reserve() {
            Ok(room) => room.send(span()),
            Err(_) => dropped(1),
        }
    }
}

/// Bounds of what the collector gets.
pub(super) struct Bounds {
    /// The most spans in a batch.
    pub(super) batch_spans: usize,
    /// How long a span waits for others, at most.
    pub(super) interval: Duration,
}

/// Sends batches until it is told to stop; then all that is queued.
pub(super) async fn run(
    mut spans: mpsc::Receiver<Span>,
    collector: Fetcher,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let mut sender = Sender { collector, resource: resource(), takes: true };
    let mut ticks = tokio::time::interval(bounds.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(bounds.batch_spans);
    loop {
        let room = bounds.batch_spans.saturating_sub(batch.len());
        let due = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => true,
            _ = spans.recv_many(&mut batch, room) => batch.len() >= bounds.batch_spans,
        };
        if due {
            sender.send(&mut batch).await;
        }
    }
    spans.close();
    loop {
        sender.send(&mut batch).await;
        if spans.recv_many(&mut batch, bounds.batch_spans).await == 0 {
            return;
        }
    }
}

struct Sender {
    collector: Fetcher,
    resource: Resource,
    /// Whether it took the last batch: said when it changes, and not with each batch.
    takes: bool,
}

impl Sender {
    async fn send(&mut self, batch: &mut Vec<Span>) {
        if batch.is_empty() {
            return;
        }
        let spans = std::mem::take(batch);
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let body = self.request(spans).encode_to_vec();
        let outcome = self.collector.post(PROTOBUF, body, REPLY_BYTES_MAX).await;
        let takes = outcome.is_ok();
        let refused = match outcome {
            Ok(reply) => refused_of(&reply).min(count),
            Err(error) => {
                if self.takes {
                    tracing::warn!(%error, "the collector takes no spans: they are counted and lost until it does");
                }
                count
            }
        };
        if takes && !self.takes {
            tracing::info!("the collector takes spans again");
        }
        self.takes = takes;
        COUNTS.refused.inc_by(refused);
        COUNTS.exported.inc_by(count.saturating_sub(refused));
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }],
                schema_url: String::new(),
            }],
        }
    }
}

/// Who speaks: this process.
fn resource() -> Resource {
    let attributes = vec![
        text("service.name", env!("CARGO_PKG_NAME")),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", &uuid::Uuid::new_v4().to_string()),
    ];
    Resource { attributes, ..Resource::default() }
}

/// How many spans of a batch the collector says that it did not take.
fn refused_of(reply: &[u8]) -> u64 {
    let reply = ExportTraceServiceResponse::decode(reply).unwrap_or_default();
    reply.partial_success.and_then(|partial| u64::try_from(partial.rejected_spans).ok()).unwrap_or_default()
}
